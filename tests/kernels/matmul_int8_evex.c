/* The code of the variant avx2vnni with the EVEX encoding of its instruction: CPUs with AVX-512
 * often lack the VEX one, and it would go untested on them. */
#include <immintrin.h>

#define SHOAL_VARIANT evex

static inline __attribute__((always_inline)) __m256i dpbusd(__m256i sum, __m256i w, __m256i x)
{
    __asm__("%{evex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x));
    return sum;
}

#define SHOAL__DPBUSD_256 dpbusd
#include "runtime/kernels/cpu/matmul_int8.c"
