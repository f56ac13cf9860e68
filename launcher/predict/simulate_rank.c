#include "launcher/predict/simulate_private.h"

#include "comm/sim/sim.h"

#include <string.h>

/* What a virtual rank has to itself. */
typedef struct worker {
    shoal__world *w;
    int32_t rank;
    shoal_transport *transport;
    shoal_comm *comm;
    shoal_arena arena;
    shoal_exchange exchange;
    int32_t *n_slot; /* [n_expert] of each local expert */
} worker;

static void carve_worker(worker *k)
{
    const shoal__world *w = k->w;
    const shoal_exchange_config config = {.n_rank = w->n_rank,
                                          .rank = k->rank,
                                          .n_embd = w->n_embd,
                                          .top_k = w->top_k,
                                          .n_token_max = w->n_token_max,
                                          .n_local_max = w->n_local_max,
                                          .may_source = w->is_source,
                                          .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES,
                                          .wire = w->measured->wire};
    const shoal_compute compute = {.kernels = w->kernels};
    shoal_exchange_carve(&k->exchange, shoal_arenas_same(&k->arena), &config, &compute);
    k->n_slot = SHOAL_TAKE(&k->arena, w->n_expert, int32_t);
}

/* Time since *at_us goes to a part. */
static void charge(worker *k, shoal__counts *c, shoal__part_time p, double *at_us)
{
    const double now_us = shoal_sim_clock_us(k->transport);
    c->part_us[p] += now_us - *at_us;
    *at_us = now_us;
}

/* Of a source with its rows: norm to router, and what travels while shared experts run. */
static double attention_us(const worker *k)
{
    const shoal__world *w = k->w;
    const shoal_plan *plan = &k->exchange.plan;
    const int32_t n_row = w->tokens[k->rank];
    const int32_t n_own = plan->send_row_offset[k->rank + 1] - plan->send_row_offset[k->rank];
    const int32_t n_away = plan->send_row_offset[w->n_rank] - n_own;
    if (n_row == 0)
        return 0;
    return shoal__attention_us(&w->costs, k->rank, n_row, n_row) +
           shoal__route_us(&w->costs, k->rank, n_row, (double)n_away / n_row);
}

static double experts_us(const worker *k)
{
    const shoal__world *w = k->w;
    const shoal_recv *recv = &k->exchange.recv;
    const bool exact = k->exchange.plan.kind == SHOAL_COMBINE_EXACT;
    const int32_t r = k->rank,
                  n_row = recv->n_row - (recv->row_offset[r + 1] - recv->row_offset[r]);
    const int32_t n_slot = recv->n_slot - (recv->slot_offset[r + 1] - recv->slot_offset[r]);
    double us =
        shoal__slots_us(&w->costs, r, recv->n_row, recv->n_slot, n_row, exact ? n_slot : n_row);
    memset(k->n_slot, 0, (size_t)w->n_expert * sizeof *k->n_slot);
    for (int32_t i = 0; i < recv->n_slot; i++)
        k->n_slot[recv->slot_expert[i]]++;
    for (int32_t e = 0; e < w->n_local_max[k->rank]; e++)
        if (k->n_slot[e] > 0)
            us += shoal__expert_us(&w->costs, k->rank, k->n_slot[e]);
    return us;
}

/* Results that come from other ranks. */
static int32_t results_home(const worker *k)
{
    const shoal_plan *plan = &k->exchange.plan;
    const int32_t *offset =
        plan->kind == SHOAL_COMBINE_EXACT ? plan->send_slot_offset : plan->send_row_offset;
    return offset[k->w->n_rank] - (offset[k->rank + 1] - offset[k->rank]);
}

/* Bytes and messages that comm counted since `before`. */
static void count_sent(const worker *k, shoal_comm_counters before, uint64_t *n_bytes,
                       uint64_t *n_message)
{
    const shoal_comm_counters *now = shoal_comm_count(k->comm);
    *n_bytes += now->sent_bytes - before.sent_bytes;
    *n_message += now->sent_messages - before.sent_messages;
}

static uint64_t bare_messages(const worker *k, const bool *is_target)
{
    const shoal__world *w = k->w;
    uint64_t n = 0;
    for (int32_t d = 0; w->is_source[k->rank] && d < w->n_rank; d++)
        n += d != k->rank && is_target[d] &&
             k->exchange.plan.send_row_offset[d + 1] == k->exchange.plan.send_row_offset[d];
    return n;
}

