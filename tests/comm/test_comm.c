/* Messages, splitting and collective helpers over self and sim. */
#include "tests/comm/virtual.h"
#include "tests/support/check_main.h"

#include "runtime/base/clock.h"

static unsigned char byte_of(int32_t rank, size_t i, int32_t salt)
{
    return (unsigned char)(31 * (size_t)rank + 7 * i + (size_t)salt);
}

static void fill(unsigned char *data, size_t n, int32_t rank, int32_t salt)
{
    for (size_t i = 0; i < n; i++)
        data[i] = byte_of(rank, i, salt);
}

static void check_filled(const unsigned char *data, size_t n, int32_t rank, int32_t salt)
{
    for (size_t i = 0; i < n; i++)
        if (data[i] != byte_of(rank, i, salt))
            ck_abort_msg("byte %zu of %zu from rank %d is wrong", i, n, rank);
}

/* Every size from every rank to every rank, all open at once, twice with one tag: order is kept. */
static shoal_status sizes_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    static const size_t size[] = {0, 1, 7, 4096, 100003, 300000};
    enum { N_SIZE = 6, N_ROUND = 2 };
    (void)run;
    (void)transport;
    int32_t n = shoal_comm_n_rank(comm);
    int32_t me = shoal_comm_rank(comm);
    shoal_request *r = calloc((size_t)(2 * n * N_SIZE * N_ROUND), sizeof(*r));
    unsigned char **buffer = calloc((size_t)(2 * n * N_SIZE * N_ROUND), sizeof(*buffer));
    int32_t n_open = 0;
    for (int32_t p = 0; p < n; p++) {
        for (int32_t k = 0; p != me && k < N_SIZE * N_ROUND; k++) {
            size_t bytes = size[k % N_SIZE];
            unsigned char *out = buffer[n_open] = malloc(bytes + 1);
            fill(out, bytes, me, k + p);
            SHOAL_TRY(shoal_comm_send(comm, &r[n_open++], p, SHOAL_TAG_DISPATCH, out, bytes));
            unsigned char *in = buffer[n_open] = malloc(bytes + 1);
            SHOAL_TRY(shoal_comm_recv(comm, &r[n_open++], p, SHOAL_TAG_DISPATCH, in, bytes));
        }
    }
    SHOAL_TRY(shoal_comm_wait(comm, r, n_open, "all sizes"));
    uint64_t bytes_in = 0;
    for (int32_t i = 1; i < n_open; i += 2) {
        int32_t k = (i / 2) % (N_SIZE * N_ROUND);
        ck_assert(r[i].done && r[i].n_bytes == size[k % N_SIZE]);
        check_filled(buffer[i], r[i].n_bytes, r[i].peer, k + me);
        bytes_in += r[i].n_bytes;
    }
    for (int32_t i = 0; i < n_open; i++)
        free(buffer[i]);
    free(buffer);
    free(r);
    const shoal_comm_counters *count = shoal_comm_count(comm);
    ck_assert_uint_ge(count->received_bytes, bytes_in);
    ck_assert_uint_ge(count->sent_messages, (uint64_t)n_open / 2);
    ck_assert_int_gt(count->wait_us, 0);
    return SHOAL_OK;
}

static void expect_all(const virtual_run *run, shoal_status status)
{
    for (int32_t r = 0; r < run->sim.n_rank; r++) {
        ck_assert_msg(run->status[r] == status, "rank %d: %s; %s", r,
                      shoal_status_text(run->status[r]), run->log[r]);
        ck_assert(run->together[r]);
        if (status == SHOAL_OK)
            ck_assert_str_eq(run->log[r], "");
    }
}

START_TEST(test_comm_sizes)
{
    virtual_run run;
    for (int32_t n_rank = 2; n_rank <= 5; n_rank += 3) {
        virtual_begin(&run, n_rank, sizes_body);
        virtual_go(&run);
        expect_all(&run, SHOAL_OK);
        virtual_end(&run);
    }
}
END_TEST

