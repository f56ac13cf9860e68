/* struct shoal_model: what the files of this folder share. */
#ifndef SHOAL_MODEL_MODEL_STATE_H
#define SHOAL_MODEL_MODEL_STATE_H

#include "runtime/model/kv_cache.h"
#include "runtime/model/model.h"
#include "runtime/model/step.h"
#include "runtime/model/weights.h"

struct shoal_model {
    const shoal_spec *spec;
    shoal_model_config config;
    shoal_checkpoint *checkpoint;
    shoal_log *log;
    shoal_comm *comm;
    shoal_compute compute;

    shoal_arena model_arena, session_arena, step_arena; /* the three lifetimes */
    shoal_weights weights;
    shoal_expert_format *expert_format; /* [n_moe_layer] */
    bool *is_target;      /* [n_moe_layer, n_rank] ranks that own experts of the layer */
    bool *may_source;     /* [n_rank] ranks that may hold tokens */
    int32_t *n_local_max; /* [n_rank] most experts of one layer */
    shoal_kv_cache cache;
    shoal_exchange exchange;
    shoal_ffn ffn;
    shoal_step step;

    shoal_status
        poll_status; /* what comm found between compute tiles; looked at after each layer */
    shoal_memory_table memory;
    shoal_phase_times times;
    shoal_weights_totals to_load, loaded;
    shoal_wire wire;
};

/* The blocks of the line; x and the other tensors are in model->step. Each adds to model->step.x.
 */
void shoal__attention(shoal_model *model, const shoal_forward_input *in, int32_t layer);
void shoal__dense_mlp(shoal_model *model, int32_t layer, int32_t n_token);
shoal_status shoal__moe(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                        int32_t moe_layer);

/* out [n_token, n_embd] = down(silu(gate(h)) * up(h)) of this rank's own weights. */
void shoal__mlp(float *out, shoal_model *model, const shoal_mlp_weights *weights, const float *h,
                int32_t n_token);

/* step.x += residual_multiplier * step.acc */
void shoal__add_residual(shoal_model *model, int32_t n_token);

/* The two kinds of attention: queries into q_absorbed or q, cache rows stored; then the core; then
 * back to acc. */
void shoal__attention_mla(shoal_model *model, const shoal_forward_input *in, int32_t layer);
void shoal__attention_gqa(shoal_model *model, const shoal_forward_input *in, int32_t layer);

/* The core, for both kinds: attended [n_token, n_head, d_v] from queries [n_token, n_head, d_k]
 * over the cache. */
void shoal__attend(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                   const float *query);

#endif
