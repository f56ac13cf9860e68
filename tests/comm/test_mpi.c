/* The MPI transport under mpirun. Every verdict is the same on all ranks. */
#include "tests/comm/message_cases.h"
#include "tests/support/check_main.h"
#include "tests/support/mpi_check.h"

#include "comm/mpi/mpi.h"
#include "runtime/base/clock.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

typedef struct world {
    shoal_log log;
    FILE *out;
    char *text;
    size_t n_text;
    shoal_comm *comm;
    int32_t rank, n_rank;
} world;

static void open_world(world *w, double deadline_s, shoal_fault fault)
{
    *w = (world){0};
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    char host[32];
    snprintf(host, sizeof(host), "host-%d", rank);
    w->out = open_memstream(&w->text, &w->n_text);
    shoal_log_init(&w->log, w->out, rank, host);
    shoal_transport *transport = NULL;
    MPI_CHECK(shoal_transport_open_mpi(&transport, &w->log) == SHOAL_OK);
    shoal_comm_config config = {.deadline_s = deadline_s, .fault = fault};
    MPI_CHECK(shoal_comm_open(&w->comm, transport, &config, &w->log) == SHOAL_OK);
    w->rank = shoal_comm_rank(w->comm);
    w->n_rank = shoal_comm_n_rank(w->comm);
}

static bool close_world(world *w, shoal_status status)
{
    bool together = shoal_comm_close(w->comm, status);
    fclose(w->out);
    return together;
}

static const shoal_fault no_fault = {.kind = SHOAL_FAULT_NONE};

static void go_case(shoal_status (*fn)(shoal_comm *comm), size_t part_bytes)
{
    world w;
    open_world(&w, 20, no_fault);
    if (part_bytes)
        shoal__comm_set_part_bytes(w.comm, part_bytes);
    shoal_status status = fn(w.comm);
    if (status != SHOAL_OK)
        fprintf(stderr, "%s\n", w.log.error);
    MPI_CHECK(status == SHOAL_OK);
    MPI_CHECK(close_world(&w, SHOAL_OK));
    MPI_CHECK(w.n_text == 0);
    free(w.text);
}

START_TEST(test_mpi_name)
{
    world w;
    open_world(&w, 20, no_fault);
    MPI_CHECK(strcmp(shoal_comm_transport_name(w.comm), "mpi") == 0);
    int rank = -1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_CHECK(w.rank == rank);
    MPI_CHECK(close_world(&w, SHOAL_OK));
    free(w.text);
}
END_TEST

START_TEST(test_mpi_sizes)
{
    go_case(case_sizes, 0);
}
END_TEST

START_TEST(test_mpi_sizes_split)
{
    static const size_t part[] = {1000, 4096, 100003, 299999};
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
        go_case(case_sizes, part[i]);
}
END_TEST

START_TEST(test_mpi_wait_any)
{
    go_case(case_any, 0);
}
END_TEST

START_TEST(test_mpi_recv_upto)
{
    go_case(case_upto, 0);
}
END_TEST

START_TEST(test_mpi_collectives)
{
    go_case(case_collectives, 0);
}
END_TEST

/* A failure that all agreed on: they leave together, so MPI can still be finalised. */
START_TEST(test_mpi_agree_on_failure)
{
    world w;
    open_world(&w, 20, no_fault);
    shoal_status mine = w.rank == 1 ? SHOAL_BAD_DATA : SHOAL_OK;
    shoal_status status = shoal_comm_agree(w.comm, mine, "loading the model");
    MPI_CHECK(status == SHOAL_BAD_DATA);
    MPI_CHECK(close_world(&w, status));
    MPI_CHECK((strstr(w.text, "rank 1 (host-1) failed in loading the model") != NULL) ==
              (w.rank != 1));
    free(w.text);
}
END_TEST

