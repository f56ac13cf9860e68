#include "tests/kernels/variants.h"

#include <float.h>

static float element(shoal_format format, const void *raw, int64_t i)
{
    switch (format) {
    case SHOAL_FORMAT_F32:
        return ((const float *)raw)[i];
    case SHOAL_FORMAT_F16:
        return shoal_f16_to_f32(((const uint16_t *)raw)[i]);
    case SHOAL_FORMAT_BF16:
        return shoal_bf16_to_f32(((const uint16_t *)raw)[i]);
    default:
        return shoal_e4m3_to_f32(((const uint8_t *)raw)[i]);
    }
}

/* Packed in two parts from a source of odd alignment into dirty memory, then read back. */
static void check_round_trip(shoal_format format, int32_t n_row, int32_t n_col)
{
    source s = {(uint64_t)n_row * 1000 + (uint64_t)n_col};
    int64_t n = (int64_t)n_row * n_col;
    shoal_matrix w = empty_matrix(format, n_row, n_col);
    size_t data_bytes = shoal_matrix_data_bytes(format, n_row, n_col);
    size_t elem_bytes = format == SHOAL_FORMAT_F32 ? 4 : format == SHOAL_FORMAT_FP8_BLOCK ? 1 : 2;
    int32_t n_stored = format == SHOAL_FORMAT_FP8_BLOCK ? n_col + n_col % 2 : n_col;
    ck_assert_uint_eq(data_bytes,
                      (size_t)shoal_matrix_n_band(&w) * 16 * (size_t)n_stored * elem_bytes);
    memset(w.data, 0xff, data_bytes);
    size_t n_scale = shoal_matrix_scale_bytes(format, n_row, n_col) / sizeof(float);
    for (size_t i = 0; w.scale != NULL && i < n_scale; i++)
        w.scale[i] = (float)(i + 1);

    void *raw = random_elements(format, n, &s);
    unsigned char *odd = room((size_t)n * elem_bytes + 1);
    memcpy(odd + 1, raw, (size_t)n * elem_bytes);
    int32_t part = n_row > 16 ? 16 : n_row;
    shoal_matrix_pack(&w, 0, part, odd + 1);
    shoal_matrix_pack(&w, part, n_row - part, odd + 1 + (size_t)part * (size_t)n_col * elem_bytes);

    int32_t n_block = (n_col + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK;
    for (int32_t r = 0; r < n_row; r++) {
        for (int32_t c = 0; c < n_col; c++) {
            float want = element(format, raw, (int64_t)r * n_col + c);
            if (format == SHOAL_FORMAT_FP8_BLOCK)
                want *= w.scale[r / SHOAL_FP8_BLOCK * n_block + c / SHOAL_FP8_BLOCK];
            float got = shoal_matrix_at(&w, r, c);
            ck_assert_msg(same_bits(got, want), "%s (%d, %d): %a, wanted %a",
                          shoal_format_text(format), r, c, (double)got, (double)want);
        }
    }
    /* The padding: rows of the last band, and beside an odd last column of FP8. */
    shoal_matrix padded = w;
    padded.n_row = shoal_matrix_n_band(&w) * SHOAL_BAND;
    padded.n_col = n_stored;
    float one[64];
    for (int32_t i = 0; i < 64; i++)
        one[i] = 1;
    padded.scale = one;
    for (int32_t r = 0; r < padded.n_row; r++) {
        for (int32_t c = 0; c < padded.n_col; c++)
            if ((r >= n_row || c >= n_col) && shoal_matrix_at(&padded, r, c) != 0)
                ck_abort_msg("%s: padding at (%d, %d)", shoal_format_text(format), r, c);
    }
    free(odd);
    free(raw);
    drop_matrix(&w);
}

START_TEST(elements_are_found_again)
{
    static const int32_t shape[][2] = {{1, 1},   {16, 16}, {17, 5},    {15, 130},
                                       {33, 64}, {48, 65}, {129, 257}, {300, 7}};
    for (int32_t format = 0; format < SHOAL_FORMAT_MXFP4; format++) {
        for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++)
            check_round_trip((shoal_format)format, shape[i][0], shape[i][1]);
    }
}
END_TEST

