/* What a host sends while all its ranks do, and how far its clock is off. */
#include "launcher/probe/measure.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEND_LEAST = 64 << 10, SEND_MOST = 16 << 20, SEND_US = 60000 };

/* Ranks of `host` in their order: the number of `rank` among them, or how many there are. */
static int32_t place_in_host(const shoal_probe_job *job, int32_t host, int32_t rank)
{
    int32_t n = 0;
    for (int32_t r = 0; r < rank; r++)
        n += job->host[r] == host;
    return n;
}

static int32_t ranks_of(const shoal_probe_job *job, int32_t host)
{
    const int32_t n = place_in_host(job, host, shoal_comm_n_rank(job->comm));
    return n > 1 ? n : 1; /* there is no host without one */
}

/* The rank of `host` that has number i among its ranks. */
static int32_t rank_in_host(const shoal_probe_job *job, int32_t host, int32_t i)
{
    int32_t rank = -1;
    for (int32_t r = 0; r <= i; r++)
        do
            rank++;
        while (job->host[rank] != host);
    return rank;
}

/* Rank i of the one host sends to rank i of the other, counted around. */
typedef struct stream {
    int64_t n_bytes;
    int64_t us;
} stream;

static shoal_status send_one(stream *out, const shoal_probe_job *job, int32_t peer, double gb_per_s,
                             unsigned char *data)
{
    const int32_t own = job->host[shoal_comm_rank(job->comm)];
    const double wanted = gb_per_s * 1e3 * SEND_US / ranks_of(job, own);
    int64_t n_bytes = wanted < SEND_LEAST ? SEND_LEAST : (int64_t)wanted;
    n_bytes = n_bytes < SEND_MOST ? n_bytes : SEND_MOST;
    shoal_request request[2];
    char done;
    const int64_t start_us = shoal_clock_us();
    SHOAL_TRY(shoal_comm_recv(job->comm, &request[0], peer, SHOAL_TAG_PROBE, &done, 1));
    SHOAL_TRY(
        shoal_comm_send(job->comm, &request[1], peer, SHOAL_TAG_PROBE, &n_bytes, sizeof n_bytes));
    SHOAL_TRY(shoal_comm_wait(job->comm, &request[1], 1, "a probe of a host"));
    SHOAL_TRY(
        shoal_comm_send(job->comm, &request[1], peer, SHOAL_TAG_PROBE_DATA, data, (size_t)n_bytes));
    SHOAL_TRY(shoal_comm_wait(job->comm, request, 2, "a probe of a host"));
    *out = (stream){.n_bytes = n_bytes, .us = shoal_clock_us() - start_us};
    return SHOAL_OK;
}

/* From every rank of `host` whose turn falls on this one; data [senders, SEND_MOST]. */
static shoal_status recv_all(const shoal_probe_job *job, int32_t host, unsigned char *data,
                             shoal_request *request, int64_t *n_bytes)
{
    const int32_t rank = shoal_comm_rank(job->comm), own = job->host[rank];
    const int32_t step = ranks_of(job, own), first = place_in_host(job, own, rank);
    int32_t n = 0;
    for (int32_t i = first; i < ranks_of(job, host); i += step, n++)
        SHOAL_TRY(shoal_comm_recv(job->comm, &request[n], rank_in_host(job, host, i),
                                  SHOAL_TAG_PROBE, &n_bytes[n], sizeof n_bytes[n]));
    SHOAL_TRY(shoal_comm_wait(job->comm, request, n, "a probe of a host"));
    n = 0;
    for (int32_t i = first; i < ranks_of(job, host); i += step, n++) {
        if (n_bytes[n] < 1 || n_bytes[n] > SEND_MOST)
            n_bytes[n] = SEND_LEAST;
        SHOAL_TRY(shoal_comm_recv(job->comm, &request[n], rank_in_host(job, host, i),
                                  SHOAL_TAG_PROBE_DATA, data + (size_t)n * SEND_MOST,
                                  (size_t)n_bytes[n]));
    }
    SHOAL_TRY(shoal_comm_wait(job->comm, request, n, "a probe of a host"));
    n = 0;
    for (int32_t i = first; i < ranks_of(job, host); i += step, n++)
        SHOAL_TRY(shoal_comm_send(job->comm, &request[n], rank_in_host(job, host, i),
                                  SHOAL_TAG_PROBE, data, 1));
    return shoal_comm_wait(job->comm, request, n, "a probe of a host");
}

