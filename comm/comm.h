/* One rank's view of the communicator: point-to-point messages over one of four transports (self,
 * mpi, nccl, sim), every wait with a deadline, and the right rank blamed (rule 6).
 *
 * Liveness. Each rank remembers when it last heard each other rank. A rank that waits or computes
 * for more than a second sends a notice (alive; and whom it waits for). Whoever waits for a rank
 * that has been silent for the deadline announces LOST to all and fails with PEER_LOST; whoever is
 * told of a loss repeats it once and fails too. A rank that merely waits is never blamed, because
 * its notices keep it alive. Any notice, announced failure or signal ends a wait at once.
 *
 * Only a rank's main thread calls comm (rule 7). Nothing allocates after open.
 * Layering: comm knows kernels (wire encodings) and base. It does not know experts or models. */
#ifndef SHOAL_COMM_COMM_H
#define SHOAL_COMM_COMM_H

#include "comm/transport.h"
#include "runtime/base/timeline.h"

#include <signal.h>

/* All message tags in one place. A tag may be reused for the next message of the same pair and
 * kind: order between two ranks is kept per tag. Messages of the tags marked "whole" may be
 * received without knowing their size; they are never split and at most SHOAL_MESSAGE_MAX_BYTES. */
typedef enum shoal_tag {
    SHOAL_TAG_NOTICE = 1,
    SHOAL_TAG_BRINGUP,  /* agree, bcast, gather */
    SHOAL_TAG_CONTROL,  /* rank 0 -> all, one per step; whole */
    SHOAL_TAG_RESULT,   /* owner -> rank 0 */
    SHOAL_TAG_DISPATCH, /* header, rows, slots; whole */
    SHOAL_TAG_DISPATCH_MORE,
    SHOAL_TAG_COMBINE,
    SHOAL_TAG_PROBE,      /* what a probe measures with: small messages, */
    SHOAL_TAG_PROBE_DATA, /* and large ones */
    SHOAL_TAG_STAGE,      /* rank 0 -> first rank of a node: units of weights */
    SHOAL_TAG_STAGED,     /* back: how far it is */
    SHOAL_TAG_HOP_NOTE,   /* nccl: what comes with the next hop */
    SHOAL_TAG_HOP_REPORT, /* nccl: how far a rank is, in trouble */
} shoal_tag;

typedef enum shoal_fault_kind {
    SHOAL_FAULT_NONE,
    SHOAL_FAULT_KILL,   /* dies at once, by SIGKILL */
    SHOAL_FAULT_STOP,   /* stands still, by SIGSTOP */
    SHOAL_FAULT_EXIT,   /* leaves without a word, exit status 1 */
    SHOAL_FAULT_DROP,   /* lives on, but nothing it sends arrives any more */
    SHOAL_FAULT_DEVICE, /* its device fails (shoal_comm_set_device_fault) */
} shoal_fault_kind;

/* "kill", ... */
const char *shoal_fault_text(shoal_fault_kind kind);

typedef struct shoal_fault { /* test aid, --fault rank=R,step=S,layer=L,do=K */
    shoal_fault_kind kind;
    int32_t rank;
    int64_t step;
    int32_t layer;
} shoal_fault;

typedef struct shoal_comm_counters {
    uint64_t sent_bytes; /* payload of messages to other ranks, without notices and probes */
    uint64_t received_bytes;
    uint64_t sent_messages;
    uint64_t received_messages;
    int64_t wait_us; /* time spent in shoal_comm_wait */
} shoal_comm_counters;

typedef struct shoal_comm_config {
    double deadline_s; /* > 0 */
    const volatile sig_atomic_t
        *interrupted; /* non-zero: waits end with INTERRUPTED; may be NULL */
    shoal_fault fault;
} shoal_comm_config;

typedef struct shoal_comm shoal_comm;

/* Takes ownership of an opened transport (also on failure). Collective: exchanges host names. */
shoal_status shoal_comm_open(shoal_comm **comm, shoal_transport *transport,
                             const shoal_comm_config *config, shoal_log *log);

/* Collective when `failed` is OK or is what shoal_comm_agree gave to all (no rank leaves while
 * another still waits). With another failure it announces it to the others (LOST was announced when
 * found; UNAVAILABLE, a device that failed, is a loss of this rank to the others; anything else a
 * failure of this rank) and gives them a moment to hear. Accepts NULL.
 * Returns true if all ranks left together, so that MPI may be finalised; false: others are lost or
 * still run, end the process without waiting for them (MPI_Abort). */
bool shoal_comm_close(shoal_comm *comm, shoal_status failed);

