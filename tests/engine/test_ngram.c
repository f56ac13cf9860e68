#include "runtime/engine/ngram.h"
#include "tests/support/check_main.h"

#include <string.h>

#define N(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

static void check_guess(const int32_t *token, int32_t n, int32_t n_max, const int32_t *wanted,
                        int32_t n_wanted)
{
    int32_t guess[16];
    memset(guess, 0x7f, sizeof(guess));
    ck_assert_int_eq(shoal_ngram_guess(guess, n_max, token, n), n_wanted);
    ck_assert(n_wanted == 0 || memcmp(guess, wanted, (size_t)n_wanted * sizeof(int32_t)) == 0);
    ck_assert_int_eq(guess[n_wanted], 0x7f7f7f7f);
}

START_TEST(what_followed_before)
{
    const int32_t text[] = {1, 2, 3, 4, 5, 6, 1, 2, 3};
    check_guess(text, N(text), 2, (int32_t[]){4, 5}, 2);
    check_guess(text, N(text), 4, (int32_t[]){4, 5, 6, 1}, 4);
    check_guess(text, N(text), 0, NULL, 0);
    /* not beyond the end of the text */
    const int32_t again[] = {9, 8, 9, 8};
    check_guess(again, N(again), 8, (int32_t[]){9, 8}, 2);
    const int32_t same[] = {5, 5};
    check_guess(same, N(same), 8, (int32_t[]){5}, 1);
}
END_TEST

START_TEST(the_longest_suffix_wins_then_the_latest)
{
    const int32_t longest[] = {1, 2, 3, 70, 2, 3, 71, 3, 72, 1, 2, 3};
    check_guess(longest, N(longest), 1, (int32_t[]){70}, 1);
    const int32_t two[] = {2, 3, 71, 3, 72, 1, 2, 3};
    check_guess(two, N(two), 1, (int32_t[]){71}, 1);
    const int32_t one[] = {4, 3, 72, 1, 2, 3};
    check_guess(one, N(one), 1, (int32_t[]){72}, 1);
    const int32_t latest[] = {1, 2, 3, 70, 1, 2, 3, 80, 1, 2, 3};
    check_guess(latest, N(latest), 1, (int32_t[]){80}, 1);
    /* a match of four is no better than one of three */
    const int32_t four[] = {9, 1, 2, 3, 70, 8, 1, 2, 3, 80, 9, 1, 2, 3};
    check_guess(four, N(four), 1, (int32_t[]){80}, 1);
}
END_TEST

START_TEST(nothing_known)
{
    const int32_t text[] = {1, 2, 3, 4};
    check_guess(text, 4, 4, NULL, 0);
    check_guess(text, 1, 4, NULL, 0);
    check_guess(text, 0, 4, NULL, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, what_followed_before);
    SHOAL_TEST(suite, the_longest_suffix_wins_then_the_latest);
    SHOAL_TEST(suite, nothing_known);
}

SHOAL_TEST_MAIN("engine.ngram", add_tests)
