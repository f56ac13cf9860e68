/* Block types of GGUF: every value the same bits as the gguf package gives
 * (tests/checkpoint/gguf/make_cases.py). */
#include "runtime/checkpoint/dequant.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

static const struct {
    uint32_t ggml;
    shoal_dtype dtype;
} types[] = {
    {2, SHOAL_DTYPE_Q4_0},  {3, SHOAL_DTYPE_Q4_1},  {6, SHOAL_DTYPE_Q5_0},
    {7, SHOAL_DTYPE_Q5_1},  {8, SHOAL_DTYPE_Q8_0},  {12, SHOAL_DTYPE_Q4_K},
    {13, SHOAL_DTYPE_Q5_K}, {14, SHOAL_DTYPE_Q6_K}, {39, SHOAL_DTYPE_MXFP4},
};
enum { N_TYPE = sizeof types / sizeof types[0], N_BLOCK_MAX = 64 };

/* One type of the file; false at its end. */
static bool check_type(FILE *file, int i)
{
    uint32_t head[4];
    ck_assert_uint_eq(fread(head, 4, 1, file), 1);
    if (head[0] == UINT32_MAX)
        return false;
    ck_assert_uint_eq(fread(head + 1, 4, 3, file), 3);
    ck_assert_int_lt(i, N_TYPE);
    ck_assert_uint_eq(head[0], types[i].ggml);
    ck_assert_uint_eq(head[2], shoal_dtype_bytes(types[i].dtype));
    ck_assert_uint_eq(head[3], shoal_dtype_block(types[i].dtype));
    ck_assert(head[1] > 8 && head[1] <= N_BLOCK_MAX);
    size_t n_bytes = (size_t)head[1] * head[2], n = (size_t)head[1] * head[3];
    uint8_t *blocks = malloc(n_bytes); /* exactly: so that reading beyond is seen */
    float *wanted = malloc(n * sizeof *wanted);
    float *found = malloc(n * sizeof *found);
    ck_assert(blocks != NULL && wanted != NULL && found != NULL);
    ck_assert_uint_eq(fread(blocks, 1, n_bytes, file), n_bytes);
    ck_assert_uint_eq(fread(wanted, sizeof *wanted, n, file), n);
    ck_assert(shoal__is_float_dtype(types[i].dtype));
    shoal__to_f32(found, blocks, types[i].dtype, n);
    for (size_t k = 0; k < n; k++)
        if (found[k] != wanted[k] || signbit(found[k]) != signbit(wanted[k]))
            ck_abort_msg("%s: element %zu is %a, wanted %a", shoal_dtype_text(types[i].dtype), k,
                         (double)found[k], (double)wanted[k]);
    if (types[i].dtype == SHOAL_DTYPE_MXFP4) { /* in the layout of gpt-oss, the same but -0 */
        uint8_t nibbles[N_BLOCK_MAX * 16], scales[N_BLOCK_MAX];
        shoal__mxfp4_split(nibbles, scales, blocks, head[1]);
        shoal__mxfp4_to_f32(found, nibbles, scales, n);
        for (size_t k = 0; k < n; k++)
            ck_assert(found[k] == wanted[k]);
    }
    free(found);
    free(wanted);
    free(blocks);
    return true;
}

START_TEST(test_every_type)
{
    FILE *file = fopen(fixture_source_path("tests/checkpoint/gguf/dequant.bin"), "rb");
    ck_assert_ptr_nonnull(file);
    int n = 0;
    while (check_type(file, n))
        n++;
    ck_assert_int_eq(n, N_TYPE);
    fclose(file);
}
END_TEST

START_TEST(test_plain_types)
{
    static const uint8_t e8m0[4] = {0, 1, 127, 254};
    float x[4];
    shoal__to_f32(x, e8m0, SHOAL_DTYPE_F8_E8M0, 4);
    ck_assert(x[0] == 0x1p-127F && x[1] == 0x1p-126F && x[2] == 1.0F && x[3] == 0x1p127F);
    ck_assert(isnan(shoal_e8m0_to_f32(255)));
    ck_assert(!shoal__is_float_dtype(SHOAL_DTYPE_I32) && !shoal__is_float_dtype(SHOAL_DTYPE_OTHER));
    ck_assert_uint_eq(shoal_dtype_bytes(SHOAL_DTYPE_OTHER), 0);
    ck_assert_uint_eq(shoal_dtype_block(SHOAL_DTYPE_BF16), 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_every_type);
    SHOAL_TEST(suite, test_plain_types);
}

SHOAL_TEST_MAIN("checkpoint.dequant", add_tests)
