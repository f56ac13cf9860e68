/* Messages larger than one part travel as a sequence of parts, each started when the one before is
 * done. Both sides walk the same sequence, so nothing but order is needed to fit them together:
 * while a message still has parts to start, later messages of the same pair, tag and direction wait
 * behind it in the list. */
#include "comm/comm_private.h"

void shoal__comm_set_part_bytes(shoal_comm *comm, size_t n_bytes)
{
    comm->part_bytes = n_bytes;
}

static bool has_parts_to_start(const shoal_request *r)
{
    return !r->part_open || r->moved_bytes + r->n_bytes < r->total_bytes;
}

/* Only what stands before `request` in the list; all of the list if it is not in it. */
static bool is_blocked(const shoal_comm *comm, const shoal_request *request)
{
    for (const shoal_request *r = comm->split; r && r != request; r = r->next) {
        bool same =
            r->peer == request->peer && r->tag == request->tag && r->is_recv == request->is_recv;
        if (same && has_parts_to_start(r))
            return true;
    }
    return false;
}

bool shoal__split_needed(const shoal_comm *comm, const shoal_request *request)
{
    if (request->tag == SHOAL_TAG_CONTROL || request->tag == SHOAL_TAG_DISPATCH)
        return false; /* whole */
    const shoal_transport *transport = comm->transport;
    if (transport->ops->whole != NULL && transport->ops->whole(transport, request))
        return false;
    return request->n_bytes > comm->part_bytes || (comm->split && is_blocked(comm, request));
}

/* Move one message on as far as it goes now. While it is in the list, data and n_bytes describe the
 * part that is open. */
static shoal_status advance(shoal_comm *comm, shoal_request *r)
{
    const shoal_transport_ops *ops = comm->transport->ops;
    for (;;) {
        if (!r->part_open) {
            if (is_blocked(comm, r))
                return SHOAL_OK;
            size_t rest = r->total_bytes - r->moved_bytes;
            r->n_bytes = rest < comm->part_bytes ? rest : comm->part_bytes;
            r->part_open = true;
            SHOAL_TRY(ops->start(comm->transport, r));
        }
        if (!r->done)
            SHOAL_TRY(ops->test(comm->transport, r));
        if (!r->done)
            return SHOAL_OK;
        if (r->is_recv)
            shoal__liveness_hear(comm, r->peer);
        r->part_open = false;
        r->moved_bytes += r->n_bytes;
        if (r->moved_bytes == r->total_bytes)
            break;
        r->done = false;
        r->data = (unsigned char *)r->data + r->n_bytes;
    }
    /* Give the caller its request back as it was. */
    r->data = (unsigned char *)r->data + r->n_bytes - r->moved_bytes;
    r->n_bytes = r->moved_bytes;
    r->split = false;
    return SHOAL_OK;
}

shoal_status shoal__split_advance(shoal_comm *comm)
{
    shoal_request **link = &comm->split;
    while (*link) {
        shoal_request *r = *link;
        shoal_status status = advance(comm, r);
        if (status != SHOAL_OK)
            return shoal__transport_failed(comm, r->peer, status);
        if (r->split) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        shoal__request_finished(comm, r);
    }
    return SHOAL_OK;
}

shoal_status shoal__split_add(shoal_comm *comm, shoal_request *request)
{
    request->split = true;
    request->part_open = false;
    request->total_bytes = request->n_bytes;
    request->moved_bytes = 0;
    request->n_bytes = 0;
    request->next = NULL;
    shoal_request **end = &comm->split;
    while (*end)
        end = &(*end)->next;
    *end = request;
    return shoal__split_advance(comm);
}
