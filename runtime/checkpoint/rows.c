#include "runtime/checkpoint/rows.h"

#include "runtime/checkpoint/dequant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *file_of(const shoal_loader *loader, const shoal_tensor_info *t)
{
    return shoal_checkpoint_file_name(loader->checkpoint, t);
}

static int32_t min_i32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static shoal_status no_memory(const shoal__rows *r, size_t n_bytes)
{
    return shoal_fail(r->loader->log, SHOAL_NO_MEMORY,
                      "%s: tensor %s: no memory to read its rows: wanted %zu bytes",
                      file_of(r->loader, r->source->tensor), r->source->tensor->name, n_bytes);
}

/* Make the piece hold n_bytes, the least that a tensor can be read in. */
static shoal_status grow_piece(shoal__rows *r, size_t n_bytes)
{
    shoal_loader *loader = r->loader;
    if (n_bytes <= loader->piece_bytes)
        return SHOAL_OK;
    void *piece = realloc(loader->piece, n_bytes);
    if (piece == NULL)
        return no_memory(r, n_bytes);
    loader->piece = piece;
    loader->piece_bytes = n_bytes;
    return SHOAL_OK;
}

static shoal_status read_bytes(shoal__rows *r, void *dst, const shoal_tensor_info *t,
                               uint64_t first, size_t n_bytes)
{
    shoal_loader *loader = r->loader;
    SHOAL_TRY(shoal_checkpoint_read(loader->checkpoint, t, first, n_bytes, dst));
    if (loader->progress != NULL)
        loader->progress(loader->progress_arg, n_bytes);
    return SHOAL_OK;
}

/* -- scales of F8_E4M3 -- */

shoal_status shoal__rows_read_scales(float *dst, shoal__rows *rows, int32_t block0, int32_t n_block)
{
    const shoal__source *s = rows->source;
    const shoal_tensor_info *t = s->scale;
    size_t n_col = (size_t)shoal__fp8_n_block(s->n_col);
    size_t n = (size_t)n_block * n_col;
    size_t n_bytes = n * shoal_dtype_bytes(t->dtype);
    uint64_t first =
        (uint64_t)s->slice * (uint64_t)shoal__fp8_n_block(s->n_stored_row) + (uint64_t)block0;
    SHOAL_TRY(grow_piece(rows, n_bytes));
    SHOAL_TRY(read_bytes(rows, rows->loader->piece, t, first * n_col * shoal_dtype_bytes(t->dtype),
                         n_bytes));
    shoal__to_f32(dst, rows->loader->piece, t->dtype, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(dst[i]) || dst[i] < 0)
            return shoal_fail(rows->loader->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: the scale of block [%zu, %zu] is %g, wanted a "
                              "finite number >= 0",
                              file_of(rows->loader, t), t->name, (size_t)first + i / n_col,
                              i % n_col, (double)dst[i]);
    return SHOAL_OK;
}

/* Multiply rows [row, row + n_row) of the source by their blocks' scales. */
static void apply_scales(float *x, const shoal__rows *r, int32_t row, int32_t n_row)
{
    const shoal__source *s = r->source;
    int32_t n_scale_col = shoal__fp8_n_block(s->n_col);
    for (int32_t i = 0; i < n_row; i++) {
        int32_t stored_row = s->row0 + (row + i) * s->row_step;
        int32_t block = stored_row / SHOAL_FP8_BLOCK - r->fp8_block0;
        const float *row_scale = r->fp8_scale + (int64_t)block * n_scale_col;
        float *x_row = x + (int64_t)i * s->n_col;
        for (int32_t c = 0; c < s->n_col; c++)
            x_row[c] *= row_scale[c / SHOAL_FP8_BLOCK];
    }
}

static shoal_status open_scales(shoal__rows *r)
{
    const shoal__source *s = r->source;
    int32_t last = s->row0 + (s->n_row - 1) * s->row_step;
    r->fp8_block0 = s->row0 / SHOAL_FP8_BLOCK;
    int32_t n_block = last / SHOAL_FP8_BLOCK - r->fp8_block0 + 1;
    size_t n_bytes = (size_t)n_block * (size_t)shoal__fp8_n_block(s->n_col) * sizeof *r->fp8_scale;
    r->fp8_scale = malloc(n_bytes);
    if (r->fp8_scale == NULL)
        return no_memory(r, n_bytes);
    return shoal__rows_read_scales(r->fp8_scale, r, r->fp8_block0, n_block);
}

/* -- scales of MXFP4 in two tensors -- */

