#include "runtime/kernels/matrix.h"

#include <assert.h>
#include <string.h>

static float bf16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

void shoal_matrix_row(float *y, const shoal_matrix *w, int32_t row)
{
    assert(row >= 0 && row < w->n_row);
    size_t first =
        (size_t)(row / SHOAL_BAND) * (size_t)w->n_col * SHOAL_BAND + (size_t)(row % SHOAL_BAND);
    const float *f32 = (const float *)w->data + first;
    const uint16_t *half = (const uint16_t *)w->data + first;
    for (int32_t c = 0; c < w->n_col; c++) {
        size_t at = (size_t)c * SHOAL_BAND;
        if (w->format == SHOAL_FORMAT_BF16)
            y[c] = bf16(half[at]);
        else if (w->format == SHOAL_FORMAT_F32)
            y[c] = f32[at];
        else if (w->format == SHOAL_FORMAT_F16)
            y[c] = shoal_f16_to_f32(half[at]);
        else
            y[c] = shoal_matrix_at(w, row, c);
    }
}
