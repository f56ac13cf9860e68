/* A mixture of experts in miniature over virtual ranks, for tests of the exchange: global tokens
 * whose first value tells who they are, experts that are one line of arithmetic, and the answer
 * computed without any exchange. */
#ifndef SHOAL_TESTS_COMM_MOE_WORLD_H
#define SHOAL_TESTS_COMM_MOE_WORLD_H

#include "comm/plan.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOE_EMBD = 50, MOE_EXPERT = 12, MOE_TOKEN = 64, MOE_LAYER = 3, MOE_RANK = 32 };

typedef enum moe_routes { MOE_ROUTES_MIXED, MOE_ROUTES_ONE_RANK, MOE_ROUTES_SAME } moe_routes;

/* What one run does; equal on all ranks. Token g lives on rank source[g % n_source]. */
typedef struct moe_world {
    int32_t n_rank;
    int32_t n_token; /* in all */
    int32_t top_k;
    int32_t n_source;
    int32_t source[MOE_RANK];
    int32_t n_expert_rank; /* experts are on ranks expert_rank[e % n_expert_rank], or in ranges */
    int32_t expert_rank[MOE_RANK];
    bool ranges;
    moe_routes routes;
    shoal_wire wire;
    size_t slot_bytes;
    const shoal_kernels *kernels;
    int32_t n_thread;                             /* of each rank; 0: no pool */
    float result[MOE_LAYER][MOE_TOKEN][MOE_EMBD]; /* written by the tokens' ranks */
} moe_world;

static uint32_t moe_hash(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t h = a * 0x9e3779b1u ^ b * 0x85ebca77u ^ c * 0xc2b2ae3du;
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    h ^= h >> 12;
    h *= 0x297a2d39u;
    return h ^ h >> 15;
}

/* Value 0 is exact in every encoding but int8, so that a stray row shows at once. */
static void moe_token(float *x, int32_t layer, int32_t g)
{
    x[0] = (float)g;
    for (int32_t c = 1; c < MOE_EMBD; c++)
        x[c] = (float)(moe_hash((uint32_t)layer, (uint32_t)g, (uint32_t)c) % 4001) / 2000 - 1;
}

static void moe_expert(float *y, int32_t layer, int32_t e, const float *x)
{
    for (int32_t c = 0; c < MOE_EMBD; c++)
        y[c] = x[c] * (float)(e + 1) * 0.37f + x[(c + 1) % MOE_EMBD] * (float)(layer - 1);
}

static int32_t moe_owner(const moe_world *w, int32_t layer, int32_t e)
{
    int32_t n = w->n_expert_rank;
    return w->expert_rank[w->ranges ? e * n / MOE_EXPERT : (e + layer) % n];
}

/* The j-th choice of a token: a permutation of the experts, or few of them. */
static int32_t moe_route(const moe_world *w, int32_t layer, int32_t g, int32_t j)
{
    uint32_t h = moe_hash((uint32_t)g, (uint32_t)layer, 99);
    int32_t first = (int32_t)(h % MOE_EXPERT), step = (h >> 8) % 2 == 0 ? 5 : 7;
    if (w->routes == MOE_ROUTES_SAME) {
        first = 3;
        step = 1;
    }
    if (w->routes == MOE_ROUTES_ONE_RANK) { /* the experts of one rank come first */
        int32_t order[MOE_EXPERT], n = 0, lucky = moe_owner(w, layer, 4);
        for (int pass = 0; pass < 2; pass++)
            for (int32_t e = 0; e < MOE_EXPERT; e++)
                if ((moe_owner(w, layer, e) == lucky) == (pass == 0))
                    order[n++] = e;
        return order[j];
    }
    return (first + j * step) % MOE_EXPERT;
}

static float moe_weight(int32_t layer, int32_t g, int32_t j)
{
    return (float)(moe_hash((uint32_t)g, (uint32_t)layer, (uint32_t)j + 7) % 1000 + 1) / 1000;
}

static void moe_round(float *x, shoal_wire_encoding encoding, const shoal_kernels *kernels)
{
    unsigned char row[4 * MOE_EMBD + 64];
    shoal_wire_encode(row, encoding, kernels, x, MOE_EMBD);
    shoal_wire_decode(x, encoding, kernels, row, MOE_EMBD);
}

