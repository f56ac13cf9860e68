#include "runtime/kernels/cpu/scalar.h"

void SHOAL_FN(silu_mul)(float *y, const float *gate, const float *up, int64_t n)
{
    for (int64_t i0 = 0; i0 < n; i0 += SHOAL_CHUNK) {
        float part[SHOAL_CHUNK];
        int32_t m = n - i0 < SHOAL_CHUNK ? (int32_t)(n - i0) : SHOAL_CHUNK;
        for (int32_t i = 0; i < m; i++)
            part[i] = shoal__silu(gate[i0 + i]) * up[i0 + i];
        memcpy(y + i0, part, (size_t)m * sizeof part[0]);
    }
}

void SHOAL_FN(swiglu_clamped)(float *y, const float *gate, const float *up, int64_t n, float alpha,
                              float limit)
{
    for (int64_t i0 = 0; i0 < n; i0 += SHOAL_CHUNK) {
        float part[SHOAL_CHUNK];
        int32_t m = n - i0 < SHOAL_CHUNK ? (int32_t)(n - i0) : SHOAL_CHUNK;
        for (int32_t i = 0; i < m; i++)
            part[i] = shoal__swiglu_clamped(gate[i0 + i], up[i0 + i], alpha, limit);
        memcpy(y + i0, part, (size_t)m * sizeof part[0]);
    }
}

void SHOAL_FN(sigmoid)(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = shoal__sigmoid(x[i]);
}

void SHOAL_FN(add)(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

void SHOAL_FN(axpy)(float *y, float a, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

void SHOAL_FN(scale)(float *y, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= a;
}
