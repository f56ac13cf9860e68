/* The NCCL transport, for jobs whose ranks are all GPUs: it wraps a communicator's transport (MPI)
 * and takes over the rows of the exchange, the messages of the tags dispatch, dispatch-more and
 * combine. All else (agreement, control, signs of life, announcements) stays on MPI, so that
 * deadlines and blame work as before.
 *
 * NCCL has no tags, no receive of unknown size, no cancel, and a communicator does one group after
 * the other: a group is done when every send and receive in it is. So the messages of one hop of
 * the exchange (shoal_comm_hop) go in one group:
 *
 *   note    MPI, 64 bytes, for each dispatch message: its size, the number of its hop, and the
 *           message itself if it has at most 40 bytes (where no row goes there is no group). The
 *           other messages need none: both sides know their exact size from the plan.
 *   group   as soon as a rank has started all messages of a hop, and has the notes of those that it
 *           receives: ncclGroupStart, a send or receive of each, ncclGroupEnd, on the device's side
 *           stream. Messages over 1 GiB are several sends of one group.
 *   done    when the event behind the group is reached: then all its messages are.
 *
 * Why this cannot hang: all ranks pass the hops in one order, and a message belongs to the same hop
 * at both ends. So group k at one rank only waits for groups k at others. Those start when all
 * notes of hop k are sent, which the ranks do after hops before k at most. A rank without a message
 * in a hop has no group in it.
 *
 * A message of at most `over_bytes` goes by MPI (its size tells both sides): 0 for --transport
 * nccl, what was measured for auto.
 *
 * Nothing blocks: communicators are non-blocking, and each call may still be in progress when it
 * returns; test polls it. After a failure, found or told, the communicator is aborted, by a thread
 * that is waited for for 2 s. How the rank to blame is found: trouble.c.
 *
 * Buffers of NCCL's messages are pinned host memory of the device, which NCCL takes as it is.
 * Layering: comm; the only place that knows NCCL, by abi.h and dlopen. */
#ifndef SHOAL_COMM_NCCL_NCCL_H
#define SHOAL_COMM_NCCL_NCCL_H

#include "comm/comm.h"
#include "runtime/kernels/device.h"

typedef struct shoal_nccl_config {
    const char *library;  /* path of libnccl; NULL: libnccl.so.2, as the system finds it */
    shoal_device *device; /* of this rank; outlives the communicator */
    double deadline_s;    /* > 0 */
} shoal_nccl_config;

typedef struct shoal_nccl shoal_nccl;

/* Load the library, look at its version, and take the device's side stream. Of one rank alone.
 * Errors: UNAVAILABLE (not found, too old, a function is missing: what to do), NO_MEMORY. */
shoal_status shoal_nccl_open(shoal_nccl **nccl, const shoal_nccl_config *config, shoal_log *log);

/* Make NCCL's communicator over the ranks of comm, within the deadline. Collective, after all have
 * opened. Only the rank that fails says so, and the others give up too: agree about it afterwards.
 * Errors: UNAVAILABLE (NCCL does not come up, or has another version than on rank 0), NO_MEMORY,
 * those of shoal_comm_wait. */
shoal_status shoal_nccl_join(shoal_nccl *nccl, shoal_comm *comm);

/* From here on comm exchanges by NCCL and owns it, also after a failure: close only comm.
 * Collective, after all have joined; no message of the exchange is open. over_bytes: equal on all
 * ranks. Errors: what MPI finds. */
shoal_status shoal_nccl_use(shoal_nccl *nccl, shoal_comm *comm, size_t over_bytes);

/* The same for --transport auto: first hops of 4 KiB to 2 MiB are timed both ways, and NCCL takes
 * the sizes from which on it is nowhere slower, on no rank. *over_bytes: what came out; SIZE_MAX:
 * there is no such size, and comm is as it was. nccl is comm's or closed, also after a failure.
 * Collective; all return the same. Errors: NO_MEMORY, those of shoal_comm_wait. */
shoal_status shoal_nccl_use_if_faster(size_t *over_bytes, shoal_nccl *nccl, shoal_comm *comm);

/* "2.21.5" */
const char *shoal_nccl_version_text(const shoal_nccl *nccl);

/* For one that is not in use. Accepts NULL. */
void shoal_nccl_close(shoal_nccl *nccl);

#endif
