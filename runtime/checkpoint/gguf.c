#include "runtime/checkpoint/gguf.h"

#include "runtime/base/hash.h"
#include "runtime/checkpoint/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES    ((size_t)1 << 20) /* what is read at first */
#define MAX_PAIR       65536
#define MAX_DIM        4
#define MIN_PAIR_BYTES 13 /* an empty key, a type, a byte */
#define MIN_INFO_BYTES 24 /* an empty name, no dimensions, type, offset */
#define ALIGNMENT      32 /* where general.alignment says nothing */

/* Types of tensors that weights can have, by the format's number; and the others, for messages. */
static const struct {
    uint32_t number;
    shoal_dtype dtype;
    const char *text;
} tensor_types[] = {
    {0, SHOAL_DTYPE_F32, "F32"},        {1, SHOAL_DTYPE_F16, "F16"},
    {2, SHOAL_DTYPE_Q4_0, "Q4_0"},      {3, SHOAL_DTYPE_Q4_1, "Q4_1"},
    {6, SHOAL_DTYPE_Q5_0, "Q5_0"},      {7, SHOAL_DTYPE_Q5_1, "Q5_1"},
    {8, SHOAL_DTYPE_Q8_0, "Q8_0"},      {9, SHOAL_DTYPE_OTHER, "Q8_1"},
    {10, SHOAL_DTYPE_OTHER, "Q2_K"},    {11, SHOAL_DTYPE_OTHER, "Q3_K"},
    {12, SHOAL_DTYPE_Q4_K, "Q4_K"},     {13, SHOAL_DTYPE_Q5_K, "Q5_K"},
    {14, SHOAL_DTYPE_Q6_K, "Q6_K"},     {15, SHOAL_DTYPE_OTHER, "Q8_K"},
    {16, SHOAL_DTYPE_OTHER, "IQ2_XXS"}, {17, SHOAL_DTYPE_OTHER, "IQ2_XS"},
    {18, SHOAL_DTYPE_OTHER, "IQ3_XXS"}, {19, SHOAL_DTYPE_OTHER, "IQ1_S"},
    {20, SHOAL_DTYPE_OTHER, "IQ4_NL"},  {21, SHOAL_DTYPE_OTHER, "IQ3_S"},
    {22, SHOAL_DTYPE_OTHER, "IQ2_S"},   {23, SHOAL_DTYPE_OTHER, "IQ4_XS"},
    {24, SHOAL_DTYPE_OTHER, "I8"},      {25, SHOAL_DTYPE_OTHER, "I16"},
    {26, SHOAL_DTYPE_I32, "I32"},       {27, SHOAL_DTYPE_I64, "I64"},
    {28, SHOAL_DTYPE_F64, "F64"},       {29, SHOAL_DTYPE_OTHER, "IQ1_M"},
    {30, SHOAL_DTYPE_BF16, "BF16"},     {34, SHOAL_DTYPE_OTHER, "TQ1_0"},
    {35, SHOAL_DTYPE_OTHER, "TQ2_0"},   {39, SHOAL_DTYPE_MXFP4, "MXFP4"},
};

/* -- reading on -- */

/* A read beyond the bytes that are there sets `short_of` and gives zeros; whoever loops asks for
 * it. */
typedef struct cursor {
    const unsigned char *bytes;
    size_t n_bytes;
    size_t at;
    bool short_of;
    uint64_t file_bytes;
    const char *path;
    shoal_log *log;
} cursor;

static const unsigned char *take(cursor *c, uint64_t n)
{
    static const unsigned char zeros[8] = {0};
    if (c->short_of || n > c->n_bytes - c->at) {
        c->short_of = true;
        return zeros;
    }
    const unsigned char *at = c->bytes + c->at;
    c->at += (size_t)n;
    return at;
}

static uint32_t take_u32(cursor *c)
{
    return shoal__gguf_u32(take(c, 4));
}

static uint64_t take_u64(cursor *c)
{
    return shoal__gguf_u64(take(c, 8));
}

/* Bytes of the file that are left from here on: a bound for every count. */
static uint64_t n_left(const cursor *c)
{
    return c->file_bytes - c->at;
}

static shoal_status check_count(const cursor *c, uint64_t n, uint64_t least_bytes, const char *what)
{
    if (n > n_left(c) / least_bytes)
        return shoal_fail(
            c->log, SHOAL_BAD_DATA,
            "%s: %" PRIu64 " %s do not fit into the %" PRIu64
            " bytes that the file has from byte %zu on; is it a GGUF file, and whole?",
            c->path, n, what, n_left(c), c->at);
    return SHOAL_OK;
}

