/* Shares of experts and sequences. For each set of ranks that may hold sequences, the fastest 1, 2,
 * 3, 4, 6, 8, ... and all: experts go where they stream fastest, as far as memory goes; the model
 * says how fast that is; the best set wins, all ranks where it is close. */
#include "launcher/predict/costs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A set that leaves ranks without sequences must be this much faster than the one with all. */
#define WORTH_IT 1.03
#define BETTER   1.01 /* than a smaller set */

typedef struct chooser {
    const shoal_predict_run *run;
    shoal_log *log;
    int32_t n_rank;
    double *number;            /* behind the arrays of numbers */
    double *expert, *sequence; /* [n_rank] the shares of the candidate */
    double *best_expert, *best_sequence;
    double *room;              /* [n_rank] bytes of experts that a rank has room for */
    double *attention_speed;   /* [n_rank] */
    int32_t *order;            /* [n_rank] fastest attention first */
    shoal_rank_memory *memory; /* [n_rank] */
    shoal_model_measured measured;
} chooser;

/* Weighted by a pass's bytes: what a rank streams of it. */
static double stream_gb_per_s(const shoal_pass_work *work, const shoal_cluster_rank *rank)
{
    double n_bytes = 0, us = 0;
    for (shoal_format f = 0; f < SHOAL_N_FORMAT; f++) {
        n_bytes += (double)work->n_bytes[f];
        us += (double)work->n_bytes[f] / shoal__read_gb_per_s(rank, f);
    }
    return us > 0 ? n_bytes / us : shoal__read_gb_per_s(rank, SHOAL_FORMAT_F32);
}

/* Shares in proportion to speed, but no share above its room: what is above is spread over the
 * others, again in proportion. Without enough room for all: in proportion to room. */
static void fill_water(double *share, const double *speed, const double *room, double total,
                       int32_t n)
{
    double room_all = 0;
    for (int32_t r = 0; r < n; r++)
        room_all += room[r];
    bool full[SHOAL_MAX_RANK] = {false};
    double left = total;
    for (int32_t round = 0; round <= n; round++) {
        double speed_left = 0;
        bool any = false;
        for (int32_t r = 0; r < n; r++)
            speed_left += full[r] ? 0 : speed[r];
        if (room_all <= total || speed_left <= 0)
            break;
        for (int32_t r = 0; r < n; r++) {
            if (full[r])
                continue;
            share[r] = left * speed[r] / speed_left;
            any = any || share[r] > room[r];
        }
        if (!any)
            return;
        double taken = 0;
        for (int32_t r = 0; r < n; r++) {
            if (full[r] || share[r] <= room[r])
                continue;
            share[r] = room[r];
            taken += room[r];
            full[r] = true;
        }
        left -= taken;
    }
    for (int32_t r = 0; r < n; r++)
        share[r] = room_all > 0 ? room[r] : speed[r];
}

static double expert_bytes(const shoal_model_measured *m)
{
    double n_bytes = 0;
    for (shoal_format f = 0; f < SHOAL_N_FORMAT; f++)
        n_bytes += (double)m->expert.n_bytes[f];
    return n_bytes;
}

static shoal_status open_placement(shoal_placement *placement, const chooser *c)
{
    const shoal_spec *s = c->run->spec;
    return shoal_placement_open(placement, s->n_moe_layer, s->router.n_expert, s->router.n_group,
                                c->n_rank, c->expert, c->sequence, c->log);
}

/* Memory of the candidate as it stands, into c->memory. */
static shoal_status measure(chooser *c, shoal_placement *placement)
{
    SHOAL_TRY(open_placement(placement, c));
    shoal_status status = shoal_predict_memory(c->memory, &c->measured, c->run, placement, c->log);
    if (status != SHOAL_OK)
        shoal_placement_close(placement);
    return status;
}

