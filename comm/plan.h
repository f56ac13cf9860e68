/* The plan of one layer step: who sends which rows where. Built once from the router's choice;
 * dispatch and combine only read it. It is the hinge of the exchange.
 *
 * A source sends a token once to each rank that owns at least one of its experts (a *row*),
 * followed by the row's *slots* (local expert, weight). Rows for own experts never pass through the
 * transport, but are rounded like all others. Counts travel with the rows: there is no count
 * exchange, so every source sends one message (a bare header if no row goes there) to every rank
 * that owns experts of the layer; combine only comes back from where rows went.
 *
 * Dispatch message, little-endian:
 *
 *     header  32 bytes: { u32 magic, u32 n_row, u32 n_slot, u32 step_low, i32 layer, u32 pad = 0,
 *             u64 more_bytes }
 *     rows    n_row * dispatch_row_bytes
 *     counts  u16 [n_row] slots of each row, then padding to 4 bytes
 *     slots   { u32 local_expert, f32 weight } [n_slot], row by row, top-k order
 *
 * If it exceeds slot_bytes (default 256 KiB), the first message is its first slot_bytes bytes, and
 * more_bytes follow in a second one. So one layer step sends from a source to a target, in bytes,
 *
 *     32 + n_row * dispatch_row_bytes + ceil4(2 * n_row) + 8 * n_slot
 *
 * Combine message, from each target that got rows: exact: y per slot, in slot order, n_slot *
 * combine_row_bytes; reduced: the weighted f32 sum per row, in row order, n_row *
 * combine_row_bytes. Encoded rows only, no header. Layering: comm; speaks in plain arrays. */
#ifndef SHOAL_COMM_PLAN_H
#define SHOAL_COMM_PLAN_H

#include "comm/comm.h"
#include "comm/wire.h"
#include "runtime/base/arena.h"
#include "runtime/kernels/ops.h"

#define SHOAL_DISPATCH_SLOT_BYTES (256u << 10)

/* Limits and formats of every exchange of a session; equal on all ranks. */
typedef struct shoal_exchange_config {
    int32_t n_rank;
    int32_t rank;
    int32_t n_embd;
    int32_t top_k;
    int32_t n_token_max; /* tokens of one source in one step */
    /* [n_rank] most experts of one layer on each rank; 0: no experts there */
    const int32_t *n_local_max;
    const bool *may_source; /* [n_rank] ranks that may hold tokens */
    size_t slot_bytes;      /* of a dispatch message: 64 .. SHOAL_MESSAGE_MAX_BYTES */
    int32_t n_thread;       /* of this rank's pool; 0: as compute says */
    shoal_wire wire;
} shoal_exchange_config;

typedef struct shoal_plan {
    shoal_combine_kind kind;
    int32_t n_token; /* of this rank */
    int32_t top_k;
    const float *topk_weight; /* [n_token, top_k] borrowed from the router */
    /* As a source: rows by destination rank. */
    int32_t *send_row_offset;  /* [n_rank + 1] */
    int32_t *send_slot_offset; /* [n_rank + 1] */
    int32_t *send_row_token;   /* [n_send_row] token of each row */
    int32_t *send_row_n_slot;  /* [n_send_row] */
    int32_t *send_slot_local;  /* [n_send_slot] local expert on the destination */
    float *send_slot_weight;   /* [n_send_slot] */
    int32_t *slot_of;          /* [n_token, top_k] index of (token, j) among the send slots */
    int32_t *row_of; /* [n_token, n_rank] index among the send rows, -1: token does not go there */
    /* Who takes part. */
    bool *is_source; /* [n_rank] holds tokens in this step */
    bool *is_target; /* [n_rank] owns experts of this layer */
} shoal_plan;

/* What arrived (and what stayed): rows of all sources in rank order, decoded: as the
 * integers that an int8 wire carries, else as f32. */
typedef struct shoal_recv {
    int32_t n_row;
    int32_t n_slot;
    float *row; /* [n_row, n_embd] device */
    /* [n_row, ceil(n_embd / 32)] device, NULL with another wire */
    shoal_int8_group *row_int8;
    int32_t *row_offset;  /* [n_rank + 1] rows of each source */
    int32_t *slot_offset; /* [n_rank + 1] slots of each source */
    int32_t *row_slot;    /* [n_row + 1] first slot of each row */
    int32_t *slot_row;    /* [n_slot] */
    int32_t *slot_expert; /* [n_slot] local expert */
    float *slot_weight;   /* [n_slot] */
    int32_t *slot_done;   /* [n_slot] its row in the results; the experts write it */
} shoal_recv;

