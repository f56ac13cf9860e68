/* The one table of how far a CUDA kernel may be from the CPU's of the same name: the largest
 * difference over the largest value of the result. f32 sums in another order; the tensor-core forms
 * round activations to bf16 (8 bits) beforehand. Layering: tests. */
#ifndef SHOAL_TESTS_KERNELS_CUDA_TOLERANCE_H
#define SHOAL_TESTS_KERNELS_CUDA_TOLERANCE_H

#define SHOAL_TOLERANCE_MATMUL         2e-6 /* f32 activations, at most 8 tokens at a time */
#define SHOAL_TOLERANCE_MATMUL_BF16    4e-3 /* bf16 and fp8 weights, more than 8 tokens */
#define SHOAL_TOLERANCE_MATMUL_INT8    2e-6
#define SHOAL_TOLERANCE_NORM           1e-6
#define SHOAL_TOLERANCE_ATTENTION      4e-6
#define SHOAL_TOLERANCE_ATTENTION_BF16 4e-6
#define SHOAL_TOLERANCE_ROUTE          1e-6

#endif
