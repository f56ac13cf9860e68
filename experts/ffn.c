#include "experts/ffn.h"

#include <assert.h>
#include <string.h>

void shoal_ffn_carve(shoal_ffn *ffn, shoal_arenas arenas, const shoal_shard *shard,
                     int32_t n_slot_max, bool fast)
{
    int32_t n_batch = n_slot_max < SHOAL_FFN_BATCH ? n_slot_max : SHOAL_FFN_BATCH;
    const shoal_expert_shape *shape = &shard->shape;
    size_t n = (size_t)n_batch, n_int8 = fast ? n : 0;
    *ffn = (shoal_ffn){
        .n_slot_max = n_slot_max,
        .n_batch = n_batch,
        .n_embd = shape->n_embd,
        .n_ff = shape->n_ff,
        .fast = fast,
        .activation = shape->activation,
        .order = SHOAL_TAKE(arenas.host, n_slot_max, int32_t),
        .offset = SHOAL_TAKE(arenas.host, shard->n_local_max + 1, int32_t),
        .copy_to = SHOAL_TAKE(arenas.host, n, int32_t),
        .copy_row = SHOAL_TAKE(arenas.host, n, int32_t),
        .x = SHOAL_TAKE(arenas.device, n * (size_t)shape->n_embd, float),
        .x_int8 = SHOAL_TAKE(arenas.device, n_int8 * (size_t)shoal_int8_groups(shape->n_embd),
                             shoal_int8_group),
        .gate = SHOAL_TAKE(arenas.device, n * (size_t)shape->n_ff, float),
        .up = SHOAL_TAKE(arenas.device, n * (size_t)shape->n_ff, float),
        .hidden = SHOAL_TAKE(arenas.device, n_int8 * (size_t)shoal_int8_groups(shape->n_ff),
                             shoal_int8_group),
        .item = SHOAL_TAKE(arenas.host, 2 * (size_t)shard->n_local_max, shoal_matmul_item),
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

/* Sorted positions [begin, end) of one local expert, cut to the batch [first, last). */
static int32_t in_batch(int32_t *begin, const shoal_ffn *ffn, int32_t expert, int32_t first,
                        int32_t last)
{
    int32_t end = ffn->offset[expert + 1] < last ? ffn->offset[expert + 1] : last;
    *begin = ffn->offset[expert] > first ? ffn->offset[expert] : first;
    return end > *begin ? end - *begin : 0;
}

/* True if the rows of sorted positions [begin, begin + n) lie one behind the other where they came
 * in: always of a single one, as most are while decoding. */
static bool lie_together(const shoal_ffn *ffn, const shoal_expert_slots *slots, int32_t begin,
                         int32_t n)
{
    const int32_t *order = ffn->order + begin;
    for (int32_t i = 1; i < n; i++)
        if (slots->slot_row[order[i]] != slots->slot_row[order[0]] + i)
            return false;
    return true;
}

/* Gate and up of one expert over rows at place `at` of the batch: those of `copy`'s source from
 * `row` on where they lie together (row >= 0), unless their integers are still to be made. Returns
 * whether the rows have to be brought to that place. */
static bool gate_and_up(shoal_matmul_item item[2], const shoal_ffn *ffn, const shoal_expert *w,
                        const shoal_gather *copy, int32_t row, int32_t at)
{
    const int64_t n_embd = ffn->n_embd, n_ff = ffn->n_ff, n_group = shoal_int8_groups(ffn->n_embd);
    bool made = copy->int8 != NULL && copy->from.int8 == NULL;
    bool as_it_lies = row >= 0 && !made;
    shoal_matmul_item one = {.ld_x = n_embd, .ld_x_int8 = n_group, .ld_y = n_ff};
    if (copy->f32 != NULL)
        one.x = as_it_lies ? copy->from.f32 + row * n_embd : ffn->x + at * n_embd;
    if (copy->int8 != NULL)
        one.x_int8 = as_it_lies ? copy->from.int8 + row * n_group : ffn->x_int8 + at * n_group;
    item[0] = item[1] = one;
    item[0].w = &w->gate;
    item[0].bias = w->gate_bias;
    item[0].y = ffn->gate + at * n_ff;
    item[1].w = &w->up;
    item[1].bias = w->up_bias;
    item[1].y = ffn->up + at * n_ff;
    return !as_it_lies;
}

/* ffn->gate and ffn->up of the sorted positions [first, last): all experts with work are one job,
 * so that few slots still fill the pool. */
static void first_half(const shoal_ffn *ffn, const shoal_shard_layer *layer,
                       const shoal_compute *compute, const shoal_expert_slots *slots, int32_t first,
                       int32_t last)
{
    const shoal_expert *any = &layer->expert[0];
    bool gate = shoal_format_is_quantised(any->gate.format);
    bool up = shoal_format_is_quantised(any->up.format);
    shoal_gather copy = {.f32 = !ffn->fast || !gate || !up ? ffn->x : NULL,
                         .int8 = ffn->fast && (gate || up) ? ffn->x_int8 : NULL,
                         .from = slots->rows,
                         .to = ffn->copy_to,
                         .row = ffn->copy_row,
                         .n_col = ffn->n_embd};
    int32_t begin, n_item = 0;
    for (int32_t e = 0; e < layer->n_local; e++) {
        int32_t n = in_batch(&begin, ffn, e, first, last);
        if (n == 0)
            continue;
        const int32_t *order = ffn->order + begin;
        int32_t row = lie_together(ffn, slots, begin, n) ? slots->slot_row[order[0]] : -1;
        shoal_matmul_item *item = &ffn->item[n_item];
        n_item += 2;
        bool copied = gate_and_up(item, ffn, &layer->expert[e], &copy, row, begin - first);
        item[0].n_token = item[1].n_token = n;
        for (int32_t i = 0; copied && i < n; i++) {
            ffn->copy_to[copy.n_row] = begin - first + i;
            ffn->copy_row[copy.n_row++] = slots->slot_row[order[i]];
        }
    }
    shoal_op_gather(compute, &copy);
    shoal_op_matmul_many(compute, ffn->item, n_item);
}

/* done [last - first, n_embd] from ffn->gate and ffn->up. */
static void second_half(float *done, const shoal_ffn *ffn, const shoal_shard_layer *layer,
                        const shoal_compute *compute, int32_t first, int32_t last)
{
    const int64_t n_embd = ffn->n_embd, n_ff = ffn->n_ff, n_group = shoal_int8_groups(ffn->n_ff);
    bool int8 = ffn->fast && shoal_format_is_quantised(layer->expert[0].down.format);
    if (int8)
        shoal_op_activate_groups(compute, &ffn->activation, ffn->hidden, n_group, ffn->gate,
                                 ffn->up, n_ff, last - first, ffn->n_ff);
    else
        shoal_op_activate(compute, &ffn->activation, ffn->gate, ffn->gate, ffn->up,
                          (last - first) * n_ff);
    int32_t begin, n_item = 0;
    for (int32_t e = 0; e < layer->n_local; e++) {
        int32_t n = in_batch(&begin, ffn, e, first, last);
        int64_t at = begin - first;
        const shoal_expert *w = &layer->expert[e];
        if (n == 0)
            continue;
        ffn->item[n_item++] =
            (shoal_matmul_item){.y = done + at * n_embd,
                                .ld_y = n_embd,
                                .w = &w->down,
                                .x = ffn->gate + at * n_ff,
                                .ld_x = n_ff,
                                .n_token = n,
                                .bias = w->down_bias,
                                .x_int8 = int8 ? ffn->hidden + at * n_group : NULL,
                                .ld_x_int8 = n_group};
    }
    shoal_op_matmul_many(compute, ffn->item, n_item);
}

void shoal_experts_forward(float *done, shoal_ffn *ffn, const shoal_shard *shard,
                           const shoal_compute *compute, int32_t layer,
                           const shoal_expert_slots *slots)
{
    int32_t n_slot = slots->n_slot;
    assert(n_slot >= 0 && n_slot <= ffn->n_slot_max);
    assert(layer >= 0 && layer < shard->n_layer);
    const shoal_shard_layer *experts = &shard->layer[layer];
    sort_by_expert(ffn, experts->n_local, slots->slot_expert, n_slot);
    for (int32_t i = 0; i < n_slot; i++)
        slots->slot_done[ffn->order[i]] = i;
    for (int32_t first = 0; first < n_slot; first += ffn->n_batch) {
        int32_t last = n_slot - first < ffn->n_batch ? n_slot : first + ffn->n_batch;
        first_half(ffn, experts, compute, slots, first, last);
        second_half(done + (int64_t)first * ffn->n_embd, ffn, experts, compute, first, last);
    }
}
