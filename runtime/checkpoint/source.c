#include "runtime/checkpoint/source.h"

#include "runtime/checkpoint/dequant.h"
#include "runtime/checkpoint/safetensors.h"

#include <string.h>

#define ANY (-1) /* a dimension that is not checked */
#define UNSUPPORTED                                                                                \
    "%s: tensor %s has dtype %s, wanted a weight in F32, F16, BF16, F8_E4M3, MXFP4 (or, in GGUF, " \
    "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K)"

static const char *file_of(const shoal_loader *loader, const shoal_tensor_info *t)
{
    return shoal_checkpoint_file_name(loader->checkpoint, t);
}

/* As the file calls it. */
static const char *dtype_of(const shoal_tensor_info *t)
{
    return t->dtype == SHOAL_DTYPE_OTHER ? t->dtype_text : shoal_dtype_text(t->dtype);
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

/* NAME followed by a suffix; NULL if there is no such tensor. */
static const shoal_tensor_info *find_suffixed(const shoal_loader *loader, const char *name,
                                              const char *suffix)
{
    char full[SHOAL_TENSOR_NAME_MAX_BYTES + 16];
    int n = snprintf(full, sizeof full, "%s%s", name, suffix);
    return n < (int)sizeof full ? shoal_checkpoint_find(loader->checkpoint, full) : NULL;
}

/* A wanted shape, some of its dimensions ANY. */
typedef struct wanted_shape {
    int32_t n_dim;
    int64_t dim[4];
} wanted_shape;

static wanted_shape shape_of_ref(shoal_weight_ref ref, int64_t first, int64_t second)
{
    wanted_shape shape = {0};
    if (ref.slice >= 0)
        shape.dim[shape.n_dim++] = ref.n_slice;
    shape.dim[shape.n_dim++] = first;
    shape.dim[shape.n_dim++] = second;
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
    const shoal_tensor_info *t = find_suffixed(loader, s->tensor->name, "_scale_inv");
    if (t == NULL)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "model %s: tensor %s_scale_inv is missing, wanted the block scales of an "
                          "F8_E4M3 weight",
                          shoal_checkpoint_path(loader->checkpoint), s->tensor->name);
    if (t->dtype != SHOAL_DTYPE_F32 && t->dtype != SHOAL_DTYPE_BF16 &&
        t->dtype != SHOAL_DTYPE_F8_E8M0)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted F32, BF16 or F8_E8M0",
                          file_of(loader, t), t->name, dtype_of(t));
    wanted_shape wanted =
        shape_of_ref(ref, shoal__fp8_n_block(s->n_stored_row), shoal__fp8_n_block(s->n_col));
    SHOAL_TRY(check_shape(loader, t, &wanted));
    s->scale = t;
    return SHOAL_OK;
}

