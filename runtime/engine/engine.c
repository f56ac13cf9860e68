#include "runtime/engine/engine.h"

#include "runtime/base/clock.h"
#include "runtime/engine/rank_step.h"

#include <assert.h>
#include <stdlib.h>

struct shoal_engine {
    shoal_model *model; /* borrowed, as are comm, spec and log */
    shoal_comm *comm;
    const shoal_spec *spec;
    shoal_log *log;
    int32_t rank, n_rank;
    shoal_compute compute;
    shoal_limits limits;
    shoal_drafts drafts;
    int32_t *n_slot; /* [n_rank] */
    double *weight;  /* [n_rank] */
    shoal_engine_counters count;
    int64_t next_step;
    shoal_engine_routes_fn *on_routes;
    void *routes_arg;
    shoal_timeline *timeline; /* or NULL */
    int64_t span;             /* of the step */

    shoal_arena arena; /* all below */
    shoal_control control;
    shoal_control_codec codec;
    uint8_t *message;          /* [codec.message_bytes_max] control, going out or come in */
    shoal_chunk_result *place; /* [n_slot_total] results of each chunk of this step */
    unsigned char **result;    /* [n_rank] result messages; NULL where this rank needs none */
    shoal_rank_step part;
    shoal_request *request;    /* [2 * n_rank] */
    shoal_scheduler scheduler; /* rank 0 */
    int64_t next_id;
};

/* Measure or carve. */
static void carve(shoal_engine *e, shoal_arena *arena)
{
    const shoal_limits *limits = &e->limits;
    const int32_t n_token = shoal__limits_n_control_token(limits);
    shoal_control_carve(&e->control, arena, limits->n_slot_total, n_token);
    shoal_control_codec_carve(&e->codec, arena, limits->n_slot_total, n_token);
    e->message = SHOAL_TAKE(arena, e->codec.message_bytes_max, uint8_t);
    e->place = SHOAL_TAKE(arena, limits->n_slot_total, shoal_chunk_result);
    e->request = SHOAL_TAKE(arena, 2 * (size_t)e->n_rank, shoal_request);
    e->result = SHOAL_TAKE(arena, e->n_rank, unsigned char *);
    for (int32_t r = 0; r < e->n_rank; r++) {
        if (e->rank != 0 && r != e->rank)
            continue;
        unsigned char *result = shoal_arena_take(arena, shoal__result_bytes_max(limits, r), 1);
        if (e->result != NULL)
            e->result[r] = result;
    }
    shoal__rank_step_carve(&e->part, arena, limits, e->rank, &e->compute);
    if (e->rank == 0)
        shoal__scheduler_carve(&e->scheduler, arena,
                               &(shoal_scheduler_config){.n_rank = e->n_rank,
                                                         .n_slot = e->n_slot,
                                                         .weight = e->weight,
                                                         .prefill_chunk = limits->prefill_chunk,
                                                         .score_rows = limits->score_rows,
                                                         .drafts = e->drafts,
                                                         .spec = e->spec});
}

/* Everything that sizes depend on, and the size of the arena. */
static shoal_status measure(shoal_engine *e, const shoal_engine_config *config,
                            const shoal_spec *spec, int32_t rank, int32_t n_rank)
{
    SHOAL_TRY(shoal__limits_check(config, n_rank, e->log));
    e->rank = rank;
    e->n_rank = n_rank;
    e->spec = spec;
    e->compute = config->compute;
    e->drafts = config->drafts;
    e->on_routes = config->on_routes;
    e->routes_arg = config->routes_arg;
    if (e->compute.kernels == NULL)
        SHOAL_TRY(shoal_kernels_select(&e->compute.kernels, "auto", e->log));
    e->n_slot = calloc((size_t)n_rank, sizeof *e->n_slot);
    e->weight = calloc((size_t)n_rank, sizeof *e->weight);
    if (e->n_slot == NULL || e->weight == NULL)
        return shoal_fail(e->log, SHOAL_NO_MEMORY, "no memory for the engine of %d ranks", n_rank);
    for (int32_t r = 0; r < n_rank; r++)
        e->weight[r] = config->placement->sequence_weight[r];
    shoal__limits_init(&e->limits, e->n_slot, config, spec);
    shoal_arena_measure(&e->arena, "engine");
    carve(e, &e->arena);
    return SHOAL_OK;
}

shoal_status shoal_engine_measure(uint64_t *n_bytes, const shoal_engine_config *config,
                                  const shoal_spec *spec, int32_t rank, shoal_log *log)
{
    shoal_engine e = {.log = log};
    const shoal_status status = measure(&e, config, spec, rank, config->placement->n_rank);
    if (status == SHOAL_OK)
        *n_bytes = e.arena.used_bytes;
    free(e.weight);
    free(e.n_slot);
    return status;
}

