/* A shard: the expert weights that this rank owns, for all MoE layers. Carved from the model arena;
 * filled by runtime/model/weights.c. Local experts of a layer are numbered 0 .. n_local-1 in
 * ascending expert order. Layering: experts know kernels and base. */
#ifndef SHOAL_EXPERTS_SHARD_H
#define SHOAL_EXPERTS_SHARD_H

#include "experts/placement.h"
#include "runtime/base/arena.h"
#include "runtime/kernels/ops.h"

typedef struct shoal_expert {
    shoal_matrix gate; /* [n_ff, n_embd] */
    shoal_matrix up;   /* [n_ff, n_embd] */
    shoal_matrix down; /* [n_embd, n_ff] */
    float *gate_bias;  /* [n_ff]; all NULL if the model has none */
    float *up_bias;    /* [n_ff] */
    float *down_bias;  /* [n_embd] */
} shoal_expert;

/* What all experts of a model have in common. */
typedef struct shoal_expert_shape {
    int32_t n_embd;
    int32_t n_ff;
    bool has_bias;
    shoal_activation activation;
} shoal_expert_shape;

typedef struct shoal_shard_layer {
    int32_t n_local;
    int32_t *expert_id; /* [n_local] ascending global expert index */
    int32_t
        *local_of;  /* [n_expert] this expert's local index ON ITS OWNER (any rank), for the wire */
    int32_t *owner; /* [n_expert] rank */
    shoal_expert *expert; /* [n_local] */
} shoal_shard_layer;

typedef struct shoal_shard {
    int32_t rank;
    int32_t n_layer; /* MoE layers */
    int32_t n_expert;
    shoal_expert_shape shape;
    int32_t n_local_max;      /* largest n_local over layers */
    shoal_shard_layer *layer; /* [n_layer] */
} shoal_shard;

/* Formats of (gate, up, down) of one MoE layer's experts, as shoal_load_check_matrix found them
 * (equal for all experts of a layer). */
typedef struct shoal_expert_format {
    shoal_format gate, up, down;
} shoal_expert_format;

/* What a shard is carved from. */
typedef struct shoal_shard_plan {
    const shoal_placement *placement;
    int32_t rank;
    shoal_expert_shape shape;
    const shoal_expert_format *format; /* [n_layer] */
    /* [n_layer, n_expert] or NULL: weights that lie elsewhere already, to be used where they are;
     * what is NULL in them is carved */
    const shoal_expert *kept;
} shoal_shard_plan;

/* Measure or carve (base/arena.h) the shard of plan->rank. In the carving run all index arrays and
 * matrix headers are filled; carved weights and biases are zero until loaded. Weights and biases
 * are the device's, the rest the host's. */
void shoal_shard_carve(shoal_shard *shard, shoal_arenas arenas, const shoal_shard_plan *plan);

#endif
