#include "runtime/kernels/cpu/scalar.h"
#include "runtime/kernels/trig.h"

void SHOAL_FN(softmax)(float *x, int32_t n)
{
    float max = shoal__max_row(x, n);
    for (int32_t i = 0; i < n; i++)
        x[i] = shoal__exp(x[i] - max);
    float sum = shoal__sum_row(x, n);
    for (int32_t i = 0; i < n; i++)
        x[i] = x[i] / sum;
}

double SHOAL_FN(log_sum_exp)(const float *x, int32_t n)
{
    float max = shoal__max_row(x, n);
    double lane[SHOAL_SUM_LANES] = {0};
    for (int32_t i0 = 0; i0 < n; i0 += SHOAL_CHUNK) {
        float part[SHOAL_CHUNK];
        int32_t m = n - i0 < SHOAL_CHUNK ? n - i0 : SHOAL_CHUNK;
        for (int32_t i = 0; i < m; i++)
            part[i] = shoal__exp(x[i0 + i] - max);
        for (int32_t i = 0; i < m; i++)
            lane[i % SHOAL_SUM_LANES] += (double)part[i];
    }
    for (int32_t half = SHOAL_SUM_LANES / 2; half >= 1; half /= 2) {
        for (int32_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    }
    return (double)max + shoal_ln(lane[0]);
}
