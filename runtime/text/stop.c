#include "runtime/text/stop.h"

#include "runtime/text/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One string, matched byte by byte (Knuth, Morris, Pratt). */
typedef struct stop_string {
    char *text;       /* [n], owned */
    size_t *fallback; /* [n], owned: longest proper prefix that text[0, i] ends with */
    size_t n;
    size_t n_matched; /* of its bytes, at the end of what was fed */
} stop_string;

struct shoal_stop {
    stop_string *string; /* [n] */
    size_t n;
    shoal__bytes held; /* [0, n_done) is released already */
    size_t n_done;
    bool found;
};

/* Longest prefix matched behind one more byte; n_matched < s->n. */
static size_t advance(const stop_string *s, size_t n_matched, char byte)
{
    while (n_matched > 0 && s->text[n_matched] != byte)
        n_matched = s->fallback[n_matched - 1];
    return s->text[n_matched] == byte ? n_matched + 1 : 0;
}

static shoal_status open_string(stop_string *s, const char *text, size_t n, shoal_log *log)
{
    if (n == 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "a stop string is empty");
    size_t n_valid = shoal__utf8_valid(text, n);
    if (n_valid < n)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "a stop string is not UTF-8: byte %zu of %zu begins no character",
                          n_valid, n);
    s->text = malloc(n);
    s->fallback = calloc(n, sizeof *s->fallback);
    if (s->text == NULL || s->fallback == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a stop string of %zu bytes", n);
    memcpy(s->text, text, n);
    s->n = n;
    for (size_t i = 1; i < n; i++)
        s->fallback[i] = advance(s, s->fallback[i - 1], text[i]);
    return SHOAL_OK;
}

shoal_status shoal_stop_open(shoal_stop **stop, const char *const *strings, const size_t *n_bytes,
                             size_t n, shoal_log *log)
{
    shoal_stop *s = calloc(1, sizeof *s);
    if (s != NULL)
        s->string = calloc(n > 0 ? n : 1, sizeof *s->string);
    if (s == NULL || s->string == NULL) {
        free(s);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %zu stop strings", n);
    }
    s->n = n;
    for (size_t i = 0; i < n; i++) {
        shoal_status status = open_string(&s->string[i], strings[i], n_bytes[i], log);
        if (status != SHOAL_OK) {
            shoal_stop_close(s);
            return status;
        }
    }
    *stop = s;
    return SHOAL_OK;
}

void shoal_stop_close(shoal_stop *stop)
{
    if (stop == NULL)
        return;
    for (size_t i = 0; i < stop->n; i++) {
        free(stop->string[i].text);
        free(stop->string[i].fallback);
    }
    free(stop->string);
    free(stop->held.data);
    free(stop);
}

/* The bytes of the longest string that is complete behind `byte`, else 0. */
static size_t feed_byte(shoal_stop *s, char byte)
{
    size_t n_longest = 0;
    for (size_t i = 0; i < s->n; i++) {
        stop_string *one = &s->string[i];
        one->n_matched = advance(one, one->n_matched, byte);
        if (one->n_matched == one->n && one->n > n_longest)
            n_longest = one->n;
    }
    return n_longest;
}

static void release(const char **text, size_t *n_text, shoal_stop *s, size_t n_keep)
{
    *text = s->held.data;
    *n_text = s->held.n - n_keep;
    s->n_done = *n_text;
}

shoal_status shoal_stop_feed(shoal_stop *s, const char **text, size_t *n_text, bool *found,
                             const char *piece, size_t n_piece, shoal_log *log)
{
    assert(!s->found);
    if (s->n_done > 0)
        memmove(s->held.data, s->held.data + s->n_done, s->held.n - s->n_done);
    s->held.n -= s->n_done;
    s->n_done = 0;
    SHOAL_TRY(
        shoal__grow((void **)&s->held.data, &s->held.capacity, s->held.n + n_piece + 1, 1, log));
    for (size_t i = 0; i < n_piece; i++) {
        s->held.data[s->held.n++] = piece[i];
        size_t n_stop = feed_byte(s, piece[i]);
        if (n_stop > 0) {
            s->found = true;
            s->held.n -= n_stop;
            break;
        }
    }
    size_t n_keep = 0;
    for (size_t i = 0; i < s->n && !s->found; i++)
        n_keep = s->string[i].n_matched > n_keep ? s->string[i].n_matched : n_keep;
    release(text, n_text, s, n_keep);
    *found = s->found;
    return SHOAL_OK;
}

void shoal_stop_flush(shoal_stop *s, const char **text, size_t *n_text)
{
    bool some = !s->found && s->n_done < s->held.n;
    *text = some ? s->held.data + s->n_done : "";
    *n_text = some ? s->held.n - s->n_done : 0;
    s->n_done = s->held.n;
}
