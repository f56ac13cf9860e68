/* The attention core over the cache, for GQA and absorbed MLA alike: queries that share a kv head
 * are cut into tiles of (row, head) pairs; a tile walks the blocks of its sequence's cache in
 * order. Nothing here depends on how rows were batched: a pair sees the same blocks in the same
 * order whatever else is in its tile. */
#include "runtime/model/model_state.h"

#include <math.h>
#include <string.h>

typedef struct attend_job {
    shoal_model *model;
    const shoal_forward_input *in;
    int32_t layer;
    const float *query;
    int32_t d_k, d_v, n_group; /* n_group: query heads per kv head */
} attend_job;

/* Tiles of one chunk: kv heads x ceil(rows * n_group / SHOAL_QUERY_TILE). */
static int32_t chunk_tiles(const attend_job *job, const shoal_chunk *chunk)
{
    int32_t per_kv_head = (chunk->n_row * job->n_group + SHOAL_QUERY_TILE - 1) / SHOAL_QUERY_TILE;
    return per_kv_head * job->model->spec->attention.n_kv_head;
}

static int32_t within_block(int32_t position)
{
    return position < 0 ? 0 : position > SHOAL_ATTEND_BLOCK ? SHOAL_ATTEND_BLOCK : position;
}

/* One tile: pairs [pair0, pair0 + n_pair) of (row, head in group) of a chunk, kv head `kv_head`. */
static void attend_tile(const attend_job *job, const shoal_chunk *chunk, int32_t kv_head,
                        int32_t pair0, int32_t n_pair, int32_t worker)
{
    const shoal_model *m = job->model;
    const shoal_kernels *k = m->compute.kernels;
    const shoal_attention_config *a = &m->spec->attention;
    size_t d_k = (size_t)job->d_k, d_v = (size_t)job->d_v, n_head = (size_t)a->n_head;
    float *query = m->step.query_tile + (size_t)worker * SHOAL_QUERY_TILE * d_k;
    float *out = m->step.out_tile + (size_t)worker * SHOAL_QUERY_TILE * d_v;
    float *k_tile = m->step.k_tile + (size_t)worker * SHOAL_ATTEND_BLOCK * d_k;
    float *v_tile = m->step.v_tile + (size_t)worker * SHOAL_ATTEND_BLOCK * d_v;
    shoal_attend_state state[SHOAL_QUERY_TILE];
    int32_t position[SHOAL_QUERY_TILE], first[SHOAL_QUERY_TILE], last[SHOAL_QUERY_TILE];

    for (int32_t i = 0; i < n_pair; i++) {
        int32_t row = (pair0 + i) / job->n_group,
                head = kv_head * job->n_group + (pair0 + i) % job->n_group;
        size_t at = ((size_t)(chunk->row0 + row) * n_head + (size_t)head) * d_k;
        memcpy(query + (size_t)i * d_k, job->query + at, d_k * sizeof(float));
        state[i] = (shoal_attend_state){.max = -INFINITY, .denom = 0.0F};
        position[i] = chunk->position0 + row;
    }
    memset(out, 0, (size_t)n_pair * d_v * sizeof(float));

    bool mla = a->kind == SHOAL_ATTENTION_MLA;
    const float *sinks = m->weights.layer[job->layer].attention.sinks;
    int32_t key0 = mla ? 0 : kv_head * a->head_dim;
    int32_t value0 = mla ? 0 : (a->n_kv_head + kv_head) * a->head_dim;
    int32_t n_seen = position[n_pair - 1] + 1, window = a->window[job->layer];
    int32_t oldest = window > 0 && position[0] + 1 > window ? position[0] + 1 - window : 0;
    for (int32_t block = oldest / SHOAL_ATTEND_BLOCK; block * SHOAL_ATTEND_BLOCK < n_seen;
         block++) {
        int32_t p0 = block * SHOAL_ATTEND_BLOCK;
        int32_t n_position = n_seen - p0 < SHOAL_ATTEND_BLOCK ? n_seen - p0 : SHOAL_ATTEND_BLOCK;
        for (int32_t i = 0; i < n_pair; i++) {
            int32_t end = position[i] + 1 - p0;
            last[i] = within_block(end);
            first[i] = window > 0 ? within_block(end - window) : 0;
        }
        const void *rows = shoal_kv_cache_block(&m->cache, job->layer, chunk->slot, block);
        k->attend_tile(k_tile, v_tile, rows, m->cache.row_bytes, m->cache.dtype, n_position, key0,
                       job->d_k, value0, job->d_v);
        k->attend_block(out, job->d_v, state, query, job->d_k, n_pair, first, last, a->scale,
                        k_tile, v_tile, job->d_k, job->d_v);
    }

    for (int32_t i = 0; i < n_pair; i++) {
        int32_t row = (pair0 + i) / job->n_group,
                head = kv_head * job->n_group + (pair0 + i) % job->n_group;
        float *to = m->step.attended + ((size_t)(chunk->row0 + row) * n_head + (size_t)head) * d_v;
        if (sinks != NULL)
            k->attend_sink(out + (size_t)i * d_v, &state[i], sinks[head], job->d_v);
        k->attend_finish(out + (size_t)i * d_v, &state[i], job->d_v);
        memcpy(to, out + (size_t)i * d_v, d_v * sizeof(float));
    }
}

static void run_tile(void *arg, int32_t tile, int32_t worker)
{
    const attend_job *job = arg;
    const shoal_chunk *chunk = job->in->chunk;
    while (tile >= chunk_tiles(job, chunk)) {
        tile -= chunk_tiles(job, chunk);
        chunk++;
    }
    int32_t n_kv_head = job->model->spec->attention.n_kv_head;
    int32_t pair0 = tile / n_kv_head * SHOAL_QUERY_TILE;
    int32_t n_pair = chunk->n_row * job->n_group - pair0;
    attend_tile(job, chunk, tile % n_kv_head, pair0,
                n_pair < SHOAL_QUERY_TILE ? n_pair : SHOAL_QUERY_TILE, worker);
}

void shoal__attend(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                   const float *query)
{
    attend_job job = {.model = model,
                      .in = in,
                      .layer = layer,
                      .query = query,
                      .d_k = shoal_step_d_k(model->spec),
                      .d_v = shoal_step_d_v(model->spec),
                      .n_group = model->spec->attention.n_head / model->spec->attention.n_kv_head};
    int32_t n_tile = 0;
    for (int32_t i = 0; i < in->n_chunk; i++)
        n_tile += chunk_tiles(&job, &in->chunk[i]);
    shoal_pool_run(model->compute.pool, run_tile, &job, n_tile);
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
