/* A step in time. Each rank has a clock; an MoE layer is walked as runtime/model does it, part by
 * part: attention and sending of all parts, then experts of all parts, and results are collected
 * when the next layer begins. A chain of some layers with choices drawn from the source stands for
 * all. Messages leave through the card of the host, one after the other, and enter through the card
 * of the other; a rank pays for each with its processor, too. */
#include "launcher/predict/walk.h"

#include <math.h>
#include <string.h>

enum { CHAIN_MIN = 8, CHAIN_MAX = 160, WARM_UP = 2 };

typedef shoal__walk walk;
typedef shoal__walk_part part;

static double max2(double a, double b)
{
    return a > b ? a : b;
}

/* A message leaves `from` at its clock. Returns when it is at `to`. */
static double send(walk *w, int32_t from, int32_t to, double n_bytes)
{
    const shoal_cluster_link *l = shoal_cluster_link_at(w->cluster, from, to);
    const shoal__ideal *ideal = &w->c->ideal;
    const int32_t a = w->cluster->rank[from].host, b = w->cluster->rank[to].host;
    const double wire = ideal->wire ? 0 : 1e-3;
    const double latency = ideal->latency ? 0 : l->latency_us;
    w->n_bytes += n_bytes;
    w->n_message += 1;
    w->clock_us[from] += (ideal->latency ? 0 : l->overhead_us) +
                         (ideal->wire ? 0 : n_bytes * SHOAL__WIRE_BYTE_NS * 1e-3);
    if (a == b)
        return w->clock_us[from] + latency + n_bytes * wire / shoal__link_gb_per_s(l);
    const double out = w->card_gb_per_s[a], in = w->card_gb_per_s[b];
    const double link = shoal__link_gb_per_s(l);
    const double start = max2(w->clock_us[from], w->sends_us[a]);
    w->sends_us[a] = start + n_bytes * wire / out;
    w->takes_us[b] = max2(w->takes_us[b], start) + n_bytes * wire / in;
    /* What a bucket lets pass at once is ahead of the wire by so much. */
    const double there = max2(start + n_bytes * wire / link, w->takes_us[b]);
    return max2(there - l->burst_bytes * wire / link, w->clock_us[from]) + latency;
}

/* The same, as part of what `to` waits for. */
static void send_part(walk *w, part *p, int32_t from, int32_t to, double n_bytes)
{
    const shoal_cluster_link *l = shoal_cluster_link_at(w->cluster, from, to);
    p->arrived_us[to] = max2(p->arrived_us[to], send(w, from, to, n_bytes));
    p->last_us[to] = (w->c->ideal.latency ? 0 : l->overhead_us) +
                     (w->c->ideal.wire ? 0 : n_bytes * SHOAL__WIRE_BYTE_NS * 1e-3);
    p->taken_us[to] += p->last_us[to];
}

/* What has come of a part is taken: most of it while waiting for the last message. */
static void take(walk *w, const part *p, int32_t rank)
{
    const double busy = w->clock_us[rank] + p->taken_us[rank];
    w->clock_us[rank] = max2(busy, p->arrived_us[rank] + p->last_us[rank]);
}

static void reset(walk *w, part *p)
{
    memset(p->arrived_us, 0, (size_t)w->n_rank * sizeof(double));
    memset(p->taken_us, 0, (size_t)w->n_rank * sizeof(double));
    memset(p->last_us, 0, (size_t)w->n_rank * sizeof(double));
}

static size_t at(const walk *w, int32_t from, int32_t to)
{
    return (size_t)from * (size_t)w->n_rank + (size_t)to;
}

/* Results of `owner` for the rows of `source`, as rows that travel. */
static int32_t results(const walk *w, const part *p, int32_t source, int32_t owner)
{
    const bool exact = w->c->measured->wire.kind == SHOAL_COMBINE_EXACT;
    return (exact ? p->routed.slots : p->routed.rows)[at(w, source, owner)];
}

