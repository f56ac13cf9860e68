/* The attention core over the cache, for GQA and absorbed MLA alike. Queries that share a kv head
 * are cut into tiles of (row, head) pairs, positions into segments of a few blocks. A unit is one
 * tile over one segment, from a fresh state; the parts of a pair are merged in the order of the
 * segments. What a pair sees, and in which order, depends on its position alone (rule 1).
 *
 * Units of different segments run at the same time where there are few pairs (a wave: decoding one
 * sequence fills the threads), one segment after the other where there are many. */
#include "runtime/model/model_state.h"

#include <math.h>
#include <string.h>

enum {
    SEGMENT = SHOAL_ATTEND_SEGMENT,
    TILE_MACS_MIN = 1 << 17, /* a task is not smaller, where taking it would count */
};

typedef struct attend_job {
    shoal_model *model;
    const shoal_forward_input *in;
    const float *query; /* [n_token, n_head, d_k] */
    const float *sinks; /* [n_head] or NULL */
    int32_t layer, window;
    int32_t d_k, d_v, n_head, n_group; /* n_group: query heads per kv head */
    int32_t segment0, n_segment;       /* the wave */
    int32_t n_unit, units;             /* all, and those of one task */
} attend_job;

/* One tile of pairs over one segment. */
typedef struct unit {
    const shoal_chunk *chunk;
    int32_t kv_head;
    int32_t pair0, n_pair; /* of the chunk's n_row * n_group */
    int32_t segment;
} unit;

/* The first position that the row at `position` sees. */
static int32_t oldest(const attend_job *job, int32_t position)
{
    return job->window > 0 && position >= job->window ? position + 1 - job->window : 0;
}

/* Segments of positions [from, to] that are in the wave: [*s0, *s1). */
static void segments(const attend_job *job, int32_t from, int32_t to, int32_t *s0, int32_t *s1)
{
    int32_t end = job->segment0 + job->n_segment;
    *s0 = from / SEGMENT > job->segment0 ? from / SEGMENT : job->segment0;
    *s1 = to / SEGMENT + 1 < end ? to / SEGMENT + 1 : end;
    *s1 = *s1 < *s0 ? *s0 : *s1;
}

static void chunk_segments(const attend_job *job, const shoal_chunk *chunk, int32_t *s0,
                           int32_t *s1)
{
    segments(job, oldest(job, chunk->position0), chunk->position0 + chunk->n_row - 1, s0, s1);
}

static int32_t n_pair_tile(const attend_job *job, const shoal_chunk *chunk)
{
    return (chunk->n_row * job->n_group + SHOAL_QUERY_TILE - 1) / SHOAL_QUERY_TILE;
}

/* Units in order: chunk, kv head, segment, pairs: those that share keys and values follow each
 * other, and so do those whose keys and values lie behind each other. step.chunk_unit0: the first
 * of each chunk. */
static void lay_out_wave(attend_job *job)
{
    const shoal_attention_config *a = &job->model->spec->attention;
    int32_t *unit0 = job->model->step.chunk_unit0;
    int64_t macs = 1;
    job->n_unit = 0;
    for (int32_t c = 0; c < job->in->n_chunk; c++) {
        const shoal_chunk *chunk = &job->in->chunk[c];
        int32_t s0, s1;
        chunk_segments(job, chunk, &s0, &s1);
        unit0[c] = job->n_unit;
        job->n_unit += n_pair_tile(job, chunk) * a->n_kv_head * (s1 - s0);
        int64_t n_position = chunk->position0 + chunk->n_row;
        n_position = n_position < SEGMENT ? n_position : SEGMENT;
        macs += chunk->n_row * n_position * (s1 - s0) * a->n_head * (job->d_k + job->d_v);
    }
    unit0[job->in->n_chunk] = job->n_unit;
    int64_t units = (int64_t)job->n_unit * TILE_MACS_MIN / macs;
    job->units = units < 1 ? 1 : units < job->n_unit ? (int32_t)units : job->n_unit;
}

static unit unit_of(const attend_job *job, int32_t i)
{
    const int32_t *unit0 = job->model->step.chunk_unit0;
    int32_t c = 0, end = job->in->n_chunk;
    while (end - c > 1) {
        int32_t middle = c + (end - c) / 2;
        if (unit0[middle] <= i)
            c = middle;
        else
            end = middle;
    }
    unit u = {.chunk = &job->in->chunk[c]};
    int32_t s0, s1, n_tile = n_pair_tile(job, u.chunk);
    chunk_segments(job, u.chunk, &s0, &s1);
    int32_t n_segment = s1 > s0 ? s1 - s0 : 1; /* a chunk with a unit has one */
    i -= unit0[c];
    u.kv_head = i / (n_tile * n_segment);
    u.segment = s0 + i / n_tile % n_segment;
    u.pair0 = i % n_tile * SHOAL_QUERY_TILE;
    int32_t n_pair = u.chunk->n_row * job->n_group - u.pair0;
    u.n_pair = n_pair < SHOAL_QUERY_TILE ? n_pair : SHOAL_QUERY_TILE;
    return u;
}