/* The same for MXFP4: gpt-oss's order in, the elements out, the padding of the last band zero. */
static void check_mxfp4(int32_t n_row, int32_t n_col)
{
    static const float value[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    source s = {(uint64_t)n_row * 1000 + (uint64_t)n_col};
    int32_t n_group = n_col / 32;
    shoal_matrix w = empty_matrix(SHOAL_FORMAT_MXFP4, n_row, n_col);
    size_t band_bytes = (size_t)n_group * 272;
    int32_t n_band = shoal_matrix_n_band(&w);
    ck_assert_uint_eq(shoal_matrix_data_bytes(w.format, n_row, n_col), n_band * band_bytes);
    memset(w.data, 0xff, n_band * band_bytes);
    uint8_t *blocks = room((size_t)n_row * n_group * 16);
    uint8_t *scales = room((size_t)n_row * n_group);
    for (int32_t i = 0; i < n_row * n_group * 16; i++)
        blocks[i] = (uint8_t)draw(&s);
    for (int32_t i = 0; i < n_row * n_group; i++)
        scales[i] = (uint8_t)(draw(&s) % 255);
    int32_t part = n_row > 16 ? 16 : n_row;
    shoal_matrix_pack_mxfp4(&w, part, n_row - part, blocks + part * n_group * 16,
                            scales + part * n_group);
    shoal_matrix_pack_mxfp4(&w, 0, part, blocks, scales);
    for (int32_t r = 0; r < n_row; r++) {
        for (int32_t c = 0; c < n_col; c++) {
            int32_t code = blocks[(r * n_group + c / 32) * 16 + c % 32 / 2] >> c % 2 * 4 & 15;
            float want = ldexpf(code < 8 ? value[code] : -value[code - 8],
                                scales[r * n_group + c / 32] - 127);
            ck_assert_msg(same_bits(shoal_matrix_at(&w, r, c), want), "(%d, %d)", r, c);
        }
    }
    const uint8_t *last = (const uint8_t *)w.data + (size_t)(n_band - 1) * band_bytes;
    for (size_t i = 0; i < band_bytes && n_row % 16 != 0; i++) {
        size_t lane = i % 272 < 16 ? i % 272 : (i % 272 - 16) % 64 / 4;
        ck_assert(lane < (size_t)(n_row % 16) || last[i] == 0);
    }
    free(scales);
    free(blocks);
    drop_matrix(&w);
}

START_TEST(mxfp4_is_taken_in_the_released_order)
{
    check_mxfp4(1, 32);
    check_mxfp4(16, 96);
    check_mxfp4(45, 64);
    check_mxfp4(160, 2880);
}
END_TEST

/* One row of up to 32 values, quantised; got: what they became. */
static void quantise(float *got, shoal_format format, const float *x, int32_t n)
{
    shoal_matrix w = empty_matrix(format, 1, n);
    int32_t bad_row = -1;
    memset(w.data, 0xff, shoal_matrix_data_bytes(format, 1, n));
    ck_assert(shoal_matrix_pack_quantised(&w, 0, 1, x, &bad_row));
    ck_assert_int_eq(bad_row, -1);
    for (int32_t c = 0; c < n; c++)
        got[c] = shoal_matrix_at(&w, 0, c);
    drop_matrix(&w);
}

static void check_quantised(shoal_format format, const float *x, const float *want, int32_t n)
{
    float got[32];
    quantise(got, format, x, n);
    for (int32_t c = 0; c < n; c++)
        ck_assert_msg(got[c] == want[c], "%s, column %d: %a became %a, wanted %a",
                      shoal_format_text(format), c, (double)x[c], (double)got[c], (double)want[c]);
}

START_TEST(values_are_rounded_to_the_nearest_even_step)
{
    check_quantised(SHOAL_FORMAT_Q8,
                    (float[]){127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -126.5f, 126.49f},
                    (float[]){127, 0, 2, 2, 0, -2, -126, 126}, 8);
    /* The largest magnitude decides the sign of the scale and is met at -8; the other end has 7. */
    check_quantised(SHOAL_FORMAT_Q4, (float[]){-8, 7.5f, 0.5f, 1.5f, -2.5f, -7.5f, 6.5f},
                    (float[]){-8, 7, 0, 2, -2, -8, 6}, 7);
    check_quantised(SHOAL_FORMAT_Q4, (float[]){8, -7.5f, 0.5f, -1.5f, 7.5f},
                    (float[]){8, -7, 0, -2, 8}, 5);
    check_quantised(SHOAL_FORMAT_Q4, (float[]){1, 4, -4}, (float[]){1, 4, -3.5f}, 3);
    check_quantised(SHOAL_FORMAT_Q4, (float[]){1, -4, 4}, (float[]){1, -4, 3.5f}, 3);
}
END_TEST

START_TEST(what_a_scale_cannot_hold_becomes_zero)
{
    for (int32_t f = 0; f < 2; f++) {
        shoal_format format = f == 0 ? SHOAL_FORMAT_Q8 : SHOAL_FORMAT_Q4;
        check_quantised(format, (float[]){0, -0.0f, 0}, (float[]){0, 0, 0}, 3);
        check_quantised(format, (float[]){1e-9f, -1e-9f}, (float[]){0, 0}, 2);
        check_quantised(format, (float[]){1e-45f, 0}, (float[]){0, 0}, 2);
    }
    /* A subnormal scale is coarse: 2^-24 where 1.4 * 2^-24 is wanted, so the ends are met early. */
    check_quantised(SHOAL_FORMAT_Q8, (float[]){178 * 0x1p-24f, -0x1.8p-24f},
                    (float[]){127 * 0x1p-24f, -0x1p-23f}, 2);
}
END_TEST

/* The row is named and the others are not needed. */
START_TEST(what_is_no_number_is_refused)
{
    const float bad[] = {NAN, INFINITY, -INFINITY, 65520.0f * 127, -65520.0f * 127, FLT_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int32_t f = 0; f < 2; f++) {
            shoal_format format = f == 0 ? SHOAL_FORMAT_Q8 : SHOAL_FORMAT_Q4;
            shoal_matrix w = empty_matrix(format, 40, 70);
            float *rows = floats(24 * 70);
            int32_t bad_row = -1;
            rows[21 * 70 + 69] = bad[i];
            ck_assert(!shoal_matrix_pack_quantised(&w, 16, 24, rows, &bad_row));
            ck_assert_int_eq(bad_row, 37);
            rows[21 * 70 + 69] = 65000;
            ck_assert(shoal_matrix_pack_quantised(&w, 16, 24, rows, &bad_row));
            free(rows);
            drop_matrix(&w);
        }
    }
}
END_TEST

