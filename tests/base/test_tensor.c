/* Conversions against definitions that are written another way: values by ldexp, rounding by
 * searching the nearest representable neighbour. */
#include "runtime/base/tensor.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint32_t bits(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static float of_bits(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* The value of a sign/exponent/fraction format by its definition. */
static double value_of(uint32_t x, int n_exponent, int n_fraction, bool has_infinity)
{
    int bias = (1 << (n_exponent - 1)) - 1;
    int exponent = (int)(x >> n_fraction) & ((1 << n_exponent) - 1);
    int fraction = (int)x & ((1 << n_fraction) - 1);
    double sign = (x >> (n_exponent + n_fraction)) & 1 ? -1 : 1;
    if (exponent == (1 << n_exponent) - 1 && has_infinity)
        return fraction == 0 ? sign * INFINITY : NAN;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - n_fraction);
    return sign * ldexp(fraction + (1 << n_fraction), exponent - bias - n_fraction);
}

static void same(double wanted, float got, uint32_t x)
{
    if (isnan(wanted))
        ck_assert_msg(isnan(got), "0x%x", x);
    else
        ck_assert_msg(bits((float)wanted) == bits(got), "0x%x: %g, wanted %g", x, (double)got,
                      wanted);
}

START_TEST(tables)
{
    ck_assert_uint_eq(shoal_dtype_bytes(SHOAL_DTYPE_F32), 4);
    ck_assert_uint_eq(shoal_dtype_bytes(SHOAL_DTYPE_BF16), 2);
    ck_assert_uint_eq(shoal_dtype_bytes(SHOAL_DTYPE_F8_E4M3), 1);
    ck_assert_uint_eq(shoal_dtype_bytes(SHOAL_DTYPE_I64), 8);
    ck_assert_uint_eq(shoal_dtype_bytes(SHOAL_N_DTYPE), 0);
    ck_assert_str_eq(shoal_dtype_text(SHOAL_DTYPE_F8_E4M3), "F8_E4M3");
    ck_assert_str_eq(shoal_dtype_text((shoal_dtype)77), "?");
}
END_TEST

START_TEST(all_16_bit_values_to_f32)
{
    for (uint32_t x = 0; x < 0x10000; x++) {
        same(value_of(x, 5, 10, true), shoal_f16_to_f32((uint16_t)x), x);
        same(value_of(x, 8, 7, true), shoal_bf16_to_f32((uint16_t)x), x);
    }
}
END_TEST

START_TEST(all_e4m3_values_to_f32)
{
    for (uint32_t x = 0; x < 0x100; x++)
        same((x & 0x7f) == 0x7f ? NAN : value_of(x, 4, 3, false), shoal_e4m3_to_f32((uint8_t)x), x);
    ck_assert(shoal_e4m3_to_f32(0x7e) == 448.0f);
}
END_TEST

START_TEST(all_16_bit_values_round_trip)
{
    for (uint32_t x = 0; x < 0x10000; x++) {
        float f = shoal_f16_to_f32((uint16_t)x);
        float b = shoal_bf16_to_f32((uint16_t)x);
        if (isnan(f))
            ck_assert(isnan(shoal_f16_to_f32(shoal_f32_to_f16(f))));
        else
            ck_assert_uint_eq(shoal_f32_to_f16(f), x);
        if (isnan(b))
            ck_assert(isnan(shoal_bf16_to_f32(shoal_f32_to_bf16(b))));
        else
            ck_assert_uint_eq(shoal_f32_to_bf16(b), x);
    }
}
END_TEST

typedef uint16_t narrow_fn(float x);
typedef float widen_fn(uint16_t x);

/* Around every border between neighbours x and x + 1: just below the middle goes to x, just above
 * to x + 1, the middle to the even one; so every f32 is decided, as rounding is monotonic. */
static void check_borders(narrow_fn *narrow, widen_fn *widen, uint32_t infinity)
{
    for (uint32_t x = 0; x < infinity; x++) {
        double low = widen((uint16_t)x);
        double high = widen((uint16_t)(x + 1));
        if (x + 1 == infinity) /* overflow: where the next value would be */
            high = low + (low - widen((uint16_t)(x - 1)));
        double middle = low + (high - low) / 2; /* representable in f32: one bit more */
        float m = (float)middle;
        ck_assert(m == middle);
        uint32_t even = x % 2 == 0 ? x : x + 1;
        ck_assert_uint_eq(narrow(m), even);
        ck_assert_uint_eq(narrow(of_bits(bits(m) - 1)), x);
        ck_assert_uint_eq(narrow(of_bits(bits(m) + 1)), x + 1);
        ck_assert_uint_eq(narrow(-m), even | 0x8000);
        ck_assert_uint_eq(narrow(-of_bits(bits(m) - 1)), x | 0x8000);
    }
    ck_assert_uint_eq(narrow(INFINITY), infinity);
    ck_assert_uint_eq(narrow(-INFINITY), infinity | 0x8000);
    ck_assert_uint_eq(narrow(3.4028235e38f), infinity);
    ck_assert_uint_eq(narrow(0.0f), 0);
    ck_assert_uint_eq(narrow(-0.0f), 0x8000);
}

/* The subnormals of bf16 are f32 subnormals: their middles are exact too. */
START_TEST(f32_rounds_to_nearest_even)
{
    check_borders(shoal_f32_to_f16, shoal_f16_to_f32, 0x7c00);
    check_borders(shoal_f32_to_bf16, shoal_bf16_to_f32, 0x7f80);
}
END_TEST

START_TEST(nan_stays_nan)
{
    for (uint32_t low = 1; low < 0x800000; low += 0x1fff) {
        float x = of_bits(0x7f800000u | low);
        ck_assert(isnan(shoal_bf16_to_f32(shoal_f32_to_bf16(x))));
        ck_assert(isnan(shoal_f16_to_f32(shoal_f32_to_f16(x))));
        ck_assert(isnan(shoal_bf16_to_f32(shoal_f32_to_bf16(-x))));
    }
    ck_assert(isnan(shoal_bf16_to_f32(shoal_f32_to_bf16(of_bits(0x7fffffffu)))));
    ck_assert(isnan(shoal_f16_to_f32(shoal_f32_to_f16(of_bits(0x7f800001u)))));
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, tables);
    SHOAL_TEST(suite, all_16_bit_values_to_f32);
    SHOAL_TEST(suite, all_e4m3_values_to_f32);
    SHOAL_TEST(suite, all_16_bit_values_round_trip);
    SHOAL_TEST(suite, f32_rounds_to_nearest_even);
    SHOAL_TEST(suite, nan_stays_nan);
}

SHOAL_TEST_MAIN("base.tensor", add_tests)