static int32_t row_of(const attend_job *job, const unit *u, int32_t pair)
{
    return u->chunk->row0 + (u->pair0 + pair) / job->n_group;
}

static int32_t head_of(const attend_job *job, const unit *u, int32_t pair)
{
    return u->kv_head * job->n_group + (u->pair0 + pair) % job->n_group;
}

static size_t pair_at(const attend_job *job, int32_t row, int32_t head)
{
    return (size_t)row * (size_t)job->n_head + (size_t)head;
}

/* The unit's queries [n_pair, d_k], in place where they lie behind each other. */
static const float *gather(const attend_job *job, const unit *u, float *room)
{
    size_t d_k = (size_t)job->d_k;
    if (job->n_group == job->n_head || u->pair0 % job->n_group + u->n_pair <= job->n_group)
        return job->query + pair_at(job, row_of(job, u, 0), head_of(job, u, 0)) * d_k;
    for (int32_t i = 0; i < u->n_pair; i++)
        memcpy(room + (size_t)i * d_k,
               job->query + pair_at(job, row_of(job, u, i), head_of(job, u, i)) * d_k,
               d_k * sizeof(float));
    return room;
}

static int32_t within(int32_t position, int32_t end)
{
    return position < 0 ? 0 : position > end ? end : position;
}

/* What a pair has seen in one segment joins what it saw in those before; behind its last one it is
 * complete. */
static void join(const attend_job *job, int32_t row, int32_t head, int32_t segment,
                 const float *part, const shoal_attend_state *part_state)
{
    const shoal_kernels *k = job->model->compute.kernels;
    shoal_step *step = &job->model->step;
    size_t pair = pair_at(job, row, head);
    float *out = step->attended + pair * (size_t)job->d_v;
    shoal_attend_state *state = &step->attend_state[pair];
    int32_t position = step->row[row].position;
    if (segment == oldest(job, position) / SEGMENT) {
        memcpy(out, part, (size_t)job->d_v * sizeof(float));
        *state = *part_state;
    } else {
        k->attend_merge(out, state, part, part_state, job->d_v);
    }
    if (segment == position / SEGMENT) {
        if (job->sinks != NULL)
            k->attend_sink(out, state, job->sinks[head], job->d_v);
        k->attend_finish(out, state, job->d_v);
    }
}

/* Where the part of a pair waits for join: [pair, segment of the wave]. */
static size_t partial_at(const attend_job *job, int32_t row, int32_t head, int32_t segment)
{
    return pair_at(job, row, head) * (size_t)job->n_segment + (size_t)(segment - job->segment0);
}

static void run_unit(const attend_job *job, const unit *u, int32_t worker)
{
    const shoal_model *m = job->model;
    const shoal_kernels *k = m->compute.kernels;
    const shoal_step *step = &m->step;
    size_t d_v = (size_t)job->d_v;
    float *out = step->out_tile + (size_t)worker * SHOAL_QUERY_TILE * d_v;
    float *value = step->value_tile + (size_t)worker * SHOAL_ATTEND_BLOCK * d_v;
    const float *query =
        gather(job, u, step->query_tile + (size_t)worker * SHOAL_QUERY_TILE * (size_t)job->d_k);
    shoal_attend_state state[SHOAL_QUERY_TILE];
    int32_t first[SHOAL_QUERY_TILE], last[SHOAL_QUERY_TILE];
    for (int32_t i = 0; i < u->n_pair; i++)
        state[i] = (shoal_attend_state){.max = -INFINITY, .denom = 0.0F};
    memset(out, 0, (size_t)u->n_pair * d_v * sizeof(float));

    int32_t newest = step->row[row_of(job, u, u->n_pair - 1)].position;
    int32_t from = within(oldest(job, step->row[row_of(job, u, 0)].position), newest);
    int32_t p0 = from > u->segment * SEGMENT ? from : u->segment * SEGMENT;
    for (p0 -= p0 % SHOAL_ATTEND_BLOCK; p0 <= newest && p0 < (u->segment + 1) * SEGMENT;
         p0 += SHOAL_ATTEND_BLOCK) {
        shoal_attend_kv kv = shoal_kv_cache_block(&m->cache, job->layer, u->chunk->slot, u->kv_head,
                                                  p0 / SHOAL_ATTEND_BLOCK);
        if (kv.value == NULL) {
            k->attend_values(value, kv.key, kv.dtype, within(newest + 1 - p0, SHOAL_ATTEND_BLOCK),
                             kv.d_k, kv.d_v);
            kv.value = value;
        }
        for (int32_t i = 0; i < u->n_pair; i++) {
            int32_t position = step->row[row_of(job, u, i)].position;
            first[i] = within(oldest(job, position) - p0, SHOAL_ATTEND_BLOCK);
            last[i] = within(position + 1 - p0, SHOAL_ATTEND_BLOCK);
        }
        k->attend_block(out, job->d_v, state, query, job->d_k, u->n_pair, first, last,
                        m->spec->attention.scale, &kv);
    }

    for (int32_t i = 0; i < u->n_pair; i++) {
        int32_t row = row_of(job, u, i), head = head_of(job, u, i);
        int32_t position = step->row[row].position;
        if (u->segment < oldest(job, position) / SEGMENT || u->segment > position / SEGMENT)
            continue; /* nothing to see here for this row of the tile */
        if (job->n_segment == 1) {
            join(job, row, head, u->segment, out + (size_t)i * d_v, &state[i]);
            continue;
        }
        size_t at = partial_at(job, row, head, u->segment);
        memcpy(step->partial + at * d_v, out + (size_t)i * d_v, d_v * sizeof(float));
        step->partial_state[at] = state[i];
    }
}

