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

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, counts_are_possible);
    SHOAL_TEST(suite, the_affinity_mask_is_respected);
    SHOAL_TEST(suite, threads_are_divided);
}

SHOAL_TEST_MAIN("base.topology", add_tests)