static shoal_status open_mxfp4_scales(shoal__rows *r)
{
    const shoal__source *s = r->source;
    size_t n_group = (size_t)s->n_col / SHOAL_GROUP;
    size_t n_span = ((size_t)(s->n_row - 1) * (size_t)s->row_step + 1) * n_group;
    r->mxfp4_scale = malloc(n_span);
    if (r->mxfp4_scale == NULL)
        return no_memory(r, n_span);
    uint64_t first = (uint64_t)s->slice * (uint64_t)s->n_stored_row + (uint64_t)s->row0;
    SHOAL_TRY(read_bytes(r, r->mxfp4_scale, s->scale, first * n_group, n_span));
    for (int32_t i = 0; i < s->n_row; i++) {
        uint8_t *row = r->mxfp4_scale + (size_t)i * n_group;
        memmove(row, r->mxfp4_scale + (size_t)i * (size_t)s->row_step * n_group, n_group);
        if (memchr(row, 0xff, n_group) != NULL)
            return shoal_fail(r->loader->log, SHOAL_BAD_DATA,
                              "%s: tensor %s: a scale of row %d of slice %lld is 255 (not a "
                              "number), wanted 0 to 254",
                              file_of(r->loader, s->scale), s->scale->name,
                              s->row0 + i * s->row_step, (long long)s->slice);
    }
    return SHOAL_OK;
}

const uint8_t *shoal__rows_mxfp4_scales(const shoal__rows *rows, int32_t row)
{
    return rows->mxfp4_scale + (size_t)row * ((size_t)rows->source->n_col / SHOAL_GROUP);
}

/* -- rows -- */

/* Stored rows from one row to the next in what a read brings into the piece. */
static size_t step_in_piece(const shoal__source *s)
{
    return s->transposed || s->view != NULL ? 1 : (size_t)s->row_step;
}

/* The span of stored rows that n rows lie in. */
static size_t span_bytes(const shoal__rows *r, int32_t n)
{
    return n == 0 ? 0 : ((size_t)(n - 1) * step_in_piece(r->source) + 1) * r->row_bytes;
}

static shoal_status open_slice(shoal__rows *r)
{
    const shoal__source *s = r->source;
    size_t n_bytes = (size_t)s->n_stored_row * r->row_bytes;
    r->slice = malloc(n_bytes);
    if (r->slice == NULL)
        return no_memory(r, n_bytes);
    return read_bytes(r, r->slice, s->tensor, (uint64_t)s->slice * n_bytes, n_bytes);
}

shoal_status shoal__rows_open(shoal__rows *rows, shoal_loader *loader, const shoal__source *source,
                              bool as_f32)
{
    const shoal__source *s = source;
    shoal__rows r = {.loader = loader, .source = source};
    r.row_bytes = shoal__source_row_bytes(s);
    shoal_status status = SHOAL_OK;
    if (s->n_row > 0 && r.row_bytes > 0) {
        status = grow_piece(&r, span_bytes(&r, min_i32(SHOAL_BAND, s->n_row)));
        size_t step_bytes = r.row_bytes * step_in_piece(s);
        size_t n_band = loader->piece_bytes / step_bytes / SHOAL_BAND;
        size_t n_all = (size_t)(s->n_row - 1) / SHOAL_BAND + 1;
        /* 0: one band, whose last row may end the piece */
        r.n_step = (int32_t)(n_band < 1 ? 1 : n_band < n_all ? n_band : n_all) * SHOAL_BAND;
        if (status == SHOAL_OK && s->transposed)
            status = open_slice(&r);
        if (status == SHOAL_OK && s->mxfp4_pair)
            status = open_mxfp4_scales(&r);
        else if (status == SHOAL_OK && as_f32 && s->scale != NULL)
            status = open_scales(&r);
    }
    if (status != SHOAL_OK) {
        shoal__rows_close(&r);
        return status;
    }
    *rows = r;
    return SHOAL_OK;
}

void shoal__rows_close(shoal__rows *rows)
{
    free(rows->slice);
    free(rows->fp8_scale);
    free(rows->mxfp4_scale);
    *rows = (shoal__rows){0};
}

/* Columns [row, row + n) of the slice become rows of the piece. */
static void gather_columns(const shoal__rows *r, int32_t row, int32_t n)
{
    const shoal__source *s = r->source;
    size_t bytes = shoal_dtype_bytes(s->tensor->dtype);
    unsigned char *dst = r->loader->piece;
    for (int32_t c = 0; c < s->n_col; c++) {
        const unsigned char *line = r->slice + (size_t)c * (size_t)s->n_stored_row * bytes;
        for (int32_t i = 0; i < n; i++) {
            size_t from = (size_t)s->row0 + (size_t)(row + i) * (size_t)s->row_step;
            memcpy(dst + (size_t)i * r->row_bytes + (size_t)c * bytes, line + from * bytes, bytes);
        }
    }
}

