/* The scheduler against a make-believe model: a token is a function of the sequence and the
 * position, so a sequence that was given wrong rows shows. */
#include "runtime/engine/scheduler.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { N_RANK_MAX = 8, N_CHUNK_MAX = 256, N_TOKEN_MAX = 4096, N_SEQUENCE_MAX = 512, EOS = 0 };

typedef struct world {
    shoal_log log;
    shoal_arena arena;
    shoal_spec spec;
    shoal_scheduler scheduler;
    shoal_control control;
    shoal_scheduler_config config;
    int32_t n_slot[N_RANK_MAX];
    double weight[N_RANK_MAX];
    int64_t next_id;
    int64_t step;
    /* By sequence id. */
    shoal_sequence_request request[N_SEQUENCE_MAX];
    int32_t owner[N_SEQUENCE_MAX]; /* -1: has not run yet */
    int32_t slot[N_SEQUENCE_MAX];
    int32_t position[N_SEQUENCE_MAX]; /* next expected */
    int32_t n_token[N_SEQUENCE_MAX], n_row[N_SEQUENCE_MAX];
    bool done[N_SEQUENCE_MAX], cancelled[N_SEQUENCE_MAX];
    shoal_event last[N_SEQUENCE_MAX]; /* DONE */
} world;

static world w;

