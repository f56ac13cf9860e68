/* Who is lost, and in which words (rule 6). Who is silent for the deadline while we wait for it is
 * lost; who merely waits says so (liveness.c), and is not. */
#include "comm/comm_private.h"

static double seconds(int64_t us)
{
    return (double)us / 1e6;
}

static const char *phase(const shoal_comm *comm)
{
    return comm->wait ? comm->wait->what : "nothing (computing)";
}

/* "step 3, layer 1" */
static const char *place(char text[64], int64_t step, int32_t layer)
{
    if (step < 0 && layer >= 0)
        snprintf(text, 64, "loading, layer %d", layer);
    else if (step < 0)
        snprintf(text, 64, "before the first step");
    else if (layer < 0)
        snprintf(text, 64, "step %lld, outside the layers", (long long)step);
    else
        snprintf(text, 64, "step %lld, layer %d", (long long)step, layer);
    return text;
}

static const char *last_heard(char text[64], const shoal_comm *comm, int32_t rank)
{
    const shoal__peer *peer = &comm->peer[rank];
    snprintf(text, 64, "never heard");
    if (peer->ever_heard)
        snprintf(text, 64, "last heard %.1f s ago",
                 seconds(shoal_comm_now_us(comm) - peer->heard_us));
    return text;
}

shoal_status shoal__blame(shoal_comm *comm, int32_t rank, const char *reason)
{
    char where[64], heard[64];
    shoal_fail(
        comm->log, SHOAL_PEER_LOST,
        "rank %d (%s) is lost: %s, waiting for %s at %s; %s. See what became of that machine "
        "or its network, then start again",
        rank, shoal_comm_host(comm, rank), reason, phase(comm),
        place(where, comm->step, comm->layer), last_heard(heard, comm, rank));
    shoal__liveness_announce(comm, SHOAL__NOTICE_LOST, rank, SHOAL_PEER_LOST);
    return shoal__comm_end(comm, SHOAL_PEER_LOST);
}

shoal_status shoal__blame_self(shoal_comm *comm, const char *reason)
{
    char where[64];
    shoal_fail(comm->log, SHOAL_PEER_LOST,
               "rank %d (%s) is lost: %s, waiting for %s at %s; the other ranks are told",
               comm->rank, shoal_comm_host(comm, comm->rank), reason, phase(comm),
               place(where, comm->step, comm->layer));
    shoal__liveness_announce(comm, SHOAL__NOTICE_FAIL, comm->rank, SHOAL_PEER_LOST);
    return shoal__comm_end(comm, SHOAL_PEER_LOST);
}

void shoal__blame_leave(shoal_comm *comm, shoal_status status)
{
    char where[64];
    if (status == SHOAL_UNAVAILABLE && comm->n_rank > 1)
        shoal_fail(comm->log, status,
                   "rank %d (%s) is lost: its device is unavailable, see above, at %s; the other "
                   "ranks are told",
                   comm->rank, shoal_comm_host(comm, comm->rank),
                   place(where, comm->step, comm->layer));
    shoal__liveness_announce(comm, SHOAL__NOTICE_FAIL, comm->rank, status);
}

/* Someone else found a loss or failed: say who said so, and pass it on once. */
shoal_status shoal__blame_told(shoal_comm *comm, int32_t from, const shoal__notice *notice)
{
    char where[64];
    int32_t subject = notice->subject;
    const shoal_status announced = (shoal_status)notice->status;
    const bool fails = notice->kind == SHOAL__NOTICE_FAIL;
    const bool device = fails && announced == SHOAL_UNAVAILABLE;
    const shoal_status status = device ? SHOAL_PEER_LOST : announced;
    const char *from_host = shoal_comm_host(comm, from);
    place(where, notice->step, notice->layer);
    if (device)
        shoal_fail(comm->log, status,
                   "told by rank %d (%s) that rank %d (%s) is lost (%s): its device is unavailable",
                   from, from_host, subject, shoal_comm_host(comm, subject), where);
    else if (fails && announced == SHOAL_PEER_LOST)
        shoal_fail(comm->log, status,
                   "told by rank %d (%s) that rank %d (%s) is lost (%s): it cannot go on, see what "
                   "it says",
                   from, from_host, subject, shoal_comm_host(comm, subject), where);
    else if (!fails)
        shoal_fail(comm->log, status, "told by rank %d (%s) that rank %d (%s) is lost (%s)%s", from,
                   from_host, subject, shoal_comm_host(comm, subject), where,
                   subject == comm->rank
                       ? ": that is this rank; nothing it sends arrives there any "
                         "more, its network may be cut"
                       : "");
    else
        shoal_fail(comm->log, status, "told by rank %d (%s) that rank %d (%s) failed (%s): %s",
                   from, from_host, subject, shoal_comm_host(comm, subject), where,
                   shoal_status_text(status));
    comm->step = notice->step; /* the repeated notice says where it was found */
    comm->layer = notice->layer;
    shoal__liveness_announce(comm, (shoal__notice_kind)notice->kind, subject, announced);
    return shoal__comm_end(comm, status);
}

