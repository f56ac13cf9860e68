#include "runtime/kernels/cpu/scalar.h"

void SHOAL_FN(rms_norm)(float *y, const float *x, const float *weight, int32_t n_col, float eps)
{
    float lane[SHOAL_SUM_LANES] = {0};
    int32_t i = 0;
    for (; i + SHOAL_SUM_LANES <= n_col; i += SHOAL_SUM_LANES) {
        for (int32_t l = 0; l < SHOAL_SUM_LANES; l++)
            lane[l] = fmaf(x[i + l], x[i + l], lane[l]);
    }
    for (int32_t l = 0; i + l < n_col; l++)
        lane[l] = fmaf(x[i + l], x[i + l], lane[l]);
    float mean = shoal__sum_lanes(lane) / (float)n_col;
    float factor = 1.0f / sqrtf(mean + eps);

    for (int32_t c0 = 0; c0 < n_col; c0 += SHOAL_CHUNK) {
        float part[SHOAL_CHUNK];
        int32_t n = n_col - c0 < SHOAL_CHUNK ? n_col - c0 : SHOAL_CHUNK;
        for (int32_t c = 0; c < n; c++)
            part[c] = weight[c0 + c] * (x[c0 + c] * factor);
        memcpy(y + c0, part, (size_t)n * sizeof part[0]);
    }
}
