#include "launcher/bench.h"

#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* One more read than the best needs: the first of a pair warms the clocks up. */
enum { N_READ = 2 };

static shoal_status gather_doubles(double **all, shoal_session *s, const double *mine, int32_t n)
{
    double *list = NULL;
    if (s->rank == 0) {
        list = calloc((size_t)s->n_rank * (size_t)n, sizeof *list);
        if (list == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for figures of %d ranks",
                              (int)s->n_rank);
    }
    const shoal_status status = shoal_comm_gather(s->comm, list, mine, (size_t)n * sizeof *mine, 0);
    if (status != SHOAL_OK) {
        free(list);
        return status;
    }
    *all = list;
    return SHOAL_OK;
}

static shoal_status measure_peaks(shoal__bench *b, shoal_session *s)
{
    shoal_peaks mine = {0};
    SHOAL_TRY(shoal_comm_agree(s->comm, SHOAL_OK, "measuring")); /* all at the same time */
    if (s->devices.own == NULL)
        shoal_yardstick_peaks(&mine, &b->yardstick);
    const double list[3] = {mine.int8_gop_per_s, mine.f32_gflop_per_s, mine.pool_job_us};
    double *all = NULL;
    SHOAL_TRY(gather_doubles(&all, s, list, 3));
    b->peaks = (shoal_peaks){0};
    for (int32_t r = 0; all != NULL && r < s->n_rank; r++) {
        const double *of = all + (size_t)r * 3;
        b->peaks.int8_gop_per_s += of[0];
        b->peaks.f32_gflop_per_s += of[1];
        if (of[2] > b->peaks.pool_job_us)
            b->peaks.pool_job_us = of[2];
    }
    free(all);
    return SHOAL_OK;
}

/* Of the host's memory a buffer, of a device's the weights. */
static double read_once(shoal__bench *b, const shoal_session *s)
{
    shoal_device *device = s->devices.own;
    if (device == NULL)
        return shoal_yardstick_read(&b->yardstick);
    size_t n_bytes;
    const void *weights = shoal_model_device_weights(s->model, &n_bytes);
    return device->ops->read_gb_per_s(device, weights, n_bytes);
}

static shoal_status read_memory(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                                int32_t run)
{
    double best = 0;
    SHOAL_TRY(shoal_comm_agree(s->comm, SHOAL_OK, "measuring"));
    for (int32_t i = 0; i < N_READ; i++) {
        const double speed = read_once(b, s);
        best = speed > best ? speed : best;
    }
    double *all = NULL;
    SHOAL_TRY(gather_doubles(&all, s, &best, 1));
    for (int32_t r = 0; all != NULL && r < s->n_rank; r++)
        c->read[run] += all[r];
    free(all);
    return SHOAL_OK;
}

/* part += sign * this rank's totals now. */
static void add_totals(shoal__bench_part *part, const shoal_session *s, int64_t sign)
{
    const shoal_engine_counters *count = shoal_engine_count(s->engine);
    const shoal_work_counters *work = shoal_model_work(s->model);
    const uint64_t factor = (uint64_t)sign;
    part->n_step += sign * count->n_step;
    part->step_us += sign * count->step_us;
    shoal_phase_times_add(&part->times, &count->times, sign);
    part->work.weight_bytes += factor * work->weight_bytes;
    part->work.cache_bytes += factor * work->cache_bytes;
    part->work.n_mac += factor * work->n_mac;
    part->work.n_slot += factor * work->n_slot;
    part->sent_bytes += factor * shoal_comm_count(s->comm)->sent_bytes;
}

static void add_drafted(shoal_engine_counters *sum, const shoal_session *s, int64_t sign)
{
    const shoal_engine_counters *now = shoal_engine_count(s->engine);
    sum->n_exchange += sign * now->n_exchange;
    sum->n_decode_step += sign * now->n_decode_step;
    sum->n_decode_token += sign * now->n_decode_token;
    sum->n_draft_proposed += sign * now->n_draft_proposed;
    sum->n_draft_accepted += sign * now->n_draft_accepted;
}

/* Rank 0's part, then the end of serving; elsewhere serve. */
static shoal_status run_together(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                                 shoal_status (*of_rank_0)(shoal__bench *, shoal_session *,
                                                           shoal__bench_case *))
{
    if (s->rank != 0)
        return shoal_engine_serve(s->engine);
    SHOAL_TRY(of_rank_0(b, s, c));
    return shoal_engine_stop(s->engine);
}

