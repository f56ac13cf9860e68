/* What would fit where the cluster does not: other --weights on the same ranks, and more ranks like
 * the last. */
#include "launcher/plan/plan.h"

#include <stdlib.h>
#include <string.h>

/* The cluster with n_rank ranks: its own first, then hosts like its last one. */
static shoal_status grow(shoal_cluster *grown, const shoal_cluster *cluster, int32_t n_rank,
                         shoal_log *log)
{
    const int32_t n = cluster->n_rank;
    if (n_rank <= n)
        return shoal_cluster_first(grown, cluster, n_rank, log);
    SHOAL_TRY(shoal_cluster_open(grown, cluster->n_host + n_rank - n, n_rank, log));
    memcpy(grown->host, cluster->host, (size_t)cluster->n_host * sizeof *grown->host);
    memcpy(grown->rank, cluster->rank, (size_t)n * sizeof *grown->rank);
    for (int32_t i = 0; i < n_rank - n; i++) {
        const int32_t host = cluster->n_host + i;
        grown->host[host] = cluster->host[cluster->rank[n - 1].host];
        grown->rank[n + i] = cluster->rank[n - 1];
        grown->rank[n + i].host = host;
    }
    return SHOAL_OK;
}

static shoal_status fits(bool *yes, shoal__plan_advice *a, const shoal__plan *plan, int32_t n_rank)
{
    shoal_cluster cluster;
    shoal_overflow least = {0};
    SHOAL_TRY(grow(&cluster, &plan->cluster, n_rank, plan->log));
    shoal_predict_run run = plan->run;
    run.cluster = &cluster;
    run.weights = a->weights;
    const shoal_status status = shoal_predict_overflow(&least, &run, plan->log);
    shoal_cluster_close(&cluster);
    *yes = least.over_bytes <= 0;
    a->source_bytes = least.source_bytes;
    return status;
}

/* a->n_rank: the fewest ranks above n_rank, which is too few; 0 if there is no such number. A rank
 * that has no room for what a sequence needs stays so, however many there are. */
static shoal_status fewest(shoal__plan_advice *a, const shoal__plan *plan, int32_t n_rank)
{
    int32_t low = n_rank, high = n_rank;
    bool yes = false;
    double room = 0;
    for (int32_t r = 0; r < n_rank; r++)
        if ((double)plan->cluster.rank[r].memory_bytes > room)
            room = (double)plan->cluster.rank[r].memory_bytes;
    a->n_rank = 0;
    if (a->source_bytes > room)
        return SHOAL_OK;
    while (!yes && high < SHOAL_MAX_RANK) {
        low = high;
        high = 2 * high < SHOAL_MAX_RANK ? 2 * high : SHOAL_MAX_RANK;
        SHOAL_TRY(fits(&yes, a, plan, high));
    }
    if (!yes)
        return SHOAL_OK;
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        SHOAL_TRY(fits(&yes, a, plan, middle));
        if (yes)
            high = middle;
        else
            low = middle;
    }
    a->n_rank = high;
    return SHOAL_OK;
}

shoal_status shoal__plan_advise(shoal__plan *plan)
{
    const int32_t n_rank = plan->count[plan->n_count - 1].n_rank;
    for (shoal_weights_choice w = SHOAL_WEIGHTS_NATIVE; w <= SHOAL_WEIGHTS_Q4; w++) {
        shoal__plan_advice *a = &plan->advice[w];
        *a = (shoal__plan_advice){.weights = w, .n_rank = n_rank};
        SHOAL_TRY(fits(&a->here, a, plan, n_rank));
        if (!a->here)
            SHOAL_TRY(fewest(a, plan, n_rank));
    }
    plan->has_advice = true;
    return SHOAL_OK;
}
