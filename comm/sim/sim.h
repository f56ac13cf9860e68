/* sim: up to 1,024 virtual ranks in one process. Each is a thread, but only one runs at a time and
 * the turn is handed on in virtual-time order (ties: lower rank), so a run is deterministic. A
 * message arrives at max(send time, when the sender's link is free) + bytes / bandwidth + latency;
 * a rank that waits advances its clock to what it waits for; nothing sleeps. Compute takes the
 * virtual time that shoal_sim_compute says, else none. With a network, hosts have cards that
 * messages leave and enter one after the other, and links differ. Layering: comm. */
#ifndef SHOAL_COMM_SIM_SIM_H
#define SHOAL_COMM_SIM_SIM_H

#include "comm/transport.h"
#include "runtime/base/log.h"

#define SHOAL_SIM_N_RANK_MAX 1024

/* From one rank to another, one way. */
typedef struct shoal_sim_link {
    double latency_us;  /* from the last byte sent to the last byte there */
    double gb_per_s;    /* 0: unlimited */
    double overhead_us; /* of a message, in the processors of sender and receiver each */
    double byte_ns;     /* of a byte, in the same */
} shoal_sim_link;

/* Ranks on hosts. A message to another host leaves through its sender's card and enters through its
 * receiver's, each of which passes one message at a time, at the link's rate, in the order in which
 * first bytes come. Messages within a host only wait for those of the same sender. */
typedef struct shoal_sim_network {
    void (*link)(void *arg, int32_t from, int32_t to, shoal_sim_link *link); /* a pure function */
    void *arg;
    const int32_t *host; /* [n_rank] 0 .. n_rank - 1 */
} shoal_sim_network;

typedef struct shoal_sim_config {
    int32_t n_rank;                   /* 1 .. SHOAL_SIM_N_RANK_MAX */
    double latency_us;                /* per message */
    double bandwidth_gb_per_s;        /* per sender's link; 0: unlimited */
    const shoal_sim_network *network; /* instead of these two; NULL: none; borrowed */
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

/* On a virtual rank, with its own transport: this rank computes for so long. */
void shoal_sim_compute(shoal_transport *transport, double us);
/* The virtual clock, finer than the transport's now_us. */
double shoal_sim_clock_us(const shoal_transport *transport);

#endif
