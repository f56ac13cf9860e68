/* What an engine records of itself on request: the router's choices, equal for any number of ranks,
 * and a timeline of every rank. */
#include "tests/support/check_main.h"
#include "tests/support/sim_engine.h"

#include <stdlib.h>
#include <string.h>

#define MODEL "tests/golden/deepseek_v3-mtp"

enum { N_SEQUENCE = 3, N_POSITION = 64, N_CHOICE_MAX = 64, N_SPAN = 1 << 16 };

static const int32_t prompts[N_SEQUENCE][20] = {
    {1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6}, {7, 7, 1}, {3, 1, 4, 1, 5, 9, 2}};
static const int32_t n_prompt[N_SEQUENCE] = {20, 3, 7};

/* The last choice for each position of each sequence (guesses are computed again). */
typedef struct choices {
    int32_t n_choice; /* n_moe_layer * top_k */
    int32_t n_call;
    int64_t step;
    bool decode[N_SEQUENCE][N_POSITION], last[N_SEQUENCE][N_POSITION];
    uint16_t expert[N_SEQUENCE][N_POSITION][N_CHOICE_MAX];
} choices;

static void keep(void *arg, const shoal_engine_routes *routes)
{
    choices *c = arg;
    c->n_call++;
    c->step = routes->step;
    for (int32_t row = 0; row < routes->n_row; row++) {
        const int32_t position = routes->position0 + row;
        c->decode[routes->sequence][position] = routes->decode;
        c->last[routes->sequence][position] = routes->last && row == routes->n_row - 1;
        memcpy(c->expert[routes->sequence][position],
               routes->expert + (size_t)row * (size_t)c->n_choice,
               (size_t)c->n_choice * sizeof(uint16_t));
    }
}

/* Run the sequences on n_rank ranks; answers are closed by the caller. */
static void run(choices *c, shoal_answer *answer, shoal_sim_engine_config *config, shoal_want want)
{
    shoal_sequence_request request[N_SEQUENCE];
    for (int32_t i = 0; i < N_SEQUENCE; i++)
        request[i] = (shoal_sequence_request){.prompt = prompts[i],
                                              .n_prompt = n_prompt[i],
                                              .max_tokens = want == SHOAL_WANT_TOKENS ? 6 : 0,
                                              .ignore_eos = true,
                                              .want = want,
                                              .sampling = {.top_p = 1}};
    memset(answer, 0, N_SEQUENCE * sizeof *answer);
    shoal_answer_all all = {.request = request, .answer = answer, .n = N_SEQUENCE};
    config->n_sequence = N_SEQUENCE;
    config->want_rows = want == SHOAL_WANT_ROWS;
    config->on_routes = c != NULL ? keep : NULL;
    config->routes_arg = c;
    shoal_sim_engine_result result;
    ck_assert_int_eq(shoal_sim_engine_run(&result, config, shoal_answer_all_run, &all), SHOAL_OK);
    for (int32_t r = 0; r < config->n_rank; r++)
        ck_assert_msg(result.status[r] == SHOAL_OK, "rank %d: %s", r, result.error[r]);
}

static void close_answers(shoal_answer *answer)
{
    for (int32_t i = 0; i < N_SEQUENCE; i++)
        shoal_answer_close(&answer[i]);
}

static choices *new_choices(int32_t n_choice)
{
    choices *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    c->n_choice = n_choice;
    return c;
}

static int32_t choices_of_model(void)
{
    shoal_answer answer[N_SEQUENCE];
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(MODEL, 1);
    run(NULL, answer, &config, SHOAL_WANT_TOKENS);
    const int32_t n_choice = answer[0].n_choice;
    ck_assert(n_choice > 0 && n_choice <= N_CHOICE_MAX);
    close_answers(answer);
    return n_choice;
}

/* Against the routing that rows of prompts give anyway. */
START_TEST(routes_are_the_routers)
{
    choices *c = new_choices(choices_of_model());
    shoal_answer answer[N_SEQUENCE];
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(MODEL, 2);
    run(c, answer, &config, SHOAL_WANT_ROWS);
    for (int32_t i = 0; i < N_SEQUENCE; i++) {
        for (int32_t row = 0; row < n_prompt[i]; row++)
            for (int32_t k = 0; k < c->n_choice; k++)
                ck_assert_int_eq(c->expert[i][row][k], answer[i].expert[row * c->n_choice + k]);
        ck_assert(!c->last[i][n_prompt[i] - 1]); /* nothing is generated behind it */
    }
    close_answers(answer);
    free(c);
}
END_TEST