/* Session-lifetime buffers of the exchange, sized once from the limits. Opaque parts live in
 * exchange.c. */
typedef struct shoal_exchange {
    shoal_exchange_config config;
    shoal_compute compute;
    int32_t n_row_max, n_slot_max; /* of shoal_recv on this rank */
    shoal_plan plan;
    shoal_recv recv;
    size_t dispatch_row_bytes, combine_row_bytes;
    unsigned char *send_memory;  /* the step's dispatch messages, one behind the other */
    unsigned char **send_buffer; /* [n_rank] into send_memory; the own message is not sent */
    size_t *packed_bytes;    /* [n_rank] of a dispatch message that is still to be sent, else 0 */
    unsigned char **encoded; /* [n_token_max] the row of each token in send_memory, NULL: not yet */
    unsigned char **recv_buffer; /* [n_rank] dispatch messages coming in; NULL: none can come */
    size_t *recv_capacity;       /* [n_rank] bytes */
    /* Where the host's memory is not the device's: own rows and results, as they would travel. */
    unsigned char *own_rows, *own_results; /* device, [n_token_max ..]; else NULL */
    unsigned char *combine_out;            /* encoded results for other sources, in recv order */
    unsigned char *combine_in;   /* encoded results of own slots (or rows), in send order */
    float *combine_row;          /* [n_thread, n_embd] reduced: the sum of a row, per worker */
    shoal_request *send_request; /* [3, n_rank] dispatch, dispatch second part, combine */
    shoal_request *recv_request; /* [3, n_rank] the same */
} shoal_exchange;

/* Measure or carve: the decoded rows are the device's, all else the host's. config's arrays are
 * copied; the pool (NULL: this thread alone) must live as long as the exchange. */
void shoal_exchange_carve(shoal_exchange *exchange, shoal_arenas arenas,
                          const shoal_exchange_config *config, const shoal_compute *compute);

/* Build x->plan. topk_expert, topk_weight: [n_token, top_k]; expert_owner, expert_local: [n_expert]
 * of this layer; is_source, is_target: [n_rank]. n_token may be 0. topk_weight must live until
 * combine. */
void shoal_plan_build(shoal_exchange *x, const int32_t *topk_expert, const float *topk_weight,
                      int32_t n_token, const int32_t *expert_owner, const int32_t *expert_local,
                      const bool *is_source, const bool *is_target);

/* Dispatch in two halves, so that other work (shared experts) can run while rows travel:
 * begin posts all receives, those of combine too, packs and sends; end waits, and fills x->recv. h:
 * [n_token, n_embd]; with an int8 wire its integers are sent, or made here if it has none.
 * Collective over is_source and is_target. After begin, h is not needed any more. Errors: as
 * shoal_comm_wait; FAILED for a malformed message (other magic, step or layer, counts or an expert
 * beyond the limits), naming the rank it came from: the ranks are not of one build or one step.
 * After any failure receives may still be open: the communicator is closed before the memory goes.
 */
shoal_status shoal_dispatch_begin(shoal_exchange *x, shoal_comm *comm, shoal_rows h, int64_t step,
                                  int32_t layer);
shoal_status shoal_dispatch_end(shoal_exchange *x, shoal_comm *comm, int64_t step, int32_t layer);

/* Results go home, in two halves too: begin encodes and sends, and done may be written again after
 * it; end waits for the own results and adds them up. done: [recv.n_slot, n_embd] f32, the experts'
 * outputs in any order (the one of slot i is row recv.slot_done[i]), each rounded to the wire once,
 * also for own tokens. acc [n_token, n_embd] is overwritten with
 *     exact:   acc = 0; acc = fma(w_j, y_j, acc) in top-k order
 *     reduced: acc = 0; acc += the row of each owning rank, in rank order; that row is
 *              0; fma(w_j, y_j, .) in top-k order over the experts there.
 * Collective as dispatch. Errors: as shoal_comm_wait. */
shoal_status shoal_combine_begin(shoal_exchange *x, shoal_comm *comm, const float *done);
shoal_status shoal_combine_end(float *acc, shoal_exchange *x, shoal_comm *comm);

/* The end of a step: all that was sent has been taken. */
shoal_status shoal_exchange_drain(shoal_exchange *x, shoal_comm *comm);

#endif