int32_t shoal_comm_rank(const shoal_comm *comm);
int32_t shoal_comm_n_rank(const shoal_comm *comm);
const char *shoal_comm_host(const shoal_comm *comm, int32_t rank);
const char *shoal_comm_transport_name(const shoal_comm *comm); /* "self", "mpi", "nccl", "sim" */
const shoal_comm_counters *shoal_comm_count(const shoal_comm *comm);
shoal_log *shoal_comm_log(const shoal_comm *comm); /* the logger given to open */

/* The clock that deadlines count in, us: real for self and mpi, virtual for sim. */
int64_t shoal_comm_now_us(const shoal_comm *comm);

/* The step of all that comes before the first one; layers are those whose weights are loaded. */
#define SHOAL_STEP_LOADING (-1)

/* Say where this rank is (layer -1: outside the layers): goes into blame texts, and is the place
 * where an injected fault strikes. Errors: FAILED when sim kills this rank (it must unwind
 * silently). */
shoal_status shoal_comm_at(shoal_comm *comm, int64_t step, int32_t layer);

/* What SHOAL_FAULT_DEVICE does to this rank, which is not comm's to know: fail(arg). */
void shoal_comm_set_device_fault(shoal_comm *comm, void (*fail)(void *arg), void *arg);

/* Non-blocking send/receive of exactly n_bytes (any 64-bit size; split below as needed). The buffer
 * stays the caller's and must not be touched until the request is done; nor may the request move.
 * After a failure open requests are void, and nothing moves any more once the failing call has
 * returned, so their buffers may be freed. `peer` != own rank. A failure sticks: every later call
 * on this communicator returns it (not logged again). */
shoal_status shoal_comm_send(shoal_comm *comm, shoal_request *request, int32_t peer, shoal_tag tag,
                             const void *data, size_t n_bytes);
shoal_status shoal_comm_recv(shoal_comm *comm, shoal_request *request, int32_t peer, shoal_tag tag,
                             void *data, size_t n_bytes);
/* Receive a message of at most n_bytes, of a tag marked "whole"; request->n_bytes is its size once
 * done. */
shoal_status shoal_comm_recv_upto(shoal_comm *comm, shoal_request *request, int32_t peer,
                                  shoal_tag tag, void *data, size_t n_bytes);

/* All that this rank sends and receives in one hop of the exchange has been started: send [n], recv
 * [n], among them requests that are done. A transport that moves the messages of a hop together
 * (nccl) begins with it as soon as it knows all sizes; for the others this is nothing. Every rank
 * calls it for every hop, in the same order, also where it has no message. Errors: FAILED. */
shoal_status shoal_comm_hop(shoal_comm *comm, shoal_request *send, shoal_request *recv, int32_t n);

/* What shoal_exchange_config.slot_bytes should be: a transport that knows sizes beforehand takes a
 * dispatch message in one piece. comm may be NULL: any other. */
size_t shoal_comm_slot_bytes(const shoal_comm *comm);

/* Wait until all n requests are done. `what` names the phase for messages ("dispatch rows").
 * Errors: PEER_LOST (deadline passed or told so; the text names rank, host, phase, step, layer and
 * when it was last heard), INTERRUPTED, or the status another rank announced. */
shoal_status shoal_comm_wait(shoal_comm *comm, shoal_request *request, int32_t n, const char *what);

/* Wait until one of the requests that are not done is done; OK at once if all are. Those that are
 * not done at the end stay open. Errors as above. */
shoal_status shoal_comm_wait_any(shoal_comm *comm, shoal_request *request, int32_t n,
                                 const char *what);

/* Look which of n requests are done, and poll (below). Never blocks. */
shoal_status shoal_comm_look(shoal_comm *comm, shoal_request *request, int32_t n);

/* From now on record every wait in `timeline`, which outlives comm or its being called with NULL.
 */
void shoal_comm_trace(shoal_comm *comm, shoal_timeline *timeline);

/* Let messages move and sign of life go out; returns what has become known meanwhile (OK,
 * PEER_LOST, ...). Cheap; called between compute tiles and while loading. Never blocks. */
shoal_status shoal_comm_poll(shoal_comm *comm);

/* Collective helpers for bring-up and results; all with deadlines, not for the hot path. */
/* All ranks get the worst status (highest enum value) of all; its own failure was already logged by
 * the rank that had it, the others log who failed in `what`. */
shoal_status shoal_comm_agree(shoal_comm *comm, shoal_status mine, const char *what);
shoal_status shoal_comm_bcast(shoal_comm *comm, void *data, size_t n_bytes, int32_t root);
/* all: [n_rank, n_bytes] at root (may be NULL elsewhere). */
shoal_status shoal_comm_gather(shoal_comm *comm, void *all, const void *mine, size_t n_bytes,
                               int32_t root);

#endif
