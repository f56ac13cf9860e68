/* Counts and summaries of routing traces that are small enough to be reckoned by hand. */
#include "launcher/routes/summary.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_LAYER = 2, N_EXPERT = 4, TOP_K = 2, PER_ROW = N_LAYER * TOP_K };

static const int32_t layer[N_LAYER] = {3, 4};

static shoal_routes_header header(void)
{
    static int32_t numbers[N_LAYER];
    memcpy(numbers, layer, sizeof numbers);
    return (shoal_routes_header){.model = "hand",
                                 .n_layer = N_LAYER,
                                 .n_expert = N_EXPERT,
                                 .top_k = TOP_K,
                                 .n_group = 1,
                                 .top_group = 1,
                                 .n_rank = 1,
                                 .layer = numbers};
}

static void stats_open(shoal_routes_stats *s)
{
    const shoal_routes_header h = header();
    const int32_t ranks[] = {1, 2, 4};
    ck_assert_int_eq(shoal_routes_stats_open(s, &h, ranks, 3, NULL), SHOAL_OK);
}

static void add(shoal_routes_stats *s, int64_t sequence, int32_t position0, int32_t n_row,
                bool decode, const uint16_t *expert)
{
    const shoal_routes_rows rows = {.sequence = sequence,
                                    .position0 = position0,
                                    .n_row = n_row,
                                    .decode = decode,
                                    .expert = expert};
    ck_assert_int_eq(shoal_routes_stats_add(s, &rows), SHOAL_OK);
}

static void near(double found, double wanted)
{
    ck_assert_double_eq_tol(found, wanted, 1e-12);
}

/*             layer 3   layer 4
 * prompt      0 1       2 3
 *             0 2       2 3
 * decode      1 0       0 2
 *             3 0       2 1
 * load        4 2 1 1   1 1 4 2 */
static const uint16_t four_rows[4 * PER_ROW] = {0, 1, 2, 3, 0, 2, 2, 3, 1, 0, 0, 2, 3, 0, 2, 1};

static void add_four(shoal_routes_stats *s)
{
    add(s, 0, 0, 2, false, four_rows);
    add(s, 0, 2, 1, true, four_rows + 2 * PER_ROW);
    add(s, 0, 3, 1, true, four_rows + 3 * PER_ROW);
    shoal_routes_stats_finish(s);
}

START_TEST(load_of_experts)
{
    shoal_routes_stats s;
    stats_open(&s);
    add_four(&s);
    ck_assert_int_eq(s.n_row[SHOAL_ROUTES_PROMPT], 2);
    ck_assert_int_eq(s.n_row[SHOAL_ROUTES_DECODE], 2);
    ck_assert_int_eq(s.n_sequence, 1);
    ck_assert_int_eq(s.n_window, 1);
    shoal_routes_layer v = shoal_routes_layer_of(&s, 0);
    near(v.max_over_mean, 2); /* 4 of 8 choices, mean 2 */
    /* shares 1/2, 1/4, 1/8, 1/8: 1.75 bits of 2 */
    near(v.entropy, 1.75 / 2);
    ck_assert_int_eq(v.n_unused, 0);
    const int32_t most[] = {0, 1, 2, 3}, least[] = {2, 3, 1, 0}; /* ties: the lower number */
    ck_assert_int_eq(memcmp(v.most, most, sizeof most), 0);
    ck_assert_int_eq(memcmp(v.least, least, sizeof least), 0);
    shoal_routes_stats_close(&s);
    shoal_routes_stats_close(&s);
}
END_TEST

START_TEST(likeliest_in_the_next_layer)
{
    shoal_routes_stats s;
    stats_open(&s);
    add_four(&s);
    /* Behind 0: 2 2 0 2 and 3 3 2 1 -> 2: 4, 3: 2, 0: 1, 1: 1; behind 1: 2 3 0 2 -> 2: 2, 3 or 0:
     * 1; behind 2: 2 3; behind 3: 2 1. The two likeliest: 6 + 3 + 2 + 2 of 16. */
    const shoal_routes_layer v = shoal_routes_layer_of(&s, 0);
    near(v.next_hit, 13.0 / 16);
    near(v.next_hit_by_load, 6.0 / 8); /* 2 and 3 */
    near(shoal_routes_layer_of(&s, 1).next_hit, 0);
    shoal_routes_stats_close(&s);
}
END_TEST