/* Rows of heads whose halves are stored as pairs (SHOAL__VIEW_PAIRED_ROWS). */
static shoal_status read_paired(shoal__rows *r, int32_t row, int32_t n)
{
    const shoal__source *s = r->source;
    int32_t d = s->n_stored_row / s->view->n_head;
    unsigned char *to = r->loader->piece;
    for (int32_t k = 0; k < n; k++, to += r->row_bytes) {
        int32_t at = s->row0 + (row + k) * s->row_step;
        int32_t head = at / d, j = at % d / (d / 2), i = at % (d / 2);
        uint64_t stored = (uint64_t)head * (uint64_t)d + 2 * (uint64_t)i + (uint64_t)j;
        SHOAL_TRY(read_bytes(r, to, s->tensor, stored * r->row_bytes, r->row_bytes));
    }
    return SHOAL_OK;
}

/* kv_b from k_b and v_b (SHOAL__VIEW_KV_B), as f32. */
static shoal_status read_kv_b(float *dst, shoal__rows *r, int32_t row, int32_t n)
{
    const shoal__source *s = r->source;
    const shoal_tensor_info *k_b = &s->view->part[0], *v_b = &s->view->part[1];
    size_t rank = (size_t)s->n_col, nope = (size_t)k_b->shape[2], v_dim = (size_t)v_b->shape[1];
    size_t k_bytes = (size_t)(k_b->n_bytes / (uint64_t)s->view->n_head);
    size_t v_bytes = rank / shoal_dtype_block(v_b->dtype) * shoal_dtype_bytes(v_b->dtype);
    SHOAL_TRY(grow_piece(r, k_bytes > v_bytes ? k_bytes : v_bytes));
    float *k = malloc((rank * nope + 1) * sizeof *k); /* [rank, nope] of one head */
    if (k == NULL)
        return no_memory(r, rank * nope * sizeof *k);
    size_t k_head = SIZE_MAX;
    shoal_status status = SHOAL_OK;
    for (int32_t i = 0; i < n && status == SHOAL_OK; i++, dst += rank) {
        size_t at = (size_t)s->row0 + (size_t)(row + i) * (size_t)s->row_step;
        size_t head = at / (nope + v_dim), inner = at % (nope + v_dim);
        if (inner >= nope) {
            size_t v_row = head * v_dim + inner - nope;
            status = read_bytes(r, r->loader->piece, v_b, v_row * v_bytes, v_bytes);
            if (status == SHOAL_OK)
                shoal__to_f32(dst, r->loader->piece, v_b->dtype, rank);
            continue;
        }
        if (head != k_head) {
            status = read_bytes(r, r->loader->piece, k_b, head * k_bytes, k_bytes);
            if (status == SHOAL_OK)
                shoal__to_f32(k, r->loader->piece, k_b->dtype, rank * nope);
            k_head = head;
        }
        for (size_t c = 0; c < rank && status == SHOAL_OK; c++)
            dst[c] = k[c * nope + inner];
    }
    free(k);
    return status;
}

shoal_status shoal__rows_read(shoal__rows *rows, int32_t row, int32_t n)
{
    const shoal__source *s = rows->source;
    if (s->transposed) {
        gather_columns(rows, row, n);
        return SHOAL_OK;
    }
    if (s->view != NULL) /* kv_b is read as f32 only */
        return read_paired(rows, row, n);
    uint64_t stored_row = (uint64_t)s->slice * (uint64_t)s->n_stored_row + (uint64_t)s->row0 +
                          (uint64_t)row * (uint64_t)s->row_step;
    unsigned char *piece = rows->loader->piece;
    SHOAL_TRY(
        read_bytes(rows, piece, s->tensor, stored_row * rows->row_bytes, span_bytes(rows, n)));
    for (int32_t i = 1; i < n && s->row_step > 1; i++)
        memmove(piece + (size_t)i * rows->row_bytes,
                piece + (size_t)i * (size_t)s->row_step * rows->row_bytes, rows->row_bytes);
    return SHOAL_OK;
}

void shoal__rows_to_f32(float *dst, const shoal__rows *rows, const void *stored, int32_t row,
                        int32_t n)
{
    const shoal__source *s = rows->source;
    size_t n_elem = (size_t)n * (size_t)s->n_col;
    if (s->mxfp4_pair)
        shoal__mxfp4_to_f32(dst, stored, shoal__rows_mxfp4_scales(rows, row), n_elem);
    else
        shoal__to_f32(dst, stored, s->tensor->dtype, n_elem);
    if (rows->fp8_scale != NULL)
        apply_scales(dst, rows, row, n);
}

shoal_status shoal__rows_read_f32(float *dst, shoal__rows *rows, int32_t row, int32_t n)
{
    const shoal__source *s = rows->source;
    if (s->view != NULL && s->view->kind == SHOAL__VIEW_KV_B)
        return read_kv_b(dst, rows, row, n);
    for (int32_t at = 0; at < n; at += rows->n_step) {
        int32_t n_here = min_i32(rows->n_step, n - at);
        float *to = dst + (size_t)at * (size_t)s->n_col;
        SHOAL_TRY(shoal__rows_read(rows, row + at, n_here));
        shoal__rows_to_f32(to, rows, rows->loader->piece, row + at, n_here);
    }
    return SHOAL_OK;
}
