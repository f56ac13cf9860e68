/* The cost model: expectations of routing against known values, bytes of messages against the plan
 * that a run builds, properties of shares and of predicted times. */
#include "comm/message.h"
#include "launcher/cluster/cluster_presets.h"
#include "launcher/predict/costs.h"
#include "tests/support/check_main.h"
#include "tests/support/paper.h"

#include <math.h>
#include <string.h>

static shoal_routing_means expect(shoal_paper *f, int32_t n_rank, int32_t n_token)
{
    shoal_placement p;
    shoal_routing_means means;
    int32_t tokens[SHOAL_MAX_RANK] = {0};
    for (int32_t t = 0; t < n_token; t++)
        tokens[t % n_rank]++;
    shoal_paper_place(&p, f, n_rank, NULL, NULL);
    ck_assert_int_eq(shoal_routing_expect(&means, &f->routing, &p, tokens, 2000, &f->log),
                     SHOAL_OK);
    shoal_placement_close(&p);
    return means;
}

/* DeepSeek-V3 with its groups: most experts of a rank per layer for one token, and ranks that a
 * token goes to beside its own (another simulation of the same rules). */
START_TEST(groups_of_deepseek_are_unbalanced)
{
    static const struct {
        int32_t n_rank;
        double max_active, remote;
    } known[] = {{2, 5.55, 0.96}, {4, 4.26, 2.19}, {8, 3.48, 3.16}, {16, 2.55, 4.99}};
    shoal_paper f;
    shoal_paper_open(&f, "DeepSeek-V3", 1, 64);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const shoal_routing_means m = expect(&f, known[i].n_rank, 1);
        ck_assert_double_eq_tol(m.mean_active, 8.0 / known[i].n_rank, 1e-9);
        ck_assert_double_eq_tol(m.max_active, known[i].max_active, 0.03 * m.max_active);
        ck_assert_double_eq_tol(m.remote_rows, known[i].remote, 0.03 * m.remote_rows);
    }
    const shoal_routing_means many = expect(&f, 8, 32);
    ck_assert_double_eq_tol(many.max_active / many.mean_active, 1.22, 0.04);
    shoal_paper_close(&f);
}
END_TEST

/* Without groups: a token misses a rank of E / R experts with C(E - E/R, k) / C(E, k). */
START_TEST(without_groups_the_closed_form_holds)
{
    shoal_paper f;
    shoal_paper_open(&f, "Qwen3-30B-A3B", 1, 64);
    const int32_t n_expert = f.spec.router.n_expert, k = f.spec.router.top_k;
    for (int32_t n_rank = 2; n_rank <= 16; n_rank *= 2) {
        double miss = 1;
        for (int32_t j = 0; j < k; j++)
            miss *= (double)(n_expert - n_expert / n_rank - j) / (n_expert - j);
        const shoal_routing_means m = expect(&f, n_rank, 1);
        ck_assert_double_eq_tol(m.remote_rows, (n_rank - 1) * (1 - miss), 0.08);
    }
    /* Of E experts those that 32 tokens choose: E * (1 - (1 - k/E)^32). */
    const shoal_routing_means many = expect(&f, 4, 32);
    const double active = n_expert * (1 - pow(1 - (double)k / n_expert, 32));
    ck_assert_double_eq_tol(4 * many.mean_active, active, 0.02 * active);
    ck_assert_double_eq_tol(4 * many.mean_slots, 32.0 * k, 1e-6);
    shoal_paper_close(&f);
}
END_TEST

static shoal_speed speed_of(shoal_paper *f, const shoal_predict_run *run, const double *expert,
                            const double *sequence)
{
    shoal_placement p;
    shoal_model_measured measured;
    shoal_speed speed;
    shoal_rank_memory memory[16];
    shoal_paper_place(&p, f, f->cluster.n_rank, expert, sequence);
    ck_assert_int_eq(shoal_predict_memory(memory, &measured, run, &p, &f->log), SHOAL_OK);
    ck_assert_int_eq(shoal_predict_speed(&speed, run, &p, &measured, true, &f->log), SHOAL_OK);
    shoal_placement_close(&p);
    return speed;
}

