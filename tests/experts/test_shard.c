/* A shard's indices and storage agree with the placement on every rank. */
#include "experts/shard.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { N_LAYER = 4, N_EXPERT = 10, N_RANK = 4, N_EMBD = 64, N_FF = 32 };

static const shoal_expert_format format_[N_LAYER] = {
    {SHOAL_FORMAT_BF16, SHOAL_FORMAT_BF16, SHOAL_FORMAT_BF16},
    {SHOAL_FORMAT_FP8_BLOCK, SHOAL_FORMAT_FP8_BLOCK, SHOAL_FORMAT_BF16},
    {SHOAL_FORMAT_F32, SHOAL_FORMAT_F16, SHOAL_FORMAT_FP8_BLOCK},
    {SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_MXFP4},
};

static void check_matrix(const shoal_matrix *w, shoal_format format, int32_t n_row, int32_t n_col)
{
    ck_assert_int_eq(w->format, format);
    ck_assert_int_eq(w->n_row, n_row);
    ck_assert_int_eq(w->n_col, n_col);
    ck_assert_uint_eq((uintptr_t)w->data % 64, 0);
    ck_assert((w->scale != NULL) == (format == SHOAL_FORMAT_FP8_BLOCK));
    memset(w->data, 0x11, shoal_matrix_data_bytes(format, n_row, n_col));
    if (w->scale != NULL)
        memset(w->scale, 0x22, shoal_matrix_scale_bytes(format, n_row, n_col));
}

/* Present and writable together, or absent together. */
static void check_biases(const shoal_expert *expert, bool has_bias)
{
    ck_assert((expert->gate_bias != NULL) == has_bias);
    ck_assert((expert->up_bias != NULL) == has_bias);
    ck_assert((expert->down_bias != NULL) == has_bias);
    for (int32_t i = 0; has_bias && i < N_FF; i++)
        expert->gate_bias[i] = expert->up_bias[i] = 1;
    for (int32_t i = 0; has_bias && i < N_EMBD; i++)
        expert->down_bias[i] = 1;
}

static void check_layer(const shoal_shard *shard, const shoal_placement *p, int32_t l)
{
    const shoal_shard_layer *layer = &shard->layer[l];
    int32_t owned[N_EXPERT], local[N_RANK] = {0};
    ck_assert_int_eq(layer->n_local, shoal_placement_owned(p, l, shard->rank, owned));
    ck_assert_int_le(layer->n_local, shard->n_local_max);
    for (int32_t i = 0; i < layer->n_local; i++) {
        ck_assert_int_eq(layer->expert_id[i], owned[i]);
        check_matrix(&layer->expert[i].gate, format_[l].gate, N_FF, N_EMBD);
        check_matrix(&layer->expert[i].up, format_[l].up, N_FF, N_EMBD);
        check_matrix(&layer->expert[i].down, format_[l].down, N_EMBD, N_FF);
        check_biases(&layer->expert[i], shard->shape.has_bias);
    }
    for (int32_t e = 0; e < N_EXPERT; e++) {
        int32_t owner = shoal_placement_owner(p, l, e);
        ck_assert_int_eq(layer->owner[e], owner);
        ck_assert_int_eq(layer->local_of[e], local[owner]);
        local[owner]++;
        if (owner == shard->rank)
            ck_assert_int_eq(layer->expert_id[layer->local_of[e]], e);
    }
}

START_TEST(test_shards_of_all_ranks)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    shoal_placement p;
    const double weight[N_RANK] = {1, 0, 2, 0.7};
    ck_assert_int_eq(shoal_placement_open(&p, N_LAYER, N_EXPERT, 1, N_RANK, weight, NULL, &log),
                     SHOAL_OK);
    for (int32_t rank = 0; rank < N_RANK; rank++) {
        const shoal_shard_plan plan = {
            .placement = &p,
            .rank = rank,
            .shape = {.n_embd = N_EMBD, .n_ff = N_FF, .has_bias = rank == 2},
            .format = format_};
        shoal_arena arena;
        shoal_shard measured, shard;
        shoal_arena_measure(&arena, "model");
        shoal_shard_carve(&measured, shoal_arenas_same(&arena), &plan);
        ck_assert_int_eq(shoal_arena_open(&arena, &log), SHOAL_OK);
        shoal_shard_carve(&shard, shoal_arenas_same(&arena), &plan);
        ck_assert_int_eq(measured.n_local_max, shard.n_local_max);
        ck_assert((shard.n_local_max == 0) == (rank == 1)); /* weight 0: no expert */
        for (int32_t l = 0; l < N_LAYER; l++)
            check_layer(&shard, &p, l);
        ck_assert(shoal_arena_check(&arena));
        shoal_arena_close(&arena);
    }
    shoal_placement_close(&p);
}
END_TEST

/* Weights that lie elsewhere are used there, and take no memory of the arena. */
START_TEST(test_kept_experts)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    shoal_placement p;
    ck_assert_int_eq(shoal_placement_open(&p, N_LAYER, N_EXPERT, 1, 1, NULL, NULL, &log), SHOAL_OK);
    shoal_expert *kept = calloc(N_LAYER * N_EXPERT, sizeof *kept);
    ck_assert_ptr_nonnull(kept);
    shoal_shard_plan plan = {.placement = &p,
                             .shape = {.n_embd = N_EMBD, .n_ff = N_FF, .has_bias = true},
                             .format = format_,
                             .kept = kept};
    shoal_arena arena;
    shoal_shard shard;
    shoal_arena_measure(&arena, "model");
    shoal_shard_carve(&shard, shoal_arenas_same(&arena), &plan);
    const size_t all_bytes = arena.used_bytes;
    static float elsewhere[16];
    shoal_expert *one = &kept[N_EXPERT + 2];
    one->gate = (shoal_matrix){
        .format = format_[1].gate, .n_row = N_FF, .n_col = N_EMBD, .data = elsewhere};
    one->up_bias = elsewhere;
    shoal_arena_measure(&arena, "model");
    shoal_shard_carve(&shard, shoal_arenas_same(&arena), &plan);
    ck_assert_uint_lt(arena.used_bytes,
                      all_bytes - shoal_matrix_data_bytes(format_[1].gate, N_FF, N_EMBD));
    ck_assert_int_eq(shoal_arena_open(&arena, &log), SHOAL_OK);
    shoal_shard_carve(&shard, shoal_arenas_same(&arena), &plan);
    const shoal_expert *x = &shard.layer[1].expert[2];
    ck_assert_ptr_eq(x->gate.data, elsewhere);
    ck_assert_ptr_eq(x->up_bias, elsewhere);
    ck_assert(x->up.data != NULL && x->up.data != elsewhere && x->gate_bias != NULL);
    ck_assert(shoal_arena_check(&arena));
    shoal_arena_close(&arena);
    free(kept);
    shoal_placement_close(&p);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_kept_experts);
    SHOAL_TEST(suite, test_shards_of_all_ranks);
}

SHOAL_TEST_MAIN("experts.shard", add_tests)
