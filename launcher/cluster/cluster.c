#include "launcher/cluster/cluster.h"

#include <stdlib.h>
#include <string.h>

shoal_status shoal_cluster_open(shoal_cluster *cluster, int32_t n_host, int32_t n_rank,
                                shoal_log *log)
{
    shoal_cluster c = {.n_host = n_host, .n_rank = n_rank};
    c.host = calloc((size_t)n_host, sizeof *c.host);
    c.rank = calloc((size_t)n_rank, sizeof *c.rank);
    c.link = calloc((size_t)n_rank * (size_t)n_rank, sizeof *c.link);
    if (c.host == NULL || c.rank == NULL || c.link == NULL) {
        shoal_cluster_close(&c);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a cluster of %d ranks", (int)n_rank);
    }
    *cluster = c;
    return SHOAL_OK;
}

void shoal_cluster_close(shoal_cluster *cluster)
{
    free(cluster->host);
    free(cluster->rank);
    free(cluster->link);
    *cluster = (shoal_cluster){0};
}

shoal_cluster_link *shoal_cluster_link_at(const shoal_cluster *cluster, int32_t from, int32_t to)
{
    return &cluster->link[(size_t)from * (size_t)cluster->n_rank + (size_t)to];
}

shoal_status shoal_cluster_first(shoal_cluster *part, const shoal_cluster *cluster, int32_t n_rank,
                                 shoal_log *log)
{
    /* Hosts are numbered as they are met, so that none is left without a rank. */
    int32_t *host = calloc((size_t)cluster->n_host, sizeof *host);
    if (host == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a cluster of %d ranks", (int)n_rank);
    int32_t n_host = 0;
    for (int32_t r = 0; r < n_rank; r++)
        if (host[cluster->rank[r].host] == 0)
            host[cluster->rank[r].host] = ++n_host;
    shoal_status status = shoal_cluster_open(part, n_host, n_rank, log);
    if (status == SHOAL_OK) {
        memcpy(part->name, cluster->name, sizeof part->name);
        part->n_shared_core = cluster->n_shared_core;
        for (int32_t h = 0; h < cluster->n_host; h++)
            if (host[h] > 0)
                part->host[host[h] - 1] = cluster->host[h];
        for (int32_t r = 0; r < n_rank; r++) {
            part->rank[r] = cluster->rank[r];
            part->rank[r].host = host[cluster->rank[r].host] - 1;
            memcpy(shoal_cluster_link_at(part, r, 0), shoal_cluster_link_at(cluster, r, 0),
                   (size_t)n_rank * sizeof *part->link);
        }
    }
    free(host);
    return status;
}