shoal_status shoal_engine_open(shoal_engine **engine, shoal_model *model, shoal_comm *comm,
                               const shoal_engine_config *config, shoal_log *log)
{
    shoal_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the engine");
    e->model = model;
    e->comm = comm;
    e->log = log;
    shoal_status status =
        measure(e, config, shoal_model_spec(model), shoal_comm_rank(comm), shoal_comm_n_rank(comm));
    if (status == SHOAL_OK)
        status = shoal_arena_open(&e->arena, log);
    if (status != SHOAL_OK) {
        shoal_engine_close(e);
        return status;
    }
    carve(e, &e->arena);
    *engine = e;
    return SHOAL_OK;
}

void shoal_engine_close(shoal_engine *engine)
{
    if (engine == NULL)
        return;
    shoal__scheduler_fini(&engine->scheduler);
    shoal_arena_close(&engine->arena);
    free(engine->weight);
    free(engine->n_slot);
    free(engine);
}

static shoal_status check_request(const shoal_engine *e, const shoal_sequence_request *request)
{
    const shoal_limits *limits = &e->limits;
    const bool generates = request->want == SHOAL_WANT_TOKENS;
    if (request->n_prompt < 1 || request->max_tokens < 0)
        return shoal_fail(e->log, SHOAL_USAGE,
                          "a sequence has %d prompt tokens and at most %d to generate; wanted at "
                          "least 1 and at least 0",
                          request->n_prompt, request->max_tokens);
    const int64_t n_position = (int64_t)request->n_prompt + (generates ? request->max_tokens : 0);
    if (n_position > limits->n_context)
        return shoal_fail(
            e->log, SHOAL_USAGE,
            "a sequence of %d prompt tokens and %d to generate does not fit a context "
            "of %d; shorten it or raise --context",
            request->n_prompt, generates ? request->max_tokens : 0, limits->n_context);
    if (!generates && limits->score_rows == 0)
        return shoal_fail(
            e->log, SHOAL_USAGE,
            "scores or rows asked of an engine opened without want_scores, want_rows");
    if (request->want == SHOAL_WANT_ROWS && !limits->want_rows)
        return shoal_fail(e->log, SHOAL_USAGE, "rows asked of an engine opened without want_rows");
    if (!shoal_sampling_valid(&request->sampling))
        return shoal_fail(e->log, SHOAL_USAGE,
                          "sampling with temperature %g, top_k %d, top_p %g; wanted a finite "
                          "temperature >= 0, top_k >= 0, top_p from 0 to 1",
                          (double)request->sampling.temperature, request->sampling.top_k,
                          (double)request->sampling.top_p);
    for (int32_t i = 0; i < request->n_prompt; i++)
        if (request->prompt[i] < 0 || request->prompt[i] >= limits->n_vocab)
            return shoal_fail(e->log, SHOAL_USAGE, "prompt token %d is %d, wanted 0 .. %d", i,
                              request->prompt[i], limits->n_vocab - 1);
    return SHOAL_OK;
}

shoal_status shoal_engine_submit(shoal_engine *engine, int64_t *sequence,
                                 const shoal_sequence_request *request)
{
    assert(engine->rank == 0);
    SHOAL_TRY(check_request(engine, request));
    shoal_sequence *s;
    SHOAL_TRY(shoal__sequence_open(&s, request, engine->next_id, shoal_clock_us(), engine->log));
    shoal__scheduler_enqueue(&engine->scheduler, s);
    *sequence = engine->next_id++;
    return SHOAL_OK;
}

void shoal_engine_cancel(shoal_engine *engine, int64_t sequence)
{
    shoal__scheduler_cancel(&engine->scheduler, sequence);
}

static int32_t to_int32(int64_t n)
{
    return n > INT32_MAX ? INT32_MAX : (int32_t)n;
}

int32_t shoal_engine_n_pending(const shoal_engine *engine)
{
    return to_int32(engine->scheduler.n_running + engine->scheduler.n_queued);
}

int32_t shoal_engine_n_free(const shoal_engine *engine)
{
    return to_int32(shoal__scheduler_n_free(&engine->scheduler));
}

bool shoal_engine_poll(shoal_engine *engine, shoal_event *event)
{
    return shoal__scheduler_poll(&engine->scheduler, event);
}

const shoal_engine_counters *shoal_engine_count(const shoal_engine *engine)
{
    return &engine->count;
}

void shoal_engine_trace(shoal_engine *engine, shoal_timeline *timeline)
{
    engine->timeline = engine->part.timeline = timeline;
    shoal_model_trace(engine->model, timeline);
    shoal_comm_trace(engine->comm, timeline);
}

