/* What a transport is: non-blocking messages between ranks, a clock, and a way to idle. Four
 * worlds behind it: self/ (one rank, no peer), mpi/ (Open MPI, one process per rank), sim/ (many
 * virtual ranks in one process, virtual clock, injected loss), and nccl/, which wraps mpi/ and
 * takes the rows of the exchange from it. Deadlines and blame are comm.c's, above. Messages between
 * two ranks with the same tag keep their order. Layering: comm. */
#ifndef SHOAL_COMM_TRANSPORT_H
#define SHOAL_COMM_TRANSPORT_H

#include "runtime/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHOAL_ANY_RANK          (-1)
#define SHOAL_MESSAGE_MAX_BYTES (1ull << 30) /* of one start */

typedef struct shoal_request {
    bool done; /* true for a request never used: zero-initialise to done by shoal_request_none */
    bool is_recv;
    bool exact;   /* a receive of another size than n_bytes is an error */
    int32_t peer; /* SHOAL_ANY_RANK: set to the sender once done */
    int32_t tag;
    size_t n_bytes; /* capacity; the received size once done */
    void *data;
    intptr_t handle[4]; /* the transport's own */
    /* comm's own, for messages that are split. */
    bool split, part_open;
    size_t total_bytes;
    size_t moved_bytes;
    struct shoal_request *next;
    void *outer; /* of a transport that wraps another one; NULL: the request is the inner one's */
} shoal_request;

/* A request that is done and refers to nothing. */
#define SHOAL_REQUEST_NONE ((shoal_request){.done = true, .peer = SHOAL_ANY_RANK})

typedef struct shoal_transport shoal_transport;

/* Errors of start and test: PEER_LOST, not logged (comm words the blame and announces it); every
 * other failure was logged by the transport (FAILED: a message of another size than wanted, or a
 * virtual rank that was struck). Messages of one start are at most SHOAL_MESSAGE_MAX_BYTES. A tag
 * is received either from SHOAL_ANY_RANK or from named ranks, never both. */
typedef struct shoal_transport_ops {
    const char *name;
    /* Start; peer, tag, data, n_bytes, is_recv, exact of r are set. May complete at once. */
    shoal_status (*start)(shoal_transport *t, shoal_request *r);
    /* Move messages; set done (and peer, n_bytes) if r has completed. */
    shoal_status (*test)(shoal_transport *t, shoal_request *r);
    /* Give up a request that will never be waited for. */
    void (*cancel)(shoal_transport *t, shoal_request *r);
    /* Nothing to do until one of the requests tested since the last idle may have completed, or
     * until_us passes: mpi yields, sim hands the turn on. May return early. */
    void (*idle)(shoal_transport *t, int64_t until_us);
    int64_t (*now_us)(shoal_transport *t);
    /* Strike this rank; returns only for DROP, and for sim (then FAILED: unwind silently). kind:
     * shoal_fault_kind */
    shoal_status (*fault)(shoal_transport *t, int32_t kind);
    /* failed: leave without waiting for others (mpi: MPI_Abort is main's business). */
    void (*close)(shoal_transport *t, bool failed);
    /* Of a transport that moves the messages of a hop together; else NULL. */
    /* Whether it takes this message whole, whatever its size. */
    bool (*whole)(const shoal_transport *t, const shoal_request *r);
    /* shoal_comm_hop. */
    shoal_status (*hop)(shoal_transport *t, shoal_request *send, shoal_request *recv, int32_t n);
    /* The communicator has failed: what other threads or devices still move must end now. */
    void (*stop)(shoal_transport *t);
} shoal_transport_ops;

/* What a PEER_LOST is about, where a transport knows better than that the request's peer is gone.
 * About this rank itself: it cannot go on, though others may. */
typedef struct shoal_loss {
    bool known;
    int32_t rank;
    char reason[384];
} shoal_loss;

struct shoal_transport { /* first member of each transport's own struct */
    const shoal_transport_ops *ops;
    int32_t rank;
    int32_t n_rank;
    /* What it costs to look up from a message that has not come: the clock, notices, signals. */
    int32_t n_test;  /* >= 1: fruitless tests of a wait between two looks */
    int64_t poll_us; /* polls that follow a look within this time do nothing; 0: none is left out */
    shoal_loss loss; /* set before PEER_LOST is returned */
};

/* comm/self: one rank, no messages. */
shoal_status shoal_transport_open_self(shoal_transport **transport);

#endif
