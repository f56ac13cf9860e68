/* Guesses do not change what is drawn, only how: frequencies against the exact probabilities
 * (chi-square, fixed seeds, critical value at p = 1e-4), for one guess and for chains of them. */
#include "runtime/engine/sampler.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

/* Frequencies are no matter of memory: under the sanitizer fewer draws walk the same code. */
#if defined(__SANITIZE_ADDRESS__)
enum { N_DRAW = 2500 };
#else
enum { N_DRAW = 20000 };
#endif
enum { N_VOCAB = 12, N_STATE = 5, N_CHAIN = 3 };

typedef struct fixture {
    shoal_log log;
    shoal_arena arena;
    shoal_sampler sampler;
    const shoal_kernels *kernels;
} fixture;

static fixture f;

static void open_fixture(int32_t n_vocab)
{
    shoal_log_init(&f.log, stderr, 0, "test");
    ck_assert_int_eq(shoal_kernels_select(&f.kernels, "auto", &f.log), SHOAL_OK);
    shoal_arena_measure(&f.arena, "sampler");
    shoal_sampler_carve(&f.sampler, &f.arena, n_vocab);
    ck_assert_int_eq(shoal_arena_open(&f.arena, &f.log), SHOAL_OK);
    shoal_sampler_carve(&f.sampler, &f.arena, n_vocab);
}

static void close_fixture(void)
{
    ck_assert(shoal_arena_check(&f.arena));
    shoal_arena_close(&f.arena);
}

