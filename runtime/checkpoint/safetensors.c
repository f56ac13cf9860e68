#include "runtime/checkpoint/safetensors.h"

#include "runtime/base/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Data is read as it lies in the file. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian");

bool shoal__tensor_name_ok(const char *text, size_t n_bytes)
{
    if (n_bytes == 0 || n_bytes > SHOAL_TENSOR_NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < n_bytes; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

const char *shoal__shape_text(char *text, size_t n_text, const int64_t *shape, int32_t n_dim)
{
    size_t at = (size_t)snprintf(text, n_text, "[");
    for (int32_t i = 0; i < n_dim && at + 32 < n_text; i++)
        at += (size_t)snprintf(text + at, n_text - at, "%s%" PRId64, i == 0 ? "" : ", ", shape[i]);
    snprintf(text + at, n_text - at, "]");
    return text;
}

shoal_status
shoal__safetensors_header_bytes(size_t *n_bytes,
                                const unsigned char prefix[SHOAL_SAFETENSORS_PREFIX_BYTES],
                                uint64_t file_bytes, const char *path, shoal_log *log)
{
    /* What a clone without LFS leaves in place of the weights. */
    if (memcmp(prefix, "version ", SHOAL_SAFETENSORS_PREFIX_BYTES) == 0)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: is a Git LFS pointer of %" PRIu64
                          " bytes, wanted the weights themselves; run git lfs pull",
                          path, file_bytes);
    uint64_t n = 0;
    for (int i = SHOAL_SAFETENSORS_PREFIX_BYTES - 1; i >= 0; i--)
        n = n << 8 | prefix[i];
    if (n > SHOAL_JSON_MAX_BYTES || n < 2)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: absurd header length %" PRIu64
                          ", wanted 2 to %u bytes; is it a safetensors file?",
                          path, n, SHOAL_JSON_MAX_BYTES);
    if (n > file_bytes - SHOAL_SAFETENSORS_PREFIX_BYTES)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: header length %" PRIu64 " goes beyond the file of %" PRIu64
                          " bytes (wanted at most %" PRIu64 "); is the download complete?",
                          path, n, file_bytes, file_bytes - SHOAL_SAFETENSORS_PREFIX_BYTES);
    *n_bytes = (size_t)n;
    return SHOAL_OK;
}

/* What one entry is parsed with; the name is checked already. */
typedef struct entry_context {
    const char *path;
    const char *name;
    uint64_t data_at; /* where the data begins in the file */
    uint64_t data_bytes;
    shoal_log *log;
} entry_context;

/* A dtype that no weight can have is an error only where that tensor is wanted. */
static shoal_status parse_dtype(shoal_tensor_info *t, const entry_context *e,
                                const shoal_json *value)
{
    size_t n_text = 0;
    const char *text = shoal_json_string(value, &n_text);
    if (text == NULL)
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has no dtype, wanted a string such as \"BF16\"", e->path,
                          e->name);
    if (!shoal__tensor_name_ok(text, n_text))
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has a dtype of %zu bytes or with control characters, "
                          "wanted text such as \"BF16\"",
                          e->path, e->name, n_text);
    t->dtype = SHOAL_DTYPE_OTHER;
    for (int i = 0; i < SHOAL_DTYPE_OTHER; i++)
        if (shoal_dtype_block((shoal_dtype)i) == 1 &&
            strcmp(shoal_dtype_text((shoal_dtype)i), text) == 0)
            t->dtype = (shoal_dtype)i;
    snprintf(t->dtype_text, sizeof t->dtype_text, "%s", text);
    return SHOAL_OK;
}

/* Fills n_dim, shape and n_bytes. */
static shoal_status parse_shape(shoal_tensor_info *t, const entry_context *e,
                                const shoal_json *value)
{
    if (!shoal_json_is_array(value))
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has no shape, wanted an array of integers", e->path,
                          e->name);
    size_t n_dim = shoal_json_size(value);
    if (n_dim > SHOAL_TENSOR_MAX_DIM)
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has %zu dimensions, wanted at most %d", e->path, e->name,
                          n_dim, SHOAL_TENSOR_MAX_DIM);
    t->n_dim = (int32_t)n_dim;
    for (size_t i = 0; i < n_dim; i++) {
        t->shape[i] = shoal_json_int(shoal_json_at(value, i), -1);
        if (t->shape[i] < 0)
            return shoal_fail(e->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: dimension %zu of its shape is not an integer >= 0",
                              e->path, e->name, i);
    }
    /* A zero anywhere makes it empty, also where the other factors alone would overflow. */
    bool empty = false;
    for (size_t i = 0; i < n_dim; i++)
        empty |= t->shape[i] == 0;
    t->n_bytes = empty ? 0 : shoal_dtype_bytes(t->dtype);
    for (size_t i = 0; i < n_dim && !empty; i++)
        if (__builtin_mul_overflow(t->n_bytes, (uint64_t)t->shape[i], &t->n_bytes)) {
            char shape[256];
            return shoal_fail(e->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: the size of shape %s overflows 64 bits", e->path,
                              e->name, shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim));
        }
    return SHOAL_OK;
}

