#include "runtime/checkpoint/load.h"

#include "runtime/checkpoint/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCALE_SUFFIX "_scale_inv"

static const char *file_of(const shoal_loader *loader, const shoal_tensor_info *t)
{
    return shoal_checkpoint_file_name(loader->checkpoint, t);
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Blocks of 128 that hold n rows or columns. */
static int32_t n_block(int32_t n)
{
    return (int32_t)(((int64_t)n + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK);
}

/* -- pieces -- */

shoal_status shoal_loader_open(shoal_loader *loader, shoal_checkpoint *checkpoint, shoal_log *log)
{
    void *piece = malloc(SHOAL_LOAD_PIECE_BYTES);
    if (piece == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to load weights: wanted %u bytes",
                          SHOAL_LOAD_PIECE_BYTES);
    *loader = (shoal_loader){.checkpoint = checkpoint,
                             .log = log,
                             .piece = piece,
                             .piece_bytes = SHOAL_LOAD_PIECE_BYTES};
    return SHOAL_OK;
}

void shoal_loader_close(shoal_loader *loader)
{
    free(loader->piece);
    *loader = (shoal_loader){0};
}

/* Make the piece hold n_bytes, the least that a tensor can be read in. */
static shoal_status grow_piece(shoal_loader *loader, const shoal_tensor_info *t, size_t n_bytes)
{
    if (n_bytes <= loader->piece_bytes)
        return SHOAL_OK;
    void *piece = realloc(loader->piece, n_bytes);
    if (piece == NULL)
        return shoal_fail(loader->log, SHOAL_NO_MEMORY,
                          "%s: tensor %s: no memory to read its rows: wanted %zu bytes",
                          file_of(loader, t), t->name, n_bytes);
    loader->piece = piece;
    loader->piece_bytes = n_bytes;
    return SHOAL_OK;
}

/* Elements [first, first + n) of t into loader->piece, which holds them. */
static shoal_status read_piece(shoal_loader *loader, const shoal_tensor_info *t, int64_t first,
                               int64_t n)
{
    size_t elem_bytes = shoal_dtype_bytes(t->dtype);
    size_t n_bytes = (size_t)n * elem_bytes;
    SHOAL_TRY(shoal_checkpoint_read(loader->checkpoint, t, (uint64_t)first * elem_bytes, n_bytes,
                                    loader->piece));
    if (loader->progress != NULL)
        loader->progress(loader->progress_arg, n_bytes);
    return SHOAL_OK;
}

/* n elements of a floating dtype, aligned, as f32. */
static void to_f32(float *dst, const void *src, shoal_dtype dtype, int64_t n)
{
    const uint16_t *half = src;
    const uint8_t *byte = src;
    switch (dtype) {
    case SHOAL_DTYPE_F32:
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return;
    case SHOAL_DTYPE_F16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = shoal_f16_to_f32(half[i]);
        return;
    case SHOAL_DTYPE_BF16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = shoal_bf16_to_f32(half[i]);
        return;
    case SHOAL_DTYPE_F8_E4M3:
        for (int64_t i = 0; i < n; i++)
            dst[i] = shoal_e4m3_to_f32(byte[i]);
        return;
    default: /* the checks let no other through */
        memset(dst, 0, (size_t)n * sizeof *dst);
        return;
    }
}

/* Elements [first, first + n) of t as f32. */
static shoal_status read_f32(float *dst, shoal_loader *loader, const shoal_tensor_info *t,
                             int64_t first, int64_t n)
{
    int64_t n_piece = (int64_t)(loader->piece_bytes / shoal_dtype_bytes(t->dtype));
    for (int64_t at = 0; at < n; at += n_piece) {
        int64_t n_here = min_i64(n_piece, n - at);
        SHOAL_TRY(read_piece(loader, t, first + at, n_here));
        to_f32(dst + at, loader->piece, t->dtype, n_here);
    }
    return SHOAL_OK;
}

/* -- checks -- */

static shoal_status find_tensor(const shoal_tensor_info **tensor, const shoal_loader *loader,
                                const char *name, const char *wanted)
{
    const shoal_tensor_info *t = shoal_checkpoint_find(loader->checkpoint, name);
    if (t == NULL)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "model %s: tensor %s is missing, wanted %s; is it the checkpoint that "
                          "its config.json describes?",
                          shoal_checkpoint_path(loader->checkpoint), name, wanted);
    *tensor = t;
    return SHOAL_OK;
}

static shoal_status check_shape(const shoal_loader *loader, const shoal_tensor_info *t,
                                int32_t n_dim, const int64_t *shape)
{
    if (t->n_dim == n_dim && memcmp(t->shape, shape, (size_t)n_dim * sizeof *shape) == 0)
        return SHOAL_OK;
    char found[256];
    char wanted[64];
    return shoal_fail(loader->log, SHOAL_BAD_DATA, "%s: tensor %s has shape %s, wanted %s",
                      file_of(loader, t), t->name,
                      shoal__shape_text(found, sizeof found, t->shape, t->n_dim),
                      shoal__shape_text(wanted, sizeof wanted, shape, n_dim));
}

/* A number of config.json's quantization_config.weight_block_size that is not 128 would scale the
 * wrong elements, and matrices smaller than a block have the same shape of scales for any. */
static shoal_status check_block_size(const shoal_loader *loader, const shoal_tensor_info *t)
{
    const shoal_json *size = shoal_json_get(
        shoal_json_get(shoal_checkpoint_config(loader->checkpoint), "quantization_config"),
        "weight_block_size");
    if (size == NULL || shoal_json_is_null(size))
        return SHOAL_OK;
    int64_t n_row = shoal_json_int(shoal_json_at(size, 0), -1);
    int64_t n_col = shoal_json_int(shoal_json_at(size, 1), -1);
    if (n_row != SHOAL_FP8_BLOCK || n_col != SHOAL_FP8_BLOCK)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: config.json states weight_block_size [%lld, %lld], "
                          "wanted [%d, %d]",
                          file_of(loader, t), t->name, (long long)n_row, (long long)n_col,
                          SHOAL_FP8_BLOCK, SHOAL_FP8_BLOCK);
    return SHOAL_OK;
}

