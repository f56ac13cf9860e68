#include "launcher/cores.h"

#include <stdlib.h>
#include <string.h>

/* What every rank tells the others. */
typedef struct claim {
    shoal_cpu_claim cpu;
    int32_t n_core, n_core_host; /* bound to, of the host's */
} claim;

static bool on_host_of(const shoal_comm *comm, int32_t rank, int32_t other)
{
    return strcmp(shoal_comm_host(comm, rank), shoal_comm_host(comm, other)) == 0;
}

static int32_t ranks_beside(const shoal_comm *comm, int32_t rank)
{
    int32_t n = 1;
    for (int32_t r = 0; r < shoal_comm_n_rank(comm); r++)
        n += r != rank && on_host_of(comm, r, rank);
    return n;
}

int32_t shoal_cores_ranks_on_host(const shoal_comm *comm)
{
    return ranks_beside(comm, shoal_comm_rank(comm));
}

shoal_status shoal_cores_open(shoal_cores *cores, shoal_pool **pool, int32_t n_thread,
                              const shoal_comm *comm, shoal_log *log)
{
    shoal_topology_read(&cores->topology, log);
    cores->pinned = false;
    if (n_thread == 0)
        n_thread = shoal_topology_threads(&cores->topology, shoal_cores_ranks_on_host(comm));
    return shoal_pool_open(pool, n_thread, log);
}

/* Cores that a rank has too few: for its threads, or for its share of the host. */
static int32_t cores_missing(const shoal_comm *comm, const claim *all, int32_t rank)
{
    int32_t share = all[rank].n_core_host / ranks_beside(comm, rank);
    int32_t wanted = all[rank].cpu.n_thread > share ? all[rank].cpu.n_thread : share;
    wanted = wanted < all[rank].n_core_host ? wanted : all[rank].n_core_host;
    return wanted - all[rank].n_core;
}

/* One line for all: mpirun treats them alike. */
static void warn_bound(const shoal_comm *comm, const claim *all, shoal_log *log)
{
    int32_t n_bound = 0, first = 0;
    for (int32_t r = shoal_comm_n_rank(comm) - 1; r >= 0; r--) {
        if (cores_missing(comm, all, r) <= 0)
            continue;
        n_bound++;
        first = r;
    }
    if (n_bound == 0)
        return;
    shoal_log_warn(log,
                   "%d of %d ranks are bound to fewer cores than they could use: rank %d (%s) runs "
                   "%d threads on %d of its host's %d cores; mpirun --bind-to none gives it more",
                   (int)n_bound, (int)shoal_comm_n_rank(comm), (int)first,
                   shoal_comm_host(comm, first), (int)all[first].cpu.n_thread,
                   (int)all[first].n_core, (int)all[first].n_core_host);
}

/* The claims of this rank's host to the front of `all`; *mine: this rank's. Returns their count. */
static int32_t keep_host(shoal_cpu_claim *host, int32_t *mine, const claim *all,
                         const shoal_comm *comm)
{
    int32_t n = 0;
    for (int32_t r = 0; r < shoal_comm_n_rank(comm); r++) {
        if (!on_host_of(comm, r, shoal_comm_rank(comm)))
            continue;
        if (r == shoal_comm_rank(comm))
            *mine = n;
        host[n++] = all[r].cpu;
    }
    return n;
}

static void pin(shoal_cores *cores, shoal_pool *pool, const shoal_cpu_claim *host, int32_t n_host,
                int32_t mine, shoal_log *log)
{
    shoal_cpus *place = calloc((size_t)shoal_pool_n_thread(pool), sizeof *place);
    if (place == NULL)
        return; /* threads that are not pinned work too */
    if (shoal_topology_place(place, &cores->topology, host, n_host, mine)) {
        cores->pinned = shoal_pool_pin(pool, place);
        if (!cores->pinned)
            shoal_log_debug(log, "the system does not let threads be pinned");
    }
    free(place);
}

shoal_status shoal_cores_share(shoal_cores *cores, shoal_pool *pool, shoal_comm *comm,
                               shoal_log *log)
{
    const size_t n_rank = (size_t)shoal_comm_n_rank(comm);
    claim *all = calloc(n_rank, sizeof *all);
    shoal_cpu_claim *host = calloc(n_rank, sizeof *host);
    shoal_status status = SHOAL_OK;
    if (all == NULL || host == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the cores of %zu ranks", n_rank);
    status = shoal_comm_agree(comm, status, "sharing the cores");
    const claim mine = {
        .cpu = {.bound = cores->topology.bound, .n_thread = shoal_pool_n_thread(pool)},
        .n_core = cores->topology.n_core,
        .n_core_host = cores->topology.n_core_host,
    };
    if (status == SHOAL_OK)
        status = shoal_comm_gather(comm, all, &mine, sizeof mine, 0);
    if (status == SHOAL_OK)
        status = shoal_comm_bcast(comm, all, n_rank * sizeof *all, 0);
    if (status == SHOAL_OK) {
        int32_t at = 0;
        const int32_t n_host = keep_host(host, &at, all, comm);
        pin(cores, pool, host, n_host, at, log);
        if (shoal_comm_rank(comm) == 0)
            warn_bound(comm, all, log);
    }
    free(all);
    free(host);
    return status;
}
