/* A rank is lost in the middle of a run: every other rank's engine ends with PEER_LOST and names
 * it, wherever it was and whatever it held. */
#include "tests/support/check_main.h"
#include "tests/support/sim_engine.h"

#include <string.h>

enum { N_RANK = 4, N_SEQUENCE = 6 };

static const shoal_fault_kind kinds[] = {SHOAL_FAULT_KILL, SHOAL_FAULT_STOP, SHOAL_FAULT_EXIT,
                                         SHOAL_FAULT_DROP};
static const int32_t layers[] = {-1, 0, 2};

/* Rank 0 schedules and holds sequences, 1 and 3 hold sequences, 2 holds experts only. */
static const double sequence_weight[N_RANK] = {1, 1, 0, 1};

/* in_parts: the steps of the prompts are worked on in parts. */
static void run_with_fault(shoal_sim_engine_result *result, shoal_fault fault, bool in_parts)
{
    static int32_t prompt[N_SEQUENCE][20];
    shoal_sequence_request request[N_SEQUENCE];
    for (int32_t i = 0; i < N_SEQUENCE; i++) {
        for (int32_t t = 0; t < 20; t++)
            prompt[i][t] = (i * 31 + t * 7) % 256;
        request[i] =
            (shoal_sequence_request){.prompt = prompt[i], .n_prompt = 10 + i, .max_tokens = 30};
    }
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT("tests/golden/deepseek_v3", N_RANK);
    config.sequence_weight = sequence_weight;
    config.n_sequence = N_SEQUENCE;
    config.fault = fault;
    config.overlap_rows = in_parts;
    shoal_answer answer[N_SEQUENCE] = {{0}};
    shoal_answer_all all = {.request = request, .answer = answer, .n = N_SEQUENCE};
    ck_assert_int_eq(shoal_sim_engine_run(result, &config, shoal_answer_all_run, &all), SHOAL_OK);
    for (int32_t i = 0; i < N_SEQUENCE; i++)
        shoal_answer_close(&answer[i]);
}

START_TEST(the_lost_rank_is_named)
{
    const shoal_fault_kind kind = kinds[_i / N_RANK];
    const int32_t lost = _i % N_RANK;
    for (size_t l = 0; l < 2 * sizeof(layers) / sizeof(layers[0]); l++) {
        const bool in_parts = l % 2 == 1; /* then in step 0, which is one of prompts */
        const int32_t layer = layers[l / 2];
        const shoal_fault fault = {
            .kind = kind, .rank = lost, .step = in_parts ? 0 : 4, .layer = layer};
        shoal_sim_engine_result result;
        run_with_fault(&result, fault, in_parts);
        char name[32];
        (void)snprintf(name, sizeof(name), "rank %d", lost);
        for (int32_t r = 0; r < N_RANK; r++) {
            if (r == lost) {
                ck_assert_int_ne(result.status[r], SHOAL_OK);
                continue;
            }
            ck_assert_msg(result.status[r] == SHOAL_PEER_LOST,
                          "rank %d lost in layer %d: rank %d ended with: %s: %s", lost, layer, r,
                          shoal_status_text(result.status[r]), result.error[r]);
            ck_assert_msg(strstr(result.error[r], name) != NULL, "rank %d lost, rank %d says: %s",
                          lost, r, result.error[r]);
            ck_assert_int_le(result.count[r].n_step, 5);
        }
    }
}
END_TEST

/* The same run without a fault ends well: the test above can fail. */
START_TEST(nobody_is_lost)
{
    shoal_sim_engine_result result;
    run_with_fault(&result, (shoal_fault){.kind = SHOAL_FAULT_NONE}, true);
    for (int32_t r = 0; r < N_RANK; r++) {
        ck_assert_int_gt(result.count[r].n_cut_step, 0);
        ck_assert_int_eq(result.status[r], SHOAL_OK);
        ck_assert_str_eq(result.error[r], "");
    }
}
END_TEST

/* A failure of rank 0's own, outside of any exchange, ends the others too. */
static shoal_status fail_after_two(void *arg, shoal_engine *engine, const shoal_spec *spec)
{
    (void)arg;
    (void)spec;
    const int32_t prompt[3] = {4, 5, 6};
    const shoal_sequence_request request = {.prompt = prompt, .n_prompt = 3, .max_tokens = 9};
    int64_t id;
    SHOAL_TRY(shoal_engine_submit(engine, &id, &request));
    SHOAL_TRY(shoal_engine_step(engine));
    SHOAL_TRY(shoal_engine_step(engine));
    return SHOAL_IO;
}

START_TEST(a_failure_of_rank_0)
{
    const shoal_sim_engine_config config =
        SHOAL_SIM_ENGINE_DEFAULT("tests/golden/deepseek_v3", N_RANK);
    shoal_sim_engine_result result;
    ck_assert_int_eq(shoal_sim_engine_run(&result, &config, fail_after_two, NULL), SHOAL_OK);
    for (int32_t r = 0; r < N_RANK; r++)
        ck_assert_int_eq(result.status[r], SHOAL_IO);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *loops = tcase_create("every kind and rank");
    tcase_set_timeout(loops, 0);
    tcase_add_loop_test(loops, the_lost_rank_is_named, 0, 4 * N_RANK);
    suite_add_tcase(suite, loops);
    SHOAL_TEST(suite, nobody_is_lost);
    SHOAL_TEST(suite, a_failure_of_rank_0);
}

SHOAL_TEST_MAIN("engine.loss", add_tests)
