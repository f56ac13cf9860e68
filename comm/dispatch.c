/* Rows travel out. The own message is made and read like all others, but never sent: that is what
 * rounds local rows to the wire format too (rule 2). */
#include "comm/message.h"

#include <assert.h>
#include <string.h>

static size_t first_part(const shoal_exchange *x, size_t n_bytes)
{
    return n_bytes < x->config.slot_bytes ? n_bytes : x->config.slot_bytes;
}

static shoal_status post_dispatch_receives(shoal_exchange *x, shoal_comm *comm)
{
    int32_t n_rank = x->config.n_rank, rank = x->config.rank;
    if (!x->plan.is_target[rank])
        return SHOAL_OK;
    for (int32_t s = 0; s < n_rank; s++) {
        if (s == rank || !x->plan.is_source[s])
            continue;
        SHOAL_TRY(shoal_comm_recv_upto(comm, &x->recv_request[s], s, SHOAL_TAG_DISPATCH,
                                       x->recv_buffer[s], first_part(x, x->recv_capacity[s])));
    }
    return SHOAL_OK;
}

/* Message for rank d into x->send_buffer[d] (its own rows may stay on the device), of which a
 * device may still be packing rows; returns its bytes. */
static size_t pack(shoal_exchange *x, int32_t d, shoal_rows h, int64_t step, int32_t layer)
{
    const shoal_plan *plan = &x->plan;
    int32_t row0 = plan->send_row_offset[d], n_row = plan->send_row_offset[d + 1] - row0;
    int32_t slot0 = plan->send_slot_offset[d], n_slot = plan->send_slot_offset[d + 1] - slot0;
    size_t n_bytes = shoal__dispatch_bytes(x->dispatch_row_bytes, (size_t)n_row, (size_t)n_slot);
    shoal__dispatch_parts parts =
        shoal__dispatch_parts_of(x->send_buffer[d], x->dispatch_row_bytes, (size_t)n_row);
    *parts.header = (shoal__dispatch_header){
        .magic = SHOAL__DISPATCH_MAGIC,
        .n_row = (uint32_t)n_row,
        .n_slot = (uint32_t)n_slot,
        .step_low = (uint32_t)(uint64_t)step,
        .layer = layer,
        .more_bytes = n_bytes - first_part(x, n_bytes),
    };
    const bool on_device = d == x->config.rank && x->own_rows != NULL;
    const shoal_pack rows = {.out = on_device ? x->own_rows : parts.row,
                             .encoding = x->config.wire.dispatch,
                             .x = h,
                             .index = plan->send_row_token + row0,
                             .n_row = n_row,
                             .n_col = x->config.n_embd,
                             .made = x->encoded};
    shoal_op_pack_rows(&x->compute, &rows);
    for (int32_t i = 0; i < n_row; i++)
        parts.n_slot_of_row[i] = (uint16_t)plan->send_row_n_slot[row0 + i];
    if (n_row % 2 != 0)
        parts.n_slot_of_row[n_row] = 0;
    for (int32_t i = 0; i < n_slot; i++)
        parts.slot[i] = (shoal__dispatch_slot){(uint32_t)plan->send_slot_local[slot0 + i],
                                               plan->send_slot_weight[slot0 + i]};
    return n_bytes;
}

/* The packed message for rank d, if it has not been sent. */
static shoal_status send_message(shoal_exchange *x, shoal_comm *comm, int32_t d)
{
    size_t n_bytes = x->packed_bytes[d], first = first_part(x, n_bytes);
    x->packed_bytes[d] = 0;
    if (n_bytes == 0)
        return SHOAL_OK;
    SHOAL_TRY(shoal_comm_send(comm, &x->send_request[d], d, SHOAL_TAG_DISPATCH, x->send_buffer[d],
                              first));
    if (n_bytes == first)
        return SHOAL_OK;
    return shoal_comm_send(comm, &x->send_request[x->config.n_rank + d], d, SHOAL_TAG_DISPATCH_MORE,
                           x->send_buffer[d] + first, n_bytes - first);
}

/* Each source begins with its neighbour, so that they do not all send to one rank first; the own
 * message comes last. A message leaves when its rows are packed: at once on a CPU. */
