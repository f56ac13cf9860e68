/* Exchanges whose data tells who sent it, for any transport. They return FAILED, with a text in the
 * communicator's log, when something wrong arrives: no assertion, as under MPI a rank that leaves
 * early hangs the others. */
#ifndef SHOAL_TESTS_COMM_MESSAGE_CASES_H
#define SHOAL_TESTS_COMM_MESSAGE_CASES_H

#include "comm/comm_private.h"

#include <stdlib.h>
#include <string.h>

static inline unsigned char byte_of(int32_t rank, size_t i, int32_t salt)
{
    return (unsigned char)(31 * (size_t)rank + 7 * i + (i >> 8) + (size_t)salt);
}

static inline void fill(unsigned char *data, size_t n, int32_t rank, int32_t salt)
{
    for (size_t i = 0; i < n; i++)
        data[i] = byte_of(rank, i, salt);
}

static inline shoal_status check_filled(shoal_comm *comm, const unsigned char *data, size_t n,
                                        int32_t rank, int32_t salt)
{
    for (size_t i = 0; i < n; i++)
        if (data[i] != byte_of(rank, i, salt))
            return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED,
                              "byte %zu of %zu from rank %d is wrong", i, n, rank);
    return SHOAL_OK;
}

enum { N_SIZE = 6, N_ROUND = 2 };
static const size_t message_size[N_SIZE] = {0, 1, 7, 4096, 100003, 300000};

/* Every size from every rank to every rank, all open at once, twice with one tag: order is kept,
 * also behind messages that are split. */
static inline shoal_status case_sizes(shoal_comm *comm)
{
    int32_t n = shoal_comm_n_rank(comm);
    int32_t me = shoal_comm_rank(comm);
    shoal_request *r = calloc((size_t)(2 * n * N_SIZE * N_ROUND), sizeof(*r));
    unsigned char **buffer = calloc((size_t)(2 * n * N_SIZE * N_ROUND), sizeof(*buffer));
    uint64_t before = shoal_comm_count(comm)->received_bytes;
    int32_t n_open = 0;
    shoal_status status = SHOAL_OK;
    for (int32_t p = 0; p < n; p++) {
        for (int32_t k = 0; p != me && k < N_SIZE * N_ROUND && status == SHOAL_OK; k++) {
            size_t bytes = message_size[k % N_SIZE];
            unsigned char *out = buffer[n_open] = malloc(bytes + 1);
            fill(out, bytes, me, k + p);
            status = shoal_comm_send(comm, &r[n_open++], p, SHOAL_TAG_COMBINE, out, bytes);
            unsigned char *in = buffer[n_open] = malloc(bytes + 1);
            if (status == SHOAL_OK)
                status = shoal_comm_recv(comm, &r[n_open++], p, SHOAL_TAG_COMBINE, in, bytes);
        }
    }
    if (status == SHOAL_OK)
        status = shoal_comm_wait(comm, r, n_open, "all sizes");
    uint64_t bytes_in = 0;
    for (int32_t i = 1; i < n_open && status == SHOAL_OK; i += 2) {
        int32_t k = (i / 2) % (N_SIZE * N_ROUND);
        if (!r[i].done || r[i].n_bytes != message_size[k % N_SIZE])
            status = shoal_fail(shoal_comm_log(comm), SHOAL_FAILED, "message %d is not whole", i);
        else
            status = check_filled(comm, buffer[i], r[i].n_bytes, r[i].peer, k + me);
        bytes_in += r[i].n_bytes;
    }
    if (status == SHOAL_OK && shoal_comm_count(comm)->received_bytes != before + bytes_in)
        status = shoal_fail(shoal_comm_log(comm), SHOAL_FAILED, "received bytes are miscounted");
    for (int32_t i = 0; i < n_open; i++)
        free(buffer[i]);
    free(buffer);
    free(r);
    return status;
}

