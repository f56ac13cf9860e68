/* The door to hwloc: how many cores this process may use. A core is a physical core; hardware
 * threads of one core count once, since the kernels fill a core with one thread.
 * Layering: base. */
#ifndef SHOAL_BASE_TOPOLOGY_H
#define SHOAL_BASE_TOPOLOGY_H

#include "runtime/base/log.h"

typedef struct shoal_topology {
    int32_t n_core_host; /* cores that the machine or container has for all its processes */
    int32_t n_core;      /* of those, in the affinity mask of this process (mpirun may bind it) */
    double cpu_quota;    /* cores' worth of time that the cgroup grants, 0 if it has no limit */
} shoal_topology;

/* Measures the machine; takes milliseconds. Never fails: what cannot be found out is replaced by
 * the system's count of processors. Counts are at least 1. */
void shoal_topology_read(shoal_topology *topology, shoal_log *log);

/* Threads that a rank should have by default when n_rank_host ranks share the host: the host's
 * cores (and quota) divided among them, at most the cores it is bound to, at least 1. */
int32_t shoal_topology_threads(const shoal_topology *topology, int32_t n_rank_host);

#endif
