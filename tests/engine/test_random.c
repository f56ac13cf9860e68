#include "runtime/engine/random.h"
#include "tests/support/check_main.h"

#include <stdbool.h>
#include <string.h>

/* Known answers of Random123, kat_vectors: philox4x32 10. */
typedef struct known_answer {
    uint32_t counter[4], key[2], out[4];
} known_answer;

static const known_answer known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

START_TEST(known_answers)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint32_t out[4];
        shoal__philox4x32(out, known[i].counter, known[i].key);
        ck_assert_mem_eq(out, known[i].out, sizeof(out));
        memcpy(out, known[i].counter, sizeof(out)); /* in place */
        shoal__philox4x32(out, out, known[i].key);
        ck_assert_mem_eq(out, known[i].out, sizeof(out));
    }
}
END_TEST

/* These numbers are part of every sampled text: they may never change. */
START_TEST(frozen)
{
    ck_assert_float_eq(shoal_random_uniform(0, 0, 0, 0), 0x1.235b64p-1F);
    ck_assert_float_eq(shoal_random_uniform(42, 7, 100, 0), 0x1.6d154p-5F);
    ck_assert_float_eq(shoal_random_uniform(UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX),
                       0x1.dc2b1ap-1F);
}
END_TEST

/* Chi-square of 64 bins over n draws made by walking one of the four words. 63 degrees of freedom:
 * mean 63, standard deviation 11.2; the draws are fixed, so this either holds or never does. */
static double chi_square(int32_t word, int32_t shift)
{
    enum { N_BIN = 64, N_DRAW = 16000 };
    int32_t count[N_BIN] = {0};
    for (uint64_t i = 0; i < N_DRAW; i++) {
        uint64_t w[4] = {3, 1, 4, 1};
        w[word] = i << shift;
        const float u = shoal_random_uniform(w[0], w[1], w[2], w[3]);
        ck_assert(u >= 0.0F && u < 1.0F);
        count[(int32_t)(u * N_BIN)]++;
    }
    double chi = 0.0;
    const double expected = (double)N_DRAW / N_BIN;
    for (int32_t b = 0; b < N_BIN; b++)
        chi += (count[b] - expected) * (count[b] - expected) / expected;
    return chi;
}

START_TEST(every_word_matters)
{
    for (int32_t word = 0; word < 4; word++) {
        for (int32_t shift = 0; shift <= 40; shift += 20) {
            const double chi = chi_square(word, shift);
            ck_assert_msg(chi > 25.0 && chi < 120.0, "word %d << %d: chi-square %g", word, shift,
                          chi);
        }
    }
}
END_TEST

/* Neighbouring streams do not follow each other: the sign of u - 1/2 agrees about half the time. */
START_TEST(streams_are_independent)
{
    enum { N_DRAW = 40000 };
    int32_t by_seed = 0, by_key = 0, swapped = 0;
    for (uint64_t i = 0; i < N_DRAW; i++) {
        const bool here = shoal_random_uniform(5, 6, i, 0) < 0.5F;
        by_seed += here == (shoal_random_uniform(6, 6, i, 0) < 0.5F);
        by_key += here == (shoal_random_uniform(5, 7, i, 0) < 0.5F);
        swapped += here == (shoal_random_uniform(6, 5, i, 0) < 0.5F);
    }
    const int32_t agree[3] = {by_seed, by_key, swapped};
    for (int32_t i = 0; i < 3; i++) /* standard deviation 100 */
        ck_assert_msg(agree[i] > N_DRAW / 2 - 500 && agree[i] < N_DRAW / 2 + 500,
                      "case %d: %d of %d agree", i, agree[i], (int)N_DRAW);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, known_answers);
    SHOAL_TEST(suite, frozen);
    SHOAL_TEST(suite, every_word_matters);
    SHOAL_TEST(suite, streams_are_independent);
}

SHOAL_TEST_MAIN("engine.random", add_tests)
