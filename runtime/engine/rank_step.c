#include "runtime/engine/rank_step.h"

#include "runtime/base/clock.h"

#include <assert.h>
#include <string.h>

void shoal__rank_step_carve(shoal_rank_step *s, shoal_arena *arena, const shoal_limits *limits,
                            int32_t rank, const shoal_compute *compute)
{
    *s = (shoal_rank_step){.limits = limits, .compute = *compute, .rank = rank};
    s->is_source = SHOAL_TAKE(arena, limits->n_rank, bool);
    if (limits->n_slot[rank] == 0)
        return; /* never holds a row */
    s->token = SHOAL_TAKE(arena, limits->n_token_max, int32_t);
    s->chunk = SHOAL_TAKE(arena, limits->n_slot[rank], shoal_chunk);
    s->logit_row = SHOAL_TAKE(arena, limits->n_logit_max, int32_t);
    s->job = SHOAL_TAKE(arena, limits->n_logit_max, shoal_row_job);
    if (limits->mtp) {
        s->mtp_hidden =
            SHOAL_TAKE(arena, (size_t)limits->n_token_max * (size_t)limits->n_embd, float);
        s->guess = SHOAL_TAKE(arena, limits->n_slot[rank], shoal_guess_row);
    }
    if (limits->want_rows || limits->want_routes) {
        const size_t n_choice =
            (size_t)limits->n_moe_layer * (size_t)limits->n_token_max * (size_t)limits->top_k;
        s->capture.expert = SHOAL_TAKE(arena, n_choice, int32_t);
        s->capture.weight = SHOAL_TAKE(arena, n_choice, float);
    }
    const int32_t n_worker = compute->pool != NULL ? shoal_pool_n_thread(compute->pool) : 1;
    s->sampler = SHOAL_TAKE(arena, n_worker, shoal_sampler);
    for (int32_t w = 0; w < n_worker; w++) {
        shoal_sampler measured;
        shoal_sampler_carve(s->sampler != NULL ? &s->sampler[w] : &measured, arena,
                            limits->n_vocab);
    }
}

static void add_logit(shoal_rank_step *s, int32_t row)
{
    s->logit_row[s->n_logit++] = row;
}

static void add_job(shoal_rank_step *s, const shoal_row_job *job)
{
    s->job[s->n_job] = *job;
    s->job[s->n_job++].logit = s->n_logit;
}

/* A chunk whose last row is sampled, and the rows before it too where they are guesses. */
static void add_sample(shoal_rank_step *s, const shoal_control_chunk *chunk, int32_t row0,
                       const int32_t *token, const shoal_chunk_result *place)
{
    const int32_t n_sample = shoal__chunk_n_sample(chunk);
    const int32_t first = chunk->n_row - n_sample;
    add_job(s, &(shoal_row_job){.token = place->token,
                                .sampling = {.temperature = chunk->temperature,
                                             .top_k = chunk->top_k,
                                             .top_p = chunk->top_p,
                                             .seed = chunk->seed},
                                .guesses = {.token = token + 1,
                                            .n = n_sample - 1,
                                            .key = chunk->key,
                                            .position = chunk->position0 + first + 1}});
    for (int32_t i = first; i < chunk->n_row; i++)
        add_logit(s, row0 + i);
}

/* The logit rows of a chunk whose first row is row0, and what they are for. */
static void add_jobs(shoal_rank_step *s, const shoal_control_chunk *chunk, int32_t row0,
                     const int32_t *token, const shoal_chunk_result *place)
{
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) != 0) {
        add_sample(s, chunk, row0, token, place);
        return;
    }
    if (place->nll == NULL && place->logits == NULL)
        return;
    for (int32_t i = 0; i < chunk->n_row; i++) {
        shoal_row_job job = {0};
        if (place->nll != NULL) {
            job.nll = place->nll + i;
            job.target = token[i + 1];
        } else {
            job.logits = place->logits + (size_t)i * (size_t)s->limits->n_vocab;
            job.hidden = place->hidden + (size_t)i * (size_t)s->limits->n_embd;
        }
        add_job(s, &job);
        add_logit(s, row0 + i);
    }
}

static void read_control(shoal_rank_step *s, const shoal_control *control,
                         const shoal_chunk_result *place)
{
    s->n_token = s->n_chunk = s->n_logit = s->n_job = 0;
    s->n_row_all = 0;
    s->capturing = s->limits->want_routes;
    memset(s->is_source, 0, (size_t)s->limits->n_rank * sizeof(bool));
    for (int32_t i = 0; i < control->n_chunk; i++) {
        const shoal_control_chunk *chunk = &control->chunk[i];
        s->is_source[chunk->owner] = true;
        s->n_row_all += chunk->n_row;
        if (chunk->owner != s->rank)
            continue;
        const int32_t *token = control->token + chunk->token0;
        const int32_t row0 = s->n_token;
        s->chunk[s->n_chunk++] = (shoal_chunk){.slot = chunk->slot,
                                               .position0 = chunk->position0,
                                               .row0 = row0,
                                               .n_row = chunk->n_row};
        memcpy(s->token + row0, token, (size_t)chunk->n_row * sizeof(int32_t));
        s->n_token += chunk->n_row;
        s->capturing = s->capturing || (chunk->flags & SHOAL_CONTROL_ROWS) != 0;
        add_jobs(s, chunk, row0, token, &place[i]);
    }
}

