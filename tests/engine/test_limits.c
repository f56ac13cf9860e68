#include "runtime/engine/limits.h"
#include "tests/support/check_main.h"

enum { N_RANK_MAX = 1024 };

static double weights[N_RANK_MAX];
static shoal_placement placement;

static shoal_engine_config make_config(int32_t n_rank, int32_t n_sequence)
{
    placement = (shoal_placement){.n_rank = n_rank, .sequence_weight = weights};
    return (shoal_engine_config){
        .n_context = 64, .n_sequence = n_sequence, .prefill_chunk = 100, .placement = &placement};
}

static void check_slots(int32_t n_sequence, int32_t n_rank, const double *weight,
                        const int32_t *wanted)
{
    for (int32_t r = 0; r < n_rank; r++)
        weights[r] = weight[r];
    const shoal_engine_config config = make_config(n_rank, n_sequence);
    for (int32_t r = 0; r < n_rank; r++)
        ck_assert_msg(shoal_engine_slots(&config, r) == wanted[r],
                      "%d sequences, rank %d of %d: %d slots, wanted %d", n_sequence, r, n_rank,
                      shoal_engine_slots(&config, r), wanted[r]);
}

START_TEST(slots_follow_the_weights)
{
    check_slots(1, 1, (double[]){1}, (int32_t[]){1});
    check_slots(8, 4, (double[]){1, 1, 1, 1}, (int32_t[]){2, 2, 2, 2});
    check_slots(9, 3, (double[]){1, 1, 1}, (int32_t[]){3, 3, 3});
    check_slots(8, 3, (double[]){1, 1, 1}, (int32_t[]){3, 3, 2});  /* ties: lower rank */
    check_slots(10, 3, (double[]){1, 2, 3}, (int32_t[]){2, 3, 5}); /* 1.67, 3.33, 5 */
    check_slots(6, 3, (double[]){0, 1, 2}, (int32_t[]){0, 2, 4});  /* expert-only rank 0 */
    check_slots(1, 3, (double[]){1, 1, 1}, (int32_t[]){1, 1, 1});  /* at least one each */
    check_slots(10, 3, (double[]){1e-9, 1, 1}, (int32_t[]){1, 5, 5});
    check_slots(3, 2, (double[]){0.3, 0.0}, (int32_t[]){3, 0});
    check_slots(7, 2, (double[]){1e-300, 1e-300}, (int32_t[]){4, 3});
}
END_TEST

START_TEST(slots_add_up)
{
    uint32_t state = 5;
    for (int32_t trial = 0; trial < 300; trial++) {
        state = state * 1664525u + 1013904223u;
        const int32_t n_rank = 1 + (int32_t)(state >> 8) % 40;
        double total = 0.0;
        for (int32_t r = 0; r < n_rank; r++) {
            state = state * 1664525u + 1013904223u;
            weights[r] = (double)((state >> 8) % 10) / 7.0;
            total += weights[r];
        }
        if (total == 0.0)
            continue;
        const int32_t n_sequence = 1 + trial * 3;
        const shoal_engine_config config = make_config(n_rank, n_sequence);
        int32_t sum = 0, sum_without_lifted = 0;
        for (int32_t r = 0; r < n_rank; r++) {
            const int32_t n = shoal_engine_slots(&config, r);
            const double quota = n_sequence * weights[r] / total;
            ck_assert(weights[r] > 0.0 ? n >= 1 : n == 0);
            ck_assert(n <= quota + 1.0 || n == 1);
            ck_assert(n >= (int32_t)(quota - 1e-6));
            sum += n;
            sum_without_lifted += n > 1 || quota >= 1.0 ? n : 0;
        }
        ck_assert_int_ge(sum, n_sequence);
        ck_assert_int_le(sum_without_lifted, n_sequence);
    }
}
END_TEST

START_TEST(most_rows)
{
    weights[0] = 0.0;
    weights[1] = 1.0;
    weights[2] = 3.0;
    shoal_engine_config config = make_config(3, 8);
    ck_assert_int_eq(shoal_engine_token_max(&config), 106);
    ck_assert_int_eq(shoal_engine_logit_max(&config), 6);
    config.want_scores = true;
    ck_assert_int_eq(shoal_engine_logit_max(&config), 6 + 64);
    config.want_scores = false;
    config.want_rows = true;
    config.prefill_chunk = 5;
    ck_assert_int_eq(shoal_engine_logit_max(&config), 6 + 5);
    config.drafts = (shoal_drafts){.kind = SHOAL_DRAFT_MTP, .n_token = 3};
    ck_assert_int_eq(shoal_engine_token_max(&config), 5 + 6 * 4);
    ck_assert_int_eq(shoal_engine_logit_max(&config), 6 * 4 + 5);
}
END_TEST

