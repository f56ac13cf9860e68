#include "runtime/text/tokenizer_internal.h"

#include "runtime/text/utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define BEAT_WORDS 65536

static shoal_status read_parts(shoal_tokenizer *t, const shoal_json *doc, const shoal__reader *r)
{
    if (!shoal_json_is_object(doc))
        return shoal__reader_fail(r, "the file", "holds no JSON object");
    const char *version = shoal_json_string(shoal_json_get(doc, "version"), NULL);
    if (version != NULL && strcmp(version, "1.0") != 0)
        return shoal__reader_fail(r, "version", "is '%.40s', supported is 1.0", version);
    /* `truncation` and `padding` are how a training run called the tokenizer; whoever uses the
     * model sets them anew, so they mean nothing here. */
    SHOAL_TRY(shoal__read_model(t, doc, r));
    SHOAL_TRY(shoal__read_normalizer(t, doc, r));
    SHOAL_TRY(shoal__read_added_tokens(t, doc, r));
    SHOAL_TRY(shoal__read_pretokenizer(t, doc, r));
    SHOAL_TRY(shoal__read_post_processor(t, doc, r));
    SHOAL_TRY(shoal__read_decoder(t, doc, r));
    return shoal__detokenizer_prepare(&t->detokenizer, &t->vocab, r->log);
}

static shoal_status read_document(shoal_tokenizer *t, const shoal_json *doc, const char *name,
                                  shoal_log *log)
{
    shoal__reader reader = {name, log};
    return read_parts(t, doc, &reader);
}

static shoal_status read_folder(shoal_tokenizer *t, const char *folder, shoal_log *log)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    if (n < 0 || (size_t)n >= sizeof path)
        return shoal_fail(log, SHOAL_NO_INPUT, "the folder name of the tokenizer is too long");
    shoal_json *doc;
    SHOAL_TRY(shoal_json_read_file(&doc, path, log));
    shoal_status status = read_document(t, doc, path, log);
    shoal_json_close(doc);
    SHOAL_TRY(status);
    return shoal__read_special_ids(t, folder, log);
}

static shoal_status new_tokenizer(shoal_tokenizer **tokenizer, const char *name, shoal_log *log)
{
    *tokenizer = calloc(1, sizeof **tokenizer);
    if (*tokenizer == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for a tokenizer", name);
    (*tokenizer)->bos_id = -1;
    return SHOAL_OK;
}

/* *tokenizer = t, or t is closed. */
static shoal_status finish_open(shoal_tokenizer **tokenizer, shoal_tokenizer *t,
                                shoal_status status)
{
    if (status == SHOAL_OK)
        *tokenizer = t;
    else
        shoal_tokenizer_close(t);
    return status;
}

shoal_status shoal_tokenizer_open(shoal_tokenizer **tokenizer, const char *folder, shoal_log *log)
{
    shoal_tokenizer *t;
    SHOAL_TRY(new_tokenizer(&t, folder, log));
    return finish_open(tokenizer, t, read_folder(t, folder, log));
}

shoal_status shoal_tokenizer_open_documents(shoal_tokenizer **tokenizer, const shoal_json *document,
                                            const shoal_json *config, const char *name,
                                            shoal_log *log)
{
    shoal_tokenizer *t;
    SHOAL_TRY(new_tokenizer(&t, name, log));
    shoal_status status = read_document(t, document, name, log);
    if (status == SHOAL_OK && config != NULL)
        status = shoal__read_tokenizer_config(t, config, name, log);
    return finish_open(tokenizer, t, status);
}

void shoal_tokenizer_close(shoal_tokenizer *t)
{
    if (t == NULL)
        return;
    shoal__vocab_fini(&t->vocab);
    shoal__bpe_fini(&t->bpe);
    shoal__added_fini(&t->raw);
    shoal__added_fini(&t->normalized);
    shoal__normalizer_fini(&t->normalizer);
    shoal__pretokenizer_fini(&t->pretokenizer);
    shoal__detokenizer_fini(&t->detokenizer);
    free(t->template.data);
    free(t->eos.data);
    shoal__cutter_fini(&t->cutter);
    free(t->normal.data);
    free(t->normal_scratch.data);
    shoal__bpe_scratch_fini(&t->scratch);
    free(t);
}

/* -- encoding -- */

void shoal_tokenizer_set_pulse(shoal_tokenizer *t, shoal_pulse pulse)
{
    t->pulse = pulse;
    t->scratch.pulse = &t->pulse;
    for (int32_t i = 0; i < t->pretokenizer.n_step; i++)
        if (t->pretokenizer.step[i].regex != NULL)
            shoal__regex_set_pulse(t->pretokenizer.step[i].regex, &t->pulse);
}

/* Normalized text without added tokens. */
static shoal_status encode_words(shoal__ids *ids, shoal_tokenizer *t, const char *text, size_t n,
                                 bool is_first, shoal_log *log)
{
    SHOAL_TRY(shoal__pretokenize(&t->cutter, &t->pretokenizer, text, n, is_first, log));
    const shoal__words *words = &t->cutter.words;
    for (size_t i = 0; i < words->span.n; i++) {
        shoal__span word = words->span.data[i];
        if (i % BEAT_WORDS == BEAT_WORDS - 1)
            SHOAL_TRY(shoal_pulse_beat(&t->pulse));
        SHOAL_TRY(shoal__bpe_encode(ids, &t->bpe, &t->scratch, words->text.data + word.begin,
                                    word.end - word.begin, log));
    }
    return SHOAL_OK;
}

/* Raw text between two added tokens of the raw set. */
static shoal_status encode_raw(shoal__ids *ids, shoal_tokenizer *t, const char *text, size_t n,
                               bool is_first, shoal_log *log)
{
    if (n == 0)
        return SHOAL_OK;
    SHOAL_TRY(shoal__normalize(&t->normal, &t->normal_scratch, &t->normalizer, text, n, log));
    const char *normal = t->normal.data;
    shoal__added_cursor cursor = {0};
    size_t covered = 0;
    shoal__span span;
    int32_t id;
    while (shoal__added_next(&span, &id, &t->normalized, &cursor, normal, t->normal.n)) {
        if (covered < span.begin)
            SHOAL_TRY(encode_words(ids, t, normal + covered, span.begin - covered,
                                   is_first && covered == 0, log));
        SHOAL_TRY(shoal__ids_append(ids, id, log));
        covered = span.end;
    }
    return encode_words(ids, t, normal + covered, t->normal.n - covered, is_first && covered == 0,
                        log);
}

static shoal_status encode_sequence(shoal__ids *ids, shoal_tokenizer *t, const char *text, size_t n,
                                    shoal_log *log)
{
    size_t n_valid = shoal__utf8_valid(text, n);
    if (n_valid < n)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "the text to tokenize is not UTF-8: byte %zu of %zu (0x%02x) begins no "
                          "character",
                          n_valid, n, (unsigned)(unsigned char)text[n_valid]);
    shoal__added_cursor cursor = {0};
    size_t covered = 0;
    shoal__span span;
    int32_t id;
    while (shoal__added_next(&span, &id, &t->raw, &cursor, text, n)) {
        if (covered < span.begin)
            SHOAL_TRY(encode_raw(ids, t, text + covered, span.begin - covered, covered == 0, log));
        SHOAL_TRY(shoal__ids_append(ids, id, log));
        covered = span.end;
    }
    return encode_raw(ids, t, text + covered, n - covered, covered == 0, log);
}

