/* What is read of the system: texts of /proc as kernels write them. */
#include "launcher/probe/facts.h"
#include "tests/support/check_main.h"

#include <string.h>

START_TEST(meminfo)
{
    const char *text = "MemTotal:       32594248 kB\nMemFree:         1234 kB\n"
                       "MemAvailable:   30000000 kB\nSwapTotal:             0 kB\n";
    ck_assert_uint_eq(shoal_probe_meminfo(text, "MemTotal"), UINT64_C(32594248) * 1024);
    ck_assert_uint_eq(shoal_probe_meminfo(text, "MemAvailable"), UINT64_C(30000000) * 1024);
    ck_assert_uint_eq(shoal_probe_meminfo(text, "SwapTotal"), 0);
    ck_assert_uint_eq(shoal_probe_meminfo(text, "Mem"), 0); /* a part of a name is none */
    ck_assert_uint_eq(shoal_probe_meminfo("", "MemTotal"), 0);
    ck_assert_uint_eq(shoal_probe_meminfo("MemTotal", "MemTotal"), 0);
}
END_TEST

static const char net_dev[] =
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop "
    "fifo colls carrier compressed\n"
    "    lo: 1000      10    0    0    0     0          0         0     2000      10    0    0    "
    "0     0       0          0\n"
    "  eth0:%llu 5 0 0 0 0 0 0 %llu 7 0 0 0 0 0 0\n"
    "enp5s0f1: 7 5 0 0 0 0 0 0 %llu 7 0 0 0 0 0 0\n";

static shoal_probe_counters count(unsigned long long eth0, unsigned long long enp5s0f1)
{
    char text[1024];
    shoal_probe_counters c;
    snprintf(text, sizeof text, net_dev, 99ULL, eth0, enp5s0f1);
    shoal_probe_count_text(&c, text);
    return c;
}

START_TEST(counters)
{
    const shoal_probe_counters c = count(12345678901ULL, 3);
    ck_assert_int_eq(c.n, 3);
    ck_assert_str_eq(c.interface[0].name, "lo");
    ck_assert_uint_eq(c.interface[0].sent_bytes, 2000);
    ck_assert_str_eq(c.interface[1].name, "eth0");
    ck_assert_uint_eq(c.interface[1].sent_bytes, 12345678901ULL);
    ck_assert_str_eq(c.interface[2].name, "enp5s0f1");
    shoal_probe_counters none;
    shoal_probe_count_text(&none, "");
    ck_assert_int_eq(none.n, 0);
    shoal_probe_count_text(&none, "a:");
    ck_assert_int_eq(none.n, 1);
    ck_assert_uint_eq(none.interface[0].sent_bytes, 0);
}
END_TEST

START_TEST(paths)
{
    const shoal_probe_counters before = count(1000, 50);
    char text[32];
    shoal_probe_counters after = count(1002000, 60);
    shoal_probe_path_text(text, &before, &after, 1000000);
    ck_assert_str_eq(text, "eth0");
    after = count(401000, 600050); /* Open MPI uses both */
    shoal_probe_path_text(text, &before, &after, 1000000);
    ck_assert_str_eq(text, "enp5s0f1+eth0");
    after = count(201000, 200); /* what else runs there; the message went through memory */
    shoal_probe_path_text(text, &before, &after, 1000000);
    ck_assert_str_eq(text, "");
    shoal_probe_path_text(text, &before, &before, 1000000);
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(kinds)
{
    ck_assert_int_eq(shoal_probe_interface_kind_of("lo", ""), SHOAL_PROBE_INTERFACE_LOOP);
    ck_assert_int_eq(shoal_probe_interface_kind_of("eth0", "ixgbe"), SHOAL_PROBE_INTERFACE_WIRE);
    ck_assert_int_eq(shoal_probe_interface_kind_of("eth0", "virtio_net"),
                     SHOAL_PROBE_INTERFACE_WIRE);
    ck_assert_int_eq(shoal_probe_interface_kind_of("bond0", "bonding"), SHOAL_PROBE_INTERFACE_WIRE);
    ck_assert_int_eq(shoal_probe_interface_kind_of("docker0", "bridge"),
                     SHOAL_PROBE_INTERFACE_VIRTUAL);
    ck_assert_int_eq(shoal_probe_interface_kind_of("eth0", "veth"), SHOAL_PROBE_INTERFACE_VIRTUAL);
    ck_assert_int_eq(shoal_probe_interface_kind_of("br-5f1c", ""), SHOAL_PROBE_INTERFACE_VIRTUAL);
    ck_assert_int_eq(shoal_probe_interface_kind_of("wg0", ""), SHOAL_PROBE_INTERFACE_VIRTUAL);
}
END_TEST

START_TEST(this_host)
{
    shoal_topology topology;
    shoal_probe_facts facts;
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "host");
    shoal_topology_read(&topology, &log);
    shoal_probe_facts_read(&facts, &topology);
    ck_assert_int_ge(facts.n_core_host, 1);
    ck_assert_uint_gt(facts.memory_bytes, 0);
    ck_assert_uint_gt(facts.free_bytes, 0);
    ck_assert_uint_le(facts.free_bytes, facts.memory_bytes);
    ck_assert_str_ne(facts.machine, "");
    ck_assert_int_le(facts.n_interface, SHOAL_PROBE_INTERFACE_MAX);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, meminfo);
    SHOAL_TEST(suite, counters);
    SHOAL_TEST(suite, paths);
    SHOAL_TEST(suite, kinds);
    SHOAL_TEST(suite, this_host);
}

SHOAL_TEST_MAIN("launcher.probe_facts", add_tests)
