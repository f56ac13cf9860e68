/* Results go home along the same plan. Receives are posted at their exact sizes and places when
 * the plan is known; results of own tokens are rounded like all others, but stay where they are. */
#include "comm/message.h"

#include <string.h>

/* Encoded rows that come home from rank d: [*first, *first + returned count). */
static int32_t rows_home(const shoal_plan *plan, int32_t d, int32_t *first)
{
    const int32_t *offset =
        plan->kind == SHOAL_COMBINE_REDUCED ? plan->send_row_offset : plan->send_slot_offset;
    *first = offset[d];
    return offset[d + 1] - offset[d];
}

shoal_status shoal__combine_post(shoal_exchange *x, shoal_comm *comm)
{
    int32_t n_rank = x->config.n_rank;
    for (int32_t d = 0; d < n_rank; d++) {
        int32_t first, n = rows_home(&x->plan, d, &first);
        if (d == x->config.rank || n == 0)
            continue;
        SHOAL_TRY(shoal_comm_recv(comm, &x->recv_request[2 * n_rank + d], d, SHOAL_TAG_COMBINE,
                                  x->combine_in + (size_t)first * x->combine_row_bytes,
                                  (size_t)n * x->combine_row_bytes));
    }
    return SHOAL_OK;
}

/* Results for the rows of `source` into out. */
static void encode_results(unsigned char *out, const shoal_exchange *x, int32_t source,
                           const float *done)
{
    const shoal_recv *recv = &x->recv;
    const bool exact = x->plan.kind == SHOAL_COMBINE_EXACT;
    const int32_t *offset = exact ? recv->slot_offset : recv->row_offset;
    const int32_t first = offset[source], n = offset[source + 1] - first;
    if (exact) {
        const shoal_pack slots = {.out = out,
                                  .encoding = x->config.wire.combine,
                                  .x = {.f32 = done},
                                  .index = recv->slot_done + first,
                                  .n_row = n,
                                  .n_col = x->config.n_embd};
        shoal_op_pack_rows(&x->compute, &slots);
    } else {
        const shoal_pack_sums rows = {.out = out,
                                      .encoding = x->config.wire.combine,
                                      .done = done,
                                      .row_slot = recv->row_slot + first,
                                      .slot_done = recv->slot_done,
                                      .slot_weight = recv->slot_weight,
                                      .n_row = n,
                                      .n_col = x->config.n_embd,
                                      .room = x->combine_row};
        shoal_op_pack_sums(&x->compute, &rows);
    }
}

/* The packed results for rank s, which lie in the order of recv, if they have not been sent. */
static shoal_status send_to(shoal_exchange *x, shoal_comm *comm, int32_t s)
{
    const bool exact = x->plan.kind == SHOAL_COMBINE_EXACT;
    const int32_t first = (exact ? x->recv.slot_offset : x->recv.row_offset)[s];
    const size_t n_bytes = x->packed_bytes[s];
    x->packed_bytes[s] = 0;
    if (n_bytes == 0)
        return SHOAL_OK;
    return shoal_comm_send(comm, &x->send_request[2 * x->config.n_rank + s], s, SHOAL_TAG_COMBINE,
                           x->combine_out + (size_t)first * x->combine_row_bytes, n_bytes);
}

/* All results, neighbour by neighbour, the own ones last; each part leaves when it is packed: at
 * once on a CPU. */
static shoal_status send_results(shoal_exchange *x, shoal_comm *comm, const float *done)
{
    const int32_t n_rank = x->config.n_rank, rank = x->config.rank;
    const bool exact = x->plan.kind == SHOAL_COMBINE_EXACT;
    const int32_t *offset = exact ? x->recv.slot_offset : x->recv.row_offset;
    int32_t own;
    for (int32_t i = 1; i < n_rank; i++) {
        int32_t s = (rank + i) % n_rank;
        x->packed_bytes[s] = (size_t)(offset[s + 1] - offset[s]) * x->combine_row_bytes;
        if (x->packed_bytes[s] == 0)
            continue;
        encode_results(x->combine_out + (size_t)offset[s] * x->combine_row_bytes, x, s, done);
        if (shoal_op_mark(&x->compute, i))
            SHOAL_TRY(send_to(x, comm, s));
    }
    (void)rows_home(&x->plan, rank, &own);
    encode_results(x->own_results != NULL ? x->own_results
                                          : x->combine_in + (size_t)own * x->combine_row_bytes,
                   x, rank, done);
    for (int32_t i = 1; i < n_rank; i++) {
        int32_t s = (rank + i) % n_rank;
        if (x->packed_bytes[s] == 0)
            continue;
        SHOAL_TRY(shoal_op_wait(&x->compute, i));
        SHOAL_TRY(send_to(x, comm, s));
    }
    return SHOAL_OK;
}

shoal_status shoal_combine_begin(shoal_exchange *x, shoal_comm *comm, const float *done)
{
    int32_t n_rank = x->config.n_rank;
    /* Those of the layer before may still be on their way. */
    SHOAL_TRY(shoal_comm_wait(comm, x->send_request + 2 * n_rank, n_rank, "results to be taken"));
    SHOAL_TRY(send_results(x, comm, done));
    return shoal_comm_hop(comm, x->send_request + 2 * n_rank, x->recv_request + 2 * n_rank, n_rank);
}

/* The sums are made from the receive buffer as it lies. */
shoal_status shoal_combine_end(float *acc, shoal_exchange *x, shoal_comm *comm)
{
    const int32_t n_rank = x->config.n_rank;
    const shoal_plan *plan = &x->plan;
    const bool exact = plan->kind == SHOAL_COMBINE_EXACT;
    SHOAL_TRY(shoal_comm_wait(comm, x->recv_request + 2 * n_rank, n_rank, "combine rows"));
    shoal_sum sum = {.acc = acc,
                     .from = x->combine_in,
                     .encoding = x->config.wire.combine,
                     .home = exact ? plan->slot_of : plan->row_of,
                     .weight = exact ? plan->topk_weight : NULL,
                     .k = exact ? plan->top_k : n_rank,
                     .n_row = plan->n_token,
                     .n_col = x->config.n_embd};
    if (x->own_results != NULL) {
        sum.own = x->own_results;
        sum.n_own = rows_home(plan, x->config.rank, &sum.own_first);
    }
    shoal_op_sum_rows(&x->compute, &sum);
    return SHOAL_OK;
}