START_TEST(equal_ranks_get_equal_shares)
{
    shoal_paper f;
    double expert[4], sequence[4];
    shoal_paper_open(&f, "Qwen3-30B-A3B", 4, 64);
    const shoal_predict_run run = shoal_paper_run(&f, 8);
    ck_assert_int_eq(shoal_predict_weights(expert, sequence, &run, &f.log), SHOAL_OK);
    for (int r = 1; r < 4; r++) {
        ck_assert_double_eq_tol(expert[r], expert[0], 1e-9 * expert[0]);
        ck_assert_double_eq_tol(sequence[r], sequence[0], 1e-9 * sequence[0]);
    }
    double again[4], more[4];
    ck_assert_int_eq(shoal_predict_weights(again, more, &run, &f.log), SHOAL_OK);
    ck_assert(memcmp(again, expert, sizeof again) == 0 && memcmp(more, sequence, sizeof more) == 0);
    shoal_paper_close(&f);
}
END_TEST

START_TEST(a_slow_rank_gets_less_and_the_whole_gains)
{
    shoal_paper f;
    double expert[4], sequence[4];
    shoal_paper_open(&f, "Qwen3-30B-A3B", 4, 64);
    shoal_paper_set_rank(&f, 2, 0.25, 64);
    const shoal_predict_run run = shoal_paper_run(&f, 32);
    ck_assert_int_eq(shoal_predict_weights(expert, sequence, &run, &f.log), SHOAL_OK);
    ck_assert_double_eq_tol(expert[2], 0.25 * expert[0], 1e-6 * expert[0]);
    ck_assert_double_le(sequence[2], 0.251 * sequence[0]);
    const shoal_speed weighted = speed_of(&f, &run, expert, sequence);
    const shoal_speed uniform = speed_of(&f, &run, NULL, NULL);
    ck_assert_double_gt(weighted.decode_tok_per_s, 1.5 * uniform.decode_tok_per_s);
    shoal_paper_close(&f);
}
END_TEST

START_TEST(nobody_gets_more_than_fits)
{
    shoal_paper f;
    double expert[4], sequence[4];
    shoal_paper_open(&f, "Qwen3-30B-A3B", 4, 12); /* 17.2 GB in q4 */
    shoal_paper_set_rank(&f, 3, 4, 4);            /* the fastest has least room */
    const shoal_predict_run run = shoal_paper_run(&f, 4);
    ck_assert_int_eq(shoal_predict_weights(expert, sequence, &run, &f.log), SHOAL_OK);
    shoal_placement p;
    shoal_model_measured measured;
    shoal_rank_memory memory[4];
    shoal_paper_place(&p, &f, 4, expert, sequence);
    ck_assert_int_eq(shoal_predict_memory(memory, &measured, &run, &p, &f.log), SHOAL_OK);
    for (int r = 0; r < 4; r++)
        ck_assert_uint_le(memory[r].total_bytes, f.cluster.rank[r].memory_bytes);
    ck_assert_uint_gt(memory[3].model.expert_bytes, 1000000000); /* and is used all the same */
    shoal_placement_close(&p);
    shoal_overflow least;
    ck_assert_int_eq(shoal_predict_overflow(&least, &run, &f.log), SHOAL_OK);
    ck_assert_double_eq(least.over_bytes, 0);
    for (int r = 0; r < 4; r++)
        f.cluster.rank[r].memory_bytes = 4000000000;
    ck_assert_int_eq(shoal_predict_overflow(&least, &run, &f.log), SHOAL_OK);
    ck_assert_double_gt(least.over_bytes, 1e9);
    shoal_paper_close(&f);
}
END_TEST

START_TEST(weak_ranks_become_expert_only)
{
    shoal_paper f;
    double expert[8], sequence[8];
    /* 17 G parameters of attention, shared experts and ends: too little memory for 14 GB of
     * attention and 27 GB of experts */
    shoal_paper_open(&f, "DeepSeek-V3", 8, 34);
    shoal_paper_set_rank(&f, 0, 4, 220);
    const shoal_predict_run run = shoal_paper_run(&f, 1);
    ck_assert_int_eq(shoal_predict_weights(expert, sequence, &run, &f.log), SHOAL_OK);
    int n_source = 0;
    for (int r = 0; r < 8; r++)
        n_source += sequence[r] > 0;
    ck_assert_double_gt(sequence[0], 0);
    ck_assert_int_le(n_source, 4);
    shoal_paper_close(&f);
}
END_TEST

