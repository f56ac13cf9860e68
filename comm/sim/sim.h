/* sim: up to 1,024 virtual ranks in one process. Each is a thread, but only one runs at a time and
 * the turn is handed on in virtual-time order (ties: lower rank), so a run is deterministic. A
 * message arrives at max(send time, when the sender's link is free) + bytes / bandwidth + latency;
 * a rank that waits advances its clock to what it waits for; nothing sleeps. Compute takes no
 * virtual time. Layering: comm. */
#ifndef SHOAL_COMM_SIM_SIM_H
#define SHOAL_COMM_SIM_SIM_H

#include "comm/transport.h"
#include "runtime/base/log.h"

#define SHOAL_SIM_N_RANK_MAX 1024

typedef struct shoal_sim_config {
    int32_t n_rank;            /* 1 .. SHOAL_SIM_N_RANK_MAX */
    double latency_us;         /* per message */
    double bandwidth_gb_per_s; /* per sender's link; 0: unlimited */
} shoal_sim_config;

/* The body of one virtual rank. It owns `transport` (hand it to shoal_comm_open). */
typedef shoal_status shoal_sim_rank_fn(void *arg, int32_t rank, shoal_transport *transport);

/* Run fn on every virtual rank to the end; status [n_rank] (may be NULL) gets each rank's return
 * value (PEER_LOST etc.). Returns OK when the run itself could be made. Ranks struck by a fault
 * report FAILED. fn may use its own log; messages of the transport itself go to `log`, which only
 * one rank at a time writes to. A rank that computes must not wait for another outside of the
 * transport (no locks across waits): only one runs at a time. */
shoal_status shoal_sim_run(const shoal_sim_config *config, shoal_sim_rank_fn *fn, void *arg,
                           shoal_status *status, shoal_log *log);

#endif
