#include "runtime/text/pretokenize.h"

#include "runtime/text/utf8.h"

#include <stdlib.h>
#include <string.h>

/* -- the byte-level alphabet -- */

static bool is_printable(int32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
           (byte >= 0xae && byte <= 0xff);
}

/* The 68 bytes that are not printable, 00-20, 7f-a0 and ad, are U+0100 and up in that order. */
int32_t shoal__byte_character(unsigned char byte)
{
    if (is_printable(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100 + byte;
    return byte == 0xad ? 0x143 : 0x121 + byte - 0x7f;
}

int32_t shoal__character_byte(int32_t c)
{
    if (c < 0x100)
        return is_printable(c) ? c : -1;
    if (c <= 0x120)
        return c - 0x100;
    if (c <= 0x142)
        return c - 0x121 + 0x7f;
    return c == 0x143 ? 0xad : -1;
}

/* -- cutting -- */

static shoal_status emit(shoal__words *words, size_t begin, size_t end, shoal_log *log)
{
    if (begin == end)
        return SHOAL_OK;
    return shoal__spans_append(&words->span, (shoal__span){begin, end, false}, log);
}

/* Spans of numeric and other characters; each numeric one alone. */
static shoal_status cut_digits(shoal__spans *events, const char *text, size_t n, shoal_log *log)
{
    size_t covered = 0;
    for (size_t at = 0; at < n;) {
        size_t begin = at;
        if (!shoal__is_numeric(shoal__utf8_next(text, &at)))
            continue;
        if (covered < begin)
            SHOAL_TRY(shoal__spans_append(events, (shoal__span){covered, begin, false}, log));
        SHOAL_TRY(shoal__spans_append(events, (shoal__span){begin, at, true}, log));
        covered = at;
    }
    if (covered < n)
        SHOAL_TRY(shoal__spans_append(events, (shoal__span){covered, n, false}, log));
    return SHOAL_OK;
}

/* Joins neighbours among the events in place, by the rules of the tokenizers library. */
static void join_events(shoal__spans *events, shoal__cut_behavior behavior)
{
    shoal__span *e = events->data;
    size_t n = events->n;
    size_t kept = 0;
    bool previous = false;
    if (behavior == SHOAL__CUT_MERGED_NEXT) { /* the rule of MERGED_PREV, from the end */
        size_t first = n;
        for (size_t i = n; i-- > 0;) {
            bool is_match = e[i].is_match;
            if (is_match && !previous && first < n)
                e[first].begin = e[i].begin;
            else
                e[--first] = e[i];
            previous = is_match;
        }
        if (n > first)
            memmove(e, e + first, (n - first) * sizeof *e);
        events->n = n - first;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        bool is_match = e[i].is_match;
        bool join =
            behavior == SHOAL__CUT_CONTIGUOUS ? is_match == previous : is_match && !previous;
        if (join && kept > 0)
            e[kept - 1].end = e[i].end;
        else
            e[kept++] = e[i];
        previous = is_match;
    }
    events->n = kept;
}

/* Cuts every word; the text stays. */
static shoal_status cut_words(shoal__cutter *cutter, const shoal__cut_step *step, shoal_log *log)
{
    shoal__spans *events = &cutter->events;
    cutter->next.span.n = 0;
    for (size_t i = 0; i < cutter->words.span.n; i++) {
        shoal__span word = cutter->words.span.data[i];
        const char *text = cutter->words.text.data + word.begin;
        size_t n = word.end - word.begin;
        events->n = 0;
        if (step->kind == SHOAL__CUT_SPLIT)
            SHOAL_TRY(shoal__regex_cut(events, step->regex, text, n, log));
        else
            SHOAL_TRY(cut_digits(events, text, n, log));
        for (size_t k = 0; k < events->n; k++)
            events->data[k].is_match ^= step->invert;
        if (step->behavior != SHOAL__CUT_ISOLATED && step->behavior != SHOAL__CUT_REMOVED)
            join_events(events, step->behavior);
        for (size_t k = 0; k < events->n; k++) {
            shoal__span event = events->data[k];
            if (step->behavior == SHOAL__CUT_REMOVED && event.is_match)
                continue;
            SHOAL_TRY(emit(&cutter->next, word.begin + event.begin, word.begin + event.end, log));
        }
    }
    shoal__spans swap = cutter->words.span;
    cutter->words.span = cutter->next.span;
    cutter->next.span = swap;
    return SHOAL_OK;
}

/* -- writing words anew -- */

static shoal_status write_byte_level(shoal__bytes *out, const char *word, size_t n, shoal_log *log)
{
    SHOAL_TRY(shoal__grow((void **)&out->data, &out->capacity, out->n + 2 * n, 1, log));
    for (size_t i = 0; i < n; i++)
        out->n +=
            shoal__utf8_put(out->data + out->n, shoal__byte_character((unsigned char)word[i]));
    return SHOAL_OK;
}

/* Spaces become the replacement, which is also put in front of the word; then the word is cut in
 * front of each one: "a b" -> "_a_b" -> "_a", "_b". */
static shoal_status write_metaspace(shoal__words *out, const shoal__cut_step *step,
                                    const char *word, size_t n, bool is_first, shoal_log *log)
{
    const char *mark = step->replacement;
    size_t n_mark = step->n_replacement;
    size_t begin = out->text.n;
    bool marked = word[0] == ' ' || (n >= n_mark && memcmp(word, mark, n_mark) == 0);
    if (!marked && (step->prepend == SHOAL__PREPEND_ALWAYS ||
                    (step->prepend == SHOAL__PREPEND_FIRST && is_first)))
        SHOAL_TRY(shoal__bytes_append(&out->text, mark, n_mark, log));
    for (size_t at = 0; at < n;) {
        size_t from = at;
        bool is_space = shoal__utf8_next(word, &at) == ' ';
        bool is_mark = is_space || (at - from == n_mark && memcmp(word + from, mark, n_mark) == 0);
        if (is_mark && step->split) {
            SHOAL_TRY(emit(out, begin, out->text.n, log));
            begin = out->text.n;
        }
        SHOAL_TRY(shoal__bytes_append(&out->text, is_space ? mark : word + from,
                                      is_space ? n_mark : at - from, log));
    }
    return emit(out, begin, out->text.n, log);
}

static shoal_status rewrite_words(shoal__cutter *cutter, const shoal__cut_step *step, bool is_first,
                                  shoal_log *log)
{
    shoal__words *out = &cutter->next;
    out->text.n = 0;
    out->span.n = 0;
    for (size_t i = 0; i < cutter->words.span.n; i++) {
        shoal__span span = cutter->words.span.data[i];
        const char *word = cutter->words.text.data + span.begin;
        size_t n = span.end - span.begin;
        if (step->kind == SHOAL__CUT_METASPACE) {
            bool at_begin = is_first && i == 0 && span.begin == 0;
            SHOAL_TRY(write_metaspace(out, step, word, n, at_begin, log));
            continue;
        }
        size_t begin = out->text.n;
        if (step->kind == SHOAL__CUT_BYTE_LEVEL) {
            SHOAL_TRY(write_byte_level(&out->text, word, n, log));
        } else {
            if (word[0] != ' ')
                SHOAL_TRY(shoal__bytes_append(&out->text, " ", 1, log));
            SHOAL_TRY(shoal__bytes_append(&out->text, word, n, log));
        }
        SHOAL_TRY(emit(out, begin, out->text.n, log));
    }
    shoal__words swap = cutter->words;
    cutter->words = cutter->next;
    cutter->next = swap;
    return SHOAL_OK;
}

shoal_status shoal__pretokenize(shoal__cutter *cutter, shoal__pretokenizer *steps, const char *text,
                                size_t n, bool is_first, shoal_log *log)
{
    shoal__words *words = &cutter->words;
    words->text.n = 0;
    words->span.n = 0;
    SHOAL_TRY(shoal__bytes_append(&words->text, text, n, log));
    SHOAL_TRY(emit(words, 0, n, log));
    for (int32_t i = 0; i < steps->n_step; i++) {
        const shoal__cut_step *step = &steps->step[i];
        if (step->kind == SHOAL__CUT_SPLIT || step->kind == SHOAL__CUT_DIGITS)
            SHOAL_TRY(cut_words(cutter, step, log));
        else
            SHOAL_TRY(rewrite_words(cutter, step, is_first, log));
    }
    return SHOAL_OK;
}

void shoal__pretokenizer_fini(shoal__pretokenizer *pretokenizer)
{
    for (int32_t i = 0; i < pretokenizer->n_step; i++)
        shoal__regex_close(pretokenizer->step[i].regex);
}

void shoal__cutter_fini(shoal__cutter *cutter)
{
    free(cutter->words.text.data);
    free(cutter->words.span.data);
    free(cutter->next.text.data);
    free(cutter->next.span.data);
    free(cutter->events.data);
}
