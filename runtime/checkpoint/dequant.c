#include "runtime/checkpoint/dequant.h"

#include <string.h>

static float half_at(const uint8_t *at)
{
    return shoal_f16_to_f32((uint16_t)(at[0] | at[1] << 8));
}

/* -- blocks of 32: a scale, perhaps a minimum, nibbles (element j low, j + 16 high) -- */

static void q4_0(float *dst, const uint8_t *src)
{
    float d = half_at(src);
    for (int j = 0; j < 16; j++) {
        dst[j] = d * (float)((src[2 + j] & 15) - 8);
        dst[j + 16] = d * (float)((src[2 + j] >> 4) - 8);
    }
}

static void q4_1(float *dst, const uint8_t *src)
{
    float d = half_at(src), m = half_at(src + 2);
    for (int j = 0; j < 16; j++) {
        dst[j] = d * (float)(src[4 + j] & 15) + m;
        dst[j + 16] = d * (float)(src[4 + j] >> 4) + m;
    }
}

/* The fifth bit of element j of 32. */
static int fifth(const uint8_t *high, int j)
{
    return (high[j / 8] >> j % 8 & 1) << 4;
}

static void q5_0(float *dst, const uint8_t *src)
{
    float d = half_at(src);
    const uint8_t *high = src + 2, *low = src + 6;
    for (int j = 0; j < 16; j++) {
        dst[j] = d * (float)(((low[j] & 15) | fifth(high, j)) - 16);
        dst[j + 16] = d * (float)((low[j] >> 4 | fifth(high, j + 16)) - 16);
    }
}

static void q5_1(float *dst, const uint8_t *src)
{
    float d = half_at(src), m = half_at(src + 2);
    const uint8_t *high = src + 4, *low = src + 8;
    for (int j = 0; j < 16; j++) {
        dst[j] = d * (float)((low[j] & 15) | fifth(high, j)) + m;
        dst[j + 16] = d * (float)(low[j] >> 4 | fifth(high, j + 16)) + m;
    }
}

static void q8_0(float *dst, const uint8_t *src)
{
    float d = half_at(src);
    for (int j = 0; j < 32; j++)
        dst[j] = d * (float)(int8_t)src[2 + j];
}

/* -- super-blocks of 256 -- */

/* The 6-bit scale and minimum of sub-block j of 8. */
static void scale_min(int *scale, int *min, const uint8_t *packed, int j)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
        *min = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
    }
}

/* Sub-block j lies in the low (j even) or high nibbles of bytes j / 2 * 32 on; high: a fifth bit,
 * bit j of 32 bytes, or NULL. */
static void k_blocks(float *dst, const uint8_t *src, const uint8_t *high, const uint8_t *low)
{
    float d = half_at(src), d_min = half_at(src + 2);
    for (int j = 0; j < 8; j++) {
        int scale, min;
        scale_min(&scale, &min, src + 4, j);
        float d_j = d * (float)scale, m_j = d_min * (float)min;
        for (int i = 0; i < 32; i++) {
            int q = low[j / 2 * 32 + i] >> j % 2 * 4 & 15;
            if (high != NULL)
                q |= (high[i] >> j & 1) << 4;
            dst[j * 32 + i] = d_j * (float)q - m_j;
        }
    }
}

static void q4_k(float *dst, const uint8_t *src)
{
    k_blocks(dst, src, NULL, src + 16);
}

static void q5_k(float *dst, const uint8_t *src)
{
    k_blocks(dst, src, src + 16, src + 48);
}

static void q6_k(float *dst, const uint8_t *src)
{
    const uint8_t *low = src, *high = src + 128;
    float d = half_at(src + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32, k = i % 32;
        int q = low[half * 64 + quarter % 2 * 32 + k] >> quarter / 2 * 4 & 15;
        q |= (high[half * 32 + k] >> quarter * 2 & 3) << 4;
        dst[i] = d * (float)(int8_t)src[192 + i / 16] * (float)(q - 32);
    }
}

/* -- MXFP4 -- */

/* e2m1, doubled: the scale is halved instead, as in GGUF (the products are exact). GGUF's table has
 * integers and so no -0. */
