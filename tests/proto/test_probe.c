#include "runtime/proto/probe.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_HOST = 2, N_RANK = 3 };

static void make(shoal_probe_message *m)
{
    ck_assert_int_eq(shoal_probe_message_open(m, N_HOST, N_RANK, NULL), SHOAL_OK);
    m->unix_s = 1800000000;
    snprintf(m->build, sizeof m->build, "0.1.0 (abc)");
    for (int32_t h = 0; h < N_HOST; h++) {
        shoal_probe_host *host = &m->host[h];
        *host = (shoal_probe_host){.n_core = 4 + h,
                                   .n_numa = 1,
                                   .memory_bytes = UINT64_C(64000000000),
                                   .free_bytes = UINT64_C(60000000000),
                                   .nic_gb_per_s = 1.1,
                                   .clock_s = -0.25 * h};
        snprintf(host->name, sizeof host->name, "fish%d", (int)h);
        snprintf(host->address, sizeof host->address, "10.0.0.%d", (int)h + 1);
    }
    for (int32_t r = 0; r < N_RANK; r++) {
        shoal_probe_rank *rank = &m->rank[r];
        *rank = (shoal_probe_rank){.host = r > 0,
                                   .gpu = r - 1,
                                   .n_thread = 2,
                                   .n_core = 2,
                                   .memory_bytes = 1000,
                                   .read_gb_per_s = 11.5 + r,
                                   .f32_gflop_per_s = 80,
                                   .job_us = 1.5,
                                   .n_rate = 2};
        snprintf(rank->device, sizeof rank->device, "some processor");
        for (int32_t i = 0; i < 2; i++) {
            snprintf(rank->rate[i].format, sizeof rank->rate[i].format, "f%d", (int)i);
            rank->rate[i].decode_gb_per_s = 9 + r + i;
            rank->rate[i].prefill_gop_per_s = 100 + r + i;
        }
    }
    for (int32_t a = 0; a < N_RANK; a++) {
        for (int32_t b = 0; b < N_RANK; b++) {
            shoal_probe_link *link = shoal_probe_message_link(m, a, b);
            if (a == b)
                continue;
            *link = (shoal_probe_link){.latency_us = 20.5F + (float)(3 * a + b),
                                       .gb_per_s = 1.25F,
                                       .overhead_us = 2.5F,
                                       .burst_bytes = 9000,
                                       .path = a + b == 3
                                                   ? SHOAL_PROBE_PATH_MEMORY
                                                   : SHOAL_PROBE_PATH_TCP | SHOAL_PROBE_PATH_ALIKE,
                                       .mbit_per_s = a + b == 3 ? 0 : 10000};
            snprintf(link->interface, sizeof link->interface, "%s", a + b == 3 ? "" : "eth0");
        }
    }
}

static void expect_equal(const shoal_probe_message *a, const shoal_probe_message *b)
{
    ck_assert_int_eq(a->unix_s, b->unix_s);
    ck_assert_str_eq(a->build, b->build);
    ck_assert_int_eq(a->n_host, b->n_host);
    ck_assert_int_eq(a->n_rank, b->n_rank);
    for (int32_t h = 0; h < a->n_host; h++) {
        ck_assert_str_eq(a->host[h].name, b->host[h].name);
        ck_assert_str_eq(a->host[h].address, b->host[h].address);
        ck_assert_int_eq(a->host[h].n_core, b->host[h].n_core);
        ck_assert_uint_eq(a->host[h].memory_bytes, b->host[h].memory_bytes);
        ck_assert_double_eq(a->host[h].nic_gb_per_s, b->host[h].nic_gb_per_s);
        ck_assert_double_eq(a->host[h].clock_s, b->host[h].clock_s);
    }
    for (int32_t r = 0; r < a->n_rank; r++) {
        ck_assert_int_eq(a->rank[r].host, b->rank[r].host);
        ck_assert_int_eq(a->rank[r].gpu, b->rank[r].gpu);
        ck_assert_str_eq(a->rank[r].device, b->rank[r].device);
        ck_assert_double_eq(a->rank[r].read_gb_per_s, b->rank[r].read_gb_per_s);
        ck_assert_double_eq(a->rank[r].job_us, b->rank[r].job_us);
        ck_assert_int_eq(a->rank[r].n_rate, b->rank[r].n_rate);
        for (int32_t i = 0; i < a->rank[r].n_rate; i++) {
            ck_assert_str_eq(a->rank[r].rate[i].format, b->rank[r].rate[i].format);
            ck_assert_double_eq(a->rank[r].rate[i].decode_gb_per_s,
                                b->rank[r].rate[i].decode_gb_per_s);
            ck_assert_double_eq(a->rank[r].rate[i].prefill_gop_per_s,
                                b->rank[r].rate[i].prefill_gop_per_s);
        }
    }
    for (int32_t i = 0; i < a->n_rank * a->n_rank; i++) {
        ck_assert_float_eq(a->link[i].latency_us, b->link[i].latency_us);
        ck_assert_float_eq(a->link[i].gb_per_s, b->link[i].gb_per_s);
        ck_assert_float_eq(a->link[i].overhead_us, b->link[i].overhead_us);
        ck_assert_float_eq(a->link[i].burst_bytes, b->link[i].burst_bytes);
        ck_assert_int_eq(a->link[i].path, b->link[i].path);
        ck_assert_int_eq(a->link[i].mbit_per_s, b->link[i].mbit_per_s);
        ck_assert_str_eq(a->link[i].interface, b->link[i].interface);
    }
}