/* Room for what one rank receives from a host at once. */
typedef struct room {
    unsigned char *data;
    shoal_request *request;
    int64_t *n_bytes;
} room;

static shoal_status open_room(room *room_of, const shoal_probe_job *job)
{
    int32_t most = 1;
    const int32_t own = ranks_of(job, job->host[shoal_comm_rank(job->comm)]);
    for (int32_t h = 0; h < job->n_host; h++) {
        const int32_t n = (ranks_of(job, h) + own - 1) / own;
        most = n > most ? n : most;
    }
    room r = {.data = malloc((size_t)most * SEND_MOST),
              .request = calloc((size_t)most, sizeof *r.request),
              .n_bytes = calloc((size_t)most, sizeof *r.n_bytes)};
    shoal_status status = SHOAL_OK;
    if (r.data == NULL || r.request == NULL || r.n_bytes == NULL)
        status = shoal_fail(job->log, SHOAL_NO_MEMORY, "no memory to measure hosts with");
    if (r.data != NULL)
        memset(r.data, 1, (size_t)most * SEND_MOST); /* pages before the clock starts */
    *room_of = r;
    return shoal_comm_agree(job->comm, status, "preparing to measure hosts");
}

/* The best link from this rank to the other host; unknown ones are tried with little. */
static double link_speed(const shoal_probe_link *link, const shoal_probe_job *job, int32_t host)
{
    double best = 0;
    for (int32_t r = 0; r < shoal_comm_n_rank(job->comm); r++)
        if (job->host[r] == host && (double)link[r].gb_per_s > best)
            best = (double)link[r].gb_per_s;
    return best > 0 ? best : 0.1;
}

/* Pairs of hosts, one way and then the other. */
static shoal_status run_round(stream *out, const shoal_probe_link *link, const shoal_probe_job *job,
                              room *r, int32_t round)
{
    const int32_t rank = shoal_comm_rank(job->comm), own = job->host[rank];
    const int32_t other = shoal_probe_opponent(job->n_host, round, own);
    for (int32_t way = 0; way < 2; way++) {
        SHOAL_TRY(shoal_comm_agree(job->comm, SHOAL_OK, "measuring hosts"));
        if (other < 0)
            continue;
        if ((own < other) != (way == 0)) {
            SHOAL_TRY(recv_all(job, other, r->data, r->request, r->n_bytes));
            continue;
        }
        const int32_t n = ranks_of(job, other);
        const int32_t peer = rank_in_host(job, other, place_in_host(job, own, rank) % n);
        SHOAL_TRY(send_one(out, job, peer, link_speed(link, job, other), r->data));
    }
    return SHOAL_OK;
}

/* Bytes of all ranks of a host over the time of its slowest. */
static void host_speeds(double *nic_gb_per_s, const stream *all, const shoal_probe_job *job)
{
    for (int32_t h = 0; h < job->n_host; h++) {
        double n_bytes = 0, us = 0;
        for (int32_t r = 0; r < shoal_comm_n_rank(job->comm); r++) {
            if (job->host[r] != h)
                continue;
            n_bytes += (double)all[r].n_bytes;
            us = (double)all[r].us > us ? (double)all[r].us : us;
        }
        nic_gb_per_s[h] = us > 0 ? n_bytes / us / 1e3 : 0;
    }
}

