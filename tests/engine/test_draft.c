/* Speculative decoding over sim: greedy text is that without guesses, sampled text does not depend
 * on ranks or chunks, whatever is guessed, how far it was right, and who else runs. */
#include "tests/support/check_main.h"
#include "tests/support/sim_engine.h"

#include <string.h>

#define DEMO   "models/demo"
#define GOLDEN "tests/golden/deepseek_v3-mtp"

enum { N_REQUEST = 9, N_PROMPT_MAX = 64, N_CONTEXT = 96 };

/* Under the sanitizer, which makes all this 18 times as slow, two kinds of guesses walk the code of
 * all, and one of them that of the demo, which is the larger model. How often guesses are right is
 * no matter of memory. */
#if defined(__SANITIZE_ADDRESS__)
static const shoal_drafts drafts[] = {{SHOAL_DRAFT_MTP, 3}, {SHOAL_DRAFT_NGRAM, 16}};
enum { N_DRAFTS_OF_DEMO = 1, N_SAMPLED_MODEL = 1, N_DRAFTS_COUNTED = 0 };
#else
static const shoal_drafts drafts[] = {
    {SHOAL_DRAFT_MTP, 1},   {SHOAL_DRAFT_MTP, 2}, {SHOAL_DRAFT_MTP, 3},
    {SHOAL_DRAFT_NGRAM, 4}, {SHOAL_DRAFT_MTP, 7}, {SHOAL_DRAFT_NGRAM, 16},
};
enum { N_DRAFTS_OF_DEMO = 4, N_SAMPLED_MODEL = 2, N_DRAFTS_COUNTED = 4 };
#endif
enum { N_DRAFTS = sizeof(drafts) / sizeof(drafts[0]) };

typedef struct world_shape {
    int32_t n_rank, n_sequence, prefill_chunk;
    double sequence_weight[5];
} world_shape;

static const world_shape shapes[] = {
    {1, 9, 64, {1}},
    {2, 3, 5, {1, 1}},
    {3, 9, 1, {0, 1, 1}}, /* rank 0 holds no sequence */
    {5, 6, 11, {1, 2, 1, 0, 1}},
};

enum { N_SHAPE = sizeof(shapes) / sizeof(shapes[0]) };

typedef struct mixture {
    int32_t prompt[N_REQUEST][N_PROMPT_MAX];
    shoal_sequence_request request[N_REQUEST];
} mixture;

/* Prompts of many lengths, some of which repeat themselves; most to be answered to the end of the
 * context, some with a word or two. */
static void make_mixture(mixture *m, bool sampled)
{
    static const int32_t n_prompt[N_REQUEST] = {40, 1, 17, 64, 33, 2, 50, 8, 29};
    static const int32_t max_tokens[N_REQUEST] = {20, 30, 1, 32, 2, 94, 3, 25, 4};
    for (int32_t i = 0; i < N_REQUEST; i++) {
        for (int32_t t = 0; t < n_prompt[i]; t++)
            m->prompt[i][t] = i % 3 == 0 ? 7 + t % (5 + i) : 5 + (t * 37 + i * 11 + t * t) % 250;
        m->request[i] = (shoal_sequence_request){.prompt = m->prompt[i],
                                                 .n_prompt = n_prompt[i],
                                                 .max_tokens = max_tokens[i],
                                                 .ignore_eos = i % 2 == 1,
                                                 .key = (uint64_t)i * 1000};
        if (sampled)
            m->request[i].sampling = (shoal_sampling){.temperature = i < 3 ? 0.3F : 0.8F,
                                                      .top_k = i % 4 == 1 ? 20 : 0,
                                                      .top_p = i % 4 == 2 ? 0.9F : 1.0F,
                                                      .seed = 4321};
    }
}

static shoal_sim_engine_config make_config(const char *model, const world_shape *shape,
                                           shoal_drafts kind, bool fast)
{
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(model, shape->n_rank);
    config.n_context = N_CONTEXT;
    config.n_sequence = shape->n_sequence;
    config.prefill_chunk = shape->prefill_chunk;
    config.sequence_weight = shape->sequence_weight;
    config.drafts = kind;
    config.fast = fast;
    return config;
}

static void run_mixture(shoal_answer answer[N_REQUEST], shoal_sim_engine_result *result,
                        const mixture *m, const shoal_sim_engine_config *config)
{
    shoal_answer_all all = {.request = m->request, .answer = answer, .n = N_REQUEST};
    ck_assert_int_eq(shoal_sim_engine_run(result, config, shoal_answer_all_run, &all), SHOAL_OK);
    for (int32_t r = 0; r < config->n_rank; r++)
        ck_assert_msg(result->status[r] == SHOAL_OK, "rank %d of %d: %s", r, config->n_rank,
                      result->error[r]);
}

static void close_answers(shoal_answer answer[N_REQUEST])
{
    for (int32_t i = 0; i < N_REQUEST; i++)
        shoal_answer_close(&answer[i]);
}

static void check_same_text(const shoal_answer *a, const shoal_answer *b,
                            const shoal_sim_engine_config *config)
{
    for (int32_t i = 0; i < N_REQUEST; i++) {
        ck_assert_msg(a[i].n_token == b[i].n_token && a[i].done.finish == b[i].done.finish &&
                          memcmp(a[i].token, b[i].token, (size_t)a[i].n_token * 4) == 0,
                      "%s, %d ranks, drafts of kind %d by %d: sequence %d has other tokens",
                      config->model, config->n_rank, (int)config->drafts.kind,
                      config->drafts.n_token, i);
        ck_assert_int_eq(b[i].done.n_generated, b[i].n_token);
    }
}