/* The rule once more, in double and one value at a time. */
static float as_quantised(const float *group, int32_t n, int32_t c, shoal_format format)
{
    float m = 0;
    for (int32_t i = 0; i < n; i++)
        m = fabsf(group[i]) > fabsf(m) ? group[i] : m;
    bool q8 = format == SHOAL_FORMAT_Q8;
    float scale = shoal_f16_to_f32(shoal_f32_to_f16(q8 ? fabsf(m) / 127 : m / -8));
    if (scale == 0)
        return 0;
    double q = nearbyint((double)(group[c] / scale));
    q = fmin(fmax(q, q8 ? -127 : -8), q8 ? 127 : 7);
    return scale * (float)q;
}

/* Rows in two calls, into dirty memory, columns that end within a group. */
static void check_rows(shoal_format format, int32_t n_row, int32_t n_col)
{
    source s = {(uint64_t)n_row * 100 + (uint64_t)n_col};
    shoal_matrix w = empty_matrix(format, n_row, n_col);
    float *rows = floats((int64_t)n_row * n_col);
    for (int64_t i = 0; i < (int64_t)n_row * n_col; i++)
        rows[i] = ldexpf(draw_float(&s), (int32_t)(draw(&s) % 24) - 12);
    memset(w.data, 0xff, shoal_matrix_data_bytes(format, n_row, n_col));
    int32_t part = n_row > 16 ? 16 : n_row;
    int32_t bad_row;
    ck_assert(shoal_matrix_pack_quantised(&w, part, n_row - part, rows + part * n_col, &bad_row));
    ck_assert(shoal_matrix_pack_quantised(&w, 0, part, rows, &bad_row));
    for (int32_t r = 0; r < n_row; r++) {
        for (int32_t c = 0; c < n_col; c++) {
            int32_t c0 = c / 32 * 32;
            float want = as_quantised(rows + r * n_col + c0, n_col - c0 < 32 ? n_col - c0 : 32,
                                      c - c0, format);
            float got = shoal_matrix_at(&w, r, c);
            ck_assert_msg(got == want, "%s (%d, %d): %a, wanted %a", shoal_format_text(format), r,
                          c, (double)got, (double)want);
        }
    }
    /* Padding is zero as well: rows behind the last one, columns behind n_col. */
    shoal_matrix padded = w;
    padded.n_row = shoal_matrix_n_band(&w) * 16;
    padded.n_col = (n_col + 31) / 32 * 32;
    for (int32_t r = 0; r < padded.n_row; r++) {
        for (int32_t c = 0; c < padded.n_col; c++)
            if ((r >= n_row || c >= n_col) && shoal_matrix_at(&padded, r, c) != 0)
                ck_abort_msg("%s: padding at (%d, %d)", shoal_format_text(format), r, c);
    }
    free(rows);
    drop_matrix(&w);
}