START_TEST(absurd_configs)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    weights[0] = weights[1] = 1.0;
    const shoal_engine_config good = make_config(2, 4);
    ck_assert_int_eq(shoal__limits_check(&good, 2, &log), SHOAL_OK);
    ck_assert_int_eq(shoal__limits_check(&good, 3, &log), SHOAL_USAGE);
    shoal_engine_config bad = good;
    bad.n_context = 0;
    ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), SHOAL_USAGE);
    bad = good;
    bad.n_sequence = 0;
    ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), SHOAL_USAGE);
    bad = good;
    bad.prefill_chunk = 0;
    ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), SHOAL_USAGE);
    bad.prefill_chunk = INT32_MAX;
    ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), SHOAL_USAGE);
    bad = good;
    bad.n_sequence = INT32_MAX;
    ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), SHOAL_USAGE);
    static const struct {
        shoal_drafts drafts;
        shoal_status wanted;
    } drafts[] = {
        {{SHOAL_DRAFT_MTP, 1}, SHOAL_OK},       {{SHOAL_DRAFT_NGRAM, 16}, SHOAL_OK},
        {{SHOAL_DRAFT_MTP, 0}, SHOAL_USAGE},    {{SHOAL_DRAFT_NGRAM, 17}, SHOAL_USAGE},
        {{SHOAL_DRAFT_NGRAM, -1}, SHOAL_USAGE}, {{SHOAL_DRAFT_NONE, 1}, SHOAL_USAGE},
    };
    for (size_t i = 0; i < sizeof(drafts) / sizeof(drafts[0]); i++) {
        bad = good;
        bad.drafts = drafts[i].drafts;
        ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), drafts[i].wanted);
    }
    bad.n_sequence = SHOAL_ENGINE_ROWS_MAX; /* as many by 17 rows each */
    bad.drafts = (shoal_drafts){.kind = SHOAL_DRAFT_NGRAM, .n_token = 16};
    ck_assert_int_eq(shoal__limits_check(&bad, 2, &log), SHOAL_USAGE);
}
END_TEST

/* Results of all ranks land on rank 0, and only as large as what was announced. */
START_TEST(measured_memory)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    shoal_spec spec = {.n_vocab = 100000, .n_embd = 1000, .n_moe_layer = 10};
    spec.router.top_k = 8;
    weights[0] = 0.0;
    weights[1] = weights[2] = 1.0;
    shoal_engine_config config = make_config(3, 8);
    uint64_t tokens[3], scores[3], rows[3];
    for (int32_t r = 0; r < 3; r++) {
        config.want_scores = config.want_rows = false;
        ck_assert_int_eq(shoal_engine_measure(&tokens[r], &config, &spec, r, &log), SHOAL_OK);
        config.want_scores = true;
        ck_assert_int_eq(shoal_engine_measure(&scores[r], &config, &spec, r, &log), SHOAL_OK);
        config.want_rows = true;
        ck_assert_int_eq(shoal_engine_measure(&rows[r], &config, &spec, r, &log), SHOAL_OK);
    }
    const uint64_t row_bytes = 64 * (uint64_t)(100000 + 1000 + 2 * 10 * 8) * 4;
    ck_assert_uint_lt(tokens[0], 100000);           /* no sampler without sequences */
    ck_assert_uint_gt(tokens[1], 100000 * (4 + 8)); /* one sampler */
    ck_assert_uint_lt(tokens[1], 100000 * 13);
    ck_assert_uint_lt(scores[1] - tokens[1], 65536);
    ck_assert_uint_gt(rows[0] - scores[0], 2 * row_bytes - 4096);
    ck_assert_uint_lt(rows[0] - scores[0], 2 * row_bytes + 65536);
    ck_assert_uint_lt(rows[1] - scores[1], row_bytes + 262144);
    config.n_sequence = 0;
    ck_assert_int_eq(shoal_engine_measure(&rows[0], &config, &spec, 0, &log), SHOAL_USAGE);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, slots_follow_the_weights);
    SHOAL_TEST(suite, slots_add_up);
    SHOAL_TEST(suite, most_rows);
    SHOAL_TEST(suite, absurd_configs);
    SHOAL_TEST(suite, measured_memory);
}

SHOAL_TEST_MAIN("engine.limits", add_tests)
