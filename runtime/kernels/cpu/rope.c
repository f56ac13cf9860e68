#include "runtime/kernels/cpu/scalar.h"

/* (a, b) turned by the angle: (a cos - b sin, a sin + b cos). */
void SHOAL_FN(rope_half)(float *x, const float *cos, const float *sin, int32_t n_rot)
{
    int32_t half = n_rot / 2;
    for (int32_t i = 0; i < half; i++) {
        float a = x[i];
        float b = x[i + half];
        x[i] = fmaf(a, cos[i], -(b * sin[i]));
        x[i + half] = fmaf(a, sin[i], b * cos[i]);
    }
}

void SHOAL_FN(rope_interleaved)(float *x, const float *cos, const float *sin, int32_t n_rot)
{
    for (int32_t i = 0; i < n_rot / 2; i++) {
        float a = x[2 * i];
        float b = x[2 * i + 1];
        x[2 * i] = fmaf(a, cos[i], -(b * sin[i]));
        x[2 * i + 1] = fmaf(a, sin[i], b * cos[i]);
    }
}
