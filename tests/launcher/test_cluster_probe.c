/* The file of a probe: from measurements to a cluster and back from the disk. */
#include "launcher/cluster/cluster_presets.h"
#include "launcher/cluster/cluster_probe.h"
#include "tests/support/check_main.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void make(shoal_probe_message *m)
{
    ck_assert_int_eq(shoal_probe_message_open(m, 2, 2, NULL), SHOAL_OK);
    for (int32_t h = 0; h < 2; h++) {
        snprintf(m->host[h].name, sizeof m->host[h].name, "fish%d", (int)h);
        m->host[h].n_core = 8;
        m->host[h].memory_bytes = 1000;
        m->host[h].nic_gb_per_s = 0.118;
        m->rank[h] = (shoal_probe_rank){.host = h,
                                        .gpu = -1,
                                        .n_thread = 8 - h,
                                        .memory_bytes = 900,
                                        .read_gb_per_s = 20 + h,
                                        .f32_gflop_per_s = 70,
                                        .job_us = 2,
                                        .n_rate = 3};
        static const char *const format[] = {"q4", "bf16", "of another build"};
        for (int32_t i = 0; i < 3; i++) {
            snprintf(m->rank[h].rate[i].format, sizeof m->rank[h].rate[i].format, "%.15s",
                     format[i]);
            m->rank[h].rate[i].decode_gb_per_s = 10 + i;
            m->rank[h].rate[i].prefill_gop_per_s = 100 + i;
        }
    }
    m->rank[0].gpu = 2;
    m->rank[0].pcie_gb_per_s = 12;
    m->rank[0].launch_us = 4;
    m->rank[0].wait_us = 7;
    snprintf(m->rank[0].device, sizeof m->rank[0].device, "a GPU");
    *shoal_probe_message_link(m, 0, 1) = (shoal_probe_link){.latency_us = 40,
                                                            .gb_per_s = 0.125F,
                                                            .overhead_us = 3,
                                                            .burst_bytes = 700,
                                                            .path = SHOAL_PROBE_PATH_TCP};
    *shoal_probe_message_link(m, 1, 0) = (shoal_probe_link){
        .latency_us = 50, .gb_per_s = 0.0625F, .overhead_us = 4, .path = SHOAL_PROBE_PATH_TCP};
}

START_TEST(read_is_what_was_written)
{
    char folder[] = "/tmp/shoal-probe-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/two.probe", folder);
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "host");
    shoal_probe_message m;
    make(&m);
    ck_assert_int_eq(shoal_cluster_write_probe(&m, path, &log), SHOAL_OK);
    shoal_cluster c;
    ck_assert_int_eq(shoal_cluster_read_probe(&c, path, &log), SHOAL_OK);
    ck_assert_str_eq(c.name, "two.probe");
    ck_assert_int_eq(c.n_host, 2);
    ck_assert_int_eq(c.n_rank, 2);
    ck_assert_str_eq(c.host[1].name, "fish1");
    ck_assert_double_eq(c.host[1].nic_gb_per_s, 0.118);
    ck_assert_int_eq(c.rank[1].host, 1);
    ck_assert_int_eq(c.rank[1].n_thread, 7);
    ck_assert_double_eq(c.rank[1].read_gb_per_s, 21);
    ck_assert_double_eq(c.rank[1].decode_gb_per_s[SHOAL_FORMAT_Q4], 10);
    ck_assert_double_eq(c.rank[1].prefill_gop_per_s[SHOAL_FORMAT_BF16], 101);
    /* Not measured: as memory, and as the fastest. */
    ck_assert_double_eq(c.rank[1].decode_gb_per_s[SHOAL_FORMAT_F32], 21);
    ck_assert_double_eq(c.rank[1].prefill_gop_per_s[SHOAL_FORMAT_F32], 101);
    ck_assert_double_gt(c.rank[1].layer_us, 2);
    ck_assert_int_eq(c.rank[1].gpu, -1);
    ck_assert_double_eq(c.rank[1].launch_us, 0);
    ck_assert_int_eq(c.rank[0].gpu, 2);
    ck_assert_str_eq(c.rank[0].device, "a GPU");
    ck_assert_double_eq(c.rank[0].layer_us, 0);
    ck_assert_double_eq(c.rank[0].pcie_gb_per_s, 12);
    ck_assert_double_eq(c.rank[0].launch_us, 4);
    ck_assert_double_eq(c.rank[0].wait_us, 7);
    ck_assert_double_eq(shoal_cluster_link_at(&c, 1, 0)->latency_us, 50);
    ck_assert_double_eq(shoal_cluster_link_at(&c, 1, 0)->gb_per_s, 0.0625);
    ck_assert_double_eq(shoal_cluster_link_at(&c, 0, 1)->overhead_us, 3);
    ck_assert_double_eq(shoal_cluster_link_at(&c, 0, 1)->burst_bytes, 700);
    ck_assert_double_eq(shoal_cluster_link_at(&c, 1, 1)->latency_us, 0);
    shoal_cluster_close(&c);
    shoal_probe_message_close(&m);
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0); /* nothing else was left there */
}
END_TEST

