/* Notes, groups and their ends: what moves the messages of the exchange (nccl.h). */
#include "comm/nccl/nccl_private.h"

#include "runtime/base/clock.h"

#include <string.h>

bool shoal__nccl_takes(const shoal_nccl *t, const shoal_request *r)
{
    if (r->tag == SHOAL_TAG_DISPATCH)
        return true;
    return (r->tag == SHOAL_TAG_DISPATCH_MORE || r->tag == SHOAL_TAG_COMBINE) &&
           r->n_bytes > t->over_bytes;
}

/* A PEER_LOST of the transport inside is about this message's peer, whoever is waited for. */
static shoal_status inner_failed(shoal_nccl *t, int32_t peer, shoal_status status)
{
    if (status == SHOAL_PEER_LOST) {
        t->base.loss = (shoal_loss){.known = true, .rank = peer};
        snprintf(t->base.loss.reason, sizeof t->base.loss.reason, "the connection to it broke");
    }
    return status;
}

static shoal_status inner_start(shoal_nccl *t, shoal_request *r, shoal_request wanted)
{
    *r = wanted;
    shoal_status status = t->inner->ops->start(t->inner, r);
    return status == SHOAL_OK ? SHOAL_OK : inner_failed(t, wanted.peer, status);
}

static shoal_status inner_test(shoal_nccl *t, shoal_request *r)
{
    if (r->done)
        return SHOAL_OK;
    int32_t peer = r->peer;
    shoal_status status = t->inner->ops->test(t->inner, r);
    return status == SHOAL_OK ? SHOAL_OK : inner_failed(t, peer, status);
}

static shoal_status start_note(shoal_nccl *t, shoal__nccl_message *m)
{
    return inner_start(t, &m->note_request,
                       (shoal_request){.is_recv = m->is_recv,
                                       .exact = true,
                                       .peer = m->peer,
                                       .tag = SHOAL_TAG_HOP_NOTE,
                                       .n_bytes = sizeof m->note,
                                       .data = &m->note});
}

static shoal_status start_payload(shoal_nccl *t, shoal__nccl_message *m)
{
    m->state = SHOAL__NCCL_PAYLOAD;
    return inner_start(t, &m->payload_request,
                       (shoal_request){.is_recv = m->is_recv,
                                       .exact = true,
                                       .peer = m->peer,
                                       .tag = m->tag,
                                       .n_bytes = m->n_bytes,
                                       .data = m->data});
}

/* A dispatch message: the note tells its way. */
static shoal_status send_noted(shoal_nccl *t, shoal__nccl_message *m)
{
    m->note = (shoal__nccl_note){.n_bytes = m->n_bytes, .hop = t->n_closed};
    if (m->n_bytes <= SHOAL__NCCL_NOTE_MAX) {
        m->note.path = SHOAL__NCCL_IN_NOTE;
        memcpy(m->note.data, m->data, m->n_bytes);
        m->state = SHOAL__NCCL_NOTED;
        return start_note(t, m);
    }
    m->note.path = m->n_bytes <= t->over_bytes ? SHOAL__NCCL_BY_MPI : SHOAL__NCCL_BY_GROUP;
    SHOAL_TRY(start_note(t, m));
    if (m->note.path == SHOAL__NCCL_BY_MPI)
        return start_payload(t, m);
    m->state = t->mute ? SHOAL__NCCL_DONE : SHOAL__NCCL_READY;
    return SHOAL_OK;
}

shoal_status shoal__nccl_message_start(shoal_nccl *t, shoal_request *r)
{
    shoal__nccl_message *m = t->free;
    if (m == NULL)
        return shoal_fail(t->log, SHOAL_FAILED,
                          "more than %d messages of the exchange are open at once: this is a bug "
                          "of shoal, please report it; --transport mpi goes around it",
                          t->n_message);
    t->free = m->next;
    *m = (shoal__nccl_message){.state = SHOAL__NCCL_READY,
                               .is_recv = r->is_recv,
                               .peer = r->peer,
                               .tag = r->tag,
                               .data = r->data,
                               .capacity = r->n_bytes,
                               .n_bytes = r->n_bytes,
                               .note_request = SHOAL_REQUEST_NONE,
                               .payload_request = SHOAL_REQUEST_NONE};
    *t->live_end = m;
    t->live_end = &m->next;
    r->outer = m;
    if (r->tag != SHOAL_TAG_DISPATCH) {
        if (t->mute && !m->is_recv)
            m->state = SHOAL__NCCL_DONE;
        return SHOAL_OK;
    }
    m->noted = true;
    if (!m->is_recv)
        return send_noted(t, m);
    m->state = SHOAL__NCCL_NOTED;
    return start_note(t, m);
}