/* With an odd number of hosts one sits out a round, so there are two. */
static shoal_status run_host_links(double *nic_gb_per_s, const shoal_probe_link *link,
                                   const shoal_probe_job *job, room *r)
{
    stream mine = {0};
    for (int32_t round = 0; round < 1 + job->n_host % 2; round++)
        SHOAL_TRY(run_round(&mine, link, job, r, round));
    stream *all = NULL;
    shoal_status status = SHOAL_OK;
    if (shoal_comm_rank(job->comm) == 0) {
        all = calloc((size_t)shoal_comm_n_rank(job->comm), sizeof *all);
        if (all == NULL)
            status = shoal_fail(job->log, SHOAL_NO_MEMORY, "no memory for the speed of hosts");
    }
    if (status == SHOAL_OK)
        status = shoal_comm_gather(job->comm, all, &mine, sizeof mine, 0);
    if (status == SHOAL_OK && all != NULL)
        host_speeds(nic_gb_per_s, all, job);
    free(all);
    return status;
}

shoal_status shoal_probe_host_links(double *nic_gb_per_s, const shoal_probe_link *link,
                                    const shoal_probe_job *job)
{
    if (job->n_host == 1)
        return SHOAL_OK;
    room r;
    shoal_status status = open_room(&r, job);
    if (status == SHOAL_OK)
        status = run_host_links(nic_gb_per_s, link, job, &r);
    free(r.data);
    free(r.request);
    free(r.n_bytes);
    return status;
}

static double real_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Ask, and take what is in the middle of question and answer for one moment; the quickest counts.
 */
static shoal_status ask_clock(double *clock_s, double *error_s, const shoal_probe_job *job,
                              int32_t peer)
{
    enum { N_ASK = 5 };
    *error_s = 1e9;
    for (int32_t i = 0; i < N_ASK; i++) {
        shoal_request request[2];
        char question = 0;
        double answer;
        const double before = real_s();
        SHOAL_TRY(
            shoal_comm_recv(job->comm, &request[0], peer, SHOAL_TAG_PROBE, &answer, sizeof answer));
        SHOAL_TRY(shoal_comm_send(job->comm, &request[1], peer, SHOAL_TAG_PROBE, &question, 1));
        SHOAL_TRY(shoal_comm_wait(job->comm, request, 2, "a clock"));
        const double half = (real_s() - before) / 2;
        if (half >= *error_s)
            continue;
        *error_s = half;
        *clock_s = answer - before - half;
    }
    return SHOAL_OK;
}

static shoal_status tell_clock(const shoal_probe_job *job)
{
    enum { N_ASK = 5 };
    for (int32_t i = 0; i < N_ASK; i++) {
        shoal_request request;
        char question;
        SHOAL_TRY(shoal_comm_recv(job->comm, &request, 0, SHOAL_TAG_PROBE, &question, 1));
        SHOAL_TRY(shoal_comm_wait(job->comm, &request, 1, "a clock"));
        const double now = real_s();
        SHOAL_TRY(shoal_comm_send(job->comm, &request, 0, SHOAL_TAG_PROBE, &now, sizeof now));
        SHOAL_TRY(shoal_comm_wait(job->comm, &request, 1, "a clock"));
    }
    return SHOAL_OK;
}

shoal_status shoal_probe_clocks(double *clock_s, double *error_s, const shoal_probe_job *job)
{
    const int32_t rank = shoal_comm_rank(job->comm);
    for (int32_t h = 0; h < job->n_host; h++) {
        const int32_t first = rank_in_host(job, h, 0);
        if (rank == 0 && job->host[0] != h)
            SHOAL_TRY(ask_clock(&clock_s[h], &error_s[h], job, first));
        else if (rank == first && rank != 0 && job->host[0] != h)
            SHOAL_TRY(tell_clock(job));
    }
    return shoal_comm_agree(job->comm, SHOAL_OK, "comparing clocks");
}