/* NAME_scale_inv of an F8_E4M3 matrix [n_row, n_col]. */
static shoal_status find_scale(const shoal_tensor_info **scale, const shoal_loader *loader,
                               const shoal_tensor_info *t, int32_t n_row, int32_t n_col)
{
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + sizeof SCALE_SUFFIX];
    snprintf(name, sizeof name, "%s" SCALE_SUFFIX, t->name);
    const shoal_tensor_info *s = NULL;
    SHOAL_TRY(find_tensor(&s, loader, name, "the block scales of an F8_E4M3 weight"));
    if (s->dtype != SHOAL_DTYPE_F32 && s->dtype != SHOAL_DTYPE_BF16)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted F32 or BF16", file_of(loader, s),
                          s->name, shoal_dtype_text(s->dtype));
    SHOAL_TRY(check_shape(loader, s, 2, (const int64_t[]){n_block(n_row), n_block(n_col)}));
    *scale = s;
    return SHOAL_OK;
}

/* A matrix [*, n_col] of a dtype that can be packed. */
static shoal_status find_rows(const shoal_tensor_info **matrix, shoal_format *format,
                              const shoal_loader *loader, const char *name, int32_t n_col)
{
    const shoal_tensor_info *t = NULL;
    SHOAL_TRY(find_tensor(&t, loader, name, "a matrix"));
    if (t->n_dim != 2 || t->shape[0] > INT32_MAX || t->shape[1] != n_col) {
        char shape[256];
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has shape %s, wanted a matrix of %d columns",
                          file_of(loader, t), t->name,
                          shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim), n_col);
    }
    shoal_format found = SHOAL_FORMAT_F32;
    if (!shoal_format_of_dtype(&found, t->dtype))
        return shoal_fail(
            loader->log, SHOAL_BAD_DATA,
            "%s: tensor %s has dtype %s, wanted a weight in F32, F16, BF16 or F8_E4M3",
            file_of(loader, t), t->name, shoal_dtype_text(t->dtype));
    if (t->dtype == SHOAL_DTYPE_F8_E4M3) {
        const shoal_tensor_info *scale = NULL;
        SHOAL_TRY(check_block_size(loader, t));
        SHOAL_TRY(find_scale(&scale, loader, t, (int32_t)t->shape[0], n_col));
    }
    *matrix = t;
    *format = found;
    return SHOAL_OK;
}