/* Where the clocks stood when a step began on this rank. */
typedef struct step_start {
    int64_t now_us, wait_us, sample_us;
    int64_t n_row;
    uint64_t sent_bytes;
    shoal_phase_times model;
} step_start;

static step_start clocks(const shoal_engine *e)
{
    const shoal_comm_counters *count = shoal_comm_count(e->comm);
    return (step_start){.now_us = shoal_comm_now_us(e->comm),
                        .wait_us = count->wait_us,
                        .sample_us = e->part.sample_us,
                        .n_row = e->count.n_prompt_row + e->count.n_decode_row,
                        .sent_bytes = count->sent_bytes,
                        .model = *shoal_model_times(e->model)};
}

static step_start begin_step(shoal_engine *e)
{
    const step_start start = clocks(e);
    e->span = shoal_timeline_begin(e->timeline, SHOAL_SPAN_STEP, start.now_us);
    return start;
}

/* The model knows its own phases and waits; the engine adds sampling, its waits for results, and as
 * `other` what is left: control messages and scheduling. */
static void end_step(shoal_engine *e, const step_start *start)
{
    const step_start end = clocks(e);
    shoal_phase_times t = end.model;
    shoal_phase_times_add(&t, &start->model, -1);
    const int64_t step_us = end.now_us - start->now_us;
    t.wait_us = end.wait_us - start->wait_us;
    t.sample_us = end.sample_us - start->sample_us;
    t.other_us += step_us - shoal_phase_times_total(&t);
    shoal_phase_times_add(&e->count.times, &t, 1);
    e->count.step_us += step_us;
    if (e->control.n_chunk == 0)
        shoal_timeline_drop(e->timeline, e->span); /* nothing ran */
    else
        shoal_timeline_end(e->timeline, e->span,
                           &(shoal_span){.end_us = end.now_us,
                                         .kind = SHOAL_SPAN_STEP,
                                         .n = (int32_t)(end.n_row - start->n_row),
                                         .sent_bytes = end.sent_bytes - start->sent_bytes});
}

/* This rank's part of the step, results into its own result message. */
static shoal_status run_part(shoal_engine *e)
{
    shoal__result_place(e->place, e->result[e->rank], &e->limits, &e->control, e->rank);
    SHOAL_TRY(shoal__rank_step_run(&e->part, e->model, &e->control, e->place));
    e->count.n_step++;
    e->count.n_cut_step += shoal_model_cuts(e->model, e->part.n_row_all);
    e->count.n_exchange += e->limits.n_moe_layer + shoal__control_n_draft_pass(&e->control);
    for (int32_t i = 0; i < e->control.n_chunk; i++) {
        const shoal_control_chunk *chunk = &e->control.chunk[i];
        if (chunk->owner != e->rank)
            continue;
        if ((chunk->flags & SHOAL_CONTROL_DECODE) != 0)
            e->count.n_decode_row += chunk->n_row;
        else
            e->count.n_prompt_row += chunk->n_row;
    }
    return SHOAL_OK;
}

/* Rank 0: the control message to all others. Requests [0, n_rank) are the sends. */
static shoal_status send_control(shoal_engine *e)
{
    const size_t n_bytes = shoal_control_pack(e->message, &e->codec, &e->control);
    for (int32_t r = 0; r < e->n_rank; r++) {
        e->request[r] = SHOAL_REQUEST_NONE;
        if (r != 0)
            SHOAL_TRY(shoal_comm_send(e->comm, &e->request[r], r, SHOAL_TAG_CONTROL, e->message,
                                      n_bytes));
    }
    return SHOAL_OK;
}

/* Rank 0: receives of the results, of the sizes that follow from the control message, posted before
 * any owner can send. Requests [n_rank, 2 * n_rank). */
static shoal_status post_results(shoal_engine *e)
{
    for (int32_t r = 0; r < e->n_rank; r++) {
        shoal_request *request = &e->request[e->n_rank + r];
        *request = SHOAL_REQUEST_NONE;
        const size_t n_bytes = r != 0 ? shoal__result_bytes(&e->limits, &e->control, r) : 0;
        if (n_bytes > 0)
            SHOAL_TRY(
                shoal_comm_recv(e->comm, request, r, SHOAL_TAG_RESULT, e->result[r], n_bytes));
    }
    return SHOAL_OK;
}

/* Rank 0: the results of the others have come; point to them. */
static shoal_status read_results(shoal_engine *e)
{
    for (int32_t r = 1; r < e->n_rank; r++) {
        if (shoal__result_bytes(&e->limits, &e->control, r) == 0)
            continue;
        shoal__result_place(e->place, e->result[r], &e->limits, &e->control, r);
        SHOAL_TRY(shoal__result_check(e->result[r], e->place, &e->limits, &e->control, r, e->log));
    }
    return SHOAL_OK;
}

