#include "tests/kernels/variants.h"

enum { N = 1000 };

START_TEST(bf16_rounds_as_the_scalar_conversion_does)
{
    variants v = all_variants();
    source s = {1};
    float x[N], back[N];
    uint16_t y[N];
    for (int32_t round = 0; round < 50; round++) {
        for (int32_t i = 0; i < N; i++)
            x[i] = draw_any(&s);
        x[0] = INFINITY;
        x[1] = -INFINITY;
        x[2] = 0x1.ffp127f; /* rounds to infinity */
        x[3] = 0x1.01p0f;   /* ties go to even */
        x[4] = 0x1.03p0f;
        x[5] = NAN;
        x[6] = -0.0f;
        for (int32_t i = 0; i < v.n; i++) {
            int32_t n = N - round;
            v.kernels[i]->to_bf16(y, x, n);
            v.kernels[i]->from_bf16(back, y, n);
            for (int32_t j = 0; j < n; j++) {
                float want = shoal_bf16_to_f32(shoal_f32_to_bf16(x[j]));
                if (isnan(want))
                    ck_assert(isnan(back[j]));
                else
                    ck_assert_msg(same_bits(back[j], want), "%s: %a gave %a", v.kernels[i]->name,
                                  (double)x[j], (double)back[j]);
            }
        }
    }
}
END_TEST

/* Groups of 32 and a short last one; half to even; nothing off by more than half a step. */
START_TEST(int8_groups_round_half_to_even)
{
    variants v = all_variants();
    source s = {2};
    static const int32_t length[] = {1, 31, 32, 33, 64, 100, N};
    float x[N], back[N], scale[N / 32 + 1];
    int8_t q[N];
    for (size_t k = 0; k < sizeof length / sizeof length[0]; k++) {
        int32_t n = length[k];
        for (int32_t i = 0; i < n; i++) {
            int32_t group = i / 32;
            x[i] = draw_float(&s) * (float)(group + 1);
        }
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->to_int8(q, scale, x, n);
            v.kernels[i]->from_int8(back, q, scale, n);
            for (int32_t j = 0; j < n; j++) {
                float amax = 0;
                for (int32_t m = j / 32 * 32; m < n && m < j / 32 * 32 + 32; m++)
                    amax = fmaxf(amax, fabsf(x[m]));
                ck_assert(scale[j / 32] == amax / 127.0f);
                ck_assert_int_eq(q[j], (int)nearbyintf(x[j] / scale[j / 32]));
                ck_assert(back[j] == scale[j / 32] * (float)q[j]);
                ck_assert_float_le(fabsf(back[j] - x[j]), 0.5001f * scale[j / 32]);
            }
        }
    }
    const float tie[] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -127.0f};
    const int8_t even[] = {127, 0, 2, 2, 0, -2, -2, -127};
    for (int32_t i = 0; i < v.n; i++) {
        v.kernels[i]->to_int8(q, scale, tie, 8);
        ck_assert(scale[0] == 1.0f && memcmp(q, even, sizeof even) == 0);
    }
}
END_TEST

START_TEST(int8_holds_zeros_and_extremes)
{
    variants v = all_variants();
    source s = {3};
    float x[N] = {0}, scale[N / 32 + 1], want_scale[N / 32 + 1], back[N];
    int8_t q[N], want[N];
    for (int32_t i = 0; i < v.n; i++) {
        memset(q, 1, sizeof q);
        v.kernels[i]->to_int8(q, scale, x, N);
        v.kernels[i]->from_int8(back, q, scale, N);
        for (int32_t j = 0; j < N; j++)
            ck_assert(q[j] == 0 && scale[j / 32] == 0 && back[j] == 0);
    }
    for (int32_t round = 0; round < 50; round++) {
        for (int32_t i = 0; i < N; i++)
            x[i] = i / 32 % 2 == 0 ? draw_any(&s) : draw_float(&s) * 0x1p-143f;
        v.kernels[0]->to_int8(want, want_scale, x, N);
        for (int32_t i = 1; i < v.n; i++) {
            v.kernels[i]->to_int8(q, scale, x, N);
            ck_assert(memcmp(q, want, sizeof q) == 0);
            ASSERT_SAME(v.kernels[i], scale, want_scale, N / 32 + 1);
        }
    }
}
END_TEST

/* The same integers and scales as to_int8, zeros behind the last value, and sums that are right. */
START_TEST(groups_are_what_to_int8_writes)
{
    static const int32_t length[] = {1, 31, 32, 33, 64, 100, N};
    variants v = all_variants();
    source s = {4};
    float x[N], scale[N / 32 + 1];
    int8_t q[N];
    shoal_int8_group y[N / 32 + 2];
    for (size_t k = 0; k < sizeof length / sizeof length[0]; k++) {
        int32_t n = length[k], n_group = (n + 31) / 32;
        for (int32_t i = 0; i < n; i++)
            x[i] = i / 32 % 5 == 4 ? 0.0f : i / 32 % 2 == 0 ? draw_any(&s) : draw_float(&s);
        v.kernels[0]->to_int8(q, scale, x, n);
        for (int32_t i = 0; i < v.n; i++) {
            memset(y, 0x5a, sizeof y);
            v.kernels[i]->to_groups(y, x, n);
            for (int32_t g = 0; g < n_group; g++) {
                int32_t sum = 0;
                ck_assert(same_bits(y[g].scale, scale[g]));
                for (int32_t c = 0; c < 32; c++) {
                    ck_assert_int_eq(y[g].q[c], g * 32 + c < n ? q[g * 32 + c] : 0);
                    sum += y[g].q[c];
                }
                ck_assert_int_eq(y[g].minus_8_sum, -8 * sum);
            }
            ck_assert_int_eq(y[n_group].minus_8_sum, 0x5a5a5a5a);
        }
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, bf16_rounds_as_the_scalar_conversion_does);
    SHOAL_TEST(suite, int8_groups_round_half_to_even);
    SHOAL_TEST(suite, int8_holds_zeros_and_extremes);
    SHOAL_TEST(suite, groups_are_what_to_int8_writes);
}

SHOAL_TEST_MAIN("kernels.wire", add_tests)
