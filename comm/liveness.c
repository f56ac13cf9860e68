/* Notices, deadlines and blame (rule 6). Who is silent for the deadline while we wait for it is
 * lost; who merely waits says so every interval, and is not. */
#include "comm/comm_private.h"

#include <string.h>

/* Moments that a failing rank keeps moving messages, so that its last words leave: at least,
 * because a connection may still be opening, and at most. */
#define LINGER_MIN_US 20000
#define LINGER_MAX_US 300000

static double seconds(int64_t us)
{
    return (double)us / 1e6;
}

static int64_t min_us(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_us(int64_t a, int64_t b)
{
    return a > b ? a : b;
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

static shoal_status listen(shoal_comm *comm)
{
    comm->heard_request = (shoal_request){.is_recv = true,
                                          .exact = true,
                                          .peer = SHOAL_ANY_RANK,
                                          .tag = SHOAL_TAG_NOTICE,
                                          .n_bytes = sizeof(comm->heard),
                                          .data = &comm->heard};
    shoal_status status = comm->transport->ops->start(comm->transport, &comm->heard_request);
    comm->heard_request.done |= status != SHOAL_OK;
    return status;
}

shoal_status shoal__liveness_open(shoal_comm *comm)
{
    int64_t now = shoal_comm_now_us(comm);
    comm->deadline_us = (int64_t)(comm->config.deadline_s * 1e6);
    comm->interval_us = max_us(min_us(1000000, comm->deadline_us / 4), 1);
    comm->now_us = comm->round_us = comm->tick_us = comm->grace_us = now;
    comm->next_check_us = now + comm->interval_us;
    comm->heard_request = SHOAL_REQUEST_NONE;
    for (int32_t r = 0; r < comm->n_rank; r++)
        comm->peer[r] = (shoal__peer){.heard_us = now,
                                      .waits_for = -1,
                                      .sign_request = SHOAL_REQUEST_NONE,
                                      .announce_request = SHOAL_REQUEST_NONE};
    return comm->n_rank > 1 ? listen(comm) : SHOAL_OK;
}

void shoal__liveness_hear(shoal_comm *comm, int32_t rank)
{
    comm->peer[rank].heard_us = comm->now_us;
    comm->peer[rank].ever_heard = true;
}

/* Notices are sent as they can be: what cannot be sent is not missed, as a real loss shows itself
 * when somebody waits for that rank. */
static void send_notice(shoal_comm *comm, shoal_request *request, int32_t peer,
                        const shoal__notice *notice)
{
    *request = (shoal_request){
        .exact = true, .peer = peer, .tag = SHOAL_TAG_NOTICE, .n_bytes = sizeof(*notice)};
    memcpy(&request->data, &notice, sizeof(notice)); /* only read */
    if (comm->transport->ops->start(comm->transport, request) != SHOAL_OK)
        request->done = true;
}

static bool notice_has_left(shoal_comm *comm, shoal_request *request)
{
    if (!request->done && comm->transport->ops->test(comm->transport, request) != SHOAL_OK)
        request->done = true;
    return request->done;
}

static int32_t waits_for(const shoal__wait *wait)
{
    return wait && wait->first < wait->n ? wait->request[wait->first].peer : -1;
}

static void send_signs_of_life(shoal_comm *comm, int64_t now)
{
    int32_t subject = waits_for(comm->wait);
    shoal__notice sign = {.kind = subject >= 0 ? SHOAL__NOTICE_WAIT : SHOAL__NOTICE_ALIVE,
                          .subject = subject,
                          .layer = comm->layer,
                          .step = comm->step,
                          .wait_us = comm->wait ? now - comm->wait->start_us : 0};
    for (int32_t r = 0; r < comm->n_rank; r++) {
        shoal__peer *peer = &comm->peer[r];
        if (r == comm->rank || !notice_has_left(comm, &peer->sign_request))
            continue;
        peer->sign = sign;
        send_notice(comm, &peer->sign_request, r, &peer->sign);
    }
    comm->round_us = now;
}

/* Read who spoke and forget what: messages move meanwhile. */
static void drain(shoal_comm *comm, int64_t now)
{
    if (comm->heard_request.done)
        return;
    const shoal_transport_ops *ops = comm->transport->ops;
    comm->now_us = now;
    while (ops->test(comm->transport, &comm->heard_request) == SHOAL_OK &&
           comm->heard_request.done) {
        shoal__liveness_hear(comm, comm->heard_request.peer);
        if (listen(comm) != SHOAL_OK)
            break;
    }
}

/* Whether all others have spoken since then. */
static bool all_heard(const shoal_comm *comm, int64_t since_us)
{
    for (int32_t r = 0; r < comm->n_rank; r++)
        if (r != comm->rank && comm->peer[r].heard_us <= since_us)
            return false;
    return true;
}

void shoal__liveness_announce(shoal_comm *comm, shoal__notice_kind kind, int32_t subject,
                              shoal_status status)
{
    if (comm->n_rank == 1)
        return;
    comm->announcement = (shoal__notice){.kind = (int32_t)kind,
                                         .subject = subject,
                                         .status = (int32_t)status,
                                         .layer = comm->layer,
                                         .step = comm->step};
    for (int32_t r = 0; r < comm->n_rank; r++)
        if (r != comm->rank)
            send_notice(comm, &comm->peer[r].announce_request, r, &comm->announcement);

    int64_t start = shoal_comm_now_us(comm);
    int64_t now = start;
    bool wants_answers = status == SHOAL_INTERRUPTED && subject == comm->rank;
    bool all_left = false;
    while (now < start + LINGER_MIN_US ||
           ((!all_left || (wants_answers && !all_heard(comm, start))) &&
            now < start + LINGER_MAX_US)) {
        drain(comm, now);
        all_left = true;
        for (int32_t r = 0; r < comm->n_rank; r++)
            all_left = notice_has_left(comm, &comm->peer[r].announce_request) && all_left;
        comm->transport->ops->idle(comm->transport, now + LINGER_MIN_US);
        now = shoal_comm_now_us(comm);
    }
}

void shoal__liveness_leave(shoal_comm *comm, shoal_status status)
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

static const char *last_heard(char text[64], const shoal_comm *comm, int32_t rank)
{
    const shoal__peer *peer = &comm->peer[rank];
    snprintf(text, 64, "never heard");
    if (peer->ever_heard)
        snprintf(text, 64, "last heard %.1f s ago",
                 seconds(shoal_comm_now_us(comm) - peer->heard_us));
    return text;
}

shoal_status shoal__liveness_blame(shoal_comm *comm, int32_t rank, const char *reason)
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

shoal_status shoal__liveness_give_up(shoal_comm *comm, const char *reason)
{
    char where[64];
    shoal_fail(comm->log, SHOAL_PEER_LOST,
               "rank %d (%s) is lost: %s, waiting for %s at %s; the other ranks are told",
               comm->rank, shoal_comm_host(comm, comm->rank), reason, phase(comm),
               place(where, comm->step, comm->layer));
    shoal__liveness_announce(comm, SHOAL__NOTICE_FAIL, comm->rank, SHOAL_PEER_LOST);
    return shoal__comm_end(comm, SHOAL_PEER_LOST);
}

/* Someone else found a loss or failed: say who said so, and pass it on once. */
static shoal_status told(shoal_comm *comm, int32_t from, const shoal__notice *notice)
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

static shoal_status take_notice(shoal_comm *comm, int32_t from, const shoal__notice *notice)
{
    shoal__liveness_hear(comm, from);
    bool sign = notice->kind == SHOAL__NOTICE_ALIVE || notice->kind == SHOAL__NOTICE_WAIT;
    bool bad = notice->kind == SHOAL__NOTICE_LOST || notice->kind == SHOAL__NOTICE_FAIL;
    bool valid = notice->subject >= -1 && notice->subject < comm->n_rank;
    if (sign && valid) {
        comm->peer[from].waits_for = notice->subject;
        comm->peer[from].wait_us = notice->wait_us;
        return SHOAL_OK;
    }
    if (bad && valid && notice->subject >= 0 && notice->status > SHOAL_OK &&
        notice->status <= SHOAL_INTERRUPTED)
        return told(comm, from, notice);
    shoal_fail(comm->log, SHOAL_FAILED,
               "rank %d (%s) sent a notice that this build does not know (kind %d): use the same "
               "build of shoal on all ranks",
               from, shoal_comm_host(comm, from), notice->kind);
    shoal__liveness_announce(comm, SHOAL__NOTICE_FAIL, comm->rank, SHOAL_FAILED);
    return shoal__comm_end(comm, SHOAL_FAILED);
}

static shoal_status read_notices(shoal_comm *comm)
{
    const shoal_transport_ops *ops = comm->transport->ops;
    for (;;) {
        shoal_status status = ops->test(comm->transport, &comm->heard_request);
        if (status != SHOAL_OK)
            return shoal__transport_failed(comm, comm->heard_request.peer, status);
        if (!comm->heard_request.done)
            return SHOAL_OK;
        shoal__notice notice = comm->heard;
        int32_t from = comm->heard_request.peer;
        status = listen(comm);
        if (status != SHOAL_OK)
            return shoal__transport_failed(comm, comm->heard_request.peer, status);
        SHOAL_TRY(take_notice(comm, from, &notice));
    }
}

/* When `rank` becomes lost if it stays silent: a wait that began long after its last message gives
 * it the whole deadline again. */
static int64_t lost_at_us(const shoal_comm *comm, int32_t rank)
{
    return max_us(comm->peer[rank].heard_us, comm->wait->start_us) + comm->deadline_us;
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
        if (request->done || peer == silent || now < lost_at_us(comm, peer))
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
    return shoal__liveness_blame(comm, silent, reason);
}

/* Everybody is alive and waits for the next one in a circle: a bug, but not one to wait for
 * forever. Only a circle in which all have waited for long counts, as notices are a little old. */
static shoal_status look_for_circle(shoal_comm *comm, int64_t now)
{
    int64_t limit_us = max_us(10 * comm->deadline_us, 60000000);
    if (now - comm->wait->start_us < limit_us)
        return SHOAL_OK;
    int32_t at = comm->rank;
    for (int32_t i = 0; i < comm->n_rank; i++) { /* after n_rank steps we are on the circle */
        const shoal__peer *peer = &comm->peer[at];
        bool me = at == comm->rank;
        if (!me && (peer->waits_for < 0 || peer->wait_us < limit_us / 2))
            return SHOAL_OK;
        at = me ? waits_for(comm->wait) : peer->waits_for;
    }
    char circle[256];
    size_t used = 0;
    int32_t first = at;
    do {
        int32_t next = at == comm->rank ? waits_for(comm->wait) : comm->peer[at].waits_for;
        int n = snprintf(circle + used, sizeof(circle) - used, "rank %d waits for ", at);
        used = min_us((int64_t)used + n, sizeof(circle) - 1);
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

/* What is due at next_check_us. */
static shoal_status check(shoal_comm *comm, int64_t now)
{
    if (now >= comm->round_us + comm->interval_us)
        send_signs_of_life(comm, now);
    comm->next_check_us = comm->round_us + comm->interval_us;
    if (!comm->wait)
        return SHOAL_OK;
    /* What has arrived behind the first open request counts as heard. */
    for (int32_t i = comm->wait->first; i < comm->wait->n; i++)
        SHOAL_TRY(shoal__request_test(comm, &comm->wait->request[i]));
    if (now >= comm->grace_us) {
        SHOAL_TRY(look_for_silent(comm, now));
        SHOAL_TRY(look_for_circle(comm, now));
    }
    for (int32_t i = comm->wait->first; i < comm->wait->n; i++) {
        const shoal_request *request = &comm->wait->request[i];
        if (!request->done)
            comm->next_check_us = min_us(comm->next_check_us,
                                         max_us(lost_at_us(comm, request->peer), comm->grace_us));
    }
    return SHOAL_OK;
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

static shoal_status look_at_signal(shoal_comm *comm)
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

shoal_status shoal__liveness_tick(shoal_comm *comm)
{
    SHOAL_TRY(look_at_signal(comm));
    if (comm->n_rank == 1)
        return SHOAL_OK;
    int64_t now = comm->now_us;
    /* If we ourselves stood still (stopped, descheduled, computing without polls), what the others
     * said meanwhile must be read before anyone is blamed. */
    if (now - comm->tick_us > comm->deadline_us / 2)
        comm->grace_us = now + 2 * comm->interval_us;
    comm->tick_us = now;
    SHOAL_TRY(read_notices(comm));
    return now < comm->next_check_us ? SHOAL_OK : check(comm, now);
}

void shoal__liveness_close(shoal_comm *comm)
{
    if (comm->n_rank == 1)
        return;
    const shoal_transport_ops *ops = comm->transport->ops;
    int64_t until = shoal_comm_now_us(comm) + LINGER_MAX_US;
    for (int32_t r = 0; r < comm->n_rank; r++) {
        shoal_request *request = &comm->peer[r].sign_request;
        while (comm->failed == SHOAL_OK && !notice_has_left(comm, request) &&
               shoal_comm_now_us(comm) < until)
            ops->idle(comm->transport, until);
        if (!request->done)
            ops->cancel(comm->transport, request);
        if (!comm->peer[r].announce_request.done)
            ops->cancel(comm->transport, &comm->peer[r].announce_request);
    }
    if (!comm->heard_request.done)
        ops->cancel(comm->transport, &comm->heard_request);
}