START_TEST(test_comm_sizes_split)
{
    static const size_t part[] = {17, 1000, 4096, 100003, 299999};
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        virtual_run run;
        virtual_begin(&run, 3, sizes_body);
        run.part_bytes = part[i];
        virtual_go(&run);
        expect_all(&run, SHOAL_OK);
        virtual_end(&run);
    }
}
END_TEST

/* Sends only part of what is awaited, and more than that. */
static shoal_status upto_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    unsigned char data[64];
    shoal_request r = SHOAL_REQUEST_NONE;
    SHOAL_TRY(shoal_comm_wait(comm, &r, 1, "nothing"));
    if (shoal_comm_rank(comm) == 0) {
        fill(data, 64, 0, 1);
        SHOAL_TRY(shoal_comm_send(comm, &r, 1, SHOAL_TAG_CONTROL, data, 23));
        return shoal_comm_wait(comm, &r, 1, "control");
    }
    SHOAL_TRY(shoal_comm_recv_upto(comm, &r, 0, SHOAL_TAG_CONTROL, data, sizeof(data)));
    SHOAL_TRY(shoal_comm_wait(comm, &r, 1, "control"));
    ck_assert_uint_eq(r.n_bytes, 23);
    ck_assert_int_eq(r.peer, 0);
    check_filled(data, 23, 0, 1);
    return SHOAL_OK;
}

START_TEST(test_comm_recv_upto)
{
    virtual_run run;
    virtual_begin(&run, 2, upto_body);
    virtual_go(&run);
    expect_all(&run, SHOAL_OK);
    virtual_end(&run);
}
END_TEST

/* A message of another size than wanted is an error for all, not an overrun. */
static shoal_status wrong_size_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)transport;
    unsigned char data[64] = {0};
    size_t n_bytes = *(const size_t *)run->arg;
    shoal_request r;
    int32_t me = shoal_comm_rank(comm);
    if (me == 0)
        SHOAL_TRY(shoal_comm_send(comm, &r, 1, SHOAL_TAG_CONTROL, data, n_bytes));
    else
        SHOAL_TRY(shoal_comm_recv(comm, &r, 1 - me, SHOAL_TAG_CONTROL, data, 8));
    SHOAL_TRY(shoal_comm_wait(comm, &r, 1, "control"));
    SHOAL_TRY(shoal_comm_recv(comm, &r, 1 - me, SHOAL_TAG_RESULT, data, 8));
    return shoal_comm_wait(comm, &r, 1, "results");
}

START_TEST(test_comm_wrong_size)
{
    static const size_t size[] = {7, 9};
    for (int32_t i = 0; i < 2; i++) {
        virtual_run run;
        virtual_begin(&run, 2, wrong_size_body);
        run.arg = (void *)(uintptr_t)&size[i];
        shoal_log log;
        shoal_log_init(&log, NULL, 0, "sim");
        ck_assert_int_eq(shoal_sim_run(&run.sim, virtual_rank, &run, run.status, &log), SHOAL_OK);
        ck_assert_ptr_nonnull(strstr(log.error, "disagree"));
        ck_assert_int_eq(run.status[0], SHOAL_FAILED);
        ck_assert_int_eq(run.status[1], SHOAL_FAILED);
        ck_assert_ptr_nonnull(
            strstr(run.log[0], "told by rank 1 (host-1) that rank 1 (host-1) failed"));
        virtual_end(&run);
    }
}
END_TEST

static shoal_status collective_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    int32_t n = shoal_comm_n_rank(comm);
    int32_t me = shoal_comm_rank(comm);
    for (int32_t root = 0; root < n; root++) {
        int64_t data[3] = {me, me, me};
        SHOAL_TRY(shoal_comm_bcast(comm, data, sizeof(data), root));
        ck_assert(data[0] == root && data[2] == root);
        int32_t mine = 100 + me;
        int32_t *all = me == root ? calloc((size_t)n, sizeof(*all)) : NULL;
        SHOAL_TRY(shoal_comm_gather(comm, all, &mine, sizeof(mine), root));
        for (int32_t r = 0; all && r < n; r++)
            ck_assert_int_eq(all[r], 100 + r);
        free(all);
        char host[32];
        snprintf(host, sizeof(host), "host-%d", root);
        ck_assert_str_eq(shoal_comm_host(comm, root), host);
    }
    return shoal_comm_agree(comm, SHOAL_OK, "nothing bad");
}