/* 23 bytes where up to 64 are awaited; rank 0 to all. */
static inline shoal_status case_upto(shoal_comm *comm)
{
    unsigned char data[64];
    shoal_request r = SHOAL_REQUEST_NONE;
    SHOAL_TRY(shoal_comm_wait(comm, &r, 1, "nothing"));
    if (shoal_comm_rank(comm) == 0) {
        fill(data, 64, 0, 1);
        for (int32_t p = 1; p < shoal_comm_n_rank(comm); p++) {
            SHOAL_TRY(shoal_comm_send(comm, &r, p, SHOAL_TAG_CONTROL, data, 23));
            SHOAL_TRY(shoal_comm_wait(comm, &r, 1, "control"));
        }
        return SHOAL_OK;
    }
    SHOAL_TRY(shoal_comm_recv_upto(comm, &r, 0, SHOAL_TAG_CONTROL, data, sizeof(data)));
    SHOAL_TRY(shoal_comm_wait(comm, &r, 1, "control"));
    if (r.n_bytes != 23 || r.peer != 0)
        return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED, "got %zu bytes from rank %d",
                          r.n_bytes, r.peer);
    return check_filled(comm, data, 23, 0, 1);
}

/* Rank 0 waits for any of several: each comes once, those that came are left alone, and with none
 * open nothing is waited for. The last rank sends first, the first only when it is told to. */
static inline shoal_status case_any(shoal_comm *comm)
{
    int32_t n = shoal_comm_n_rank(comm), me = shoal_comm_rank(comm);
    shoal_request r[8];
    int32_t got[8] = {0};
    for (int32_t i = 0; i < 8; i++)
        r[i] = SHOAL_REQUEST_NONE;
    SHOAL_TRY(shoal_comm_wait_any(comm, r, 8, "nothing"));
    if (me != 0) {
        int32_t token = 0;
        for (int32_t i = me + 1; i < n; i++) /* rank 0 has heard those behind this one */
            SHOAL_TRY(shoal_comm_bcast(comm, &token, sizeof token, 0));
        SHOAL_TRY(shoal_comm_send(comm, r, 0, SHOAL_TAG_STAGED, &me, sizeof me));
        for (int32_t i = 1; i <= me; i++)
            SHOAL_TRY(shoal_comm_bcast(comm, &token, sizeof token, 0));
        return shoal_comm_wait(comm, r, 1, "a word");
    }
    for (int32_t i = 1; i < n; i++)
        SHOAL_TRY(shoal_comm_recv(comm, &r[i], i, SHOAL_TAG_STAGED, &got[i], sizeof got[i]));
    for (int32_t left = n - 1; left > 0; left--) {
        SHOAL_TRY(shoal_comm_wait_any(comm, r, 8, "a word"));
        for (int32_t i = 1; i < n; i++)
            if (r[i].done != (i >= left) || got[i] != (i >= left ? i : 0))
                return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED,
                                  "with %d left, the word of rank %d is %d", left - 1, i, got[i]);
        int32_t token = 0;
        SHOAL_TRY(shoal_comm_bcast(comm, &token, sizeof token, 0));
        SHOAL_TRY(shoal_comm_look(comm, r, 8));
    }
    return SHOAL_OK;
}

static inline shoal_status case_collectives(shoal_comm *comm)
{
    int32_t n = shoal_comm_n_rank(comm);
    int32_t me = shoal_comm_rank(comm);
    bool good = true;
    for (int32_t root = 0; root < n; root++) {
        int64_t data[3] = {me, me, me};
        SHOAL_TRY(shoal_comm_bcast(comm, data, sizeof(data), root));
        good = good && data[0] == root && data[1] == root && data[2] == root;
        int32_t mine = 100 + me;
        int32_t *all = me == root ? calloc((size_t)n, sizeof(*all)) : NULL;
        shoal_status status = shoal_comm_gather(comm, all, &mine, sizeof(mine), root);
        for (int32_t r = 0; status == SHOAL_OK && all && r < n; r++)
            good = good && all[r] == 100 + r;
        free(all);
        SHOAL_TRY(status);
        char host[32];
        snprintf(host, sizeof(host), "host-%d", root);
        good = good && strcmp(shoal_comm_host(comm, root), host) == 0;
    }
    if (!good)
        return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED, "a collective gave wrong data");
    return shoal_comm_agree(comm, SHOAL_OK, "nothing bad");
}

#endif