START_TEST(better_hardware_is_never_slower)
{
    shoal_paper f;
    shoal_paper_open(&f, "Qwen3-30B-A3B", 4, 64);
    const shoal_predict_run run = shoal_paper_run(&f, 8);
    const shoal_speed base = speed_of(&f, &run, NULL, NULL);
    for (shoal_bound b = SHOAL_BOUND_READ; b < SHOAL_BOUND_OVERHEAD; b++) {
        ck_assert_double_ge(base.decode.gain[b], 0.999);
        ck_assert_double_ge(base.prefill.gain[b], 0.999);
    }
    for (int i = 0; i < 16; i++)
        f.cluster.link[i].gb_per_s *= 0.02;
    for (int r = 0; r < 4; r++)
        f.cluster.host[r].nic_gb_per_s *= 0.02;
    const shoal_speed narrow = speed_of(&f, &run, NULL, NULL);
    ck_assert_double_lt(narrow.decode_tok_per_s, base.decode_tok_per_s);
    ck_assert_double_lt(narrow.prefill_tok_per_s, 0.5 * base.prefill_tok_per_s);
    ck_assert_int_eq(narrow.prefill.bound, SHOAL_BOUND_WIRE);
    for (int i = 0; i < 16; i++) /* a step's messages of decoding fit, a prompt's do not */
        f.cluster.link[i].burst_bytes = 1 << 16;
    const shoal_speed shaped = speed_of(&f, &run, NULL, NULL);
    ck_assert_double_gt(shaped.decode_tok_per_s, 1.05 * narrow.decode_tok_per_s);
    ck_assert_double_le(shaped.decode_tok_per_s, base.decode_tok_per_s);
    ck_assert_double_lt(shaped.prefill_tok_per_s, 1.1 * narrow.prefill_tok_per_s);
    for (int i = 0; i < 16; i++)
        f.cluster.link[i].burst_bytes = 0;
    shoal_predict_run reduced = run;
    reduced.combine = SHOAL_COMBINE_REDUCED;
    ck_assert_double_gt(speed_of(&f, &reduced, NULL, NULL).prefill_tok_per_s,
                        1.2 * narrow.prefill_tok_per_s);
    const shoal_step_prediction *s = &base.decode;
    ck_assert_double_eq_tol(s->attention_us + s->experts_us + s->imbalance_us + s->exchange_us +
                                s->logits_us + s->control_us,
                            s->step_us, 1e-6 * s->step_us);
    shoal_paper_close(&f);
}
END_TEST

static double decode_us(shoal_paper *f, const shoal_predict_run *run)
{
    return speed_of(f, run, NULL, NULL).decode.step_us;
}

/* One token on one GPU, layer by layer: 9 launches of attention; norm, integers, logits, choice and
 * one message; the message taken, rows brought together, activation and results packed, gate and
 * up, down, and the list of each ahead of it; results added, twice. And 9 around the layers. The
 * choice is waited for, and the logits. */
START_TEST(a_gpu_costs_launches_waits_and_pcie)
{
    enum { AROUND = 9 };
    const double launches = (1 + 0.4 * 9) + (1 + 0.4 * 4) + 1 + 6 + 2; /* two are recorded */
    shoal_paper f;
    shoal_paper_open(&f, "Qwen3-30B-A3B", 1, 64);
    f.cluster.rank[0].gpu = 0;
    f.cluster.rank[0].pcie_gb_per_s = 25;
    const shoal_gpu_preset *p = shoal_gpu_preset_find("rtx4090");
    ck_assert_ptr_eq(p, shoal_gpu_preset_of_driver("NVIDIA GeForce RTX 4090"));
    shoal_device_fill(&f.cluster.rank[0],
                      &(shoal_device_rates){.f32_gflop_per_s = p->f32_tflop_per_s * 1e3,
                                            .half_gflop_per_s = p->half_tflop_per_s * 1e3,
                                            .read_gb_per_s = p->read_gb_per_s});
    const shoal_predict_run run = shoal_paper_run(&f, 1);
    const double n_layer = f.spec.n_layer, bare = decode_us(&f, &run);
    f.cluster.rank[0].launch_us = 1;
    ck_assert_double_eq_tol(decode_us(&f, &run) - bare, n_layer * launches + AROUND, 1e-6 * bare);
    f.cluster.rank[0].launch_us = 0;
    f.cluster.rank[0].wait_us = 10;
    ck_assert_double_eq_tol(decode_us(&f, &run) - bare, 10 * (n_layer + 1), 1e-6 * bare);
    f.cluster.rank[0].wait_us = 0;
    /* own rows stay there: embedding and rotation in, last norm and the largest logits out */
    const shoal_spec *s = &f.spec;
    const double ends = 4.0 * (2 * s->n_embd + s->attention.rope.n_rot) + 64 * 8;
    f.cluster.rank[0].pcie_gb_per_s = 1e-3;
    ck_assert_double_eq_tol(decode_us(&f, &run) - bare, ends * (1 / 1e-3 - 1 / 25.0) * 1e-3,
                            1e-6 * bare);
    ck_assert_int_eq(speed_of(&f, &run, NULL, NULL).decode.bound, SHOAL_BOUND_PCIE);
    shoal_paper_close(&f);
}
END_TEST

