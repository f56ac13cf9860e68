/* The grouped expert MLP: y = down(activation(gate(x), up(x))) for all slots (row, expert) of a
 * layer, sorted by expert so that each expert's weights are read once. A slot's result does not
 * depend on the other slots. Layering: experts know kernels and base; rows come as plain arrays. */
#ifndef SHOAL_EXPERTS_FFN_H
#define SHOAL_EXPERTS_FFN_H

#include "experts/shard.h"
#include "runtime/kernels/ops.h"

/* Slots worked on at a time (sorted by expert, so an expert's weights are read once or twice). It
 * bounds the scratch; results do not depend on it. */
#define SHOAL_FFN_BATCH 1024

/* Scratch, carved once from the session's memory: rows are the device's, lists the host's. n_batch
 * = min(n_slot_max, SHOAL_FFN_BATCH). */
typedef struct shoal_ffn {
    int32_t n_slot_max;
    int32_t n_batch;
    int32_t n_embd;
    int32_t n_ff;
    bool fast; /* quantised weights meet integer rows */
    shoal_activation activation;
    int32_t *order;              /* [n_slot_max] slots sorted by expert (stable) */
    int32_t *offset;             /* [n_local_max + 1] first sorted position of each local expert */
    int32_t *copy_to, *copy_row; /* [n_batch] rows that must be copied to lie together */
    float *x;                    /* [n_batch, n_embd] copied rows */
    shoal_int8_group *x_int8;    /* [n_batch, groups of n_embd], fast */
    float *gate;                 /* [n_batch, n_ff] */
    float *up;                   /* [n_batch, n_ff] */
    shoal_int8_group *hidden;    /* [n_batch, groups of n_ff] activations as integers, fast */
    shoal_matmul_item *item;     /* [2 * n_local_max] */
} shoal_ffn;

void shoal_ffn_carve(shoal_ffn *ffn, shoal_arenas arenas, const shoal_shard *shard,
                     int32_t n_slot_max, bool fast);

/* What came to this rank's experts: slot i takes row slot_row[i] through local expert
 * slot_expert[i], and its result is row slot_done[i] of the results, which is written here. */
typedef struct shoal_expert_slots {
    shoal_rows rows; /* f32 or int8; device */
    const int32_t *slot_row, *slot_expert;
    int32_t *slot_done;
    int32_t n_slot; /* <= n_slot_max */
} shoal_expert_slots;

/* done [n_slot, n_embd] (device), by expert, from MoE layer `layer`. Rows that are integers already
 * are taken as they are; all experts' weights must then be quantised. */
void shoal_experts_forward(float *done, shoal_ffn *ffn, const shoal_shard *shard,
                           const shoal_compute *compute, int32_t layer,
                           const shoal_expert_slots *slots);

#endif