static shoal_status parse_offsets(shoal_tensor_info *t, const entry_context *e,
                                  const shoal_json *value)
{
    int64_t begin = shoal_json_int(shoal_json_at(value, 0), -1);
    int64_t end = shoal_json_int(shoal_json_at(value, 1), -1);
    if (shoal_json_size(value) != 2 || begin < 0 || end < 0)
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has no data_offsets, wanted [begin, end], integers >= 0",
                          e->path, e->name);
    if (begin > end)
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: data_offsets [%" PRId64 ", %" PRId64
                          "] end before they begin",
                          e->path, e->name, begin, end);
    if ((uint64_t)end > e->data_bytes)
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: data_offsets [%" PRId64 ", %" PRId64
                          "] go beyond the %" PRIu64
                          " data bytes of the file; is the download complete?",
                          e->path, e->name, begin, end, e->data_bytes);
    if (t->dtype == SHOAL_DTYPE_OTHER) {
        t->n_bytes = (uint64_t)(end - begin);
    } else if ((uint64_t)(end - begin) != t->n_bytes) {
        char shape[256];
        return shoal_fail(e->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: data_offsets [%" PRId64 ", %" PRId64 "] hold %" PRId64
                          " bytes, wanted %" PRIu64 " for %s %s",
                          e->path, e->name, begin, end, end - begin, t->n_bytes,
                          shoal_dtype_text(t->dtype),
                          shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim));
    }
    t->offset = e->data_at + (uint64_t)begin;
    return SHOAL_OK;
}

static shoal_status parse_entry(shoal_tensor_info *t, const entry_context *e,
                                const shoal_json *value)
{
    if (!shoal_json_is_object(value))
        return shoal_fail(
            e->log, SHOAL_BAD_DATA,
            "%s: tensor %s is not described by an object {dtype, shape, data_offsets}", e->path,
            e->name);
    SHOAL_TRY(parse_dtype(t, e, shoal_json_get(value, "dtype")));
    SHOAL_TRY(parse_shape(t, e, shoal_json_get(value, "shape")));
    return parse_offsets(t, e, shoal_json_get(value, "data_offsets"));
}

static shoal_status check_metadata(const shoal_json *metadata, const char *path, shoal_log *log)
{
    bool ok = shoal_json_is_object(metadata);
    const char *key = NULL;
    size_t n_key = 0;
    const shoal_json *value = NULL;
    void *it = NULL;
    while (ok && (it = shoal_json_next(metadata, it, &key, &n_key, &value)) != NULL)
        ok = shoal_json_is_string(value);
    if (!ok)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: __metadata__ of the header is not an object of strings", path);
    return SHOAL_OK;
}

static int compare_offset(const void *a, const void *b)
{
    const shoal_tensor_info *x = a;
    const shoal_tensor_info *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    /* Empty tensors first, so that they never lie "inside" the one that begins there. */
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

void shoal__sort_by_offset(shoal_tensor_info *tensor, int64_t n)
{
    if (n > 0) /* without any there may be no array */
        qsort(tensor, (size_t)n, sizeof *tensor, compare_offset);
}

static shoal_status check_overlap(const shoal__safetensors *s, const char *path, shoal_log *log)
{
    const shoal_tensor_info *last = NULL; /* the last one with bytes */
    for (int64_t i = 0; i < s->n_tensor; i++) {
        const shoal_tensor_info *t = &s->tensor[i];
        if (t->n_bytes == 0)
            continue;
        if (last != NULL && t->offset < last->offset + last->n_bytes)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: tensors %s and %s overlap: the second begins at byte %" PRIu64
                              " of the file, the first ends at byte %" PRIu64,
                              path, last->name, t->name, t->offset, last->offset + last->n_bytes);
        last = t;
    }
    return SHOAL_OK;
}