START_TEST(pairs_above_chance)
{
    /* load        2 2 2 2   2 1 3 2 */
    static const uint16_t rows[4 * PER_ROW] = {0, 1, 2, 3, 1, 0, 3, 2, 2, 3, 0, 1, 3, 2, 0, 2};
    shoal_routes_stats s;
    stats_open(&s);
    add(&s, 0, 0, 4, false, rows);
    shoal_routes_pair pair[5];
    /* Layer 3: 0 1 in 2 rows, by chance 2 * 2 / 4; 2 3 the same. Layer 4: 0 1 in 1 of 2 * 1 / 4,
     * 2 3 in 2 of 3 * 2 / 4; 0 2 in 1 of 3 * 2 / 4 is below. */
    ck_assert_int_eq(shoal_routes_top_pairs(pair, 5, &s, false), 4);
    const shoal_routes_pair together[4] = {
        {0, 0, 1, 2, 1, 2}, {0, 2, 3, 2, 1, 2}, {1, 0, 1, 1, 0.5, 2}, {1, 2, 3, 2, 0.5, 4.0 / 3}};
    for (int32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pair[i].layer, together[i].layer);
        ck_assert_int_eq(pair[i].a, together[i].a);
        ck_assert_int_eq(pair[i].b, together[i].b);
        ck_assert_int_eq(pair[i].n_row, together[i].n_row);
        near(pair[i].excess, together[i].excess);
        near(pair[i].lift, together[i].lift);
    }
    ck_assert_int_eq(shoal_routes_top_pairs(pair, 1, &s, false), 1);
    ck_assert_int_eq(pair[0].b, 1);
    /* Behind 0 and 1 comes 3, behind 2 and 3 comes 0: 2 rows, by chance 2 * 2 / 4. */
    ck_assert_int_eq(shoal_routes_top_pairs(pair, 4, &s, true), 4);
    const int32_t next[4][2] = {{0, 3}, {1, 3}, {2, 0}, {3, 0}};
    for (int32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pair[i].a, next[i][0]);
        ck_assert_int_eq(pair[i].b, next[i][1]);
        near(pair[i].excess, 1);
        near(pair[i].lift, 2);
    }
    shoal_routes_stats_close(&s);
}
END_TEST

START_TEST(balance_of_ranks)
{
    shoal_routes_stats s;
    stats_open(&s);
    add_four(&s);
    /* Two ranks: 0 1 | 2 3. Whole trace: layer 3: 6 | 2, layer 4: 2 | 6. */
    const shoal_routes_balance v = shoal_routes_balance_of(&s, &s.split[1]);
    near(v.load_max_over_mean, 12.0 / 8);
    /* Prompt rows: 0 1 -> one rank, 2 slots; 2 3 the same; 0 2 -> two ranks, 1 slot; 2 3. */
    near(v.ranks_per_row[SHOAL_ROUTES_PROMPT], 5.0 / 4);
    near(v.row_max_over_mean[SHOAL_ROUTES_PROMPT], 7.0 / 4);
    /* Decode rows: 1 0 -> 1, 2; 0 2 -> 2, 1; 3 0 -> 2, 1; 2 1 -> 2, 1. */
    near(v.ranks_per_row[SHOAL_ROUTES_DECODE], 7.0 / 4);
    near(v.row_max_over_mean[SHOAL_ROUTES_DECODE], 5.0 / 4);
    /* The window has both prompt rows: layer 3: 3 | 1, layer 4: 0 | 4. */
    near(v.window_max_over_mean, 7.0 / 4);
    /* C(2,2) / C(4,2) = 1/6 to miss a rank. */
    near(v.uniform_ranks_per_row, 2 * 5.0 / 6);
    const shoal_routes_balance one = shoal_routes_balance_of(&s, &s.split[0]);
    near(one.load_max_over_mean, 1);
    near(one.window_max_over_mean, 1);
    near(one.uniform_ranks_per_row, 1);
    const shoal_routes_balance all = shoal_routes_balance_of(&s, &s.split[2]);
    near(all.ranks_per_row[SHOAL_ROUTES_DECODE], 2); /* each expert on a rank of its own */
    near(all.row_max_over_mean[SHOAL_ROUTES_DECODE], 2);
    near(all.load_max_over_mean, 2);
    shoal_routes_stats_close(&s);
}
END_TEST