static shoal_status find_matrix(const shoal_tensor_info **matrix, shoal_format *format,
                                const shoal_loader *loader, const char *name, int32_t n_row,
                                int32_t n_col)
{
    const shoal_tensor_info *t = NULL;
    SHOAL_TRY(find_tensor(&t, loader, name, "a matrix"));
    SHOAL_TRY(check_shape(loader, t, 2, (const int64_t[]){n_row, n_col}));
    return find_rows(matrix, format, loader, name, n_col);
}

shoal_status shoal_load_check_matrix(shoal_format *format, const shoal_loader *loader,
                                     const char *name, int32_t n_row, int32_t n_col)
{
    const shoal_tensor_info *t = NULL;
    return find_matrix(&t, format, loader, name, n_row, n_col);
}

static shoal_status find_vector(const shoal_tensor_info **vector, const shoal_loader *loader,
                                const char *name, int32_t n)
{
    const shoal_tensor_info *t = NULL;
    SHOAL_TRY(find_tensor(&t, loader, name, "a vector"));
    SHOAL_TRY(check_shape(loader, t, 1, (const int64_t[]){n}));
    if (t->dtype != SHOAL_DTYPE_F32 && t->dtype != SHOAL_DTYPE_F16 && t->dtype != SHOAL_DTYPE_BF16)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted F32, F16 or BF16", file_of(loader, t),
                          t->name, shoal_dtype_text(t->dtype));
    *vector = t;
    return SHOAL_OK;
}

shoal_status shoal_load_check_vector(const shoal_loader *loader, const char *name, int32_t n)
{
    const shoal_tensor_info *t = NULL;
    return find_vector(&t, loader, name, n);
}

/* -- reading -- */

/* Rows [row0, row0 + n_row) of the scales, [n_row, n_col] into dst. */
static shoal_status read_scales(float *dst, shoal_loader *loader, const shoal_tensor_info *scale,
                                int32_t row0, int32_t n_row)
{
    int64_t n_col = scale->shape[1];
    SHOAL_TRY(read_f32(dst, loader, scale, row0 * n_col, n_row * n_col));
    for (int64_t i = 0; i < n_row * n_col; i++)
        if (!isfinite(dst[i]) || dst[i] < 0)
            return shoal_fail(loader->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: the scale of block [%lld, %lld] is %g, wanted a "
                              "finite number >= 0",
                              file_of(loader, scale), scale->name, (long long)(row0 + i / n_col),
                              (long long)(i % n_col), (double)dst[i]);
    return SHOAL_OK;
}

