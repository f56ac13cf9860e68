#include "tests/kernels/variants.h"

enum { GUARD_BITS = 0x7fa5a5a5 };

static void fill_guard(float *y, int64_t n)
{
    const uint32_t guard = GUARD_BITS;
    for (int64_t i = 0; i < n; i++)
        memcpy(&y[i], &guard, sizeof guard);
}

/* The scale of a row and group of a quantised matrix, from its bytes. */
static float scale_of(const shoal_matrix *w, int32_t row, int32_t group)
{
    size_t at = (size_t)(row / 16) * (size_t)((w->n_col + 31) / 32) + (size_t)group;
    const uint8_t *data = w->data;
    if (w->format == SHOAL_FORMAT_MXFP4)
        return ldexpf(1.0f, data[at * 272 + (size_t)(row % 16)] - 127);
    uint16_t half;
    memcpy(&half, data + at * (w->format == SHOAL_FORMAT_Q8 ? 544 : 288) + (size_t)(row % 16) * 2,
           sizeof half);
    return shoal_f16_to_f32(half);
}

/* An element divided by its scale is exact. */
static float one_quantised(const shoal_matrix *w, const float *x, int32_t row)
{
    float acc = 0;
    for (int32_t c0 = 0; c0 < w->n_col; c0 += 32) {
        float scale = scale_of(w, row, c0 / 32);
        float group = 0;
        for (int32_t c = c0; c < c0 + 32 && c < w->n_col; c++) {
            double element = scale == 0 ? 0 : (double)shoal_matrix_at(w, row, c) / (double)scale;
            group = fmaf((float)element, x[c], group);
        }
        acc = fmaf(scale, group, acc);
    }
    return acc;
}

/* The specification, one element: sequential fma over the columns, FP8 and quantised
 * formats in groups. */
static float one_output(const shoal_matrix *w, const float *x, int32_t row)
{
    if (shoal_format_is_quantised(w->format))
        return one_quantised(w, x, row);
    if (w->format != SHOAL_FORMAT_FP8_BLOCK) {
        float acc = 0;
        for (int32_t c = 0; c < w->n_col; c++)
            acc = fmaf(shoal_matrix_at(w, row, c), x[c], acc);
        return acc;
    }
    shoal_matrix unscaled = *w;
    float one[1024];
    int32_t n_block = (w->n_col + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK;
    for (int32_t i = 0; i < 1024; i++)
        one[i] = 1.0f;
    unscaled.scale = one;
    float acc = 0;
    for (int32_t b = 0; b < n_block; b++) {
        float group = 0;
        for (int32_t c = b * 128; c < (b + 1) * 128 && c < w->n_col; c++)
            group = fmaf(shoal_matrix_at(&unscaled, row, c), x[c], group);
        acc = fmaf(w->scale[row / SHOAL_FP8_BLOCK * n_block + b], group, acc);
    }
    return acc;
}

/* All variants against the specification, byte for byte, in a y that is wider than the matrix and
 * must keep what lies beside it; and the specification against a sum in double. */
static void check_matmul(shoal_format format, int32_t n_row, int32_t n_any, int32_t n_token)
{
    int32_t n_col = columns(format, n_any);
    source s = {(uint64_t)(n_row * 31 + n_col * 7 + n_token)};
    variants v = all_variants();
    shoal_matrix w = random_matrix(format, n_row, n_col, &s);
    int64_t ld_x = n_col + 3;
    int64_t ld_y = n_row + 5;
    float *x = floats(ld_x * n_token);
    float *y = floats(ld_y * n_token);
    float *want = floats(ld_y * n_token);
    fill(x, ld_x * n_token, &s);
    fill_guard(want, ld_y * n_token);
    for (int32_t t = 0; t < n_token; t++) {
        for (int32_t r = 0; r < n_row; r++) {
            want[t * ld_y + r] = one_output(&w, x + t * ld_x, r);
            double exact = 0, size = 0;
            for (int32_t c = 0; c < n_col; c++) {
                double term = (double)shoal_matrix_at(&w, r, c) * (double)x[t * ld_x + c];
                exact += term;
                size += fabs(term);
            }
            ck_assert_double_le(fabs((double)want[t * ld_y + r] - exact), 1e-5 * size + 1e-30);
        }
    }
    for (int32_t i = 0; i < v.n; i++) {
        fill_guard(y, ld_y * n_token);
        v.kernels[i]->matmul(y, ld_y, &w, 0, shoal_matrix_n_band(&w), x, ld_x, n_token);
        ck_assert_msg(memcmp(y, want, (size_t)(ld_y * n_token) * sizeof(float)) == 0,
                      "%s %s [%d, %d] x %d tokens", v.kernels[i]->name, shoal_format_text(format),
                      n_row, n_col, n_token);
    }
    free(want);
    free(y);
    free(x);
    drop_matrix(&w);
}

START_TEST(ragged_shapes_have_the_specified_bits)
{
    static const int32_t shape[][2] = {{1, 1},   {16, 128}, {17, 129}, {3, 255},
                                       {40, 50}, {131, 33}, {150, 300}};
    for (int32_t format = 0; format < SHOAL_N_FORMAT; format++) {
        for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
            for (int32_t n_token = 1; n_token <= 5; n_token++)
                check_matmul((shoal_format)format, shape[i][0], shape[i][1], n_token);
        }
    }
}
END_TEST

