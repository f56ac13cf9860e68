/* The sim transport by itself: its clock, its order, its faults, its size. */
#include "tests/support/check_main.h"

#include "comm/comm.h"
#include "comm/sim/sim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct sim_case {
    int32_t n_rank;
    int64_t *time_us; /* [n_rank * 4] */
    int32_t *order;   /* what came in which order */
    int32_t n_order;
    FILE *trace;
} sim_case;

static void run(const shoal_sim_config *config, shoal_sim_rank_fn *fn, void *arg,
                shoal_status *status)
{
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "sim");
    ck_assert_int_eq(shoal_sim_run(config, fn, arg, status, &log), SHOAL_OK);
}

static int64_t now_us(shoal_transport *t)
{
    return t->ops->now_us(t);
}

/* ck_assert writes to a file each time, so calls that are made a million times check by hand. */
static void want_ok(shoal_status status)
{
    if (status != SHOAL_OK)
        ck_abort_msg("the transport failed: %s", shoal_status_text(status));
}

static shoal_request start(shoal_transport *t, bool is_recv, int32_t peer, void *data, size_t n)
{
    shoal_request r = {
        .is_recv = is_recv, .exact = true, .peer = peer, .tag = 7, .n_bytes = n, .data = data};
    want_ok(t->ops->start(t, &r));
    return r;
}

static void finish(shoal_transport *t, shoal_request *r)
{
    for (;;) {
        if (!r->done)
            want_ok(t->ops->test(t, r));
        if (r->done)
            return;
        t->ops->idle(t, INT64_MAX);
    }
}

/* Two messages of 1000 and 500 bytes leave rank 0 at time 100 us over 0.5 GB/s with 20 us latency:
 * they arrive at 100 + 2 + 20 and 100 + 2 + 1 + 20 us. */
static shoal_status clock_body(void *arg, int32_t rank, shoal_transport *t)
{
    sim_case *c = arg;
    static unsigned char data[2][1000];
    if (rank == 0) {
        t->ops->idle(t, 100);
        shoal_request a = start(t, false, 1, data[0], 1000);
        shoal_request b = start(t, false, 1, data[0], 500);
        ck_assert(a.done && b.done);
        c->time_us[0] = now_us(t);
    } else {
        shoal_request a = start(t, true, 0, data[1], 1000);
        shoal_request b = start(t, true, 0, data[1], 500);
        finish(t, &a);
        c->time_us[1] = now_us(t);
        finish(t, &b);
        c->time_us[2] = now_us(t);
        t->ops->idle(t, 50); /* in the past: the clock does not go back */
        c->time_us[3] = now_us(t);
    }
    t->ops->close(t, false);
    return SHOAL_OK;
}

START_TEST(test_sim_clock_formula)
{
    int64_t time_us[4] = {0};
    sim_case c = {.time_us = time_us};
    run(&(shoal_sim_config){.n_rank = 2, .latency_us = 20, .bandwidth_gb_per_s = 0.5}, clock_body,
        &c, NULL);
    ck_assert_int_eq(time_us[0], 100);
    ck_assert_int_eq(time_us[1], 122);
    ck_assert_int_eq(time_us[2], 123);
    ck_assert_int_eq(time_us[3], 123);
}
END_TEST

/* Everyone sends to rank 0 at its own time; a receive from any rank gets them by arrival. */
static shoal_status any_body(void *arg, int32_t rank, shoal_transport *t)
{
    sim_case *c = arg;
    if (rank == 0) {
        t->ops->idle(t, 15); /* some are waiting already, some come later */
        for (int32_t i = 0; i < 2 * (t->n_rank - 1); i++) {
            int32_t value = -1;
            shoal_request r = start(t, true, SHOAL_ANY_RANK, &value, sizeof(value));
            finish(t, &r);
            ck_assert_int_eq(value / 10, r.peer);
            c->order[c->n_order++] = value;
        }
    } else {
        for (int32_t i = 0; i < 2; i++) {
            t->ops->idle(t, 10 * (t->n_rank - rank));
            int32_t value = 10 * rank + i;
            start(t, false, 0, &value, sizeof(value));
        }
    }
    t->ops->close(t, false);
    return SHOAL_OK;
}

START_TEST(test_sim_any_rank_takes_by_arrival)
{
    int32_t order[6] = {0};
    sim_case c = {.order = order};
    run(&(shoal_sim_config){.n_rank = 4}, any_body, &c, NULL);
    int32_t wanted[6] = {30, 31, 20, 21, 10, 11};
    ck_assert_mem_eq(order, wanted, sizeof(wanted));
}
END_TEST

