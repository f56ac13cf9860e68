#include "runtime/checkpoint/source.h"

#include "runtime/checkpoint/safetensors.h"

#include <string.h>

#define SCALE_SUFFIX "_scale_inv"
#define ANY          (-1) /* a dimension that is not checked */

static const char *file_of(const shoal_loader *loader, const shoal_tensor_info *t)
{
    return shoal_checkpoint_file_name(loader->checkpoint, t);
}

int32_t shoal__fp8_n_block(int32_t n)
{
    return (int32_t)(((int64_t)n + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK);
}

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

/* A wanted shape of up to 3 dimensions, some of them ANY. */
typedef struct wanted_shape {
    int32_t n_dim;
    int64_t dim[3];
} wanted_shape;

static wanted_shape shape_of_ref(shoal_weight_ref ref, int64_t n_row, int64_t n_col,
                                 bool transposed)
{
    wanted_shape shape = {0};
    if (ref.slice >= 0)
        shape.dim[shape.n_dim++] = ref.n_slice;
    shape.dim[shape.n_dim++] = transposed ? n_col : n_row;
    shape.dim[shape.n_dim++] = transposed ? n_row : n_col;
    return shape;
}

static shoal_status check_shape(const shoal_loader *loader, const shoal_tensor_info *t,
                                const wanted_shape *wanted)
{
    bool ok = t->n_dim == wanted->n_dim;
    for (int32_t i = 0; ok && i < wanted->n_dim; i++)
        ok = wanted->dim[i] == ANY ? t->shape[i] <= INT32_MAX : t->shape[i] == wanted->dim[i];
    if (ok)
        return SHOAL_OK;
    char found[256];
    char text[128];
    size_t at = 0;
    for (int32_t i = 0; i < wanted->n_dim; i++) {
        const char *before = i == 0 ? "[" : ", ";
        at += (size_t)(wanted->dim[i] == ANY ? snprintf(text + at, sizeof text - at, "%s*", before)
                                             : snprintf(text + at, sizeof text - at, "%s%lld",
                                                        before, (long long)wanted->dim[i]));
    }
    return shoal_fail(loader->log, SHOAL_BAD_DATA, "%s: tensor %s has shape %s, wanted %s]",
                      file_of(loader, t), t->name,
                      shoal__shape_text(found, sizeof found, t->shape, t->n_dim), text);
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

/* NAME_scale_inv of an F8_E4M3 source. */
static shoal_status find_fp8_scale(shoal__source *s, const shoal_loader *loader,
                                   shoal_weight_ref ref)
{
    SHOAL_TRY(check_block_size(loader, s->tensor));
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + sizeof SCALE_SUFFIX];
    snprintf(name, sizeof name, "%s" SCALE_SUFFIX, s->tensor->name);
    const shoal_tensor_info *t = NULL;
    SHOAL_TRY(find_tensor(&t, loader, name, "the block scales of an F8_E4M3 weight"));
    if (t->dtype != SHOAL_DTYPE_F32 && t->dtype != SHOAL_DTYPE_BF16)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted F32 or BF16", file_of(loader, t),
                          t->name, shoal_dtype_text(t->dtype));
    wanted_shape wanted =
        shape_of_ref(ref, shoal__fp8_n_block(s->n_stored_row), shoal__fp8_n_block(s->n_col), false);
    SHOAL_TRY(check_shape(loader, t, &wanted));
    s->scale = t;
    return SHOAL_OK;
}

