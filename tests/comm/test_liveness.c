/* Deadlines and blame, in virtual time: a lost rank is found, named by all, and nobody else is. */
#include "tests/comm/virtual.h"
#include "tests/support/check_main.h"

enum { N_STEP = 3, N_LAYER = 2 };

/* One exchange: everyone to everyone. */
static shoal_status exchange(shoal_comm *comm, const char *what)
{
    int32_t n = shoal_comm_n_rank(comm);
    int32_t me = shoal_comm_rank(comm);
    shoal_request r[2 * 64];
    int64_t in[64];
    int64_t out = shoal_comm_now_us(comm);
    int32_t n_open = 0;
    for (int32_t p = 0; p < n; p++) {
        if (p == me)
            continue;
        SHOAL_TRY(shoal_comm_recv(comm, &r[n_open++], p, SHOAL_TAG_DISPATCH, &in[p], sizeof(out)));
        SHOAL_TRY(shoal_comm_send(comm, &r[n_open++], p, SHOAL_TAG_DISPATCH, &out, sizeof(out)));
    }
    return shoal_comm_wait(comm, r, n_open, what);
}

static shoal_status steps_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    for (int32_t step = 0; step < N_STEP; step++) {
        SHOAL_TRY(shoal_comm_at(comm, step, -1));
        for (int32_t layer = 0; layer < N_LAYER; layer++) {
            SHOAL_TRY(shoal_comm_at(comm, step, layer));
            SHOAL_TRY(exchange(comm, "dispatch rows"));
        }
    }
    return SHOAL_OK;
}

static bool says_lost(const char *log, int32_t rank)
{
    char text[64];
    snprintf(text, sizeof(text), "rank %d (host-%d) is lost", rank, rank);
    return strstr(log, text) != NULL;
}

/* Everyone who still speaks names `lost` and nobody else, once, and ends with `PEER_LOST`. */
static void expect_lost(const virtual_run *run, int32_t lost, bool lost_speaks)
{
    for (int32_t r = 0; r < run->sim.n_rank; r++) {
        if (r == lost && !lost_speaks) {
            ck_assert_int_eq(run->status[r], SHOAL_FAILED);
            ck_assert_ptr_nonnull(strstr(run->log[r], "injected fault"));
            ck_assert_ptr_null(strstr(run->log[r], "is lost"));
            continue;
        }
        ck_assert_msg(run->status[r] == SHOAL_PEER_LOST, "rank %d of a run that lost %d: %s: %s", r,
                      lost, shoal_status_text(run->status[r]), run->log[r]);
        ck_assert(!run->together[r]);
        const char *first = strstr(run->log[r], "is lost");
        ck_assert_ptr_nonnull(first);
        ck_assert_msg(!strstr(first + 1, "is lost"), "said twice: %s", run->log[r]);
        for (int32_t q = 0; q < run->sim.n_rank; q++)
            ck_assert_msg(says_lost(run->log[r], q) == (q == lost), "rank %d, lost %d: %s", r, lost,
                          run->log[r]);
    }
}

START_TEST(test_liveness_every_fault_of_every_rank)
{
    static const struct {
        int64_t step;
        int32_t layer;
    } place[] = {{0, -1}, {0, 1}, {1, 0}, {2, 1}};
    for (int32_t kind = SHOAL_FAULT_KILL; kind <= SHOAL_FAULT_DROP; kind++) {
        for (int32_t lost = 0; lost < 4; lost++) {
            for (size_t i = 0; i < sizeof(place) / sizeof(place[0]); i++) {
                virtual_run run;
                virtual_begin(&run, 4, steps_body);
                run.comm.fault = (shoal_fault){.kind = (shoal_fault_kind)kind,
                                               .rank = lost,
                                               .step = place[i].step,
                                               .layer = place[i].layer};
                virtual_go(&run);
                expect_lost(&run, lost, kind == SHOAL_FAULT_DROP);
                /* Found at the deadline, in virtual time, and not much later. */
                int32_t other = (lost + 1) % 4;
                ck_assert_int_ge(run.end_us[other], 5000000);
                ck_assert_int_le(run.end_us[other], 5100000);
                virtual_end(&run);
            }
        }
    }
}
END_TEST

START_TEST(test_liveness_text)
{
    virtual_run run;
    virtual_begin(&run, 3, steps_body);
    run.comm.fault = (shoal_fault){.kind = SHOAL_FAULT_STOP, .rank = 2, .step = 1, .layer = 1};
    virtual_go(&run);
    ck_assert_msg(strstr(run.log[0],
                         "[0 host-0] error: rank 2 (host-2) is lost: silent for 5.0 s, waiting "
                         "for dispatch rows at step 1, layer 1; last heard 5.0 s ago") != NULL,
                  "%s", run.log[0]);
    virtual_end(&run);
}
END_TEST