/* How much is over, of all ranks, in bytes. */
static double overflow(const chooser *c)
{
    const shoal_cluster *cluster = c->run->cluster;
    double over = 0;
    for (int32_t h = 0; h < cluster->n_host; h++)
        over += shoal_predict_host_over(cluster, c->memory, h);
    for (int32_t r = 0; r < c->n_rank; r++) {
        const double room = shoal_predict_room(cluster, c->memory, r);
        const double taken = (double)c->memory[r].total_bytes;
        over += taken > room ? taken - room : 0;
    }
    return over;
}

/* What a rank has room for beside all else; margin: kept free of it. */
static void find_room(chooser *c, double margin)
{
    for (int32_t r = 0; r < c->n_rank; r++) {
        const shoal_rank_memory *m = &c->memory[r];
        const double room = shoal_predict_room(c->run->cluster, c->memory, r) -
                            (double)(m->total_bytes - m->expert_bytes) - margin;
        c->room[r] = room > 0 ? room : 0;
    }
}

/* Experts for the sequences' shares in c->sequence, *placement and c->memory. Placements round
 * shares to whole experts, or to groups where these are near, and buffers hang on the experts a
 * little: where a rank is over, the second try leaves an expert of each layer free. */
static shoal_status share_experts(chooser *c, shoal_placement *placement)
{
    const shoal_spec *s = c->run->spec;
    double speed[SHOAL_MAX_RANK];
    for (int32_t r = 0; r < c->n_rank; r++)
        c->expert[r] = speed[r] = stream_gb_per_s(&c->measured.expert, &c->run->cluster->rank[r]);
    SHOAL_TRY(measure(c, placement));
    const double one = expert_bytes(&c->measured);
    for (int32_t n_free = 2;; n_free = s->n_moe_layer) {
        shoal_placement_close(placement);
        find_room(c, n_free * one);
        fill_water(c->expert, speed, c->room, one * s->n_moe_layer * s->router.n_expert, c->n_rank);
        SHOAL_TRY(measure(c, placement));
        if (overflow(c) <= 0 || n_free == s->n_moe_layer)
            return SHOAL_OK;
    }
}

/* Seconds for a request of every sequence. */
static double seconds(const shoal_predict_run *run, const shoal_speed *speed)
{
    const double n = run->n_sequence;
    return n * run->n_prompt / speed->prefill_tok_per_s + n * run->n_gen / speed->decode_tok_per_s;
}

typedef struct verdict {
    double over_bytes, seconds;
} verdict;

/* Sequences on the first n_source of c->order. */
static void set_sources(chooser *c, int32_t n_source)
{
    memset(c->sequence, 0, (size_t)c->n_rank * sizeof *c->sequence);
    for (int32_t i = 0; i < n_source; i++)
        c->sequence[c->order[i]] = c->attention_speed[c->order[i]];
}

static shoal_status try_sources(verdict *found, chooser *c, int32_t n_source)
{
    shoal_placement placement;
    set_sources(c, n_source);
    SHOAL_TRY(share_experts(c, &placement));
    found->over_bytes = overflow(c);
    if (found->over_bytes > 0) { /* how fast is no matter */
        shoal_placement_close(&placement);
        return SHOAL_OK;
    }
    shoal_speed speed;
    shoal_status status =
        shoal_predict_speed(&speed, c->run, &placement, &c->measured, false, c->log);
    shoal_placement_close(&placement);
    found->seconds = status == SHOAL_OK ? seconds(c->run, &speed) : 0;
    return status;
}

static bool is_better(const verdict *a, const verdict *b, double factor)
{
    if (a->over_bytes > 0 || b->over_bytes > 0)
        return a->over_bytes < b->over_bytes;
    return a->seconds * factor < b->seconds;
}

static void keep(chooser *c)
{
    memcpy(c->best_expert, c->expert, (size_t)c->n_rank * sizeof *c->expert);
    memcpy(c->best_sequence, c->sequence, (size_t)c->n_rank * sizeof *c->sequence);
}

/* Fastest attention first; ties: the lower rank. */
static void sort_ranks(chooser *c)
{
    for (int32_t i = 0; i < c->n_rank; i++) {
        int32_t at = i;
        while (at > 0 && c->attention_speed[i] > c->attention_speed[c->order[at - 1]]) {
            c->order[at] = c->order[at - 1];
            at--;
        }
        c->order[at] = i;
    }
}

