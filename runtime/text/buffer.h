/* Growing arrays of the text layer: bytes, ids and spans of bytes. All grow by doubling, keep their
 * memory when emptied (n = 0) and are freed with free(data).
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_BUFFER_H
#define SHOAL_TEXT_BUFFER_H

#include "runtime/base/log.h"

#include <stddef.h>

typedef struct shoal__bytes {
    char *data;
    size_t n;
    size_t capacity;
} shoal__bytes;

typedef struct shoal__ids {
    int32_t *data;
    size_t n;
    size_t capacity;
} shoal__ids;

/* Bytes [begin, end) of some text. */
typedef struct shoal__span {
    size_t begin;
    size_t end;
    bool is_match; /* of a pattern; only meaningful while a text is being split */
} shoal__span;

typedef struct shoal__spans {
    shoal__span *data;
    size_t n;
    size_t capacity;
} shoal__spans;

/* Room for `wanted` elements in *data (which then moves). Errors: NO_MEMORY; *data is unharmed. */
shoal_status shoal__grow(void **data, size_t *capacity, size_t wanted, size_t elem_bytes,
                         shoal_log *log);

shoal_status shoal__bytes_append(shoal__bytes *bytes, const char *data, size_t n, shoal_log *log);
shoal_status shoal__bytes_append_text(shoal__bytes *bytes, const char *text, shoal_log *log);
shoal_status shoal__ids_append(shoal__ids *ids, int32_t id, shoal_log *log);
shoal_status shoal__spans_append(shoal__spans *spans, shoal__span span, shoal_log *log);

#endif
