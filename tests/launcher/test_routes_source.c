/* A recorded trace as the source of the cost model's choices. */
#include "launcher/routes/source.h"
#include "tests/support/check_main.h"

#include <string.h>
#include <unistd.h>

enum { N_LAYER = 2, N_EXPERT = 8, TOP_K = 2, PER_ROW = N_LAYER * TOP_K, N_PROMPT = 300 };

static char path[] = "/tmp/shoal-source-XXXXXX";
static shoal_log log_;
static const shoal_spec spec = {.n_moe_layer = N_LAYER,
                                .router = {.n_expert = N_EXPERT, .top_k = TOP_K}};

/* Prompt row i chooses i % 7 and 7 in layer 0, 7 and i % 7 in layer 1; decoded rows 0 and 1. */
static void write_trace(bool prompts, bool decoded)
{
    static uint16_t expert[N_PROMPT * PER_ROW];
    for (int32_t i = 0; i < N_PROMPT; i++) {
        const uint16_t own = (uint16_t)(i % 7);
        const uint16_t row[PER_ROW] = {own, 7, 7, own};
        memcpy(expert + i * PER_ROW, row, sizeof row);
    }
    static const uint16_t hot[PER_ROW] = {0, 1, 1, 0};
    int32_t layer[N_LAYER] = {0, 1};
    const shoal_routes_header h = {.model = "x",
                                   .n_layer = N_LAYER,
                                   .n_expert = N_EXPERT,
                                   .top_k = TOP_K,
                                   .n_group = 1,
                                   .top_group = 1,
                                   .n_rank = 1,
                                   .layer = layer};
    shoal_routes_writer w;
    shoal_log_init(&log_, NULL, 0, "test");
    ck_assert_int_eq(shoal_routes_writer_open(&w, path, &h, &log_), SHOAL_OK);
    const shoal_routes_rows prompt = {.n_row = N_PROMPT, .expert = expert};
    const shoal_routes_rows one = {
        .position0 = N_PROMPT, .n_row = 1, .decode = true, .expert = hot};
    if (prompts)
        ck_assert_int_eq(shoal_routes_write(&w, &prompt), SHOAL_OK);
    if (decoded)
        ck_assert_int_eq(shoal_routes_write(&w, &one), SHOAL_OK);
    ck_assert_int_eq(shoal_routes_writer_close(&w, true), SHOAL_OK);
}

START_TEST(draws_are_rows_of_the_trace)
{
    shoal_routes_source s;
    write_trace(true, true);
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &spec, &log_), SHOAL_OK);
    const shoal_routing r = shoal_routing_of_routes(&s);
    int32_t expert[40 * TOP_K], other[40 * TOP_K];
    r.draw(r.source, expert, 0, 5, 40);
    for (int32_t i = 0; i < 40; i++)
        ck_assert(expert[2 * i] == 0 && expert[2 * i + 1] == 1);
    r.draw(r.source, expert, 1, 5, 40);
    ck_assert(expert[0] == 1 && expert[1] == 0);
    bool differs = false;
    r.draw_prompt(r.source, other, 0, 0, 40);
    for (int64_t draw = 1; draw < 20; draw++) {
        r.draw_prompt(r.source, expert, 0, draw, 40);
        for (int32_t i = 0; i < 40; i++) {
            ck_assert_int_eq(expert[2 * i + 1], 7);
            if (i > 0 &&
                expert[2 * i - 2] != 5) /* where 300 rows begin again, 5 is followed by 0 */
                ck_assert_int_eq(expert[2 * i], (expert[2 * i - 2] + 1) % 7);
        }
        differs = differs || expert[0] != other[0];
        r.draw_prompt(r.source, other, 0, draw, 40); /* a draw is a function of its number */
        ck_assert_int_eq(memcmp(expert, other, sizeof expert), 0);
    }
    ck_assert(differs);
    shoal_routes_source_close(&s);
    shoal_routes_source_close(&s);
}
END_TEST

/* All decoded rows choose experts of rank 0: the fullest of two ranks has all slots. */
START_TEST(the_cost_model_sees_hot_experts)
{
    shoal_routes_source s;
    shoal_placement placement;
    shoal_routing_means means;
    write_trace(true, true);
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &spec, &log_), SHOAL_OK);
    ck_assert_int_eq(shoal_placement_open(&placement, N_LAYER, N_EXPERT, 1, 2, NULL, NULL, &log_),
                     SHOAL_OK);
    const shoal_routing r = shoal_routing_of_routes(&s);
    const int32_t n_token[2] = {3, 5};
    ck_assert_int_eq(shoal_routing_expect(&means, &r, &placement, n_token, 100, &log_), SHOAL_OK);
    ck_assert_double_eq_tol(means.max_slots, 16, 1e-9);
    ck_assert_double_eq_tol(means.mean_slots, 8, 1e-9);
    ck_assert_double_eq_tol(means.max_active, 2, 1e-9);
    ck_assert_double_eq_tol(means.remote_rows, 5.0 / 8, 1e-9);
    shoal_placement_close(&placement);
    shoal_routes_source_close(&s);
}
END_TEST

START_TEST(one_kind_serves_for_both)
{
    shoal_routes_source s;
    int32_t expert[TOP_K];
    write_trace(true, false);
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &spec, &log_), SHOAL_OK);
    shoal_routing r = shoal_routing_of_routes(&s);
    r.draw(r.source, expert, 0, 1, 1);
    ck_assert_int_eq(expert[1], 7);
    shoal_routes_source_close(&s);
    write_trace(false, true);
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &spec, &log_), SHOAL_OK);
    r = shoal_routing_of_routes(&s);
    r.draw_prompt(r.source, expert, 0, 1, 1);
    ck_assert_int_eq(expert[1], 1);
    shoal_routes_source_close(&s);
}
END_TEST

START_TEST(traces_that_do_not_serve)
{
    shoal_routes_source s;
    write_trace(false, false);
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &spec, &log_), SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log_.error, "no rows"));
    write_trace(true, true);
    shoal_spec other = spec;
    other.n_moe_layer = 3;
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &other, &log_), SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log_.error, "of another model: 2 MoE layers"));
    unlink(path);
    ck_assert_int_eq(shoal_routes_source_open(&s, path, &spec, &log_), SHOAL_NO_INPUT);
}
END_TEST

static void add_tests(Suite *suite)
{
    close(mkstemp(path));
    SHOAL_TEST(suite, draws_are_rows_of_the_trace);
    SHOAL_TEST(suite, the_cost_model_sees_hot_experts);
    SHOAL_TEST(suite, one_kind_serves_for_both);
    SHOAL_TEST(suite, traces_that_do_not_serve);
}

SHOAL_TEST_MAIN("launcher.routes_source", add_tests)