START_TEST(test_liveness_same_run_same_log)
{
    virtual_run run[2];
    for (int32_t i = 0; i < 2; i++) {
        virtual_begin(&run[i], 16, steps_body);
        run[i].comm.fault =
            (shoal_fault){.kind = SHOAL_FAULT_DROP, .rank = 11, .step = 1, .layer = 0};
        virtual_go(&run[i]);
        expect_lost(&run[i], 11, true);
    }
    for (int32_t r = 0; r < 16; r++) {
        ck_assert_str_eq(run[0].log[r], run[1].log[r]);
        ck_assert_int_eq(run[0].end_us[r], run[1].end_us[r]);
    }
    virtual_end(&run[0]);
    virtual_end(&run[1]);
}
END_TEST

static shoal_status receive_from(shoal_comm *comm, int32_t peer)
{
    char byte = 0;
    shoal_request r;
    SHOAL_TRY(shoal_comm_recv(comm, &r, peer, SHOAL_TAG_RESULT, &byte, 1));
    return shoal_comm_wait(comm, &r, 1, "results");
}

static shoal_status send_to(shoal_comm *comm, int32_t peer)
{
    char byte = 0;
    shoal_request r;
    SHOAL_TRY(shoal_comm_send(comm, &r, peer, SHOAL_TAG_RESULT, &byte, 1));
    return shoal_comm_wait(comm, &r, 1, "sending results");
}

/* Rank r waits for rank r + 1, the last one fails: only rank n - 2 can notice, and rank 0, which
 * has waited as long for a rank that says nothing but "I wait", must not blame it. */
static shoal_status chain_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    int32_t me = shoal_comm_rank(comm);
    SHOAL_TRY(shoal_comm_at(comm, 0, 0));
    if (me + 1 < shoal_comm_n_rank(comm))
        SHOAL_TRY(receive_from(comm, me + 1));
    return me > 0 ? send_to(comm, me - 1) : SHOAL_OK;
}

START_TEST(test_liveness_chain_blames_the_end)
{
    for (int32_t kind = SHOAL_FAULT_NONE; kind <= SHOAL_FAULT_DROP; kind++) {
        virtual_run run;
        virtual_begin(&run, 5, chain_body);
        run.comm.fault =
            (shoal_fault){.kind = (shoal_fault_kind)kind, .rank = 4, .step = 0, .layer = 0};
        virtual_go(&run);
        if (kind == SHOAL_FAULT_NONE) {
            for (int32_t r = 0; r < 5; r++)
                ck_assert_int_eq(run.status[r], SHOAL_OK);
        } else if (kind != SHOAL_FAULT_DROP) {
            expect_lost(&run, 4, false);
            ck_assert_ptr_nonnull(strstr(run.log[3], "error: rank 4"));
            ck_assert_ptr_nonnull(strstr(run.log[0], "error: told by rank"));
        } else {
            expect_lost(&run, 4, true);
            ck_assert_ptr_nonnull(strstr(run.log[4], "that is this rank"));
        }
        virtual_end(&run);
    }
}
END_TEST

/* Rank 2 computes for 40 s; the others wait. With polls it is alive, without it is not. */
static shoal_status compute_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    bool polls = *(const bool *)run->arg;
    if (shoal_comm_rank(comm) == 2) {
        int64_t start = shoal_comm_now_us(comm);
        for (int64_t t = 0; t < 40000000; t += 300000) {
            while (shoal_comm_now_us(comm) < start + t)
                transport->ops->idle(transport, start + t);
            if (polls)
                SHOAL_TRY(shoal_comm_poll(comm));
        }
    }
    return exchange(comm, "dispatch rows");
}

START_TEST(test_liveness_long_compute)
{
    for (int32_t polls = 0; polls < 2; polls++) {
        bool arg = polls;
        virtual_run run;
        virtual_begin(&run, 4, compute_body);
        run.arg = &arg;
        virtual_go(&run);
        if (polls) {
            for (int32_t r = 0; r < 4; r++)
                ck_assert_msg(run.status[r] == SHOAL_OK, "%s", run.log[r]);
            ck_assert_int_ge(run.end_us[0], 39000000);
        } else {
            expect_lost(&run, 2, true);
        }
        virtual_end(&run);
    }
}
END_TEST