/* Messages of the same choices, as comm plans them. */
START_TEST(bytes_are_those_of_the_exchange)
{
    enum { N_RANK = 4, N_TOKEN = 37 };
    shoal_paper f;
    shoal_paper_open(&f, "Qwen3-30B-A3B", 1, 64);
    const shoal_router_config *router = &f.spec.router;
    shoal_placement p;
    shoal_paper_place(&p, &f, N_RANK, NULL, NULL);
    int32_t expert[N_TOKEN * SHOAL_MAX_TOP_K], owner[SHOAL_MAX_EXPERT], local[SHOAL_MAX_EXPERT];
    float weight[N_TOKEN * SHOAL_MAX_TOP_K] = {0};
    int32_t n_local[N_RANK] = {0};
    for (int32_t e = 0; e < router->n_expert; e++) {
        owner[e] = shoal_placement_owner(&p, 3, e);
        local[e] = n_local[owner[e]]++;
    }
    const bool all[N_RANK] = {true, true, true, true};
    const int32_t n_token[N_RANK] = {0, N_TOKEN, 0, 0};
    f.routing.draw(f.routing.source, expert, 3, 11, N_TOKEN);
    for (shoal_combine_kind kind = SHOAL_COMBINE_EXACT; kind <= SHOAL_COMBINE_REDUCED; kind++) {
        const shoal_exchange_config config = {.n_rank = N_RANK,
                                              .rank = 1,
                                              .n_embd = f.spec.n_embd,
                                              .top_k = router->top_k,
                                              .n_token_max = N_TOKEN,
                                              .n_local_max = n_local,
                                              .may_source = all,
                                              .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES,
                                              .wire = shoal_wire_format(true, true, kind)};
        shoal_exchange x;
        shoal_arena arena;
        const shoal_compute compute = {0};
        shoal_arena_measure(&arena, "test");
        shoal_exchange_carve(&x, shoal_arenas_same(&arena), &config, &compute);
        ck_assert_int_eq(shoal_arena_open(&arena, &f.log), SHOAL_OK);
        shoal_exchange_carve(&x, shoal_arenas_same(&arena), &config, &compute);
        shoal_plan_build(&x, expert, weight, N_TOKEN, owner, local, all, all);

        shoal_routing_step step;
        ck_assert_int_eq(shoal_routing_step_open(&step, &p, &f.log), SHOAL_OK);
        shoal_routing_step_fill(&step, &p, 3, expert, router->top_k, n_token);
        const shoal_model_measured measured = {.wire = config.wire};
        const shoal__costs costs = {.measured = &measured,
                                    .dispatch_row_bytes = x.dispatch_row_bytes,
                                    .combine_row_bytes = x.combine_row_bytes};
        for (int32_t d = 0; d < N_RANK; d++) {
            const int32_t n_row = step.rows[N_RANK + d], n_slot = step.slots[N_RANK + d];
            ck_assert_int_eq(n_row, x.plan.send_row_offset[d + 1] - x.plan.send_row_offset[d]);
            ck_assert_int_eq(n_slot, x.plan.send_slot_offset[d + 1] - x.plan.send_slot_offset[d]);
            ck_assert_double_eq(
                shoal__dispatch_message_bytes(&costs, n_row, n_slot),
                (double)shoal__dispatch_bytes(x.dispatch_row_bytes, (size_t)n_row, (size_t)n_slot));
            const int32_t n_back = kind == SHOAL_COMBINE_EXACT ? n_slot : n_row;
            ck_assert_double_eq(shoal__combine_message_bytes(&costs, n_row, n_slot),
                                (double)n_back * (double)x.combine_row_bytes);
        }
        shoal_routing_step_close(&step);
        shoal_arena_close(&arena);
    }
    shoal_placement_close(&p);
    shoal_paper_close(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, groups_of_deepseek_are_unbalanced);
    SHOAL_TEST(suite, without_groups_the_closed_form_holds);
    SHOAL_TEST(suite, equal_ranks_get_equal_shares);
    SHOAL_TEST(suite, a_slow_rank_gets_less_and_the_whole_gains);
    SHOAL_TEST(suite, nobody_gets_more_than_fits);
    SHOAL_TEST(suite, weak_ranks_become_expert_only);
    SHOAL_TEST(suite, better_hardware_is_never_slower);
    SHOAL_TEST(suite, a_gpu_costs_launches_waits_and_pcie);
    SHOAL_TEST(suite, bytes_are_those_of_the_exchange);
}

SHOAL_TEST_MAIN("launcher.predict", add_tests)