/* Results of the layer before, if they are away. */
static void collect(walk *w, part *p)
{
    for (int32_t r = 0; r < w->n_rank && p->away; r++) {
        int64_t n_slot = 0, n_home = 0;
        if (p->n_row[r] == 0)
            continue;
        for (int32_t d = 0; d < w->n_rank; d++) {
            n_slot += p->routed.slots[at(w, r, d)];
            n_home += d != r ? results(w, p, r, d) : 0;
        }
        take(w, p, r);
        w->clock_us[r] += shoal__collect_us(w->c, r, p->n_row[r], (double)n_slot, (double)n_home);
    }
    p->away = false;
}

static bool has_experts(const walk *w, int32_t rank)
{
    return w->c->placement->expert_weight[rank] > 0;
}

/* Rates are of all ranks at work at once. Where they take turns on shared cores, a rank that works
 * while others wait has more of them: us [n_rank], what each would take at these rates, becomes
 * what it takes with only those at work that have something to do. */
static void share_cores(const walk *w, double *us)
{
    const int32_t n_core = w->cluster->n_shared_core;
    double sum = 0, most = 0, n_thread = 0;
    for (int32_t r = 0; r < w->n_rank; r++) {
        sum += us[r];
        most = max2(most, us[r]);
        n_thread += w->cluster->rank[r].n_thread;
    }
    if (n_core == 0 || n_thread <= n_core || most <= 0)
        return;
    const double working = sum / most * n_thread / w->n_rank; /* threads, on average */
    const double factor = max2(working, n_core) / n_thread;
    for (int32_t r = 0; r < w->n_rank; r++)
        us[r] *= factor;
}

/* work_us: attention and router of each source; shared_us: its shared experts. */
static void source_us(walk *w, const part *p)
{
    const shoal__costs *c = w->c;
    for (int32_t r = 0; r < w->n_rank; r++) {
        const int32_t n_row = p->n_row[r];
        int64_t n_away = 0;
        for (int32_t d = 0; d < w->n_rank; d++)
            n_away += d != r ? p->routed.rows[at(w, r, d)] : 0;
        w->work_us[r] = shoal__attention_us(c, r, n_row, (double)w->step->n_chunk[r]) +
                        shoal__route_us(c, r, n_row, n_row > 0 ? (double)n_away / n_row : 0);
        w->shared_us[r] = shoal__shared_us(c, r, n_row);
    }
    share_cores(w, w->work_us);
    share_cores(w, w->shared_us);
}

/* Attention, router, and the rows leave; to every rank that has experts, if only a header. */
static void send_rows(walk *w, part *p)
{
    double slowest_us = 0;
    reset(w, p);
    source_us(w, p);
    for (int32_t r = 0; r < w->n_rank; r++) {
        if (w->step->n_row[r] == 0)
            continue;
        slowest_us = max2(slowest_us, w->work_us[r] + w->shared_us[r]);
        w->clock_us[r] += w->work_us[r];
        for (int32_t i = 1; i < w->n_rank; i++) {
            const int32_t d = (r + i) % w->n_rank;
            if (has_experts(w, d))
                send_part(w, p, r, d,
                          shoal__dispatch_message_bytes(w->c, p->routed.rows[at(w, r, d)],
                                                        p->routed.slots[at(w, r, d)]));
        }
        w->clock_us[r] += w->shared_us[r]; /* while they travel */
    }
    w->attention_us += slowest_us;
}

