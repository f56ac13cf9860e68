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
};

static size_t ceil_div(int32_t n, int32_t by)
{
    return ((size_t)n + (size_t)by - 1) / (size_t)by;
}

int32_t shoal_matrix_n_band(const shoal_matrix *w)
{
    return (int32_t)ceil_div(w->n_row, SHOAL_BAND);
}

size_t shoal_matrix_data_bytes(shoal_format format, int32_t n_row, int32_t n_col)
{
    size_t n_band = ceil_div(n_row, SHOAL_BAND);
    if (format == SHOAL_FORMAT_MXFP4)
        return n_band * ceil_div(n_col, SHOAL_MXFP4_GROUP) * SHOAL_MXFP4_GROUP_BYTES;
    return n_band * SHOAL_BAND * (size_t)n_col * format_info[format].elem_bytes;
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

/* One band: dst [n_col, 16] from up to 16 rows of src, missing rows zero. Blocks of columns keep
 * the 16 source lines and the written ones in L1. `bytes` is a constant at every call. */
static inline __attribute__((always_inline)) void pack_band(unsigned char *dst,
                                                            const unsigned char *src, int32_t n_row,
                                                            size_t n_col, const size_t bytes)
{
    enum { BLOCK = 64 };
    if (n_row < SHOAL_BAND)
        memset(dst, 0, n_col * SHOAL_BAND * bytes);
    for (size_t c0 = 0; c0 < n_col; c0 += BLOCK) {
        size_t c1 = c0 + BLOCK < n_col ? c0 + BLOCK : n_col;
        for (int32_t r = 0; r < n_row; r++) {
            const unsigned char *row = src + (size_t)r * n_col * bytes;
            unsigned char *lane = dst + (size_t)r * bytes;
            for (size_t c = c0; c < c1; c++)
                memcpy(lane + c * SHOAL_BAND * bytes, row + c * bytes, bytes);
        }
    }
}

/* The rows that a packing call may name. */
static void assert_whole_bands(const shoal_matrix *w, int32_t row0, int32_t n_row)
{
    assert(row0 >= 0 && n_row >= 0 && row0 % SHOAL_BAND == 0 && n_row <= w->n_row - row0);
    assert(n_row % SHOAL_BAND == 0 || row0 + n_row == w->n_row);
    (void)w, (void)row0, (void)n_row;
}

void shoal_matrix_pack(shoal_matrix *w, int32_t row0, int32_t n_row, const void *src)
{
    assert_whole_bands(w, row0, n_row);
    assert(w->format != SHOAL_FORMAT_MXFP4);
    size_t bytes = format_info[w->format].elem_bytes;
    size_t n_col = (size_t)w->n_col;
    for (int32_t r = 0; r < n_row; r += SHOAL_BAND) {
        unsigned char *dst = (unsigned char *)w->data + (size_t)(row0 + r) * n_col * bytes;
        const unsigned char *from = (const unsigned char *)src + (size_t)r * n_col * bytes;
        int32_t n_in_band = n_row - r < SHOAL_BAND ? n_row - r : SHOAL_BAND;
        if (bytes == 4)
            pack_band(dst, from, n_in_band, n_col, 4);
        else if (bytes == 2)
            pack_band(dst, from, n_in_band, n_col, 2);
        else
            pack_band(dst, from, n_in_band, n_col, 1);
    }
}

/* 32 columns of one row: 16 bytes in the checkpoint's order to one lane of a group. */
static void pack_nibbles(uint8_t *lane, const uint8_t *block)
{
    enum { HALF = SHOAL_MXFP4_GROUP / 2 };
    for (int32_t p = 0; p < HALF; p++) {
        int32_t shift = p % 2 * 4;
        int32_t low = block[p / 2] >> shift & 15;
        int32_t high = block[(p + HALF) / 2] >> shift & 15;
        lane[p * SHOAL_BAND] = (uint8_t)(low | high << 4);
    }
}

void shoal_matrix_pack_mxfp4(shoal_matrix *w, int32_t row0, int32_t n_row, const uint8_t *blocks,
                             const uint8_t *scales)
{
    assert_whole_bands(w, row0, n_row);
    assert(w->format == SHOAL_FORMAT_MXFP4 && w->n_col % SHOAL_MXFP4_GROUP == 0);
    size_t n_group = (size_t)w->n_col / SHOAL_MXFP4_GROUP;
    for (int32_t r = 0; r < n_row; r++) {
        size_t band = (size_t)(row0 + r) / SHOAL_BAND;
        size_t lane = (size_t)r % SHOAL_BAND;
        uint8_t *dst = (uint8_t *)w->data + band * n_group * SHOAL_MXFP4_GROUP_BYTES;
        if (lane == 0 && n_row - r < SHOAL_BAND)
            memset(dst, 0, n_group * SHOAL_MXFP4_GROUP_BYTES);
        for (size_t g = 0; g < n_group; g++) {
            size_t from = (size_t)r * n_group + g;
            dst[g * SHOAL_MXFP4_GROUP_BYTES + lane] = scales[from];
            pack_nibbles(dst + g * SHOAL_MXFP4_GROUP_BYTES + SHOAL_BAND + lane,
                         blocks + from * (SHOAL_MXFP4_GROUP / 2));
        }
    }
}

static float mxfp4_at(const shoal_matrix *w, int32_t row, int32_t col)
{
    static const float value[8] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
    size_t n_group = (size_t)w->n_col / SHOAL_MXFP4_GROUP;
    size_t group = (size_t)(row / SHOAL_BAND) * n_group + (size_t)col / SHOAL_MXFP4_GROUP;
    const uint8_t *src = (const uint8_t *)w->data + group * SHOAL_MXFP4_GROUP_BYTES;
    int32_t lane = row % SHOAL_BAND;
    int32_t c = col % SHOAL_MXFP4_GROUP;
    int32_t code = src[SHOAL_BAND + c % 16 * SHOAL_BAND + lane] >> c / 16 * 4 & 15;
    float magnitude = ldexpf(value[code & 7], src[lane] - 127);
    return code >= 8 ? -magnitude : magnitude;
}

float shoal_matrix_at(const shoal_matrix *w, int32_t row, int32_t col)
{
    assert(row >= 0 && row < w->n_row && col >= 0 && col < w->n_col);
    if (w->format == SHOAL_FORMAT_MXFP4)
        return mxfp4_at(w, row, col);
    size_t n_col = (size_t)w->n_col;
    size_t i = ((size_t)(row / SHOAL_BAND) * n_col + (size_t)col) * SHOAL_BAND +
               (size_t)(row % SHOAL_BAND);
    switch (w->format) {
    case SHOAL_FORMAT_F32:
        return ((const float *)w->data)[i];
    case SHOAL_FORMAT_F16:
        return shoal_f16_to_f32(((const uint16_t *)w->data)[i]);
    case SHOAL_FORMAT_BF16:
        return shoal_bf16_to_f32(((const uint16_t *)w->data)[i]);
    case SHOAL_FORMAT_FP8_BLOCK:
    case SHOAL_FORMAT_MXFP4:
    case SHOAL_N_FORMAT:
        break;
    }
    size_t block = (size_t)(row / SHOAL_FP8_BLOCK) * ceil_div(w->n_col, SHOAL_FP8_BLOCK) +
                   (size_t)(col / SHOAL_FP8_BLOCK);
    return shoal_e4m3_to_f32(((const uint8_t *)w->data)[i]) * w->scale[block];
}
