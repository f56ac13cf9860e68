/* The clocks of ranks on one scale, and the file of a trace from spans made by hand. */
#include "comm/sim/sim.h"
#include "launcher/trace/trace.h"
#include "runtime/base/json.h"
#include "runtime/model/work.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <unistd.h>

static shoal_clock_offset offset(int64_t offset_us, int64_t error_us, int64_t at_us)
{
    return (shoal_clock_offset){.offset_us = offset_us, .error_us = error_us, .at_us = at_us};
}

START_TEST(the_better_comparison_counts)
{
    const shoal_clock_offset start = offset(500, 40, 10000), end = offset(520, 10, 90000);
    ck_assert_int_eq(shoal_clock_to_ns(&start, &end, 10000), (10000 - 520) * 1000);
    ck_assert_int_eq(shoal_clock_to_ns(&end, &start, 10000), (10000 - 520) * 1000);
    const shoal_clock_offset same = offset(0, 0, 0); /* rank 0 */
    ck_assert_int_eq(shoal_clock_to_ns(&same, &same, 123), 123000);
}
END_TEST

START_TEST(a_drift_beyond_the_errors_is_even)
{
    const shoal_clock_offset start = offset(1000, 10, 100000), end = offset(2000, 10, 1100000);
    ck_assert_int_eq(shoal_clock_to_ns(&start, &end, 100000), 99000 * 1000);
    ck_assert_int_eq(shoal_clock_to_ns(&start, &end, 600000), (600000 - 1500) * 1000);
    ck_assert_int_eq(shoal_clock_to_ns(&start, &end, 1100000), (1100000 - 2000) * 1000);
    int64_t before = 0; /* and the order is kept */
    for (int64_t t = 100000; t < 101000; t++) {
        const int64_t ns = shoal_clock_to_ns(&start, &end, t);
        ck_assert_int_gt(ns, before);
        before = ns;
    }
}
END_TEST

/* In sim all ranks have one clock: what is found is the error of the way. */
static shoal_status compare(void *arg, int32_t rank, shoal_transport *transport)
{
    shoal_clock_offset *found = arg;
    shoal_log log;
    shoal_log_init(&log, NULL, rank, "sim");
    shoal_comm *comm = NULL;
    const shoal_comm_config config = {.deadline_s = 5};
    SHOAL_TRY(shoal_comm_open(&comm, transport, &config, &log));
    const shoal_status status = shoal_clock_compare(rank == 0 ? found : NULL, comm);
    shoal_comm_close(comm, status);
    return status;
}

START_TEST(clocks_are_compared)
{
    enum { N_RANK = 4 };
    shoal_clock_offset found[N_RANK];
    shoal_status status[N_RANK];
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    const shoal_sim_config sim = {.n_rank = N_RANK, .latency_us = 50};
    ck_assert_int_eq(shoal_sim_run(&sim, compare, found, status, &log), SHOAL_OK);
    ck_assert_int_eq(found[0].offset_us, 0);
    for (int32_t r = 1; r < N_RANK; r++) {
        ck_assert_int_eq(status[r], SHOAL_OK);
        ck_assert_int_ge(found[r].error_us, 50); /* half of there and back */
        ck_assert_int_le(llabs(found[r].offset_us), found[r].error_us + 1);
    }
}
END_TEST

static void put(shoal_timeline *t, int64_t start_us, int64_t end_us, int32_t kind, int32_t layer)
{
    const int64_t number = shoal_timeline_begin(t, SHOAL_SPAN_OPEN, start_us);
    t->layer = layer;
    const shoal_span span = {.end_us = end_us, .kind = (uint8_t)kind, .n = 1};
    shoal_timeline_end(t, number, &span);
    t->layer = -1;
}

START_TEST(a_trace_of_one_rank)
{
    char path[] = "/tmp/shoal-trace-XXXXXX";
    const int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "a \"host\"");
    shoal_transport *transport;
    shoal_comm *comm;
    const shoal_comm_config config = {.deadline_s = 5};
    ck_assert_int_eq(shoal_transport_open_self(&transport), SHOAL_OK);
    ck_assert_int_eq(shoal_comm_open(&comm, transport, &config, &log), SHOAL_OK);
    shoal_trace trace;
    const shoal_trace_labels labels = {
        .command = "test", .model = "a\\b", .build = "x", .n_layer = 2};
    ck_assert_int_eq(shoal_trace_open(&trace, path, 5, &labels, comm), SHOAL_OK);
    ck_assert_int_eq(shoal_trace_start(&trace), SHOAL_OK);
    shoal_timeline *t = &trace.timeline;
    const int32_t attention = SHOAL_SPAN_PHASE + (int32_t)SHOAL_PHASE_NUMBER(attention);
    const int32_t logits = SHOAL_SPAN_PHASE + (int32_t)SHOAL_PHASE_NUMBER(logits);
    t->step = 7;
    put(t, 1000, 1100, attention, 0);
    put(t, 1100, 1300, attention, 1);
    put(t, 1300, 1301, attention, 2); /* of the MTP layer */
    put(t, 1301, 1400, logits, -1);
    put(t, 1350, 1360, SHOAL_SPAN_WAIT, -1);
    put(t, 1400, 1500, logits, -1); /* has no room */
    shoal_status wrote;
    ck_assert_int_eq(shoal_trace_finish(&trace, &wrote), SHOAL_OK);
    ck_assert_int_eq(wrote, SHOAL_OK);
    ck_assert_int_eq(trace.n_span, 5);
    ck_assert_int_eq(trace.n_left_out, 1);
    shoal_trace_close(&trace);
    shoal_trace_close(&trace);
    shoal_comm_close(comm, SHOAL_OK);

    shoal_json *doc;
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_OK);
    const shoal_json *events = shoal_json_get(doc, "traceEvents");
    ck_assert_uint_eq(shoal_json_size(events), 4 + 3 + 5); /* names, layers, spans */
    static const char *const layers[] = {"layer 0", "layer 1", "MTP layer 2"};
    int32_t n_layer = 0;
    double first = -1;
    for (size_t i = 0; i < shoal_json_size(events); i++) {
        const shoal_json *e = shoal_json_at(events, i);
        if (shoal_json_int(shoal_json_get(e, "tid"), 0) == 1 && shoal_json_get(e, "ts") != NULL) {
            ck_assert_str_eq(shoal_json_string(shoal_json_get(e, "name"), NULL), layers[n_layer]);
            n_layer++;
        }
        if (first < 0)
            first = shoal_json_number(shoal_json_get(e, "ts"), -1);
    }
    ck_assert_int_eq(n_layer, 3);
    ck_assert_double_eq(first, 0);
    const shoal_json *rank =
        shoal_json_at(shoal_json_get(shoal_json_get(doc, "otherData"), "rank"), 0);
    ck_assert_int_eq(shoal_json_int(shoal_json_get(rank, "left_out"), -1), 1);
    shoal_json_close(doc);
    unlink(path);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, the_better_comparison_counts);
    SHOAL_TEST(suite, a_drift_beyond_the_errors_is_even);
    SHOAL_TEST(suite, clocks_are_compared);
    SHOAL_TEST(suite, a_trace_of_one_rank);
}

SHOAL_TEST_MAIN("launcher.trace_file", add_tests)