static void give_routes(const shoal_engine *e)
{
    for (int32_t i = 0; i < e->control.n_chunk; i++) {
        const shoal_control_chunk *chunk = &e->control.chunk[i];
        const shoal_engine_routes routes = {
            .step = e->control.step,
            .sequence = e->scheduler.of_chunk[i]->id,
            .owner = chunk->owner,
            .position0 = chunk->position0,
            .n_row = chunk->n_row,
            .decode = (chunk->flags & SHOAL_CONTROL_DECODE) != 0,
            .last = (chunk->flags & (SHOAL_CONTROL_DECODE | SHOAL_CONTROL_SAMPLE)) ==
                    SHOAL_CONTROL_SAMPLE,
            .expert = e->place[i].route,
        };
        e->on_routes(e->routes_arg, &routes);
    }
}

shoal_status shoal_engine_step(shoal_engine *engine)
{
    shoal_engine *e = engine;
    assert(e->rank == 0);
    const step_start start = begin_step(e);
    shoal__scheduler_plan(&e->scheduler, &e->control);
    e->control.step = e->next_step;
    e->control.stop = false;
    if (e->control.n_chunk > 0) {
        e->next_step++;
        SHOAL_TRY(shoal_comm_at(e->comm, e->control.step, -1));
        SHOAL_TRY(post_results(e));
        SHOAL_TRY(send_control(e));
        SHOAL_TRY(run_part(e));
        SHOAL_TRY(shoal_comm_wait(e->comm, e->request, 2 * e->n_rank, "results"));
        SHOAL_TRY(read_results(e));
        if (e->limits.want_routes && e->on_routes != NULL)
            give_routes(e);
    }
    shoal__scheduler_complete(&e->scheduler, &e->control, e->place, shoal_clock_us());
    const shoal_engine_counters *text = &e->scheduler.count;
    e->count.n_decode_step = text->n_decode_step;
    e->count.n_decode_token = text->n_decode_token;
    e->count.n_draft_proposed = text->n_draft_proposed;
    e->count.n_draft_accepted = text->n_draft_accepted;
    end_step(e, &start);
    return SHOAL_OK;
}

shoal_status shoal_engine_stop(shoal_engine *engine)
{
    shoal_engine *e = engine;
    assert(e->rank == 0);
    e->control.step = e->next_step;
    e->control.stop = true;
    e->control.n_chunk = e->control.n_token = 0;
    SHOAL_TRY(shoal_comm_at(e->comm, e->control.step, -1));
    SHOAL_TRY(send_control(e));
    return shoal_comm_wait(e->comm, e->request, e->n_rank, "end of serving");
}

/* Other ranks: one step; *stop is set when rank 0 says so. */
static shoal_status serve_step(shoal_engine *e, bool *stop)
{
    shoal_request *request = &e->request[0];
    *request = SHOAL_REQUEST_NONE;
    SHOAL_TRY(shoal_comm_recv_upto(e->comm, request, 0, SHOAL_TAG_CONTROL, e->message,
                                   e->codec.message_bytes_max));
    SHOAL_TRY(shoal_comm_wait(e->comm, request, 1, "control"));
    const step_start start = begin_step(e);
    SHOAL_TRY(shoal_control_unpack(&e->control, &e->codec, e->message, request->n_bytes, e->log));
    *stop = e->control.stop;
    if (e->control.stop) {
        shoal_timeline_drop(e->timeline, e->span);
        /* A place of its own: behind the last step, before the reports. */
        return shoal_comm_at(e->comm, e->control.step, -1);
    }
    SHOAL_TRY(shoal__control_check(&e->control, &e->limits, e->rank, e->log));
    SHOAL_TRY(shoal_comm_at(e->comm, e->control.step, -1));
    SHOAL_TRY(run_part(e));

    const size_t n_bytes = shoal__result_bytes(&e->limits, &e->control, e->rank);
    if (n_bytes > 0) {
        shoal__result_write_header(e->result[e->rank], &e->control, e->rank);
        SHOAL_TRY(
            shoal_comm_send(e->comm, request, 0, SHOAL_TAG_RESULT, e->result[e->rank], n_bytes));
        SHOAL_TRY(shoal_comm_wait(e->comm, request, 1, "results"));
    }
    end_step(e, &start);
    return SHOAL_OK;
}

shoal_status shoal_engine_serve(shoal_engine *engine)
{
    assert(engine->rank != 0);
    bool stop = false;
    while (!stop)
        SHOAL_TRY(serve_step(engine, &stop));
    return SHOAL_OK;
}
