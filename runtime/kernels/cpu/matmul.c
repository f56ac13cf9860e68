/* y = x W^T over one layout for all formats: weights are decoded to f32 once per block of columns
 * and then used for every token of a group, so nothing is converted per use. */
#include "runtime/kernels/cpu/lanes.h"
#include "runtime/kernels/cpu/scalar.h"

enum {
    BLOCK = SHOAL_FP8_BLOCK, /* columns decoded at a time: 8 KiB of f32, half of an L1 */
    GROUP = 32,              /* tokens that use a decoded block */
};

static void decode_bf16(float *tile, const uint16_t *w, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        tile[i] = shoal__from_bf16(w[i]);
}

/* Shift the value bits to where f32 has them and re-bias the exponent. A subnormal gets the
 * smallest normal exponent instead, whose implied one is then subtracted: exact, and without
 * subnormal operands, which are slow. */
static void decode_f16(float *tile, const uint16_t *w, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        uint32_t half = w[i];
        uint32_t magnitude = half & 0x7fffu;
        uint32_t bits = (magnitude << 13) + (112u << 23);
        bits += magnitude >= 0x7c00u ? 112u << 23 : 0; /* infinity, NaN */
        bits += magnitude < 0x0400u ? 1u << 23 : 0;
        float value = shoal__float(bits) - (magnitude < 0x0400u ? 0x1p-14f : 0.0f);
        tile[i] = shoal__float(shoal__bits(value) | (half & 0x8000u) << 16);
    }
}

/* e4m3 has so few subnormals that it pays to let the multiplication normalise them. */
static void decode_e4m3(float *tile, const uint8_t *w, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        uint32_t byte = w[i];
        uint32_t sign = byte << 24 & 0x80000000u;
        uint32_t magnitude = byte << 20 & 0x07f00000u;
        magnitude = magnitude == 0x07f00000u ? 0x7fc00000u : magnitude;
        tile[i] = shoal__float(sign | magnitude) * 0x1p120f;
    }
}

/* The four bits moved to where f32 has them; the two codes without an implied one get it from the
 * exponent of 1 and lose it again, as in decode_f16. */
SHOAL_INLINE float decode_e2m1(uint32_t code)
{
    uint32_t magnitude = code & 7;
    uint32_t bits = (magnitude << 22) + (126u << 23);
    bits += magnitude < 2 ? 1u << 23 : 0;
    float value = shoal__float(bits) - (magnitude < 2 ? 1.0f : 0.0f);
    return shoal__float(shoal__bits(value) | (code & 8) << 28);
}

/* One group of 32 columns, [32][16]; w: its nibbles. */
static void decode_mxfp4(float *tile, const uint8_t *w)
{
    enum { HALF = SHOAL_MXFP4_GROUP / 2 * SHOAL_BAND };
    for (int32_t i = 0; i < HALF; i++)
        tile[i] = decode_e2m1(w[i] & 15u);
    for (int32_t i = 0; i < HALF; i++)
        tile[HALF + i] = decode_e2m1((uint32_t)w[i] >> 4);
}

/* The packed group of 32 columns of a band that begins at column c0. */
static const uint8_t *mxfp4_group(const shoal_matrix *w, int32_t band, int32_t c0)
{
    size_t n_group = (size_t)w->n_col / SHOAL_MXFP4_GROUP;
    size_t group = (size_t)band * n_group + (size_t)c0 / SHOAL_MXFP4_GROUP;
    return (const uint8_t *)w->data + group * SHOAL_MXFP4_GROUP_BYTES;
}

/* Columns that are summed on their own before their scale is applied; 0: the format has none. */
static int32_t scale_group(shoal_format format)
{
    return format == SHOAL_FORMAT_FP8_BLOCK ? SHOAL_FP8_BLOCK
           : format == SHOAL_FORMAT_MXFP4   ? SHOAL_MXFP4_GROUP
                                            : 0;
}