/* The answer for token g, dense: no plan, no message. */
static void moe_oracle(float *acc, const moe_world *w, int32_t layer, int32_t g)
{
    float x[MOE_EMBD], y[MOE_EMBD], part[MOE_EMBD];
    moe_token(x, layer, g);
    moe_round(x, w->wire.dispatch, w->kernels);
    memset(acc, 0, MOE_EMBD * sizeof *acc);
    bool reduced = w->wire.kind == SHOAL_COMBINE_REDUCED;
    for (int32_t d = 0; d < (reduced ? w->n_rank : 1); d++) {
        bool any = false;
        memset(part, 0, sizeof part);
        for (int32_t j = 0; j < w->top_k; j++) {
            int32_t e = moe_route(w, layer, g, j);
            if (reduced && moe_owner(w, layer, e) != d)
                continue;
            any = true;
            moe_expert(y, layer, e, x);
            if (!reduced)
                moe_round(y, w->wire.combine, w->kernels);
            float *sum = reduced ? part : acc;
            for (int32_t c = 0; c < MOE_EMBD; c++)
                sum[c] = fmaf(moe_weight(layer, g, j), y[c], sum[c]);
        }
        if (!reduced || !any)
            continue;
        moe_round(part, w->wire.combine, w->kernels);
        for (int32_t c = 0; c < MOE_EMBD; c++)
            acc[c] += part[c];
    }
}

/* One rank's own things. */
typedef struct moe_rank {
    shoal_arena arena;
    shoal_arena device; /* of odd ranks, whose rows and messages do not share one arena */
    shoal_exchange x;
    shoal_pool *pool;
    int32_t rank;
    int32_t n_token, token[MOE_TOKEN]; /* global tokens that live here */
    int32_t owner[MOE_EXPERT], local[MOE_EXPERT];
    int32_t n_owned, owned[MOE_EXPERT]; /* experts of this rank in this layer */
    int32_t topk_expert[MOE_TOKEN * MOE_EXPERT];
    float topk_weight[MOE_TOKEN * MOE_EXPERT];
    float h[MOE_TOKEN * MOE_EMBD], acc[MOE_TOKEN * MOE_EMBD];
    float *done;
    bool is_source[MOE_RANK], is_target[MOE_RANK];
} moe_rank;

/* The readable kernels. */
static const shoal_kernels *moe_kernels(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "reference", &log), SHOAL_OK);
    return kernels;
}

static void moe_carve(moe_rank *m, const moe_world *w)
{
    int32_t n_local_max[MOE_RANK] = {0}, most = 0;
    bool may_source[MOE_RANK] = {false};
    for (int32_t l = 0; l < MOE_LAYER; l++) {
        int32_t n_local[MOE_RANK] = {0};
        for (int32_t e = 0; e < MOE_EXPERT; e++) {
            int32_t r = moe_owner(w, l, e), n = ++n_local[r];
            n_local_max[r] = n > n_local_max[r] ? n : n_local_max[r];
        }
    }
    for (int32_t i = 0; i < w->n_source; i++)
        may_source[w->source[i]] = true;
    most = w->n_source > 0 ? (w->n_token + w->n_source - 1) / w->n_source : 0;
    shoal_exchange_config config = {.n_rank = w->n_rank,
                                    .rank = m->rank,
                                    .n_embd = MOE_EMBD,
                                    .top_k = w->top_k,
                                    .n_token_max = most,
                                    .n_local_max = n_local_max,
                                    .may_source = may_source,
                                    .slot_bytes = w->slot_bytes,
                                    .wire = w->wire};
    shoal_arenas arenas = {&m->arena, m->rank % 2 != 0 ? &m->device : &m->arena};
    shoal_exchange_carve(&m->x, arenas, &config,
                         &(shoal_compute){.kernels = w->kernels, .pool = m->pool});
    m->done = SHOAL_TAKE(&m->arena, (size_t)m->x.n_slot_max * MOE_EMBD, float);
}

static moe_rank *moe_rank_open(const moe_world *w, int32_t rank)
{
    moe_rank *m = calloc(1, sizeof *m);
    shoal_log log;
    shoal_log_init(&log, stderr, rank, "test");
    m->rank = rank;
    if (w->n_thread > 0)
        ck_assert_int_eq(shoal_pool_open(&m->pool, w->n_thread, &log), SHOAL_OK);
    shoal_arena_measure(&m->arena, "session");
    shoal_arena_measure(&m->device, "session, device");
    moe_carve(m, w);
    ck_assert_int_eq(shoal_arena_open(&m->arena, &log), SHOAL_OK);
    ck_assert_int_eq(shoal_arena_open(&m->device, &log), SHOAL_OK);
    moe_carve(m, w);
    for (int32_t g = 0; g < w->n_token; g++)
        if (w->source[g % w->n_source] == rank)
            m->token[m->n_token++] = g;
    return m;
}

