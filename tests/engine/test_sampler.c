#include "runtime/engine/sampler.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_MAX = 4096 };

typedef struct fixture {
    shoal_log log;
    const shoal_kernels *kernels;
    shoal_arena arena;
    shoal_sampler sampler;
    float logits[N_MAX];
} fixture;

static fixture f;

static void open_fixture(int32_t n_vocab, const char *kernels)
{
    shoal_log_init(&f.log, stderr, 0, "test");
    ck_assert_int_eq(shoal_kernels_select(&f.kernels, kernels, &f.log), SHOAL_OK);
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

static int32_t sample(float temperature, int32_t top_k, float top_p, uint64_t seed,
                      int32_t position)
{
    const shoal_sampling sampling = {
        .temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = seed};
    return shoal_sample(&f.sampler, f.kernels, f.logits, &sampling, 77, position);
}

/* Logits of whole-number probabilities: ln of weight. */
static void set_weights(const double *weight, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        f.logits[i] = weight[i] > 0.0 ? (float)log(weight[i]) : -INFINITY;
}

START_TEST(greedy_takes_the_first_of_equals)
{
    open_fixture(6, "auto");
    const float logits[6] = {1.0F, 3.0F, -2.0F, 3.0F, 3.0F, 0.0F};
    memcpy(f.logits, logits, sizeof(logits));
    ck_assert_int_eq(sample(0.0F, 0, 1.0F, 1, 0), 1);
    ck_assert_int_eq(sample(0.7F, 1, 1.0F, 1, 0), 1); /* top_k 1 is greedy */
    ck_assert_int_eq(sample(0.7F, 0, 0.0F, 1, 0), 1); /* top_p keeps at least one */
    ck_assert_int_eq(sample(0.7F, 3, 0.0F, 1, 0), 1);
    close_fixture();
}
END_TEST

START_TEST(logits_that_are_no_numbers)
{
    open_fixture(4, "auto");
    const float nan_first[4] = {NAN, -5.0F, 2.0F, NAN};
    memcpy(f.logits, nan_first, sizeof(nan_first));
    ck_assert_int_eq(sample(0.0F, 0, 1.0F, 1, 0), 2);
    for (int32_t i = 0; i < 200; i++) {
        const int32_t token = sample(1.0F, 0, 1.0F, 1, i);
        ck_assert(token == 1 || token == 2);
    }
    for (int32_t i = 0; i < 4; i++)
        f.logits[i] = NAN;
    ck_assert_int_ge(sample(1.0F, 2, 0.5F, 1, 0), 0);
    ck_assert_int_lt(sample(1.0F, 2, 0.5F, 1, 0), 4);
    for (int32_t i = 0; i < 4; i++)
        f.logits[i] = -INFINITY;
    ck_assert_int_eq(sample(1.0F, 0, 0.9F, 1, 0), 0);
    f.logits[2] = INFINITY;
    ck_assert_int_eq(sample(1.0F, 0, 1.0F, 1, 0), 2);
    close_fixture();
}
END_TEST

START_TEST(tiny_and_huge_temperatures)
{
    open_fixture(3, "auto");
    const float logits[3] = {10.0F, 12.0F, 11.0F};
    memcpy(f.logits, logits, sizeof(logits));
    bool seen[3] = {false, false, false};
    for (int32_t i = 0; i < 300; i++) {
        ck_assert_int_eq(sample(1e-30F, 0, 1.0F, 1, i), 1);
        ck_assert_int_eq(sample(1e-30F, 2, 0.9F, 1, i), 1);
        seen[sample(1e30F, 0, 1.0F, 1, i)] = true;
    }
    ck_assert(seen[0] && seen[1] && seen[2]);
    close_fixture();
}
END_TEST

/* Which tokens come at all, over many draws: a bit per token. */
static uint32_t support(float temperature, int32_t top_k, float top_p)
{
    uint32_t seen = 0;
    for (int32_t i = 0; i < 4000; i++)
        seen |= 1u << sample(temperature, top_k, top_p, 9, i);
    return seen;
}

START_TEST(top_k_keeps_the_largest)
{
    open_fixture(6, "auto");
    const double weight[6] = {2, 5, 3, 3, 3, 1};
    set_weights(weight, 6);
    ck_assert_uint_eq(support(1.0F, 0, 1.0F), 0x3f);
    ck_assert_uint_eq(support(1.0F, 2, 1.0F), 0x06); /* of the three equals the lowest id */
    ck_assert_uint_eq(support(1.0F, 3, 1.0F), 0x0e);
    ck_assert_uint_eq(support(1.0F, 5, 1.0F), 0x1f);
    ck_assert_uint_eq(support(1.0F, 6, 1.0F), 0x3f);
    ck_assert_uint_eq(support(1.0F, 1000, 1.0F), 0x3f);
    close_fixture();
}
END_TEST

START_TEST(top_p_keeps_the_smallest_set_that_reaches_it)
{
    open_fixture(4, "auto");
    /* p = 1/8, 1/2, 1/8, 1/4: sums 0.5, 0.75, 0.875, 1 in the order 1, 3, 0, 2. */
    const double weight[4] = {1, 4, 1, 2};
    set_weights(weight, 4);
    ck_assert_uint_eq(support(1.0F, 0, 0.49F), 0x2);
    ck_assert_uint_eq(support(1.0F, 0, 0.51F), 0xa);
    ck_assert_uint_eq(support(1.0F, 0, 0.74F), 0xa);
    ck_assert_uint_eq(support(1.0F, 0, 0.76F), 0xb); /* token 0 comes before its equal 2 */
    ck_assert_uint_eq(support(1.0F, 0, 0.88F), 0xf);
    ck_assert_uint_eq(support(1.0F, 0, 1.0F), 0xf);
    /* After top_k the rest is renormalised: of 4 and 2, p = 2/3, 1/3. */
    ck_assert_uint_eq(support(1.0F, 2, 0.6F), 0x2);
    ck_assert_uint_eq(support(1.0F, 2, 0.7F), 0xa);
    /* Temperature comes first: at 1/2 the weights are squared, p(1) = 16/22. */
    ck_assert_uint_eq(support(0.5F, 0, 0.7F), 0x2);
    ck_assert_uint_eq(support(0.5F, 0, 0.75F), 0xa);
    close_fixture();
}
END_TEST

/* Chi-square of n draws against p; tokens with p = 0 must not come. */
static double chi_square(const double *p, int32_t n_vocab, int32_t n_draw, float temperature,
                         int32_t top_k, float top_p)
{
    int32_t count[64] = {0};
    for (int32_t i = 0; i < n_draw; i++)
        count[sample(temperature, top_k, top_p, 11, i)]++;
    double chi = 0.0;
    for (int32_t t = 0; t < n_vocab; t++) {
        const double expected = p[t] * n_draw;
        if (expected > 0.0)
            chi += (count[t] - expected) * (count[t] - expected) / expected;
        else
            ck_assert_int_eq(count[t], 0);
    }
    return chi;
}

START_TEST(draws_follow_the_distribution)
{
    enum { N = 16, N_DRAW = 40000 };
    open_fixture(N, "auto");
    double weight[N], p[N];
    double total = 0.0;
    for (int32_t i = 0; i < N; i++)
        total += weight[i] = 1.0 + i * 5 % N;
    set_weights(weight, N);
    for (int32_t i = 0; i < N; i++)
        p[i] = weight[i] / total;
    /* 15 degrees of freedom: mean 15, standard deviation 5.5. */
    double chi = chi_square(p, N, N_DRAW, 1.0F, 0, 1.0F);
    ck_assert_msg(chi < 40.0, "all: %g", chi);
    chi = chi_square(p, N, N_DRAW, 1.0F, 0, 0.99999F); /* the other path, the same set */
    ck_assert_msg(chi < 40.0, "top_p: %g", chi);

    /* The four largest weights are 16, 15, 14, 13. */
    for (int32_t i = 0; i < N; i++)
        p[i] = weight[i] >= 13.0 ? weight[i] / 58.0 : 0.0;
    chi = chi_square(p, N, N_DRAW, 1.0F, 4, 1.0F);
    ck_assert_msg(chi < 20.0, "top_k 4: %g", chi);
    /* 16 + 15 of 58 is 0.534; with 14: 0.776. */
    for (int32_t i = 0; i < N; i++)
        p[i] = weight[i] >= 14.0 ? weight[i] / 45.0 : 0.0;
    chi = chi_square(p, N, N_DRAW, 1.0F, 4, 0.6F);
    ck_assert_msg(chi < 20.0, "top_k 4, top_p 0.6: %g", chi);
    /* Without top_k the same three are 45 of 136. */
    chi = chi_square(p, N, N_DRAW, 1.0F, 0, 0.33F);
    ck_assert_msg(chi < 20.0, "top_p 0.33: %g", chi);

    total = 0.0;
    for (int32_t i = 0; i < N; i++)
        total += weight[i] * weight[i];
    for (int32_t i = 0; i < N; i++)
        p[i] = weight[i] * weight[i] / total;
    chi = chi_square(p, N, N_DRAW, 0.5F, 0, 1.0F);
    ck_assert_msg(chi < 40.0, "temperature 0.5: %g", chi);
    close_fixture();
}
END_TEST

/* A slow reading of sampler.h: sort by selection, then the same sums. */
static int32_t oracle(int32_t n, const shoal_sampling *s, uint64_t key, int32_t position)
{
    static float value[N_MAX], p[N_MAX];
    static int32_t order[N_MAX];
    float largest = f.logits[0];
    for (int32_t i = 0; i < n; i++)
        largest = f.logits[i] > largest ? f.logits[i] : largest;
    for (int32_t i = 0; i < n; i++) {
        value[i] = (f.logits[i] - largest) / s->temperature;
        order[i] = i;
    }
    int32_t n_kept = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    const bool sorted = n_kept < n || s->top_p < 1.0F;
    for (int32_t i = 0; i < n_kept && sorted; i++) {
        int32_t best = i;
        for (int32_t j = i + 1; j < n; j++)
            if (value[order[j]] > value[order[best]] ||
                (value[order[j]] == value[order[best]] && order[j] < order[best]))
                best = j;
        const int32_t swap = order[i];
        order[i] = order[best];
        order[best] = swap;
    }
    if (n_kept < n) {
        float kept[N_MAX];
        for (int32_t i = 0; i < n_kept; i++)
            kept[i] = value[order[i]];
        f.kernels->softmax(kept, n_kept);
        memcpy(p, kept, sizeof(kept));
    } else {
        f.kernels->softmax(value, n);
        for (int32_t i = 0; i < n; i++)
            p[i] = value[order[i]];
    }
    double total = 0.0;
    int32_t m = 0;
    do
        total += p[m++];
    while (m < n_kept && (!sorted || total < s->top_p));
    const double u = shoal_random_uniform(s->seed, key, (uint64_t)position, 0);
    double sum = 0.0;
    for (int32_t i = 0; i < m; i++) {
        sum += p[i];
        if (sum > u * total)
            return order[i];
    }
    return -1;
}

/* What the largest logits alone give, where they are enough; else `otherwise`. */
static int32_t sample_of_largest(const shoal_sampling *sampling, int32_t position,
                                 int32_t otherwise)
{
    static shoal_logit out[SHOAL_LARGEST_MAX];
    const shoal_compute compute = {.kernels = f.kernels};
    const int32_t n_vocab = f.sampler.n_vocab, k = shoal_sampling_n_largest(sampling, n_vocab);
    const shoal_largest largest = {
        .out = out, .logits = f.logits, .n_row = 1, .n_vocab = n_vocab, .k = k};
    if (k == 0)
        return otherwise;
    shoal_op_largest(&compute, &largest);
    const shoal_logit_rows rows = {.largest = out, .n_largest = k};
    const shoal_sample_place place = {.key = 5, .position = position, .guess = -1};
    return shoal_sample_guessed(&f.sampler, f.kernels, rows, sampling, &place);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

START_TEST(equals_the_slow_oracle)
{
    static const int32_t sizes[] = {1, 2, 3, 17, 100, 1000};
    static const int32_t top_ks[] = {0, 1, 2, 5, 50, 999};
    static const float top_ps[] = {1.0F, 0.95F, 0.5F, 0.01F};
    uint32_t state = 1;
    for (size_t s = 0; s < 6; s++) {
        const int32_t n = sizes[s];
        open_fixture(n, "auto");
        for (int32_t trial = 0; trial < 120; trial++) {
            /* Coarse, so that there are ties; or close together. */
            const float grain = trial % 3 == 0 ? 0.25F : 0.001F;
            for (int32_t i = 0; i < n; i++)
                f.logits[i] = (float)(next_random(&state) % 61) * grain - 7.0F;
            const shoal_sampling sampling = {.temperature = trial % 2 == 0 ? 1.0F : 0.6F,
                                             .top_k = top_ks[next_random(&state) % 6],
                                             .top_p = top_ps[next_random(&state) % 4],
                                             .seed = next_random(&state)};
            const int32_t token =
                shoal_sample(&f.sampler, f.kernels, f.logits, &sampling, 5, trial);
            ck_assert_int_eq(token, sample_of_largest(&sampling, trial, token));
            if (sampling.top_k == 1) {
                ck_assert_int_eq(token, sample(0.0F, 0, 1.0F, 0, 0));
                continue;
            }
            ck_assert_int_eq(token, oracle(n, &sampling, 5, trial));
        }
        close_fixture();
    }
}
END_TEST

START_TEST(largest_are_in_order_and_nan_is_least)
{
    open_fixture(6, "auto");
    const float logits[6] = {NAN, 3.0F, -INFINITY, 3.0F, 5.0F, NAN};
    const int32_t wanted[5] = {4, 1, 3, 0, 2}; /* NaN counts as -infinity: by token */
    shoal_logit out[5];
    const shoal_compute compute = {.kernels = f.kernels};
    const shoal_largest largest = {.out = out, .logits = logits, .n_row = 1, .n_vocab = 6, .k = 5};
    shoal_op_largest(&compute, &largest);
    for (int32_t i = 0; i < 5; i++)
        ck_assert_int_eq(out[i].token, wanted[i]);
    const shoal_sampling greedy = {.top_k = 1};
    memcpy(f.logits, logits, sizeof logits);
    ck_assert_int_eq(sample_of_largest(&greedy, 0, -1), 4);
    close_fixture();
}
END_TEST

START_TEST(equal_on_every_kernel_variant)
{
    const shoal_kernels *variant[8];
    const int32_t n_variant = shoal_kernels_list(variant, 8);
    int32_t first[400];
    for (int32_t v = 0; v < n_variant; v++) {
        open_fixture(1000, variant[v]->name);
        uint32_t state = 3;
        for (int32_t i = 0; i < 1000; i++)
            f.logits[i] = (float)next_random(&state) * 0x1p-24F * 8.0F;
        for (int32_t i = 0; i < 400; i++) {
            const int32_t token = sample(0.9F, i % 3 == 0 ? 40 : 0, i % 2 == 0 ? 0.9F : 1.0F, 4, i);
            if (v == 0)
                first[i] = token;
            ck_assert_int_eq(token, first[i]);
        }
        close_fixture();
    }
}
END_TEST

START_TEST(logits_are_only_read)
{
    open_fixture(50, "auto");
    float before[50];
    for (int32_t i = 0; i < 50; i++)
        before[i] = f.logits[i] = (float)(i * 7 % 50);
    (void)sample(1.0F, 0, 0.9F, 1, 1);
    (void)sample(1.0F, 10, 0.9F, 1, 1);
    (void)sample(1.0F, 0, 1.0F, 1, 1);
    ck_assert_mem_eq(before, f.logits, sizeof(before));
    close_fixture();
}
END_TEST

START_TEST(valid_parameters)
{
    const shoal_sampling good[] = {{0.0F, 0, 1.0F, 0}, {0.7F, 40, 0.9F, 1}, {2.0F, 1, 0.0F, 2}};
    for (size_t i = 0; i < 3; i++)
        ck_assert(shoal_sampling_valid(&good[i]));
    const shoal_sampling bad[] = {{-0.1F, 0, 1.0F, 0}, {NAN, 0, 1.0F, 0},  {INFINITY, 0, 1.0F, 0},
                                  {1.0F, -1, 1.0F, 0}, {1.0F, 0, 1.1F, 0}, {1.0F, 0, -0.1F, 0},
                                  {1.0F, 0, NAN, 0}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!shoal_sampling_valid(&bad[i]), "case %zu", i);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, greedy_takes_the_first_of_equals);
    SHOAL_TEST(suite, logits_that_are_no_numbers);
    SHOAL_TEST(suite, tiny_and_huge_temperatures);
    SHOAL_TEST(suite, top_k_keeps_the_largest);
    SHOAL_TEST(suite, top_p_keeps_the_smallest_set_that_reaches_it);
    SHOAL_TEST(suite, draws_follow_the_distribution);
    SHOAL_TEST(suite, equals_the_slow_oracle);
    SHOAL_TEST(suite, largest_are_in_order_and_nan_is_least);
    SHOAL_TEST(suite, equal_on_every_kernel_variant);
    SHOAL_TEST(suite, logits_are_only_read);
    SHOAL_TEST(suite, valid_parameters);
}

SHOAL_TEST_MAIN("engine.sampler", add_tests)
