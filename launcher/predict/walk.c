/* Room for a walk, the parts that its step is cut into, and the rates of the hosts' cards. */
#include "launcher/predict/walk.h"

#include <stdlib.h>

static double max2(double a, double b)
{
    return a > b ? a : b;
}

double shoal__link_gb_per_s(const shoal_cluster_link *link)
{
    return link->gb_per_s > 0 ? link->gb_per_s : 1;
}

/* Parts as runtime/model/overlap.c cuts them. */
static int32_t n_part_of(const shoal__costs *c, int64_t n_token)
{
    const shoal_router_config *router = &c->run->spec->router;
    const int64_t per_part = (int64_t)c->run->overlap_rows * router->n_expert;
    if (per_part == 0 || c->placement->n_rank == 1)
        return 1;
    const int64_t n = n_token * router->top_k / per_part;
    return n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

/* What a host's card carries: as it says, but no more than the fastest of its links was found to.
 */
static void find_cards(shoal__walk *w)
{
    const shoal_cluster *c = w->cluster;
    for (int32_t from = 0; from < w->n_rank; from++) {
        for (int32_t to = 0; to < w->n_rank; to++) {
            const int32_t a = c->rank[from].host, b = c->rank[to].host;
            const double link = shoal__link_gb_per_s(shoal_cluster_link_at(c, from, to));
            if (a == b)
                continue;
            w->card_gb_per_s[a] = max2(w->card_gb_per_s[a], link);
            w->card_gb_per_s[b] = max2(w->card_gb_per_s[b], link);
        }
    }
    for (int32_t h = 0; h < c->n_host; h++) {
        const double said = c->host[h].nic_gb_per_s;
        if (said > 0 && said < w->card_gb_per_s[h])
            w->card_gb_per_s[h] = said;
    }
}

shoal_status shoal__walk_open(shoal__walk *w, int64_t n_token)
{
    w->n_part = n_part_of(w->c, n_token);
    const size_t n_rank = (size_t)w->n_rank, n_host = (size_t)w->cluster->n_host;
    const size_t n_part = (size_t)w->n_part;
    w->memory = calloc(3 * n_rank + 3 * n_host + 3 * n_part * n_rank, sizeof *w->memory);
    w->expert = malloc(((size_t)n_token + 1) * (size_t)w->c->run->routing->top_k * sizeof(int32_t));
    int32_t *rows = calloc(n_part * n_rank, sizeof *rows);
    w->part[0].n_row = rows;
    if (w->memory == NULL || w->expert == NULL || rows == NULL)
        return shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory for a step of %zu ranks", n_rank);
    double *next = w->memory;
    w->clock_us = next, next += n_rank;
    w->work_us = next, next += n_rank;
    w->shared_us = next, next += n_rank;
    w->sends_us = next, next += n_host;
    w->takes_us = next, next += n_host;
    w->card_gb_per_s = next, next += n_host;
    find_cards(w);
    for (size_t i = 0; i < n_part; i++) {
        shoal__walk_part *p = &w->part[i];
        p->n_row = rows + i * n_rank;
        p->arrived_us = next, next += n_rank;
        p->taken_us = next, next += n_rank;
        p->last_us = next, next += n_rank;
        SHOAL_TRY(shoal_routing_step_open(&p->routed, w->c->placement, w->log));
    }
    for (size_t r = 0; r < n_rank; r++) {
        int32_t row0 = 0;
        for (int32_t i = 0; i < w->n_part; i++) {
            const int32_t n_left = w->n_part - i;
            w->part[i].n_row[r] = (w->step->n_row[r] - row0 + n_left - 1) / n_left;
            row0 += w->part[i].n_row[r];
        }
    }
    return SHOAL_OK;
}

void shoal__walk_close(shoal__walk *w)
{
    free(w->memory);
    free(w->expert);
    free(w->part[0].n_row);
    for (int32_t i = 0; i < w->n_part; i++)
        shoal_routing_step_close(&w->part[i].routed);
}