/* Rank 0 first receives from rank 1 long after it was heard (rank 0 itself was busy without polls):
 * the deadline counts from the beginning of the wait. */
static shoal_status late_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    int32_t me = shoal_comm_rank(comm);
    int64_t until = me == 0 ? 20000000 : 24000000;
    while (shoal_comm_now_us(comm) < until)
        transport->ops->idle(transport, until);
    return me == 0 ? receive_from(comm, 1) : send_to(comm, 0);
}

START_TEST(test_liveness_deadline_counts_from_the_wait)
{
    virtual_run run;
    virtual_begin(&run, 2, late_body);
    virtual_go(&run);
    for (int32_t r = 0; r < 2; r++)
        ck_assert_msg(run.status[r] == SHOAL_OK, "%s", run.log[r]);
    virtual_end(&run);
}
END_TEST

/* All alive, all waiting in a circle; rank 3 waits for the circle. */
static shoal_status circle_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    int32_t me = shoal_comm_rank(comm);
    SHOAL_TRY(shoal_comm_at(comm, 7, 3));
    return receive_from(comm, me == 3 ? 0 : (me + 1) % 3);
}

START_TEST(test_liveness_circle)
{
    virtual_run run;
    virtual_begin(&run, 4, circle_body);
    virtual_go(&run);
    int32_t n_named = 0;
    for (int32_t r = 0; r < 4; r++) {
        ck_assert_int_eq(run.status[r], SHOAL_FAILED);
        ck_assert_ptr_null(strstr(run.log[r], "is lost"));
        ck_assert_int_ge(run.end_us[r], 60000000);
        ck_assert_int_le(run.end_us[r], 63000000);
        n_named += strstr(run.log[r],
                          "wait for each other: rank 0 waits for rank 1 waits for rank "
                          "2 waits for rank 0 (waiting for results at step 7, layer 3") != NULL;
    }
    ck_assert_msg(n_named >= 1, "%s", run.log[0]);
    virtual_end(&run);
}
END_TEST

/* Rank 1 fails on its own while the others wait for it. */
static shoal_status failing_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    while (shoal_comm_rank(comm) == 1 && shoal_comm_now_us(comm) < 2000000)
        transport->ops->idle(transport, 2000000);
    return shoal_comm_rank(comm) == 1 ? SHOAL_IO : exchange(comm, "dispatch rows");
}

START_TEST(test_liveness_failure_is_announced)
{
    virtual_run run;
    virtual_begin(&run, 4, failing_body);
    virtual_go(&run);
    for (int32_t r = 0; r < 4; r++) {
        ck_assert_int_eq(run.status[r], SHOAL_IO);
        ck_assert(!run.together[r]);
        ck_assert_int_le(run.end_us[r], 2100000); /* at once, not at the deadline */
        const char *text =
            "that rank 1 (host-1) failed (before the first step): input/output error";
        ck_assert_msg((strstr(run.log[r], text) != NULL) == (r != 1), "%s", run.log[r]);
    }
    virtual_end(&run);
}
END_TEST

/* Rank 1's device fails where a fault is injected; the next thing that waits for the device says
 * so.
 */
static void fail_device(void *arg)
{
    *(bool *)arg = true;
}

static shoal_status device_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    bool failed = false;
    shoal_comm_set_device_fault(comm, fail_device, &failed);
    for (int32_t step = 0; step < N_STEP; step++) {
        SHOAL_TRY(shoal_comm_at(comm, step, 1));
        if (failed)
            return SHOAL_UNAVAILABLE;
        SHOAL_TRY(exchange(comm, "dispatch rows"));
    }
    return SHOAL_OK;
}

START_TEST(test_liveness_a_device_that_failed_is_a_loss)
{
    virtual_run run;
    virtual_begin(&run, 4, device_body);
    run.comm.fault = (shoal_fault){.kind = SHOAL_FAULT_DEVICE, .rank = 1, .step = 2, .layer = 1};
    virtual_go(&run);
    for (int32_t r = 0; r < 4; r++) {
        ck_assert_int_eq(run.status[r], r == 1 ? SHOAL_UNAVAILABLE : SHOAL_PEER_LOST);
        ck_assert(!run.together[r]);
        ck_assert_int_le(run.end_us[r], 100000); /* at once, not at the deadline */
        ck_assert(says_lost(run.log[r], 1));
        ck_assert_msg(strstr(run.log[r], "step 2, layer 1") != NULL, "%s", run.log[r]);
        ck_assert_ptr_nonnull(strstr(run.log[r], "its device is unavailable"));
    }
    virtual_end(&run);
}
END_TEST

