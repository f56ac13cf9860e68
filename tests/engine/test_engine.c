/* Whole engines over sim: the goldens' greedy ids from any number of ranks, and the same bits for
 * everything else, whatever the ranks, owners, batch-mates, chunk sizes and threads. */
#include "runtime/engine/sampler.h"
#include "tests/support/check_main.h"
#include "tests/support/sim_engine.h"

#include <math.h>
#include <string.h>

static const char *const models[] = {"tests/golden/deepseek_v3", "tests/golden/qwen3_moe"};

enum { N_MODEL = 2, N_GOLDEN_RUN = 6, N_REQUEST = 9, N_VOCAB_OF_PROMPTS = 256 };

static void check_all_ok(const shoal_sim_engine_config *config,
                         const shoal_sim_engine_result *result)
{
    for (int32_t r = 0; r < config->n_rank; r++)
        ck_assert_msg(result->status[r] == SHOAL_OK, "rank %d of %d: %s: %s", r, config->n_rank,
                      shoal_status_text(result->status[r]), result->error[r]);
}

static void run_all(shoal_answer_all *all, const shoal_sim_engine_config *config,
                    shoal_sim_engine_result *result)
{
    ck_assert_int_eq(shoal_sim_engine_run(result, config, shoal_answer_all_run, all), SHOAL_OK);
    check_all_ok(config, result);
}

static void close_answers(shoal_answer *answer, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        shoal_answer_close(&answer[i]);
}

START_TEST(goldens)
{
    static const int32_t n_ranks[N_GOLDEN_RUN] = {1, 2, 3, 5, 7, 16};
    const char *model = models[_i / N_GOLDEN_RUN];
    shoal_golden golden;
    ck_assert_int_eq(shoal_golden_read(&golden, model), SHOAL_OK);
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(model, n_ranks[_i % N_GOLDEN_RUN]);
    const shoal_sequence_request request = {
        .prompt = golden.prompt, .n_prompt = golden.n_prompt, .max_tokens = golden.n_greedy};
    shoal_answer answer = {0};
    shoal_answer_all all = {.request = &request, .answer = &answer, .n = 1};
    shoal_sim_engine_result result;
    run_all(&all, &config, &result);
    ck_assert_int_eq(answer.n_token, golden.n_greedy);
    ck_assert_mem_eq(answer.token, golden.greedy, (size_t)golden.n_greedy * sizeof(int32_t));
    ck_assert_int_eq(answer.done.finish, SHOAL_FINISH_LENGTH);
    ck_assert_int_eq(result.count[0].n_prompt_row, golden.n_prompt);
    ck_assert_int_eq(result.count[0].n_decode_row, golden.n_greedy - 1);
    for (int32_t r = 0; r < config.n_rank; r++) {
        ck_assert_int_eq(result.count[r].n_step, (golden.n_prompt + 15) / 16 + golden.n_greedy - 1);
        ck_assert(r == 0 || result.count[r].n_prompt_row + result.count[r].n_decode_row == 0);
    }
    shoal_answer_close(&answer);
}
END_TEST

/* A mixture of everything: greedy and sampled generation, scores, rows; prompts of many lengths. */
typedef struct mixture {
    int32_t prompt[N_REQUEST][64];
    shoal_sequence_request request[N_REQUEST];
} mixture;

static void make_mixture(mixture *m)
{
    static const int32_t n_prompt[N_REQUEST] = {40, 1, 17, 64, 33, 2, 50, 8, 29};
    static const shoal_want want[N_REQUEST] = {
        SHOAL_WANT_TOKENS, SHOAL_WANT_TOKENS, SHOAL_WANT_ROWS,
        SHOAL_WANT_SCORES, SHOAL_WANT_TOKENS, SHOAL_WANT_SCORES,
        SHOAL_WANT_TOKENS, SHOAL_WANT_TOKENS, SHOAL_WANT_ROWS};
    for (int32_t i = 0; i < N_REQUEST; i++) {
        for (int32_t t = 0; t < n_prompt[i]; t++)
            m->prompt[i][t] = (t * 37 + i * 11 + t * t) % N_VOCAB_OF_PROMPTS;
        m->request[i] = (shoal_sequence_request){.prompt = m->prompt[i],
                                                 .n_prompt = n_prompt[i],
                                                 .max_tokens = 5 + i,
                                                 .want = want[i],
                                                 .key = (uint64_t)i * 1000};
        if (i % 2 == 0)
            m->request[i].sampling = (shoal_sampling){.temperature = 0.9F,
                                                      .top_k = i == 4 ? 20 : 0,
                                                      .top_p = i == 6 ? 0.9F : 1.0F,
                                                      .seed = 12345};
    }
}