static shoal_status send_rows(worker *k, shoal__counts *c, int32_t layer, double *at_us)
{
    const shoal__world *w = k->w;
    const int32_t n_row = w->tokens[k->rank];
    const size_t first = (size_t)layer * (size_t)w->n_token + (size_t)w->first[k->rank];
    const size_t of_layer = (size_t)layer * (size_t)w->n_expert;
    const bool *is_target = w->is_target + (size_t)layer * (size_t)w->n_rank;
    shoal_plan_build(&k->exchange, w->expert + first * (size_t)w->top_k, w->weight, n_row,
                     w->owner + of_layer, w->local + of_layer, w->is_source, is_target);
    shoal_sim_compute(k->transport, attention_us(k));
    charge(k, c, SHOAL__PART_ATTENTION, at_us);
    const shoal_comm_counters before = *shoal_comm_count(k->comm);
    const shoal_rows rows = {.f32 = w->row};
    SHOAL_TRY(shoal_dispatch_begin(&k->exchange, k->comm, rows, 0, layer));
    count_sent(k, before, &c->dispatch_bytes, &c->dispatch_messages);
    c->bare_messages += bare_messages(k, is_target);
    charge(k, c, SHOAL__PART_SEND, at_us);
    if (n_row > 0)
        shoal_sim_compute(k->transport, shoal__shared_us(&w->costs, k->rank, n_row));
    charge(k, c, SHOAL__PART_ATTENTION, at_us);
    return SHOAL_OK;
}

static shoal_status one_layer(worker *k, shoal__counts *c, int32_t layer)
{
    shoal__world *w = k->w;
    shoal_exchange *x = &k->exchange;
    const int32_t n_row = w->tokens[k->rank];
    double at_us = shoal_sim_clock_us(k->transport);
    SHOAL_TRY(send_rows(k, c, layer, &at_us));
    SHOAL_TRY(shoal_dispatch_end(x, k->comm, 0, layer));
    charge(k, c, SHOAL__PART_DISPATCH, &at_us);
    shoal_sim_compute(k->transport, experts_us(k));
    charge(k, c, SHOAL__PART_EXPERTS, &at_us);
    for (int32_t i = 0; i < x->recv.n_slot; i++)
        x->recv.slot_done[i] = 0; /* one row of results serves for all */
    const shoal_comm_counters before = *shoal_comm_count(k->comm);
    SHOAL_TRY(shoal_combine_begin(x, k->comm, w->row));
    count_sent(k, before, &c->combine_bytes, &c->combine_messages);
    charge(k, c, SHOAL__PART_SEND, &at_us);
    SHOAL_TRY(shoal_combine_end(w->acc, x, k->comm));
    if (n_row > 0)
        shoal_sim_compute(k->transport,
                          shoal__collect_us(&w->costs, k->rank, n_row, (double)n_row * w->top_k,
                                            results_home(k)));
    charge(k, c, SHOAL__PART_COMBINE, &at_us);
    return SHOAL_OK;
}

static shoal_status all_layers(worker *k)
{
    shoal__world *w = k->w;
    shoal__counts *c = &w->counts[k->rank], first = {0};
    SHOAL_TRY(one_layer(k, &first, 0));
    c->begun_us = shoal_sim_clock_us(k->transport);
    const uint64_t received = shoal_comm_count(k->comm)->received_messages;
    for (int32_t l = 1; l < w->n_layer; l++)
        SHOAL_TRY(one_layer(k, c, l));
    c->ended_us = shoal_sim_clock_us(k->transport);
    c->received_messages = shoal_comm_count(k->comm)->received_messages - received;
    return shoal_exchange_drain(&k->exchange, k->comm);
}

shoal_status shoal__simulate_rank(void *arg, int32_t rank, shoal_transport *transport)
{
    shoal__world *w = arg;
    worker k = {.w = w, .rank = rank, .transport = transport};
    /* Virtual time is free: nobody is to be blamed for a slow link. */
    const shoal_comm_config config = {.deadline_s = 1e6};
    SHOAL_TRY(shoal_comm_open(&k.comm, transport, &config, w->log));
    shoal_arena_measure(&k.arena, "simulated exchange");
    carve_worker(&k);
    shoal_status status = shoal_arena_open(&k.arena, w->log);
    if (status == SHOAL_OK)
        carve_worker(&k);
    status = shoal_comm_agree(k.comm, status, "making room for a simulated rank");
    if (status == SHOAL_OK)
        status = all_layers(&k);
    (void)shoal_comm_close(k.comm, status);
    shoal_arena_close(&k.arena);
    return status;
}