/* A signal for rank 0 while all wait for rank 2, which never sends. */
static shoal_status signal_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    if (shoal_comm_rank(comm) != 2)
        return receive_from(comm, 2);
    while (shoal_comm_now_us(comm) < 3300000)
        transport->ops->idle(transport, 3300000);
    *(volatile sig_atomic_t *)run->arg = 1;
    return receive_from(comm, 0);
}

START_TEST(test_liveness_signal_ends_waits)
{
    volatile sig_atomic_t interrupted = 0;
    virtual_run run;
    virtual_begin(&run, 3, signal_body);
    run.interrupted = &interrupted;
    run.arg = (void *)(uintptr_t)&interrupted;
    virtual_go(&run);
    for (int32_t r = 0; r < 3; r++) {
        ck_assert_int_eq(run.status[r], SHOAL_INTERRUPTED);
        ck_assert_int_le(run.end_us[r], 4400000);
    }
    ck_assert_ptr_nonnull(strstr(run.log[0], "stopped by signal 1, waiting for results"));
    ck_assert_ptr_nonnull(
        strstr(run.log[1], "told by rank 0 (host-0) that rank 0 (host-0) failed"));
    virtual_end(&run);
}
END_TEST

/* Two ranks fall silent at different times: both others blame the one silent for longer. */
static shoal_status two_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    int32_t me = shoal_comm_rank(comm);
    if (me >= 2) {
        int64_t until = me == 2 ? 3000000 : 1000000;
        while (shoal_comm_now_us(comm) < until)
            transport->ops->idle(transport, until);
        SHOAL_TRY(shoal_comm_poll(comm)); /* a last sign of life */
        return transport->ops->fault(transport, SHOAL_FAULT_STOP);
    }
    return exchange(comm, "dispatch rows");
}

START_TEST(test_liveness_longest_silence_is_blamed)
{
    virtual_run run;
    virtual_begin(&run, 4, two_body);
    virtual_go(&run);
    for (int32_t r = 0; r < 2; r++) {
        ck_assert_int_eq(run.status[r], SHOAL_PEER_LOST);
        ck_assert_msg(says_lost(run.log[r], 3) && !says_lost(run.log[r], 2), "%s", run.log[r]);
    }
    virtual_end(&run);
}
END_TEST

/* A rank that is lost before the first exchange is found while opening, too. */
static shoal_status unopened(void *arg, int32_t rank, shoal_transport *transport)
{
    if (rank != 1)
        return virtual_rank(arg, rank, transport);
    transport->ops->close(transport, true);
    return SHOAL_FAILED;
}

START_TEST(test_liveness_lost_while_opening)
{
    virtual_run run;
    virtual_begin(&run, 3, steps_body);
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "sim");
    ck_assert_int_eq(shoal_sim_run(&run.sim, unopened, &run, run.status, &log), SHOAL_OK);
    ck_assert_int_eq(run.status[0], SHOAL_PEER_LOST);
    ck_assert_int_eq(run.status[2], SHOAL_PEER_LOST);
    ck_assert_msg(strstr(run.log[0], "rank 1 (host not yet known) is lost") != NULL, "%s",
                  run.log[0]);
    virtual_end(&run);
}
END_TEST

START_TEST(test_liveness_64_ranks)
{
    virtual_run run;
    virtual_begin(&run, 64, steps_body);
    run.comm.fault = (shoal_fault){.kind = SHOAL_FAULT_STOP, .rank = 63, .step = 1, .layer = 1};
    virtual_go(&run);
    expect_lost(&run, 63, false);
    virtual_end(&run);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_liveness_every_fault_of_every_rank);
    SHOAL_TEST(suite, test_liveness_text);
    SHOAL_TEST(suite, test_liveness_same_run_same_log);
    SHOAL_TEST(suite, test_liveness_chain_blames_the_end);
    SHOAL_TEST(suite, test_liveness_long_compute);
    SHOAL_TEST(suite, test_liveness_deadline_counts_from_the_wait);
    SHOAL_TEST(suite, test_liveness_circle);
    SHOAL_TEST(suite, test_liveness_failure_is_announced);
    SHOAL_TEST(suite, test_liveness_a_device_that_failed_is_a_loss);
    SHOAL_TEST(suite, test_liveness_signal_ends_waits);
    SHOAL_TEST(suite, test_liveness_longest_silence_is_blamed);
    SHOAL_TEST(suite, test_liveness_lost_while_opening);
    SHOAL_TEST(suite, test_liveness_64_ranks);
}

SHOAL_TEST_MAIN("comm.liveness", add_tests)