static void check_same_bits(const shoal_answer *a, const shoal_answer *b, const char *what)
{
    for (int32_t i = 0; i < N_REQUEST; i++) {
        const shoal_answer *x = &a[i], *y = &b[i];
        ck_assert_msg(x->n_token == y->n_token && x->n_row == y->n_row && x->n_nll == y->n_nll &&
                          x->done.finish == y->done.finish,
                      "%s: sequence %d: %d tokens, %d rows, %d scores; wanted %d, %d, %d", what, i,
                      y->n_token, y->n_row, y->n_nll, x->n_token, x->n_row, x->n_nll);
        ck_assert_msg(memcmp(x->token, y->token, (size_t)x->n_token * 4) == 0,
                      "%s: sequence %d: other tokens", what, i);
        ck_assert_msg(memcmp(x->nll, y->nll, (size_t)x->n_nll * 8) == 0,
                      "%s: sequence %d: other scores", what, i);
        const size_t n_row = (size_t)x->n_row;
        if (n_row == 0)
            continue;
        ck_assert_msg(memcmp(x->logits, y->logits, n_row * (size_t)x->n_vocab * 4) == 0,
                      "%s: sequence %d: other logits", what, i);
        ck_assert_msg(memcmp(x->hidden, y->hidden, n_row * (size_t)x->n_embd * 4) == 0,
                      "%s: sequence %d: other hidden states", what, i);
        ck_assert_msg(memcmp(x->expert, y->expert, n_row * (size_t)x->n_choice * 4) == 0,
                      "%s: sequence %d: other experts", what, i);
        ck_assert_msg(memcmp(x->weight, y->weight, n_row * (size_t)x->n_choice * 4) == 0,
                      "%s: sequence %d: other router weights", what, i);
    }
}

typedef struct variation {
    const char *what;
    int32_t n_rank, n_sequence, prefill_chunk, n_thread;
    const char *kernels;
    double expert_weight[5], sequence_weight[5];
    int32_t overlap_rows; /* 1: every step that can be cut is worked on in parts */
} variation;

static const variation variations[] = {
    {"one by one", 1, 1, 64, 1, "auto", {1}, {1}, 0},
    {"all at once", 1, 9, 64, 1, "auto", {1}, {1}, 0},
    {"chunks of 1", 1, 4, 1, 1, "auto", {1}, {1}, 0},
    {"reference kernels", 1, 9, 7, 1, "reference", {1}, {1}, 0},
    {"three threads", 2, 6, 13, 3, "auto", {1, 1}, {1, 1}, 0},
    {"parts", 2, 6, 13, 1, "auto", {1, 1}, {1, 1}, 1},
    {"parts with threads", 3, 9, 64, 2, "auto", {1, 1, 1}, {1, 1, 1}, 1},
    {"three ranks", 3, 5, 7, 1, "auto", {1, 1, 1}, {1, 1, 1}, 0},
    {"five unequal ranks", 5, 20, 100, 1, "auto", {3, 1, 0, 2, 1}, {1, 2, 1, 3, 1}, 0},
    {"five unequal ranks in parts", 5, 20, 40, 1, "auto", {3, 1, 0, 2, 1}, {1, 2, 1, 3, 1}, 1},
    {"expert-only ranks", 5, 3, 16, 1, "auto", {1, 1, 1, 1, 1}, {1, 0, 1, 0, 0}, 0},
    {"expert-only ranks in parts", 5, 3, 16, 1, "auto", {1, 1, 1, 1, 1}, {1, 0, 1, 0, 0}, 1},
    {"rank 0 without sequences", 3, 4, 16, 1, "auto", {1, 1, 1}, {0, 1, 1}, 0},
    {"rank 0 without anything", 3, 4, 16, 1, "auto", {0, 1, 1}, {0, 1, 1}, 1},
};

enum { N_VARIATION = sizeof(variations) / sizeof(variations[0]) };

static shoal_sim_engine_config make_config(const char *model, const variation *v, bool fast)
{
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(model, v->n_rank);
    config.n_sequence = v->n_sequence;
    config.prefill_chunk = v->prefill_chunk;
    config.n_thread = v->n_thread;
    config.kernels = v->kernels;
    config.expert_weight = v->expert_weight;
    config.sequence_weight = v->sequence_weight;
    config.want_rows = true;
    config.fast = fast;
    config.overlap_rows = v->overlap_rows;
    return config;
}