/* The scales of a band's rows for the group of columns at c0. */
static void load_scales(float scale[SHOAL_BAND], const shoal_matrix *w, int32_t band, int32_t c0)
{
    if (w->format == SHOAL_FORMAT_MXFP4) {
        const uint8_t *exponent = mxfp4_group(w, band, c0);
        for (int32_t l = 0; l < SHOAL_BAND; l++) /* 2^-127 is subnormal */
            scale[l] = shoal__float(exponent[l] == 0 ? 1u << 22 : (uint32_t)exponent[l] << 23);
        return;
    }
    size_t n_block = ((size_t)w->n_col + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK;
    size_t block =
        (size_t)(band / (SHOAL_FP8_BLOCK / SHOAL_BAND)) * n_block + (size_t)(c0 / SHOAL_FP8_BLOCK);
    for (int32_t l = 0; l < SHOAL_BAND; l++)
        scale[l] = w->scale[block];
}

/* n columns from column c0 of a band, [n][16] f32; `tile` is the room for them if they must be
 * decoded. */
static const float *decode(float *tile, const shoal_matrix *w, int32_t band, int32_t c0, int32_t n)
{
    size_t offset = ((size_t)band * (size_t)w->n_col + (size_t)c0) * SHOAL_BAND;
    switch (w->format) {
    case SHOAL_FORMAT_F32:
        return (const float *)w->data + offset;
    case SHOAL_FORMAT_F16:
        decode_f16(tile, (const uint16_t *)w->data + offset, n * SHOAL_BAND);
        break;
    case SHOAL_FORMAT_BF16:
        decode_bf16(tile, (const uint16_t *)w->data + offset, n * SHOAL_BAND);
        break;
    case SHOAL_FORMAT_FP8_BLOCK:
        decode_e4m3(tile, (const uint8_t *)w->data + offset, n * SHOAL_BAND);
        break;
    case SHOAL_FORMAT_MXFP4:
        decode_mxfp4(tile, mxfp4_group(w, band, c0) + SHOAL_BAND);
        break;
    case SHOAL_N_FORMAT:
        break;
    }
    return tile;
}

/* One band for at most GROUP tokens, into acc [n_token][16]. */
static void band_sums(float acc[GROUP][SHOAL_BAND], const shoal_matrix *w, int32_t band,
                      const float *x, int64_t ld_x, int32_t n_token)
{
    _Alignas(64) float tile[BLOCK * SHOAL_BAND];
    _Alignas(64) float sum[GROUP][SHOAL_BAND];
    size_t acc_bytes = (size_t)n_token * sizeof acc[0];
    memset(acc, 0, acc_bytes);
    int32_t group = scale_group(w->format);
    int32_t block = group > 0 ? group : BLOCK;
    for (int32_t c0 = 0; c0 < w->n_col; c0 += block) {
        int32_t n = w->n_col - c0 < block ? w->n_col - c0 : block;
        const float *weights = decode(tile, w, band, c0, n);
        if (group == 0) {
            shoal__mac(acc[0], SHOAL_BAND, x + c0, ld_x, weights, SHOAL_BAND, n, n_token);
            continue;
        }
        memset(sum, 0, acc_bytes);
        shoal__mac(sum[0], SHOAL_BAND, x + c0, ld_x, weights, SHOAL_BAND, n, n_token);
        float scale[SHOAL_BAND];
        load_scales(scale, w, band, c0);
        for (int32_t t = 0; t < n_token; t++) {
            for (int32_t l = 0; l < SHOAL_BAND; l++)
                acc[t][l] = fmaf(scale[l], sum[t][l], acc[t][l]);
        }
    }
}

void SHOAL_FN(matmul)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                      const float *x, int64_t ld_x, int32_t n_token)
{
    _Alignas(64) float acc[GROUP][SHOAL_BAND];
    for (int32_t band = band0; band < band1; band++) {
        int32_t row0 = band * SHOAL_BAND;
        int32_t n_row = w->n_row - row0 < SHOAL_BAND ? w->n_row - row0 : SHOAL_BAND;
        for (int32_t t0 = 0; t0 < n_token; t0 += GROUP) {
            int32_t n = n_token - t0 < GROUP ? n_token - t0 : GROUP;
            band_sums(acc, w, band, x + t0 * ld_x, ld_x, n);
            for (int32_t t = 0; t < n; t++)
                memcpy(y + (t0 + t) * ld_y + row0, acc[t], (size_t)n_row * sizeof(float));
        }
    }
}
