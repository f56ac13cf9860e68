#include "runtime/base/topology.h"

#include <hwloc.h>

#include <stdlib.h>
#include <unistd.h>

/* Cores of which at least one hardware thread is in `set`; where hwloc sees no cores (some virtual
 * machines), its processing units. */
static int32_t count_cores(hwloc_topology_t hw, hwloc_const_cpuset_t set)
{
    hwloc_obj_type_t type =
        hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    int32_t n = 0;
    for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_type(hw, type, core)) != NULL;)
        if (hwloc_bitmap_intersects(core->cpuset, set))
            n++;
    return n;
}

static void read_hwloc(shoal_topology *topology, hwloc_topology_t hw)
{
    topology->n_core_host = count_cores(hw, hwloc_topology_get_allowed_cpuset(hw));
    topology->n_core = topology->n_core_host;
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    if (bound == NULL)
        return;
    if (hwloc_get_cpubind(hw, bound, HWLOC_CPUBIND_PROCESS) == 0 && !hwloc_bitmap_iszero(bound))
        topology->n_core = count_cores(hw, bound);
    hwloc_bitmap_free(bound);
}

/* Containers are limited in time, not in cores: cgroup v2 has "max 100000" or "200000 100000". */
static double read_quota(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file == NULL)
        return 0;
    char line[64] = "";
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    if (got == NULL)
        return 0;
    char *end;
    double quota_us = strtod(line, &end);
    double period_us = strtod(end, NULL);
    return quota_us > 0 && period_us > 0 ? quota_us / period_us : 0;
}

void shoal_topology_read(shoal_topology *topology, shoal_log *log)
{
    *topology = (shoal_topology){.cpu_quota = read_quota()};
    hwloc_topology_t hw;
    if (hwloc_topology_init(&hw) == 0) {
        if (hwloc_topology_load(hw) == 0)
            read_hwloc(topology, hw);
        hwloc_topology_destroy(hw);
    }
    if (topology->n_core_host >= 1 && topology->n_core >= 1)
        return;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    topology->n_core_host = n > 0 && n < 65536 ? (int32_t)n : 1;
    topology->n_core = topology->n_core_host;
    shoal_log_debug(log, "hwloc found no cores; the system says %d processors",
                    (int)topology->n_core_host);
}

int32_t shoal_topology_threads(const shoal_topology *topology, int32_t n_rank_host)
{
    int32_t n_host = topology->n_core_host;
    if (topology->cpu_quota > 0 && topology->cpu_quota < n_host)
        n_host = (int32_t)(topology->cpu_quota + 0.5); /* 1.5 cores' worth: 2 threads */
    int32_t n = n_rank_host > 0 ? n_host / n_rank_host : n_host;
    if (n > topology->n_core)
        n = topology->n_core;
    return n > 0 ? n : 1;
}
