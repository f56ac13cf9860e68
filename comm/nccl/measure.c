/* Which of the two is faster, from which size on: every rank sends to the next one and receives
 * from the one before, as hops of the exchange do, by MPI and by NCCL. */
#include "comm/nccl/nccl_private.h"

#include "comm/comm_private.h"

#include <stdlib.h>

enum { N_SIZE = 4, N_TRY = 4 }; /* the first try connects and does not count */
static const size_t size_bytes[N_SIZE] = {4 << 10, 32 << 10, 256 << 10, 2 << 20};

/* Of one rank, or the worst of all; us of one hop. */
typedef struct times {
    int64_t by_mpi_us[N_SIZE];
    int64_t by_nccl_us[N_SIZE];
} times;

static shoal_status time_hop(int64_t *us, shoal_comm *comm, unsigned char *memory, size_t n_bytes)
{
    int32_t n_rank = comm->n_rank;
    shoal_request send, recv;
    int64_t start_us = shoal_comm_now_us(comm);
    SHOAL_TRY(shoal_comm_recv(comm, &recv, (comm->rank + n_rank - 1) % n_rank, SHOAL_TAG_COMBINE,
                              memory, n_bytes));
    SHOAL_TRY(shoal_comm_send(comm, &send, (comm->rank + 1) % n_rank, SHOAL_TAG_COMBINE,
                              memory + n_bytes, n_bytes));
    SHOAL_TRY(shoal_comm_hop(comm, &send, &recv, 1));
    SHOAL_TRY(shoal_comm_wait(comm, &recv, 1, "a measurement of NCCL and MPI"));
    SHOAL_TRY(shoal_comm_wait(comm, &send, 1, "a measurement of NCCL and MPI"));
    *us = shoal_comm_now_us(comm) - start_us;
    return SHOAL_OK;
}

/* Messages of more than over_bytes go by NCCL. */
static shoal_status time_sizes(int64_t us[N_SIZE], shoal_nccl *t, shoal_comm *comm,
                               unsigned char *memory, size_t over_bytes)
{
    t->over_bytes = over_bytes;
    for (int32_t i = 0; i < N_SIZE; i++) {
        us[i] = INT64_MAX;
        for (int32_t n = 0; n < N_TRY; n++) {
            int64_t one_us;
            SHOAL_TRY(time_hop(&one_us, comm, memory, size_bytes[i]));
            if (n > 0 && one_us < us[i])
                us[i] = one_us;
        }
    }
    return SHOAL_OK;
}

/* The sizes from which on NCCL is never slower, as a limit that MPI's messages may have. */
static size_t choose(const times *worst)
{
    int32_t first = N_SIZE;
    while (first > 0 && worst->by_nccl_us[first - 1] <= worst->by_mpi_us[first - 1])
        first--;
    return first == N_SIZE ? SIZE_MAX : first == 0 ? 0 : size_bytes[first] - 1;
}

static void make_worse(int64_t worst_us[N_SIZE], const int64_t us[N_SIZE])
{
    for (int32_t i = 0; i < N_SIZE; i++)
        worst_us[i] = us[i] > worst_us[i] ? us[i] : worst_us[i];
}

static shoal_status agree_on(size_t *over_bytes, const times *mine, shoal_nccl *t, shoal_comm *comm)
{
    times *all = calloc((size_t)comm->n_rank, sizeof *all);
    if (all == NULL)
        return shoal_fail(t->log, SHOAL_NO_MEMORY, "no memory to compare NCCL and MPI");
    times worst = *mine;
    shoal_status status = shoal_comm_gather(comm, all, mine, sizeof *mine, 0);
    for (int32_t r = 0; r < comm->n_rank && status == SHOAL_OK && comm->rank == 0; r++) {
        make_worse(worst.by_mpi_us, all[r].by_mpi_us);
        make_worse(worst.by_nccl_us, all[r].by_nccl_us);
    }
    free(all);
    SHOAL_TRY(status);
    uint64_t chosen = choose(&worst);
    for (int32_t i = 0; i < N_SIZE && comm->rank == 0; i++)
        shoal_log_debug(t->log, "a hop of %zu KiB: %lld us by MPI, %lld us by NCCL",
                        size_bytes[i] >> 10, (long long)worst.by_mpi_us[i],
                        (long long)worst.by_nccl_us[i]);
    SHOAL_TRY(shoal_comm_bcast(comm, &chosen, sizeof chosen, 0));
    *over_bytes = (size_t)chosen;
    return SHOAL_OK;
}

/* comm as it was before shoal_nccl_use; nccl is gone. */
static void take_off(shoal_nccl *t, shoal_comm *comm)
{
    comm->transport = t->inner;
    shoal__nccl_destroy(t);
    shoal__nccl_trouble_close(t);
    shoal_nccl_close(t);
}

shoal_status shoal_nccl_use_if_faster(size_t *over_bytes, shoal_nccl *nccl, shoal_comm *comm)
{
    const size_t most = size_bytes[N_SIZE - 1];
    const shoal_comm_counters count = comm->count;
    shoal_device *device = nccl->device;
    unsigned char *memory = device->ops->take(device, SHOAL_MEMORY_HOST, 2 * most);
    times mine;
    shoal_status status = SHOAL_OK;
    if (memory == NULL)
        status = shoal_fail(nccl->log, SHOAL_NO_MEMORY,
                            "no %zu bytes of pinned memory to compare NCCL and MPI", 2 * most);
    status = shoal_comm_agree(comm, status, "comparing NCCL and MPI");
    if (status == SHOAL_OK)
        status = shoal_nccl_use(nccl, comm, 0);
    else
        shoal_nccl_close(nccl);
    if (status == SHOAL_OK)
        status = time_sizes(mine.by_mpi_us, nccl, comm, memory, SIZE_MAX);
    if (status == SHOAL_OK)
        status = time_sizes(mine.by_nccl_us, nccl, comm, memory, 0);
    if (status == SHOAL_OK)
        status = agree_on(over_bytes, &mine, nccl, comm);
    if (memory != NULL)
        device->ops->give_back(device, SHOAL_MEMORY_HOST, memory);
    if (status != SHOAL_OK)
        return status;
    nccl->over_bytes = *over_bytes;
    comm->count = count;
    if (*over_bytes == SIZE_MAX)
        take_off(nccl, comm);
    return SHOAL_OK;
}