/* Fills the rows that a reference takes; the shape of s->tensor is checked already. */
static shoal_status take_rows(shoal__source *s, const shoal_loader *loader, shoal_weight_ref ref,
                              int32_t n_row)
{
    int64_t n_left = (int64_t)s->n_stored_row - ref.row0;
    int64_t n_there = n_left <= 0 ? 0 : (n_left + ref.row_step - 1) / ref.row_step;
    if (ref.row0 < 0 || ref.row_step < 1 || n_row > n_there ||
        (ref.slice >= 0 && ref.slice >= ref.n_slice))
        return shoal_fail(loader->log, SHOAL_FAILED,
                          "%s: tensor %s: asked for slice %d and %d rows from row %d on in steps "
                          "of %d; a slice has %d rows (an error in Shoal)",
                          file_of(loader, s->tensor), s->tensor->name, ref.slice, n_row, ref.row0,
                          ref.row_step, s->n_stored_row);
    s->slice = ref.slice >= 0 ? ref.slice : 0;
    s->row0 = ref.row0;
    s->row_step = ref.row_step;
    s->n_row = n_row == SHOAL_ANY_ROWS ? (int32_t)n_there : n_row;
    return SHOAL_OK;
}

shoal_status shoal__source_find(shoal__source *source, const shoal_loader *loader,
                                shoal_weight_ref ref, int32_t n_row, int32_t n_col)
{
    shoal__source s = {.n_col = n_col, .transposed = ref.transposed};
    SHOAL_TRY(find_tensor(&s.tensor, loader, ref.name, "a matrix"));
    int32_t n_stored = ref.n_stored_row > 0 ? ref.n_stored_row : n_row;
    wanted_shape wanted = shape_of_ref(ref, n_stored, n_col, s.transposed);
    SHOAL_TRY(check_shape(loader, s.tensor, &wanted));
    s.n_stored_row = (int32_t)s.tensor->shape[s.tensor->n_dim - (s.transposed ? 1 : 2)];
    SHOAL_TRY(take_rows(&s, loader, ref, n_row));
    if (!shoal_format_of_dtype(&s.format, s.tensor->dtype))
        return shoal_fail(
            loader->log, SHOAL_BAD_DATA,
            "%s: tensor %s has dtype %s, wanted a weight in F32, F16, BF16 or F8_E4M3",
            file_of(loader, s.tensor), s.tensor->name, shoal_dtype_text(s.tensor->dtype));
    if (s.format == SHOAL_FORMAT_FP8_BLOCK) {
        if (s.transposed)
            return shoal_fail(loader->log, SHOAL_BAD_DATA,
                              "%s: tensor %s has dtype F8_E4M3, wanted F32, F16 or BF16 in a "
                              "tensor that lies transposed",
                              file_of(loader, s.tensor), s.tensor->name);
        SHOAL_TRY(find_fp8_scale(&s, loader, ref));
        /* The packed format has its blocks at multiples of 128 rows, too. */
        s.as_f32 = s.row0 % SHOAL_FP8_BLOCK != 0 || (s.row_step != 1 && s.n_row > 1);
        if (s.as_f32)
            s.format = SHOAL_FORMAT_F32;
    }
    *source = s;
    return SHOAL_OK;
}

shoal_status shoal__source_find_vector(shoal__source *source, const shoal_loader *loader,
                                       shoal_weight_ref ref, int32_t n)
{
    shoal__source s = {.n_col = 1};
    SHOAL_TRY(find_tensor(&s.tensor, loader, ref.name, "a vector"));
    wanted_shape wanted = shape_of_ref(ref, ref.n_stored_row > 0 ? ref.n_stored_row : n, 1, false);
    wanted.n_dim--; /* the column is not written down */
    SHOAL_TRY(check_shape(loader, s.tensor, &wanted));
    s.n_stored_row = (int32_t)s.tensor->shape[s.tensor->n_dim - 1];
    SHOAL_TRY(take_rows(&s, loader, ref, n));
    shoal_dtype dtype = s.tensor->dtype;
    if (dtype != SHOAL_DTYPE_F32 && dtype != SHOAL_DTYPE_F16 && dtype != SHOAL_DTYPE_BF16)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted F32, F16 or BF16",
                          file_of(loader, s.tensor), s.tensor->name, shoal_dtype_text(dtype));
    s.format = SHOAL_FORMAT_F32;
    s.as_f32 = dtype != SHOAL_DTYPE_F32;
    *source = s;
    return SHOAL_OK;
}