/* Chunks of other sizes, sequences interleaved: the same counts. */
START_TEST(order_makes_no_difference)
{
    enum { N = 600 };
    static uint16_t expert[N * PER_ROW];
    for (int32_t i = 0; i < N * N_LAYER; i++) {
        expert[i * TOP_K] = (uint16_t)(i * i % N_EXPERT);
        expert[i * TOP_K + 1] = (uint16_t)((expert[i * TOP_K] + 1 + i % 3) % N_EXPERT);
    }
    shoal_routes_stats a, b;
    stats_open(&a);
    stats_open(&b);
    add(&a, 0, 0, N, false, expert);
    add(&a, 1, 0, 100, false, expert);
    shoal_routes_stats_finish(&a);
    for (int32_t row = 0; row < N; row += 50) {
        if (row < 100)
            add(&b, 1, row, 50, false, expert + row * PER_ROW);
        add(&b, 0, row, 50, false, expert + row * PER_ROW);
    }
    shoal_routes_stats_finish(&b);
    ck_assert_int_eq(a.n_window, 4); /* 256 + 256 + 88, and 100 */
    ck_assert_int_eq(b.n_window, 4);
    ck_assert_int_eq(b.n_sequence, 2);
    for (int32_t i = 0; i < a.n_split; i++) {
        ck_assert_int_eq(a.split[i].n_window_most, b.split[i].n_window_most);
        ck_assert_int_eq(a.split[i].n_visit[0], b.split[i].n_visit[0]);
    }
    ck_assert_int_eq(memcmp(a.load, b.load, N_LAYER * N_EXPERT * sizeof *a.load), 0);
    char *text_a, *text_b;
    shoal_json *json = shoal_routes_json(&a, true);
    text_a = shoal_json_dump(json);
    shoal_json_close(json);
    json = shoal_routes_json(&b, true);
    text_b = shoal_json_dump(json);
    shoal_json_close(json);
    ck_assert_str_eq(text_a, text_b);
    free(text_a);
    free(text_b);
    shoal_routes_stats_close(&a);
    shoal_routes_stats_close(&b);
}
END_TEST

START_TEST(the_last_rows_of_a_prompt_end_its_window)
{
    shoal_routes_stats s;
    stats_open(&s);
    for (int64_t sequence = 0; sequence < 50; sequence++) {
        const shoal_routes_rows rows = {
            .sequence = sequence, .n_row = 2, .last = true, .expert = four_rows};
        ck_assert_int_eq(shoal_routes_stats_add(&s, &rows), SHOAL_OK);
    }
    ck_assert_int_eq(s.n_window, 50);
    ck_assert_int_eq(s.n_open, 1); /* whose memory was used again */
    shoal_routes_stats_close(&s);
}
END_TEST

START_TEST(an_empty_trace)
{
    shoal_routes_stats s;
    stats_open(&s);
    shoal_routes_stats_finish(&s);
    shoal_json *json = shoal_routes_json(&s, false);
    ck_assert_int_eq(shoal_json_int(shoal_json_get(json, "windows"), -1), 0);
    shoal_json_close(json);
    shoal_routes_stats_close(&s);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, load_of_experts);
    SHOAL_TEST(suite, likeliest_in_the_next_layer);
    SHOAL_TEST(suite, pairs_above_chance);
    SHOAL_TEST(suite, balance_of_ranks);
    SHOAL_TEST(suite, order_makes_no_difference);
    SHOAL_TEST(suite, the_last_rows_of_a_prompt_end_its_window);
    SHOAL_TEST(suite, an_empty_trace);
}

SHOAL_TEST_MAIN("launcher.routes_stats", add_tests)
