/* The opt-in kernels avx512-bf16: close to the specification, and the same for any tokens and
 * bands. */
#include "tests/kernels/variants.h"

#include <stdio.h>

enum { MAX_TOKEN = 61, SKIPPED = 77 };

static const shoal_kernels *opt_in;
static const shoal_format own_format[] = {SHOAL_FORMAT_BF16, SHOAL_FORMAT_FP8_BLOCK};

static void whole(float *y, const shoal_matrix *w, const float *x, int64_t ld_x, int32_t n_token)
{
    opt_in->matmul(y, w->n_row, w, 0, shoal_matrix_n_band(w), x, ld_x, n_token);
}

/* x as bf16, as these kernels see it. */
static void round_row(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = shoal_bf16_to_f32(shoal_f32_to_bf16(x[i]));
}

/* Against sums in double: of the rounded activations within the rounding of f32 sums, 1e-5 of the
 * sum of magnitudes; of the activations themselves within half a unit of bf16's last place more,
 * 2^-8. */
static void check_accuracy(shoal_format format, int32_t n_row, int32_t n_col, int32_t n_token)
{
    source s = {(uint64_t)(n_row * 31 + n_col * 7 + n_token)};
    shoal_matrix w = random_matrix(format, n_row, n_col, &s);
    float *x = floats((int64_t)n_col * n_token);
    float *rounded = floats(n_col);
    float *y = floats((int64_t)n_row * n_token);
    fill(x, (int64_t)n_col * n_token, &s);
    whole(y, &w, x, n_col, n_token);
    for (int32_t t = 0; t < n_token; t++) {
        round_row(rounded, x + (int64_t)t * n_col, n_col);
        for (int32_t r = 0; r < n_row; r++) {
            double exact = 0, given = 0, size = 0;
            for (int32_t c = 0; c < n_col; c++) {
                double element = (double)shoal_matrix_at(&w, r, c);
                exact += element * (double)x[(int64_t)t * n_col + c];
                given += element * (double)rounded[c];
                size += fabs(element * (double)x[(int64_t)t * n_col + c]);
            }
            double got = (double)y[t * n_row + r];
            ck_assert_double_le(fabs(got - given), 1e-5 * size + 1e-30);
            ck_assert_double_le(fabs(got - exact), (0x1p-8 + 1e-5) * size + 1e-30);
        }
    }
    free(y);
    free(rounded);
    free(x);
    drop_matrix(&w);
}

START_TEST(sums_are_within_the_tolerance)
{
    static const int32_t shape[][2] = {{1, 1},    {16, 128},  {17, 129},  {3, 255},  {40, 50},
                                       {131, 33}, {150, 300}, {33, 1100}, {16, 6200}};
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
            for (int32_t n_token = 1; n_token <= 21; n_token += 5)
                check_accuracy(own_format[f], shape[i][0], shape[i][1], n_token);
        }
    }
}
END_TEST

/* Rows of activations give the same bits alone and in any company, and bands do too. */
START_TEST(tokens_and_bands_do_not_change_a_sum)
{
    static const int32_t shape[][2] = {{17, 129}, {90, 50}, {300, 260}, {40, 3001}};
    for (size_t i = 0; i < 8; i++) {
        int32_t n_row = shape[i / 2][0], n_col = shape[i / 2][1];
        source s = {i};
        shoal_matrix w = random_matrix(own_format[i % 2], n_row, n_col, &s);
        float *x = floats((int64_t)n_col * MAX_TOKEN);
        float *want = floats((int64_t)n_row * MAX_TOKEN);
        float *y = floats((int64_t)n_row * MAX_TOKEN);
        int32_t n_band = shoal_matrix_n_band(&w);
        fill(x, (int64_t)n_col * MAX_TOKEN, &s);
        whole(want, &w, x, n_col, MAX_TOKEN);
        for (int32_t n = 1; n <= MAX_TOKEN; n++) {
            int32_t t0 = (int32_t)(draw(&s) % (uint32_t)(MAX_TOKEN - n + 1));
            int32_t split = (int32_t)(draw(&s) % (uint32_t)n_band);
            memset(y, 0xff, (size_t)n_row * MAX_TOKEN * sizeof *y);
            opt_in->matmul(y, n_row, &w, 0, split, x + t0 * n_col, n_col, n);
            opt_in->matmul(y, n_row, &w, split, n_band, x + t0 * n_col, n_col, n);
            ck_assert_msg(memcmp(y, want + t0 * n_row, (size_t)(n * n_row) * sizeof *y) == 0,
                          "%s [%d, %d], tokens %d .. %d, bands cut at %d",
                          shoal_format_text(w.format), n_row, n_col, t0, t0 + n, split);
            for (int64_t j = (int64_t)n * n_row; j < (int64_t)MAX_TOKEN * n_row; j++)
                ck_assert(isnan(y[j]));
        }
        free(y);
        free(want);
        free(x);
        drop_matrix(&w);
    }
}
END_TEST

