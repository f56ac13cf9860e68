#include "experts/shard.h"

#include <assert.h>

/* One [n_row, n_col] matrix with its storage, unless it has one. */
static void carve_matrix(shoal_matrix *w, shoal_arena *arena, const shoal_matrix *kept,
                         shoal_format format, int32_t n_row, int32_t n_col)
{
    if (kept->data != NULL) {
        *w = *kept;
        return;
    }
    void *data = shoal_arena_take(arena, shoal_matrix_data_bytes(format, n_row, n_col), 1);
    size_t scale_bytes = shoal_matrix_scale_bytes(format, n_row, n_col);
    float *scale = scale_bytes > 0 ? shoal_arena_take(arena, scale_bytes, 1) : NULL;
    *w = (shoal_matrix){
        .format = format, .n_row = n_row, .n_col = n_col, .data = data, .scale = scale};
}

static float *carve_bias(shoal_arena *arena, float *kept, bool has_bias, int32_t n)
{
    if (kept != NULL || !has_bias)
        return kept;
    return SHOAL_TAKE(arena, n, float);
}

static void carve_expert(shoal_expert *expert, shoal_arena *arena, const shoal_expert *kept,
                         const shoal_expert_shape *shape, const shoal_expert_format *format)
{
    carve_matrix(&expert->gate, arena, &kept->gate, format->gate, shape->n_ff, shape->n_embd);
    carve_matrix(&expert->up, arena, &kept->up, format->up, shape->n_ff, shape->n_embd);
    carve_matrix(&expert->down, arena, &kept->down, format->down, shape->n_embd, shape->n_ff);
    expert->gate_bias = carve_bias(arena, kept->gate_bias, shape->has_bias, shape->n_ff);
    expert->up_bias = carve_bias(arena, kept->up_bias, shape->has_bias, shape->n_ff);
    expert->down_bias = carve_bias(arena, kept->down_bias, shape->has_bias, shape->n_embd);
}

/* The local experts of layer l, in ascending order. to: NULL while measuring. */
static void carve_experts(shoal_expert *to, shoal_arena *arena, const shoal_shard_plan *plan,
                          int32_t l)
{
    static const shoal_expert none = {0};
    const int32_t n_expert = plan->placement->n_expert;
    for (int32_t e = 0; e < n_expert; e++) {
        if (shoal_placement_owner(plan->placement, l, e) != plan->rank)
            continue;
        shoal_expert measured;
        carve_expert(to != NULL ? to++ : &measured, arena,
                     plan->kept != NULL ? &plan->kept[(size_t)l * (size_t)n_expert + (size_t)e]
                                        : &none,
                     &plan->shape, &plan->format[l]);
    }
}

static void fill_index(shoal_shard_layer *layer, const shoal_placement *placement, int32_t l,
                       int32_t rank)
{
    int32_t n_of_rank[SHOAL_MAX_RANK] = {0};
    for (int32_t e = 0; e < placement->n_expert; e++) {
        int32_t owner = shoal_placement_owner(placement, l, e);
        layer->owner[e] = owner;
        layer->local_of[e] = n_of_rank[owner]++;
        if (owner == rank)
            layer->expert_id[layer->local_of[e]] = e;
    }
}

void shoal_shard_carve(shoal_shard *shard, shoal_arenas arenas, const shoal_shard_plan *plan)
{
    const shoal_placement *placement = plan->placement;
    assert(plan->rank >= 0 && plan->rank < placement->n_rank);
    *shard = (shoal_shard){
        .rank = plan->rank,
        .n_layer = placement->n_layer,
        .n_expert = placement->n_expert,
        .shape = plan->shape,
        .layer = SHOAL_TAKE(arenas.host, placement->n_layer, shoal_shard_layer),
    };
    bool carving = shard->layer != NULL; /* NULL while measuring */
    for (int32_t l = 0; l < shard->n_layer; l++) {
        int32_t n_local = shoal_placement_owned(placement, l, plan->rank, NULL);
        shoal_shard_layer layer = {
            .n_local = n_local,
            .expert_id = SHOAL_TAKE(arenas.host, n_local, int32_t),
            .local_of = SHOAL_TAKE(arenas.host, shard->n_expert, int32_t),
            .owner = SHOAL_TAKE(arenas.host, shard->n_expert, int32_t),
            .expert = SHOAL_TAKE(arenas.host, n_local, shoal_expert),
        };
        carve_experts(layer.expert, arenas.device, plan, l);
        if (n_local > shard->n_local_max)
            shard->n_local_max = n_local;
        if (carving) {
            fill_index(&layer, placement, l, plan->rank);
            shard->layer[l] = layer;
        }
    }
}
