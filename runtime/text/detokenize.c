#include "runtime/text/detokenize.h"

#include "runtime/text/pretokenize.h"

#include <stdlib.h>
#include <string.h>

/* -- what each token is, once -- */

/* A token all of whose characters are of the byte-level alphabet is the bytes they stand for; any
 * other (an added token with spaces in it) is its own text. */
static shoal_status append_byte_level(shoal__bytes *out, const char *token, size_t n,
                                      shoal_log *log)
{
    size_t begin = out->n;
    for (size_t at = 0; at < n;) {
        int32_t byte = shoal__character_byte(shoal__utf8_next(token, &at));
        if (byte < 0) {
            out->n = begin;
            return shoal__bytes_append(out, token, n, log);
        }
        char c = (char)byte;
        SHOAL_TRY(shoal__bytes_append(out, &c, 1, log));
    }
    return SHOAL_OK;
}

static shoal_status append_marks_as(shoal__bytes *out, const shoal__detokenizer *d,
                                    const char *token, size_t n, bool drop, shoal_log *log)
{
    for (size_t at = 0; at < n;) {
        size_t from = at;
        shoal__utf8_next(token, &at);
        if (at - from != d->n_mark || memcmp(token + from, d->mark, d->n_mark) != 0)
            SHOAL_TRY(shoal__bytes_append(out, token + from, at - from, log));
        else if (!drop)
            SHOAL_TRY(shoal__bytes_append(out, " ", 1, log));
    }
    return SHOAL_OK;
}

static shoal_status append_replaced(shoal__bytes *out, const shoal__detokenizer *d,
                                    const char *token, size_t n, shoal_log *log)
{
    shoal__bytes from = {0};
    shoal__bytes to = {0};
    shoal__spans cut = {0};
    shoal_status status = shoal__bytes_append(&from, token, n, log);
    for (int32_t i = 0; status == SHOAL_OK && i < d->n_replace; i++) {
        cut.n = 0;
        to.n = 0;
        status = shoal__regex_cut(&cut, d->replace[i].regex, from.data, from.n, log);
        for (size_t k = 0; status == SHOAL_OK && k < cut.n; k++) {
            const shoal__span *s = &cut.data[k];
            const shoal__bytes *put = &d->replace[i].text;
            status = s->is_match
                         ? shoal__bytes_append(&to, put->data, put->n, log)
                         : shoal__bytes_append(&to, from.data + s->begin, s->end - s->begin, log);
        }
        shoal__bytes swap = from;
        from = to;
        to = swap;
    }
    if (status == SHOAL_OK)
        status = shoal__bytes_append(out, from.data, from.n, log);
    free(from.data);
    free(to.data);
    free(cut.data);
    return status;
}

static int16_t fallback_byte(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int32_t value = 0;
    for (size_t i = 3; i < 5; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9')
            value = value * 16 + c - '0';
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + c - 'A' + 10;
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + c - 'a' + 10;
        else
            return -1;
    }
    return (int16_t)value;
}

shoal_status shoal__detokenizer_prepare(shoal__detokenizer *d, const shoal__vocab *vocab,
                                        shoal_log *log)
{
    size_t n_id = (size_t)vocab->n_id;
    d->first = calloc(n_id + 1, sizeof *d->first);
    if (d->byte_fallback)
        d->fallback = calloc(n_id + 1, sizeof *d->fallback);
    if (d->first == NULL || (d->byte_fallback && d->fallback == NULL))
        return shoal_fail(log, SHOAL_NO_MEMORY, "tokenizer: no memory for %zu tokens", n_id);
    SHOAL_TRY(shoal__grow((void **)&d->text.data, &d->text.capacity, vocab->text.n, 1, log));
    for (size_t id = 0; id < n_id; id++) {
        const shoal__token *token = &vocab->token[id];
        const char *text = vocab->text.data + token->decode_first;
        size_t n = token->decode_n_bytes;
        d->first[id] = d->text.n;
        if (d->byte_level)
            SHOAL_TRY(append_byte_level(&d->text, text, n, log));
        else if (d->n_mark > 0)
            SHOAL_TRY(append_marks_as(&d->text, d, text, n, false, log));
        else
            SHOAL_TRY(append_replaced(&d->text, d, text, n, log));
        if (d->byte_fallback)
            d->fallback[id] = fallback_byte(d->text.data + d->first[id], d->text.n - d->first[id]);
    }
    d->first[n_id] = d->text.n;
    return SHOAL_OK;
}

void shoal__detokenizer_fini(shoal__detokenizer *d)
{
    for (int32_t i = 0; i < d->n_replace; i++) {
        shoal__regex_close(d->replace[i].regex);
        free(d->replace[i].text.data);
    }
    free(d->text.data);
    free(d->first);
    free(d->fallback);
}

/* -- one sequence -- */

/* Appends text behind the stripping at the begin. */
static shoal_status put(shoal__bytes *out, const shoal__detokenizer *d, shoal__detokenizing *state,
                        const char *text, size_t n, shoal_log *log)
{
    while (!state->strip_done && n > 0) {
        if (state->n_stripped >= d->n_strip || n < d->n_strip_bytes ||
            memcmp(text, d->strip, d->n_strip_bytes) != 0) {
            state->strip_done = true;
            break;
        }
        text += d->n_strip_bytes;
        n -= d->n_strip_bytes;
        state->n_stripped++;
    }
    return shoal__bytes_append(out, text, n, log);
}

static shoal_status end_run(shoal__bytes *out, const shoal__detokenizer *d,
                            shoal__detokenizing *state, shoal_log *log)
{
    size_t n = state->run.n;
    state->run.n = 0;
    if (n == 0)
        return SHOAL_OK;
    if (shoal__utf8_valid(state->run.data, n) == n)
        return put(out, d, state, state->run.data, n, log);
    for (size_t i = 0; i < n; i++)
        SHOAL_TRY(put(out, d, state, SHOAL__REPLACEMENT, strlen(SHOAL__REPLACEMENT), log));
    return SHOAL_OK;
}

shoal_status shoal__detokenize(shoal__bytes *out, const shoal__detokenizer *d,
                               shoal__detokenizing *state, const shoal__vocab *vocab, int32_t id,
                               shoal_log *log)
{
    const char *text = d->text.data + d->first[id];
    size_t n = d->first[id + 1] - d->first[id];
    bool is_first = !state->begun;
    state->begun = true;
    if (d->byte_level)
        return shoal__utf8_read(out, &state->reader, text, n, log);
    if (d->byte_fallback) {
        if (d->fallback[id] >= 0) {
            char byte = (char)d->fallback[id];
            return shoal__bytes_append(&state->run, &byte, 1, log);
        }
        SHOAL_TRY(end_run(out, d, state, log));
    }
    if (is_first && d->n_mark > 0 && d->drop_mark) {
        const shoal__token *token = &vocab->token[id];
        return append_marks_as(out, d, vocab->text.data + token->decode_first,
                               token->decode_n_bytes, true, log);
    }
    if (d->join_spaces && !is_first)
        SHOAL_TRY(shoal__bytes_append(out, " ", 1, log));
    return put(out, d, state, text, n, log);
}

shoal_status shoal__detokenize_end(shoal__bytes *out, const shoal__detokenizer *d,
                                   shoal__detokenizing *state, shoal_log *log)
{
    shoal_status status = shoal__utf8_end(out, &state->reader, log);
    if (status == SHOAL_OK)
        status = end_run(out, d, state, log);
    *state = (shoal__detokenizing){.run = state->run};
    state->run.n = 0;
    return status;
}