/* Fills the rows that a reference takes; the shape of s->tensor is checked already. */
static shoal_status take_rows(shoal__source *s, const shoal_loader *loader, shoal_weight_ref ref,
                              int32_t n_row)
{
    int64_t n_left = (int64_t)s->n_stored_row - ref.row0;
    int64_t n_there = n_left <= 0 || ref.row_step < 1 ? 0 : (n_left - 1) / ref.row_step + 1;
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

/* A fused tensor that is stored in two: *t becomes the one that has the rows, *ref what they are in
 * it. n_dim: 2 of a matrix, 1 of a vector. */
static shoal_status take_part(const shoal_tensor_info **t, shoal_weight_ref *ref,
                              const shoal_loader *loader, int32_t n_row, int32_t n_dim)
{
    const shoal_tensor_info *fused = *t;
    bool interleaved = fused->view->kind == SHOAL__VIEW_INTERLEAVED;
    int32_t n_half = (int32_t)(fused->shape[fused->n_dim - n_dim] / 2);
    int32_t part = interleaved ? ref->row0 & 1 : ref->row0 >= n_half;
    bool ok = ref->row0 >= 0 &&
              (interleaved ? ref->row_step == 2
                           : ref->row_step == 1 && (part == 1 || n_row <= n_half - ref->row0));
    if (!ok)
        return shoal_fail(loader->log, SHOAL_FAILED,
                          "%s: tensor %s: asked for %d rows from row %d on in steps of %d; it is "
                          "stored in two, wanted rows of one of them (an error in Shoal)",
                          file_of(loader, fused), fused->name, n_row, ref->row0, ref->row_step);
    *t = &fused->view->part[part];
    ref->row0 = interleaved ? ref->row0 / 2 : ref->row0 - part * n_half;
    ref->row_step = 1;
    ref->n_stored_row = n_half;
    return SHOAL_OK;
}

/* The tensor of a reference, checked in shape, and the rows that are wanted of it. */
static shoal_status find_rows(shoal__source *s, const shoal_loader *loader, shoal_weight_ref *ref,
                              int32_t n_row, int32_t n_dim)
{
    const shoal_tensor_info *t = NULL;
    SHOAL_TRY(find_tensor(&t, loader, ref->name, n_dim == 2 ? "a matrix" : "a vector"));
    int32_t n_stored = ref->n_stored_row > 0 ? ref->n_stored_row : n_row;
    s->transposed = ref->transposed && n_dim == 2 && t->view == NULL;
    wanted_shape wanted = s->transposed ? shape_of_ref(*ref, s->n_col, n_stored)
                                        : shape_of_ref(*ref, n_stored, s->n_col);
    wanted.n_dim -= 2 - n_dim; /* the column of a vector is not written down */
    SHOAL_TRY(check_shape(loader, t, &wanted));
    int32_t row_dim = t->n_dim - (s->transposed ? 1 : n_dim);
    if (t->view != NULL &&
        (t->view->kind == SHOAL__VIEW_INTERLEAVED || t->view->kind == SHOAL__VIEW_HALVES))
        SHOAL_TRY(take_part(&t, ref, loader, n_row, n_dim));
    else if (t->view != NULL && t->view->kind != SHOAL__VIEW_ROWS)
        s->view = t->view;
    s->tensor = t;
    s->n_stored_row = (int32_t)t->shape[row_dim];
    return take_rows(s, loader, *ref, n_row);
}

/* NAME_blocks and NAME_scales, as gpt-oss releases MXFP4. */
static shoal_status find_mxfp4_pair(shoal__source *s, const shoal_loader *loader,
                                    shoal_weight_ref ref, int32_t n_row)
{
    const shoal_tensor_info *blocks = s->tensor;
    const shoal_tensor_info *scales = find_suffixed(loader, ref.name, "_scales");
    if (scales == NULL)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "model %s: tensor %s_scales is missing, wanted the scales of %s",
                          shoal_checkpoint_path(loader->checkpoint), ref.name, blocks->name);
    if (blocks->dtype != SHOAL_DTYPE_U8)
        return shoal_fail(loader->log, SHOAL_BAD_DATA, "%s: tensor %s has dtype %s, wanted U8",
                          file_of(loader, blocks), blocks->name, dtype_of(blocks));
    if (scales->dtype != SHOAL_DTYPE_U8 && scales->dtype != SHOAL_DTYPE_F8_E8M0)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted U8 or F8_E8M0",
                          file_of(loader, scales), scales->name, dtype_of(scales));
    if (s->n_col % SHOAL_GROUP != 0)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: a row of %d elements has no whole blocks of %d",
                          file_of(loader, blocks), blocks->name, s->n_col, SHOAL_GROUP);
    int32_t n_stored = ref.n_stored_row > 0 ? ref.n_stored_row : n_row;
    wanted_shape wanted = shape_of_ref(ref, n_stored, s->n_col / SHOAL_GROUP);
    SHOAL_TRY(check_shape(loader, scales, &wanted));
    int32_t n_dim = wanted.n_dim;
    wanted.dim[n_dim - 2] = scales->shape[n_dim - 2];
    wanted.dim[wanted.n_dim++] = SHOAL_GROUP / 2;
    SHOAL_TRY(check_shape(loader, blocks, &wanted));
    s->n_stored_row = (int32_t)scales->shape[n_dim - 2];
    s->scale = scales;
    s->mxfp4_pair = true;
    s->format = SHOAL_FORMAT_MXFP4;
    s->transposed = false; /* that is how the unquantised release lies */
    return take_rows(s, loader, ref, n_row);
}

/* kv_b in two tensors, which may differ in dtype. */
static shoal_status find_kv_b_format(shoal__source *s, const shoal_loader *loader)
{
    for (int32_t i = 0; i < 2; i++) {
        const shoal_tensor_info *t = &s->view->part[i];
        if (!shoal__is_float_dtype(t->dtype))
            return shoal_fail(loader->log, SHOAL_BAD_DATA, UNSUPPORTED, file_of(loader, t), t->name,
                              dtype_of(t));
    }
    s->format = SHOAL_FORMAT_F32;
    s->via_f32 = true;
    return SHOAL_OK;
}

