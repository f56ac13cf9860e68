#include "runtime/base/topology.h"
#include "tests/support/check_main.h"

#include <sched.h>
#include <unistd.h>

START_TEST(counts_are_possible)
{
    shoal_topology topology;
    shoal_topology_read(&topology, NULL);
    ck_assert_int_ge(topology.n_core, 1);
    ck_assert_int_ge(topology.n_core_host, topology.n_core);
    ck_assert_int_le(topology.n_core_host, (int)sysconf(_SC_NPROCESSORS_CONF));
}
END_TEST

START_TEST(the_affinity_mask_is_respected)
{
    cpu_set_t old, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof old, &old), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &old)) {
            CPU_SET(cpu, &one);
            break;
        }
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    shoal_topology topology;
    shoal_topology_read(&topology, NULL);
    ck_assert_int_eq(topology.n_core, 1);
    ck_assert_int_eq(shoal_topology_threads(&topology, 1), 1);
}
END_TEST

START_TEST(threads_are_divided)
{
    shoal_topology t = {.n_core_host = 16, .n_core = 16};
    ck_assert_int_eq(shoal_topology_threads(&t, 1), 16);
    ck_assert_int_eq(shoal_topology_threads(&t, 3), 5);
    ck_assert_int_eq(shoal_topology_threads(&t, 40), 1);
    t.n_core = 4;
    ck_assert_int_eq(shoal_topology_threads(&t, 1), 4);
    ck_assert_int_eq(shoal_topology_threads(&t, 8), 2);
    t.n_core = 16;
    t.cpu_quota = 1.5;
    ck_assert_int_eq(shoal_topology_threads(&t, 1), 2);
    t.cpu_quota = 0.1;
    ck_assert_int_eq(shoal_topology_threads(&t, 1), 1);
}
END_TEST

START_TEST(hardware_threads_are_listed_once)
{
    shoal_topology t;
    shoal_topology_read(&t, NULL);
    shoal_cpus seen = {0};
    for (int32_t i = 0; i < t.n_cpu; i++) {
        ck_assert(!shoal_cpus_has(&seen, t.cpu[i]));
        shoal_cpus_add(&seen, t.cpu[i]);
        if (i < t.n_core_host)
            for (int32_t j = 0; j < i; j++)
                ck_assert_int_ne(t.core[i], t.core[j]);
    }
    if (t.n_cpu > 0)
        ck_assert_int_ge(t.n_cpu, t.n_core_host);
}
END_TEST

/* Four cores with two hardware threads each, as Linux numbers them: core c has c and c + 4. */
static shoal_topology four_cores(void)
{
    shoal_topology t = {.n_core_host = 4, .n_core = 4, .n_cpu = 8};
    for (int16_t i = 0; i < 8; i++) {
        t.cpu[i] = i;
        t.core[i] = (int16_t)(i % 4);
    }
    return t;
}

static shoal_cpu_claim claim_of(int32_t n_thread, int32_t first, int32_t last)
{
    shoal_cpu_claim c = {.n_thread = n_thread};
    for (int32_t cpu = first; cpu <= last; cpu++)
        shoal_cpus_add(&c.bound, cpu);
    return c;
}

/* The places of all ranks, as bits of the first 64 hardware threads, one behind the other; 0 where
 * nobody is placed. No two may overlap. */
static int32_t places(uint64_t *bits, const shoal_topology *t, const shoal_cpu_claim *claim,
                      int32_t n_rank)
{
    uint64_t taken = 0;
    int32_t n = 0;
    for (int32_t r = 0; r < n_rank; r++) {
        shoal_cpus place[16] = {{{0}}};
        if (!shoal_topology_place(place, t, claim, n_rank, r))
            return 0;
        for (int32_t i = 0; i < claim[r].n_thread; i++) {
            ck_assert(place[i].bit[0] != 0 && (place[i].bit[0] & taken) == 0);
            ck_assert((place[i].bit[0] & ~claim[r].bound.bit[0]) == 0);
            taken |= place[i].bit[0];
            bits[n++] = place[i].bit[0];
        }
    }
    return n;
}

START_TEST(ranks_divide_the_cores)
{
    shoal_topology t = four_cores();
    uint64_t at[16];
    shoal_cpu_claim free2[] = {claim_of(2, 0, 7), claim_of(2, 0, 7)};
    ck_assert_int_eq(places(at, &t, free2, 2), 4);
    for (int32_t i = 0; i < 4; i++) /* a whole core each */
        ck_assert_uint_eq(at[i], UINT64_C(0x11) << i);

    shoal_cpu_claim bound[] = {claim_of(1, 2, 2), claim_of(1, 0, 0)};
    ck_assert_int_eq(places(at, &t, bound, 2), 2);
    ck_assert_uint_eq(at[0], 4);
    ck_assert_uint_eq(at[1], 1);

    shoal_cpu_claim uneven[] = {claim_of(1, 0, 7),
                                claim_of(2, 0, 7)}; /* 4 / 3 threads and one left */
    ck_assert_int_eq(places(at, &t, uneven, 2), 3);
}
END_TEST

START_TEST(siblings_come_last)
{
    shoal_topology t = four_cores();
    uint64_t at[16];
    shoal_cpu_claim six[] = {claim_of(6, 0, 7)};
    ck_assert_int_eq(places(at, &t, six, 1), 6);
    for (int32_t i = 0; i < 6; i++)
        ck_assert_uint_eq(at[i], UINT64_C(1) << i);
}
END_TEST

START_TEST(nobody_is_placed_without_need_or_room)
{
    shoal_topology t = four_cores();
    uint64_t at[16];
    shoal_cpu_claim nine[] = {claim_of(9, 0, 7)};
    ck_assert_int_eq(places(at, &t, nine, 1), 0);
    shoal_cpu_claim three[] = {claim_of(3, 0, 7)}; /* a core stays free for something else */
    ck_assert_int_eq(places(at, &t, three, 1), 0);
    shoal_cpu_claim same[] = {claim_of(1, 1, 1), claim_of(1, 1, 1)};
    ck_assert_int_eq(places(at, &t, same, 2), 0);
    t.n_cpu = 0; /* hwloc found nothing */
    shoal_cpu_claim four[] = {claim_of(4, 0, 7)};
    ck_assert_int_eq(places(at, &t, four, 1), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, counts_are_possible);
    SHOAL_TEST(suite, the_affinity_mask_is_respected);
    SHOAL_TEST(suite, threads_are_divided);
    SHOAL_TEST(suite, hardware_threads_are_listed_once);
    SHOAL_TEST(suite, ranks_divide_the_cores);
    SHOAL_TEST(suite, siblings_come_last);
    SHOAL_TEST(suite, nobody_is_placed_without_need_or_room);
}

SHOAL_TEST_MAIN("base.topology", add_tests)