START_TEST(same_bits)
{
    const char *model = models[_i / 2];
    const bool fast = _i % 2 == 1;
    mixture m;
    make_mixture(&m);
    shoal_answer first[N_REQUEST] = {{0}};
    shoal_sim_engine_result result;
    for (size_t v = 0; v < N_VARIATION; v++) {
        const shoal_sim_engine_config config = make_config(model, &variations[v], fast);
        shoal_answer answer[N_REQUEST] = {{0}};
        shoal_answer_all all = {
            .request = m.request, .answer = v == 0 ? first : answer, .n = N_REQUEST};
        run_all(&all, &config, &result);
        if (v > 0)
            check_same_bits(first, answer, variations[v].what);
        close_answers(answer, N_REQUEST);
        for (int32_t r = 0; r < config.n_rank; r++) {
            const shoal_engine_counters *count = &result.count[r];
            ck_assert_int_eq(count->n_prompt_row > 0, config.sequence_weight[r] > 0.0);
            ck_assert_int_eq(count->n_cut_step > 0, config.overlap_rows > 0);
            ck_assert_int_lt(count->n_cut_step, count->n_step); /* decoding has few rows */
        }
    }
    ck_assert_int_eq(first[0].n_token, 5);
    ck_assert_int_eq(first[2].n_row, 17);
    ck_assert_int_eq(first[3].n_nll, 63);
    close_answers(first, N_REQUEST);
}
END_TEST

/* Scores are -ln softmax of the logits that ROWS gives. */
START_TEST(scores_are_of_the_logits)
{
    mixture m;
    make_mixture(&m);
    shoal_sequence_request request[2] = {m.request[3], m.request[3]};
    request[1].want = SHOAL_WANT_ROWS;
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(models[1], 2);
    config.want_rows = true;
    shoal_answer answer[2] = {{0}};
    shoal_answer_all all = {.request = request, .answer = answer, .n = 2};
    shoal_sim_engine_result result;
    run_all(&all, &config, &result);
    ck_assert_int_eq(answer[0].n_nll, 63);
    ck_assert_int_eq(answer[1].n_row, 64);
    for (int32_t i = 0; i < 63; i++) {
        const float *logits = answer[1].logits + (size_t)i * N_VOCAB_OF_PROMPTS;
        double sum = 0.0;
        for (int32_t t = 0; t < N_VOCAB_OF_PROMPTS; t++)
            sum += exp((double)logits[t]);
        ck_assert_double_eq_tol(answer[0].nll[i], log(sum) - logits[request[0].prompt[i + 1]],
                                1e-4);
    }
    close_answers(answer, 2);
}
END_TEST

/* A sampled token is the sampler's, at the token's own position, from the logits that ROWS gives.
 */
START_TEST(samples_are_the_samplers)
{
    enum { N = 16 };
    mixture m;
    make_mixture(&m);
    shoal_sequence_request request[N + 1];
    request[N] = m.request[2]; /* ROWS */
    for (int32_t i = 0; i < N; i++) {
        request[i] = m.request[2];
        request[i].want = SHOAL_WANT_TOKENS;
        request[i].max_tokens = 1;
        request[i].sampling = (shoal_sampling){.temperature = 1.5F, .top_p = 1.0F, .seed = 99};
        request[i].key = (uint64_t)i;
    }
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(models[1], 2);
    config.want_rows = true;
    shoal_answer answer[N + 1] = {{0}};
    shoal_answer_all all = {.request = request, .answer = answer, .n = N + 1};
    shoal_sim_engine_result result;
    run_all(&all, &config, &result);

    shoal_log log;
    shoal_log_init(&log, stderr, 0, "test");
    const shoal_kernels *kernels;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "auto", &log), SHOAL_OK);
    shoal_sampler sampler;
    shoal_arena arena;
    shoal_arena_measure(&arena, "sampler");
    shoal_sampler_carve(&sampler, &arena, answer[N].n_vocab);
    ck_assert_int_eq(shoal_arena_open(&arena, &log), SHOAL_OK);
    shoal_sampler_carve(&sampler, &arena, answer[N].n_vocab);
    const int32_t n_prompt = request[N].n_prompt;
    const float *logits = answer[N].logits + (size_t)(n_prompt - 1) * (size_t)answer[N].n_vocab;
    for (int32_t i = 0; i < N; i++) {
        ck_assert_int_eq(answer[i].n_token, 1);
        ck_assert_int_eq(answer[i].token[0],
                         shoal_sample(&sampler, kernels, logits, &request[i].sampling,
                                      request[i].key, n_prompt));
    }
    shoal_arena_close(&arena);
    close_answers(answer, N + 1);
}
END_TEST

/* A sequence that is dropped on the way changes nothing for the others, and its slot serves the
 * next in the queue. */