START_TEST(rows_are_quantised_in_groups_of_32)
{
    static const int32_t shape[][2] = {{1, 1}, {16, 32}, {17, 70}, {45, 33}, {130, 257}};
    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
        check_rows(SHOAL_FORMAT_Q8, shape[i][0], shape[i][1]);
        check_rows(SHOAL_FORMAT_Q4, shape[i][0], shape[i][1]);
    }
}
END_TEST

/* Any byte and any finite scale of GGUF's blocks: what they mean comes out bit for bit. */
static void check_blocks(shoal_format format, int32_t n_row, int32_t n_col)
{
    source s = {(uint64_t)n_row * 100 + (uint64_t)n_col};
    bool q8 = format == SHOAL_FORMAT_Q8;
    int32_t n_group = n_col / 32;
    size_t block_bytes = q8 ? 34 : 18;
    shoal_matrix w = empty_matrix(format, n_row, n_col);
    uint8_t *blocks = room((size_t)(n_row * n_group) * block_bytes);
    memset(w.data, 0xff, shoal_matrix_data_bytes(format, n_row, n_col));
    for (size_t i = 0; i < (size_t)(n_row * n_group) * block_bytes; i++) {
        blocks[i] = (uint8_t)draw(&s);
        if (i % block_bytes == 1 && (blocks[i] & 0x7c) == 0x7c)
            blocks[i] ^= 0x40;
    }
    int32_t part = n_row > 16 ? 16 : n_row;
    shoal_matrix_pack_blocks(&w, part, n_row - part,
                             blocks + (size_t)(part * n_group) * block_bytes);
    shoal_matrix_pack_blocks(&w, 0, part, blocks);
    for (int32_t r = 0; r < n_row; r++) {
        for (int32_t c = 0; c < n_col; c++) {
            const uint8_t *block = blocks + (size_t)(r * n_group + c / 32) * block_bytes;
            int32_t nibble = block[2 + c % 16] >> c % 32 / 16 * 4 & 15;
            int32_t q = q8 ? (int8_t)block[2 + c % 32] : nibble - 8;
            float want = shoal_f16_to_f32((uint16_t)(block[0] | block[1] << 8)) * (float)q;
            ck_assert_msg(same_bits(shoal_matrix_at(&w, r, c), want), "%s (%d, %d)",
                          shoal_format_text(format), r, c);
        }
    }
    free(blocks);
    drop_matrix(&w);
}

START_TEST(blocks_are_kept_without_loss)
{
    static const int32_t shape[][2] = {{1, 32}, {16, 96}, {45, 64}, {130, 1024}};
    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
        check_blocks(SHOAL_FORMAT_Q8, shape[i][0], shape[i][1]);
        check_blocks(SHOAL_FORMAT_Q4, shape[i][0], shape[i][1]);
    }
}
END_TEST