static const float e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float half_scale(uint8_t x)
{
    uint32_t bits = x < 2 ? 0x00200000u << x : (uint32_t)(x - 1) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

static void mxfp4(float *dst, const uint8_t *src)
{
    float scale = half_scale(src[0]);
    for (int j = 0; j < 16; j++) {
        dst[j] = scale * e2m1_doubled[src[1 + j] & 15];
        dst[j + 16] = scale * e2m1_doubled[src[1 + j] >> 4];
    }
}

void shoal__mxfp4_to_f32(float *dst, const uint8_t *blocks, const uint8_t *scales, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t code = blocks[i / 2] >> i % 2 * 4 & 15;
        float value = half_scale(scales[i / 32]) * e2m1_doubled[code];
        dst[i] = code == 8 ? -0.0F : value;
    }
}

void shoal__mxfp4_split(uint8_t *blocks, uint8_t *scales, const uint8_t *src, size_t n_block)
{
    for (size_t b = 0; b < n_block; b++, src += 17, blocks += 16) {
        scales[b] = src[0];
        for (int j = 0; j < 8; j++) {
            uint8_t even = src[1 + 2 * j], odd = src[2 + 2 * j];
            blocks[j] = (uint8_t)((even & 15) | odd << 4);
            blocks[8 + j] = (uint8_t)(even >> 4 | (odd & 0xf0));
        }
    }
}

/* -- any dtype -- */

typedef void dequant_block(float *dst, const uint8_t *src);

static dequant_block *block_function(shoal_dtype dtype)
{
    static dequant_block *const functions[SHOAL_N_DTYPE] = {
        [SHOAL_DTYPE_Q4_0] = q4_0, [SHOAL_DTYPE_Q4_1] = q4_1, [SHOAL_DTYPE_Q5_0] = q5_0,
        [SHOAL_DTYPE_Q5_1] = q5_1, [SHOAL_DTYPE_Q8_0] = q8_0, [SHOAL_DTYPE_Q4_K] = q4_k,
        [SHOAL_DTYPE_Q5_K] = q5_k, [SHOAL_DTYPE_Q6_K] = q6_k, [SHOAL_DTYPE_MXFP4] = mxfp4,
    };
    return functions[dtype];
}

bool shoal__is_float_dtype(shoal_dtype dtype)
{
    return dtype == SHOAL_DTYPE_F32 || dtype == SHOAL_DTYPE_F16 || dtype == SHOAL_DTYPE_BF16 ||
           dtype == SHOAL_DTYPE_F8_E4M3 || dtype == SHOAL_DTYPE_F8_E8M0 ||
           block_function(dtype) != NULL;
}

/* As shoal_bf16_to_f32, without a call for each of the values that most checkpoints consist of. */
static void bf16_to_f32(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)src[i] << 16;
        memcpy(&dst[i], &bits, sizeof bits);
    }
}

void shoal__to_f32(float *dst, const void *src, shoal_dtype dtype, size_t n)
{
    const uint16_t *half = src;
    const uint8_t *byte = src;
    dequant_block *function = block_function(dtype);
    if (dtype == SHOAL_DTYPE_F32)
        memcpy(dst, src, n * sizeof *dst);
    else if (dtype == SHOAL_DTYPE_F16)
        for (size_t i = 0; i < n; i++)
            dst[i] = shoal_f16_to_f32(half[i]);
    else if (dtype == SHOAL_DTYPE_BF16)
        bf16_to_f32(dst, half, n);
    else if (dtype == SHOAL_DTYPE_F8_E4M3)
        for (size_t i = 0; i < n; i++)
            dst[i] = shoal_e4m3_to_f32(byte[i]);
    else if (dtype == SHOAL_DTYPE_F8_E8M0)
        for (size_t i = 0; i < n; i++)
            dst[i] = shoal_e8m0_to_f32(byte[i]);
    else if (function != NULL)
        for (size_t i = 0; i < n; i += shoal_dtype_block(dtype), byte += shoal_dtype_bytes(dtype))
            function(dst + i, byte);
    else /* the callers' checks let no other through */
        memset(dst, 0, n * sizeof *dst);
}
