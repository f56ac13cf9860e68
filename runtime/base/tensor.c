#include "runtime/base/tensor.h"

#include <string.h>

size_t shoal_dtype_block(shoal_dtype dtype)
{
    static const size_t blocks[SHOAL_N_DTYPE] = {
#define SHOAL_DTYPE_BLOCK(name, block, bytes, text) block,
        SHOAL_DTYPE_MAP(SHOAL_DTYPE_BLOCK)
#undef SHOAL_DTYPE_BLOCK
    };
    return (unsigned)dtype < SHOAL_N_DTYPE ? blocks[dtype] : 1;
}

size_t shoal_dtype_bytes(shoal_dtype dtype)
{
    static const size_t bytes[SHOAL_N_DTYPE] = {
#define SHOAL_DTYPE_BYTES(name, block, bytes, text) bytes,
        SHOAL_DTYPE_MAP(SHOAL_DTYPE_BYTES)
#undef SHOAL_DTYPE_BYTES
    };
    return (unsigned)dtype < SHOAL_N_DTYPE ? bytes[dtype] : 0;
}

const char *shoal_dtype_text(shoal_dtype dtype)
{
    static const char *const texts[SHOAL_N_DTYPE] = {
#define SHOAL_DTYPE_TEXT(name, block, bytes, text) text,
        SHOAL_DTYPE_MAP(SHOAL_DTYPE_TEXT)
#undef SHOAL_DTYPE_TEXT
    };
    return (unsigned)dtype < SHOAL_N_DTYPE ? texts[dtype] : "?";
}

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* value >> shift, rounded to nearest, ties to even. 1 <= shift <= 31. */
static uint32_t shift_rounded(uint32_t value, uint32_t shift)
{
    uint32_t half = 1u << (shift - 1);
    uint32_t odd = (value >> shift) & 1;
    return (value + half - 1 + odd) >> shift;
}

float shoal_bf16_to_f32(uint16_t x)
{
    return float_of_bits((uint32_t)x << 16);
}

uint16_t shoal_f32_to_bf16(float x)
{
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) /* NaN: rounding could carry it to infinity */
        return (uint16_t)((bits >> 16) |
                          0x0040); /* quiet, so that a payload of low bits survives */
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float shoal_f16_to_f32(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16;
    uint32_t exponent = (x >> 10) & 0x1f;
    uint32_t fraction = x & 0x3ff;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in f32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return float_of_bits(bits_of_float(magnitude) | sign);
    }
    if (exponent == 0x1f)
        return float_of_bits(sign | 0x7f800000u | fraction << 13);
    return float_of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

uint16_t shoal_f32_to_f16(float x)
{
    uint32_t bits = bits_of_float(x);
    uint32_t sign = (bits >> 16) & 0x8000;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude >= 0x38800000u) /* 2^-14 and above: normal; a carry moves into the exponent */
        return (uint16_t)(sign | (shift_rounded(magnitude, 13) - ((127 - 15) << 10)));
    if (magnitude < 0x33000000u) /* below half of the least subnormal */
        return (uint16_t)sign;
    uint32_t fraction = (magnitude & 0x7fffff) | 0x800000;
    uint32_t shift = 126 - (magnitude >> 23); /* in units of 2^-24 */
    return (uint16_t)(sign | shift_rounded(fraction, shift));
}

float shoal_e4m3_to_f32(uint8_t x)
{
    uint32_t sign = (uint32_t)(x & 0x80) << 24;
    uint32_t exponent = (x >> 3) & 0xf;
    uint32_t fraction = x & 7;
    if ((x & 0x7f) == 0x7f)
        return float_of_bits(sign | 0x7fc00000u);
    if (exponent == 0) { /* fraction * 2^-9 */
        float magnitude = (float)fraction * 0x1p-9f;
        return float_of_bits(bits_of_float(magnitude) | sign);
    }
    return float_of_bits(sign | (exponent + 127 - 7) << 23 | fraction << 20);
}

float shoal_e8m0_to_f32(uint8_t x)
{
    if (x == 0xff)
        return float_of_bits(0x7fc00000u);
    return float_of_bits(x == 0 ? 0x00400000u : (uint32_t)x << 23); /* 2^-127 is subnormal */
}