static shoal_status find_format(shoal__source *s, const shoal_loader *loader, shoal_weight_ref ref)
{
    const shoal_tensor_info *t = s->tensor;
    if (s->view != NULL && s->view->kind == SHOAL__VIEW_KV_B)
        return find_kv_b_format(s, loader);
    bool blocks = shoal_dtype_block(t->dtype) > 1;
    if (blocks && (s->transposed || s->n_col % (int32_t)shoal_dtype_block(t->dtype) != 0))
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s: its rows are no whole blocks of %zu elements of %s",
                          file_of(loader, t), t->name, shoal_dtype_block(t->dtype), dtype_of(t));
    if (t->dtype == SHOAL_DTYPE_MXFP4) {
        s->format = SHOAL_FORMAT_MXFP4;
    } else if (t->dtype == SHOAL_DTYPE_Q8_0 || t->dtype == SHOAL_DTYPE_Q4_0) {
        s->format = t->dtype == SHOAL_DTYPE_Q8_0 ? SHOAL_FORMAT_Q8 : SHOAL_FORMAT_Q4;
    } else if (blocks) {
        s->format = SHOAL_FORMAT_F32;
        s->via_f32 = true;
    } else if (!shoal_format_of_dtype(&s->format, t->dtype)) {
        return shoal_fail(loader->log, SHOAL_BAD_DATA, UNSUPPORTED, file_of(loader, t), t->name,
                          dtype_of(t));
    }
    if (s->format != SHOAL_FORMAT_FP8_BLOCK)
        return SHOAL_OK;
    if (s->transposed)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype F8_E4M3, wanted F32, F16 or BF16 in a tensor "
                          "that lies transposed",
                          file_of(loader, t), t->name);
    SHOAL_TRY(find_fp8_scale(s, loader, ref));
    /* The packed format has its blocks at multiples of 128 rows, too. */
    s->via_f32 = s->row0 % SHOAL_FP8_BLOCK != 0 || (s->row_step != 1 && s->n_row > 1);
    if (s->via_f32)
        s->format = SHOAL_FORMAT_F32;
    return SHOAL_OK;
}

/* From what is stored to what is chosen; load.h has the rules. */
static void choose_format(shoal__source *s, shoal_weights_choice weights)
{
    shoal_format wanted = s->format;
    bool few_bits = s->format == SHOAL_FORMAT_MXFP4 || s->format == SHOAL_FORMAT_Q4;
    if (weights == SHOAL_WEIGHTS_BF16)
        wanted = SHOAL_FORMAT_BF16;
    else if (weights == SHOAL_WEIGHTS_Q8 && !few_bits)
        wanted = SHOAL_FORMAT_Q8;
    else if (weights == SHOAL_WEIGHTS_Q4 && !few_bits)
        wanted = SHOAL_FORMAT_Q4;
    s->via_f32 = s->via_f32 || wanted != s->format;
    s->format = wanted;
}

shoal_status shoal__source_find(shoal__source *source, const shoal_loader *loader,
                                shoal_weight_ref ref, int32_t n_row, int32_t n_col)
{
    shoal__source s = {.n_col = n_col};
    if (shoal_checkpoint_find(loader->checkpoint, ref.name) == NULL)
        s.tensor = find_suffixed(loader, ref.name, "_blocks");
    if (s.tensor != NULL) {
        SHOAL_TRY(find_mxfp4_pair(&s, loader, ref, n_row));
    } else {
        SHOAL_TRY(find_rows(&s, loader, &ref, n_row, 2));
        SHOAL_TRY(find_format(&s, loader, ref));
    }
    choose_format(&s, ref.weights);
    *source = s;
    return SHOAL_OK;
}

shoal_status shoal__source_find_vector(shoal__source *source, const shoal_loader *loader,
                                       shoal_weight_ref ref, int32_t n)
{
    shoal__source s = {.n_col = 1};
    SHOAL_TRY(find_rows(&s, loader, &ref, n, 1));
    shoal_dtype dtype = s.tensor->dtype;
    if (dtype != SHOAL_DTYPE_F32 && dtype != SHOAL_DTYPE_F16 && dtype != SHOAL_DTYPE_BF16)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted F32, F16 or BF16",
                          file_of(loader, s.tensor), s.tensor->name, dtype_of(s.tensor));
    s.format = SHOAL_FORMAT_F32;
    s.via_f32 = dtype != SHOAL_DTYPE_F32;
    *source = s;
    return SHOAL_OK;
}

size_t shoal__source_row_bytes(const shoal__source *source)
{
    const shoal_tensor_info *t = source->tensor;
    if (source->mxfp4_pair)
        return (size_t)source->n_col / 2;
    return (size_t)source->n_col / shoal_dtype_block(t->dtype) * shoal_dtype_bytes(t->dtype);
}
