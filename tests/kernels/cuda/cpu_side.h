/* What a test of a CUDA kernel compares with: inputs, and what the CPU's kernels make of them. In
 * C, as inputs.h is. What is made lives to the end of the process. */
#ifndef SHOAL_TESTS_KERNELS_CUDA_CPU_SIDE_H
#define SHOAL_TESTS_KERNELS_CUDA_CPU_SIDE_H

#include "runtime/kernels/kernels.h"

/* The kernels that are compared with. */
const shoal_kernels *cpu_kernels(void);

/* n values in [-1, 1). */
float *cpu_values(int64_t n, uint64_t seed);

/* A packed random matrix; n_col is rounded up to what the format can have. */
shoal_matrix *cpu_matrix(shoal_format format, int32_t n_row, int32_t n_col, uint64_t seed);

/* Rows x [n_row, n_col] as int8 groups. */
shoal_int8_group *cpu_groups(const float *x, int32_t n_row, int32_t n_col);

/* y [n_token, w->n_row] = x w^T + bias, by matmul, or by matmul_int8 if x_int8 is not NULL. bias
 * may be NULL. */
float *cpu_product(const shoal_matrix *w, const float *x, const shoal_int8_group *x_int8,
                   const float *bias, int32_t n_token);

#endif
