/* A rank under mpirun whose exchange goes by NCCL's stand-in, for tests of comm/nccl. */
#ifndef SHOAL_TESTS_COMM_NCCL_WORLD_H
#define SHOAL_TESTS_COMM_NCCL_WORLD_H

#include "comm/mpi/mpi.h"
#include "comm/nccl/nccl.h"
#include "tests/support/mpi_check.h"
#include "tests/support/nccl_device.h"

#include <string.h>

typedef struct nccl_world {
    shoal_log log;
    FILE *out;
    char *text; /* what was logged, once it is closed */
    size_t n_text;
    shoal_comm *comm;
    int32_t rank, n_rank;
    nccl_device *device;
    shoal_nccl *nccl;
} nccl_world;

/* Over MPI only; `steer`: NCCL_EMU of what is made from here on. */
static inline void nccl_world_open(nccl_world *w, const char *steer, double deadline_s,
                                   shoal_fault fault)
{
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    *w = (nccl_world){0};
    char host[32];
    snprintf(host, sizeof host, "host-%d", rank);
    setenv("NCCL_EMU", steer, 1);
    w->out = open_memstream(&w->text, &w->n_text);
    shoal_log_init(&w->log, w->out, rank, host);
    shoal_transport *transport = NULL;
    MPI_CHECK(shoal_transport_open_mpi(&transport, &w->log) == SHOAL_OK);
    const shoal_comm_config config = {.deadline_s = deadline_s, .fault = fault};
    MPI_CHECK(shoal_comm_open(&w->comm, transport, &config, &w->log) == SHOAL_OK);
    w->rank = shoal_comm_rank(w->comm);
    w->n_rank = shoal_comm_n_rank(w->comm);
    w->device = nccl_device_new();
}

static inline shoal_status nccl_world_load(nccl_world *w, const char *library, double deadline_s)
{
    const shoal_nccl_config config = {
        .library = library, .device = &w->device->base, .deadline_s = deadline_s};
    return shoal_nccl_open(&w->nccl, &config, &w->log);
}

/* With the stand-in in use for messages of more than over_bytes. */
static inline void nccl_world_up(nccl_world *w, const char *steer, double deadline_s,
                                 shoal_fault fault, size_t over_bytes)
{
    nccl_world_open(w, steer, deadline_s, fault);
    MPI_CHECK(nccl_world_load(w, NCCL_EMU_LIBRARY, deadline_s) == SHOAL_OK);
    const shoal_status joined = shoal_nccl_join(w->nccl, w->comm);
    if (joined != SHOAL_OK)
        fprintf(stderr, "%s\n", w->log.error);
    MPI_CHECK(joined == SHOAL_OK);
    MPI_CHECK(shoal_nccl_use(w->nccl, w->comm, over_bytes) == SHOAL_OK);
}

/* True: all left together. w->text is to be freed. */
static inline bool nccl_world_close(nccl_world *w, shoal_status status)
{
    bool together = shoal_comm_close(w->comm, status);
    fclose(w->out);
    free(w->device);
    return together;
}

static const shoal_fault no_fault = {.kind = SHOAL_FAULT_NONE};

#endif
