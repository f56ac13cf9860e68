/* What a weight reference means in this checkpoint: the tensors it is made of, checked in shape and
 * dtype, the rows that are wanted of them, and the format they pack to. Reads no data. Layering:
 * inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_SOURCE_H
#define SHOAL_CHECKPOINT_SOURCE_H

#include "runtime/checkpoint/load.h"
#include "runtime/checkpoint/view.h"

#define SHOAL_ANY_ROWS (-1)

typedef struct shoal__source {
    const shoal_tensor_info *tensor; /* [n_stored_row, n_col], or [*, n_stored_row, n_col] */
    const shoal_tensor_info *scale; /* F8_E4M3: NAME_scale_inv; MXFP4 as two tensors: NAME_scales */
    bool mxfp4_pair;                /* tensor is NAME_blocks [*, n_stored_row, n_col / 32, 16] */
    const shoal__view *view;        /* PAIRED_ROWS or KV_B, else NULL */
    shoal_format format;            /* what it packs to */
    bool via_f32;                   /* it is packed from its f32 values, not as stored */
    bool transposed;                /* a slice is stored as [n_col, n_stored_row] */
    int64_t slice;                  /* 0 if the tensor is one matrix */
    int32_t n_stored_row;
    int32_t row0, row_step; /* stored rows row0, row0 + row_step, ... are rows 0, 1, ... */
    int32_t n_row, n_col;   /* n_row: as wanted; all there are for SHOAL_ANY_ROWS */
} shoal__source;

/* Bytes of a row of n_col elements, as stored. */
size_t shoal__source_row_bytes(const shoal__source *source);

/* Blocks of 128 that hold n rows or columns. */
int32_t shoal__fp8_n_block(int32_t n);

/* A matrix. n_row may be SHOAL_ANY_ROWS. Errors: BAD_DATA naming file, tensor, found, wanted. */
shoal_status shoal__source_find(shoal__source *source, const shoal_loader *loader,
                                shoal_weight_ref ref, int32_t n_row, int32_t n_col);

/* A vector: a source of n rows of one column, F32, F16 or BF16. */
shoal_status shoal__source_find_vector(shoal__source *source, const shoal_loader *loader,
                                       shoal_weight_ref ref, int32_t n);

#endif