/* Allocate for all entries of the header; names are copied behind each other into s->names. */
static shoal_status allocate(shoal__safetensors *s, const shoal_json *doc, const char *path,
                             shoal_log *log)
{
    size_t n_name_bytes = 0;
    const char *key = NULL;
    size_t n_key = 0;
    const shoal_json *value = NULL;
    void *it = NULL;
    while ((it = shoal_json_next(doc, it, &key, &n_key, &value)) != NULL)
        n_name_bytes += n_key + 1;
    size_t n_entry = shoal_json_size(doc);
    s->tensor = calloc(n_entry + 1, sizeof *s->tensor);
    s->names = malloc(n_name_bytes + 1);
    if (s->tensor == NULL || s->names == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for its %zu tensors", path, n_entry);
    return SHOAL_OK;
}

static shoal_status parse_entries(shoal__safetensors *s, const shoal_json *doc,
                                  const entry_context *context)
{
    entry_context e = *context;
    SHOAL_TRY(allocate(s, doc, e.path, e.log));
    char *name_end = s->names;
    const char *key = NULL;
    size_t n_key = 0;
    const shoal_json *value = NULL;
    void *it = NULL;
    while ((it = shoal_json_next(doc, it, &key, &n_key, &value)) != NULL) {
        if (strcmp(key, "__metadata__") == 0) {
            SHOAL_TRY(check_metadata(value, e.path, e.log));
            continue;
        }
        if (!shoal__tensor_name_ok(key, n_key))
            return shoal_fail(e.log, SHOAL_BAD_DATA,
                              "%s: the name of tensor %" PRId64
                              " of the header has %zu bytes or holds control characters, wanted 1 "
                              "to %d bytes of text",
                              e.path, s->n_tensor, n_key, SHOAL_TENSOR_NAME_MAX_BYTES);
        shoal_tensor_info *t = &s->tensor[s->n_tensor];
        t->name = memcpy(name_end, key, n_key);
        name_end[n_key] = '\0';
        name_end += n_key + 1;
        e.name = t->name;
        SHOAL_TRY(parse_entry(t, &e, value));
        s->n_tensor++;
    }
    shoal__sort_by_offset(s->tensor, s->n_tensor);
    return check_overlap(s, e.path, e.log);
}

shoal_status shoal__safetensors_parse(shoal__safetensors *s, const char *header, size_t n_bytes,
                                      uint64_t file_bytes, const char *path, shoal_log *log)
{
    /* The format wants the brace first: says more than a JSON error about a file of another kind.
     */
    if (n_bytes == 0 || header[0] != '{')
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: the header does not begin with '{'; is it a safetensors file?",
                          path);
    shoal_json *doc = NULL;
    SHOAL_TRY(shoal_json_parse(&doc, header, n_bytes, path, log));
    entry_context context = {
        .path = path,
        .data_at = SHOAL_SAFETENSORS_PREFIX_BYTES + (uint64_t)n_bytes,
        .data_bytes = file_bytes - SHOAL_SAFETENSORS_PREFIX_BYTES - n_bytes,
        .log = log,
    };
    shoal__safetensors parsed = {0};
    shoal_status status = parse_entries(&parsed, doc, &context);
    shoal_json_close(doc);
    if (status != SHOAL_OK) {
        shoal__safetensors_close(&parsed);
        return status;
    }
    *s = parsed;
    return SHOAL_OK;
}

shoal_status shoal__safetensors_read(shoal__safetensors *s, uint64_t *hash, const shoal__file *file,
                                     shoal_log *log)
{
    if (file->n_bytes < SHOAL_SAFETENSORS_PREFIX_BYTES)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: has %" PRIu64
                          " bytes, too short for the header length (8 bytes) of a safetensors file",
                          file->path, file->n_bytes);
    unsigned char prefix[SHOAL_SAFETENSORS_PREFIX_BYTES];
    SHOAL_TRY(shoal__file_read(file, 0, sizeof prefix, prefix, log));
    size_t n_bytes = 0;
    SHOAL_TRY(shoal__safetensors_header_bytes(&n_bytes, prefix, file->n_bytes, file->path, log));
    char *header = malloc(n_bytes);
    if (header == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for its header of %zu bytes",
                          file->path, n_bytes);
    shoal_status status = shoal__file_read(file, sizeof prefix, n_bytes, header, log);
    if (status == SHOAL_OK)
        status = shoal__safetensors_parse(s, header, n_bytes, file->n_bytes, file->path, log);
    if (status == SHOAL_OK) {
        s->n_header = sizeof prefix + n_bytes;
        *hash = shoal_hash(*hash, prefix, sizeof prefix);
        *hash = shoal_hash(*hash, header, n_bytes);
        *hash = shoal_hash(*hash, &file->n_bytes, sizeof file->n_bytes);
    }
    free(header);
    return status;
}

void shoal__safetensors_close(shoal__safetensors *s)
{
    free(s->tensor);
    free(s->names);
    *s = (shoal__safetensors){0};
}
