/* The wire encodings: sizes, bits, and that nothing is written beyond a row. */
#include "comm/wire.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_MAX = 300, GUARD = 16 };

static const shoal_wire_encoding encodings[] = {SHOAL_WIRE_F32, SHOAL_WIRE_BF16, SHOAL_WIRE_INT8};
static const int32_t lengths[] = {1, 2, 3, 31, 32, 33, 64, 95, 256, 299};

static const shoal_kernels *reference(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "reference", &log), SHOAL_OK);
    return kernels;
}

static void fill(float *x, int32_t n)
{
    uint32_t state = 12345;
    for (int32_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * (i % 64 < 32 ? 1.0f : 100.0f);
    }
}

START_TEST(test_row_bytes)
{
    const struct {
        int32_t n;
        size_t f32, bf16, int8;
    } want[] = {{1, 4, 4, 8},
                {2, 8, 4, 8},
                {32, 128, 64, 36},
                {33, 132, 68, 44},
                {7168, 28672, 14336, 8064},
                {0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        ck_assert_uint_eq(shoal_wire_row_bytes(SHOAL_WIRE_F32, want[i].n), want[i].f32);
        ck_assert_uint_eq(shoal_wire_row_bytes(SHOAL_WIRE_BF16, want[i].n), want[i].bf16);
        ck_assert_uint_eq(shoal_wire_row_bytes(SHOAL_WIRE_INT8, want[i].n), want[i].int8);
    }
}
END_TEST

/* Rows at any multiple of 4 bytes; equal values give equal bytes whatever was there before. */
START_TEST(test_rows_stay_in_their_bytes)
{
    float x[N_MAX], y[N_MAX + 1];
    fill(x, N_MAX);
    for (size_t e = 0; e < 3; e++) {
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            int32_t n = lengths[l];
            size_t n_bytes = shoal_wire_row_bytes(encodings[e], n);
            _Alignas(64) unsigned char one[4 * N_MAX + 2 * GUARD], two[4 * N_MAX + 2 * GUARD];
            memset(one, 0xaa, sizeof one);
            memset(two, 0x55, sizeof two);
            shoal_wire_encode(one + 4, encodings[e], reference(), x, n);
            shoal_wire_encode(two + GUARD, encodings[e], reference(), x, n);
            ck_assert_mem_eq(one + 4, two + GUARD, n_bytes);
            for (size_t i = 0; i < 4; i++)
                ck_assert_uint_eq(one[i], 0xaa);
            for (size_t i = 4 + n_bytes; i < sizeof one; i++)
                ck_assert_uint_eq(one[i], 0xaa);
            y[n] = 42;
            shoal_wire_decode(y, encodings[e], reference(), one + 4, n);
            ck_assert_float_eq(y[n], 42);
        }
    }
}
END_TEST

START_TEST(test_values)
{
    float x[N_MAX], y[N_MAX];
    unsigned char row[4 * N_MAX];
    fill(x, N_MAX);
    x[3] = -0.0f;
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        int32_t n = lengths[l];
        shoal_wire_encode(row, SHOAL_WIRE_F32, reference(), x, n);
        shoal_wire_decode(y, SHOAL_WIRE_F32, reference(), row, n);
        ck_assert_mem_eq(y, x, (size_t)n * sizeof *x);

        shoal_wire_encode(row, SHOAL_WIRE_BF16, reference(), x, n);
        shoal_wire_decode(y, SHOAL_WIRE_BF16, reference(), row, n);
        for (int32_t i = 0; i < n; i++) {
            float want = shoal_bf16_to_f32(shoal_f32_to_bf16(x[i]));
            ck_assert_mem_eq(&y[i], &want, sizeof want);
        }

        shoal_wire_encode(row, SHOAL_WIRE_INT8, reference(), x, n);
        shoal_wire_decode(y, SHOAL_WIRE_INT8, reference(), row, n);
        for (int32_t i = 0; i < n; i++) {
            float amax = 0; /* of its group of 32 */
            for (int32_t j = i / 32 * 32; j < n && j < i / 32 * 32 + 32; j++)
                amax = fmaxf(amax, fabsf(x[j]));
            ck_assert_float_le(fabsf(y[i] - x[i]), amax / 254 * 1.0001f);
        }
    }
}
END_TEST

