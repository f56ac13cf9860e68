/* Ids to text: all at once, and one by one as they are generated. */
#include "runtime/text/tokenizer_internal.h"

#include "runtime/text/utf8.h"

#include <stdlib.h>

struct shoal_decoder {
    const shoal_tokenizer *tokenizer; /* borrowed */
    bool keep_special;
    shoal__detokenizing state;
    shoal__bytes out; /* what the last call returned */
};

static shoal_status decode_one(shoal__bytes *out, const shoal_tokenizer *t,
                               shoal__detokenizing *state, int32_t id, bool keep_special,
                               shoal_log *log)
{
    if (shoal__vocab_token(&t->vocab, id) == NULL)
        return SHOAL_OK;
    if (!keep_special && shoal_tokenizer_is_special(t, id))
        return SHOAL_OK;
    return shoal__detokenize(out, &t->detokenizer, state, &t->vocab, id, log);
}

shoal_status shoal_tokenizer_decode(const shoal_tokenizer *t, char **text, size_t *n_bytes,
                                    const int32_t *ids, size_t n, bool keep_special, shoal_log *log)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= t->vocab.n_id)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "cannot decode id %d (number %zu of %zu): the tokenizer has ids 0 "
                              "to %d",
                              (int)ids[i], i, n, (int)t->vocab.n_id - 1);
    shoal__bytes out = {0};
    shoal__detokenizing state = {0};
    shoal_status status = SHOAL_OK;
    for (size_t i = 0; status == SHOAL_OK && i < n; i++)
        status = decode_one(&out, t, &state, ids[i], keep_special, log);
    if (status == SHOAL_OK)
        status = shoal__detokenize_end(&out, &t->detokenizer, &state, log);
    if (status == SHOAL_OK)
        status = shoal__bytes_append(&out, "", 1, log);
    free(state.run.data);
    if (status != SHOAL_OK) {
        free(out.data);
        return status;
    }
    *text = out.data;
    *n_bytes = out.n - 1;
    return SHOAL_OK;
}

shoal_status shoal_decoder_open(shoal_decoder **out, const shoal_tokenizer *tokenizer,
                                bool keep_special, shoal_log *log)
{
    shoal_decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to decode a sequence");
    decoder->tokenizer = tokenizer;
    decoder->keep_special = keep_special;
    *out = decoder;
    return SHOAL_OK;
}

void shoal_decoder_close(shoal_decoder *decoder)
{
    if (decoder == NULL)
        return;
    free(decoder->state.run.data);
    free(decoder->out.data);
    free(decoder);
}

shoal_status shoal_decoder_feed(shoal_decoder *decoder, const char **text, size_t *n_bytes,
                                int32_t id, shoal_log *log)
{
    if (id < 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "cannot decode id %d: ids are not negative",
                          (int)id);
    shoal__bytes *out = &decoder->out;
    shoal__detokenizing *state = &decoder->state;
    out->n = 0;
    SHOAL_TRY(decode_one(out, decoder->tokenizer, state, id, decoder->keep_special, log));
    /* Room for what a flush may have to say (U+FFFD is 3 bytes), so that it cannot fail. */
    SHOAL_TRY(shoal__grow((void **)&out->data, &out->capacity, 3 * (state->run.n + 1), 1, log));
    *text = out->data;
    *n_bytes = out->n;
    return SHOAL_OK;
}

void shoal_decoder_flush(shoal_decoder *decoder, const char **text, size_t *n_bytes)
{
    decoder->out.n = 0;
    (void)shoal__detokenize_end(&decoder->out, &decoder->tokenizer->detokenizer, &decoder->state,
                                NULL);
    *text = decoder->out.n > 0 ? decoder->out.data : "";
    *n_bytes = decoder->out.n;
}