START_TEST(sizes_are_held_in_64_bits)
{
    ck_assert_uint_eq(shoal_matrix_data_bytes(SHOAL_FORMAT_BF16, 17, 3), 32 * 3 * 2);
    ck_assert_uint_eq(shoal_matrix_data_bytes(SHOAL_FORMAT_FP8_BLOCK, 0, 3), 0);
    ck_assert_uint_eq(shoal_matrix_data_bytes(SHOAL_FORMAT_F32, 1 << 20, 1 << 14), 1ull << 36);
    ck_assert_uint_eq(shoal_matrix_data_bytes(SHOAL_FORMAT_F32, INT32_MAX, INT32_MAX),
                      (1ull << 31) * INT32_MAX * 4);
    ck_assert_uint_eq(shoal_matrix_data_bytes(SHOAL_FORMAT_Q8, 17, 33), 2 * 2 * 544);
    ck_assert_uint_eq(shoal_matrix_data_bytes(SHOAL_FORMAT_Q4, 1 << 20, 1 << 20),
                      (1ull << 31) * 288);
    ck_assert_uint_eq(shoal_matrix_scale_bytes(SHOAL_FORMAT_Q8, 17, 33), 0);
    ck_assert_uint_eq(shoal_matrix_scale_bytes(SHOAL_FORMAT_FP8_BLOCK, 129, 128), 2 * 4);
    ck_assert_uint_eq(shoal_matrix_scale_bytes(SHOAL_FORMAT_BF16, 129, 128), 0);
    ck_assert_uint_eq(shoal_matrix_scale_bytes(SHOAL_FORMAT_MXFP4, 129, 128), 0);
}
END_TEST

START_TEST(formats_know_their_dtype)
{
    static const shoal_dtype dtype[] = {SHOAL_DTYPE_F32, SHOAL_DTYPE_F16, SHOAL_DTYPE_BF16,
                                        SHOAL_DTYPE_F8_E4M3};
    for (int32_t i = 0; i < SHOAL_FORMAT_MXFP4; i++) {
        shoal_format format = SHOAL_N_FORMAT;
        ck_assert(shoal_format_of_dtype(&format, dtype[i]));
        ck_assert_int_eq(format, i);
    }
    shoal_format untouched = SHOAL_FORMAT_F16;
    ck_assert(!shoal_format_of_dtype(&untouched, SHOAL_DTYPE_I64));
    ck_assert_int_eq(untouched, SHOAL_FORMAT_F16);
    ck_assert(!shoal_format_of_dtype(&untouched, SHOAL_DTYPE_U8));
    ck_assert_str_eq(shoal_format_text(SHOAL_FORMAT_BF16), "bf16");
    ck_assert_str_eq(shoal_format_text(SHOAL_FORMAT_MXFP4), "mxfp4");
    ck_assert_str_eq(shoal_format_text(SHOAL_FORMAT_Q8), "q8");
    ck_assert_str_eq(shoal_format_text(SHOAL_FORMAT_Q4), "q4");
}
END_TEST

START_TEST(a_row_is_its_elements)
{
    enum { N_ROW = 37, N_COL = 96 };
    source s = {77};
    float row[N_COL];
    for (int32_t format = 0; format < SHOAL_N_FORMAT; format++) {
        shoal_matrix w = random_matrix((shoal_format)format, N_ROW, N_COL, &s);
        for (int32_t r = 0; r < N_ROW; r += 6) {
            shoal_matrix_row(row, &w, r);
            for (int32_t c = 0; c < N_COL; c++)
                ck_assert(same_bits(row[c], shoal_matrix_at(&w, r, c)));
        }
        drop_matrix(&w);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, elements_are_found_again);
    SHOAL_TEST(suite, a_row_is_its_elements);
    SHOAL_TEST(suite, mxfp4_is_taken_in_the_released_order);
    SHOAL_TEST(suite, values_are_rounded_to_the_nearest_even_step);
    SHOAL_TEST(suite, what_a_scale_cannot_hold_becomes_zero);
    SHOAL_TEST(suite, what_is_no_number_is_refused);
    SHOAL_TEST(suite, rows_are_quantised_in_groups_of_32);
    SHOAL_TEST(suite, blocks_are_kept_without_loss);
    SHOAL_TEST(suite, sizes_are_held_in_64_bits);
    SHOAL_TEST(suite, formats_know_their_dtype);
}

SHOAL_TEST_MAIN("kernels.matrix", add_tests)