static void moe_rank_close(moe_rank *m)
{
    shoal_pool_close(m->pool);
    ck_assert(shoal_arena_check(&m->arena) && shoal_arena_check(&m->device));
    shoal_arena_close(&m->arena);
    shoal_arena_close(&m->device);
    free(m);
}

/* Routes and rows of one layer, and the plan. */
static void moe_prepare(moe_rank *m, const moe_world *w, int32_t layer)
{
    int32_t n_local[MOE_RANK] = {0};
    memset(m->is_source, 0, sizeof m->is_source);
    memset(m->is_target, 0, sizeof m->is_target);
    m->n_owned = 0;
    for (int32_t e = 0; e < MOE_EXPERT; e++) {
        m->owner[e] = moe_owner(w, layer, e);
        m->local[e] = n_local[m->owner[e]]++;
        m->is_target[m->owner[e]] = true;
        if (m->owner[e] == m->rank)
            m->owned[m->n_owned++] = e;
    }
    for (int32_t g = 0; g < w->n_token; g++)
        m->is_source[w->source[g % w->n_source]] = true;
    for (int32_t t = 0; t < m->n_token; t++) {
        moe_token(m->h + t * MOE_EMBD, layer, m->token[t]);
        for (int32_t j = 0; j < w->top_k; j++) {
            m->topk_expert[t * w->top_k + j] = moe_route(w, layer, m->token[t], j);
            m->topk_weight[t * w->top_k + j] = moe_weight(layer, m->token[t], j);
        }
    }
    shoal_plan_build(&m->x, m->topk_expert, m->topk_weight, m->n_token, m->owner, m->local,
                     m->is_source, m->is_target);
}

/* Row `row` of what arrived, as f32. */
static void moe_received(float *x, const shoal_recv *recv, int32_t row)
{
    enum { N_GROUP = (MOE_EMBD - 1) / SHOAL_GROUP + 1 };
    for (int32_t c = 0; c < MOE_EMBD; c++) {
        if (recv->row_int8 == NULL) {
            x[c] = recv->row[row * MOE_EMBD + c];
            continue;
        }
        const shoal_int8_group *g = &recv->row_int8[row * N_GROUP + c / SHOAL_GROUP];
        x[c] = g->scale * (float)g->q[c % SHOAL_GROUP];
    }
}

/* The experts of this rank over what arrived; results in another order than the slots. */
static void moe_compute(moe_rank *m, int32_t layer)
{
    shoal_recv *recv = &m->x.recv;
    for (int32_t i = 0; i < recv->n_slot; i++) {
        float x[MOE_EMBD];
        int32_t local = recv->slot_expert[i], to = recv->n_slot - 1 - i;
        ck_assert(local >= 0 && local < m->n_owned);
        moe_received(x, recv, recv->slot_row[i]);
        moe_expert(m->done + to * MOE_EMBD, layer, m->owned[local], x);
        recv->slot_done[i] = to;
    }
}

/* A layer step from begin to end. */
static shoal_status moe_layer(moe_rank *m, const moe_world *w, shoal_comm *comm, int64_t step,
                              int32_t layer)
{
    SHOAL_TRY(shoal_comm_at(comm, step, layer));
    moe_prepare(m, w, layer);
    /* Integers of the rows as the model has them, or none: then the exchange makes them. */
    static _Thread_local shoal_int8_group group[MOE_TOKEN * ((MOE_EMBD - 1) / SHOAL_GROUP + 1)];
    shoal_rows h = {.f32 = m->h, .int8 = layer % 2 == 0 ? group : NULL};
    int32_t n_group = shoal_int8_groups(MOE_EMBD);
    for (int32_t t = 0; t < m->n_token; t++)
        w->kernels->to_groups(group + t * n_group, m->h + t * MOE_EMBD, MOE_EMBD);
    SHOAL_TRY(shoal_dispatch_begin(&m->x, comm, h, step, layer));
    memset(m->h, 0xff, sizeof m->h); /* not needed after begin */
    SHOAL_TRY(shoal_dispatch_end(&m->x, comm, step, layer));
    moe_compute(m, layer);
    memset(m->acc, 0xff, sizeof m->acc);
    SHOAL_TRY(shoal_combine_begin(&m->x, comm, m->done));
    memset(m->done, 0xff, (size_t)m->x.recv.n_slot * MOE_EMBD * sizeof(float)); /* nor after this */
    return shoal_combine_end(m->acc, &m->x, comm);
}

#endif
