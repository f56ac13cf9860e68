/* The one inner loop behind matmul and attention: acc[t][lane] += x[t][k] * tile[k][lane], each
 * lane one chain of fma in the order of k. A band of 16 lanes is held in as many registers as the
 * instruction set needs; gcc's vector types are used for holding them, as arrays would be kept in
 * memory. Layering: inside runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_LANES_H
#define SHOAL_KERNELS_CPU_LANES_H

#include "runtime/kernels/cpu/variant.h"

#include <math.h>
#include <string.h>

/* f32 per register. What is computed does not depend on it. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define SHOAL_LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define SHOAL_LANES 8
#else
#define SHOAL_LANES 4
#endif

#define SHOAL_PARTS (SHOAL_BAND / SHOAL_LANES) /* registers of one band */

/* Rows of x whose sums stay in registers, which are 8 then; AArch64 has room for 16. */
#if defined(__aarch64__)
#define SHOAL_TOKENS 4
#else
#define SHOAL_TOKENS (SHOAL_LANES / 2)
#endif

typedef float shoal__vec __attribute__((vector_size(4 * SHOAL_LANES)));

SHOAL_INLINE shoal__vec shoal__vec_load(const float *x)
{
    shoal__vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

SHOAL_INLINE void shoal__vec_store(float *y, shoal__vec v)
{
    memcpy(y, &v, sizeof v);
}

/* a * b + c, rounded once. The named instructions are what gcc makes of the loops; they spare it
 * the search, which takes minutes with sanitizers. */
SHOAL_INLINE shoal__vec shoal__vec_fma_each(shoal__vec a, shoal__vec b, shoal__vec c)
{
#if SHOAL_LANES == 16
    return (shoal__vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif SHOAL_LANES == 8
    return (shoal__vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    shoal__vec r;
    for (int32_t l = 0; l < SHOAL_LANES; l++)
        r[l] = fmaf(a[l], b[l], c[l]);
    return r;
#endif
}

SHOAL_INLINE shoal__vec shoal__vec_fma(float a, shoal__vec b, shoal__vec c)
{
#if SHOAL_LANES == 16
    return shoal__vec_fma_each((shoal__vec)_mm512_set1_ps(a), b, c);
#elif SHOAL_LANES == 8
    return shoal__vec_fma_each((shoal__vec)_mm256_set1_ps(a), b, c);
#else
    return shoal__vec_fma_each((shoal__vec){a, a, a, a}, b, c);
#endif
}

/* acc: rows of ld_acc, 16 wide; x: rows of ld_x, n long; tile: n rows of ld_tile, 16 wide.
 * n_row is a constant <= 8 at every call; rows from n_real on repeat the last and are dropped. */
SHOAL_INLINE void shoal__mac_rows(float *acc, int64_t ld_acc, const float *x, int64_t ld_x,
                                  const float *tile, int64_t ld_tile, int32_t n,
                                  const int32_t n_row, int32_t n_real)
{
    shoal__vec a[8][SHOAL_PARTS];
    const float *row[8];
#pragma GCC unroll 8
    for (int32_t t = 0; t < n_row; t++) {
        int32_t real = t < n_real ? t : n_real - 1;
        row[t] = x + real * ld_x;
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            a[t][p] = shoal__vec_load(acc + real * ld_acc + p * SHOAL_LANES);
    }
    for (int32_t k = 0; k < n; k++) {
        shoal__vec w[SHOAL_PARTS];
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            w[p] = shoal__vec_load(tile + k * ld_tile + p * SHOAL_LANES);
#pragma GCC unroll 8
        for (int32_t t = 0; t < n_row; t++) {
#pragma GCC unroll 4
            for (int32_t p = 0; p < SHOAL_PARTS; p++)
                a[t][p] = shoal__vec_fma(row[t][k], w[p], a[t][p]);
        }
    }
#pragma GCC unroll 8
    for (int32_t t = 0; t < n_row; t++) {
        if (t >= n_real)
            break;
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            shoal__vec_store(acc + t * ld_acc + p * SHOAL_LANES, a[t][p]);
    }
}

/* The same for any number of rows. The last ones are rounded up to 1, 2, 4 or 8: a pass over the
 * tile for fewer than four takes as long as one for four, as each chain waits for itself. */
SHOAL_INLINE void shoal__mac(float *acc, int64_t ld_acc, const float *x, int64_t ld_x,
                             const float *tile, int64_t ld_tile, int32_t n, int32_t n_row)
{
    int32_t t = 0;
    for (; t + SHOAL_TOKENS <= n_row; t += SHOAL_TOKENS)
        shoal__mac_rows(acc + t * ld_acc, ld_acc, x + t * ld_x, ld_x, tile, ld_tile, n,
                        SHOAL_TOKENS, SHOAL_TOKENS);
    int32_t rest = n_row - t;
    acc += t * ld_acc;
    x += t * ld_x;
    if (rest == 1)
        shoal__mac_rows(acc, ld_acc, x, ld_x, tile, ld_tile, n, 1, 1);
    else if (SHOAL_TOKENS > 2 && rest == 2)
        shoal__mac_rows(acc, ld_acc, x, ld_x, tile, ld_tile, n, 2, 2);
    else if (SHOAL_TOKENS > 2 && rest > 0 && rest <= 4)
        shoal__mac_rows(acc, ld_acc, x, ld_x, tile, ld_tile, n, 4, rest);
    else if (SHOAL_TOKENS > 4 && rest > 0)
        shoal__mac_rows(acc, ld_acc, x, ld_x, tile, ld_tile, n, 8, rest);
}

#endif