START_TEST(any_number_of_tokens_has_the_specified_bits)
{
    for (int32_t format = 0; format < SHOAL_N_FORMAT; format++) {
        for (int32_t n_token = 1; n_token <= 33; n_token++)
            check_matmul((shoal_format)format, 18, 137, n_token);
        check_matmul((shoal_format)format, 18, 137, 71);
    }
}
END_TEST

/* A band range writes the rows of these bands only. */
START_TEST(bands_are_independent)
{
    source s = {9};
    variants v = all_variants();
    shoal_matrix w = random_matrix(SHOAL_FORMAT_BF16, 90, 40, &s);
    float x[2 * 40], whole[2 * 90], parts[2 * 90];
    fill(x, 80, &s);
    for (int32_t i = 0; i < v.n; i++) {
        v.kernels[i]->matmul(whole, 90, &w, 0, 6, x, 40, 2);
        fill_guard(parts, 180);
        v.kernels[i]->matmul(parts, 90, &w, 2, 3, x, 40, 2);
        for (int32_t r = 0; r < 180; r++) {
            uint32_t bits;
            memcpy(&bits, &parts[r], sizeof bits);
            ck_assert_msg((r % 90 / 16 == 2) == (bits != GUARD_BITS), "row %d", r);
        }
        v.kernels[i]->matmul(parts, 90, &w, 0, 2, x, 40, 2);
        v.kernels[i]->matmul(parts, 90, &w, 3, 6, x, 40, 2);
        ASSERT_SAME(v.kernels[i], parts, whole, 180);
    }
    drop_matrix(&w);
}
END_TEST

/* Every code of the small formats that is a number, multiplied by one. */
START_TEST(every_code_is_decoded_exactly)
{
    variants v = all_variants();
    static const shoal_format format[] = {SHOAL_FORMAT_FP8_BLOCK, SHOAL_FORMAT_F16,
                                          SHOAL_FORMAT_BF16};
    for (size_t f = 0; f < 3; f++) {
        int32_t n_code = format[f] == SHOAL_FORMAT_FP8_BLOCK ? 256 : 65536;
        shoal_matrix w = empty_matrix(format[f], n_code, 1);
        uint8_t *raw = room((size_t)n_code * 2);
        for (int32_t i = 0; i < n_code; i++) {
            if (n_code == 256)
                raw[i] = (uint8_t)(i % 128 == 127 ? 0 : i);
            else
                ((uint16_t *)(void *)raw)[i] = (uint16_t)i;
        }
        shoal_matrix_pack(&w, 0, n_code, raw);
        for (int32_t i = 0; w.scale != NULL && i < 2; i++)
            w.scale[i] = 1;
        float *y = floats(n_code);
        float *want = floats(n_code);
        float one = 1;
        for (int32_t i = 0; i < n_code; i++)
            want[i] = shoal_matrix_at(&w, i, 0) + 0.0f;
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->matmul(y, n_code, &w, 0, shoal_matrix_n_band(&w), &one, 1, 1);
            ASSERT_SAME(v.kernels[i], y, want, n_code);
        }
        free(want);
        free(y);
        free(raw);
        drop_matrix(&w);
    }
}
END_TEST