/* What sampler.h says, in the plainest way. */
static void exact(double *p, const float *logits, int32_t n, const shoal_sampling *sampling)
{
    int32_t order[N_VOCAB];
    double total = 0.0, kept = 0.0;
    for (int32_t i = 0; i < n; i++) {
        int32_t at = i;
        for (; at > 0 && logits[order[at - 1]] < logits[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    const int32_t k = sampling->top_k > 0 && sampling->top_k < n ? sampling->top_k : n;
    memset(p, 0, (size_t)n * sizeof(double));
    for (int32_t j = 0; j < k; j++) {
        p[order[j]] = exp((double)logits[order[j]] / (double)sampling->temperature);
        total += p[order[j]];
    }
    for (int32_t j = 0; j < k; j++) {
        const bool out = j > 0 && kept / total >= (double)sampling->top_p;
        kept += out ? 0.0 : p[order[j]];
        p[order[j]] = out ? 0.0 : p[order[j]];
    }
    for (int32_t i = 0; i < n; i++)
        p[i] /= kept;
}

/* Chi-square of counts against n_draw * p; its critical value by Wilson and Hilferty. */
static void check_counts(const int32_t *count, const double *p, int32_t n, int32_t n_draw,
                         const char *what)
{
    double chi2 = 0.0;
    int32_t n_free = -1;
    for (int32_t i = 0; i < n; i++) {
        const double wanted = n_draw * p[i];
        ck_assert_msg(p[i] > 0.0 || count[i] == 0, "%s: cell %d was drawn", what, i);
        if (p[i] > 0.0) {
            chi2 += (count[i] - wanted) * (count[i] - wanted) / wanted;
            n_free++;
        }
    }
    const double v = 2.0 / (9.0 * n_free);
    const double critical = n_free * pow(1.0 - v + 3.719 * sqrt(v), 3.0);
    ck_assert_msg(n_free == 0 || chi2 < critical, "%s: chi-square %.1f, critical %.1f of %d", what,
                  chi2, critical, n_free);
}

static const shoal_sampling samplings[] = {
    {.temperature = 1.0F, .top_p = 1.0F, .seed = 11},
    {.temperature = 0.6F, .top_p = 1.0F, .seed = 12},
    {.temperature = 1.4F, .top_k = 5, .top_p = 1.0F, .seed = 13},
    {.temperature = 1.0F, .top_p = 0.8F, .seed = 14},
    {.temperature = 1.2F, .top_k = 8, .top_p = 0.9F, .seed = 15},
};

enum { N_SAMPLING = sizeof(samplings) / sizeof(samplings[0]) };

static const float logits_of_one[N_VOCAB] = {0.5F, 2.1F,  -1.0F, 1.7F, 0.0F, 1.69F,
                                             0.9F, -0.3F, 1.2F,  0.2F, 0.7F, -2.0F};

/* Whatever is guessed: a likely token, an unlikely one, one that top_k and top_p drop. */
START_TEST(one_guess)
{
    open_fixture(N_VOCAB);
    const shoal_sampling *sampling = &samplings[_i];
    double p[N_VOCAB];
    exact(p, logits_of_one, N_VOCAB, sampling);
    for (int32_t guess = -1; guess < N_VOCAB; guess++) {
        int32_t count[N_VOCAB] = {0}, n_right = 0;
        for (int32_t i = 0; i < N_DRAW; i++) {
            const shoal_sample_place place = {
                .key = (uint64_t)i / 7, .position = i % 7, .guess = guess};
            const int32_t token =
                shoal_sample_guessed(&f.sampler, f.kernels,
                                     (shoal_logit_rows){.logits = logits_of_one}, sampling, &place);
            count[token]++;
            n_right += token == guess;
        }
        char what[64];
        (void)snprintf(what, sizeof(what), "sampling %d, guess %d", _i, guess);
        check_counts(count, p, N_VOCAB, N_DRAW, what);
        ck_assert(guess < 0 || (n_right > 0) == (p[guess] > 0.0));
    }
    close_fixture();
}
END_TEST

/* Logits after each token of a little language. */
static const float language[N_STATE][N_STATE] = {{0.1F, 1.5F, -0.5F, 0.3F, 0.0F},
                                                 {1.0F, -1.0F, 0.8F, 0.2F, 0.5F},
                                                 {0.0F, 0.0F, 0.0F, 2.0F, 1.0F},
                                                 {-0.4F, 0.6F, 0.9F, -1.5F, 0.1F},
                                                 {1.1F, 0.4F, 0.2F, 0.3F, -0.2F}};

/* Three tokens after token 0, in as many steps of n_guess guesses as it takes. skill: how often the
 * guess is the likeliest token. */
static int32_t draw_chain(uint64_t key, int32_t n_guess, int32_t skill,
                          const shoal_sampling *sampling)
{
    int32_t text[1 + N_CHAIN + 8] = {0};
    int32_t n = 1;
    while (n <= N_CHAIN) {
        int32_t guess[8], token[9];
        float logits[9][N_STATE];
        int32_t before = text[n - 1];
        for (int32_t i = 0; i <= n_guess; i++) {
            memcpy(logits[i], language[before], sizeof(logits[i]));
            guess[i % 8] = (n + i) % 4 < skill ? (before == 2 ? 3 : 1) : (before + n) % N_STATE;
            before = guess[i % 8];
        }
        const shoal_guesses guesses = {.token = guess, .n = n_guess, .key = key, .position = n};
        const int32_t n_token =
            shoal_sample_verify(token, &f.sampler, f.kernels,
                                (shoal_logit_rows){.logits = &logits[0][0]}, sampling, &guesses);
        /* every assertion writes to a pipe: one, not one a token */
        bool right = n_token >= 1 && n_token <= n_guess + 1;
        for (int32_t i = 0; i <= n_guess; i++)
            right = right && (token[i] == -1) == (i >= n_token) &&
                    (i + 1 >= n_token || token[i] == guess[i]);
        if (!right)
            ck_abort_msg("tokens are not the right guesses and one more");
        for (int32_t i = 0; i < n_token && n <= N_CHAIN; i++)
            text[n++] = token[i];
    }
    return (text[1] * N_STATE + text[2]) * N_STATE + text[3];
}

START_TEST(chains_of_guesses)
{
    open_fixture(N_STATE);
    const shoal_sampling *sampling = &samplings[_i];
    double p[N_STATE][N_STATE], joint[N_STATE * N_STATE * N_STATE];
    for (int32_t t = 0; t < N_STATE; t++)
        exact(p[t], language[t], N_STATE, sampling);
    for (int32_t i = 0; i < N_STATE * N_STATE * N_STATE; i++)
        joint[i] = p[0][i / 25] * p[i / 25][i / 5 % 5] * p[i / 5 % 5][i % 5];
    for (int32_t n_guess = 0; n_guess <= 4; n_guess++) {
        for (int32_t skill = 0; skill <= 4; skill += 2) {
            int32_t count[N_STATE * N_STATE * N_STATE] = {0};
            for (int32_t i = 0; i < N_DRAW; i++)
                count[draw_chain((uint64_t)i, n_guess, skill, sampling)]++;
            char what[64];
            (void)snprintf(what, sizeof(what), "sampling %d, %d guesses, skill %d", _i, n_guess,
                           skill);
            check_counts(count, joint, N_STATE * N_STATE * N_STATE, N_DRAW, what);
        }
    }
    close_fixture();
}
END_TEST

/* Greedy: the likeliest token, and guesses hold as long as they are it. */
START_TEST(greedy_chains)
{
    open_fixture(3);
    const float logits[4][3] = {{0, 1, 0}, {5, 1, 5}, {0, 0, 1}, {9, 0, 0}};
    const shoal_sampling greedy = {0};
    const int32_t guess[4][3] = {{1, 0, 2}, {1, 0, 1}, {0, 0, 2}, {1, 2, 2}};
    const int32_t wanted[4][4] = {{1, 0, 2, 0}, {1, 0, 2, -1}, {1, -1, -1, -1}, {1, 0, -1, -1}};
    for (int32_t i = 0; i < 4; i++) {
        int32_t token[4];
        const shoal_guesses guesses = {.token = guess[i], .n = 3, .position = 5};
        shoal_sample_verify(token, &f.sampler, f.kernels,
                            (shoal_logit_rows){.logits = &logits[0][0]}, &greedy, &guesses);
        ck_assert_mem_eq(token, wanted[i], sizeof(token));
    }
    close_fixture();
}
END_TEST

/* One candidate, or none that is finite: a draw has an answer all the same. */
START_TEST(nothing_to_choose)
{
    open_fixture(3);
    const float one[3] = {-INFINITY, 3.0F, NAN};
    const float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    const shoal_sampling sampling = {.temperature = 1.0F, .top_p = 1.0F, .seed = 3};
    for (int32_t guess = -1; guess < 3; guess++) {
        for (int32_t i = 0; i < 100; i++) {
            const shoal_sample_place place = {.key = (uint64_t)i, .position = i, .guess = guess};
            ck_assert_int_eq(shoal_sample_guessed(&f.sampler, f.kernels,
                                                  (shoal_logit_rows){.logits = one}, &sampling,
                                                  &place),
                             1);
            ck_assert_int_eq(shoal_sample_guessed(&f.sampler, f.kernels,
                                                  (shoal_logit_rows){.logits = none}, &sampling,
                                                  &place),
                             0);
        }
    }
    close_fixture();
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *counted = tcase_create("frequencies");
    tcase_set_timeout(counted, 0);
    tcase_add_loop_test(counted, one_guess, 0, N_SAMPLING);
    tcase_add_loop_test(counted, chains_of_guesses, 0, N_SAMPLING);
    suite_add_tcase(suite, counted);
    SHOAL_TEST(suite, greedy_chains);
    SHOAL_TEST(suite, nothing_to_choose);
}

SHOAL_TEST_MAIN("engine.guess", add_tests)