/* When `rank` becomes lost if it stays silent: a wait that began long after its last message gives
 * it the whole deadline again. */
int64_t shoal__blame_due_us(const shoal_comm *comm, int32_t rank)
{
    return shoal__max_us(comm->peer[rank].heard_us, comm->wait->start_us) + comm->deadline_us;
}

/* Of those that we wait for, blame the one that has been silent the longest, and mention others. */
static shoal_status look_for_silent(shoal_comm *comm, int64_t now)
{
    const shoal__wait *wait = comm->wait;
    int32_t silent = -1;
    int32_t n_more = 0;
    for (int32_t i = wait->first; i < wait->n; i++) {
        const shoal_request *request = &wait->request[i];
        int32_t peer = request->peer;
        if (request->done || peer == silent || now < shoal__blame_due_us(comm, peer))
            continue;
        n_more += silent >= 0;
        if (silent < 0 || comm->peer[peer].heard_us < comm->peer[silent].heard_us)
            silent = peer;
    }
    if (silent < 0)
        return SHOAL_OK;
    char reason[96];
    snprintf(reason, sizeof(reason), "silent for %.1f s%s", seconds(comm->deadline_us),
             n_more ? " (like others that this rank waits for)" : "");
    return shoal__blame(comm, silent, reason);
}

/* Everybody is alive and waits for the next one in a circle: a bug, but not one to wait for
 * forever. Only a circle in which all have waited for long counts, as notices are a little old. */
static shoal_status look_for_circle(shoal_comm *comm, int64_t now)
{
    int64_t limit_us = shoal__max_us(10 * comm->deadline_us, 60000000);
    if (now - comm->wait->start_us < limit_us)
        return SHOAL_OK;
    int32_t at = comm->rank;
    for (int32_t i = 0; i < comm->n_rank; i++) { /* after n_rank steps we are on the circle */
        const shoal__peer *peer = &comm->peer[at];
        bool me = at == comm->rank;
        if (!me && (peer->waits_for < 0 || peer->wait_us < limit_us / 2))
            return SHOAL_OK;
        at = me ? shoal__wait_subject(comm->wait) : peer->waits_for;
    }
    char circle[256];
    size_t used = 0;
    int32_t first = at;
    do {
        int32_t next =
            at == comm->rank ? shoal__wait_subject(comm->wait) : comm->peer[at].waits_for;
        int n = snprintf(circle + used, sizeof(circle) - used, "rank %d waits for ", at);
        used = shoal__min_us((int64_t)used + n, sizeof(circle) - 1);
        at = next;
    } while (at != first);
    char where[64];
    shoal_fail(
        comm->log, SHOAL_FAILED,
        "all are alive but wait for each other: %srank %d (waiting for %s at %s for %.1f s); "
        "this is a bug of shoal, please report it",
        circle, first, phase(comm), place(where, comm->step, comm->layer),
        seconds(now - comm->wait->start_us));
    shoal__liveness_announce(comm, SHOAL__NOTICE_FAIL, comm->rank, SHOAL_FAILED);
    return shoal__comm_end(comm, SHOAL_FAILED);
}

/* A launcher that misses a rank ends the others by a signal. They answer each other at once; who
 * does not is what was lost. */
static void name_unheard(shoal_comm *comm, int64_t signal_us)
{
    char where[64], heard[64];
    for (int32_t r = 0; r < comm->n_rank; r++) {
        if (r == comm->rank || comm->peer[r].heard_us > signal_us)
            continue;
        shoal_log_warn(
            comm->log,
            "rank %d (%s) has not answered since the signal and may be what was lost, at "
            "%s; %s",
            r, shoal_comm_host(comm, r), place(where, comm->step, comm->layer),
            last_heard(heard, comm, r));
    }
}

shoal_status shoal__blame_signal(shoal_comm *comm)
{
    if (!comm->config.interrupted || !*comm->config.interrupted)
        return SHOAL_OK;
    char where[64];
    int64_t now = shoal_comm_now_us(comm);
    shoal_fail(comm->log, SHOAL_INTERRUPTED, "stopped by signal %d, waiting for %s at %s",
               (int)*comm->config.interrupted, phase(comm), place(where, comm->step, comm->layer));
    shoal__liveness_announce(comm, SHOAL__NOTICE_FAIL, comm->rank, SHOAL_INTERRUPTED);
    name_unheard(comm, now);
    return shoal__comm_end(comm, SHOAL_INTERRUPTED);
}

shoal_status shoal__blame_look(shoal_comm *comm, int64_t now)
{
    SHOAL_TRY(look_for_silent(comm, now));
    return look_for_circle(comm, now);
}
