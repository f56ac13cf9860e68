/* A tensor that a checkpoint offers under one name but stores otherwise: GGUF keeps some tensors
 * rearranged or in two. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_VIEW_H
#define SHOAL_CHECKPOINT_VIEW_H

#include "runtime/checkpoint/checkpoint.h"

typedef enum shoal__view_kind {
    /* As it lies: rows, also where the family's own release has the transpose. */
    SHOAL__VIEW_ROWS,
    /* Rows of each head as pairs: stored row h * d + 2 * i + j is row h * d + j * d / 2 + i, j = 0,
     * 1 (llama.cpp's permutation of q and k). Dtype, offset and bytes are the tensor's own. */
    SHOAL__VIEW_PAIRED_ROWS,
    /* Rows 2 * i + j of a slice are row i of part[j]. */
    SHOAL__VIEW_INTERLEAVED,
    /* Rows j * n / 2 + i of a slice of n rows are row i of part[j]. */
    SHOAL__VIEW_HALVES,
    /* kv_b: per head, the columns of part[0] [n_head, n_col, nope_dim] and then the rows of part[1]
     * [n_head, v_dim, n_col]. */
    SHOAL__VIEW_KV_B,
} shoal__view_kind;

typedef struct shoal__view {
    shoal__view_kind kind;
    int32_t n_head;            /* PAIRED_ROWS, KV_B */
    shoal_tensor_info part[2]; /* INTERLEAVED, HALVES, KV_B; without views of their own */
} shoal__view;

#endif
