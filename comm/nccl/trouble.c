/* Who is to blame when NCCL stands still or breaks. NCCL tells neither: a group that is not done
 * does not say which of its messages has not come, and a broken connection is often only the echo
 * of somebody else's end. Ranks that died are found by comm (signs of life, MPI); here the others.
 *
 * A rank whose oldest group has been under way for long reports to all others how far it is, and
 * asks them. From these reports:
 *
 *   late      a peer of the group that has not started its part: it computes, or waits for somebody
 *             else. Nobody is blamed.
 *   stalled   all have started, and the deadline is over. Whose message has not come, as the marks
 *             at the ends of the buffers show, is to blame; but this rank is if messages of several
 *             are missing here, or several miss this rank's, or if that one gets on with others and
 *             this one with nobody. Between two ranks alone nobody can tell, and each blames the
 *             other.
 *   broken    NCCL gave an error. What cannot come from outside is this rank's own. A connection
 *             that broke may be the echo of a lost rank: when all others have answered, nobody is
 *             lost, and the rank where it broke first gives up. Who does not answer within the
 *             deadline is lost. */
#include "comm/nccl/nccl_private.h"

#include "runtime/base/clock.h"

#include <string.h>

static int64_t min_us(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static shoal_status listen(shoal_nccl *t)
{
    t->heard_request = (shoal_request){.is_recv = true,
                                       .exact = true,
                                       .peer = SHOAL_ANY_RANK,
                                       .tag = SHOAL_TAG_HOP_REPORT,
                                       .n_bytes = sizeof t->heard,
                                       .data = &t->heard};
    return t->inner->ops->start(t->inner, &t->heard_request);
}

shoal_status shoal__nccl_trouble_open(shoal_nccl *t)
{
    t->interval_us = min_us(1000000, t->deadline_us / 4);
    for (int32_t r = 0; r < t->base.n_rank; r++)
        t->peer[r] = (shoal__nccl_peer){.told_request = SHOAL_REQUEST_NONE};
    return listen(t);
}

void shoal__nccl_trouble_close(shoal_nccl *t)
{
    const shoal_transport_ops *ops = t->inner->ops;
    for (int32_t r = 0; r < t->base.n_rank; r++)
        if (!t->peer[r].told_request.done)
            ops->cancel(t->inner, &t->peer[r].told_request);
    if (!t->heard_request.done)
        ops->cancel(t->inner, &t->heard_request);
}

/* ---- marks ---- */

static size_t mark_bytes(const shoal__nccl_message *m)
{
    return m->n_bytes < sizeof m->mark ? m->n_bytes : sizeof m->mark;
}

static unsigned char *mark_place(const shoal__nccl_message *m)
{
    return (unsigned char *)m->data + m->n_bytes - mark_bytes(m);
}

void shoal__nccl_mark(shoal__nccl_message *m)
{
    m->mark = (m->hop + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)(uint32_t)m->peer;
    memcpy(mark_place(m), &m->mark, mark_bytes(m));
}

/* The device writes there at any time; what is read may be old, but not for a deadline. */
static bool has_come(const shoal__nccl_message *m)
{
    const volatile unsigned char *place = mark_place(m);
    const unsigned char *mark = (const unsigned char *)&m->mark;
    for (size_t i = 0; i < mark_bytes(m); i++)
        if (place[i] != mark[i])
            return true;
    return false;
}

/* ---- reports ---- */

static bool has_group_under_way(const shoal_nccl *t)
{
    return t->n_done < t->n_ended && !t->hop[t->n_done % SHOAL__NCCL_HOPS].empty;
}

/* Whether a message from `peer` (is_recv), or one to it, is missing in the oldest group. */
static bool misses(const shoal_nccl *t, int32_t peer)
{
    for (const shoal__nccl_message *m = t->live; m != NULL; m = m->next)
        if (shoal__nccl_is_in_group(m, t->n_done) && m->is_recv && m->peer == peer && !has_come(m))
            return true;
    return false;
}

static bool is_in_oldest_group(const shoal_nccl *t, int32_t peer)
{
    for (const shoal__nccl_message *m = t->live; m != NULL; m = m->next)
        if (shoal__nccl_is_in_group(m, t->n_done) && m->peer == peer)
            return true;
    return false;
}

/* Whether a message of the oldest group has come, or somebody in it is through with the hop. */
static bool moves(const shoal_nccl *t)
{
    for (const shoal__nccl_message *m = t->live; m != NULL; m = m->next)
        if (shoal__nccl_is_in_group(m, t->n_done) && m->is_recv && has_come(m))
            return true;
    for (int32_t r = 0; r < t->base.n_rank; r++)
        if (t->peer[r].heard.n_done > t->n_done && is_in_oldest_group(t, r))
            return true;
    return false;
}

static void tell(shoal_nccl *t, int32_t rank, int64_t now, bool question)
{
    shoal__nccl_peer *peer = &t->peer[rank];
    if (!peer->told_request.done && t->inner->ops->test(t->inner, &peer->told_request) != SHOAL_OK)
        peer->told_request.done = true;
    if (!peer->told_request.done)
        return;
    bool under_way = has_group_under_way(t);
    bool broken = t->broken != SHOAL__NCCL_SUCCESS;
    peer->told = (shoal__nccl_report){
        .n_started = t->n_ended,
        .n_done = t->n_done,
        .since_us = broken      ? now - t->broken_us
                    : under_way ? now - t->hop[t->n_done % SHOAL__NCCL_HOPS].start_us
                                : 0,
        .awaits = under_way && misses(t, rank),
        .broken = (uint32_t)t->broken,
        .moves = under_way && moves(t),
        .question = question,
    };
    peer->told_us = now;
    peer->told_request = (shoal_request){.exact = true,
                                         .peer = rank,
                                         .tag = SHOAL_TAG_HOP_REPORT,
                                         .n_bytes = sizeof peer->told,
                                         .data = &peer->told};
    /* What cannot be sent is not missed: a loss shows itself to who waits for that rank. */
    if (t->inner->ops->start(t->inner, &peer->told_request) != SHOAL_OK)
        peer->told_request.done = true;
}

static shoal_status read_reports(shoal_nccl *t, int64_t now)
{
    for (;;) {
        SHOAL_TRY(t->inner->ops->test(t->inner, &t->heard_request));
        if (!t->heard_request.done)
            return SHOAL_OK;
        int32_t from = t->heard_request.peer;
        t->peer[from].heard = t->heard;
        t->peer[from].heard_us = now;
        bool question = t->heard.question != 0;
        SHOAL_TRY(listen(t));
        if (question)
            tell(t, from, now, false);
    }
}

static void ask(shoal_nccl *t, int64_t now)
{
    for (int32_t r = 0; r < t->base.n_rank; r++)
        if (r != t->base.rank && now >= t->peer[r].told_us + t->interval_us)
            tell(t, r, now, true);
}

/* ---- verdicts ---- */

static shoal_status blame(shoal_nccl *t, int32_t rank, const char *reason)
{
    t->base.loss = (shoal_loss){.known = true, .rank = rank};
    snprintf(t->base.loss.reason, sizeof t->base.loss.reason, "%s", reason);
    return SHOAL_PEER_LOST;
}

/* Of the oldest group. */
typedef struct findings {
    bool late;                  /* a peer has not started its part, or has not said so */
    int64_t since_us;           /* how long all have been in it */
    int32_t n_missing;          /* ranks whose messages have not come */
    int32_t n_missed_by;        /* ranks where this one's have not come */
    int32_t missing, missed_by; /* one of them */
} findings;

static findings look_at_group(const shoal_nccl *t, int64_t now)
{
    uint64_t hop = t->n_done;
    findings f = {.since_us = now - t->hop[hop % SHOAL__NCCL_HOPS].start_us};
    for (int32_t r = 0; r < t->base.n_rank; r++) {
        if (!is_in_oldest_group(t, r))
            continue;
        const shoal__nccl_peer *peer = &t->peer[r];
        const shoal__nccl_report *said = &peer->heard;
        f.late = f.late || peer->heard_us == 0 || said->n_started <= hop;
        if (said->n_done == hop && said->n_started > hop)
            f.since_us = min_us(f.since_us, said->since_us + now - peer->heard_us);
        if (misses(t, r)) {
            f.n_missing++;
            f.missing = r;
        }
        if (said->awaits && said->n_done == hop) {
            f.n_missed_by++;
            f.missed_by = r;
        }
    }
    return f;
}

static shoal_status look_at_stall(shoal_nccl *t, int64_t now)
{
    findings f = look_at_group(t, now);
    if (f.late || f.since_us < t->deadline_us)
        return SHOAL_OK;
    int32_t suspect = f.n_missing == 1 ? f.missing : f.n_missed_by == 1 ? f.missed_by : -1;
    char reason[256];
    bool other = suspect >= 0 && f.n_missing < 2 && f.n_missed_by < 2 &&
                 (moves(t) || t->peer[suspect].heard.moves == 0);
    if (other) {
        snprintf(reason, sizeof reason,
                 "it answers by MPI, but by NCCL nothing has moved between it and this rank (%d) "
                 "for %.1f s",
                 t->base.rank, (double)f.since_us / 1e6);
        return blame(t, suspect, reason);
    }
    snprintf(reason, sizeof reason,
             "by NCCL nothing has moved between this rank and others for %.1f s: messages of %d "
             "ranks have not come, and this rank's not to %d; see whether its GPU and the network "
             "that NCCL uses still work (NCCL_DEBUG=WARN says more)",
             (double)f.since_us / 1e6, f.n_missing, f.n_missed_by);
    return blame(t, t->base.rank, reason);
}

static shoal_status look_at_break(shoal_nccl *t, int64_t now)
{
    bool all_answered = true;
    bool first = true;
    int32_t silent = -1;
    for (int32_t r = 0; r < t->base.n_rank; r++) {
        const shoal__nccl_peer *peer = &t->peer[r];
        if (r == t->base.rank)
            continue;
        if (peer->heard_us <= t->broken_us) {
            all_answered = false;
            silent = r;
        } else if (peer->heard.broken != 0 &&
                   peer->heard.since_us + now - peer->heard_us > now - t->broken_us) {
            first = false;
        }
    }
    if (!all_answered && now >= t->broken_us + t->deadline_us) {
        char reason[384];
        snprintf(reason, sizeof reason, "it has not answered since NCCL broke on rank %d: %s",
                 t->base.rank, t->broken_text);
        return blame(t, silent, reason);
    }
    int64_t patience_us = first ? 2 * t->interval_us : 4 * t->interval_us;
    if (all_answered && now >= t->broken_us + patience_us)
        return blame(t, t->base.rank, t->broken_text);
    return SHOAL_OK;
}

shoal_status shoal__nccl_trouble_look(shoal_nccl *t, int64_t now_us)
{
    if (now_us < t->next_look_us)
        return SHOAL_OK;
    t->next_look_us = now_us + min_us(t->interval_us / 8, 50000);
    SHOAL_TRY(read_reports(t, now_us));
    if (t->broken != SHOAL__NCCL_SUCCESS) {
        ask(t, now_us);
        return look_at_break(t, now_us);
    }
    if (!has_group_under_way(t) ||
        now_us < t->hop[t->n_done % SHOAL__NCCL_HOPS].start_us + t->interval_us)
        return SHOAL_OK;
    ask(t, now_us);
    return look_at_stall(t, now_us);
}

shoal_status shoal__nccl_break(shoal_nccl *t, shoal__nccl_result result, const char *what)
{
    char text[256];
    t->broken = result;
    t->broken_us = shoal_clock_us();
    snprintf(t->broken_text, sizeof t->broken_text,
             "NCCL failed in %s: %s; NCCL_DEBUG=WARN says more", what,
             shoal__nccl_text(text, t, result));
    bool may_be_echo = result == SHOAL__NCCL_REMOTE_ERROR || result == SHOAL__NCCL_SYSTEM_ERROR;
    if (!may_be_echo)
        return blame(t, t->base.rank, t->broken_text);
    shoal_log_warn(t->log, "%s; looking for the rank that caused it", t->broken_text);
    return SHOAL_OK;
}
