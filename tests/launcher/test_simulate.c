/* Decode steps over virtual ranks: bytes and messages are those of the formula and near the cost
 * model's, runs repeat to the bit, and times hold what they are made of. */
#include "launcher/predict/simulate.h"
#include "tests/support/check_main.h"
#include "tests/support/paper.h"

#include <math.h>
#include <string.h>

enum { N_LAYER = 2 };

typedef struct fixture {
    shoal_paper paper;
    shoal_placement placement;
    shoal_rank_memory memory[64];
    shoal_model_measured measured;
    shoal_predict_run run;
} fixture;

static void open_fixture(fixture *f, const char *name, int32_t n_rank, int32_t n_sequence,
                         shoal_combine_kind combine)
{
    shoal_paper_open(&f->paper, name, n_rank, 256);
    shoal_paper_place(&f->placement, &f->paper, n_rank, NULL, NULL);
    f->run = shoal_paper_run(&f->paper, n_sequence);
    f->run.combine = combine;
    f->run.overlap_rows = 0;
    ck_assert_int_eq(
        shoal_predict_memory(f->memory, &f->measured, &f->run, &f->placement, &f->paper.log),
        SHOAL_OK);
    f->measured.wire.kind = combine;
}

static void close_fixture(fixture *f)
{
    shoal_placement_close(&f->placement);
    shoal_paper_close(&f->paper);
}

static shoal_simulation simulate(fixture *f)
{
    shoal_simulation s;
    ck_assert_int_eq(
        shoal_simulate(&s, &f->run, &f->placement, &f->measured, N_LAYER, &f->paper.log), SHOAL_OK);
    ck_assert_int_eq(s.n_layer, N_LAYER);
    ck_assert_int_eq(s.n_token, f->run.n_sequence);
    return s;
}

typedef struct exchange_bytes {
    double dispatch, combine, dispatch_messages, combine_messages, bare;
} exchange_bytes;

static void add_pair(exchange_bytes *sum, const fixture *f, int32_t n_row, int32_t n_slot)
{
    const double embd =
        f->paper.spec.n_embd; /* int8 rows out, bf16 home; both are multiples of 32 */
    const bool exact = f->run.combine == SHOAL_COMBINE_EXACT;
    const int32_t count_bytes = (2 * n_row + 3) / 4 * 4;
    sum->dispatch += 32 + n_row * (embd + embd / 8) + count_bytes + 8.0 * n_slot;
    sum->combine += (exact ? n_slot : n_row) * 2 * embd;
    sum->dispatch_messages++;
    sum->combine_messages += n_row > 0;
    sum->bare += n_row == 0;
}

/* The formula of docs/PERFORMANCE.md over the same choices, mean of the layers counted. */
static exchange_bytes formula(fixture *f)
{
    exchange_bytes sum = {0};
    const int32_t n_rank = f->placement.n_rank, n_token = f->run.n_sequence;
    int32_t tokens[64];
    int32_t *expert = calloc((size_t)n_token * (size_t)f->paper.routing.top_k, sizeof *expert);
    shoal_routing_step step;
    shoal_predict_sequences(tokens, &f->placement, n_token);
    ck_assert_int_eq(shoal_routing_step_open(&step, &f->placement, &f->paper.log), SHOAL_OK);
    for (int32_t l = 1; l <= N_LAYER; l++) {
        f->paper.routing.draw(f->paper.routing.source, expert, l, l, n_token);
        shoal_routing_step_fill(&step, &f->placement, l, expert, f->paper.routing.top_k, tokens);
        for (int32_t s = 0; s < n_rank; s++)
            for (int32_t d = 0; d < n_rank; d++)
                if (s != d && tokens[s] > 0 && shoal_placement_owned(&f->placement, l, d, NULL) > 0)
                    add_pair(&sum, f, step.rows[s * n_rank + d], step.slots[s * n_rank + d]);
    }
    shoal_routing_step_close(&step);
    free(expert);
    sum.dispatch /= N_LAYER;
    sum.combine /= N_LAYER;
    sum.dispatch_messages /= N_LAYER;
    sum.combine_messages /= N_LAYER;
    sum.bare /= N_LAYER;
    return sum;
}

