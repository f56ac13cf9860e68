/* What goes wrong with NCCL, injected into the stand-in, under mpirun: who is named, and that all
 * leave in time. */
#include "comm/nccl/nccl_private.h"
#include "tests/comm/nccl_world.h"
#include "tests/support/check_main.h"

#include "runtime/base/clock.h"

#include <time.h>

#define DEADLINE_S 0.6

enum { BYTES = 3000, N_STEP = 6 };

/* One hop of results between all, in which rank 0 begins late. */
static shoal_status exchange(nccl_world *w)
{
    static unsigned char in[8][BYTES], out[BYTES];
    shoal_request send[8], recv[8];
    for (int32_t p = 0; p < w->n_rank; p++) {
        send[p] = recv[p] = SHOAL_REQUEST_NONE;
        if (p == w->rank)
            continue;
        SHOAL_TRY(shoal_comm_recv(w->comm, &recv[p], p, SHOAL_TAG_COMBINE, in[p], BYTES));
        SHOAL_TRY(shoal_comm_send(w->comm, &send[p], p, SHOAL_TAG_COMBINE, out, BYTES));
    }
    SHOAL_TRY(shoal_comm_hop(w->comm, send, recv, w->n_rank));
    SHOAL_TRY(shoal_comm_wait(w->comm, recv, w->n_rank, "results"));
    return shoal_comm_wait(w->comm, send, w->n_rank, "results to be taken");
}

static shoal_status steps(nccl_world *w)
{
    shoal_status status = SHOAL_OK;
    for (int32_t step = 0; step < N_STEP && status == SHOAL_OK; step++) {
        status = shoal_comm_at(w->comm, step, 1);
        if (status == SHOAL_OK)
            status = exchange(w);
    }
    return status;
}

typedef struct run {
    shoal_status status;
    bool together;
    double seconds;
    char *text;
} run;

static run go(const char *steer, shoal_fault fault, int32_t *n_rank)
{
    nccl_world w;
    nccl_world_up(&w, steer, DEADLINE_S, fault, 0);
    int64_t start_us = shoal_clock_us();
    run r = {.status = steps(&w)};
    *n_rank = w.n_rank;
    r.together = nccl_world_close(&w, r.status);
    r.seconds = (double)(shoal_clock_us() - start_us) / 1e6;
    r.text = w.text;
    return r;
}

/* All end with PEER_LOST within seconds, and each has text_of_1 (rank 1) or text_of_others in its
 * log. */
static void check_loss(const char *steer, shoal_fault fault, const char *text_of_1,
                       const char *text_of_others)
{
    int rank = 0;
    int32_t n_rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    run r = go(steer, fault, &n_rank);
    bool named = strstr(r.text, rank == 1 ? text_of_1 : text_of_others) != NULL;
    if (!named || r.status != SHOAL_PEER_LOST)
        fprintf(stderr, "rank %d, %s: %d, %s", rank, steer, (int)r.status, r.text);
    MPI_CHECK(r.status == SHOAL_PEER_LOST);
    MPI_CHECK(!r.together);
    MPI_CHECK(named);
    MPI_CHECK(r.seconds < 10);
    free(r.text);
}

/* 3 is an internal error, 2 one of the system, which may be an echo. */
START_TEST(test_loss_error)
{
    check_loss("rank=1,after=7,do=error:3", no_fault,
               "rank 1 (host-1) is lost: NCCL failed in messages under way: internal error",
               "that rank 1 (host-1) is lost (step ");
    check_loss("rank=1,after=7,do=error:2", no_fault, "looking for the rank that caused it",
               "that rank 1 (host-1) is lost (step ");
}
END_TEST

/* Between two ranks nobody can tell which it is; of three it is the one that none hears. */
START_TEST(test_loss_silent_peer)
{
    int n_rank = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &n_rank);
    if (n_rank == 2)
        check_loss("rank=1,after=7,do=silent", no_fault, "is lost", "is lost");
    else
        check_loss("rank=1,after=7,do=silent", no_fault, "rank 1 (host-1) is lost",
                   "rank 1 (host-1) is lost");
}
END_TEST

/* The abort hangs too: left behind after 2 s. */
START_TEST(test_loss_hanging_abort)
{
    check_loss("rank=1,after=7,do=hang", no_fault, "leaving without", "rank");
}
END_TEST

