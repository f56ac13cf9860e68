/* The parts of sim: queue.c (messages of one virtual rank: what is on its way, what is waited for),
 * network.c (the cards of hosts, and messages that have not passed the receiver's yet) and sim.c
 * (threads, turns, the clock, faults). Everything here is touched only by the rank that has the
 * turn. Layering: private to comm/sim. */
#ifndef SHOAL_COMM_SIM_SIM_PRIVATE_H
#define SHOAL_COMM_SIM_SIM_PRIVATE_H

#include "comm/sim/sim.h"

#define SHOAL__SIM_NEVER INT64_MAX /* ns */

typedef struct shoal__sim_message {
    struct shoal__sim_message *next; /* in its channel */
    int64_t arrival_ns;
    int64_t take_ns; /* of the receiver's time, when it takes it */
    uint64_t order;  /* of sending, over all ranks: breaks ties of arrival */
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
/* Completes `request` if its message has arrived by *clock_ns, which is then moved on by what
 * taking it takes; else watches it. FAILED, and *request->n_bytes the size that came, if the
 * message does not fit. */
shoal_status shoal__sim_inbox_test(shoal__sim_inbox *inbox, shoal_request *request,
                                   int64_t *clock_ns);
void shoal__sim_inbox_cancel(shoal__sim_inbox *inbox, shoal_request *request);
/* Begin a new epoch: nothing is watched. */
void shoal__sim_inbox_rewatch(shoal__sim_inbox *inbox);

/* A message between hosts on its way to the receiver's card. */
typedef struct shoal__sim_flight {
    int64_t first_ns; /* its first byte is there */
    int64_t last_ns;  /* its last byte, if the card is free */
    int64_t transfer_ns;
    int32_t to;
    shoal__sim_message *message;
} shoal__sim_flight;

typedef struct shoal__sim_cards {
    const shoal_sim_network *network; /* NULL: there are none */
    int64_t *sends_ns, *takes_ns;     /* [n_rank] by host: busy until then */
    int64_t *copies_ns;               /* [n_rank] by rank: within its host */
    shoal__sim_flight *flight;        /* a heap by (first_ns, order) */
    size_t n_flight, capacity;
} shoal__sim_cards;

shoal_status shoal__sim_cards_init(shoal__sim_cards *cards, const shoal_sim_network *network,
                                   int32_t n_rank);
void shoal__sim_cards_fini(shoal__sim_cards *cards);

/* message leaves its source for `to` at *clock_ns, which is moved on by what sending takes. True:
 * it is in flight (or on NO_MEMORY, *status says so, freed); false: it stays within the host,
 * arrival_ns is set, and it goes to the inbox. */
bool shoal__sim_cards_send(shoal__sim_cards *cards, shoal__sim_message *message, int32_t to,
                           int64_t *clock_ns, shoal_status *status);
/* When the next flight's first byte is there; SHOAL__SIM_NEVER: none is under way. */
int64_t shoal__sim_cards_next_ns(const shoal__sim_cards *cards);
/* The next flight passes the card; its arrival_ns is set. */
shoal__sim_message *shoal__sim_cards_take(shoal__sim_cards *cards, int32_t *to);

#endif
