/* What the files of comm/ share: the struct behind shoal_comm, and the functions between
 * comm.c (requests and waits), split.c (messages in parts), liveness.c (notices), blame.c
 * (deadlines, who is lost) and bringup.c (agree, bcast, gather). Layering: private to comm/ and its
 * tests. */
#ifndef SHOAL_COMM_COMM_PRIVATE_H
#define SHOAL_COMM_COMM_PRIVATE_H

#include "comm/comm.h"

#define SHOAL__HOST_BYTES 64

/* Larger messages are split, into parts that Open MPI sends at once (comm/mpi sets its limit). What
 * it sends only when the receiver has answered waits over TCP until what this rank itself sends on
 * that connection is through: two ranks that send much to each other would take turns. And signs of
 * life never wait behind more than a part. */
#define SHOAL__PART_BYTES ((size_t)256 << 10)

typedef enum shoal__notice_kind {
    SHOAL__NOTICE_ALIVE = 1, /* computes */
    SHOAL__NOTICE_WAIT,      /* alive, waits for subject since wait_us */
    SHOAL__NOTICE_LOST,      /* subject is lost */
    SHOAL__NOTICE_FAIL,      /* subject failed with status */
} shoal__notice_kind;

/* On the wire, little-endian, 32 bytes without padding. */
typedef struct shoal__notice {
    int32_t kind;
    int32_t subject;
    int32_t status;
    int32_t layer; /* where the sender is */
    int64_t step;
    int64_t wait_us; /* WAIT: how long the sender has waited */
} shoal__notice;

/* What this rank knows of another one, and the notices on their way to it. */
typedef struct shoal__peer {
    int64_t heard_us;   /* when anything last came from it */
    int64_t wait_us;    /* how long it said it has waited */
    int32_t waits_for;  /* whom it said it waits for, -1: nobody */
    bool ever_heard;    /* false: heard_us is when we began to listen */
    shoal__notice sign; /* ALIVE or WAIT in flight; the next is skipped while it is */
    shoal_request sign_request;
    shoal_request announce_request; /* LOST or FAIL; its text is comm->announcement */
} shoal__peer;

/* The wait that is going on. */
typedef struct shoal__wait {
    shoal_request *request; /* [n] */
    int32_t n;
    int32_t first;     /* requests before it are done */
    int32_t n_any;     /* > 0: of this many that were open, one more that is done is enough */
    int32_t last_peer; /* of the request that was found open last */
    const char *what;
    int64_t start_us;
} shoal__wait;

struct shoal_comm {
    shoal_transport *transport; /* owned */
    shoal_log *log;
    shoal_comm_config config;
    void (*fail_device)(void *arg); /* or NULL */
    void *fail_device_arg;
    int32_t rank, n_rank;
    int64_t step; /* where this rank is, -1 before the first step */
    int32_t layer;
    shoal_status failed; /* sticky: what ended this communicator, OK while it works */
    shoal_status agreed; /* the last failure that all ranks agreed on */
    bool struck;         /* by an injected fault in sim: unwinds without a word */
    bool host_known;
    char (*host)[SHOAL__HOST_BYTES]; /* [n_rank] */
    shoal_comm_counters count;
    shoal_timeline *timeline; /* NULL: waits are not recorded */

    /* split.c: messages over part_bytes, and those that must keep their order behind one. */
    size_t part_bytes;
    shoal_request *split; /* list, oldest first, through request->next */

    /* liveness.c */
    int64_t deadline_us;
    int64_t interval_us;     /* between notices */
    int64_t round_us;        /* when notices last went out */
    int64_t now_us;          /* the clock when it was last read; what comes is heard then */
    int64_t tick_us;         /* when this rank last looked */
    int64_t grace_us;        /* nobody is blamed before */
    int64_t next_check_us;   /* when something is due: notices or a deadline */
    const shoal__wait *wait; /* NULL while computing */
    shoal__peer *peer;       /* [n_rank] */
    shoal__notice heard;     /* buffer of the one receive that is always open */
    shoal__notice announcement;
    shoal_request heard_request;

    /* bringup.c */
    shoal_request *many; /* [n_rank] */
    int32_t *verdict;    /* [n_rank] */
};

/* For tests: split above n_bytes instead of SHOAL__PART_BYTES; equal on all ranks. */
void shoal__comm_set_part_bytes(shoal_comm *comm, size_t n_bytes);

/* comm.c. A failure of the transport's start or test ends the communicator; the others are told. */
shoal_status shoal__transport_failed(shoal_comm *comm, int32_t peer, shoal_status status);
/* Test one request: counts, and hears its sender when it completes. */
shoal_status shoal__request_test(shoal_comm *comm, shoal_request *request);
void shoal__request_finished(shoal_comm *comm, const shoal_request *request);
/* Start what `request` describes. */
shoal_status shoal__request_start(shoal_comm *comm, shoal_request *request);

/* split.c. True if `request` must go through the list (too big, or behind one with its key). */
bool shoal__split_needed(const shoal_comm *comm, const shoal_request *request);
shoal_status shoal__split_add(shoal_comm *comm, shoal_request *request);
shoal_status shoal__split_advance(shoal_comm *comm);

/* liveness.c */
shoal_status shoal__liveness_open(shoal_comm *comm);
void shoal__liveness_close(shoal_comm *comm);
void shoal__liveness_hear(shoal_comm *comm, int32_t rank);
/* Read notices, send those that are due, look at deadlines and signals, at comm->now_us. */
shoal_status shoal__liveness_tick(shoal_comm *comm);
/* Tell everyone (LOST or FAIL) and keep messages moving for the moment it takes them to leave. */
void shoal__liveness_announce(shoal_comm *comm, shoal__notice_kind kind, int32_t subject,
                              shoal_status status);

/* blame.c: each says what it found, announces and remembers it. */
/* `rank` is lost because of `reason`. Returns PEER_LOST. */
shoal_status shoal__blame(shoal_comm *comm, int32_t rank, const char *reason);
/* This rank itself cannot go on. Returns PEER_LOST. */
shoal_status shoal__blame_self(shoal_comm *comm, const char *reason);
/* This rank ends because of `status`, which the others do not know: tell them. */
void shoal__blame_leave(shoal_comm *comm, shoal_status status);
/* Someone else found a loss or failed: say who said so, and pass it on once. */
shoal_status shoal__blame_told(shoal_comm *comm, int32_t from, const shoal__notice *notice);
/* Whether somebody that comm->wait is for is lost, or all wait for each other. */
shoal_status shoal__blame_look(shoal_comm *comm, int64_t now);
/* When `rank` becomes lost if it stays silent. */
int64_t shoal__blame_due_us(const shoal_comm *comm, int32_t rank);
/* INTERRUPTED, if this process was sent a signal. */
shoal_status shoal__blame_signal(shoal_comm *comm);

/* Whom a wait (or NULL) is for; -1: nobody. */
static inline int32_t shoal__wait_subject(const shoal__wait *wait)
{
    return wait && wait->first < wait->n ? wait->request[wait->first].peer : -1;
}

static inline int64_t shoal__min_us(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t shoal__max_us(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* comm.c. Remember `status`; every later call returns it. */
shoal_status shoal__comm_end(shoal_comm *comm, shoal_status status);

/* bringup.c. Nobody leaves before all have come. */
shoal_status shoal__barrier(shoal_comm *comm, const char *what);

#endif
