/* Collective helpers for bring-up, results and the end: rank by rank over the root. They are rare
 * and small, so they are written for reading. */
#include "comm/comm_private.h"

#include <string.h>

shoal_status shoal_comm_bcast(shoal_comm *comm, void *data, size_t n_bytes, int32_t root)
{
    int32_t n = 0;
    if (comm->rank != root) {
        SHOAL_TRY(shoal_comm_recv(comm, &comm->many[n++], root, SHOAL_TAG_BRINGUP, data, n_bytes));
    } else {
        for (int32_t r = 0; r < comm->n_rank; r++)
            if (r != root)
                SHOAL_TRY(
                    shoal_comm_send(comm, &comm->many[n++], r, SHOAL_TAG_BRINGUP, data, n_bytes));
    }
    return shoal_comm_wait(comm, comm->many, n, "a broadcast");
}

shoal_status shoal_comm_gather(shoal_comm *comm, void *all, const void *mine, size_t n_bytes,
                               int32_t root)
{
    int32_t n = 0;
    if (comm->rank != root) {
        SHOAL_TRY(shoal_comm_send(comm, &comm->many[n++], root, SHOAL_TAG_BRINGUP, mine, n_bytes));
    } else {
        unsigned char *out = all;
        memmove(out + (size_t)root * n_bytes, mine, n_bytes);
        for (int32_t r = 0; r < comm->n_rank; r++)
            if (r != root)
                SHOAL_TRY(shoal_comm_recv(comm, &comm->many[n++], r, SHOAL_TAG_BRINGUP,
                                          out + (size_t)r * n_bytes, n_bytes));
    }
    return shoal_comm_wait(comm, comm->many, n, "a gather");
}

shoal_status shoal_comm_agree(shoal_comm *comm, shoal_status mine, const char *what)
{
    int32_t worst[2] = {(int32_t)mine, comm->rank}; /* status, lowest rank that has it */
    SHOAL_TRY(shoal_comm_gather(comm, comm->verdict, &worst[0], sizeof(worst[0]), 0));
    if (comm->rank == 0) {
        for (int32_t r = 1; r < comm->n_rank; r++) {
            int32_t theirs = comm->verdict[r];
            if (theirs < SHOAL_OK || theirs > SHOAL_INTERRUPTED)
                theirs = SHOAL_FAILED; /* a status of another build */
            if (theirs > worst[0]) {
                worst[0] = theirs;
                worst[1] = r;
            }
        }
    }
    SHOAL_TRY(shoal_comm_bcast(comm, worst, sizeof(worst), 0));
    shoal_status status = (shoal_status)worst[0];
    if (status == SHOAL_OK)
        return SHOAL_OK;
    comm->agreed = status;
    if (mine != SHOAL_OK)
        return status;
    return shoal_fail(comm->log, status, "rank %d (%s) failed in %s: %s", worst[1],
                      shoal_comm_host(comm, worst[1]), what, shoal_status_text(status));
}

shoal_status shoal__barrier(shoal_comm *comm, const char *what)
{
    char token = 0;
    if (comm->rank != 0) {
        SHOAL_TRY(shoal_comm_send(comm, &comm->many[0], 0, SHOAL_TAG_BRINGUP, &token, 1));
        SHOAL_TRY(shoal_comm_wait(comm, comm->many, 1, what));
        SHOAL_TRY(shoal_comm_recv(comm, &comm->many[0], 0, SHOAL_TAG_BRINGUP, &token, 1));
        return shoal_comm_wait(comm, comm->many, 1, what);
    }
    char *in = (char *)comm->verdict; /* [n_rank], one byte each */
    for (int32_t r = 1; r < comm->n_rank; r++)
        SHOAL_TRY(shoal_comm_recv(comm, &comm->many[r - 1], r, SHOAL_TAG_BRINGUP, &in[r], 1));
    SHOAL_TRY(shoal_comm_wait(comm, comm->many, comm->n_rank - 1, what));
    for (int32_t r = 1; r < comm->n_rank; r++)
        SHOAL_TRY(shoal_comm_send(comm, &comm->many[r - 1], r, SHOAL_TAG_BRINGUP, &token, 1));
    return shoal_comm_wait(comm, comm->many, comm->n_rank - 1, what);
}