START_TEST(test_loss_drop)
{
    const shoal_fault fault = {.kind = SHOAL_FAULT_DROP, .rank = 1, .step = 2, .layer = 1};
    check_loss("", fault, "that is this rank", "rank 1 (host-1) is lost");
}
END_TEST

/* A rank that computes for longer than the deadline is waited for by those in its group. */
START_TEST(test_long_compute_is_no_loss)
{
    nccl_world w;
    nccl_world_up(&w, "", DEADLINE_S, no_fault, 0);
    shoal_status status = exchange(&w);
    int64_t start_us = shoal_clock_us();
    while (w.rank == 1 && shoal_clock_us() < start_us + 2000000 && status == SHOAL_OK) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        status = shoal_comm_poll(w.comm);
    }
    if (status == SHOAL_OK)
        status = exchange(&w);
    MPI_CHECK(status == SHOAL_OK);
    MPI_CHECK(nccl_world_close(&w, SHOAL_OK));
    free(w.text);
}
END_TEST

/* All ranks agree about how it came up, and none waits for one that has failed. */
static void check_bringup(const char *steer, const char *text_of_1)
{
    nccl_world w;
    nccl_world_open(&w, steer, DEADLINE_S, no_fault);
    MPI_CHECK(nccl_world_load(&w, NCCL_EMU_LIBRARY, DEADLINE_S) == SHOAL_OK);
    int64_t start_us = shoal_clock_us();
    shoal_status mine = shoal_nccl_join(w.nccl, w.comm);
    MPI_CHECK((mine == SHOAL_UNAVAILABLE) == (w.rank == 1 || mine == SHOAL_UNAVAILABLE));
    shoal_status agreed = shoal_comm_agree(w.comm, mine, "starting NCCL");
    MPI_CHECK(agreed == SHOAL_UNAVAILABLE);
    MPI_CHECK(shoal_clock_us() - start_us < 5000000);
    shoal_nccl_close(w.nccl);
    MPI_CHECK(nccl_world_close(&w, agreed));
    bool said = strstr(w.text, text_of_1) != NULL;
    if (!said && w.rank == 1)
        fprintf(stderr, "%s", w.text);
    MPI_CHECK(said || w.rank != 1);
    free(w.text);
}

START_TEST(test_bringup_fails)
{
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    check_bringup("rank=1,do=init_error", "cannot connect the ranks: unhandled system error");
    check_bringup("rank=1,do=init_hang", "has not connected the ranks within 0.6 s");
    check_bringup(rank == 1 ? "version=21903" : "version=22105",
                  "of version 2.19.3 on this rank and of version 2.21.5 on rank 0 (host-0)");
}
END_TEST

static void check_load(const char *library, const char *steer, const char *text)
{
    nccl_world w;
    nccl_world_open(&w, steer, DEADLINE_S, no_fault);
    MPI_CHECK(nccl_world_load(&w, library, DEADLINE_S) == SHOAL_UNAVAILABLE);
    MPI_CHECK(shoal_comm_agree(w.comm, SHOAL_OK, "nothing") == SHOAL_OK);
    MPI_CHECK(nccl_world_close(&w, SHOAL_OK));
    bool said = strstr(w.text, text) != NULL && strstr(w.text, "--transport mpi") != NULL;
    if (!said)
        fprintf(stderr, "%s", w.text);
    MPI_CHECK(said);
    free(w.text);
}

START_TEST(test_library)
{
    check_load("/nowhere/libnccl.so.2", "", "NCCL cannot be loaded: /nowhere/libnccl.so.2");
    check_load(NCCL_EMU_PARTIAL, "", "has no function ncclCommFinalize");
    check_load(NCCL_EMU_LIBRARY, "version=21703", "is NCCL 2.17.3, too old");
    check_load(NCCL_EMU_LIBRARY, "version=2708", "is NCCL 2.7.8, too old");
}
END_TEST

/* Two ranks differ from three in the silent peer only. */
static void add_tests(Suite *suite)
{
    int n_rank = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &n_rank);
    SHOAL_TEST(suite, test_loss_error);
    SHOAL_TEST(suite, test_loss_silent_peer);
    if (n_rank == 2)
        return;
    SHOAL_TEST(suite, test_library);
    SHOAL_TEST(suite, test_bringup_fails);
    SHOAL_TEST(suite, test_long_compute_is_no_loss);
    SHOAL_TEST(suite, test_loss_drop);
    SHOAL_TEST(suite, test_loss_hanging_abort);
}

SHOAL_MPI_TEST_MAIN("comm.nccl_loss", add_tests)