START_TEST(round_trip)
{
    shoal_probe_message m, out = {0};
    uint8_t *bytes;
    size_t n_bytes;
    make(&m);
    ck_assert_int_eq(shoal_probe_message_pack(&bytes, &n_bytes, &m, NULL), SHOAL_OK);
    ck_assert_int_eq(shoal_probe_message_unpack(&out, bytes, n_bytes, "F", NULL), SHOAL_OK);
    expect_equal(&m, &out);
    free(bytes);
    shoal_probe_message_close(&m);
    shoal_probe_message_close(&out);
    shoal_probe_message_close(&out);
}
END_TEST

static void expect_refused(const shoal_probe_message *m, const char *why)
{
    uint8_t *bytes;
    size_t n_bytes;
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "host");
    shoal_probe_message out = {0};
    ck_assert_int_eq(shoal_probe_message_pack(&bytes, &n_bytes, m, &log), SHOAL_OK);
    ck_assert_int_eq(shoal_probe_message_unpack(&out, bytes, n_bytes, "some.file", &log),
                     SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log.error, "some.file"));
    ck_assert_msg(strstr(log.error, why) != NULL, "'%s' says nothing of '%s'", log.error, why);
    ck_assert_ptr_null(out.link);
    free(bytes);
}

/* One field wrong at a time; `m` names the message. */
#define REFUSED(why, change)                                                                       \
    do {                                                                                           \
        shoal_probe_message m;                                                                     \
        make(&m);                                                                                  \
        change;                                                                                    \
        expect_refused(&m, why);                                                                   \
        shoal_probe_message_close(&m);                                                             \
    } while (0)

START_TEST(what_is_inconsistent_is_refused)
{
    REFUSED("version 7", m.version = 7);
    REFUSED("more hosts than ranks", m.n_rank = 1);
    REFUSED("host that is not there", m.rank[1].host = N_HOST);
    REFUSED("host that is not there", m.rank[1].host = -1);
    REFUSED("no rank", m.rank[0].host = 1);
    REFUSED("negative or not finite", m.host[0].nic_gb_per_s = -1);
    REFUSED("negative or not finite", m.host[1].clock_s = (double)NAN);
    REFUSED("negative or not finite", m.rank[2].read_gb_per_s = (double)INFINITY);
    REFUSED("negative or not finite", m.rank[2].gpu = -2);
    REFUSED("rates", m.rank[2].rate[1].prefill_gop_per_s = (double)NAN);
    REFUSED("name or an address", m.host[0].name[1] = '\n');
    REFUSED("a link", m.link[1].latency_us = NAN);
    REFUSED("a link", m.link[1].gb_per_s = -1);
    REFUSED("path", m.link[1].path = 3);
    REFUSED("path", m.link[1].path = SHOAL_PROBE_PATH_ALIKE);
    REFUSED("too large", m.link[1].mbit_per_s = -1);
    REFUSED("interface has a name", m.link[1].interface[0] = '\t');
}
END_TEST

START_TEST(what_is_cut_off_or_foreign_is_refused)
{
    shoal_probe_message m;
    uint8_t *bytes;
    size_t n_bytes;
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "host");
    make(&m);
    ck_assert_int_eq(shoal_probe_message_pack(&bytes, &n_bytes, &m, NULL), SHOAL_OK);
    for (size_t n = 0; n < n_bytes; n++) {
        shoal_probe_message out = {0};
        const shoal_status status = shoal_probe_message_unpack(&out, bytes, n, "F", &log);
        /* The names of interfaces come last: without them links point nowhere. */
        ck_assert_int_eq(status, SHOAL_BAD_DATA);
    }
    shoal_probe_message out = {0};
    ck_assert_int_eq(shoal_probe_message_unpack(&out, (const uint8_t *)"GGUF....", 8, "F", &log),
                     SHOAL_BAD_DATA);
    free(bytes);
    shoal_probe_message_close(&m);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, round_trip);
    SHOAL_TEST(suite, what_is_inconsistent_is_refused);
    SHOAL_TEST(suite, what_is_cut_off_or_foreign_is_refused);
}

SHOAL_TEST_MAIN("proto.probe", add_tests)
