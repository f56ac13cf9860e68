/* The two halves of sim: queue.c (messages of one virtual rank: what is on its way, what is waited
 * for) and sim.c (threads, turns, the clock, faults). Everything here is touched only by the rank
 * that has the turn. Layering: private to comm/sim. */
#ifndef SHOAL_COMM_SIM_SIM_PRIVATE_H
#define SHOAL_COMM_SIM_SIM_PRIVATE_H

#include "comm/transport.h"

#define SHOAL__SIM_NEVER INT64_MAX /* ns */

typedef struct shoal__sim_message {
    struct shoal__sim_message *next; /* in its channel */
    int64_t arrival_ns;
    uint64_t order; /* of sending, over all ranks: breaks ties of arrival */
    int32_t source;
    int32_t tag;
    size_t n_bytes;
    unsigned char data[];
} shoal__sim_message;

/* An open receive. From a named rank it is matched as soon as the message is sent, because messages
 * of a pair keep their order; from any rank only when it is tested. */
typedef struct shoal__sim_receive {
    struct shoal__sim_receive *next;
    shoal__sim_message *message; /* matched, perhaps still on its way */
    int32_t tag;
    uint64_t watched; /* the inbox's epoch in which it was last tested in vain */
} shoal__sim_receive;

typedef struct shoal__sim_channel { /* from one source */
    shoal__sim_message *message, **message_end;
    shoal__sim_receive *receive, **receive_end;
} shoal__sim_channel;

typedef struct shoal__sim_inbox {
    int32_t n_rank;
    shoal__sim_channel *channel; /* [n_rank] */
    /* Messages of the tag that is received from any rank, a heap by (arrival_ns, order). */
    int32_t any_tag; /* 0: none yet */
    uint64_t any_watched;
    shoal__sim_message **any;
    size_t n_any, any_capacity;
    uint64_t epoch;  /* counts idles; begins at 1 */
    int64_t wake_ns; /* earliest arrival that completes a receive watched in this epoch */
} shoal__sim_inbox;

shoal_status shoal__sim_inbox_init(shoal__sim_inbox *inbox, int32_t n_rank);
void shoal__sim_inbox_fini(shoal__sim_inbox *inbox);

/* A copy of data that arrives at arrival_ns. */
shoal_status shoal__sim_inbox_put(shoal__sim_inbox *inbox, shoal__sim_message *message);
shoal_status shoal__sim_inbox_post(shoal__sim_inbox *inbox, shoal_request *request);
/* Completes `request` if its message has arrived by now_ns; else watches it. FAILED, and
 * *request->n_bytes the size that came, if the message does not fit. */
shoal_status shoal__sim_inbox_test(shoal__sim_inbox *inbox, shoal_request *request, int64_t now_ns);
void shoal__sim_inbox_cancel(shoal__sim_inbox *inbox, shoal_request *request);
/* Begin a new epoch: nothing is watched. */
void shoal__sim_inbox_rewatch(shoal__sim_inbox *inbox);

#endif
