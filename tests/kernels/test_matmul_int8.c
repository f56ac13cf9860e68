#include "tests/kernels/variants.h"

enum { GUARD_BITS = 0x7fa5a5a5, MAX_FORM = MAX_VARIANT + 1 };

#if defined(SHOAL_TEST_EVEX)
void shoal__matmul_int8_evex(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0,
                             int32_t band1, const shoal_int8_group *x, int64_t ld_x,
                             int32_t n_token);
#endif

/* matmul_int8 of all variants that run here. */
typedef struct form {
    const char *name;
    void (*matmul_int8)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                        const shoal_int8_group *x, int64_t ld_x, int32_t n_token);
} form;

static int32_t all_forms(form form_out[MAX_FORM])
{
    variants v = all_variants();
    int32_t n = 0;
    for (; n < v.n; n++)
        form_out[n] = (form){v.kernels[n]->name, v.kernels[n]->matmul_int8};
#if defined(SHOAL_TEST_EVEX)
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        form_out[n++] = (form){"evex", shoal__matmul_int8_evex};
#endif
    return n;
}

static const shoal_format formats[] = {SHOAL_FORMAT_Q8, SHOAL_FORMAT_Q4, SHOAL_FORMAT_MXFP4};
enum { N_FORMAT = (int)(sizeof formats / sizeof formats[0]) };

static int32_t n_group_of(int32_t n_col)
{
    return (n_col + 31) / 32;
}

/* Where a group of a band begins, from the layout in matrix.h. */
static uint8_t *group_at(const shoal_matrix *w, int32_t band, int32_t group)
{
    size_t bytes = w->format == SHOAL_FORMAT_Q8 ? 544 : w->format == SHOAL_FORMAT_Q4 ? 288 : 272;
    return (uint8_t *)w->data + (size_t)(band * n_group_of(w->n_col) + group) * bytes;
}

/* Random bytes are weights, so this has every code, -128 of Q8 (which GGUF files may hold) too.
 * What lies behind n_col is not zero either: the activations there are. */
static shoal_matrix random_codes(shoal_format format, int32_t n_row, int32_t n_col, source *s)
{
    shoal_matrix w = empty_matrix(format, n_row, n_col);
    size_t n_bytes = shoal_matrix_data_bytes(format, n_row, n_col);
    for (size_t i = 0; i < n_bytes; i++)
        ((uint8_t *)w.data)[i] = (uint8_t)draw(s);
    for (int32_t b = 0; b < shoal_matrix_n_band(&w); b++) {
        for (int32_t g = 0; g < n_group_of(n_col); g++) {
            uint8_t *at = group_at(&w, b, g);
            for (int32_t r = 0; r < 16; r++) {
                uint16_t half = shoal_f32_to_f16(draw(s) % 23 == 0 ? 0x1p-20f : draw_float(s));
                if (format == SHOAL_FORMAT_MXFP4)
                    at[r] = (uint8_t)(draw(s) % 9 == 0 ? draw(s) % 3 : 117 + draw(s) % 16);
                else
                    memcpy(at + 2 * r, &half, sizeof half);
            }
        }
    }
    return w;
}

static int32_t weight_of(const shoal_matrix *w, int32_t row, int32_t col)
{
    static const int32_t e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const uint8_t *at = group_at(w, row / 16, col / 32);
    int32_t c = col % 32;
    if (w->format == SHOAL_FORMAT_Q8)
        return at[32 + c / 4 * 64 + row % 16 * 4 + c % 4] - 128;
    at += w->format == SHOAL_FORMAT_Q4 ? 32 : 16;
    int32_t byte = at[c % 16 / 4 * 64 + row % 16 * 4 + c % 4];
    int32_t code = c < 16 ? byte & 15 : byte >> 4;
    return w->format == SHOAL_FORMAT_Q4 ? code - 8 : e2m1[code];
}

static float scale_of(const shoal_matrix *w, int32_t row, int32_t group)
{
    const uint8_t *at = group_at(w, row / 16, group);
    if (w->format == SHOAL_FORMAT_MXFP4)
        return ldexpf(1.0f, at[row % 16] - 128);
    uint16_t half;
    memcpy(&half, at + row % 16 * 2, sizeof half);
    return shoal_f16_to_f32(half);
}