/* Faults: dead ranks say nothing more, and what they said before arrives. */
static shoal_status fault_body(void *arg, int32_t rank, shoal_transport *t)
{
    sim_case *c = arg;
    int32_t value = 10 * rank;
    shoal_status status = SHOAL_OK;
    if (rank > 0) {
        start(t, false, 0, &value, sizeof(value));
        t->ops->idle(t, 10);
        status = t->ops->fault(t, rank); /* 1 kill, 2 stop, 3 exit, 4 drop */
        c->time_us[rank] = now_us(t);
        if (status == SHOAL_OK)
            start(t, false, 0, &value, sizeof(value));
    } else {
        for (int32_t r = 1; r < t->n_rank; r++) {
            int32_t in = -1;
            shoal_request q = start(t, true, r, &in, sizeof(in));
            finish(t, &q);
            ck_assert_int_eq(in, 10 * r);
        }
        int32_t in = -1;
        shoal_request q = start(t, true, 4, &in, sizeof(in));
        t->ops->idle(t, 1000);
        ck_assert_int_eq(t->ops->test(t, &q), SHOAL_OK);
        ck_assert(!q.done);
        t->ops->cancel(t, &q);
    }
    t->ops->close(t, status != SHOAL_OK);
    return status;
}

START_TEST(test_sim_faults)
{
    int64_t time_us[5] = {0};
    sim_case c = {.time_us = time_us};
    shoal_status status[5];
    run(&(shoal_sim_config){.n_rank = 5}, fault_body, &c, status);
    ck_assert_int_eq(status[0], SHOAL_OK);
    ck_assert_int_eq(status[1], SHOAL_FAILED);
    ck_assert_int_eq(status[2], SHOAL_FAILED);
    ck_assert_int_eq(status[3], SHOAL_FAILED);
    ck_assert_int_eq(status[4], SHOAL_OK);
}
END_TEST

/* Nobody will ever send: an error, not a hang. */
static shoal_status stuck_body(void *arg, int32_t rank, shoal_transport *t)
{
    (void)arg;
    (void)rank;
    t->ops->idle(t, INT64_MAX);
    shoal_request r = {.peer = 0};
    ck_assert_int_eq(t->ops->start(t, &r), SHOAL_FAILED);
    t->ops->close(t, true);
    return SHOAL_FAILED;
}

START_TEST(test_sim_stuck_and_bad_size)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "sim");
    shoal_sim_config config = {.n_rank = 3};
    ck_assert_int_eq(shoal_sim_run(&config, stuck_body, NULL, NULL, &log), SHOAL_FAILED);
    ck_assert_ptr_nonnull(strstr(log.error, "nobody will send"));
    config.n_rank = SHOAL_SIM_N_RANK_MAX + 1;
    ck_assert_int_eq(shoal_sim_run(&config, stuck_body, NULL, NULL, &log), SHOAL_USAGE);
}
END_TEST

/* 1,024 ranks: a ring, then everyone to everyone. */
static shoal_status many_body(void *arg, int32_t rank, shoal_transport *t)
{
    int32_t(*in)[1024] = arg;
    int32_t n = t->n_rank;
    int32_t left = -1;
    shoal_request ring = start(t, true, (rank + n - 1) % n, &left, sizeof(left));
    start(t, false, (rank + 1) % n, &rank, sizeof(rank));
    finish(t, &ring);
    ck_assert_int_eq(left, (rank + n - 1) % n);

    shoal_request *r = calloc((size_t)n, sizeof(*r));
    for (int32_t p = 0; p < n; p++)
        if (p != rank)
            r[p] = start(t, true, p, &in[rank][p], sizeof(int32_t));
    for (int32_t p = 0; p < n; p++) {
        int32_t value = 1024 * rank + p;
        if (p != rank)
            start(t, false, p, &value, sizeof(value));
    }
    for (int32_t p = 0; p < n; p++)
        if (p != rank)
            finish(t, &r[p]);
    free(r);
    t->ops->close(t, false);
    return SHOAL_OK;
}

START_TEST(test_sim_1024_ranks)
{
    int32_t(*in)[1024] = calloc(1024, sizeof(*in));
    run(&(shoal_sim_config){.n_rank = 1024, .latency_us = 30, .bandwidth_gb_per_s = 1}, many_body,
        in, NULL);
    for (int32_t r = 0; r < 1024; r++)
        for (int32_t p = 0; p < 1024; p++)
            if (p != r && in[r][p] != 1024 * p + r)
                ck_abort_msg("rank %d got %d from rank %d", r, in[r][p], p);
    free(in);
}
END_TEST

/* Ranks 0 and 1 are on host 0, rank 2 on host 1, rank 3 on host 2. Between hosts 1 GB/s, so 1,000
 * bytes take 1 us, and 10 us; within one 2 GB/s and 1 us. */
static void link_of(void *arg, int32_t from, int32_t to, shoal_sim_link *link)
{
    const int32_t *host = arg;
    const bool far = host[from] != host[to];
    *link = (shoal_sim_link){.latency_us = far ? 10 : 1, .gb_per_s = far ? 1 : 2};
    if (from == 3 || to == 3) {
        link->overhead_us = 3;
        link->byte_ns = 1;
    }
}

static int32_t hosts[] = {0, 0, 1, 2};

