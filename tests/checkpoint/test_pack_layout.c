/* The packed bytes of every format, as a number each: they are kept on disk (--cache), so when one
 * changes, SHOAL_PACK_VERSION (runtime/checkpoint/pack_file.h) must be raised, and then this. */
#include "runtime/base/checksum.h"
#include "runtime/kernels/matrix.h"
#include "tests/support/check_main.h"

#include <stdio.h>
#include <string.h>

enum { N_ROW = 37, N_COL = 96 };

/* Values that fit every format: small multiples of 1/8. */
static float value_at(int32_t i)
{
    return (float)((i * 37 + i / 7) % 61 - 30) / 8;
}

static void pack(shoal_matrix *w)
{
    static float f32[N_ROW * N_COL];
    static uint16_t half[N_ROW * N_COL];
    static uint8_t byte[N_ROW * N_COL];
    for (int32_t i = 0; i < N_ROW * N_COL; i++) {
        f32[i] = value_at(i);
        half[i] =
            w->format == SHOAL_FORMAT_F16 ? shoal_f32_to_f16(f32[i]) : shoal_f32_to_bf16(f32[i]);
        byte[i] = (uint8_t)(i * 11 % 120);
    }
    int32_t bad_row;
    switch (w->format) {
    case SHOAL_FORMAT_F32:
        shoal_matrix_pack(w, 0, N_ROW, f32);
        break;
    case SHOAL_FORMAT_F16:
    case SHOAL_FORMAT_BF16:
        shoal_matrix_pack(w, 0, N_ROW, half);
        break;
    case SHOAL_FORMAT_FP8_BLOCK:
        shoal_matrix_pack(w, 0, N_ROW, byte);
        break;
    case SHOAL_FORMAT_MXFP4:
        shoal_matrix_pack_mxfp4(w, 0, N_ROW, byte, byte + 100);
        break;
    case SHOAL_FORMAT_Q8:
    case SHOAL_FORMAT_Q4:
        ck_assert(shoal_matrix_pack_quantised(w, 0, N_ROW, f32, &bad_row));
        break;
    case SHOAL_N_FORMAT:
        break;
    }
}

START_TEST(test_layout)
{
    static const uint64_t wanted[SHOAL_N_FORMAT] = {
        [SHOAL_FORMAT_F32] = 0x47fabe3a3ec4d6c2,   [SHOAL_FORMAT_F16] = 0x408597bb9dc94040,
        [SHOAL_FORMAT_BF16] = 0xbef5f2a6d8f60305,  [SHOAL_FORMAT_FP8_BLOCK] = 0x259b01f9d2e04c23,
        [SHOAL_FORMAT_MXFP4] = 0x439d68d94b97da55, [SHOAL_FORMAT_Q8] = 0x56dc7c25952b56b1,
        [SHOAL_FORMAT_Q4] = 0x1a00b842efa3ee43};
    for (int32_t f = 0; f < SHOAL_N_FORMAT; f++) {
        shoal_matrix w = {.format = (shoal_format)f, .n_row = N_ROW, .n_col = N_COL};
        size_t n_bytes = shoal_matrix_data_bytes(w.format, N_ROW, N_COL);
        w.data = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
        ck_assert_ptr_nonnull(w.data);
        memset(w.data, 0x5a, n_bytes);
        pack(&w);
        uint64_t found = shoal_checksum(0, w.data, n_bytes);
        free(w.data);
        ck_assert_msg(found == wanted[f],
                      "%s packs to other bytes: checksum 0x%016llx; raise SHOAL_PACK_VERSION",
                      shoal_format_text((shoal_format)f), (unsigned long long)found);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_layout);
}

SHOAL_TEST_MAIN("checkpoint.pack_layout", add_tests)