START_TEST(routes_of_any_number_of_ranks)
{
    const int32_t n_choice = choices_of_model();
    for (int32_t guesses = 0; guesses < 2; guesses++) {
        choices *first = NULL;
        for (int32_t n_rank = 1; n_rank <= 3; n_rank++) {
            choices *c = new_choices(n_choice);
            shoal_answer answer[N_SEQUENCE];
            shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(MODEL, n_rank);
            config.prefill_chunk = 4 + n_rank;
            if (guesses > 0)
                config.drafts = (shoal_drafts){.kind = SHOAL_DRAFT_MTP, .n_token = 2};
            run(c, answer, &config, SHOAL_WANT_TOKENS);
            for (int32_t i = 0; i < N_SEQUENCE; i++) {
                ck_assert(c->last[i][n_prompt[i] - 1] && !c->decode[i][n_prompt[i] - 1]);
                ck_assert(c->decode[i][n_prompt[i]] && !c->last[i][n_prompt[i]]);
                ck_assert_int_eq(answer[i].n_token, 6);
            }
            close_answers(answer);
            if (first == NULL) {
                first = c;
                continue;
            }
            ck_assert_int_eq(memcmp(first->expert, c->expert, sizeof c->expert), 0);
            ck_assert_int_eq(memcmp(first->decode, c->decode, sizeof c->decode), 0);
            free(c);
        }
        free(first);
    }
}
END_TEST

/* What begins inside a span ends inside it. */
static void check_nesting(const shoal_timeline *t)
{
    int64_t end_of[8];
    int32_t depth = 0;
    for (int64_t i = 0; i < t->n; i++) {
        const shoal_span *span = &t->span[i];
        ck_assert_int_ne(span->end_us, SHOAL_SPAN_UNENDED);
        ck_assert_int_le(span->start_us, span->end_us);
        if (i > 0)
            ck_assert_int_ge(span->start_us, t->span[i - 1].start_us);
        while (depth > 0 && end_of[depth - 1] <= span->start_us && span->end_us > span->start_us)
            depth--;
        if (depth > 0 && end_of[depth - 1] > span->start_us)
            ck_assert_int_le(span->end_us, end_of[depth - 1]);
        if (span->end_us > span->start_us) {
            ck_assert_int_lt(depth, 8);
            end_of[depth++] = span->end_us;
        }
    }
}

/* The sim's clock is virtual but the sampler's is real, so samples are left out of the order. */
static void leave_out_samples(shoal_timeline *t)
{
    const int32_t sample = SHOAL_SPAN_PHASE + (int32_t)SHOAL_PHASE_NUMBER(sample);
    for (int64_t i = 0; i < t->n; i++)
        if (t->span[i].kind == sample)
            t->span[i].kind = SHOAL_SPAN_OPEN;
    shoal_timeline_finish(t, 0);
}

START_TEST(a_timeline_of_every_rank)
{
    enum { N_RANK = 3 };
    shoal_timeline timeline[N_RANK];
    for (int32_t r = 0; r < N_RANK; r++)
        ck_assert_int_eq(shoal_timeline_open(&timeline[r], N_SPAN, NULL), SHOAL_OK);
    shoal_answer answer[N_SEQUENCE];
    shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT(MODEL, N_RANK);
    config.overlap_rows = 1;
    config.drafts = (shoal_drafts){.kind = SHOAL_DRAFT_MTP, .n_token = 1};
    config.timeline = timeline;
    run(NULL, answer, &config, SHOAL_WANT_TOKENS);
    int64_t n_step = 0;
    bool parts = false;
    for (int32_t r = 0; r < N_RANK; r++) {
        shoal_timeline *t = &timeline[r];
        ck_assert_int_eq(t->n_left_out, 0);
        leave_out_samples(t);
        check_nesting(t);
        int64_t n_own = 0, n_wait = 0;
        for (int64_t i = 0; i < t->n; i++) {
            if (t->span[i].kind == SHOAL_SPAN_STEP)
                ck_assert_int_eq(t->span[i].step, n_own++);
            n_wait += t->span[i].kind == SHOAL_SPAN_WAIT;
            parts = parts || t->span[i].part > 1;
        }
        if (r == 0)
            n_step = n_own;
        ck_assert_int_eq(n_own, n_step); /* all ranks run the same steps */
        ck_assert_int_gt(n_wait, 0);
        shoal_timeline_close(t);
    }
    ck_assert_int_gt(n_step, 3);
    ck_assert(parts);
    close_answers(answer);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, routes_are_the_routers);
    SHOAL_TEST(suite, routes_of_any_number_of_ranks);
    SHOAL_TEST(suite, a_timeline_of_every_rank);
}

SHOAL_TEST_MAIN("engine.recorded", add_tests)
