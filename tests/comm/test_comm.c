/* Messages, splitting and collective helpers over self and sim. */
#include "tests/comm/message_cases.h"
#include "tests/comm/virtual.h"
#include "tests/support/check_main.h"

#include "runtime/base/clock.h"

/* The cases that any transport must pass (arg: the case). */
typedef shoal_status message_case(shoal_comm *comm);

static shoal_status case_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)transport;
    return (*(message_case *const *)run->arg)(comm);
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

static void go_case(message_case *fn, int32_t n_rank, size_t part_bytes)
{
    virtual_run run;
    virtual_begin(&run, n_rank, case_body);
    run.arg = &fn;
    run.part_bytes = part_bytes;
    virtual_go(&run);
    expect_all(&run, SHOAL_OK);
    virtual_end(&run);
}

START_TEST(test_comm_sizes)
{
    go_case(case_sizes, 1, 0);
    go_case(case_sizes, 2, 0);
    go_case(case_sizes, 5, 0);
}
END_TEST

START_TEST(test_comm_sizes_split)
{
    static const size_t part[] = {17, 1000, 4096, 100003, 299999};
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
        go_case(case_sizes, 3, part[i]);
}
END_TEST

START_TEST(test_comm_wait_any)
{
    go_case(case_any, 1, 0);
    go_case(case_any, 2, 0);
    go_case(case_any, 5, 0);
}
END_TEST

START_TEST(test_comm_recv_upto)
{
    go_case(case_upto, 4, 0);
}
END_TEST

START_TEST(test_comm_collectives)
{
    go_case(case_collectives, 1, 0);
    go_case(case_collectives, 2, 0);
    go_case(case_collectives, 7, 3);
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
    SHOAL_TEST(suite, test_comm_wait_any);
    SHOAL_TEST(suite, test_comm_recv_upto);
    SHOAL_TEST(suite, test_comm_wrong_size);
    SHOAL_TEST(suite, test_comm_collectives);
    SHOAL_TEST(suite, test_comm_agree_on_failure);
    SHOAL_TEST(suite, test_comm_self);
}

SHOAL_TEST_MAIN("comm.comm", add_tests)