shoal_status shoal_load_matrix(shoal_matrix *w, shoal_loader *loader, const char *name)
{
    const shoal_tensor_info *t = NULL;
    shoal_format format = SHOAL_FORMAT_F32;
    SHOAL_TRY(find_matrix(&t, &format, loader, name, w->n_row, w->n_col));
    if (format != w->format)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted %s like the other weights of its "
                          "kind",
                          file_of(loader, t), t->name, shoal_dtype_text(t->dtype),
                          shoal_format_text(w->format));
    if (format == SHOAL_FORMAT_FP8_BLOCK) {
        const shoal_tensor_info *scale = NULL;
        SHOAL_TRY(find_scale(&scale, loader, t, w->n_row, w->n_col));
        SHOAL_TRY(read_scales(w->scale, loader, scale, 0, n_block(w->n_row)));
    }
    if (t->n_bytes == 0)
        return SHOAL_OK;

    size_t row_bytes = (size_t)w->n_col * shoal_dtype_bytes(t->dtype);
    size_t least_bytes = row_bytes * (size_t)min_i64(SHOAL_BAND, w->n_row);
    SHOAL_TRY(grow_piece(loader, t, least_bytes));
    int64_t n_band = (int64_t)(loader->piece_bytes / row_bytes) / SHOAL_BAND;
    int64_t n_step = n_band == 0 ? SHOAL_BAND : n_band * SHOAL_BAND; /* 0: one short band */
    for (int64_t row = 0; row < w->n_row; row += n_step) {
        int64_t n_here = min_i64(n_step, w->n_row - row);
        SHOAL_TRY(read_piece(loader, t, row * w->n_col, n_here * w->n_col));
        shoal_matrix_pack(w, (int32_t)row, (int32_t)n_here, loader->piece);
    }
    return SHOAL_OK;
}

/* Multiply rows [row0, row0 + n_row) of a matrix by their block's scale. scale begins with the
 * blocks of row0. */
static void apply_scales(float *x, const float *scale, int32_t row0, int32_t n_row, int32_t n_col)
{
    int32_t n_scale_col = n_block(n_col);
    for (int32_t r = 0; r < n_row; r++) {
        int32_t block = (row0 + r) / SHOAL_FP8_BLOCK - row0 / SHOAL_FP8_BLOCK;
        const float *row_scale = scale + (int64_t)block * n_scale_col;
        float *row = x + (int64_t)r * n_col;
        for (int32_t c = 0; c < n_col; c++)
            row[c] *= row_scale[c / SHOAL_FP8_BLOCK];
    }
}

static shoal_status scale_rows(float *dst, shoal_loader *loader, const shoal_tensor_info *t,
                               int32_t row0, int32_t n_row)
{
    int32_t n_col = (int32_t)t->shape[1];
    const shoal_tensor_info *scale = NULL;
    SHOAL_TRY(find_scale(&scale, loader, t, (int32_t)t->shape[0], n_col));
    int32_t block0 = row0 / SHOAL_FP8_BLOCK;
    int32_t n_block_row = (row0 + n_row - 1) / SHOAL_FP8_BLOCK - block0 + 1;
    float *value = malloc((size_t)n_block_row * (size_t)n_block(n_col) * sizeof *value);
    if (value == NULL)
        return shoal_fail(loader->log, SHOAL_NO_MEMORY, "%s: tensor %s: no memory for its scales",
                          file_of(loader, scale), scale->name);
    shoal_status status = read_scales(value, loader, scale, block0, n_block_row);
    if (status == SHOAL_OK)
        apply_scales(dst, value, row0, n_row, n_col);
    free(value);
    return status;
}

shoal_status shoal_load_rows_f32(float *dst, shoal_loader *loader, const char *name, int32_t row0,
                                 int32_t n_row, int32_t n_col)
{
    const shoal_tensor_info *t = NULL;
    shoal_format format = SHOAL_FORMAT_F32;
    SHOAL_TRY(find_rows(&t, &format, loader, name, n_col));
    if (row0 < 0 || n_row < 0 || n_row > t->shape[0] - row0) {
        char shape[64];
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has shape %s, wanted rows %d to %lld", file_of(loader, t),
                          t->name, shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim), row0,
                          (long long)row0 + n_row);
    }
    if (n_row == 0 || n_col == 0)
        return SHOAL_OK;
    SHOAL_TRY(read_f32(dst, loader, t, (int64_t)row0 * n_col, (int64_t)n_row * n_col));
    if (format == SHOAL_FORMAT_FP8_BLOCK)
        return scale_rows(dst, loader, t, row0, n_row);
    return SHOAL_OK;
}

shoal_status shoal_load_vector(float *dst, shoal_loader *loader, const char *name, int32_t n)
{
    const shoal_tensor_info *t = NULL;
    SHOAL_TRY(find_vector(&t, loader, name, n));
    return read_f32(dst, loader, t, 0, n);
}
