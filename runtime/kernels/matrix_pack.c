/* Row-major weights into bands of 16 rows. The groups of the quantised formats are written one lane
 * (a row's 32 columns) at a time, from codes in the order of the columns. */
#include "runtime/kernels/matrix.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* One band: dst [n, 16] units of `bytes` from up to 16 rows of src that lie row_bytes apart,
 * missing rows zero. Blocks of units keep the 16 source lines and the written ones in L1. `bytes`
 * is a constant at every call. */
static inline __attribute__((always_inline)) void pack_band(unsigned char *dst,
                                                            const unsigned char *src, int32_t n_row,
                                                            size_t n, size_t row_bytes,
                                                            const size_t bytes)
{
    enum { BLOCK = 64 };
    if (n_row < SHOAL_BAND)
        memset(dst, 0, n * SHOAL_BAND * bytes);
    for (size_t i0 = 0; i0 < n; i0 += BLOCK) {
        size_t i1 = i0 + BLOCK < n ? i0 + BLOCK : n;
        for (int32_t r = 0; r < n_row; r++) {
            const unsigned char *row = src + (size_t)r * row_bytes;
            unsigned char *lane = dst + (size_t)r * bytes;
            for (size_t i = i0; i < i1; i++)
                memcpy(lane + i * SHOAL_BAND * bytes, row + i * bytes, bytes);
        }
    }
}

/* FP8: two columns are a unit; an odd last one has a zero for a neighbour. */
static void pack_pairs(unsigned char *dst, const unsigned char *src, int32_t n_row, size_t n_col)
{
    pack_band(dst, src, n_row, n_col / 2, n_col, 2);
    if (n_col % 2 == 0)
        return;
    unsigned char *last = dst + n_col / 2 * 2 * SHOAL_BAND;
    memset(last, 0, (size_t)2 * SHOAL_BAND);
    for (int32_t r = 0; r < n_row; r++)
        last[2 * r] = src[(size_t)r * n_col + n_col - 1];
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
    assert(!shoal_format_is_quantised(w->format));
    size_t n_col = (size_t)w->n_col;
    size_t band_bytes = shoal_matrix_data_bytes(w->format, SHOAL_BAND, w->n_col);
    size_t bytes = shoal_matrix_data_bytes(w->format, SHOAL_BAND, 2) / (2 * (size_t)SHOAL_BAND);
    for (int32_t r = 0; r < n_row; r += SHOAL_BAND) {
        unsigned char *dst =
            (unsigned char *)w->data + (size_t)((row0 + r) / SHOAL_BAND) * band_bytes;
        const unsigned char *from = (const unsigned char *)src + (size_t)r * n_col * bytes;
        int32_t n_in_band = n_row - r < SHOAL_BAND ? n_row - r : SHOAL_BAND;
        if (bytes == 4)
            pack_band(dst, from, n_in_band, n_col, n_col * 4, 4);
        else if (bytes == 2)
            pack_band(dst, from, n_in_band, n_col, n_col * 2, 2);
        else
            pack_pairs(dst, from, n_in_band, n_col);
    }
}

/* -- lanes of the quantised formats -- */

enum { QUAD_BYTES = 4 * SHOAL_BAND, HALF = SHOAL_GROUP / 2 };

/* code: [32] bytes. */
static void store_bytes(uint8_t *quads, size_t lane, const uint8_t *code)
{
    for (size_t p = 0; p < SHOAL_GROUP / 4; p++)
        memcpy(quads + p * QUAD_BYTES + lane * 4, code + 4 * p, 4);
}

/* pair: [16], column c in the low nibble and c + 16 in the high one. */
static void store_nibbles(uint8_t *quads, size_t lane, const uint8_t *pair)
{
    for (size_t p = 0; p < HALF / 4; p++)
        memcpy(quads + p * QUAD_BYTES + lane * 4, pair + 4 * p, 4);
}

