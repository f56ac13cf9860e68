/* What makes one source several kernel tables. Every file of this folder is compiled once per
 * instruction set with -DSHOAL_VARIANT=reference|avx2|...; SHOAL_FN(matmul) is then the symbol
 * shoal__matmul_avx2. The code is the same for all: only the number of f32 that the compiler holds
 * in one register differs (lanes.h), and the instructions that decode weights and multiply
 * integers, which is exact (decode.h, dot.h). Lanes never mix except in fixed trees (scalar.h).
 * Layering: inside runtime/kernels only. */
#ifndef SHOAL_KERNELS_CPU_VARIANT_H
#define SHOAL_KERNELS_CPU_VARIANT_H

#include "runtime/kernels/kernels.h"

#define SHOAL_PASTE_(name, variant) shoal__##name##_##variant
#define SHOAL_PASTE(name, variant)  SHOAL_PASTE_(name, variant)
#define SHOAL_FN(name)              SHOAL_PASTE(name, SHOAL_VARIANT)
#define SHOAL_TEXT_(variant)        #variant
#define SHOAL_TEXT(variant)         SHOAL_TEXT_(variant)
#define SHOAL_VARIANT_NAME          SHOAL_TEXT(SHOAL_VARIANT)

#define SHOAL_INLINE static inline __attribute__((always_inline))

/* Contracts: kernels.h. */
void SHOAL_FN(matmul)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                      const float *x, int64_t ld_x, int32_t n_token);
void SHOAL_FN(matmul_int8)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0,
                           int32_t band1, const shoal_int8_group *x, int64_t ld_x, int32_t n_token);
void SHOAL_FN(to_groups)(shoal_int8_group *y, const float *x, int32_t n_col);
void SHOAL_FN(rms_norm)(float *y, const float *x, const float *weight, int32_t n_col, float eps);
void SHOAL_FN(rope_half)(float *x, const float *cos, const float *sin, int32_t n_rot);
void SHOAL_FN(rope_interleaved)(float *x, const float *cos, const float *sin, int32_t n_rot);
void SHOAL_FN(silu_mul)(float *y, const float *gate, const float *up, int64_t n);
void SHOAL_FN(swiglu_clamped)(float *y, const float *gate, const float *up, int64_t n, float alpha,
                              float limit);
void SHOAL_FN(sigmoid)(float *x, int64_t n);
void SHOAL_FN(add)(float *y, const float *x, int64_t n);
void SHOAL_FN(axpy)(float *y, float a, const float *x, int64_t n);
void SHOAL_FN(axpy_bf16)(float *y, float a, const uint16_t *x, int64_t n);
void SHOAL_FN(scale)(float *y, float a, int64_t n);
void SHOAL_FN(softmax)(float *x, int32_t n);
double SHOAL_FN(log_sum_exp)(const float *x, int32_t n);
void SHOAL_FN(attend_block)(float *out, int64_t ld_out, shoal_attend_state *state, const float *q,
                            int64_t ld_q, int32_t n_query, const int32_t *first,
                            const int32_t *last, float scale, const shoal_attend_kv *kv);
void SHOAL_FN(attend_values)(void *value, const void *key, shoal_kv_dtype dtype, int32_t n_position,
                             int32_t d_k, int32_t d_v);
void SHOAL_FN(attend_merge)(float *out, shoal_attend_state *state, const float *part,
                            const shoal_attend_state *part_state, int32_t d_v);
void SHOAL_FN(attend_sink)(float *out, shoal_attend_state *state, float sink, int32_t d_v);
void SHOAL_FN(attend_finish)(float *out, const shoal_attend_state *state, int32_t d_v);
void SHOAL_FN(to_bf16)(uint16_t *y, const float *x, int64_t n);
void SHOAL_FN(from_bf16)(float *y, const uint16_t *x, int64_t n);
void SHOAL_FN(to_int8)(int8_t *q, float *scale, const float *x, int64_t n);
void SHOAL_FN(from_int8)(float *y, const int8_t *q, const float *scale, int64_t n);
uint64_t SHOAL_FN(peak_f32)(float sink[SHOAL_PEAK_SINK], int64_t n_round);
uint64_t SHOAL_FN(peak_int8)(int32_t sink[SHOAL_PEAK_SINK], int64_t n_round);
uint64_t SHOAL_FN(peak_read)(const void *from, size_t n_bytes);

/* bf16/matmul.c. */
void shoal__matmul_avx512_bf16(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0,
                               int32_t band1, const float *x, int64_t ld_x, int32_t n_token);

extern const shoal_kernels SHOAL_FN(kernels);
extern const shoal_kernels shoal__kernels_avx512_bf16;

#endif
