#include "runtime/text/normalize.h"

#include "runtime/text/utf8.h"

#include <utf8proc.h>

#include <stdlib.h>
#include <string.h>

/* -- NFC -- */

static utf8proc_propval_t combining_class(int32_t code_point)
{
    return utf8proc_get_property(code_point)->combining_class;
}

/* Stable order of a run of combining marks by class, by counting: utf8proc's own ordering swaps
 * neighbours, which takes quadratic time on long runs. */
static void order_marks(int32_t *run, size_t n, int32_t *scratch)
{
    size_t first[257] = {0};
    for (size_t i = 0; i < n; i++)
        first[combining_class(run[i]) + 1]++;
    for (int32_t c = 0; c < 256; c++)
        first[c + 1] += first[c];
    for (size_t i = 0; i < n; i++)
        scratch[first[combining_class(run[i])]++] = run[i];
    memcpy(run, scratch, n * sizeof *run);
}

static void order_all_marks(int32_t *code, size_t n, int32_t *scratch)
{
    for (size_t begin = 0; begin < n;) {
        size_t end = begin;
        bool ordered = true;
        for (; end < n && combining_class(code[end]) != 0; end++)
            if (end > begin && combining_class(code[end - 1]) > combining_class(code[end]))
                ordered = false;
        if (!ordered)
            order_marks(code + begin, end - begin, scratch);
        begin = end > begin ? end : begin + 1;
    }
}

/* code is [capacity] on entry and holds the composed code points on return. */
static shoal_status compose(int32_t **code, size_t *n_code, const char *text, size_t n,
                            shoal_log *log)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t capacity = 0;
    size_t filled = 0;
    for (size_t at = 0; at < n;) {
        SHOAL_TRY(shoal__grow((void **)code, &capacity, filled + 8, sizeof **code, log));
        int32_t c = shoal__utf8_next(text, &at);
        int boundary = 0;
        utf8proc_ssize_t added;
        for (;;) {
            size_t room = capacity - filled;
            added = utf8proc_decompose_char(c, *code + filled, (utf8proc_ssize_t)room, options,
                                            &boundary);
            if (added <= (utf8proc_ssize_t)room)
                break;
            SHOAL_TRY(
                shoal__grow((void **)code, &capacity, filled + (size_t)added, sizeof **code, log));
        }
        if (added < 0)
            return shoal_fail(log, SHOAL_BAD_DATA, "tokenizer: U+%04X cannot be normalized: %s",
                              (unsigned)c, utf8proc_errmsg(added));
        filled += (size_t)added;
    }
    int32_t *scratch = malloc((filled + 1) * sizeof *scratch);
    if (scratch == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "tokenizer: no memory to normalize %zu bytes", n);
    order_all_marks(*code, filled, scratch);
    free(scratch);
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(*code, (utf8proc_ssize_t)filled, options);
    if (composed < 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "tokenizer: text cannot be normalized: %s",
                          utf8proc_errmsg(composed));
    *n_code = (size_t)composed;
    return SHOAL_OK;
}

static shoal_status nfc(shoal__bytes *out, const char *text, size_t n, shoal_log *log)
{
    size_t n_ascii = 0;
    while (n_ascii < n && (unsigned char)text[n_ascii] < 0x80)
        n_ascii++;
    if (n_ascii == n)
        return shoal__bytes_append(out, text, n, log);
    int32_t *code = NULL;
    size_t n_code = 0;
    shoal_status status = compose(&code, &n_code, text, n, log);
    if (status == SHOAL_OK)
        status = shoal__grow((void **)&out->data, &out->capacity, out->n + 4 * n_code, 1, log);
    for (size_t i = 0; status == SHOAL_OK && i < n_code; i++)
        out->n += shoal__utf8_put(out->data + out->n, code[i]);
    free(code);
    return status;
}

/* -- steps -- */

static shoal_status replace(shoal__bytes *out, const shoal__normal_step *step, const char *text,
                            size_t n, shoal_log *log)
{
    shoal__spans cut = {0};
    shoal_status status = shoal__regex_cut(&cut, step->regex, text, n, log);
    for (size_t i = 0; status == SHOAL_OK && i < cut.n; i++) {
        shoal__span span = cut.data[i];
        if (span.is_match)
            status = shoal__bytes_append(out, step->text.data, step->text.n, log);
        else
            status = shoal__bytes_append(out, text + span.begin, span.end - span.begin, log);
    }
    free(cut.data);
    return status;
}

static shoal_status apply(shoal__bytes *out, const shoal__normal_step *step, const char *text,
                          size_t n, shoal_log *log)
{
    out->n = 0;
    switch (step->kind) {
    case SHOAL__NORMAL_NFC:
        return nfc(out, text, n, log);
    case SHOAL__NORMAL_PREPEND:
        if (n > 0)
            SHOAL_TRY(shoal__bytes_append(out, step->text.data, step->text.n, log));
        return shoal__bytes_append(out, text, n, log);
    case SHOAL__NORMAL_REPLACE:
        return replace(out, step, text, n, log);
    }
    return SHOAL_OK;
}

shoal_status shoal__normalize(shoal__bytes *out, shoal__bytes *scratch, shoal__normalizer *steps,
                              const char *text, size_t n, shoal_log *log)
{
    out->n = 0;
    SHOAL_TRY(shoal__bytes_append(out, text, n, log));
    for (int32_t i = 0; i < steps->n_step; i++) {
        SHOAL_TRY(apply(scratch, &steps->step[i], out->data, out->n, log));
        shoal__bytes swap = *out;
        *out = *scratch;
        *scratch = swap;
    }
    return SHOAL_OK;
}

void shoal__normalizer_fini(shoal__normalizer *normalizer)
{
    for (int32_t i = 0; i < normalizer->n_step; i++) {
        shoal__regex_close(normalizer->step[i].regex);
        free(normalizer->step[i].text.data);
    }
}