static const struct {
    const char *name;
    int32_t n_rank, n_sequence;
    shoal_combine_kind combine;
} cases[] = {
    {"DeepSeek-V2-Lite", 8, 1, SHOAL_COMBINE_EXACT},
    {"DeepSeek-V2-Lite", 8, 24, SHOAL_COMBINE_REDUCED},
    {"DeepSeek-V3", 8, 3, SHOAL_COMBINE_EXACT},
    {"Qwen3-30B-A3B", 64, 64, SHOAL_COMBINE_EXACT},
    {"OLMoE-1B-7B", 3, 40, SHOAL_COMBINE_REDUCED},
    {"Mixtral-8x7B", 16, 16, SHOAL_COMBINE_EXACT}, /* ranks without experts of a layer */
};

START_TEST(bytes_and_messages_are_those_of_the_formula)
{
    fixture f;
    open_fixture(&f, cases[_i].name, cases[_i].n_rank, cases[_i].n_sequence, cases[_i].combine);
    const shoal_simulation s = simulate(&f);
    const exchange_bytes wanted = formula(&f);
    ck_assert_double_eq(s.dispatch_bytes, wanted.dispatch);
    ck_assert_double_eq(s.combine_bytes, wanted.combine);
    ck_assert_double_eq(s.dispatch_messages, wanted.dispatch_messages);
    ck_assert_double_eq(s.combine_messages, wanted.combine_messages);
    ck_assert_double_eq(s.bare_messages, wanted.bare);
    ck_assert_double_eq(s.header_bytes, 32 * wanted.dispatch_messages);
    close_fixture(&f);
}
END_TEST

/* The cost model walks the same step with other draws. */
START_TEST(it_is_near_the_cost_model)
{
    fixture f;
    shoal_speed speed;
    open_fixture(&f, "Qwen3-30B-A3B", 8, 64, SHOAL_COMBINE_EXACT);
    const shoal_simulation s = simulate(&f);
    ck_assert_int_eq(
        shoal_predict_speed(&speed, &f.run, &f.placement, &f.measured, false, &f.paper.log),
        SHOAL_OK);
    const double n_moe = f.paper.spec.n_moe_layer;
    ck_assert_double_eq_tol(
        (s.dispatch_bytes + s.combine_bytes) * n_moe / speed.decode.exchange_bytes, 1, 0.03);
    ck_assert_double_eq_tol((s.dispatch_messages + s.combine_messages) * n_moe /
                                speed.decode.exchange_messages,
                            1, 0.03);
    ck_assert_double_eq_tol(s.tok_per_s / speed.decode_tok_per_s, 1, 0.15);
    close_fixture(&f);
}
END_TEST

START_TEST(it_repeats_to_the_bit)
{
    fixture f;
    open_fixture(&f, "DeepSeek-V2-Lite", 32, 48, SHOAL_COMBINE_EXACT);
    shoal_simulation a = simulate(&f), b = simulate(&f);
    a.elapsed_s = b.elapsed_s = 0;
    ck_assert_mem_eq(&a, &b, sizeof a);
    close_fixture(&f);
}
END_TEST

/* One sequence: out and home is two latencies, four times the overhead at least, and the fullest
 * rank's work; what a source does adds up to its layer. */
START_TEST(times_hold_what_they_are_made_of)
{
    fixture f;
    open_fixture(&f, "DeepSeek-V3", 8, 1, SHOAL_COMBINE_EXACT);
    const shoal_simulation near = simulate(&f);
    const double sum =
        near.attention_us + near.send_us + near.dispatch_us + near.experts_us + near.combine_us;
    ck_assert_int_eq(near.n_source, 1);
    ck_assert_double_eq_tol(sum / near.layer_us, 1, 0.02);
    ck_assert_double_ge(near.layer_us, near.attention_us + 2 * 30 + 4 * 5);
    for (int32_t r = 0; r < 64; r++)
        shoal_cluster_link_at(&f.paper.cluster, r / 8, r % 8)->latency_us = r % 9 == 0 ? 0 : 1030;
    const shoal_simulation far = simulate(&f);
    ck_assert_double_eq_tol(far.layer_us - near.layer_us, 2000, 60);
    ck_assert_double_eq(far.dispatch_bytes, near.dispatch_bytes);
    close_fixture(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("formula");
    tcase_set_timeout(tcase, 0); /* ctest has the time-out */
    tcase_add_loop_test(tcase, bytes_and_messages_are_those_of_the_formula, 0,
                        sizeof cases / sizeof cases[0]);
    suite_add_tcase(suite, tcase);
    SHOAL_TEST(suite, it_is_near_the_cost_model);
    SHOAL_TEST(suite, it_repeats_to_the_bit);
    SHOAL_TEST(suite, times_hold_what_they_are_made_of);
}

SHOAL_TEST_MAIN("launcher.simulate", add_tests)