/* What was not measured of a GPU is what its data sheet lets expect, or, if nobody knows it, its
 * memory. */
START_TEST(gpus_are_known_by_what_the_driver_calls_them)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "host");
    shoal_probe_message m;
    make(&m);
    static const char *const name[] = {"NVIDIA GeForce RTX 4090", "NVIDIA Fish 9000"};
    for (int32_t r = 0; r < 2; r++) {
        m.rank[r].gpu = r;
        m.rank[r].read_gb_per_s = 0.9 * 2 * 936;
        m.rank[r].n_rate = 1;
        m.rank[r].launch_us = m.rank[r].wait_us = m.rank[r].pcie_gb_per_s = 0;
        snprintf(m.rank[r].device, sizeof m.rank[r].device, "%s", name[r]);
    }
    shoal_cluster c;
    ck_assert_int_eq(shoal_cluster_of_probe(&c, &m, "two", &log), SHOAL_OK);
    ck_assert_str_eq(c.rank[0].device, name[0]);
    ck_assert_double_eq_tol(c.rank[0].read_gb_per_s, 0.9 * 2 * 936, 1e-9);
    ck_assert_double_eq_tol(c.rank[0].decode_gb_per_s[SHOAL_FORMAT_Q4], 10, 1e-9);
    ck_assert_double_eq_tol(c.rank[0].prefill_gop_per_s[SHOAL_FORMAT_BF16], 82600, 1e-6);
    ck_assert_double_eq_tol(c.rank[1].read_gb_per_s, 0.9 * 2 * 936, 1e-9);
    ck_assert_double_eq_tol(c.rank[1].prefill_gop_per_s[SHOAL_FORMAT_BF16], 71200, 1e-6);
    for (int32_t r = 0; r < 2; r++) {
        ck_assert_int_eq(c.rank[r].gpu, r);
        ck_assert_uint_eq(c.rank[r].memory_bytes, 900);
        ck_assert_double_eq(c.rank[r].layer_us, 0);
        ck_assert(c.rank[r].launch_us > 0 && c.rank[r].wait_us > 0 && c.rank[r].pcie_gb_per_s > 0);
    }
    shoal_cluster_close(&c);
    shoal_probe_message_close(&m);
}
END_TEST

START_TEST(what_cannot_be_written_or_read_says_so)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "host");
    shoal_probe_message m;
    make(&m);
    ck_assert_int_eq(shoal_cluster_write_probe(&m, "/no/such/folder/F", &log), SHOAL_IO);
    ck_assert_ptr_nonnull(strstr(log.error, "/no/such/folder/F"));
    shoal_cluster c = {0};
    ck_assert_int_eq(shoal_cluster_read_probe(&c, "/no/such/folder/F", &log), SHOAL_NO_INPUT);
    ck_assert_int_eq(shoal_cluster_read_probe(&c, "/bin/sh", &log), SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log.error, "/bin/sh"));
    ck_assert_ptr_null(c.rank);
    shoal_probe_message_close(&m);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, read_is_what_was_written);
    SHOAL_TEST(suite, gpus_are_known_by_what_the_driver_calls_them);
    SHOAL_TEST(suite, what_cannot_be_written_or_read_says_so);
}

SHOAL_TEST_MAIN("launcher.cluster_probe", add_tests)
