/* Notices: who is alive says so every interval, what the others say is read, and last words are
 * given the moment that they take to leave (rule 6). Who is lost by all this: blame.c. */
#include "comm/comm_private.h"

#include <string.h>

/* Moments that a failing rank keeps moving messages, so that its last words leave: at least,
 * because a connection may still be opening, and at most. */
#define LINGER_MIN_US 20000
#define LINGER_MAX_US 300000

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
    comm->interval_us = shoal__max_us(shoal__min_us(1000000, comm->deadline_us / 4), 1);
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

static void send_signs_of_life(shoal_comm *comm, int64_t now)
{
    int32_t subject = shoal__wait_subject(comm->wait);
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
        return shoal__blame_told(comm, from, notice);
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
    if (now >= comm->grace_us)
        SHOAL_TRY(shoal__blame_look(comm, now));
    for (int32_t i = comm->wait->first; i < comm->wait->n; i++) {
        const shoal_request *request = &comm->wait->request[i];
        if (!request->done)
            comm->next_check_us = shoal__min_us(
                comm->next_check_us,
                shoal__max_us(shoal__blame_due_us(comm, request->peer), comm->grace_us));
    }
    return SHOAL_OK;
}

shoal_status shoal__liveness_tick(shoal_comm *comm)
{
    SHOAL_TRY(shoal__blame_signal(comm));
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