/* What everything weighs, from a first look at equal shares, and who is fast. */
static shoal_status look(chooser *c)
{
    shoal_placement placement;
    for (int32_t r = 0; r < c->n_rank; r++)
        c->expert[r] = c->sequence[r] = 1;
    SHOAL_TRY(measure(c, &placement));
    shoal_placement_close(&placement);
    for (int32_t r = 0; r < c->n_rank; r++)
        c->attention_speed[r] = stream_gb_per_s(&c->measured.attention, &c->run->cluster->rank[r]);
    sort_ranks(c);
    return SHOAL_OK;
}

static shoal_status choose(chooser *c)
{
    verdict best, found;
    SHOAL_TRY(look(c));
    SHOAL_TRY(try_sources(&best, c, c->n_rank));
    keep(c);
    double factor = WORTH_IT;
    for (int32_t n = 1, step = 1; n < c->n_rank; n += step) {
        SHOAL_TRY(try_sources(&found, c, n));
        if (is_better(&found, &best, factor)) {
            best = found;
            factor = BETTER;
            keep(c);
        }
        step = n >= 8 ? n / 2 : n >= 4 ? 2 : 1;
    }
    return SHOAL_OK;
}

/* Least bytes over, with sequences on all or on one. */
static shoal_status least_overflow(shoal_overflow *least, chooser *c)
{
    SHOAL_TRY(look(c));
    for (int32_t i = 0; i < 2; i++) {
        shoal_placement placement;
        set_sources(c, i == 0 ? c->n_rank : 1);
        SHOAL_TRY(share_experts(c, &placement));
        shoal_placement_close(&placement);
        const double over = overflow(c);
        const shoal_rank_memory *source = &c->memory[c->order[0]];
        if (i > 0 && over >= least->over_bytes)
            continue;
        *least =
            (shoal_overflow){.over_bytes = over,
                             .source_bytes = (double)(source->total_bytes - source->expert_bytes)};
    }
    return SHOAL_OK;
}

static shoal_status open_chooser(chooser *c)
{
    const size_t n = (size_t)c->n_rank;
    c->number = calloc(6 * n, sizeof *c->number);
    c->order = calloc(n, sizeof *c->order);
    c->memory = calloc(n, sizeof *c->memory);
    if (c->number == NULL || c->order == NULL || c->memory == NULL)
        return shoal_fail(c->log, SHOAL_NO_MEMORY, "no memory to weigh %zu ranks", n);
    c->expert = c->number;
    c->sequence = c->number + n;
    c->best_expert = c->number + 2 * n;
    c->best_sequence = c->number + 3 * n;
    c->room = c->number + 4 * n;
    c->attention_speed = c->number + 5 * n;
    return SHOAL_OK;
}

static void close_chooser(chooser *c)
{
    free(c->number);
    free(c->order);
    free(c->memory);
}

shoal_status shoal_predict_weights(double *expert_weight, double *sequence_weight,
                                   const shoal_predict_run *run, shoal_log *log)
{
    const size_t n = (size_t)run->cluster->n_rank;
    chooser c = {.run = run, .log = log, .n_rank = run->cluster->n_rank};
    shoal_status status = open_chooser(&c);
    if (status == SHOAL_OK)
        status = choose(&c);
    if (status == SHOAL_OK) {
        memcpy(expert_weight, c.best_expert, n * sizeof *expert_weight);
        memcpy(sequence_weight, c.best_sequence, n * sizeof *sequence_weight);
    }
    close_chooser(&c);
    return status;
}

shoal_status shoal_predict_overflow(shoal_overflow *least, const shoal_predict_run *run,
                                    shoal_log *log)
{
    chooser c = {.run = run, .log = log, .n_rank = run->cluster->n_rank};
    shoal_status status = open_chooser(&c);
    if (status == SHOAL_OK)
        status = least_overflow(least, &c);
    close_chooser(&c);
    return status;
}