static void join_nibbles(uint8_t *pair, const uint8_t *code)
{
    for (int32_t c = 0; c < HALF; c++)
        pair[c] = (uint8_t)(code[c] | code[c + HALF] << 4);
}

static uint8_t *group_at(const shoal_matrix *w, int32_t row, size_t group)
{
    size_t n_group = ((size_t)w->n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
    size_t bytes = shoal_matrix_data_bytes(w->format, SHOAL_BAND, SHOAL_GROUP);
    return (uint8_t *)w->data + ((size_t)(row / SHOAL_BAND) * n_group + group) * bytes;
}

/* The last band's groups with every weight zero, if rows of it are missing. */
static void clear_padded_band(shoal_matrix *w)
{
    if (w->n_row % SHOAL_BAND == 0)
        return;
    size_t n_scale = SHOAL_BAND * (w->format == SHOAL_FORMAT_MXFP4 ? 1 : sizeof(uint16_t));
    size_t bytes = shoal_matrix_data_bytes(w->format, SHOAL_BAND, SHOAL_GROUP);
    int32_t zero = w->format == SHOAL_FORMAT_Q8 ? 0x80 : w->format == SHOAL_FORMAT_Q4 ? 0x88 : 0;
    for (int32_t c = 0; c < w->n_col; c += SHOAL_GROUP) {
        uint8_t *group = group_at(w, w->n_row, (size_t)c / SHOAL_GROUP);
        memset(group, 0, n_scale);
        memset(group + n_scale, zero, bytes - n_scale);
    }
}

static void store_f16_scale(uint8_t *group, size_t lane, uint16_t scale)
{
    memcpy(group + lane * sizeof scale, &scale, sizeof scale);
}

static uint8_t *behind_f16_scales(uint8_t *group)
{
    return group + SHOAL_BAND * sizeof(uint16_t);
}

void shoal_matrix_pack_mxfp4(shoal_matrix *w, int32_t row0, int32_t n_row, const uint8_t *blocks,
                             const uint8_t *scales)
{
    assert_whole_bands(w, row0, n_row);
    assert(w->format == SHOAL_FORMAT_MXFP4 && w->n_col % SHOAL_GROUP == 0);
    size_t n_group = (size_t)w->n_col / SHOAL_GROUP;
    if (row0 + n_row == w->n_row)
        clear_padded_band(w);
    for (int32_t r = 0; r < n_row; r++) {
        size_t lane = (size_t)r % SHOAL_BAND;
        for (size_t g = 0; g < n_group; g++) {
            size_t from = (size_t)r * n_group + g;
            uint8_t *group = group_at(w, row0 + r, g);
            uint8_t code[SHOAL_GROUP], pair[HALF];
            for (size_t c = 0; c < SHOAL_GROUP; c++)
                code[c] = blocks[from * HALF + c / 2] >> c % 2 * 4 & 15;
            join_nibbles(pair, code);
            group[lane] = scales[from];
            store_nibbles(group + SHOAL_BAND, lane, pair);
        }
    }
}

void shoal_matrix_pack_blocks(shoal_matrix *w, int32_t row0, int32_t n_row, const void *blocks)
{
    assert_whole_bands(w, row0, n_row);
    assert(w->format == SHOAL_FORMAT_Q8 || w->format == SHOAL_FORMAT_Q4);
    assert(w->n_col % SHOAL_GROUP == 0);
    size_t n_group = (size_t)w->n_col / SHOAL_GROUP;
    const uint8_t *from = blocks;
    if (row0 + n_row == w->n_row)
        clear_padded_band(w);
    for (int32_t r = 0; r < n_row; r++) {
        size_t lane = (size_t)r % SHOAL_BAND;
        for (size_t g = 0; g < n_group; g++) {
            uint8_t *group = group_at(w, row0 + r, g);
            memcpy(group + lane * sizeof(uint16_t), from, sizeof(uint16_t));
            from += sizeof(uint16_t);
            if (w->format == SHOAL_FORMAT_Q4) {
                store_nibbles(behind_f16_scales(group), lane, from);
                from += HALF;
                continue;
            }
            uint8_t code[SHOAL_GROUP];
            for (int32_t c = 0; c < SHOAL_GROUP; c++)
                code[c] = from[c] ^ 0x80;
            store_bytes(behind_f16_scales(group), lane, code);
            from += SHOAL_GROUP;
        }
    }
}

/* -- quantising -- */

/* code[c] = round-half-even(x[c] / scale) within [low, high], + zero. Adding 1.5 * 2^23 rounds into
 * the low bits. */
static void encode(uint8_t *code, const float *x, float scale, int32_t low, int32_t high,
                   int32_t zero)
{
    const float magic = 0x1.8p23F;
    const float low_f = (float)low, high_f = (float)high;
    for (int32_t c = 0; c < SHOAL_GROUP; c++) {
        float v = x[c] / scale;
        v = v > low_f ? v : low_f;
        v = v < high_f ? v : high_f;
        v += magic;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        code[c] = (uint8_t)(bits + (uint32_t)zero); /* magic's own low bits are zero */
    }
}

/* The value of largest magnitude, the first of equals; false if one is not finite. Magnitudes
 * compare like their bits, as integers in any order, so that this is done in vectors. */
static bool find_largest(float *largest, const float *x)
{
    int32_t bits[SHOAL_GROUP], most = 0, first = 0;
    memcpy(bits, x, sizeof bits);
    for (int32_t c = 0; c < SHOAL_GROUP; c++) {
        bits[c] &= INT32_MAX;
        most = bits[c] > most ? bits[c] : most;
    }
    while (bits[first] != most)
        first++;
    *largest = x[first];
    return most < 0x7f800000;
}

/* One lane: 32 values of a row. */
static bool quantise_group(uint8_t *group, size_t lane, const float *x, shoal_format format)
{
    const bool q8 = format == SHOAL_FORMAT_Q8;
    const int32_t zero = q8 ? 128 : 8;
    uint8_t code[SHOAL_GROUP], pair[HALF];
    float largest;
    if (!find_largest(&largest, x))
        return false;
    uint16_t stored = shoal_f32_to_f16(q8 ? fabsf(largest) / 127.0F : largest / -8.0F);
    float scale = shoal_f16_to_f32(stored);
    if (fabsf(scale) == INFINITY)
        return false;
    if (scale == 0)
        memset(code, zero, sizeof code);
    else
        encode(code, x, scale, q8 ? -127 : -8, q8 ? 127 : 7, zero);
    store_f16_scale(group, lane, stored);
    if (q8) {
        store_bytes(behind_f16_scales(group), lane, code);
        return true;
    }
    join_nibbles(pair, code);
    store_nibbles(behind_f16_scales(group), lane, pair);
    return true;
}

bool shoal_matrix_pack_quantised(shoal_matrix *w, int32_t row0, int32_t n_row, const float *src,
                                 int32_t *bad_row)
{
    assert_whole_bands(w, row0, n_row);
    assert(w->format == SHOAL_FORMAT_Q8 || w->format == SHOAL_FORMAT_Q4);
    if (row0 + n_row == w->n_row)
        clear_padded_band(w);
    for (int32_t r = 0; r < n_row; r++) {
        const float *row = src + (size_t)r * (size_t)w->n_col;
        for (int32_t c0 = 0; c0 < w->n_col; c0 += SHOAL_GROUP) {
            uint8_t *group = group_at(w, row0 + r, (size_t)c0 / SHOAL_GROUP);
            float last[SHOAL_GROUP] = {0};
            const float *x = row + c0;
            if (w->n_col - c0 < SHOAL_GROUP) {
                memcpy(last, x, (size_t)(w->n_col - c0) * sizeof *x);
                x = last;
            }
            if (!quantise_group(group, (size_t)r % SHOAL_BAND, x, w->format)) {
                *bad_row = row0 + r;
                return false;
            }
        }
    }
    return true;
}