/* work_us: what the experts of each rank take. */
static void experts_us(walk *w, const part *p)
{
    const shoal_placement *placement = w->c->placement;
    memset(w->work_us, 0, (size_t)w->n_rank * sizeof(double));
    for (int32_t e = 0; e < placement->n_expert; e++) {
        const int32_t owner = shoal_placement_owner(placement, w->layer, e);
        if (p->routed.chosen[e] > 0)
            w->work_us[owner] += shoal__expert_us(w->c, owner, p->routed.chosen[e]);
    }
    double sum = 0, most = 0;
    int32_t n = 0;
    for (int32_t r = 0; r < w->n_rank; r++) {
        int64_t n_row = 0, n_slot = 0, n_out = 0;
        for (int32_t s = 0; s < w->n_rank; s++) {
            n_row += p->routed.rows[at(w, s, r)];
            n_slot += p->routed.slots[at(w, s, r)];
            n_out += s != r ? results(w, p, s, r) : 0;
        }
        const int64_t n_in = n_row - p->routed.rows[at(w, r, r)];
        w->work_us[r] +=
            shoal__slots_us(w->c, r, (double)n_row, (double)n_slot, (double)n_in, (double)n_out);
    }
    share_cores(w, w->work_us);
    for (int32_t r = 0; r < w->n_rank; r++) {
        sum += w->work_us[r];
        n += has_experts(w, r);
        most = max2(most, w->work_us[r]);
    }
    const double mean = n > 0 ? sum / n : 0;
    w->experts_us += mean;
    w->imbalance_us += w->c->ideal.balance ? 0 : most - mean;
    for (int32_t r = 0; w->c->ideal.balance && r < w->n_rank; r++)
        w->work_us[r] = has_experts(w, r) ? mean : 0;
}

/* Experts of the rows that have come, and results leave. */
static void work(walk *w, part *p)
{
    experts_us(w, p);
    for (int32_t r = 0; r < w->n_rank; r++)
        if (has_experts(w, r))
            take(w, p, r);
    reset(w, p);
    for (int32_t r = 0; r < w->n_rank; r++) {
        if (!has_experts(w, r))
            continue;
        w->clock_us[r] += w->work_us[r];
        for (int32_t s = 0; s < w->n_rank; s++)
            if (s != r && p->routed.rows[at(w, s, r)] > 0)
                send_part(w, p, r, s,
                          shoal__combine_message_bytes(w->c, p->routed.rows[at(w, s, r)],
                                                       p->routed.slots[at(w, s, r)]));
    }
    p->away = true;
}

/* Some sequence has more than one row. */
static bool has_prompts(const walk *w)
{
    for (int32_t r = 0; r < w->n_rank; r++)
        if (w->step->n_row[r] > w->step->n_chunk[r])
            return true;
    return false;
}

/* One MoE layer with the choices of this draw. */
static void moe_layer(walk *w, int64_t draw)
{
    const shoal_routing *routing = w->c->run->routing;
    const bool prompts = routing->draw_prompt != NULL && has_prompts(w);
    for (int32_t i = 0; i < w->n_part; i++) {
        part *p = &w->part[i];
        int64_t n_token = 0;
        collect(w, p);
        for (int32_t r = 0; r < w->n_rank; r++)
            n_token += p->n_row[r];
        (prompts ? routing->draw_prompt : routing->draw)(routing->source, w->expert, w->layer,
                                                         draw * w->n_part + i, (int32_t)n_token);
        shoal_routing_step_fill(&p->routed, w->c->placement, w->layer, w->expert, routing->top_k,
                                p->n_row);
        send_rows(w, p);
    }
    for (int32_t i = 0; i < w->n_part; i++)
        work(w, &w->part[i]);
}

static double latest(const walk *w)
{
    double us = 0;
    for (int32_t r = 0; r < w->n_rank; r++)
        us = max2(us, w->clock_us[r]);
    return us;
}

static void begin(walk *w)
{
    memset(w->clock_us, 0, (size_t)w->n_rank * sizeof(double));
    w->clock_us[0] = shoal__control_us(w->c, w->step->n_sequence);
    for (int32_t r = 1; r < w->n_rank; r++) {
        const double tokens = 64 + 8.0 * w->step->n_row[r];
        w->clock_us[r] = send(w, 0, r, tokens);
    }
    w->n_bytes = w->n_message = 0;
}