START_TEST(cancelling)
{
    mixture m;
    make_mixture(&m);
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(models[1], 2);
    config.want_rows = true;
    shoal_answer whole[N_REQUEST] = {{0}}, cut[N_REQUEST] = {{0}};
    shoal_answer_all all = {.request = m.request, .answer = whole, .n = N_REQUEST};
    shoal_sim_engine_result result;
    run_all(&all, &config, &result);
    all.answer = cut;
    all.n_cancel_after = 3;
    run_all(&all, &config, &result);
    for (int32_t i = 0; i < N_REQUEST; i++) {
        const bool generates = m.request[i].want == SHOAL_WANT_TOKENS;
        ck_assert_int_eq(cut[i].n_token, generates ? 3 : 0);
        ck_assert_int_eq(cut[i].done.kind == SHOAL_EVENT_DONE, !generates);
        ck_assert_mem_eq(cut[i].token, whole[i].token, (size_t)cut[i].n_token * 4);
        ck_assert_int_eq(cut[i].n_row, whole[i].n_row);
    }
    close_answers(whole, N_REQUEST);
    close_answers(cut, N_REQUEST);
}
END_TEST

/* Requests that cannot be: refused at once, with a text, and the engine goes on. */
static shoal_status refuse(void *arg, shoal_engine *engine, const shoal_spec *spec)
{
    int32_t *n_wrong = arg;
    int32_t prompt[128] = {1, 2, 3};
    const shoal_sequence_request good = {.prompt = prompt, .n_prompt = 3, .max_tokens = 2};
    shoal_sequence_request bad[9];
    for (int32_t i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].n_prompt = 0;
    bad[1].max_tokens = -1;
    bad[2].max_tokens = 126; /* 3 + 126 > 128 */
    bad[3].max_tokens = INT32_MAX;
    bad[4].want = SHOAL_WANT_ROWS;
    bad[5].want = SHOAL_WANT_SCORES;
    bad[6].sampling.temperature = NAN;
    bad[7].sampling.top_p = 2.0F;
    const int32_t beyond[1] = {spec->n_vocab};
    bad[8].prompt = beyond;
    bad[8].n_prompt = 1;
    int64_t id = -7;
    for (int32_t i = 0; i < 9; i++)
        *n_wrong += shoal_engine_submit(engine, &id, &bad[i]) != SHOAL_USAGE || id != -7;
    *n_wrong += shoal_engine_n_pending(engine) != 0 || shoal_engine_n_free(engine) != 2;
    shoal_engine_cancel(engine, 5);
    *n_wrong += shoal_engine_step(engine) != SHOAL_OK; /* with nothing to do */
    shoal_event event;
    *n_wrong += shoal_engine_poll(engine, &event);
    SHOAL_TRY(shoal_engine_submit(engine, &id, &good));
    *n_wrong += shoal_engine_n_pending(engine) != 1 || shoal_engine_n_free(engine) != 1;
    return shoal_engine_step(engine);
}

START_TEST(refused_requests)
{
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(models[1], 2);
    shoal_sim_engine_result result;
    int32_t n_wrong = 0;
    ck_assert_int_eq(shoal_sim_engine_run(&result, &config, refuse, &n_wrong), SHOAL_OK);
    check_all_ok(&config, &result);
    ck_assert_int_eq(n_wrong, 0);
}
END_TEST

/* What no rank can open ends all of them, before anything is exchanged. */
START_TEST(no_model)
{
    const shoal_sim_engine_config config =
        SHOAL_SIM_ENGINE_DEFAULT("tests/golden/no-such-folder", 2);
    shoal_sim_engine_result result;
    int32_t n_wrong = 0;
    ck_assert_int_eq(shoal_sim_engine_run(&result, &config, refuse, &n_wrong), SHOAL_OK);
    for (int32_t r = 0; r < 2; r++)
        ck_assert_int_eq(result.status[r], SHOAL_NO_INPUT);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *loops = tcase_create("over ranks");
    tcase_set_timeout(loops, 0);
    tcase_add_loop_test(loops, goldens, 0, N_GOLDEN_RUN * N_MODEL);
    tcase_add_loop_test(loops, same_bits, 0, 2 * N_MODEL);
    suite_add_tcase(suite, loops);
    SHOAL_TEST(suite, scores_are_of_the_logits);
    SHOAL_TEST(suite, samples_are_the_samplers);
    SHOAL_TEST(suite, cancelling);
    SHOAL_TEST(suite, refused_requests);
    SHOAL_TEST(suite, no_model);
}

SHOAL_TEST_MAIN("engine.engine", add_tests)