/* Every code with every scale, subnormal products included: column 0 of 32 is multiplied by one. */
START_TEST(every_mxfp4_code_and_scale_is_decoded_exactly)
{
    static const float value[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    enum { N_ROW = 16 * 255 };
    variants v = all_variants();
    shoal_matrix w = empty_matrix(SHOAL_FORMAT_MXFP4, N_ROW, 64);
    uint8_t *blocks = room((size_t)N_ROW * 32);
    uint8_t *scales = room((size_t)N_ROW * 2);
    float *want = floats(N_ROW);
    float *y = floats(N_ROW);
    for (int32_t column = 0; column < 64; column += 21) {
        memset(blocks, 0, (size_t)N_ROW * 32);
        for (int32_t r = 0; r < N_ROW; r++) {
            blocks[r * 32 + column / 2] = (uint8_t)(r % 16 << column % 2 * 4);
            scales[r * 2 + column / 32] = (uint8_t)(r / 16);
            want[r] = (float)ldexp((double)value[r % 16], r / 16 - 127);
        }
        shoal_matrix_pack_mxfp4(&w, 0, N_ROW, blocks, scales);
        float x[64] = {0};
        x[column] = 1;
        for (int32_t r = 0; r < N_ROW; r++)
            ck_assert(same_bits(shoal_matrix_at(&w, r, column), want[r]));
        for (int32_t r = 0; r < N_ROW; r++)
            want[r] += 0.0f;
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->matmul(y, N_ROW, &w, 0, N_ROW / 16, x, 64, 1);
            ASSERT_SAME(v.kernels[i], y, want, N_ROW);
        }
    }
    free(y);
    free(want);
    free(scales);
    free(blocks);
    drop_matrix(&w);
}
END_TEST

/* Overflow, subnormal sums and signed zeros are the same everywhere. */
START_TEST(extreme_inputs_have_the_same_bits)
{
    source s = {77};
    variants v = all_variants();
    shoal_matrix w = random_matrix(SHOAL_FORMAT_F32, 32, 70, &s);
    for (int32_t i = 0; i < 32 * 70; i++)
        ((float *)w.data)[i] = draw_any(&s);
    float x[9 * 70], y[9 * 32], want[9 * 32];
    for (int32_t i = 0; i < 9 * 70; i++)
        x[i] = i / 70 % 2 == 0 ? draw_any(&s) : draw_float(&s) * 0x1p-120f;
    x[3] = INFINITY;
    v.kernels[0]->matmul(want, 32, &w, 0, 2, x, 70, 9);
    for (int32_t i = 1; i < v.n; i++) {
        v.kernels[i]->matmul(y, 32, &w, 0, 2, x, 70, 9);
        ASSERT_SAME(v.kernels[i], y, want, 9 * 32);
    }
    drop_matrix(&w);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, ragged_shapes_have_the_specified_bits);
    SHOAL_TEST(suite, any_number_of_tokens_has_the_specified_bits);
    SHOAL_TEST(suite, bands_are_independent);
    SHOAL_TEST(suite, every_code_is_decoded_exactly);
    SHOAL_TEST(suite, every_mxfp4_code_and_scale_is_decoded_exactly);
    SHOAL_TEST(suite, extreme_inputs_have_the_same_bits);
}

SHOAL_TEST_MAIN("kernels.matmul", add_tests)