static shoal_status exchange(shoal_comm *comm)
{
    int32_t n = shoal_comm_n_rank(comm);
    int32_t me = shoal_comm_rank(comm);
    static int64_t in[16];
    static int64_t out;
    static shoal_request r[32];
    int32_t n_open = 0;
    for (int32_t p = 0; p < n; p++) {
        if (p == me)
            continue;
        SHOAL_TRY(shoal_comm_recv(comm, &r[n_open++], p, SHOAL_TAG_COMBINE, &in[p], sizeof(out)));
        SHOAL_TRY(shoal_comm_send(comm, &r[n_open++], p, SHOAL_TAG_COMBINE, &out, sizeof(out)));
    }
    return shoal_comm_wait(comm, r, n_open, "results");
}

/* A rank that computes for longer than the deadline, with polls, is waited for. */
START_TEST(test_mpi_long_compute_is_no_loss)
{
    world w;
    open_world(&w, 0.6, no_fault);
    shoal_status status = SHOAL_OK;
    int64_t start = shoal_clock_us();
    while (w.rank == 0 && shoal_clock_us() < start + 1500000 && status == SHOAL_OK) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        status = shoal_comm_poll(w.comm);
    }
    if (status == SHOAL_OK)
        status = exchange(w.comm);
    MPI_CHECK(status == SHOAL_OK);
    MPI_CHECK(close_world(&w, SHOAL_OK));
    free(w.text);
}
END_TEST

/* Rank 1 stands still for less than the deadline and is continued by rank 0: nobody is blamed. */
START_TEST(test_mpi_short_stop_is_no_loss)
{
    world w;
    open_world(&w, 3, (shoal_fault){.kind = SHOAL_FAULT_STOP, .rank = 1, .step = 0, .layer = 0});
    int64_t pid = getpid();
    int64_t start = shoal_clock_us();
    shoal_status status = shoal_comm_bcast(w.comm, &pid, sizeof(pid), 1);
    if (status == SHOAL_OK)
        status = shoal_comm_at(w.comm, 0, 0);
    while (w.rank == 0 && shoal_clock_us() < start + 2000000 && status == SHOAL_OK) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        status = shoal_comm_poll(w.comm);
    }
    if (w.rank == 0)
        kill((pid_t)pid, SIGCONT);
    if (status == SHOAL_OK)
        status = exchange(w.comm);
    MPI_CHECK(status == SHOAL_OK);
    MPI_CHECK(shoal_clock_us() - start > 1500000);
    MPI_CHECK(close_world(&w, SHOAL_OK));
    free(w.text);
}
END_TEST

/* What rank 1 sends is dropped: all end with PEER_LOST and name it, rank 1 too. */
START_TEST(test_mpi_drop_is_a_loss)
{
    world w;
    open_world(&w, 1, (shoal_fault){.kind = SHOAL_FAULT_DROP, .rank = 1, .step = 2, .layer = 0});
    shoal_status status = SHOAL_OK;
    int64_t start = shoal_clock_us();
    for (int32_t step = 0; step < 4 && status == SHOAL_OK; step++) {
        status = shoal_comm_at(w.comm, step, 0);
        if (status == SHOAL_OK)
            status = exchange(w.comm);
    }
    int64_t took_us = shoal_clock_us() - start;
    bool together = close_world(&w, status);
    MPI_CHECK(status == SHOAL_PEER_LOST);
    MPI_CHECK(!together);
    MPI_CHECK(took_us > 900000);
    MPI_CHECK(strstr(w.text, "rank 1 (host-1) is lost") != NULL);
    MPI_CHECK(strstr(w.text, "rank 0 (host-0) is lost") == NULL);
    MPI_CHECK(strstr(w.text, "rank 2 (host-2) is lost") == NULL);
    free(w.text);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_mpi_name);
    SHOAL_TEST(suite, test_mpi_sizes);
    SHOAL_TEST(suite, test_mpi_sizes_split);
    SHOAL_TEST(suite, test_mpi_wait_any);
    SHOAL_TEST(suite, test_mpi_recv_upto);
    SHOAL_TEST(suite, test_mpi_collectives);
    SHOAL_TEST(suite, test_mpi_agree_on_failure);
    SHOAL_TEST(suite, test_mpi_long_compute_is_no_loss);
    SHOAL_TEST(suite, test_mpi_short_stop_is_no_loss);
    SHOAL_TEST(suite, test_mpi_drop_is_a_loss);
}

SHOAL_MPI_TEST_MAIN("comm.mpi", add_tests)