int32_t shoal__rank_step_n_largest(const shoal_rank_step *s)
{
    int32_t most = 0;
    for (int32_t i = 0; i < s->n_job && s->compute.device != NULL; i++) {
        const shoal_row_job *job = &s->job[i];
        const int32_t n =
            job->token == NULL ? 0 : shoal_sampling_n_largest(&job->sampling, s->limits->n_vocab);
        if (n == 0)
            return 0;
        most = n > most ? n : most;
    }
    return most;
}

/* A tile of the pool: one job. */
static void finish_job(void *arg, int32_t tile, int32_t worker)
{
    shoal_rank_step *s = arg;
    const shoal_row_job *job = &s->job[tile];
    const shoal_kernels *kernels = s->compute.kernels;
    const size_t n_vocab = (size_t)s->limits->n_vocab, n_embd = (size_t)s->limits->n_embd;
    const float *logits = s->out.logits + (size_t)job->logit * n_vocab;
    if (job->token != NULL) {
        shoal_logit_rows rows = {.logits = logits, .n_largest = s->n_largest};
        if (s->n_largest > 0)
            rows.largest = s->out.largest + (size_t)job->logit * (size_t)s->n_largest;
        (void)shoal_sample_verify(job->token, &s->sampler[worker], kernels, rows, &job->sampling,
                                  &job->guesses);
    } else if (job->nll != NULL) {
        *job->nll = kernels->log_sum_exp(logits, s->limits->n_vocab) - logits[job->target];
    } else {
        memcpy(job->logits, logits, n_vocab * sizeof(float));
        memcpy(job->hidden, s->out.hidden + (size_t)job->logit * n_embd, n_embd * sizeof(float));
    }
}

void shoal__rank_step_finish(shoal_rank_step *s)
{
    const int64_t start_us = shoal_clock_us();
    const int64_t span = shoal_timeline_begin(s->timeline, SHOAL_SPAN_OPEN, start_us);
    if (s->compute.pool != NULL)
        shoal_pool_run(s->compute.pool, finish_job, s, s->n_job);
    for (int32_t i = 0; i < s->n_job && s->compute.pool == NULL; i++)
        finish_job(s, i, 0);
    const int64_t end_us = shoal_clock_us();
    s->sample_us += end_us - start_us;
    shoal_timeline_end(s->timeline, span,
                       &(shoal_span){.end_us = end_us,
                                     .kind = SHOAL_SPAN_PHASE + SHOAL_PHASE_NUMBER(sample),
                                     .n = s->n_job});
}

/* From [n_moe_layer, n_token, top_k] of the step to [n_moe_layer, n_row, top_k] of the chunk. */
static void copy_routing(const shoal_rank_step *s, const shoal_chunk *chunk,
                         const shoal_chunk_result *place)
{
    const size_t top_k = (size_t)s->limits->top_k;
    const size_t n_choice = (size_t)chunk->n_row * top_k;
    for (int32_t layer = 0; layer < s->limits->n_moe_layer; layer++) {
        const size_t from = ((size_t)layer * (size_t)s->n_token + (size_t)chunk->row0) * top_k;
        const size_t to = (size_t)layer * n_choice;
        memcpy(place->expert + to, s->capture.expert + from, n_choice * sizeof(int32_t));
        memcpy(place->weight + to, s->capture.weight + from, n_choice * sizeof(float));
    }
}

/* The choices again, row by row. */
static void copy_routes(const shoal_rank_step *s, const shoal_chunk *chunk, uint16_t *route)
{
    const size_t top_k = (size_t)s->limits->top_k, n_layer = (size_t)s->limits->n_moe_layer;
    for (size_t layer = 0; layer < n_layer; layer++) {
        const int32_t *from =
            s->capture.expert + (layer * (size_t)s->n_token + (size_t)chunk->row0) * top_k;
        for (size_t row = 0; row < (size_t)chunk->n_row; row++)
            for (size_t j = 0; j < top_k; j++)
                route[(row * n_layer + layer) * top_k + j] = (uint16_t)from[row * top_k + j];
    }
}

shoal_status shoal__rank_step_run(shoal_rank_step *s, shoal_model *model,
                                  const shoal_control *control, const shoal_chunk_result *place)
{
    read_control(s, control, place);
    s->n_largest = shoal__rank_step_n_largest(s);
    const shoal_forward_input in = {
        .step = control->step,
        .token = s->token,
        .n_token = s->n_token,
        .chunk = s->chunk,
        .n_chunk = s->n_chunk,
        .is_source = s->is_source,
        .n_row_all = s->n_row_all,
        .logit_row = s->logit_row,
        .n_logit = s->n_logit,
        .n_largest = s->n_largest,
        .capture = s->capturing ? &s->capture : NULL,
    };
    SHOAL_TRY(shoal_forward(&s->out, model, &in));
    shoal__rank_step_finish(s);

    int32_t mine = 0;
    for (int32_t i = 0; i < control->n_chunk && s->capturing; i++) {
        if (control->chunk[i].owner != s->rank)
            continue;
        if (place[i].expert != NULL)
            copy_routing(s, &s->chunk[mine], &place[i]);
        if (place[i].route != NULL)
            copy_routes(s, &s->chunk[mine], place[i].route);
        mine++;
    }
    return shoal__rank_step_draft(s, model, control, place);
}