/* What comes behind the layers: logits and draws, and results go to rank 0. */
static void end(walk *w, shoal_step_prediction *out)
{
    double before = latest(w);
    for (int32_t r = 0; r < w->n_rank; r++)
        w->clock_us[r] =
            before + (w->step->n_row[r] > 0
                          ? shoal__logits_us(w->c, r, w->step->n_row[r], w->step->n_logit[r])
                          : 0);
    out->logits_us = latest(w) - before;
    before = latest(w);
    for (int32_t r = 1; r < w->n_rank; r++)
        if (w->step->n_row[r] > 0)
            w->clock_us[0] = max2(w->clock_us[0], send(w, r, 0, 64 + 8.0 * w->step->n_logit[r]));
    out->control_us += latest(w) - before;
    out->step_us = latest(w);
}

static double dense_us(const walk *w)
{
    const shoal_spec *s = w->c->run->spec;
    const int32_t n_dense = s->n_layer - s->n_moe_layer;
    double most = 0;
    for (int32_t r = 0; r < w->n_rank && n_dense > 0; r++)
        most = max2(most, shoal__attention_us(w->c, r, w->step->n_row[r], w->step->n_chunk[r]) +
                              shoal__dense_us(w->c, r, w->step->n_row[r]));
    return most * n_dense;
}

/* Layers simulated: more where a step has few rows and chance counts most. */
static int32_t chain_length(const walk *w, int64_t n_token)
{
    const double per_layer = (double)n_token * w->c->run->routing->top_k * 4 +
                             (double)w->n_rank * w->n_rank * 4 + w->c->placement->n_expert;
    const double n = w->c->n_work / per_layer;
    return n < CHAIN_MIN ? CHAIN_MIN : n > CHAIN_MAX ? CHAIN_MAX : (int32_t)n;
}

static void run(walk *w, shoal_step_prediction *out, int64_t n_token)
{
    const int32_t n_moe = w->c->run->spec->n_moe_layer, n_chain = chain_length(w, n_token);
    begin(w);
    out->control_us = latest(w);
    double begun = 0;
    for (int32_t i = 0; i < n_chain && n_moe > 0; i++) {
        if (i == WARM_UP) {
            begun = latest(w);
            w->attention_us = w->experts_us = w->imbalance_us = w->n_bytes = w->n_message = 0;
        }
        w->layer = (int32_t)((int64_t)i * n_moe / n_chain);
        moe_layer(w, i);
    }
    const double scale = n_moe / (double)(n_chain - WARM_UP);
    const double chain = n_moe > 0 ? (latest(w) - begun) * scale : 0, dense = dense_us(w);
    out->exchange_bytes = w->n_bytes * scale;
    out->exchange_messages = w->n_message * scale;
    out->attention_us = dense + w->attention_us * scale;
    out->experts_us = w->experts_us * scale;
    out->imbalance_us = w->imbalance_us * scale;
    for (int32_t r = 0; r < w->n_rank; r++)
        w->clock_us[r] = out->control_us + dense + chain;
    for (int32_t h = 0; h < w->cluster->n_host; h++) /* the chain's own time ends here */
        w->sends_us[h] = w->takes_us[h] = 0;
    end(w, out);
    out->exchange_us = out->step_us - out->control_us - out->attention_us - out->experts_us -
                       out->imbalance_us - out->logits_us;
}

shoal_status shoal__lockstep(shoal_step_prediction *out, const shoal__costs *c,
                             const shoal__step *step, shoal_log *log)
{
    int64_t n_token = 0;
    for (int32_t r = 0; r < c->placement->n_rank; r++)
        n_token += step->n_row[r];
    walk w = {.c = c,
              .cluster = c->run->cluster,
              .step = step,
              .log = log,
              .n_rank = c->placement->n_rank};
    const shoal_status status = shoal__walk_open(&w, n_token);
    if (status == SHOAL_OK) {
        *out = (shoal_step_prediction){.tokens = (double)n_token};
        run(&w, out, n_token);
    }
    shoal__walk_close(&w);
    return status;
}
