#include "runtime/text/buffer.h"

#include <stdlib.h>
#include <string.h>

shoal_status shoal__grow(void **data, size_t *capacity, size_t wanted, size_t elem_bytes,
                         shoal_log *log)
{
    if (wanted <= *capacity && *data != NULL)
        return SHOAL_OK;
    size_t n = *capacity < 16 ? 16 : *capacity;
    while (n < wanted && n <= SIZE_MAX / 2)
        n *= 2;
    void *moved = n < wanted || n > SIZE_MAX / elem_bytes ? NULL : realloc(*data, n * elem_bytes);
    if (moved == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "text: no memory for %zu elements of %zu bytes while (de)tokenizing",
                          wanted, elem_bytes);
    *data = moved;
    *capacity = n;
    return SHOAL_OK;
}

shoal_status shoal__bytes_append(shoal__bytes *bytes, const char *data, size_t n, shoal_log *log)
{
    SHOAL_TRY(shoal__grow((void **)&bytes->data, &bytes->capacity, bytes->n + n, 1, log));
    if (n > 0)
        memcpy(bytes->data + bytes->n, data, n);
    bytes->n += n;
    return SHOAL_OK;
}

shoal_status shoal__bytes_append_text(shoal__bytes *bytes, const char *text, shoal_log *log)
{
    return shoal__bytes_append(bytes, text, strlen(text), log);
}

shoal_status shoal__ids_append(shoal__ids *ids, int32_t id, shoal_log *log)
{
    SHOAL_TRY(shoal__grow((void **)&ids->data, &ids->capacity, ids->n + 1, sizeof *ids->data, log));
    ids->data[ids->n++] = id;
    return SHOAL_OK;
}

shoal_status shoal__spans_append(shoal__spans *spans, shoal__span span, shoal_log *log)
{
    SHOAL_TRY(shoal__grow((void **)&spans->data, &spans->capacity, spans->n + 1,
                          sizeof *spans->data, log));
    spans->data[spans->n++] = span;
    return SHOAL_OK;
}
