#include "runtime/base/topology.h"

#include <hwloc.h>

#include <stdlib.h>
#include <unistd.h>

bool shoal_cpus_has(const shoal_cpus *cpus, int32_t cpu)
{
    return (cpus->bit[cpu / 64] >> (cpu % 64) & 1) != 0;
}

void shoal_cpus_add(shoal_cpus *cpus, int32_t cpu)
{
    cpus->bit[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

/* Where hwloc sees no cores (some virtual machines), its processing units serve. */
static hwloc_obj_type_t core_type(hwloc_topology_t hw)
{
    return hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
}

/* Cores of which at least one hardware thread is in `set`. */
static int32_t count_cores(hwloc_topology_t hw, hwloc_const_cpuset_t set)
{
    hwloc_obj_type_t type = core_type(hw);
    int32_t n = 0;
    for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_type(hw, type, core)) != NULL;)
        if (hwloc_bitmap_intersects(core->cpuset, set))
            n++;
    return n;
}

/* The host's hardware threads: the first of every core, then the second ones. */
static void list_cpus(shoal_topology *topology, hwloc_topology_t hw)
{
    hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(hw);
    hwloc_obj_type_t type = core_type(hw);
    bool more = true;
    for (int32_t sibling = 0; more; sibling++) {
        int32_t core_index = 0;
        more = false;
        for (hwloc_obj_t core = NULL; (core = hwloc_get_next_obj_by_type(hw, type, core)) != NULL;
             core_index++) {
            int cpu = -1;
            for (int32_t i = 0; i <= sibling && (i == 0 || cpu >= 0); i++)
                cpu = hwloc_bitmap_next(core->cpuset, cpu);
            if (cpu < 0)
                continue;
            more = true;
            if (!hwloc_bitmap_isset(allowed, (unsigned)cpu))
                continue;
            if (cpu >= SHOAL_CPU_MAX || topology->n_cpu == SHOAL_CPU_MAX) {
                topology->n_cpu = 0;
                return;
            }
            topology->cpu[topology->n_cpu] = (int16_t)cpu;
            topology->core[topology->n_cpu++] = (int16_t)core_index;
        }
    }
}

static void read_hwloc(shoal_topology *topology, hwloc_topology_t hw)
{
    list_cpus(topology, hw);
    topology->n_core_host = count_cores(hw, hwloc_topology_get_allowed_cpuset(hw));
    topology->n_core = topology->n_core_host;
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    if (bound == NULL)
        return;
    if (hwloc_get_cpubind(hw, bound, HWLOC_CPUBIND_PROCESS) == 0 && !hwloc_bitmap_iszero(bound)) {
        topology->n_core = count_cores(hw, bound);
        for (int32_t i = 0; i < topology->n_cpu; i++)
            if (hwloc_bitmap_isset(bound, (unsigned)topology->cpu[i]))
                shoal_cpus_add(&topology->bound, topology->cpu[i]);
    }
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

/* What a division of a host's hardware threads has given away so far, by index into topology->cpu
 * and by core. */
typedef struct division {
    const shoal_topology *topology;
    bool whole_cores; /* a thread gets all of its core that its rank may use */
    bool cpu_taken[SHOAL_CPU_MAX], core_taken[SHOAL_CPU_MAX];
} division;

static void take(shoal_cpus *place, division *d, const shoal_cpus *bound, int32_t at)
{
    const shoal_topology *t = d->topology;
    *place = (shoal_cpus){0};
    for (int32_t i = 0; i < t->n_cpu; i++) {
        bool mine = i == at || (d->whole_cores && t->core[i] == t->core[at] &&
                                shoal_cpus_has(bound, t->cpu[i]));
        if (!mine)
            continue;
        shoal_cpus_add(place, t->cpu[i]);
        d->cpu_taken[i] = true;
    }
    d->core_taken[t->core[at]] = true;
}

/* Free hardware threads on untouched cores first. False if there is not one for every thread. */
static bool serve(shoal_cpus *place, division *d, const shoal_cpu_claim *claim)
{
    const shoal_topology *t = d->topology;
    int32_t n = 0;
    for (int32_t pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < t->n_cpu && n < claim->n_thread; i++) {
            if (!shoal_cpus_has(&claim->bound, t->cpu[i]) || d->cpu_taken[i] ||
                (pass == 0 && d->core_taken[t->core[i]]))
                continue;
            shoal_cpus unused;
            take(place != NULL ? &place[n] : &unused, d, &claim->bound, i);
            n++;
        }
    }
    return n == claim->n_thread;
}

/* Cores that at least one of the claims may use. */
static int32_t cores_claimed(const shoal_topology *t, const shoal_cpu_claim *claim, int32_t n_rank)
{
    bool seen[SHOAL_CPU_MAX] = {false};
    int32_t n = 0;
    for (int32_t i = 0; i < t->n_cpu; i++) {
        bool wanted = false;
        for (int32_t r = 0; r < n_rank && !wanted; r++)
            wanted = shoal_cpus_has(&claim[r].bound, t->cpu[i]);
        if (!wanted || seen[t->core[i]])
            continue;
        seen[t->core[i]] = true;
        n++;
    }
    return n;
}

bool shoal_topology_place(shoal_cpus *place, const shoal_topology *topology,
                          const shoal_cpu_claim *claim, int32_t n_rank, int32_t mine)
{
    int64_t n_thread = 0;
    for (int32_t r = 0; r < n_rank; r++)
        n_thread += claim[r].n_thread;
    int32_t n_core = cores_claimed(topology, claim, n_rank);
    if (n_thread + n_rank <= n_core)
        return false;
    division d = {.topology = topology, .whole_cores = n_thread <= n_core};
    for (int32_t r = 0; r < n_rank; r++)
        if (!serve(r == mine ? place : NULL, &d, &claim[r]))
            return false;
    return true;
}