/* The specification in kernels.h, one output. */
static float one_output(const shoal_matrix *w, const shoal_int8_group *x, int32_t row)
{
    float acc = 0;
    for (int32_t g = 0; g < n_group_of(w->n_col); g++) {
        int32_t sum = 0;
        for (int32_t c = 0; c < 32 && g * 32 + c < w->n_col; c++)
            sum += weight_of(w, row, g * 32 + c) * x[g].q[c];
        float scale = scale_of(w, row, g) * x[g].scale;
        acc = fmaf((float)sum, scale, acc);
    }
    return acc;
}

/* Rows of activations: the largest values of both signs often, so that sums are as large as they
 * can be; zeros behind n_col. */
static shoal_int8_group *random_groups(int32_t n_col, int64_t ld, int32_t n_token, source *s)
{
    shoal_int8_group *x = room((size_t)(ld * n_token) * sizeof *x);
    for (int32_t t = 0; t < n_token; t++) {
        for (int32_t g = 0; g < n_group_of(n_col); g++) {
            shoal_int8_group *group = &x[t * ld + g];
            int32_t extreme = (int32_t)(draw(s) % 4);
            for (int32_t c = 0; c < 32 && g * 32 + c < n_col; c++) {
                group->q[c] = (int8_t)(extreme == 0   ? 127
                                       : extreme == 1 ? -127
                                                      : (int32_t)(draw(s) % 255) - 127);
                group->minus_8_sum -= 8 * group->q[c];
            }
            group->scale = draw(s) % 29 == 0 ? 0x1p-140f : fabsf(draw_float(s));
        }
    }
    return x;
}

static void fill_guard(float *y, int64_t n)
{
    const uint32_t guard = GUARD_BITS;
    for (int64_t i = 0; i < n; i++)
        memcpy(&y[i], &guard, sizeof guard);
}

/* All forms byte for byte, in a y that is wider than the matrix and must keep what lies beside it.
 * extreme: all weights are this byte, so that no intermediate sum may overflow. */
static void check(shoal_format format, int32_t n_row, int32_t n_col, int32_t n_token,
                  int32_t extreme)
{
    n_col = columns(format, n_col);
    source s = {(uint64_t)(n_row * 31 + n_col * 7 + n_token)};
    shoal_matrix w = random_codes(format, n_row, n_col, &s);
    if (extreme >= 0) {
        for (int32_t b = 0; b < shoal_matrix_n_band(&w); b++) {
            for (int32_t g = 0; g < n_group_of(n_col); g++) {
                uint8_t *at = group_at(&w, b, g);
                memset(at + (format == SHOAL_FORMAT_MXFP4 ? 16 : 32), extreme,
                       format == SHOAL_FORMAT_Q8 ? 512 : 256);
            }
        }
    }
    int64_t ld_x = n_group_of(n_col) + 2;
    int64_t ld_y = n_row + 5;
    shoal_int8_group *x = random_groups(n_col, ld_x, n_token, &s);
    float *y = floats(ld_y * n_token);
    float *want = floats(ld_y * n_token);
    fill_guard(want, ld_y * n_token);
    for (int32_t t = 0; t < n_token; t++) {
        for (int32_t r = 0; r < n_row; r++)
            want[t * ld_y + r] = one_output(&w, x + t * ld_x, r);
    }
    form f[MAX_FORM];
    int32_t n_form = all_forms(f);
    for (int32_t i = 0; i < n_form; i++) {
        fill_guard(y, ld_y * n_token);
        f[i].matmul_int8(y, ld_y, &w, 0, shoal_matrix_n_band(&w), x, ld_x, n_token);
        ck_assert_msg(memcmp(y, want, (size_t)(ld_y * n_token) * sizeof(float)) == 0,
                      "%s %s [%d, %d] x %d tokens", f[i].name, shoal_format_text(format), n_row,
                      n_col, n_token);
    }
    free(want);
    free(y);
    free(x);
    drop_matrix(&w);
}

