/* Results go home along the same plan. Receives are posted at their exact sizes and places before
 * anything is sent; results of own tokens are rounded like all others, but stay where they are. */
#include "comm/plan.h"

#include <string.h>

/* Encoded rows that come home from rank d: [*first, *first + returned count). */
static int32_t rows_home(const shoal_plan *plan, int32_t d, int32_t *first)
{
    const int32_t *offset =
        plan->kind == SHOAL_COMBINE_REDUCED ? plan->send_row_offset : plan->send_slot_offset;
    *first = offset[d];
    return offset[d + 1] - offset[d];
}

static shoal_status post_receives(shoal_exchange *x, shoal_comm *comm)
{
    for (int32_t d = 0; d < x->config.n_rank; d++) {
        int32_t first, n = rows_home(&x->plan, d, &first);
        if (d == x->config.rank || n == 0)
            continue;
        SHOAL_TRY(shoal_comm_recv(comm, &x->recv_request[d], d, SHOAL_TAG_COMBINE,
                                  x->combine_in + (size_t)first * x->combine_row_bytes,
                                  (size_t)n * x->combine_row_bytes));
    }
    return SHOAL_OK;
}

/* Results for the rows of `source` into out; returns their bytes. */
static size_t encode_results(unsigned char *out, shoal_exchange *x, int32_t source,
                             const float *done)
{
    const shoal_recv *recv = &x->recv;
    const int64_t n_embd = x->config.n_embd;
    unsigned char *begin = out;
    if (x->plan.kind == SHOAL_COMBINE_EXACT) {
        for (int32_t i = recv->slot_offset[source]; i < recv->slot_offset[source + 1]; i++) {
            shoal_wire_encode(out, x->config.wire.combine, x->kernels, done + i * n_embd,
                              x->config.n_embd);
            out += x->combine_row_bytes;
        }
        return (size_t)(out - begin);
    }
    for (int32_t row = recv->row_offset[source]; row < recv->row_offset[source + 1]; row++) {
        memset(x->combine_row, 0, (size_t)n_embd * sizeof(float));
        for (int32_t i = recv->row_slot[row]; i < recv->row_slot[row + 1]; i++)
            x->kernels->axpy(x->combine_row, recv->slot_weight[i], done + i * n_embd, n_embd);
        shoal_wire_encode(out, x->config.wire.combine, x->kernels, x->combine_row,
                          x->config.n_embd);
        out += x->combine_row_bytes;
    }
    return (size_t)(out - begin);
}

static shoal_status send_results(shoal_exchange *x, shoal_comm *comm, const float *done)
{
    int32_t n_rank = x->config.n_rank, rank = x->config.rank;
    unsigned char *out = x->combine_out;
    for (int32_t i = 1; i < n_rank; i++) {
        int32_t s = (rank + i) % n_rank;
        if (x->recv.row_offset[s + 1] == x->recv.row_offset[s])
            continue;
        size_t n_bytes = encode_results(out, x, s, done);
        SHOAL_TRY(shoal_comm_send(comm, &x->send_request[2 * n_rank + s], s, SHOAL_TAG_COMBINE, out,
                                  n_bytes));
        SHOAL_TRY(shoal_comm_poll(comm)); /* encoding the next may take a while */
        out += n_bytes;
    }
    int32_t first;
    rows_home(&x->plan, rank, &first);
    encode_results(x->combine_in + (size_t)first * x->combine_row_bytes, x, rank, done);
    return SHOAL_OK;
}

static void accumulate(float *acc, shoal_exchange *x, int32_t t)
{
    const shoal_plan *plan = &x->plan;
    const int32_t n_embd = x->config.n_embd;
    memset(acc, 0, (size_t)n_embd * sizeof *acc);
    if (plan->kind == SHOAL_COMBINE_EXACT) {
        for (int32_t j = 0; j < plan->top_k; j++) {
            int64_t i = (int64_t)t * plan->top_k + j;
            shoal_wire_decode(x->combine_row, x->config.wire.combine, x->kernels,
                              x->combine_in + (size_t)plan->slot_of[i] * x->combine_row_bytes,
                              n_embd);
            x->kernels->axpy(acc, plan->topk_weight[i], x->combine_row, n_embd);
        }
        return;
    }
    for (int32_t d = 0; d < x->config.n_rank; d++) {
        int32_t row = plan->row_of[(int64_t)t * x->config.n_rank + d];
        if (row < 0)
            continue;
        shoal_wire_decode(x->combine_row, x->config.wire.combine, x->kernels,
                          x->combine_in + (size_t)row * x->combine_row_bytes, n_embd);
        x->kernels->add(acc, x->combine_row, n_embd);
    }
}

shoal_status shoal_combine(float *acc, shoal_exchange *x, shoal_comm *comm, const float *done)
{
    int32_t n_rank = x->config.n_rank;
    SHOAL_TRY(post_receives(x, comm));
    SHOAL_TRY(send_results(x, comm, done));
    SHOAL_TRY(shoal_comm_wait(comm, x->recv_request, n_rank, "combine rows"));
    for (int32_t t = 0; t < x->plan.n_token; t++)
        accumulate(acc + (int64_t)t * x->config.n_embd, x, t);
    /* Dispatch messages too: only now may their memory be used again. */
    return shoal_comm_wait(comm, x->send_request, 3 * n_rank, "rows to be taken");
}