/* Guesses are rows of decode steps; every decode step gives a token and the guesses it keeps. */
static void check_counts(const shoal_sim_engine_config *config,
                         const shoal_sim_engine_result *result, const shoal_answer *answer)
{
    const shoal_engine_counters *count = &result->count[0];
    int64_t n_row = 0, n_token = 0;
    for (int32_t r = 0; r < config->n_rank; r++)
        n_row += result->count[r].n_decode_row;
    for (int32_t i = 0; i < N_REQUEST; i++)
        n_token += answer[i].n_token + (answer[i].done.finish == SHOAL_FINISH_STOP) - 1;
    ck_assert_int_eq(n_row, count->n_decode_step + count->n_draft_proposed);
    ck_assert_int_eq(n_token, count->n_decode_token);
    ck_assert_int_le(count->n_draft_accepted, count->n_draft_proposed);
    ck_assert_int_le(count->n_decode_token, count->n_decode_step + count->n_draft_accepted);
    ck_assert_int_gt(count->n_draft_proposed, 0);
    for (int32_t r = 1; r < config->n_rank; r++)
        ck_assert_int_eq(result->count[r].n_exchange, count->n_exchange);
}

static void greedy_is_the_same(const char *model, bool fast, int32_t n_drafts)
{
    mixture m;
    make_mixture(&m, false);
    shoal_answer plain[N_REQUEST] = {{0}};
    shoal_sim_engine_result result;
    shoal_sim_engine_config config = make_config(model, &shapes[0], (shoal_drafts){0}, fast);
    run_mixture(plain, &result, &m, &config);
    ck_assert_int_eq(result.count[0].n_draft_proposed, 0);
    for (int32_t d = 0; d < n_drafts; d++) {
        for (int32_t s = 0; s < N_SHAPE; s++) {
            shoal_answer answer[N_REQUEST] = {{0}};
            config = make_config(model, &shapes[s], drafts[d], fast);
            run_mixture(answer, &result, &m, &config);
            check_same_text(plain, answer, &config);
            check_counts(&config, &result, answer);
            close_answers(answer);
        }
    }
    close_answers(plain);
}

START_TEST(greedy_of_the_golden)
{
    greedy_is_the_same(GOLDEN, _i == 1, N_DRAFTS);
}
END_TEST

START_TEST(greedy_of_the_demo)
{
    greedy_is_the_same(DEMO, _i == 1, N_DRAFTS_OF_DEMO);
}
END_TEST

START_TEST(samples_do_not_depend_on_ranks)
{
    mixture m;
    make_mixture(&m, true);
    const char *model = _i % N_SAMPLED_MODEL == 0 ? GOLDEN : DEMO;
    const shoal_drafts kind = drafts[_i / N_SAMPLED_MODEL];
    shoal_answer first[N_REQUEST] = {{0}};
    shoal_sim_engine_result result;
    for (int32_t s = 0; s < N_SHAPE; s++) {
        shoal_answer answer[N_REQUEST] = {{0}};
        const shoal_sim_engine_config config = make_config(model, &shapes[s], kind, false);
        run_mixture(s == 0 ? first : answer, &result, &m, &config);
        check_counts(&config, &result, s == 0 ? first : answer);
        if (s > 0)
            check_same_text(first, answer, &config);
        close_answers(answer);
    }
    close_answers(first);
}
END_TEST

/* The trained layer of the demo is right often enough to matter: text of its own books. */
START_TEST(demo_takes_fewer_steps)
{
    /* Prompts of the checkpoint's expected.json. */
    static const int32_t prompt[3][9] = {{0, 34, 268, 346, 713, 291, 753, 13, 527},
                                         {0, 828, 909, 1411, 1026, 403, 13},
                                         {0, 271, 416, 270, 1108, 79, 15, 16}};
    static const int32_t n_prompt[3] = {9, 7, 8};
    shoal_sequence_request request[3];
    for (int32_t i = 0; i < 3; i++)
        request[i] = (shoal_sequence_request){
            .prompt = prompt[i], .n_prompt = n_prompt[i], .max_tokens = 80, .ignore_eos = true};
    shoal_answer answer[3] = {{0}};
    shoal_answer_all all = {.request = request, .answer = answer, .n = 3};
    shoal_sim_engine_result result;
    const shoal_sim_engine_config config = make_config(DEMO, &shapes[0], drafts[_i], false);
    ck_assert_int_eq(shoal_sim_engine_run(&result, &config, shoal_answer_all_run, &all), SHOAL_OK);
    const shoal_engine_counters *count = &result.count[0];
    const double tokens_per_step = (double)count->n_decode_token / (double)count->n_decode_step;
    ck_assert_double_gt(tokens_per_step, 1.15);
    for (int32_t i = 0; i < 3; i++)
        shoal_answer_close(&answer[i]);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *loops = tcase_create("over ranks");
    tcase_set_timeout(loops, 0);
    tcase_add_loop_test(loops, greedy_of_the_golden, 0, 2);
    tcase_add_loop_test(loops, greedy_of_the_demo, 0, 2);
    tcase_add_loop_test(loops, samples_do_not_depend_on_ranks, 0, N_SAMPLED_MODEL * N_DRAFTS);
    tcase_add_loop_test(loops, demo_takes_fewer_steps, 0, N_DRAFTS_COUNTED);
    suite_add_tcase(suite, loops);
}

SHOAL_TEST_MAIN("engine.draft", add_tests)