START_TEST(ragged_shapes_have_the_specified_bits)
{
    static const int32_t shape[][2] = {{1, 1},   {16, 32},  {17, 33},  {3, 255},
                                       {40, 50}, {131, 31}, {150, 300}};
    for (int32_t i = 0; i < N_FORMAT; i++) {
        for (size_t k = 0; k < sizeof shape / sizeof shape[0]; k++) {
            for (int32_t n_token = 1; n_token <= 5; n_token++)
                check(formats[i], shape[k][0], shape[k][1], n_token, -1);
        }
    }
}
END_TEST

START_TEST(any_number_of_tokens_has_the_specified_bits)
{
    for (int32_t i = 0; i < N_FORMAT; i++) {
        for (int32_t n_token = 1; n_token <= 35; n_token++)
            check(formats[i], 18, 137, n_token, -1);
        check(formats[i], 18, 137, 100, -1);
    }
}
END_TEST

/* Every code alone: 0x77 is MXFP4's 12, 0xff its -12, 0 Q4's -8 and Q8's -128. */
START_TEST(extreme_weights_do_not_overflow)
{
    for (int32_t i = 0; i < N_FORMAT; i++) {
        for (int32_t nibble = 0; nibble < 16; nibble++) {
            check(formats[i], 16, 128, 1, nibble * 17);
            check(formats[i], 16, 128, 6, nibble * 17);
        }
    }
}
END_TEST

/* A band range writes the rows of these bands only, and no token writes nothing. */
START_TEST(bands_are_independent)
{
    source s = {9};
    form f[MAX_FORM];
    int32_t n_form = all_forms(f);
    shoal_matrix w = random_codes(SHOAL_FORMAT_Q4, 90, 70, &s);
    shoal_int8_group *x = random_groups(70, 3, 2, &s);
    float whole[2 * 90], parts[2 * 90];
    for (int32_t i = 0; i < n_form; i++) {
        f[i].matmul_int8(whole, 90, &w, 0, 6, x, 3, 2);
        fill_guard(parts, 180);
        f[i].matmul_int8(parts, 90, &w, 0, 6, x, 3, 0);
        f[i].matmul_int8(parts, 90, &w, 3, 3, x, 3, 2);
        ck_assert(isnan(parts[0]) && isnan(parts[179]));
        f[i].matmul_int8(parts, 90, &w, 2, 6, x, 3, 2);
        ck_assert(isnan(parts[31]) && isnan(parts[90 + 31]) && !isnan(parts[32]));
        f[i].matmul_int8(parts, 90, &w, 0, 2, x, 3, 2);
        ck_assert_msg(memcmp(whole, parts, sizeof whole) == 0, "%s", f[i].name);
    }
    free(x);
    drop_matrix(&w);
}
END_TEST

/* What packing, the quantisation of rows and the product make of numbers is close to the product of
 * those numbers. */
START_TEST(quantised_products_are_near)
{
    enum { N_ROW = 40, N_COL = 300, N_GROUP = 10 };
    variants v = all_variants();
    source s = {10};
    float x[N_COL], y[N_ROW];
    shoal_int8_group groups[N_GROUP];
    fill(x, N_COL, &s);
    for (int32_t k = 0; k < N_FORMAT; k++) {
        int32_t n_col = columns(formats[k], N_COL - SHOAL_GROUP);
        shoal_matrix w = random_matrix(formats[k], N_ROW, n_col, &s);
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->to_groups(groups, x, n_col);
            v.kernels[i]->matmul_int8(y, N_ROW, &w, 0, shoal_matrix_n_band(&w), groups, N_GROUP, 1);
            for (int32_t r = 0; r < N_ROW; r++) {
                double exact = 0, size = 0;
                for (int32_t c = 0; c < n_col; c++) {
                    double term = (double)shoal_matrix_at(&w, r, c);
                    exact += term * (double)x[c];
                    size += fabs(term);
                }
                /* An activation is off by half a step, amax / 254, of at most 1 / 254. */
                ck_assert_double_le(fabs((double)y[r] - exact), size / 254 + 1e-5);
            }
        }
        drop_matrix(&w);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, ragged_shapes_have_the_specified_bits);
    SHOAL_TEST(suite, any_number_of_tokens_has_the_specified_bits);
    SHOAL_TEST(suite, extreme_weights_do_not_overflow);
    SHOAL_TEST(suite, bands_are_independent);
    SHOAL_TEST(suite, quantised_products_are_near);
}

SHOAL_TEST_MAIN("kernels.matmul_int8", add_tests)
