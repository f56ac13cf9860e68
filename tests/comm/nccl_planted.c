/* usage: nccl_planted BUG       under mpirun
 * A transport with a bug: a function of NCCL is called wrongly, or not at all, on all ranks. For
 * test_nccl_planted.py, which checks that the stand-in finds it. "none" ends well. */
#include "comm/nccl/nccl_private.h"
#include "tests/support/mpi_check.h"

#undef MPI_CHECK /* this is no test of Check */
#define MPI_CHECK(condition) ((condition) ? (void)0 : exit(3))

#include "tests/comm/nccl_world.h"

static shoal__nccl_api right;

static shoal__nccl_result forget_group_end(void)
{
    return SHOAL__NCCL_IN_PROGRESS;
}

static shoal__nccl_result never_in_progress(shoal__nccl_comm *comm, shoal__nccl_result *result)
{
    (void)comm;
    *result = SHOAL__NCCL_SUCCESS;
    return SHOAL__NCCL_SUCCESS;
}

static shoal__nccl_result send_one_less(const void *data, size_t n, int type, int peer,
                                        shoal__nccl_comm *comm, void *stream)
{
    return right.send(data, n - 1, type, peer, comm, stream);
}

static shoal__nccl_result forget_finalize(shoal__nccl_comm *comm)
{
    (void)comm;
    return SHOAL__NCCL_SUCCESS;
}

static shoal__nccl_result abort_and_look(shoal__nccl_comm *comm)
{
    shoal__nccl_result state;
    (void)right.comm_abort(comm);
    return right.get_async_error(comm, &state);
}

static bool plant(shoal__nccl_api *api, const char *bug)
{
    right = *api;
    if (strcmp(bug, "group_end") == 0)
        api->group_end = forget_group_end;
    else if (strcmp(bug, "progress") == 0)
        api->get_async_error = never_in_progress;
    else if (strcmp(bug, "size") == 0)
        api->send = send_one_less;
    else if (strcmp(bug, "finalize") == 0)
        api->finalize = forget_finalize;
    else if (strcmp(bug, "destroy") == 0)
        api->destroy = forget_finalize;
    else if (strcmp(bug, "abort") == 0)
        api->comm_abort = abort_and_look;
    else
        return strcmp(bug, "none") == 0;
    return true;
}

static shoal_status exchange(nccl_world *w)
{
    static unsigned char in[8][1000], out[1000];
    shoal_request send[8], recv[8];
    for (int32_t p = 0; p < w->n_rank; p++) {
        send[p] = recv[p] = SHOAL_REQUEST_NONE;
        if (p == w->rank)
            continue;
        SHOAL_TRY(shoal_comm_recv(w->comm, &recv[p], p, SHOAL_TAG_COMBINE, in[p], sizeof out));
        SHOAL_TRY(shoal_comm_send(w->comm, &send[p], p, SHOAL_TAG_COMBINE, out, sizeof out));
    }
    SHOAL_TRY(shoal_comm_hop(w->comm, send, recv, w->n_rank));
    SHOAL_TRY(shoal_comm_wait(w->comm, recv, w->n_rank, "results"));
    return shoal_comm_wait(w->comm, send, w->n_rank, "results to be taken");
}

int main(int argc, char **argv)
{
    int provided;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    nccl_world w;
    nccl_world_up(&w, "seed=3", 10, no_fault, 0);
    if (argc != 2 || !plant(&w.nccl->api, argv[1]))
        return 2;
    shoal_status status = SHOAL_OK;
    for (int32_t i = 0; i < 8 && status == SHOAL_OK; i++)
        status = exchange(&w);
    if (strcmp(argv[1], "abort") == 0)
        status = SHOAL_FAILED;
    nccl_world_close(&w, status);
    free(w.text);
    MPI_Finalize();
    return 0;
}