static shoal_status run_part(shoal__bench *b, shoal_session *s, shoal__bench_case *c, int32_t kind)
{
    shoal__bench_part *part = &b->mine.part[kind];
    shoal__bench_slots *slots = &b->slots[kind];
    shoal_model_log_slots(s->model, slots->n_slot + slots->n, slots->n_max - slots->n);
    add_totals(part, s, -1);
    if (c != NULL && kind == SHOAL__BENCH_DECODE)
        add_drafted(&c->drafted, s, -1);
    SHOAL_TRY(run_together(
        b, s, c, kind == SHOAL__BENCH_PREFILL ? shoal__bench_prefill : shoal__bench_decode));
    if (c != NULL && kind == SHOAL__BENCH_DECODE)
        add_drafted(&c->drafted, s, 1);
    add_totals(part, s, 1);
    slots->n += shoal_model_n_logged(s->model);
    slots->n = slots->n < slots->n_max ? slots->n : slots->n_max;
    shoal_model_log_slots(s->model, NULL, 0);
    return SHOAL_OK;
}

/* Sum over exchanges of the most slots of a rank / of the mean; 1 without any. all: [n_rank, n]. */
static double imbalance_of(const int32_t *all, int32_t n_rank, int64_t n)
{
    double most = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t largest = 0;
        for (int32_t r = 0; r < n_rank; r++) {
            const int32_t n_slot = all[(int64_t)r * n + i];
            total += n_slot;
            largest = n_slot > largest ? n_slot : largest;
        }
        most += largest;
    }
    return total > 0 ? most / (total / n_rank) : 1;
}

/* How many exchanges were noted is the same everywhere: all ranks run them together. */
static shoal_status gather_slots(shoal__bench *b, shoal_session *s, shoal__bench_case *c)
{
    for (int32_t kind = 0; kind < SHOAL__BENCH_N_PART; kind++) {
        shoal__bench_slots *slots = &b->slots[kind];
        int32_t *all = NULL;
        if (s->rank == 0) {
            all = calloc((size_t)s->n_rank * (size_t)slots->n + 1, sizeof *all);
            if (all == NULL)
                return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for slots of %d ranks",
                                  (int)s->n_rank);
        }
        const shoal_status status = shoal_comm_gather(s->comm, all, slots->n_slot,
                                                      (size_t)slots->n * sizeof *slots->n_slot, 0);
        if (status == SHOAL_OK && c != NULL && all != NULL)
            c->imbalance[kind] = imbalance_of(all, s->n_rank, slots->n);
        free(all);
        SHOAL_TRY(status);
        slots->n = 0;
    }
    return SHOAL_OK;
}

static shoal_status carry_out(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                              const shoal__bench_order *order)
{
    switch ((shoal__bench_order_kind)order->kind) {
    case SHOAL__BENCH_PEAKS:
        return measure_peaks(b, s);
    case SHOAL__BENCH_WARM_UP:
        return run_together(b, s, c, shoal__bench_warm_up);
    case SHOAL__BENCH_READ:
        return read_memory(b, s, c, order->run);
    case SHOAL__BENCH_RUN:
        return run_part(b, s, c, order->part);
    case SHOAL__BENCH_GATHER:
        SHOAL_TRY(
            shoal_comm_gather(s->comm, c != NULL ? c->rank : NULL, &b->mine, sizeof b->mine, 0));
        b->mine = (shoal__bench_rank){0};
        return gather_slots(b, s, c);
    case SHOAL__BENCH_END:
        break;
    }
    return SHOAL_OK;
}

shoal_status shoal__bench_do(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                             shoal__bench_order order)
{
    SHOAL_TRY(shoal_comm_bcast(s->comm, &order, sizeof order, 0));
    return carry_out(b, s, c, &order);
}

shoal_status shoal__bench_follow(shoal__bench *b, shoal_session *s)
{
    shoal__bench_order order = {0};
    do {
        SHOAL_TRY(shoal_comm_bcast(s->comm, &order, sizeof order, 0));
        SHOAL_TRY(carry_out(b, s, NULL, &order));
    } while (order.kind != SHOAL__BENCH_END);
    return SHOAL_OK;
}