/* What the post-processor makes of a sequence. */
static shoal_status apply_template(shoal__ids *out, const shoal_tokenizer *t,
                                   const shoal__ids *sequence, shoal_log *log)
{
    for (size_t i = 0; i < t->template.n; i++) {
        if (t->template.data[i] != SHOAL__TEMPLATE_SEQUENCE) {
            SHOAL_TRY(shoal__ids_append(out, t->template.data[i], log));
            continue;
        }
        for (size_t k = 0; k < sequence->n; k++)
            SHOAL_TRY(shoal__ids_append(out, sequence->data[k], log));
    }
    return SHOAL_OK;
}

shoal_status shoal_tokenizer_encode(shoal_tokenizer *t, int32_t **ids, size_t *n, const char *text,
                                    size_t n_bytes, bool special, shoal_log *log)
{
    shoal__ids sequence = {0};
    shoal__ids whole = {0};
    shoal_status status =
        shoal__grow((void **)&sequence.data, &sequence.capacity, 1, sizeof *sequence.data, log);
    if (status == SHOAL_OK)
        status = encode_sequence(&sequence, t, text, n_bytes, log);
    if (status == SHOAL_OK && special) {
        status = shoal__grow((void **)&whole.data, &whole.capacity, 1, sizeof *whole.data, log);
        if (status == SHOAL_OK)
            status = apply_template(&whole, t, &sequence, log);
    }
    if (status != SHOAL_OK) {
        free(sequence.data);
        free(whole.data);
        return status;
    }
    if (special)
        free(sequence.data);
    *ids = special ? whole.data : sequence.data;
    *n = special ? whole.n : sequence.n;
    return SHOAL_OK;
}

shoal_status shoal_tokenizer_encode_prompt(shoal_tokenizer *t, int32_t **ids, size_t *n,
                                           const char *text, size_t n_bytes, shoal_log *log)
{
    bool special = t->bos_rule == SHOAL__BOS_UNSTATED;
    int32_t *plain;
    size_t n_plain;
    SHOAL_TRY(shoal_tokenizer_encode(t, &plain, &n_plain, text, n_bytes, special, log));
    if (t->bos_rule == SHOAL__BOS_ADD && (n_plain == 0 || plain[0] != t->bos_id)) {
        int32_t *longer = realloc(plain, (n_plain + 1) * sizeof *longer);
        if (longer == NULL) {
            free(plain);
            return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a prompt of %zu tokens",
                              n_plain);
        }
        memmove(longer + 1, longer, n_plain * sizeof *longer);
        longer[0] = t->bos_id;
        plain = longer;
        n_plain++;
    }
    *ids = plain;
    *n = n_plain;
    return SHOAL_OK;
}

/* -- what it knows -- */

int32_t shoal_tokenizer_n_vocab(const shoal_tokenizer *t)
{
    return t->vocab.n_id;
}

int32_t shoal_tokenizer_bos(const shoal_tokenizer *t)
{
    return t->bos_id;
}

const int32_t *shoal_tokenizer_eos(const shoal_tokenizer *t, size_t *n)
{
    *n = t->eos.n;
    return t->eos.data;
}

bool shoal_tokenizer_is_eos(const shoal_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->eos.n; i++)
        if (t->eos.data[i] == id)
            return true;
    return false;
}

bool shoal_tokenizer_is_special(const shoal_tokenizer *t, int32_t id)
{
    const shoal__token *token = shoal__vocab_token(&t->vocab, id);
    return token != NULL && (token->flags & SHOAL__TOKEN_SPECIAL) != 0;
}

int32_t shoal_tokenizer_find(const shoal_tokenizer *t, const char *token, size_t n_bytes)
{
    return shoal__vocab_find(&t->vocab, token, n_bytes);
}
