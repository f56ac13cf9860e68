/* The door to hwloc: which cores this process may use, and which its threads get. A core is a
 * physical core; hardware threads of one core count once, since the kernels fill a core with one
 * thread.
 * Layering: base. */
#ifndef SHOAL_BASE_TOPOLOGY_H
#define SHOAL_BASE_TOPOLOGY_H

#include "runtime/base/log.h"

#include <stdbool.h>

#define SHOAL_CPU_MAX 1024 /* hardware threads of a host beyond are not placed */

/* A set of hardware threads, by the system's numbers. */
typedef struct shoal_cpus {
    uint64_t bit[SHOAL_CPU_MAX / 64];
} shoal_cpus;

typedef struct shoal_topology {
    int32_t n_core_host; /* cores that the machine or container has for all its processes */
    int32_t n_core;      /* of those, in the affinity mask of this process (mpirun may bind it) */
    double cpu_quota;    /* cores' worth of time that the cgroup grants, 0 if it has no limit */
    shoal_cpus bound;    /* the affinity mask, empty if it is not known */
    int32_t n_cpu;       /* hardware threads of the host, 0 if they are not known */
    int16_t cpu[SHOAL_CPU_MAX];  /* [n_cpu] the first of every core in the order of NUMA nodes and
                                    caches, then the second of every core, ... */
    int16_t core[SHOAL_CPU_MAX]; /* [n_cpu] its core, 0 .. */
} shoal_topology;

/* Measures the machine; takes milliseconds. Never fails: what cannot be found out is replaced by
 * the system's count of processors. Counts are at least 1. */
void shoal_topology_read(shoal_topology *topology, shoal_log *log);

/* Threads that a rank should have by default when n_rank_host ranks share the host: the host's
 * cores (and quota) divided among them, at most the cores it is bound to, at least 1. */
int32_t shoal_topology_threads(const shoal_topology *topology, int32_t n_rank_host);

/* What one rank of a host asks for. */
typedef struct shoal_cpu_claim {
    shoal_cpus bound; /* where it may run */
    int32_t n_thread;
    int32_t pad;
} shoal_cpu_claim;

/* Where the threads of rank `mine` of n_rank on this host run, place [its n_thread], such that no
 * two threads of these ranks share anything: a core each while there are as many, else a hardware
 * thread each. All ranks that ask with the same claims get parts of one division. False: nobody is
 * placed, the system's scheduler does better, because there are more threads than hardware threads,
 * or because as many cores as ranks, or more, would stay free for other jobs. Pure. */
bool shoal_topology_place(shoal_cpus *place, const shoal_topology *topology,
                          const shoal_cpu_claim *claim, int32_t n_rank, int32_t mine);

bool shoal_cpus_has(const shoal_cpus *cpus, int32_t cpu);
void shoal_cpus_add(shoal_cpus *cpus, int32_t cpu);

#endif
