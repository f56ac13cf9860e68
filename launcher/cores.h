/* Threads and cores: how many threads a rank has, and which cores they run on. The ranks of a host
 * divide among themselves what the launcher (mpirun, srun, taskset) has given them, without
 * overlapping. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_CORES_H
#define SHOAL_LAUNCHER_CORES_H

#include "comm/comm.h"
#include "runtime/base/pool.h"
#include "runtime/base/topology.h"

typedef struct shoal_cores {
    shoal_topology topology;
    bool pinned;
} shoal_cores;

/* Ranks on this rank's host, itself included. */
int32_t shoal_cores_ranks_on_host(const shoal_comm *comm);

/* Read the topology and open the pool; n_thread 0: the host's cores divided by its ranks. Every
 * rank by itself. */
shoal_status shoal_cores_open(shoal_cores *cores, shoal_pool **pool, int32_t n_thread,
                              const shoal_comm *comm, shoal_log *log);

/* Pin the pools of all ranks (shoal_topology_place), and warn of ranks that are bound to fewer
 * cores than they have threads or could use. Collective. */
shoal_status shoal_cores_share(shoal_cores *cores, shoal_pool *pool, shoal_comm *comm,
                               shoal_log *log);

#endif