/* Sends wait for the card of their host, and what comes for the card of the receiver's host. */
static shoal_status cards_body(void *arg, int32_t rank, shoal_transport *t)
{
    sim_case *c = arg;
    static unsigned char data[4][4][1000];
    if (rank == 0) {
        start(t, false, 1, data[0][1], 1000); /* within the host: there at 0.5 + 1 */
        start(t, false, 2, data[0][2], 1000); /* through the card from 0 to 1: there at 1 + 10 */
    } else if (rank == 1) {
        start(t, false, 2, data[1][2], 1000); /* the card is busy until 1: there at 2 + 10 */
        shoal_request r = start(t, true, 0, data[1][0], 1000);
        finish(t, &r);
        c->time_us[1] = llround(shoal_sim_clock_us(t) * 10);
    } else if (rank == 3) {
        start(t, false, 2, data[3][2], 1000); /* sent at 3 + 1: first byte at 14, done at 15 */
        c->time_us[3] = now_us(t);
    } else {
        for (int32_t i = 0; i < 3; i++) {
            const int32_t from[] = {0, 1, 3};
            shoal_request r = start(t, true, from[i], data[2][from[i]], 1000);
            finish(t, &r);
            c->time_us[4 + i] = now_us(t);
        }
    }
    t->ops->close(t, false);
    return SHOAL_OK;
}

START_TEST(test_sim_cards)
{
    int64_t time_us[8] = {0};
    sim_case c = {.time_us = time_us};
    const shoal_sim_network network = {.link = link_of, .arg = hosts, .host = hosts};
    run(&(shoal_sim_config){.n_rank = 4, .network = &network}, cards_body, &c, NULL);
    ck_assert_int_eq(time_us[1], 15); /* tenths */
    ck_assert_int_eq(time_us[3], 4);  /* 3 for the message, 1 for its bytes */
    ck_assert_int_eq(time_us[4], 11);
    ck_assert_int_eq(time_us[5], 12);
    ck_assert_int_eq(time_us[6], 19); /* 15, and 4 to take it */
}
END_TEST

/* Two senders at once to rank 2: the second waits for the card. Rank 0's small message stands in
 * line behind its large one, so that rank 3's, though sent later, passes rank 2's card first. */
static shoal_status order_body(void *arg, int32_t rank, shoal_transport *t)
{
    sim_case *c = arg;
    static unsigned char data[4][20000];
    if (rank == 0) {
        start(t, false, 3, data[0], 20000); /* the card is busy for 20 us, after 3 + 20 */
        start(t, false, 2, data[0], 1000);  /* first byte at 23 + 20 + 10, there at 54 */
    } else if (rank == 3) {
        shoal_sim_compute(t, 30);
        start(t, false, 2, data[3], 1000); /* 34, first byte at 44, there at 45 */
    } else if (rank == 2) {
        shoal_request far = start(t, true, 0, data[1], 1000);
        shoal_request near = start(t, true, 3, data[2], 1000);
        finish(t, &near);
        c->time_us[0] = now_us(t);
        finish(t, &far);
        c->time_us[1] = now_us(t);
    }
    t->ops->close(t, false);
    return SHOAL_OK;
}

START_TEST(test_sim_cards_serve_in_order_of_arrival)
{
    int64_t time_us[8] = {0};
    sim_case c = {.time_us = time_us};
    const shoal_sim_network network = {.link = link_of, .arg = hosts, .host = hosts};
    run(&(shoal_sim_config){.n_rank = 4, .network = &network}, order_body, &c, NULL);
    ck_assert_int_eq(time_us[0], 49); /* 45, and 4 to take it */
    ck_assert_int_eq(time_us[1], 54);
}
END_TEST

/* Computing is not interrupted by what arrives. */
static shoal_status compute_body(void *arg, int32_t rank, shoal_transport *t)
{
    sim_case *c = arg;
    int32_t value = 5;
    if (rank == 0) {
        start(t, false, 1, &value, sizeof(value));
    } else {
        shoal_request r = start(t, true, 0, &value, sizeof(value));
        want_ok(t->ops->test(t, &r));
        shoal_sim_compute(t, 100);
        c->time_us[0] = now_us(t);
        finish(t, &r);
        c->time_us[1] = now_us(t);
    }
    t->ops->close(t, false);
    return SHOAL_OK;
}

START_TEST(test_sim_compute)
{
    int64_t time_us[2] = {0};
    sim_case c = {.time_us = time_us};
    run(&(shoal_sim_config){.n_rank = 2, .latency_us = 20}, compute_body, &c, NULL);
    ck_assert_int_eq(time_us[0], 100);
    ck_assert_int_eq(time_us[1], 100);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_sim_cards);
    SHOAL_TEST(suite, test_sim_cards_serve_in_order_of_arrival);
    SHOAL_TEST(suite, test_sim_compute);
    SHOAL_TEST(suite, test_sim_clock_formula);
    SHOAL_TEST(suite, test_sim_any_rank_takes_by_arrival);
    SHOAL_TEST(suite, test_sim_faults);
    SHOAL_TEST(suite, test_sim_stuck_and_bad_size);
    SHOAL_TEST(suite, test_sim_1024_ranks);
}

SHOAL_TEST_MAIN("comm.sim", add_tests)