void shoal__nccl_message_release(shoal_nccl *t, shoal__nccl_message *m)
{
    shoal__nccl_message **link = &t->live;
    while (*link != m)
        link = &(*link)->next;
    *link = m->next;
    if (t->live_end == &m->next)
        t->live_end = link;
    m->state = SHOAL__NCCL_FREE;
    m->next = t->free;
    t->free = m;
}

/* The note of a message that this rank receives is here. */
static shoal_status read_note(shoal_nccl *t, shoal__nccl_message *m)
{
    const shoal__nccl_note *note = &m->note;
    bool good = note->n_bytes <= m->capacity && note->path >= SHOAL__NCCL_IN_NOTE &&
                note->path <= SHOAL__NCCL_BY_GROUP &&
                (note->path != SHOAL__NCCL_IN_NOTE || note->n_bytes <= SHOAL__NCCL_NOTE_MAX) &&
                (!m->in_hop || note->hop == m->hop);
    if (!good)
        return shoal_fail(t->log, SHOAL_FAILED,
                          "a note from rank %d announces %llu bytes in hop %llu (way %u), wanted "
                          "are at most %zu in hop %llu: the two ranks disagree about what is "
                          "exchanged; use the same build of shoal",
                          m->peer, (unsigned long long)note->n_bytes, (unsigned long long)note->hop,
                          note->path, m->capacity, (unsigned long long)m->hop);
    m->n_bytes = note->n_bytes;
    if (note->path == SHOAL__NCCL_BY_MPI)
        return start_payload(t, m);
    m->state = SHOAL__NCCL_READY;
    if (note->path == SHOAL__NCCL_IN_NOTE) {
        memcpy(m->data, note->data, m->n_bytes);
        m->state = SHOAL__NCCL_DONE;
    }
    return SHOAL_OK;
}

/* Notes of one peer are read in their order, so that what follows by MPI is too. */
static bool is_behind_another(const shoal_nccl *t, const shoal__nccl_message *m)
{
    for (const shoal__nccl_message *o = t->live; o != m; o = o->next)
        if (o->is_recv && o->state == SHOAL__NCCL_NOTED && o->peer == m->peer)
            return true;
    return false;
}

/* What the transport inside does for the messages. */
static shoal_status move_notes(shoal_nccl *t)
{
    for (shoal__nccl_message *m = t->live; m != NULL; m = m->next) {
        if (m->state == SHOAL__NCCL_NOTED && m->is_recv) {
            if (is_behind_another(t, m))
                continue;
            SHOAL_TRY(inner_test(t, &m->note_request));
            if (m->note_request.done)
                SHOAL_TRY(read_note(t, m));
        }
        const bool is_noting = m->state == SHOAL__NCCL_NOTED && !m->is_recv;
        if (is_noting || m->state == SHOAL__NCCL_PAYLOAD) {
            SHOAL_TRY(inner_test(t, &m->note_request));
            SHOAL_TRY(inner_test(t, &m->payload_request));
            if (m->note_request.done && m->payload_request.done)
                m->state = SHOAL__NCCL_DONE;
        }
    }
    return SHOAL_OK;
}

shoal_status shoal__nccl_hop_close(shoal_nccl *t, shoal_request *const list[2], int32_t n)
{
    if (t->n_closed - t->n_done == SHOAL__NCCL_HOPS)
        return shoal_fail(t->log, SHOAL_FAILED,
                          "more than %d hops of the exchange are open at once: this is a bug of "
                          "shoal, please report it; --transport mpi goes around it",
                          SHOAL__NCCL_HOPS);
    for (int32_t side = 0; side < 2; side++) {
        for (int32_t i = 0; i < n; i++) {
            shoal__nccl_message *m = list[side][i].done ? NULL : list[side][i].outer;
            if (m == NULL)
                continue;
            m->in_hop = true;
            m->hop = t->n_closed;
        }
    }
    t->hop[t->n_closed % SHOAL__NCCL_HOPS] = (shoal__nccl_hop){.empty = true};
    t->n_closed++;
    return shoal__nccl_progress(t);
}

bool shoal__nccl_is_in_group(const shoal__nccl_message *m, uint64_t hop)
{
    return m->in_hop && m->hop == hop && m->state == SHOAL__NCCL_READY;
}

/* Whether all notes of the hop are here. */
static bool is_known(const shoal_nccl *t, uint64_t hop)
{
    for (const shoal__nccl_message *m = t->live; m != NULL; m = m->next)
        if (m->in_hop && m->hop == hop && m->is_recv && m->state == SHOAL__NCCL_NOTED)
            return false;
    return true;
}

