#include "runtime/kernels/matrix.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const struct {
    shoal_dtype dtype; /* what it stores without loss */
    size_t elem_bytes;
    const char *text;
} format_info[SHOAL_N_FORMAT] = {
    [SHOAL_FORMAT_F32] = {SHOAL_DTYPE_F32, 4, "f32"},
    [SHOAL_FORMAT_F16] = {SHOAL_DTYPE_F16, 2, "f16"},
    [SHOAL_FORMAT_BF16] = {SHOAL_DTYPE_BF16, 2, "bf16"},
    [SHOAL_FORMAT_FP8_BLOCK] = {SHOAL_DTYPE_F8_E4M3, 1, "fp8-block"},
    [SHOAL_FORMAT_MXFP4] = {SHOAL_N_DTYPE, 0, "mxfp4"},
    [SHOAL_FORMAT_Q8] = {SHOAL_N_DTYPE, 0, "q8"},
    [SHOAL_FORMAT_Q4] = {SHOAL_N_DTYPE, 0, "q4"},
};

static size_t ceil_div(int32_t n, int32_t by)
{
    return ((size_t)n + (size_t)by - 1) / (size_t)by;
}

int32_t shoal_matrix_n_band(const shoal_matrix *w)
{
    return (int32_t)ceil_div(w->n_row, SHOAL_BAND);
}

/* Of a band and 32 columns; 0: not a quantised format. */
static size_t group_bytes(shoal_format format)
{
    return format == SHOAL_FORMAT_MXFP4 ? SHOAL_MXFP4_GROUP_BYTES
           : format == SHOAL_FORMAT_Q8  ? SHOAL_Q8_GROUP_BYTES
           : format == SHOAL_FORMAT_Q4  ? SHOAL_Q4_GROUP_BYTES
                                        : 0;
}

bool shoal_format_is_quantised(shoal_format format)
{
    return group_bytes(format) > 0;
}

size_t shoal_matrix_data_bytes(shoal_format format, int32_t n_row, int32_t n_col)
{
    size_t n_band = ceil_div(n_row, SHOAL_BAND);
    if (shoal_format_is_quantised(format))
        return n_band * ceil_div(n_col, SHOAL_GROUP) * group_bytes(format);
    size_t padding = format == SHOAL_FORMAT_FP8_BLOCK ? (size_t)n_col % 2 : 0;
    return n_band * SHOAL_BAND * ((size_t)n_col + padding) * format_info[format].elem_bytes;
}

size_t shoal_matrix_scale_bytes(shoal_format format, int32_t n_row, int32_t n_col)
{
    if (format != SHOAL_FORMAT_FP8_BLOCK)
        return 0;
    return ceil_div(n_row, SHOAL_FP8_BLOCK) * ceil_div(n_col, SHOAL_FP8_BLOCK) * sizeof(float);
}

const char *shoal_format_text(shoal_format format)
{
    return format_info[format].text;
}

bool shoal_format_of_dtype(shoal_format *format, shoal_dtype dtype)
{
    for (int32_t i = 0; i < SHOAL_N_FORMAT; i++) {
        if (format_info[i].dtype == dtype) {
            *format = (shoal_format)i;
            return true;
        }
    }
    return false;
}

/* Its own group, decoded one element at a time. */
static float quantised_at(const shoal_matrix *w, int32_t row, int32_t col)
{
    static const float e2m1[8] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
    size_t group =
        (size_t)(row / SHOAL_BAND) * ceil_div(w->n_col, SHOAL_GROUP) + (size_t)(col / SHOAL_GROUP);
    const uint8_t *scales = (const uint8_t *)w->data + group * group_bytes(w->format);
    size_t lane = (size_t)(row % SHOAL_BAND);
    size_t c = (size_t)(col % SHOAL_GROUP);
    if (w->format == SHOAL_FORMAT_MXFP4) {
        const uint8_t *quads = scales + SHOAL_BAND;
        int32_t code = quads[c % 16 / 4 * 64 + lane * 4 + c % 4] >> c / 16 * 4 & 15;
        float magnitude = ldexpf(e2m1[code & 7], scales[lane] - 127);
        return code >= 8 ? -magnitude : magnitude;
    }
    const uint8_t *quads = scales + SHOAL_BAND * sizeof(uint16_t);
    uint16_t stored;
    memcpy(&stored, scales + lane * sizeof stored, sizeof stored);
    int32_t q = w->format == SHOAL_FORMAT_Q8
                    ? quads[c / 4 * 64 + lane * 4 + c % 4] - 128
                    : (quads[c % 16 / 4 * 64 + lane * 4 + c % 4] >> c / 16 * 4 & 15) - 8;
    return shoal_f16_to_f32(stored) * (float)q;
}

float shoal_matrix_at(const shoal_matrix *w, int32_t row, int32_t col)
{
    assert(row >= 0 && row < w->n_row && col >= 0 && col < w->n_col);
    if (shoal_format_is_quantised(w->format))
        return quantised_at(w, row, col);
    size_t n_col = (size_t)w->n_col;
    size_t band = (size_t)(row / SHOAL_BAND), lane = (size_t)(row % SHOAL_BAND);
    size_t i = (band * n_col + (size_t)col) * SHOAL_BAND + lane;
    if (w->format == SHOAL_FORMAT_F32)
        return ((const float *)w->data)[i];
    if (w->format == SHOAL_FORMAT_F16)
        return shoal_f16_to_f32(((const uint16_t *)w->data)[i]);
    if (w->format == SHOAL_FORMAT_BF16)
        return shoal_bf16_to_f32(((const uint16_t *)w->data)[i]);
    size_t pair = band * ceil_div(w->n_col, 2) + (size_t)col / 2;
    size_t block = (size_t)(row / SHOAL_FP8_BLOCK) * ceil_div(w->n_col, SHOAL_FP8_BLOCK) +
                   (size_t)(col / SHOAL_FP8_BLOCK);
    uint8_t code = ((const uint8_t *)w->data)[(pair * SHOAL_BAND + lane) * 2 + (size_t)col % 2];
    return shoal_e4m3_to_f32(code) * w->scale[block];
}