static void open_world(int32_t n_rank, const int32_t *n_slot, const double *weight,
                       int32_t prefill_chunk, int32_t score_rows)
{
    memset(&w, 0, sizeof(w));
    shoal_log_init(&w.log, NULL, 0, "test");
    w.spec.n_eos = 1;
    w.spec.eos[0] = EOS;
    for (int32_t r = 0; r < n_rank; r++) {
        w.n_slot[r] = n_slot[r];
        w.weight[r] = weight[r];
    }
    w.config = (shoal_scheduler_config){.n_rank = n_rank,
                                        .n_slot = w.n_slot,
                                        .weight = w.weight,
                                        .prefill_chunk = prefill_chunk,
                                        .score_rows = score_rows,
                                        .spec = &w.spec};
    shoal_arena_measure(&w.arena, "scheduler");
    shoal__scheduler_carve(&w.scheduler, &w.arena, &w.config);
    shoal_control_carve(&w.control, &w.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    ck_assert_int_eq(shoal_arena_open(&w.arena, &w.log), SHOAL_OK);
    shoal__scheduler_carve(&w.scheduler, &w.arena, &w.config);
    shoal_control_carve(&w.control, &w.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    for (int32_t i = 0; i < N_SEQUENCE_MAX; i++)
        w.owner[i] = -1;
}

static void close_world(void)
{
    shoal__scheduler_fini(&w.scheduler);
    ck_assert(shoal_arena_check(&w.arena));
    shoal_arena_close(&w.arena);
}

/* Prompt token i of sequence id, and the token that its position gives. */
static int32_t prompt_token(int64_t id, int32_t i)
{
    return 1 + (int32_t)((id * 31 + i) % 97);
}

static int32_t made_token(int64_t id, int32_t position)
{
    return 100 + (int32_t)((id * 17 + position * 5) % 91);
}

static int64_t submit(shoal_want want, int32_t n_prompt, int32_t max_tokens)
{
    static int32_t prompt[N_TOKEN_MAX];
    const int64_t id = w.next_id++;
    for (int32_t i = 0; i < n_prompt; i++)
        prompt[i] = prompt_token(id, i);
    w.request[id] = (shoal_sequence_request){
        .prompt = prompt, .n_prompt = n_prompt, .max_tokens = max_tokens, .want = want};
    shoal_sequence *s;
    ck_assert_int_eq(shoal__sequence_open(&s, &w.request[id], id, 1000 + w.step, &w.log), SHOAL_OK);
    memset(prompt, 0xff, sizeof(prompt)); /* it was copied */
    shoal__scheduler_enqueue(&w.scheduler, s);
    return id;
}

/* The sequence on (owner, slot) in this step. */
static int64_t sequence_at(const shoal_control_chunk *chunk)
{
    for (int32_t i = 0; i < w.scheduler.n_running; i++)
        if (w.scheduler.running[i]->owner == chunk->owner &&
            w.scheduler.running[i]->slot == chunk->slot)
            return w.scheduler.running[i]->id;
    ck_abort_msg("chunk of nobody");
    return -1;
}

static void check_chunk_tokens(int64_t id, const shoal_control_chunk *chunk)
{
    const int32_t *token = w.control.token + chunk->token0;
    const int32_t n_prompt = w.request[id].n_prompt;
    for (int32_t i = 0; i < chunk->n_token; i++) {
        const int32_t position = chunk->position0 + i;
        const int32_t wanted =
            position < n_prompt ? prompt_token(id, position) : made_token(id, position - 1);
        ck_assert_int_eq(token[i], wanted);
    }
    ck_assert_int_eq((chunk->flags & SHOAL_CONTROL_DECODE) != 0, chunk->position0 >= n_prompt);
}

/* One planned step keeps every promise of scheduler.h. */
static void check_plan(void)
{
    bool used[N_RANK_MAX][64] = {{false}};
    int32_t n_prefill[N_RANK_MAX] = {0}, n_score[N_RANK_MAX] = {0}, n_decode[N_RANK_MAX] = {0};
    int32_t n_token = 0;
    for (int32_t i = 0; i < w.control.n_chunk; i++) {
        const shoal_control_chunk *chunk = &w.control.chunk[i];
        const int32_t owner = chunk->owner;
        ck_assert(owner >= 0 && owner < w.config.n_rank);
        ck_assert(chunk->slot >= 0 && chunk->slot < w.n_slot[owner]);
        ck_assert_msg(!used[owner][chunk->slot], "slot %d of rank %d twice", chunk->slot, owner);
        used[owner][chunk->slot] = true;
        ck_assert_int_eq(chunk->token0, n_token);
        n_token += chunk->n_token;

        const int64_t id = sequence_at(chunk);
        ck_assert(!w.done[id] && !w.cancelled[id]);
        ck_assert(w.owner[id] < 0 || (w.owner[id] == owner && w.slot[id] == chunk->slot));
        w.owner[id] = owner;
        w.slot[id] = chunk->slot;
        ck_assert_int_eq(chunk->position0, w.position[id]);
        w.position[id] += chunk->n_row;
        check_chunk_tokens(id, chunk);
        if ((chunk->flags & SHOAL_CONTROL_DECODE) != 0)
            n_decode[owner]++;
        else
            n_prefill[owner] += chunk->n_row;
        if ((chunk->flags & (SHOAL_CONTROL_SCORES | SHOAL_CONTROL_ROWS)) != 0)
            n_score[owner] += chunk->n_row;
    }
    ck_assert_int_eq(n_token, w.control.n_token);
    for (int32_t r = 0; r < w.config.n_rank; r++) {
        ck_assert_int_le(n_prefill[r], w.config.prefill_chunk);
        ck_assert_int_le(n_score[r], w.config.score_rows);
        /* Everybody past the prompt runs, and so does the oldest prompt of every rank. */
        int32_t n_past = 0;
        bool has_prompt = false;
        for (int32_t i = 0; i < w.scheduler.n_running; i++) {
            const shoal_sequence *s = w.scheduler.running[i];
            n_past += s->owner == r && s->n_generated > 0;
            has_prompt = has_prompt || (s->owner == r && shoal__sequence_n_prompt_left(s) > 0);
        }
        ck_assert_int_eq(n_decode[r], n_past);
        ck_assert(!has_prompt || n_prefill[r] > 0);
    }
}

static void take_event(const shoal_event *event)
{
    const int64_t id = event->sequence;
    const shoal_sequence_request *request = &w.request[id];
    ck_assert(id >= 0 && id < w.next_id && !w.done[id] && !w.cancelled[id]);
    switch (event->kind) {
    case SHOAL_EVENT_TOKEN:
        ck_assert_int_eq(event->token, made_token(id, request->n_prompt + w.n_token[id] - 1));
        w.n_token[id]++;
        break;
    case SHOAL_EVENT_ROWS:
    case SHOAL_EVENT_SCORES:
        ck_assert_int_eq(event->row0, w.n_row[id]);
        w.n_row[id] += event->n_row;
        break;
    case SHOAL_EVENT_DONE:
        w.done[id] = true;
        w.last[id] = *event;
        ck_assert_int_eq(event->n_generated, w.n_token[id]);
        ck_assert_int_eq(event->n_prompt, request->n_prompt);
        ck_assert(event->submitted_us <= event->first_token_us &&
                  event->first_token_us <= event->done_us);
        break;
    }
}

/* eos_at: sequences end with the end token when their n_generated reaches it (0: never). */
static void step(int32_t eos_at)
{
    static int32_t token[N_CHUNK_MAX];
    static shoal_chunk_result result[N_CHUNK_MAX];
    shoal__scheduler_plan(&w.scheduler, &w.control);
    check_plan();
    for (int32_t i = 0; i < w.control.n_chunk; i++) {
        const shoal_control_chunk *chunk = &w.control.chunk[i];
        result[i] = (shoal_chunk_result){0};
        if ((chunk->flags & SHOAL_CONTROL_SAMPLE) == 0)
            continue;
        const int64_t id = sequence_at(chunk);
        token[i] = made_token(id, chunk->position0 + chunk->n_row - 1);
        if (eos_at > 0 && w.n_token[id] == eos_at - 1)
            token[i] = EOS;
        result[i].token = &token[i];
    }
    w.step++;
    shoal__scheduler_complete(&w.scheduler, &w.control, result, 1000 + w.step);
    shoal_event event;
    while (shoal__scheduler_poll(&w.scheduler, &event))
        take_event(&event);
}

static int32_t n_pending(void)
{
    return w.scheduler.n_running + (int32_t)w.scheduler.n_queued;
}

static void run_to_end(int32_t n_step_max)
{
    int32_t n_step = 0;
    for (; n_pending() > 0; n_step++) {
        ck_assert_msg(n_step < n_step_max, "%d pending after %d steps", n_pending(), n_step);
        step(0);
    }
    for (int64_t id = 0; id < w.next_id; id++)
        ck_assert(w.done[id] || w.cancelled[id]);
}

START_TEST(one_sequence)
{
    open_world(1, (int32_t[]){1}, (double[]){1}, 8, 0);
    const int64_t id = submit(SHOAL_WANT_TOKENS, 20, 5);
    step(0); /* 8 rows */
    step(0);
    ck_assert_int_eq(w.n_token[id], 0);
    step(0); /* the last prompt row gives the first token in the same step */
    ck_assert_int_eq(w.n_token[id], 1);
    for (int32_t i = 0; i < 3; i++)
        step(0);
    ck_assert(!w.done[id]);
    step(0);
    ck_assert(w.done[id]);
    ck_assert_int_eq(w.n_token[id], 5);
    ck_assert_int_eq(w.last[id].finish, SHOAL_FINISH_LENGTH);
    ck_assert_int_eq(w.last[id].submitted_us, 1000);
    ck_assert_int_eq(w.last[id].first_token_us, 1003);
    ck_assert_int_eq(w.last[id].done_us, 1007);
    ck_assert_int_eq(n_pending(), 0);
    close_world();
}
END_TEST

START_TEST(end_token)
{
    open_world(1, (int32_t[]){2}, (double[]){1}, 8, 0);
    const int64_t id = submit(SHOAL_WANT_TOKENS, 4, 10);
    for (int32_t i = 0; i < 3; i++)
        step(3);
    ck_assert(w.done[id]);
    ck_assert_int_eq(w.n_token[id], 2); /* the end token is not one of them */
    ck_assert_int_eq(w.last[id].finish, SHOAL_FINISH_STOP);
    close_world();
}
END_TEST

START_TEST(end_token_ignored)
{
    open_world(1, (int32_t[]){1}, (double[]){1}, 8, 0);
    shoal_sequence *s;
    const int32_t prompt[1] = {5};
    w.request[0] = (shoal_sequence_request){
        .prompt = prompt, .n_prompt = 1, .max_tokens = 2, .ignore_eos = true};
    ck_assert_int_eq(shoal__sequence_open(&s, &w.request[0], 0, 0, &w.log), SHOAL_OK);
    shoal__scheduler_enqueue(&w.scheduler, s);
    int32_t token = EOS;
    const shoal_chunk_result result = {.token = &token};
    for (int32_t i = 0; i < 2; i++) {
        shoal__scheduler_plan(&w.scheduler, &w.control);
        ck_assert_int_eq(w.control.n_chunk, 1);
        ck_assert_int_eq(w.control.token[0], i == 0 ? 5 : EOS);
        shoal__scheduler_complete(&w.scheduler, &w.control, &result, 0);
        shoal_event event;
        ck_assert(shoal__scheduler_poll(&w.scheduler, &event));
        ck_assert_int_eq(event.kind, SHOAL_EVENT_TOKEN);
        ck_assert_int_eq(event.token, EOS);
    }
    shoal_event event;
    ck_assert(shoal__scheduler_poll(&w.scheduler, &event));
    ck_assert_int_eq(event.kind, SHOAL_EVENT_DONE);
    ck_assert_int_eq(event.finish, SHOAL_FINISH_LENGTH);
    close_world();
}
END_TEST

/* Nothing to generate, nothing to score: they end without being in anybody's way. */
START_TEST(empty_wants)
{
    open_world(1, (int32_t[]){2}, (double[]){1}, 8, 4);
    const int64_t prefill_only = submit(SHOAL_WANT_TOKENS, 10, 0);
    const int64_t unscored = submit(SHOAL_WANT_SCORES, 1, 0);
    const int64_t scored = submit(SHOAL_WANT_SCORES, 6, 0);
    const int64_t rows = submit(SHOAL_WANT_ROWS, 5, 3);
    run_to_end(20);
    ck_assert_int_eq(w.n_token[prefill_only], 0);
    ck_assert_int_eq(w.position[prefill_only], 10);
    ck_assert_int_eq(w.n_row[unscored], 0);
    ck_assert_int_eq(w.n_row[scored], 5); /* the first token is not scored */
    ck_assert_int_eq(w.n_row[rows], 5);
    for (int64_t id = 0; id < w.next_id; id++)
        ck_assert_int_eq(w.last[id].finish, SHOAL_FINISH_LENGTH);
    close_world();
}
END_TEST

START_TEST(owners_follow_the_weights)
{
    open_world(4, (int32_t[]){0, 8, 4, 4}, (double[]){0, 2, 1, 1}, 4, 0);
    for (int32_t i = 0; i < 16; i++)
        submit(SHOAL_WANT_TOKENS, 1, 3);
    ck_assert_int_eq(shoal__scheduler_n_free(&w.scheduler), 0);
    step(0);
    const int32_t wanted[16] = {1, 1, 2, 3, 1, 1, 2, 3, 1, 1, 2, 3, 1, 1, 2, 3};
    for (int32_t i = 0; i < 16; i++)
        ck_assert_msg(w.scheduler.running[i]->owner == wanted[i], "sequence %d on rank %d", i,
                      w.scheduler.running[i]->owner);
    run_to_end(20);
    ck_assert_int_eq(shoal__scheduler_n_free(&w.scheduler), 16);
    close_world();
}
END_TEST

/* A full rank is passed over, however light its load. */
START_TEST(full_ranks_are_passed_over)
{
    open_world(2, (int32_t[]){1, 3}, (double[]){100, 1}, 4, 0);
    for (int32_t i = 0; i < 6; i++)
        submit(SHOAL_WANT_TOKENS, 2, 4);
    step(0);
    ck_assert_int_eq(w.scheduler.n_running, 4);
    ck_assert_int_eq(w.scheduler.n_queued, 2);
    ck_assert_int_eq(w.scheduler.running[0]->owner, 0);
    for (int32_t i = 1; i < 4; i++)
        ck_assert_int_eq(w.scheduler.running[i]->owner, 1);
    run_to_end(20);
    close_world();
}
END_TEST

START_TEST(prompts_share_the_budget_in_order)
{
    open_world(1, (int32_t[]){4}, (double[]){1}, 10, 0);
    const int64_t first = submit(SHOAL_WANT_TOKENS, 13, 2);
    const int64_t second = submit(SHOAL_WANT_TOKENS, 4, 2);
    const int64_t third = submit(SHOAL_WANT_TOKENS, 30, 1);
    step(0);
    ck_assert_int_eq(w.position[first], 10);
    ck_assert_int_eq(w.position[second], 0);
    step(0); /* 3 + 4 + 3 */
    ck_assert_int_eq(w.n_token[first], 1);
    ck_assert_int_eq(w.n_token[second], 1);
    ck_assert_int_eq(w.position[third], 3);
    step(0); /* decode rows do not take from the budget */
    ck_assert(w.done[first] && w.done[second]);
    ck_assert_int_eq(w.position[third], 13);
    run_to_end(10);
    close_world();
}
END_TEST

/* Rows and scores are bounded by themselves; generation goes on beside them. */
START_TEST(scores_leave_room_for_generation)
{
    open_world(1, (int32_t[]){4}, (double[]){1}, 10, 3);
    const int64_t scores = submit(SHOAL_WANT_SCORES, 100, 0);
    const int64_t tokens = submit(SHOAL_WANT_TOKENS, 7, 3);
    step(0);
    ck_assert_int_eq(w.position[scores], 3);
    ck_assert_int_eq(w.n_token[tokens], 1);
    run_to_end(50);
    ck_assert_int_eq(w.n_row[scores], 99);
    close_world();
}
END_TEST

START_TEST(cancelling_frees)
{
    open_world(2, (int32_t[]){1, 1}, (double[]){1, 1}, 4, 0);
    for (int32_t i = 0; i < 5; i++)
        submit(SHOAL_WANT_TOKENS, 3, 50);
    step(0);
    step(0);
    ck_assert_int_eq(w.scheduler.n_running, 2);
    const int64_t cancelled[3] = {0, 3, 4}; /* running, in the queue, its last */
    for (int32_t i = 0; i < 3; i++) {
        shoal__scheduler_cancel(&w.scheduler, cancelled[i]);
        w.cancelled[cancelled[i]] = true;
    }
    shoal__scheduler_cancel(&w.scheduler, 4);   /* twice */
    shoal__scheduler_cancel(&w.scheduler, 999); /* never was */
    ck_assert_int_eq(n_pending(), 2);
    const int64_t late = submit(SHOAL_WANT_TOKENS, 3, 5); /* the queue's end is still its end */
    step(0);
    ck_assert_int_eq(w.owner[2], 0);
    run_to_end(200);
    ck_assert(w.done[late]);
    ck_assert_int_eq(shoal__scheduler_n_free(&w.scheduler), 2);
    close_world();
}
END_TEST

/* Events of a sequence that is cancelled while they are polled do not come any more. */
START_TEST(cancelled_events_are_dropped)
{
    open_world(1, (int32_t[]){3}, (double[]){1}, 9, 0);
    for (int32_t i = 0; i < 3; i++)
        submit(SHOAL_WANT_TOKENS, 1, 1);
    int32_t token = 7;
    const shoal_chunk_result result[3] = {{.token = &token}, {.token = &token}, {.token = &token}};
    shoal__scheduler_plan(&w.scheduler, &w.control);
    shoal__scheduler_complete(&w.scheduler, &w.control, result, 1);
    shoal_event event;
    ck_assert(shoal__scheduler_poll(&w.scheduler, &event)); /* TOKEN of 0 */
    ck_assert_int_eq(event.sequence, 0);
    shoal__scheduler_cancel(&w.scheduler, 0);
    shoal__scheduler_cancel(&w.scheduler, 2);
    int32_t n_event = 0;
    while (shoal__scheduler_poll(&w.scheduler, &event)) {
        ck_assert_int_eq(event.sequence, 1);
        n_event++;
    }
    ck_assert_int_eq(n_event, 2);
    close_world();
}
END_TEST

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Random submissions, cancellations and end tokens over random worlds: check_plan and take_event
 * look at every step, and everybody ends within a bound. */
START_TEST(random_worlds)
{
    uint32_t state = 1000 + (uint32_t)_i;
    int32_t n_slot[N_RANK_MAX];
    double weight[N_RANK_MAX];
    const int32_t n_rank = 1 + (int32_t)(next_random(&state) % N_RANK_MAX);
    for (int32_t r = 0; r < n_rank; r++) {
        n_slot[r] =
            r > 0 && next_random(&state) % 4 == 0 ? 0 : 1 + (int32_t)(next_random(&state) % 5);
        weight[r] = n_slot[r] == 0 ? 0.0 : 0.5 + (double)(next_random(&state) % 4);
    }
    const int32_t chunk = 1 + (int32_t)(next_random(&state) % 40);
    const int32_t score_rows = 1 + (int32_t)next_random(&state) % chunk;
    open_world(n_rank, n_slot, weight, chunk, score_rows);
    int32_t n_row_total = 0;
    for (int32_t i = 0; i < 120; i++) {
        for (uint32_t n = next_random(&state) % 3; n > 0; n--) {
            const int32_t n_prompt = 1 + (int32_t)(next_random(&state) % 60);
            const int32_t max_tokens = (int32_t)(next_random(&state) % 20);
            const uint32_t kind = next_random(&state) % 6;
            submit(kind == 0   ? SHOAL_WANT_SCORES
                   : kind == 1 ? SHOAL_WANT_ROWS
                               : SHOAL_WANT_TOKENS,
                   n_prompt, max_tokens);
            n_row_total += n_prompt + max_tokens;
        }
        step((int32_t)(next_random(&state) % 12));
        if (w.next_id > 0 && next_random(&state) % 5 == 0) {
            const int64_t id = next_random(&state) % w.next_id;
            if (!w.done[id]) {
                shoal__scheduler_cancel(&w.scheduler, id);
                w.cancelled[id] = true;
            }
        }
    }
    run_to_end(n_row_total + 10); /* a step computes a row at least */
    close_world();
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, one_sequence);
    SHOAL_TEST(suite, end_token);
    SHOAL_TEST(suite, end_token_ignored);
    SHOAL_TEST(suite, empty_wants);
    SHOAL_TEST(suite, owners_follow_the_weights);
    SHOAL_TEST(suite, full_ranks_are_passed_over);
    SHOAL_TEST(suite, prompts_share_the_budget_in_order);
    SHOAL_TEST(suite, scores_leave_room_for_generation);
    SHOAL_TEST(suite, cancelling_frees);
    SHOAL_TEST(suite, cancelled_events_are_dropped);
    TCase *random = tcase_create("random_worlds");
    tcase_set_timeout(random, 0);
    tcase_add_loop_test(random, random_worlds, 0, 30);
    suite_add_tcase(suite, random);
}

SHOAL_TEST_MAIN("engine.scheduler", add_tests)