/* What lies beyond an odd last column or beyond the last row of x is not read into a sum. */
START_TEST(neighbours_do_not_show)
{
    for (size_t f = 0; f < 2; f++) {
        source s = {f};
        shoal_matrix w = random_matrix(own_format[f], 20, 33, &s);
        shoal_matrix alone = w;
        float x[3 * 40], y[3 * 20], want[3 * 20];
        fill(x, 120, &s);
        alone.n_row = 16;
        for (int32_t n_token = 1; n_token <= 3; n_token += 2) {
            opt_in->matmul(want, 16, &alone, 0, 1, x, 40, n_token);
            for (int32_t t = 0; t < 3; t++) {
                for (int32_t c = 33; c < 40; c++)
                    x[t * 40 + c] = NAN;
            }
            size_t band_bytes = shoal_matrix_data_bytes(w.format, 16, 33);
            memset((char *)w.data + band_bytes, 0xff, band_bytes); /* NaN */
            opt_in->matmul(y, 16, &alone, 0, 1, x, 40, n_token);
            ASSERT_SAME(opt_in, y, want, 16 * n_token);
        }
        drop_matrix(&w);
    }
}
END_TEST

START_TEST(every_e4m3_code_is_decoded_exactly)
{
    shoal_matrix w = empty_matrix(SHOAL_FORMAT_FP8_BLOCK, 256, 1);
    uint8_t raw[256];
    float y[256 * 9], want[256], one[9];
    for (int32_t i = 0; i < 256; i++)
        raw[i] = (uint8_t)i;
    for (int32_t i = 0; i < 9; i++)
        one[i] = 1;
    shoal_matrix_pack(&w, 0, 256, raw);
    w.scale[0] = w.scale[1] = 1;
    for (int32_t i = 0; i < 256; i++)
        want[i] = shoal_matrix_at(&w, i, 0) + 0.0f;
    for (int32_t n_token = 1; n_token <= 9; n_token += 8) {
        whole(y, &w, one, 1, n_token);
        for (int32_t t = 0; t < n_token; t++)
            ASSERT_SAME(opt_in, y + t * 256, want, 256);
    }
    drop_matrix(&w);
}
END_TEST

/* All but matmul is avx512's, and so is a matmul over other formats. */
START_TEST(the_rest_is_avx512)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    const shoal_kernels *avx512 = NULL;
    ck_assert_int_eq(shoal_kernels_select(&avx512, "avx512", &log), SHOAL_OK);
    shoal_kernels same = *opt_in;
    ck_assert_ptr_ne(same.matmul, avx512->matmul);
    same.matmul = avx512->matmul;
    same.name = avx512->name;
    ck_assert(memcmp(&same, avx512, sizeof same) == 0);

    for (int32_t format = 0; format < SHOAL_N_FORMAT; format++) {
        if (format == SHOAL_FORMAT_BF16 || format == SHOAL_FORMAT_FP8_BLOCK)
            continue;
        source s = {(uint64_t)format};
        shoal_matrix w = random_matrix((shoal_format)format, 50, 64, &s);
        float x[9 * 64], y[9 * 50], want[9 * 50];
        fill(x, 9 * 64, &s);
        whole(y, &w, x, 64, 9);
        avx512->matmul(want, 50, &w, 0, 4, x, 64, 9);
        ASSERT_SAME(opt_in, y, want, 9 * 50);
        drop_matrix(&w);
    }
}
END_TEST

START_TEST(it_is_never_chosen_but_by_name)
{
    variants v = all_variants();
    for (int32_t i = 0; i < v.n; i++) {
        ck_assert_ptr_ne(v.kernels[i], opt_in);
        ck_assert_int_eq(shoal_kernels_bits(v.kernels[i]->name), 0);
    }
    ck_assert_int_ne(shoal_kernels_bits("avx512-bf16"), 0);
    ck_assert_int_eq(shoal_kernels_bits("auto"), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, sums_are_within_the_tolerance);
    SHOAL_TEST(suite, tokens_and_bands_do_not_change_a_sum);
    SHOAL_TEST(suite, neighbours_do_not_show);
    SHOAL_TEST(suite, every_e4m3_code_is_decoded_exactly);
    SHOAL_TEST(suite, the_rest_is_avx512);
    SHOAL_TEST(suite, it_is_never_chosen_but_by_name);
}

int main(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    if (shoal_kernels_select(&opt_in, "avx512-bf16", &log) != SHOAL_OK) {
        printf("skipped: %s\n", log.error);
        return SKIPPED;
    }
    return shoal_test_main("kernels.bf16", add_tests);
}