static shoal_status take_string(const char **text, size_t *n_text, cursor *c, const char *what)
{
    uint64_t n = take_u64(c);
    SHOAL_TRY(check_count(c, n, 1, what));
    *text = (const char *)take(c, n);
    *n_text = c->short_of ? 0 : (size_t)n;
    return SHOAL_OK;
}

/* -- pairs -- */

static shoal_status parse_value(shoal__gguf_value *v, cursor *c)
{
    v->type = take_u32(c);
    v->n = 1;
    v->is_array = v->type == SHOAL__GGUF_ARRAY;
    if (v->is_array) {
        v->type = take_u32(c);
        v->n = take_u64(c);
    }
    if (c->short_of)
        return SHOAL_OK;
    if (v->type >= SHOAL__GGUF_N_TYPE || v->type == SHOAL__GGUF_ARRAY)
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: a value before byte %zu has type %u%s, wanted 0 to 12", c->path,
                          c->at, v->type, v->is_array ? " in an array" : "");
    bool strings = v->type == SHOAL__GGUF_STRING;
    SHOAL_TRY(check_count(c, v->n, strings ? 8 : shoal__gguf_value_bytes(v->type),
                          "elements of an array"));
    v->at = c->bytes + c->at;
    if (!strings)
        (void)take(c, v->n * shoal__gguf_value_bytes(v->type));
    for (uint64_t i = 0; strings && i < v->n && !c->short_of; i++) {
        const char *text;
        size_t n_text;
        SHOAL_TRY(take_string(&text, &n_text, c, "bytes of a string"));
    }
    return SHOAL_OK;
}

static shoal_status parse_pairs(shoal__gguf *g, cursor *c, uint64_t n_pair)
{
    SHOAL_TRY(check_count(c, n_pair, MIN_PAIR_BYTES, "key-value pairs"));
    if (n_pair > MAX_PAIR)
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: %" PRIu64 " key-value pairs, wanted at most %d", c->path, n_pair,
                          MAX_PAIR);
    g->pair = calloc((size_t)n_pair + 1, sizeof *g->pair);
    if (g->pair == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "%s: no memory for its %" PRIu64 " pairs",
                          c->path, n_pair);
    for (uint64_t i = 0; i < n_pair && !c->short_of; i++) {
        shoal__gguf_pair *p = &g->pair[i];
        SHOAL_TRY(take_string(&p->key, &p->n_key, c, "bytes of a key"));
        if (!c->short_of && !shoal__tensor_name_ok(p->key, p->n_key))
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "%s: the key before byte %zu has %zu bytes or holds control "
                              "characters, wanted 1 to %d bytes of text",
                              c->path, c->at, p->n_key, SHOAL_TENSOR_NAME_MAX_BYTES);
        SHOAL_TRY(parse_value(&p->value, c));
        g->n_pair++;
    }
    if (c->short_of)
        return SHOAL_OK;
    if (g->n_pair > 0)
        qsort(g->pair, (size_t)g->n_pair, sizeof *g->pair, shoal__gguf_compare_key);
    for (int64_t i = 1; i < g->n_pair; i++)
        if (shoal__gguf_compare_key(&g->pair[i - 1], &g->pair[i]) == 0)
            return shoal_fail(c->log, SHOAL_BAD_DATA, "%s: key %.*s occurs twice", c->path,
                              (int)g->pair[i].n_key, g->pair[i].key);
    return SHOAL_OK;
}

/* -- tensors -- */

static shoal_status bad_shape(const cursor *c, const shoal_tensor_info *t, const char *why)
{
    char shape[128];
    return shoal_fail(c->log, SHOAL_BAD_DATA, "%s: tensor %s of %s: shape %s %s", c->path, t->name,
                      t->dtype_text, shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim),
                      why);
}

/* n_bytes of OTHER stays 0: what lies up to the next tensor is filled in later. */
static shoal_status count_bytes(shoal_tensor_info *t, const cursor *c)
{
    if (t->dtype == SHOAL_DTYPE_OTHER)
        return SHOAL_OK;
    int64_t block = (int64_t)shoal_dtype_block(t->dtype);
    if (t->shape[t->n_dim - 1] % block != 0)
        return bad_shape(c, t, "has rows that are no whole blocks");
    t->n_bytes = shoal_dtype_bytes(t->dtype);
    for (int32_t i = 0; i < t->n_dim; i++) {
        uint64_t n = (uint64_t)t->shape[i] / (i == t->n_dim - 1 ? (uint64_t)block : 1);
        if (__builtin_mul_overflow(t->n_bytes, n, &t->n_bytes))
            return bad_shape(c, t, "overflows 64 bits");
    }
    return SHOAL_OK;
}

