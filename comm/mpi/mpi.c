#include "comm/mpi/mpi.h"

#include "comm/comm.h"
#include "comm/idler.h"
#include "runtime/base/clock.h"

#include <assert.h>
#include <dlfcn.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fruitless test takes 0.1 us in shared memory and about 1 us over TCP (a system call). */
#define N_TEST 16

/* While computing, messages are moved and notices are read at most this often: each look costs
 * system calls over TCP, and a tenfold of looks made a prefill's arithmetic take half as long
 * again. */
#define POLL_US 200

/* vader: results of a token (some rows of 4 to 14 KB) go through the queue in shared memory at
 * once; otherwise messages from 4 KB on are announced first and then copied by a system call. tcp:
 * a part of a message and its header are sent without asking. */
const shoal_mpi_setting shoal_mpi_settings[] = {
    {"OMPI_MCA_btl_vader_eager_limit", "32768"},
    {"OMPI_MCA_btl_tcp_eager_limit", "263168"},
    {"OMPI_MCA_btl_tcp_rndv_eager_limit", "263168"},
    {"OMPI_MCA_btl_tcp_max_send_size", "263168"},
    {NULL, NULL},
};

/* The setting orte_execute_quiet of Open MPI 4, which would also hide why MPI does not start if it
 * were set before. Where there is no such variable nothing happens. */
void shoal_mpi_be_quiet(void)
{
    bool *quiet = dlsym(RTLD_DEFAULT, "orte_execute_quiet");
    if (quiet != NULL)
        *quiet = true;
}

typedef struct mpi_transport {
    shoal_transport base;
    shoal_log *log;
    shoal_idler idler;
    bool mute; /* injected fault: what is sent vanishes */
} mpi_transport;

_Static_assert(sizeof(MPI_Request) <= sizeof(intptr_t), "a request fits into handle[0]");

static mpi_transport *of(shoal_transport *t)
{
    return (mpi_transport *)t;
}

static MPI_Request get_handle(const shoal_request *r)
{
    MPI_Request handle;
    memcpy(&handle, &r->handle[0], sizeof(handle));
    return handle;
}

static void set_handle(shoal_request *r, MPI_Request handle)
{
    memcpy(&r->handle[0], &handle, sizeof(handle));
}

/* What went wrong with a message between this rank and one peer is that peer's loss, unless the
 * two disagree about its size. */
static shoal_status message_failed(mpi_transport *t, const shoal_request *r, int code)
{
    int class = MPI_ERR_UNKNOWN;
    MPI_Error_class(code, &class);
    if (class == MPI_ERR_TRUNCATE)
        return shoal_fail(
            t->log, SHOAL_FAILED,
            "a message (tag %d) from rank %d is larger than the %zu bytes wanted: the "
            "two ranks disagree about what is exchanged; use the same build of shoal",
            r->tag, r->peer, r->n_bytes);
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    if (r->peer == SHOAL_ANY_RANK)
        return shoal_fail(t->log, SHOAL_FAILED, "MPI cannot receive (tag %d): %s", r->tag, text);
    shoal_log_warn(t->log, "MPI: a message %s rank %d (tag %d, %zu bytes) failed: %s",
                   r->is_recv ? "from" : "to", r->peer, r->tag, r->n_bytes, text);
    return SHOAL_PEER_LOST;
}

static shoal_status mpi_start(shoal_transport *transport, shoal_request *r)
{
    mpi_transport *t = of(transport);
    assert(r->n_bytes <= SHOAL_MESSAGE_MAX_BYTES); /* so that the count fits an int */
    if (t->mute && !r->is_recv) {
        r->done = true;
        return SHOAL_OK;
    }
    MPI_Request handle = MPI_REQUEST_NULL;
    int peer = r->peer == SHOAL_ANY_RANK ? MPI_ANY_SOURCE : r->peer;
    int count = (int)r->n_bytes;
    int code = r->is_recv
                   ? MPI_Irecv(r->data, count, MPI_BYTE, peer, r->tag, MPI_COMM_WORLD, &handle)
                   : MPI_Isend(r->data, count, MPI_BYTE, peer, r->tag, MPI_COMM_WORLD, &handle);
    if (code != MPI_SUCCESS)
        return message_failed(t, r, code);
    set_handle(r, handle);
    return SHOAL_OK;
}

