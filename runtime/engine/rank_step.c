#include "runtime/engine/rank_step.h"

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
    if (limits->want_rows) {
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

static void add_job(shoal_rank_step *s, int32_t row, const shoal_row_job *job)
{
    s->logit_row[s->n_logit] = row;
    s->job[s->n_logit++] = *job;
}

/* The logit rows of a chunk whose first row is row0, and what they are for. */
static void add_jobs(shoal_rank_step *s, const shoal_control_chunk *chunk, int32_t row0,
                     const int32_t *token, const shoal_chunk_result *place)
{
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) != 0) {
        const int32_t last = chunk->n_row - 1;
        add_job(s, row0 + last,
                &(shoal_row_job){
                    .chunk = chunk, .position = chunk->position0 + last, .token = place->token});
        return;
    }
    if (place->nll == NULL && place->logits == NULL)
        return;
    for (int32_t i = 0; i < chunk->n_row; i++) {
        shoal_row_job job = {.chunk = chunk, .position = chunk->position0 + i};
        if (place->nll != NULL) {
            job.nll = place->nll + i;
            job.target = token[i + 1];
        } else {
            job.logits = place->logits + (size_t)i * (size_t)s->limits->n_vocab;
            job.hidden = place->hidden + (size_t)i * (size_t)s->limits->n_embd;
        }
        add_job(s, row0 + i, &job);
    }
}

static void read_control(shoal_rank_step *s, const shoal_control *control,
                         const shoal_chunk_result *place)
{
    s->n_token = s->n_chunk = s->n_logit = 0;
    s->capturing = false;
    memset(s->is_source, 0, (size_t)s->limits->n_rank * sizeof(bool));
    for (int32_t i = 0; i < control->n_chunk; i++) {
        const shoal_control_chunk *chunk = &control->chunk[i];
        s->is_source[chunk->owner] = true;
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

/* A tile of the pool: one row of logits. */
static void finish_row(void *arg, int32_t tile, int32_t worker)
{
    shoal_rank_step *s = arg;
    const shoal_row_job *job = &s->job[tile];
    const size_t n_vocab = (size_t)s->limits->n_vocab, n_embd = (size_t)s->limits->n_embd;
    const float *logits = s->out.logits + (size_t)tile * n_vocab;
    if (job->token != NULL) {
        const shoal_sampling sampling = {.temperature = job->chunk->temperature,
                                         .top_k = job->chunk->top_k,
                                         .top_p = job->chunk->top_p,
                                         .seed = job->chunk->seed};
        *job->token = shoal_sample(&s->sampler[worker], s->compute.kernels, logits, &sampling,
                                   job->chunk->key, job->position + 1);
    } else if (job->nll != NULL) {
        *job->nll =
            s->compute.kernels->log_sum_exp(logits, s->limits->n_vocab) - logits[job->target];
    } else {
        memcpy(job->logits, logits, n_vocab * sizeof(float));
        memcpy(job->hidden, s->out.hidden + (size_t)tile * n_embd, n_embd * sizeof(float));
    }
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

shoal_status shoal__rank_step_run(shoal_rank_step *s, shoal_model *model,
                                  const shoal_control *control, const shoal_chunk_result *place)
{
    read_control(s, control, place);
    const shoal_forward_input in = {
        .step = control->step,
        .token = s->token,
        .n_token = s->n_token,
        .chunk = s->chunk,
        .n_chunk = s->n_chunk,
        .is_source = s->is_source,
        .logit_row = s->logit_row,
        .n_logit = s->n_logit,
        .capture = s->capturing ? &s->capture : NULL,
    };
    SHOAL_TRY(shoal_forward(&s->out, model, &in));
    if (s->compute.pool != NULL)
        shoal_pool_run(s->compute.pool, finish_row, s, s->n_logit);
    for (int32_t i = 0; i < s->n_logit && s->compute.pool == NULL; i++)
        finish_row(s, i, 0);

    int32_t mine = 0;
    for (int32_t i = 0; i < control->n_chunk && s->capturing; i++) {
        if (control->chunk[i].owner != s->rank)
            continue;
        if (place[i].expert != NULL)
            copy_routing(s, &s->chunk[mine], &place[i]);
        mine++;
    }
    return SHOAL_OK;
}