static void set_type(shoal_tensor_info *t, uint32_t number)
{
    t->dtype = SHOAL_DTYPE_OTHER;
    snprintf(t->dtype_text, sizeof t->dtype_text, "GGML type %u", number % 1000);
    for (size_t i = 0; i < sizeof tensor_types / sizeof tensor_types[0]; i++)
        if (tensor_types[i].number == number) {
            t->dtype = tensor_types[i].dtype;
            snprintf(t->dtype_text, sizeof t->dtype_text, "%s", tensor_types[i].text);
        }
}

/* The offset is relative to the data, for now. */
static shoal_status parse_info(shoal_tensor_info *t, char **name_end, cursor *c, uint64_t alignment)
{
    const char *name;
    size_t n_name;
    SHOAL_TRY(take_string(&name, &n_name, c, "bytes of a tensor's name"));
    uint32_t n_dim = take_u32(c);
    if (c->short_of)
        return SHOAL_OK;
    if (!shoal__tensor_name_ok(name, n_name))
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: the tensor's name before byte %zu has %zu bytes or holds control "
                          "characters, wanted 1 to %d bytes of text",
                          c->path, c->at, n_name, SHOAL_TENSOR_NAME_MAX_BYTES);
    t->name = memcpy(*name_end, name, n_name);
    *name_end += n_name;
    *(*name_end)++ = '\0';
    if (n_dim < 1 || n_dim > MAX_DIM)
        return shoal_fail(c->log, SHOAL_BAD_DATA, "%s: tensor %s has %u dimensions, wanted 1 to %d",
                          c->path, t->name, n_dim, MAX_DIM);
    t->n_dim = (int32_t)n_dim;
    for (uint32_t i = 0; i < n_dim; i++) {
        uint64_t n = take_u64(c);
        if (n > INT64_MAX)
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: dimension %u is %" PRIu64 ", absurd", c->path,
                              t->name, i, n);
        t->shape[n_dim - 1 - i] = (int64_t)n;
    }
    set_type(t, take_u32(c));
    t->offset = take_u64(c);
    if (c->short_of)
        return SHOAL_OK;
    if (t->offset % alignment != 0)
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: offset %" PRIu64
                          " is no multiple of the alignment %" PRIu64,
                          c->path, t->name, t->offset, alignment);
    return count_bytes(t, c);
}

/* Offsets become those of the file; all data lies in it, and none twice. */
static shoal_status place(shoal__gguf *g, const cursor *c, uint64_t data_at)
{
    uint64_t data_bytes = data_at < c->file_bytes ? c->file_bytes - data_at : 0;
    shoal__sort_by_offset(g->tensor, g->n_tensor);
    for (int64_t i = 0; i < g->n_tensor; i++) {
        shoal_tensor_info *t = &g->tensor[i];
        uint64_t end = i + 1 < g->n_tensor ? g->tensor[i + 1].offset : data_bytes;
        if (t->dtype == SHOAL_DTYPE_OTHER && end >= t->offset)
            t->n_bytes = end - t->offset;
        if (t->offset > data_bytes || t->n_bytes > data_bytes - t->offset)
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: its %" PRIu64 " bytes at offset %" PRIu64
                              " go beyond the %" PRIu64
                              " data bytes of the file; is the download complete?",
                              c->path, t->name, t->n_bytes, t->offset, data_bytes);
        if (i + 1 < g->n_tensor && t->n_bytes > end - t->offset)
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "%s: tensors %s and %s overlap: the second begins %" PRIu64
                              " bytes behind the first, which has %" PRIu64,
                              c->path, t->name, t[1].name, end - t->offset, t->n_bytes);
    }
    for (int64_t i = 0; i < g->n_tensor; i++)
        g->tensor[i].offset += data_at;
    return SHOAL_OK;
}