/* One message's calls within a group; parts of one message keep their order. */
static shoal__nccl_result add_to_group(shoal_nccl *t, shoal__nccl_message *m)
{
    unsigned char *at = m->data;
    for (size_t left = m->n_bytes; left > 0;) {
        size_t n = left < SHOAL_MESSAGE_MAX_BYTES ? left : SHOAL_MESSAGE_MAX_BYTES;
        shoal__nccl_result result =
            m->is_recv ? t->api.recv(at, n, SHOAL__NCCL_INT8, m->peer, t->comm, t->stream)
                       : t->api.send(at, n, SHOAL__NCCL_INT8, m->peer, t->comm, t->stream);
        if (result != SHOAL__NCCL_SUCCESS && result != SHOAL__NCCL_IN_PROGRESS)
            return result;
        at += n;
        left -= n;
    }
    return SHOAL__NCCL_SUCCESS;
}

/* The group of a hop, closed whatever happens in it. *empty: there is none. */
static shoal__nccl_result start_group(bool *empty, shoal_nccl *t, uint64_t hop)
{
    *empty = true;
    for (shoal__nccl_message *m = t->live; m != NULL; m = m->next)
        if (shoal__nccl_is_in_group(m, hop))
            *empty = false;
    if (*empty)
        return SHOAL__NCCL_SUCCESS;
    shoal__nccl_result result = t->api.group_start();
    if (result != SHOAL__NCCL_SUCCESS)
        return result;
    for (shoal__nccl_message *m = t->live; m != NULL; m = m->next) {
        if (!shoal__nccl_is_in_group(m, hop))
            continue;
        if (m->is_recv)
            shoal__nccl_mark(m);
        result = add_to_group(t, m);
        if (result != SHOAL__NCCL_SUCCESS)
            break;
    }
    shoal__nccl_result ended = t->api.group_end();
    return result != SHOAL__NCCL_SUCCESS ? result : ended;
}

/* Start the groups of hops that are known, as long as NCCL takes them at once. */
static shoal_status start_groups(shoal_nccl *t)
{
    while (t->n_ended < t->n_closed && t->n_ended == t->n_placed && is_known(t, t->n_ended)) {
        shoal__nccl_hop *hop = &t->hop[t->n_ended % SHOAL__NCCL_HOPS];
        shoal__nccl_result result = start_group(&hop->empty, t, t->n_ended);
        if (result != SHOAL__NCCL_SUCCESS && result != SHOAL__NCCL_IN_PROGRESS)
            return shoal__nccl_break(t, result, "a group of messages");
        hop->start_us = shoal_clock_us();
        t->n_ended++;
        if (hop->empty)
            t->n_placed++;
    }
    return SHOAL_OK;
}

/* A group that is ended is on the stream when the communicator is no longer in progress. */
static shoal_status place_group(shoal_nccl *t)
{
    if (t->n_ended == t->n_done)
        return SHOAL_OK;
    const shoal__nccl_result result = shoal__nccl_look(t);
    if (result == SHOAL__NCCL_IN_PROGRESS)
        return SHOAL_OK;
    if (result != SHOAL__NCCL_SUCCESS)
        return shoal__nccl_break(t, result, "messages under way");
    if (t->n_placed == t->n_ended)
        return SHOAL_OK;
    SHOAL_TRY(t->device->ops->side_mark(t->device, (int32_t)(t->n_placed % SHOAL__NCCL_HOPS)));
    t->n_placed++;
    return SHOAL_OK;
}

/* A note that was sent has left long before its group is done, but MPI must say so before its
 * memory is used again. */
static void finish(shoal_nccl *t, uint64_t hop)
{
    for (shoal__nccl_message *m = t->live; m != NULL; m = m->next)
        if (shoal__nccl_is_in_group(m, hop))
            m->state = m->note_request.done ? SHOAL__NCCL_DONE : SHOAL__NCCL_PAYLOAD;
}

/* Hops are done in their order. */
static shoal_status finish_groups(shoal_nccl *t)
{
    while (t->n_done < t->n_placed) {
        const shoal__nccl_hop *hop = &t->hop[t->n_done % SHOAL__NCCL_HOPS];
        bool reached = hop->empty;
        if (!reached)
            SHOAL_TRY(t->device->ops->side_reached(&reached, t->device,
                                                   (int32_t)(t->n_done % SHOAL__NCCL_HOPS)));
        if (!reached)
            return SHOAL_OK;
        finish(t, t->n_done);
        t->n_done++;
    }
    return SHOAL_OK;
}

static shoal_status progress(shoal_nccl *t)
{
    SHOAL_TRY(move_notes(t));
    if (t->broken == SHOAL__NCCL_SUCCESS && !t->mute) {
        SHOAL_TRY(place_group(t));
        SHOAL_TRY(start_groups(t));
        SHOAL_TRY(finish_groups(t));
    }
    return shoal__nccl_trouble_look(t, shoal_clock_us());
}

shoal_status shoal__nccl_progress(shoal_nccl *t)
{
    if (t->stopped)
        return SHOAL_OK;
    shoal_status status = progress(t);
    t->stopped = status != SHOAL_OK;
    return status;
}