START_TEST(test_comm_collectives)
{
    static const int32_t n_rank[] = {1, 2, 7};
    for (size_t i = 0; i < 3; i++) {
        virtual_run run;
        virtual_begin(&run, n_rank[i], collective_body);
        virtual_go(&run);
        expect_all(&run, SHOAL_OK);
        virtual_end(&run);
    }
}
END_TEST

/* Two of four fail: all get the worse status, those without a failure of their own say who failed,
 * and they leave together. */
static shoal_status agree_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)run;
    (void)transport;
    static const shoal_status mine[] = {SHOAL_OK, SHOAL_BAD_DATA, SHOAL_NO_MEMORY, SHOAL_OK};
    return shoal_comm_agree(comm, mine[shoal_comm_rank(comm)], "loading the model");
}

START_TEST(test_comm_agree_on_failure)
{
    virtual_run run;
    virtual_begin(&run, 4, agree_body);
    virtual_go(&run);
    expect_all(&run, SHOAL_BAD_DATA);
    const char *text = "rank 1 (host-1) failed in loading the model: bad input data";
    ck_assert_ptr_nonnull(strstr(run.log[0], text));
    ck_assert_ptr_nonnull(strstr(run.log[3], text));
    ck_assert_str_eq(run.log[1], "");
    ck_assert_str_eq(run.log[2], "");
    virtual_end(&run);
}
END_TEST

START_TEST(test_comm_self)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "here");
    shoal_transport *transport = NULL;
    ck_assert_int_eq(shoal_transport_open_self(&transport), SHOAL_OK);
    volatile sig_atomic_t interrupted = 0;
    shoal_comm_config config = {.deadline_s = 1, .interrupted = &interrupted};
    shoal_comm *comm = NULL;
    ck_assert_int_eq(shoal_comm_open(&comm, transport, &config, &log), SHOAL_OK);
    ck_assert_int_eq(shoal_comm_rank(comm), 0);
    ck_assert_int_eq(shoal_comm_n_rank(comm), 1);
    ck_assert_str_eq(shoal_comm_host(comm, 0), "here");
    ck_assert_str_eq(shoal_comm_transport_name(comm), "self");
    ck_assert_ptr_eq(shoal_comm_log(comm), &log);
    int32_t mine = 5;
    int32_t all = 0;
    ck_assert_int_eq(shoal_comm_gather(comm, &all, &mine, sizeof(mine), 0), SHOAL_OK);
    ck_assert_int_eq(all, 5);
    ck_assert_int_eq(shoal_comm_bcast(comm, &mine, sizeof(mine), 0), SHOAL_OK);
    ck_assert_int_eq(shoal_comm_agree(comm, SHOAL_IO, "x"), SHOAL_IO);
    ck_assert_int_eq(shoal_comm_at(comm, 0, 0), SHOAL_OK);
    ck_assert_int_eq(shoal_comm_poll(comm), SHOAL_OK);
    int64_t now = shoal_clock_us();
    ck_assert_int_le(now, shoal_comm_now_us(comm));
    interrupted = 1;
    ck_assert_int_eq(shoal_comm_poll(comm), SHOAL_INTERRUPTED);
    shoal_comm_close(comm, SHOAL_INTERRUPTED);
    shoal_comm_close(NULL, SHOAL_OK);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_comm_sizes);
    SHOAL_TEST(suite, test_comm_sizes_split);
    SHOAL_TEST(suite, test_comm_recv_upto);
    SHOAL_TEST(suite, test_comm_wrong_size);
    SHOAL_TEST(suite, test_comm_collectives);
    SHOAL_TEST(suite, test_comm_agree_on_failure);
    SHOAL_TEST(suite, test_comm_self);
}

SHOAL_TEST_MAIN("comm.comm", add_tests)