static shoal_status parse_tensors(shoal__gguf *g, cursor *c, uint64_t n_tensor)
{
    SHOAL_TRY(check_count(c, n_tensor, MIN_INFO_BYTES, "tensors"));
    uint64_t alignment = ALIGNMENT;
    const shoal__gguf_value *stated = shoal__gguf_find(g, "general.alignment");
    int64_t value = 0;
    if (stated != NULL) {
        if (!shoal__gguf_int_at(&value, stated, 0) || value < 1 || value > 1 << 20 ||
            (value & (value - 1)) != 0)
            return shoal_fail(c->log, SHOAL_BAD_DATA,
                              "%s: general.alignment is %" PRId64
                              " or no integer, wanted a power of 2 up to 2^20",
                              c->path, value);
        alignment = (uint64_t)value;
    }
    /* Names and their ends together are shorter than the descriptions that are there. */
    size_t n_name_bytes = c->n_bytes - c->at + (size_t)n_tensor;
    g->tensor = calloc((size_t)n_tensor + 1, sizeof *g->tensor);
    g->names = malloc(n_name_bytes + 1);
    if (g->tensor == NULL || g->names == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "%s: no memory for its %" PRIu64 " tensors",
                          c->path, n_tensor);
    char *name_end = g->names;
    for (uint64_t i = 0; i < n_tensor && !c->short_of; i++) {
        SHOAL_TRY(parse_info(&g->tensor[i], &name_end, c, alignment));
        g->n_tensor++;
    }
    if (c->short_of)
        return SHOAL_OK;
    return place(g, c, (c->at + alignment - 1) / alignment * alignment);
}

static shoal_status parse_header(shoal__gguf *g, cursor *c)
{
    const unsigned char *magic = take(c, 4);
    uint32_t version = take_u32(c);
    if (c->short_of)
        return SHOAL_OK;
    if (memcmp(magic, "GGUF", 4) != 0)
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: does not begin with \"GGUF\"; is it a GGUF file, and whole?",
                          c->path);
    if (version != 2 && version != 3)
        return shoal_fail(c->log, SHOAL_BAD_DATA,
                          "%s: GGUF version %u%s, supported are 2 and 3, little-endian", c->path,
                          version, (version & 0xffff) == 0 ? " (big-endian)" : "");
    uint64_t n_tensor = take_u64(c);
    uint64_t n_pair = take_u64(c);
    if (c->short_of)
        return SHOAL_OK;
    SHOAL_TRY(parse_pairs(g, c, n_pair));
    return c->short_of ? SHOAL_OK : parse_tensors(g, c, n_tensor);
}

shoal_status shoal__gguf_parse(shoal__gguf *g, bool *more, unsigned char *bytes, size_t n_bytes,
                               uint64_t file_bytes, const char *path, shoal_log *log)
{
    cursor c = {
        .bytes = bytes, .n_bytes = n_bytes, .file_bytes = file_bytes, .path = path, .log = log};
    shoal__gguf parsed = {0};
    shoal_status status = parse_header(&parsed, &c);
    *more = false;
    if (status == SHOAL_OK && c.short_of) {
        *more = n_bytes < file_bytes;
        if (!*more)
            status = shoal_fail(log, SHOAL_BAD_DATA,
                                "%s: the file of %" PRIu64
                                " bytes ends in its header; is the download complete?",
                                path, file_bytes);
    }
    if (status != SHOAL_OK || *more) {
        shoal__gguf_close(&parsed);
        return status;
    }
    parsed.header = bytes;
    parsed.n_header = c.at;
    *g = parsed;
    return SHOAL_OK;
}

shoal_status shoal__gguf_read(shoal__gguf *g, uint64_t *hash, const shoal__file *file,
                              shoal_log *log)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    const uint64_t readable = shoal__file_readable(file);
    for (bool more = true; more;) {
        size_t n_next = n == 0 ? FIRST_BYTES : 4 * n;
        if (n >= SHOAL_GGUF_MAX_HEADER_BYTES || (n == readable && n > 0)) {
            free(bytes);
            return shoal_fail(log, SHOAL_BAD_DATA, "%s: its header has more than %zu bytes%s",
                              file->path, n,
                              n == readable ? ", which is all that is there" : ", which is absurd");
        }
        if (n_next > readable)
            n_next = (size_t)readable;
        unsigned char *grown = realloc(bytes, n_next + 1);
        shoal_status status = SHOAL_OK;
        if (grown == NULL)
            status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for its header of %zu bytes",
                                file->path, n_next);
        else
            bytes = grown;
        if (status == SHOAL_OK)
            status = shoal__file_read(file, n, n_next - n, bytes + n, log);
        n = n_next;
        if (status == SHOAL_OK)
            status = shoal__gguf_parse(g, &more, bytes, n, file->n_bytes, file->path, log);
        if (status != SHOAL_OK) {
            free(bytes);
            return status;
        }
    }
    *hash = shoal_hash(*hash, g->header, g->n_header);
    *hash = shoal_hash(*hash, &file->n_bytes, sizeof file->n_bytes);
    return SHOAL_OK;
}

void shoal__gguf_close(shoal__gguf *g)
{
    free(g->header);
    free(g->pair);
    free(g->tensor);
    free(g->names);
    *g = (shoal__gguf){0};
}
