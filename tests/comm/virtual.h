/* Runs a body on virtual ranks, each with its communicator and its log kept as text. The host of
 * rank r is called "host-r". */
#ifndef SHOAL_TESTS_COMM_VIRTUAL_H
#define SHOAL_TESTS_COMM_VIRTUAL_H

#include "comm/comm_private.h"
#include "comm/sim/sim.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

typedef struct virtual_run virtual_run;

/* What a rank does between open and close; what it returns is given to close. */
typedef shoal_status virtual_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport);

struct virtual_run {
    shoal_sim_config sim;
    shoal_comm_config comm;
    virtual_body *body;
    void *arg;
    size_t part_bytes;                        /* 0: the default */
    const volatile sig_atomic_t *interrupted; /* of rank 0 only */
    /* Results. */
    shoal_status *status; /* [n_rank] */
    char **log;           /* [n_rank] */
    bool *together;       /* [n_rank] what close returned */
    int64_t *end_us;      /* [n_rank] virtual time before close */
};

static shoal_status virtual_rank(void *arg, int32_t rank, shoal_transport *transport)
{
    virtual_run *run = arg;
    char host[32];
    snprintf(host, sizeof(host), "host-%d", rank);
    size_t n = 0;
    FILE *out = open_memstream(&run->log[rank], &n);
    shoal_log log;
    shoal_log_init(&log, out, rank, host);
    shoal_comm *comm = NULL;
    shoal_comm_config config = run->comm;
    config.interrupted = rank == 0 ? run->interrupted : NULL;
    shoal_status status = shoal_comm_open(&comm, transport, &config, &log);
    if (status == SHOAL_OK) {
        if (run->part_bytes)
            shoal__comm_set_part_bytes(comm, run->part_bytes);
        status = run->body(run, comm, transport);
        run->end_us[rank] = shoal_comm_now_us(comm);
        run->together[rank] = shoal_comm_close(comm, status);
        if (status == SHOAL_OK && !run->together[rank])
            status = SHOAL_PEER_LOST; /* found on the way out; the launcher says the same */
    }
    fclose(out);
    return status;
}

static void virtual_begin(virtual_run *run, int32_t n_rank, virtual_body *body)
{
    *run = (virtual_run){.sim = {.n_rank = n_rank, .latency_us = 50, .bandwidth_gb_per_s = 0.125},
                         .comm = {.deadline_s = 5},
                         .body = body};
    run->status = calloc((size_t)n_rank, sizeof(*run->status));
    run->log = calloc((size_t)n_rank, sizeof(*run->log));
    run->together = calloc((size_t)n_rank, sizeof(*run->together));
    run->end_us = calloc((size_t)n_rank, sizeof(*run->end_us));
}

/* What the sim itself complains about goes to stderr and fails the test. */
static void virtual_go(virtual_run *run)
{
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "sim");
    shoal_status status = shoal_sim_run(&run->sim, virtual_rank, run, run->status, &log);
    ck_assert_int_eq(status, SHOAL_OK);
}

static void virtual_end(virtual_run *run)
{
    for (int32_t r = 0; r < run->sim.n_rank; r++)
        free(run->log[r]);
    free(run->log);
    free(run->status);
    free(run->together);
    free(run->end_us);
}

#endif