static shoal_status send_rows(shoal_exchange *x, shoal_comm *comm, shoal_rows h, int64_t step,
                              int32_t layer)
{
    const shoal_plan *plan = &x->plan;
    int32_t n_rank = x->config.n_rank, rank = x->config.rank;
    for (int32_t t = 0; t < plan->n_token; t++)
        x->encoded[t] = NULL;
    unsigned char *next = x->send_memory;
    for (int32_t i = 1; i <= n_rank; i++) {
        int32_t d = (rank + i) % n_rank;
        if (!plan->is_target[d])
            continue;
        x->send_buffer[d] = next;
        size_t n_bytes = pack(x, d, h, step, layer);
        next += (n_bytes + SHOAL__MESSAGE_ALIGN - 1) / SHOAL__MESSAGE_ALIGN * SHOAL__MESSAGE_ALIGN;
        x->packed_bytes[d] = d != rank ? n_bytes : 0;
        if (shoal_op_mark(&x->compute, i))
            SHOAL_TRY(send_message(x, comm, d));
    }
    for (int32_t i = 1; i < n_rank; i++) {
        int32_t d = (rank + i) % n_rank;
        if (!plan->is_target[d] || x->packed_bytes[d] == 0)
            continue;
        SHOAL_TRY(shoal_op_wait(&x->compute, i));
        SHOAL_TRY(send_message(x, comm, d));
    }
    return SHOAL_OK;
}

shoal_status shoal_dispatch_begin(shoal_exchange *x, shoal_comm *comm, shoal_rows h, int64_t step,
                                  int32_t layer)
{
    int32_t n_rank = x->config.n_rank;
    SHOAL_TRY(post_dispatch_receives(x, comm));
    SHOAL_TRY(shoal__combine_post(x, comm));
    /* Those of the layer before have been answered, but a bare header may still be on its way. */
    SHOAL_TRY(shoal_comm_wait(comm, x->send_request, 2 * n_rank, "rows to be taken"));
    if (x->plan.is_source[x->config.rank])
        SHOAL_TRY(send_rows(x, comm, h, step, layer));
    return shoal_comm_hop(comm, x->send_request, x->recv_request, n_rank);
}

static shoal_status fail_message(shoal_comm *comm, int32_t source, int64_t step, int32_t layer,
                                 const char *found)
{
    return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED,
                      "dispatch message from rank %d (%s) at step %lld, layer %d is malformed: %s; "
                      "all ranks must run the same build of shoal",
                      (int)source, shoal_comm_host(comm, source), (long long)step, (int)layer,
                      found);
}

/* Check the header of a message whose first n_bytes have come. */
static shoal_status check_header(const shoal_exchange *x, shoal_comm *comm, int32_t source,
                                 size_t n_bytes, int64_t step, int32_t layer)
{
    char found[160];
    shoal__dispatch_header header;
    if (n_bytes < sizeof header) {
        snprintf(found, sizeof found, "%zu bytes, the header alone has %zu", n_bytes,
                 sizeof header);
        return fail_message(comm, source, step, layer, found);
    }
    memcpy(&header, x->recv_buffer[source], sizeof header);
    if (header.magic != SHOAL__DISPATCH_MAGIC || header.pad != 0) {
        snprintf(found, sizeof found, "magic %08x, padding %u, wanted %08x and 0", header.magic,
                 header.pad, SHOAL__DISPATCH_MAGIC);
        return fail_message(comm, source, step, layer, found);
    }
    if (header.step_low != (uint32_t)(uint64_t)step || header.layer != layer) {
        snprintf(found, sizeof found, "it is of step %u (low 32 bits), layer %d", header.step_low,
                 (int)header.layer);
        return fail_message(comm, source, step, layer, found);
    }
    uint64_t row_slots_max = (uint64_t)shoal__row_slots_max(&x->config, x->config.rank);
    if (header.n_row > (uint32_t)x->config.n_token_max || header.n_slot < header.n_row ||
        header.n_slot > header.n_row * row_slots_max) {
        snprintf(found, sizeof found,
                 "%u rows with %u slots, wanted at most %d rows of 1 to %d slots", header.n_row,
                 header.n_slot, (int)x->config.n_token_max, (int)row_slots_max);
        return fail_message(comm, source, step, layer, found);
    }
    size_t whole = shoal__dispatch_bytes(x->dispatch_row_bytes, header.n_row, header.n_slot);
    size_t first = first_part(x, whole);
    if (n_bytes != first || header.more_bytes != whole - first) {
        snprintf(found, sizeof found,
                 "%zu bytes and %llu to follow, wanted %zu and %zu for %u rows, %u slots", n_bytes,
                 (unsigned long long)header.more_bytes, first, whole - first, header.n_row,
                 header.n_slot);
        return fail_message(comm, source, step, layer, found);
    }
    return SHOAL_OK;
}

/* All messages of other ranks are here, or their first parts, with good headers; the slots are not
 * checked. Second parts are awaited. */
static shoal_status receive_first(shoal_exchange *x, shoal_comm *comm, int64_t step, int32_t layer)
{
    int32_t n_rank = x->config.n_rank, rank = x->config.rank;
    SHOAL_TRY(shoal_comm_wait(comm, x->recv_request, n_rank, "dispatch rows"));
    for (int32_t s = 0; s < n_rank; s++)
        if (s != rank && x->plan.is_source[s])
            SHOAL_TRY(check_header(x, comm, s, x->recv_request[s].n_bytes, step, layer));
    for (int32_t s = 0; s < n_rank; s++) {
        if (s == rank || !x->plan.is_source[s])
            continue;
        uint64_t more_bytes = ((shoal__dispatch_header *)(void *)x->recv_buffer[s])->more_bytes;
        if (more_bytes == 0)
            continue;
        SHOAL_TRY(shoal_comm_recv(comm, &x->recv_request[n_rank + s], s, SHOAL_TAG_DISPATCH_MORE,
                                  x->recv_buffer[s] + x->config.slot_bytes, more_bytes));
    }
    return SHOAL_OK;
}

