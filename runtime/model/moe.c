/* The MLP half of a layer. MoE: who goes where, rows travel out, experts work, rows come home. */
#include "runtime/model/model_state.h"

#include <string.h>

void shoal__mlp(float *out, shoal_model *model, const shoal_mlp_weights *weights, const float *h,
                int32_t n_token)
{
    shoal_step *step = &model->step;
    int32_t n_embd = model->spec->n_embd, n_ff = weights->gate.n_row;
    const shoal_matmul_item item[2] = {
        {.y = step->gate,
         .ld_y = n_ff,
         .w = &weights->gate,
         .x = h,
         .ld_x = n_embd,
         .n_token = n_token},
        {.y = step->up,
         .ld_y = n_ff,
         .w = &weights->up,
         .x = h,
         .ld_x = n_embd,
         .n_token = n_token},
    };
    shoal_op_matmul_many(&model->compute, item, 2);
    shoal_op_activate(&model->compute, &model->spec->activation, step->gate, step->gate, step->up,
                      (int64_t)n_token * n_ff);
    shoal_op_matmul(&model->compute, out, n_embd, &weights->down, step->gate, n_ff, n_token);
}

void shoal__add_residual(shoal_model *model, int32_t n_token)
{
    const shoal_kernels *k = model->compute.kernels;
    int64_t n = (int64_t)n_token * model->spec->n_embd;
    if (model->spec->residual_multiplier != 1.0F)
        k->axpy(model->step.x, model->spec->residual_multiplier, model->step.acc, n);
    else
        k->add(model->step.x, model->step.acc, n);
}

static void norm(shoal_model *model, int32_t layer, int32_t n_token)
{
    const shoal_spec *s = model->spec;
    shoal_op_rms_norm(&model->compute, model->step.h, s->n_embd, model->step.x, s->n_embd,
                      model->weights.layer[layer].mlp_norm, n_token, s->n_embd, s->norm_eps);
}

void shoal__dense_mlp(shoal_model *model, int32_t layer, int32_t n_token)
{
    norm(model, layer, n_token);
    shoal__mlp(model->step.acc, model, &model->weights.layer[layer].dense, model->step.h, n_token);
    shoal__add_residual(model, n_token);
}

/* Router logits of the normed rows, and the choice. */
static void route(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                  int32_t moe_layer)
{
    const shoal_spec *s = model->spec;
    const shoal_layer_weights *w = &model->weights.layer[layer];
    shoal_step *step = &model->step;
    int32_t n = in->n_token;
    const shoal_matmul_item logits = {.y = step->router_logits,
                                      .ld_y = s->router.n_expert,
                                      .w = &w->router,
                                      .x = step->h,
                                      .ld_x = s->n_embd,
                                      .n_token = n,
                                      .bias = w->router_bias};
    shoal_op_matmul_many(&model->compute, &logits, 1);
    shoal_route(step->topk_expert, step->topk_weight, &s->router, model->compute.kernels,
                step->router_logits, w->router_select_bias, n);
    if (in->capture != NULL) {
        size_t n_choice = (size_t)n * (size_t)s->router.top_k;
        memcpy(in->capture->expert + (size_t)moe_layer * n_choice, step->topk_expert,
               n_choice * sizeof(int32_t));
        memcpy(in->capture->weight + (size_t)moe_layer * n_choice, step->topk_weight,
               n_choice * sizeof(float));
    }
}

/* step.shared = the shared experts of the normed rows, times sigmoid(g . h) where the family gates
 * them. */
static void shared_experts(shoal_model *model, int32_t layer, int32_t n)
{
    const shoal_layer_weights *w = &model->weights.layer[layer];
    const shoal_kernels *k = model->compute.kernels;
    shoal_step *step = &model->step;
    int32_t n_embd = model->spec->n_embd;
    shoal__mlp(step->shared, model, &w->shared, step->h, n);
    for (int32_t t = 0; t < n && model->spec->shared_gated; t++) {
        float gate;
        k->matmul(&gate, 1, &w->shared_gate, 0, 1, step->h + (size_t)t * (size_t)n_embd, n_embd, 1);
        k->sigmoid(&gate, 1);
        k->scale(step->shared + (size_t)t * (size_t)n_embd, gate, n_embd);
    }
}

shoal_status shoal__moe(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                        int32_t moe_layer)
{
    const shoal_spec *s = model->spec;
    shoal_step *step = &model->step;
    shoal_exchange *x = &model->exchange;
    const shoal_shard_layer *placed = &model->weights.shard.layer[moe_layer];
    shoal_phase_times *times = &model->times;
    int32_t n = in->n_token;

    if (n > 0) {
        norm(model, layer, n);
        route(model, in, layer, moe_layer);
    }
    shoal__lap(model, &times->router_us);
    shoal_plan_build(x, step->topk_expert, step->topk_weight, n, placed->owner, placed->local_of,
                     in->is_source,
                     model->is_target + (size_t)moe_layer * (size_t)x->config.n_rank);
    SHOAL_TRY(shoal_dispatch_begin(x, model->comm, step->h, in->step, layer));
    shoal__lap(model, &times->dispatch_us);
    if (n > 0 && s->n_ff_shared > 0) /* while the rows travel */
        shared_experts(model, layer, n);
    shoal__lap(model, &times->shared_us);
    SHOAL_TRY(shoal_dispatch_end(x, model->comm, in->step, layer));
    shoal__lap(model, &times->dispatch_us);
    shoal_experts_forward(step->done, &model->ffn, &model->weights.shard, &model->compute,
                          moe_layer, x->recv.row, x->recv.slot_row, x->recv.slot_expert,
                          x->recv.n_slot);
    shoal__count_experts(model, moe_layer, x->recv.slot_expert, x->recv.n_slot);
    shoal__lap(model, &times->experts_us);
    SHOAL_TRY(shoal_combine(step->acc, x, model->comm, step->done));
    if (n > 0 && s->n_ff_shared > 0)
        model->compute.kernels->add(step->acc, step->shared, (int64_t)n * s->n_embd);
    if (n > 0)
        shoal__add_residual(model, n);
    shoal__lap(model, &times->combine_us);
    return SHOAL_OK;
}