static void run_units(void *arg, int32_t tile, int32_t worker)
{
    const attend_job *job = arg;
    int32_t i0 = tile * job->units;
    int32_t i1 = job->n_unit - i0 < job->units ? job->n_unit : i0 + job->units;
    for (int32_t i = i0; i < i1; i++) {
        unit u = unit_of(job, i);
        run_unit(job, &u, worker);
    }
}

enum { JOIN_PAIRS = 8 }; /* of one task */

static void join_pairs(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const attend_job *job = arg;
    const shoal_step *step = &job->model->step;
    int32_t n_pair = job->in->n_token * job->n_head;
    int32_t pair1 = (tile + 1) * JOIN_PAIRS < n_pair ? (tile + 1) * JOIN_PAIRS : n_pair;
    for (int32_t pair = tile * JOIN_PAIRS; pair < pair1; pair++) {
        int32_t row = pair / job->n_head, head = pair % job->n_head, s0, s1;
        int32_t position = step->row[row].position;
        segments(job, oldest(job, position), position, &s0, &s1);
        for (int32_t s = s0; s < s1; s++) {
            size_t at = partial_at(job, row, head, s);
            join(job, row, head, s, step->partial + at * (size_t)job->d_v,
                 &step->partial_state[at]);
        }
    }
}

void shoal__attend(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                   const float *query)
{
    const shoal_attention_config *a = &model->spec->attention;
    attend_job job = {.model = model,
                      .in = in,
                      .layer = layer,
                      .query = query,
                      .sinks = model->weights.layer[layer].attention.sinks,
                      .window = a->window[layer],
                      .d_k = shoal_step_d_k(model->spec),
                      .d_v = shoal_step_d_v(model->spec),
                      .n_head = a->n_head,
                      .n_group = a->n_head / a->n_kv_head};
    int32_t s0 = INT32_MAX, s1 = 0;
    for (int32_t c = 0; c < in->n_chunk; c++) {
        const shoal_chunk *chunk = &in->chunk[c];
        int32_t from = oldest(&job, chunk->position0) / SEGMENT;
        int32_t to = (chunk->position0 + chunk->n_row - 1) / SEGMENT + 1;
        s0 = from < s0 ? from : s0;
        s1 = to > s1 ? to : s1;
    }
    int32_t n_pair = in->n_token * a->n_head, wave = model->step.n_partial / n_pair;
    wave = wave < 1 ? 1 : wave < s1 - s0 ? wave : s1 - s0;
    for (int32_t s = s0; s < s1; s += wave) {
        job.segment0 = s;
        job.n_segment = wave;
        lay_out_wave(&job);
        shoal_pool_run(model->compute.pool, run_units, &job,
                       (job.n_unit + job.units - 1) / job.units);
        if (wave > 1)
            shoal_pool_run(model->compute.pool, join_pairs, &job,
                           (n_pair + JOIN_PAIRS - 1) / JOIN_PAIRS);
    }
}

shoal_rows shoal__normed_rows(shoal_model *model, const shoal_matrix *const *w, int32_t n_matrix,
                              int32_t n_row)
{
    int32_t i = 0;
    while (i + 1 < n_matrix && !shoal__takes_int8(model, w[i]))
        i++;
    return shoal__rows_for(model, model->step.h_int8, w[i], model->step.h, n_row);
}

void shoal__attention(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_spec *s = model->spec;
    shoal_step *step = &model->step;
    shoal_op_rms_norm(&model->compute, step->h, s->n_embd, step->x, s->n_embd,
                      model->weights.layer[layer].attn_norm, in->n_token, s->n_embd, s->norm_eps);
    if (s->attention.kind == SHOAL_ATTENTION_MLA)
        shoal__attention_mla(model, in, layer);
    else
        shoal__attention_gqa(model, in, layer);
    shoal__add_residual(model, in->n_token);
}
