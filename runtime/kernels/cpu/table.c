#include "runtime/kernels/cpu/variant.h"

const shoal_kernels SHOAL_FN(kernels) = {
    .name = SHOAL_VARIANT_NAME,
    .matmul = SHOAL_FN(matmul),
    .rms_norm = SHOAL_FN(rms_norm),
    .rope_half = SHOAL_FN(rope_half),
    .rope_interleaved = SHOAL_FN(rope_interleaved),
    .silu_mul = SHOAL_FN(silu_mul),
    .add = SHOAL_FN(add),
    .axpy = SHOAL_FN(axpy),
    .softmax = SHOAL_FN(softmax),
    .sigmoid = SHOAL_FN(sigmoid),
    .log_sum_exp = SHOAL_FN(log_sum_exp),
    .attend_tile = SHOAL_FN(attend_tile),
    .attend_block = SHOAL_FN(attend_block),
    .attend_finish = SHOAL_FN(attend_finish),
    .to_bf16 = SHOAL_FN(to_bf16),
    .from_bf16 = SHOAL_FN(from_bf16),
    .to_int8 = SHOAL_FN(to_int8),
    .from_int8 = SHOAL_FN(from_int8),
};
