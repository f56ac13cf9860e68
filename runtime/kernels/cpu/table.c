#include "runtime/kernels/cpu/variant.h"

/* The opt-in variant (bf16/matmul.c) is avx512's table with another matmul. */
#if defined(SHOAL_BF16_DOT)
#define TABLE  shoal__kernels_avx512_bf16
#define NAME   "avx512-bf16"
#define MATMUL shoal__matmul_avx512_bf16
#else
#define TABLE  SHOAL_FN(kernels)
#define NAME   SHOAL_VARIANT_NAME
#define MATMUL SHOAL_FN(matmul)
#endif

const shoal_kernels TABLE = {
    .name = NAME,
    .matmul = MATMUL,
    .matmul_int8 = SHOAL_FN(matmul_int8),
    .to_groups = SHOAL_FN(to_groups),
    .rms_norm = SHOAL_FN(rms_norm),
    .rope_half = SHOAL_FN(rope_half),
    .rope_interleaved = SHOAL_FN(rope_interleaved),
    .silu_mul = SHOAL_FN(silu_mul),
    .swiglu_clamped = SHOAL_FN(swiglu_clamped),
    .add = SHOAL_FN(add),
    .axpy = SHOAL_FN(axpy),
    .axpy_bf16 = SHOAL_FN(axpy_bf16),
    .scale = SHOAL_FN(scale),
    .softmax = SHOAL_FN(softmax),
    .sigmoid = SHOAL_FN(sigmoid),
    .log_sum_exp = SHOAL_FN(log_sum_exp),
    .attend_block = SHOAL_FN(attend_block),
    .attend_values = SHOAL_FN(attend_values),
    .attend_merge = SHOAL_FN(attend_merge),
    .attend_sink = SHOAL_FN(attend_sink),
    .attend_finish = SHOAL_FN(attend_finish),
    .to_bf16 = SHOAL_FN(to_bf16),
    .from_bf16 = SHOAL_FN(from_bf16),
    .to_int8 = SHOAL_FN(to_int8),
    .from_int8 = SHOAL_FN(from_int8),
    .peak_f32 = SHOAL_FN(peak_f32),
    .peak_int8 = SHOAL_FN(peak_int8),
    .peak_read = SHOAL_FN(peak_read),
};