static shoal_status mpi_test(shoal_transport *transport, shoal_request *r)
{
    mpi_transport *t = of(transport);
    MPI_Request handle = get_handle(r);
    MPI_Status status;
    int done = 0;
    int code = MPI_Test(&handle, &done, &status);
    set_handle(r, handle);
    if (code != MPI_SUCCESS)
        return message_failed(t, r, code);
    if (!done)
        return SHOAL_OK;
    shoal_idler_reset(&t->idler);
    r->done = true;
    if (!r->is_recv)
        return SHOAL_OK;
    int n_bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &n_bytes);
    r->peer = status.MPI_SOURCE;
    if (r->exact && (size_t)n_bytes != r->n_bytes)
        return shoal_fail(t->log, SHOAL_FAILED,
                          "a message (tag %d) from rank %d has %d bytes, wanted %zu: the two ranks "
                          "disagree about what is exchanged; use the same build of shoal",
                          r->tag, r->peer, n_bytes, r->n_bytes);
    r->n_bytes = (size_t)n_bytes;
    return SHOAL_OK;
}

/* Never waits: MPI completes or frees it later, or not at all if the peer is gone. */
static void mpi_cancel(shoal_transport *transport, shoal_request *r)
{
    (void)transport;
    MPI_Request handle = get_handle(r);
    r->done = true;
    if (handle == MPI_REQUEST_NULL)
        return;
    int done = 0;
    if (r->is_recv) {
        MPI_Cancel(&handle);
        MPI_Test(&handle, &done, MPI_STATUS_IGNORE);
    }
    if (!done)
        MPI_Request_free(&handle);
}

static void mpi_idle(shoal_transport *transport, int64_t until_us)
{
    shoal_idler_idle(&of(transport)->idler, until_us);
}

static int64_t mpi_now_us(shoal_transport *transport)
{
    (void)transport;
    return shoal_clock_us();
}

static shoal_status mpi_fault(shoal_transport *transport, int32_t kind)
{
    if (kind == SHOAL_FAULT_KILL)
        raise(SIGKILL);
    if (kind == SHOAL_FAULT_STOP)
        raise(SIGSTOP);
    if (kind == SHOAL_FAULT_EXIT)
        _exit(1);
    if (kind == SHOAL_FAULT_DROP)
        of(transport)->mute = true;
    return SHOAL_OK; /* STOP comes here when someone continues the process */
}

static void mpi_close(shoal_transport *transport, bool failed)
{
    (void)failed;
    free(of(transport));
}

static const shoal_transport_ops mpi_ops = {
    .name = "mpi",
    .start = mpi_start,
    .test = mpi_test,
    .cancel = mpi_cancel,
    .idle = mpi_idle,
    .now_us = mpi_now_us,
    .fault = mpi_fault,
    .close = mpi_close,
};

shoal_status shoal_transport_open_mpi(shoal_transport **transport, shoal_log *log)
{
    int initialised = 0;
    int level = MPI_THREAD_SINGLE;
    MPI_Initialized(&initialised);
    if (initialised)
        MPI_Query_thread(&level);
    if (level < MPI_THREAD_FUNNELED)
        return shoal_fail(log, SHOAL_FAILED,
                          "MPI %s: this MPI library cannot be used with threads; use Open MPI 4 or "
                          "later",
                          initialised ? "gives less than MPI_THREAD_FUNNELED"
                                      : "is not initialised");
    mpi_transport *t = calloc(1, sizeof(*t));
    if (!t)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the MPI transport");
    int rank = 0;
    int n_rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n_rank);
    if (MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN) != MPI_SUCCESS) {
        free(t);
        return shoal_fail(log, SHOAL_FAILED,
                          "MPI does not let rank %d of %d handle its errors; use Open MPI 4 or "
                          "later",
                          rank, n_rank);
    }
    t->base = (shoal_transport){
        .ops = &mpi_ops, .rank = rank, .n_rank = n_rank, .n_test = N_TEST, .poll_us = POLL_US};
    t->log = log;
    *transport = &t->base;
    return SHOAL_OK;
}