/* Second parts are a hop of their own, for all ranks, as none knows whether others have any. */
static shoal_status receive_all(shoal_exchange *x, shoal_comm *comm, int64_t step, int32_t layer)
{
    int32_t n_rank = x->config.n_rank;
    shoal_request *more = x->recv_request + n_rank;
    if (x->plan.is_target[x->config.rank])
        SHOAL_TRY(receive_first(x, comm, step, layer));
    SHOAL_TRY(shoal_comm_hop(comm, x->send_request + n_rank, more, n_rank));
    return shoal_comm_wait(comm, more, n_rank, "dispatch rows, second part");
}

/* The rows of one message into x->recv, from row0 on. */
static void unpack_rows(shoal_exchange *x, const unsigned char *rows, int32_t row0, int32_t n_row)
{
    const size_t at = (size_t)row0;
    shoal_unpack unpack = {.from = rows,
                           .encoding = x->config.wire.dispatch,
                           .n_row = n_row,
                           .n_col = x->config.n_embd};
    if (x->recv.row_int8 != NULL)
        unpack.int8 = x->recv.row_int8 + at * shoal__row_groups(&x->config);
    else
        unpack.f32 = x->recv.row + at * (size_t)x->config.n_embd;
    shoal_op_unpack_rows(&x->compute, &unpack);
}

/* Append one source's rows and slots to x->recv. */
static shoal_status unpack(shoal_exchange *x, shoal_comm *comm, int32_t source,
                           unsigned char *message, int64_t step, int32_t layer)
{
    shoal_recv *recv = &x->recv;
    shoal__dispatch_header header;
    memcpy(&header, message, sizeof header);
    shoal__dispatch_parts parts =
        shoal__dispatch_parts_of(message, x->dispatch_row_bytes, header.n_row);
    uint32_t n_local = (uint32_t)x->config.n_local_max[x->config.rank];
    uint32_t row_slots_max = (uint32_t)shoal__row_slots_max(&x->config, x->config.rank);
    const int32_t row0 = recv->n_row;
    uint32_t slot = 0;
    for (uint32_t i = 0; i < header.n_row; i++) {
        int32_t row = recv->n_row++;
        recv->row_slot[row] = recv->n_slot;
        uint32_t n_slot = parts.n_slot_of_row[i];
        if (n_slot == 0 || n_slot > row_slots_max || n_slot > header.n_slot - slot)
            return fail_message(comm, source, step, layer,
                                "the slots of its rows do not add up to the slots of its header");
        for (uint32_t end = slot + n_slot; slot < end; slot++) {
            if (parts.slot[slot].local_expert >= n_local)
                return fail_message(comm, source, step, layer,
                                    "it is for an expert that this rank does not have");
            recv->slot_row[recv->n_slot] = row;
            recv->slot_expert[recv->n_slot] = (int32_t)parts.slot[slot].local_expert;
            recv->slot_weight[recv->n_slot] = parts.slot[slot].weight;
            recv->n_slot++;
        }
    }
    if (slot != header.n_slot)
        return fail_message(comm, source, step, layer,
                            "the slots of its rows do not add up to the slots of its header");
    const bool on_device = source == x->config.rank && x->own_rows != NULL;
    unpack_rows(x, on_device ? x->own_rows : parts.row, row0, (int32_t)header.n_row);
    return SHOAL_OK;
}

shoal_status shoal_dispatch_end(shoal_exchange *x, shoal_comm *comm, int64_t step, int32_t layer)
{
    shoal_recv *recv = &x->recv;
    int32_t n_rank = x->config.n_rank, rank = x->config.rank;
    bool is_target = x->plan.is_target[rank];
    recv->n_row = 0;
    recv->n_slot = 0;
    SHOAL_TRY(receive_all(x, comm, step, layer));
    for (int32_t s = 0; s < n_rank; s++) {
        recv->row_offset[s] = recv->n_row;
        recv->slot_offset[s] = recv->n_slot;
        if (!is_target || !x->plan.is_source[s])
            continue;
        unsigned char *message = s == rank ? x->send_buffer[s] : x->recv_buffer[s];
        SHOAL_TRY(unpack(x, comm, s, message, step, layer));
    }
    recv->row_offset[n_rank] = recv->n_row;
    recv->slot_offset[n_rank] = recv->n_slot;
    recv->row_slot[recv->n_row] = recv->n_slot;
    return SHOAL_OK;
}