/* Groups are the integers of the wire, not of its rounded values, filled up with zeros. */
START_TEST(test_groups)
{
    float x[N_MAX], y[N_MAX];
    unsigned char row[4 * N_MAX];
    fill(x, N_MAX);
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        int32_t n = lengths[l];
        shoal_int8_group group[N_MAX / SHOAL_GROUP + 2];
        memset(group, 0x55, sizeof group);
        shoal_wire_encode(row, SHOAL_WIRE_INT8, reference(), x, n);
        shoal_wire_decode(y, SHOAL_WIRE_INT8, reference(), row, n);
        shoal_wire_decode_groups(group, row, n);
        unsigned char again[4 * N_MAX];
        shoal_wire_encode_groups(again, group, n);
        ck_assert_mem_eq(again, row, shoal_wire_row_bytes(SHOAL_WIRE_INT8, n));
        for (int32_t g = 0; g * SHOAL_GROUP < n; g++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < SHOAL_GROUP; i++) {
                int32_t at = g * SHOAL_GROUP + i, q = group[g].q[i];
                if (at < n)
                    ck_assert_float_eq(group[g].scale * (float)q, y[at]);
                ck_assert_int_eq(q, at < n ? (int8_t)row[at] : 0);
                sum += q;
            }
            ck_assert_int_eq(group[g].minus_8_sum, -8 * sum);
        }
        ck_assert_int_eq(group[(n - 1) / SHOAL_GROUP + 1].minus_8_sum, 0x55555555);
    }
}
END_TEST

START_TEST(test_zero_row)
{
    float x[40] = {0}, y[40];
    unsigned char row[4 * 40];
    for (size_t e = 0; e < 3; e++) {
        memset(y, 1, sizeof y);
        shoal_wire_encode(row, encodings[e], reference(), x, 40);
        shoal_wire_decode(y, encodings[e], reference(), row, 40);
        ck_assert_mem_eq(y, x, sizeof x);
    }
}
END_TEST

/* Unequal machines mix: what one kernel variant writes, all write. */
START_TEST(test_same_bytes_from_every_variant)
{
    const shoal_kernels *kernels[16];
    int32_t n_kernels = shoal_kernels_list(kernels, 16);
    float x[N_MAX], y[N_MAX], want[N_MAX];
    unsigned char row[4 * N_MAX], want_row[4 * N_MAX];
    fill(x, N_MAX);
    for (int32_t k = 0; k < n_kernels; k++) {
        for (size_t e = 0; e < 3; e++) {
            shoal_wire_encode(want_row, encodings[e], reference(), x, N_MAX - 1);
            shoal_wire_decode(want, encodings[e], reference(), want_row, N_MAX - 1);
            shoal_wire_encode(row, encodings[e], kernels[k], x, N_MAX - 1);
            shoal_wire_decode(y, encodings[e], kernels[k], row, N_MAX - 1);
            ck_assert_mem_eq(row, want_row, shoal_wire_row_bytes(encodings[e], N_MAX - 1));
            ck_assert_mem_eq(y, want, (N_MAX - 1) * sizeof *y);
        }
    }
}
END_TEST

START_TEST(test_format_table)
{
    for (int kind = 0; kind < 2; kind++) {
        shoal_combine_kind k = kind == 0 ? SHOAL_COMBINE_EXACT : SHOAL_COMBINE_REDUCED;
        for (int quantised = 0; quantised < 2; quantised++) {
            shoal_wire exact = shoal_wire_format(false, quantised != 0, k);
            ck_assert(exact.dispatch == SHOAL_WIRE_F32 && exact.combine == SHOAL_WIRE_F32);
            shoal_wire fast = shoal_wire_format(true, quantised != 0, k);
            ck_assert_int_eq(fast.dispatch, quantised ? SHOAL_WIRE_INT8 : SHOAL_WIRE_BF16);
            ck_assert_int_eq(fast.combine, SHOAL_WIRE_BF16);
            ck_assert(exact.kind == k && fast.kind == k);
        }
    }
    ck_assert_str_eq(shoal_wire_text(SHOAL_WIRE_F32), "f32");
    ck_assert_str_eq(shoal_wire_text(SHOAL_WIRE_BF16), "bf16");
    ck_assert_str_eq(shoal_wire_text(SHOAL_WIRE_INT8), "int8");
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_row_bytes);
    SHOAL_TEST(suite, test_rows_stay_in_their_bytes);
    SHOAL_TEST(suite, test_values);
    SHOAL_TEST(suite, test_groups);
    SHOAL_TEST(suite, test_zero_row);
    SHOAL_TEST(suite, test_same_bytes_from_every_variant);
    SHOAL_TEST(suite, test_format_table);
}

SHOAL_TEST_MAIN("comm.wire", add_tests)
