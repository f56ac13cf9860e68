#include "experts/ffn.h"

#include <assert.h>
#include <string.h>

#define ROWS_PER_TILE 16 /* rows that one tile of a gather or scatter copies */

void shoal_ffn_carve(shoal_ffn *ffn, shoal_arena *arena, const shoal_shard *shard,
                     int32_t n_slot_max)
{
    int32_t n_batch = n_slot_max < SHOAL_FFN_BATCH ? n_slot_max : SHOAL_FFN_BATCH;
    size_t n = (size_t)n_batch;
    *ffn = (shoal_ffn){
        .n_slot_max = n_slot_max,
        .n_batch = n_batch,
        .n_embd = shard->shape.n_embd,
        .n_ff = shard->shape.n_ff,
        .activation = shard->shape.activation,
        .order = SHOAL_TAKE(arena, n_slot_max, int32_t),
        .offset = SHOAL_TAKE(arena, shard->n_local_max + 1, int32_t),
        .x = SHOAL_TAKE(arena, n * (size_t)shard->shape.n_embd, float),
        .gate = SHOAL_TAKE(arena, n * (size_t)shard->shape.n_ff, float),
        .up = SHOAL_TAKE(arena, n * (size_t)shard->shape.n_ff, float),
        .y = SHOAL_TAKE(arena, n * (size_t)shard->shape.n_embd, float),
        .item = SHOAL_TAKE(arena, 2 * (size_t)shard->n_local_max, shoal_matmul_item),
    };
}

/* order: the slots by local expert, in slot order within one; offset: where each expert begins. */
static void sort_by_expert(shoal_ffn *ffn, int32_t n_local, const int32_t *slot_expert,
                           int32_t n_slot)
{
    int32_t *offset = ffn->offset;
    memset(offset, 0, ((size_t)n_local + 1) * sizeof *offset);
    for (int32_t i = 0; i < n_slot; i++) {
        assert(slot_expert[i] >= 0 && slot_expert[i] < n_local);
        offset[slot_expert[i] + 1]++;
    }
    for (int32_t e = 0; e < n_local; e++)
        offset[e + 1] += offset[e];
    for (int32_t i = 0; i < n_slot; i++)
        ffn->order[offset[slot_expert[i]]++] = i;
    /* Now offset[e] is the end of e, which is the beginning of e + 1. */
    for (int32_t e = n_local; e > 0; e--)
        offset[e] = offset[e - 1];
    offset[0] = 0;
}

/* to[to_index[i]] = from[from_index[i]] for rows i < n_row; an index array may be NULL (i itself),
 * and from_of is applied after from_index. */
typedef struct copy_rows {
    float *to;
    const float *from;
    const int32_t *to_index;
    const int32_t *from_index;
    const int32_t *from_of;
    int32_t n_row, n_col;
} copy_rows;

static void copy_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const copy_rows *c = arg;
    int32_t begin = tile * ROWS_PER_TILE;
    int32_t end = c->n_row - begin < ROWS_PER_TILE ? c->n_row : begin + ROWS_PER_TILE;
    for (int32_t i = begin; i < end; i++) {
        int64_t to = c->to_index != NULL ? c->to_index[i] : i;
        int64_t from = c->from_index != NULL ? c->from_index[i] : i;
        if (c->from_of != NULL)
            from = c->from_of[from];
        memcpy(c->to + to * c->n_col, c->from + from * c->n_col, (size_t)c->n_col * sizeof(float));
    }
}

static void copy(const shoal_compute *compute, copy_rows *rows)
{
    int32_t n_tile = (rows->n_row - 1) / ROWS_PER_TILE + 1;
    shoal_pool_run(compute->pool, copy_tile, rows, n_tile);
}

/* Sorted positions [begin, end) of one local expert, cut to the batch [first, last). */
static int32_t in_batch(int32_t *begin, const shoal_ffn *ffn, int32_t expert, int32_t first,
                        int32_t last)
{
    int32_t end = ffn->offset[expert + 1] < last ? ffn->offset[expert + 1] : last;
    *begin = ffn->offset[expert] > first ? ffn->offset[expert] : first;
    return end > *begin ? end - *begin : 0;
}

/* ffn->x -> ffn->y for the sorted positions [first, last). */
static void run_batch(shoal_ffn *ffn, const shoal_shard_layer *layer, const shoal_compute *compute,
                      int32_t first, int32_t last)
{
    const int64_t n_embd = ffn->n_embd, n_ff = ffn->n_ff;
    int32_t begin, n_item = 0;
    /* Gate and up of all experts with work are one job, so that few slots still fill the pool. */
    for (int32_t e = 0; e < layer->n_local; e++) {
        int32_t n = in_batch(&begin, ffn, e, first, last);
        if (n == 0)
            continue;
        int64_t at = begin - first;
        const float *x = ffn->x + at * n_embd;
        const shoal_expert *w = &layer->expert[e];
        ffn->item[n_item++] = (shoal_matmul_item){.y = ffn->gate + at * n_ff,
                                                  .ld_y = n_ff,
                                                  .w = &w->gate,
                                                  .x = x,
                                                  .ld_x = n_embd,
                                                  .n_token = n,
                                                  .bias = w->gate_bias};
        ffn->item[n_item++] = (shoal_matmul_item){.y = ffn->up + at * n_ff,
                                                  .ld_y = n_ff,
                                                  .w = &w->up,
                                                  .x = x,
                                                  .ld_x = n_embd,
                                                  .n_token = n,
                                                  .bias = w->up_bias};
    }
    shoal_op_matmul_many(compute, ffn->item, n_item);
    shoal_op_activate(compute, &ffn->activation, ffn->gate, ffn->gate, ffn->up,
                      (last - first) * n_ff);
    n_item = 0;
    for (int32_t e = 0; e < layer->n_local; e++) {
        int32_t n = in_batch(&begin, ffn, e, first, last);
        int64_t at = begin - first;
        const shoal_expert *w = &layer->expert[e];
        if (n > 0)
            ffn->item[n_item++] = (shoal_matmul_item){.y = ffn->y + at * n_embd,
                                                      .ld_y = n_embd,
                                                      .w = &w->down,
                                                      .x = ffn->gate + at * n_ff,
                                                      .ld_x = n_ff,
                                                      .n_token = n,
                                                      .bias = w->down_bias};
    }
    shoal_op_matmul_many(compute, ffn->item, n_item);
}

void shoal_experts_forward(float *done, shoal_ffn *ffn, const shoal_shard *shard,
                           const shoal_compute *compute, int32_t layer, const float *rows,
                           const int32_t *slot_row, const int32_t *slot_expert, int32_t n_slot)
{
    assert(n_slot >= 0 && n_slot <= ffn->n_slot_max);
    assert(layer >= 0 && layer < shard->n_layer);
    const shoal_shard_layer *experts = &shard->layer[layer];
    sort_by_expert(ffn, experts->n_local, slot_expert, n_slot);
    for (int32_t first = 0; first < n_slot; first += ffn->n_batch) {
        int32_t last = n_slot - first < ffn->n_batch ? n_slot : first + ffn->n_batch;
        copy_rows gather = {.to = ffn->x,
                            .from = rows,
                            .from_index = ffn->order + first,
                            .from_of = slot_row,
                            .n_row = last - first,
                            .n_col = ffn->n_embd};
        copy(compute, &gather);
        run_batch(ffn, experts, compute, first, last);
        copy_rows scatter = {.to = done,
                             .from = ffn->y,
                             .to_index = ffn->order + first,
                             .n_row = last - first,
                             .n_col = ffn->n_embd};
        copy(compute, &scatter);
    }
}
