/* Stored elements of every dtype that a weight can have as f32: the value of a block-quantised
 * element is a product and at most one difference in f32, in the order that the gguf package has,
 * so that the results are the same bits. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_DEQUANT_H
#define SHOAL_CHECKPOINT_DEQUANT_H

#include "runtime/base/tensor.h"

#include <stdbool.h>

/* True if shoal__to_f32 knows the dtype. */
bool shoal__is_float_dtype(shoal_dtype dtype);

/* n elements as f32; n is a multiple of the dtype's block. src: aligned to the element for plain
 * dtypes, any for blocks. F8_E4M3: without its scales. */
void shoal__to_f32(float *dst, const void *src, shoal_dtype dtype, size_t n);

/* gpt-oss's MXFP4: n / 32 blocks of 16 bytes, byte b holds element 2b in its low nibble and 2b + 1
 * in its high one, and their e8m0 scales. */
void shoal__mxfp4_to_f32(float *dst, const uint8_t *blocks, const uint8_t *scales, size_t n);

/* n_block GGUF blocks of MXFP4 (a scale, then 16 bytes of which number j holds elements j and
 * j + 16) into the two arrays of gpt-oss's release. */
void shoal__mxfp4_split(uint8_t *blocks, uint8_t *scales, const uint8_t *src, size_t n_block);

#endif
