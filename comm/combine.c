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

/* Results for one source. */
typedef struct encode_job {
    const shoal_exchange *x;
    unsigned char *out;
    int32_t first; /* slot (exact) or row (reduced) */
    const float *done;
} encode_job;

static void encode_slot(void *arg, int32_t i, int32_t worker)
{
    (void)worker;
    const encode_job *job = arg;
    const shoal_exchange *x = job->x;
    int64_t at = x->recv.slot_done[job->first + i];
    shoal_wire_encode(job->out + (size_t)i * x->combine_row_bytes, x->config.wire.combine,
                      x->compute.kernels, job->done + at * x->config.n_embd, x->config.n_embd);
}

static void encode_row_sum(void *arg, int32_t i, int32_t worker)
{
    const encode_job *job = arg;
    const shoal_exchange *x = job->x;
    const shoal_recv *recv = &x->recv;
    const shoal_kernels *kernels = x->compute.kernels;
    const int64_t n_embd = x->config.n_embd;
    float *sum = x->combine_row + worker * n_embd;
    int32_t row = job->first + i;
    memset(sum, 0, (size_t)n_embd * sizeof *sum);
    for (int32_t slot = recv->row_slot[row]; slot < recv->row_slot[row + 1]; slot++)
        kernels->axpy(sum, recv->slot_weight[slot], job->done + recv->slot_done[slot] * n_embd,
                      n_embd);
    shoal_wire_encode(job->out + (size_t)i * x->combine_row_bytes, x->config.wire.combine, kernels,
                      sum, x->config.n_embd);
}

/* Results for the rows of `source` into out; returns their bytes. */
static size_t encode_results(unsigned char *out, const shoal_exchange *x, int32_t source,
                             const float *done)
{
    bool exact = x->plan.kind == SHOAL_COMBINE_EXACT;
    const int32_t *offset = exact ? x->recv.slot_offset : x->recv.row_offset;
    encode_job job = {x, out, offset[source], done};
    int32_t n = offset[source + 1] - offset[source];
    shoal__exchange_rows(x, exact ? encode_slot : encode_row_sum, &job, n);
    return (size_t)n * x->combine_row_bytes;
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
        out += n_bytes;
    }
    return SHOAL_OK;
}

typedef struct sum_job {
    const shoal_exchange *x;
    float *acc;
} sum_job;

/* From the receive buffer as it lies. */
static void sum_token(void *arg, int32_t t, int32_t worker)
{
    (void)worker;
    const sum_job *job = arg;
    const shoal_exchange *x = job->x;
    const shoal_plan *plan = &x->plan;
    const int32_t n_embd = x->config.n_embd, n_rank = x->config.n_rank;
    bool exact = plan->kind == SHOAL_COMBINE_EXACT;
    int64_t n = exact ? plan->top_k : n_rank;
    const int32_t *home = (exact ? plan->slot_of : plan->row_of) + t * n;
    const float *weight = plan->topk_weight + (int64_t)t * plan->top_k;
    float *acc = job->acc + (int64_t)t * n_embd;
    memset(acc, 0, (size_t)n_embd * sizeof *acc);
    for (int64_t i = 0; i < n; i++)
        if (home[i] >= 0)
            shoal_wire_axpy(acc, x->config.wire.combine, x->compute.kernels,
                            exact ? weight[i] : 1.0F,
                            x->combine_in + (size_t)home[i] * x->combine_row_bytes, n_embd);
}

shoal_status shoal_combine_begin(shoal_exchange *x, shoal_comm *comm, const float *done)
{
    int32_t n_rank = x->config.n_rank, rank = x->config.rank, first;
    /* Those of the layer before may still be on their way. */
    SHOAL_TRY(shoal_comm_wait(comm, x->send_request + 2 * n_rank, n_rank, "results to be taken"));
    SHOAL_TRY(send_results(x, comm, done));
    rows_home(&x->plan, rank, &first);
    encode_results(x->combine_in + (size_t)first * x->combine_row_bytes, x, rank, done);
    return SHOAL_OK;
}

shoal_status shoal_combine_end(float *acc, shoal_exchange *x, shoal_comm *comm)
{
    int32_t n_rank = x->config.n_rank;
    SHOAL_TRY(shoal_comm_wait(comm, x->recv_request + 2 * n_rank, n_rank, "combine rows"));
    sum_job job = {x, acc};
    shoal__exchange_rows(x, sum_token, &job, x->plan.n_token);
    return SHOAL_OK;
}
