/* The MLP half of a layer. MoE: who goes where, rows travel out, experts work, rows come home. */
#include "runtime/model/model_state.h"

#include <string.h>

bool shoal__takes_int8(const shoal_model *model, const shoal_matrix *w)
{
    return model->config.fast && shoal_format_is_quantised(w->format);
}

static shoal_rows with_int8(shoal_model *model, shoal_int8_group *y, const float *x, int32_t n_row,
                            int32_t n_col)
{
    shoal_op_to_groups(&model->compute, y, shoal_int8_groups(n_col), x, n_col, n_row, n_col);
    return (shoal_rows){.f32 = x, .int8 = y};
}

shoal_rows shoal__rows_for(shoal_model *model, shoal_int8_group *y, const shoal_matrix *w,
                           const float *x, int32_t n_row)
{
    if (!shoal__takes_int8(model, w))
        return (shoal_rows){.f32 = x};
    return with_int8(model, y, x, n_row, w->n_col);
}

shoal_matmul_item shoal__product(float *y, const shoal_matrix *w, shoal_rows rows, int32_t n_row)
{
    return (shoal_matmul_item){.y = y,
                               .ld_y = w->n_row,
                               .w = w,
                               .x = rows.f32,
                               .ld_x = w->n_col,
                               .n_token = n_row,
                               .x_int8 = rows.int8,
                               .ld_x_int8 = shoal_int8_groups(w->n_col)};
}

void shoal__mlp(float *out, shoal_model *model, const shoal_mlp_weights *weights, shoal_rows h,
                int32_t n_token)
{
    const shoal_activation *activation = &model->spec->activation;
    shoal_step *step = &model->step;
    int32_t n_ff = weights->gate.n_row;
    const shoal_matmul_item item[2] = {shoal__product(step->gate, &weights->gate, h, n_token),
                                       shoal__product(step->up, &weights->up, h, n_token)};
    shoal_op_matmul_many(&model->compute, item, 2);
    shoal_rows hidden = {.f32 = step->gate};
    if (shoal__takes_int8(model, &weights->down)) {
        shoal_op_activate_groups(&model->compute, activation, step->hidden_int8,
                                 shoal_int8_groups(n_ff), step->gate, step->up, n_ff, n_token,
                                 n_ff);
        hidden.int8 = step->hidden_int8;
    } else {
        shoal_op_activate(&model->compute, activation, step->gate, step->gate, step->up,
                          (int64_t)n_token * n_ff);
    }
    const shoal_matmul_item down = shoal__product(out, &weights->down, hidden, n_token);
    shoal_op_matmul_many(&model->compute, &down, 1);
}

static void add_residual(shoal_model *model, const float *shared, int32_t n_token)
{
    const shoal_spec *s = model->spec;
    shoal_op_add_residual(&model->compute, model->step.x, model->step.acc, shared,
                          s->residual_multiplier, (int64_t)n_token * s->n_embd);
}

void shoal__add_residual(shoal_model *model, int32_t n_token)
{
    add_residual(model, NULL, n_token);
}

/* step.h, with its integers where they are wanted: where norm leaves them. */
static shoal_rows normed(const shoal_model *model, bool int8)
{
    return (shoal_rows){.f32 = model->step.h, .int8 = int8 ? model->step.h_int8 : NULL};
}

static void norm(shoal_model *model, int32_t layer, bool int8, int32_t n_token)
{
    const shoal_spec *s = model->spec;
    shoal_step *step = &model->step;
    shoal_op_rms_norm(&model->compute, step->h, s->n_embd, step->x, s->n_embd,
                      model->weights.layer[layer].mlp_norm, n_token, s->n_embd, s->norm_eps);
    if (int8)
        (void)with_int8(model, step->h_int8, step->h, n_token, s->n_embd);
}

void shoal__dense_mlp(shoal_model *model, int32_t layer, int32_t n_token)
{
    const shoal_mlp_weights *dense = &model->weights.layer[layer].dense;
    const bool int8 = shoal__takes_int8(model, &dense->gate);
    shoal_op_run run = shoal__run_of(model, SHOAL__RUN_DENSE, layer, n_token);
    while (shoal_op_next(&model->compute, &run)) {
        norm(model, layer, int8, n_token);
        shoal__mlp(model->step.acc, model, dense, normed(model, int8), n_token);
        shoal__add_residual(model, n_token);
    }
}

/* Router logits of the normed rows, and the choice. */
static void choose(shoal_model *model, int32_t layer, int32_t n)
{
    const shoal_spec *s = model->spec;
    const shoal_layer_weights *w = &model->weights.layer[layer];
    shoal_step *step = &model->step;
    shoal_matmul_item logits =
        shoal__product(step->router_logits, &w->router, (shoal_rows){.f32 = step->h}, n);
    logits.bias = w->router_bias;
    shoal_op_matmul_many(&model->compute, &logits, 1);
    const shoal_route_step choice = {.expert = step->topk_expert,
                                     .weight = step->topk_weight,
                                     .config = &s->router,
                                     .logits = step->router_logits,
                                     .select_bias = w->router_select_bias,
                                     .n_token = n};
    shoal_op_route(&model->compute, &choice);
}

/* Rows normed and their experts chosen, which the host needs. */
static shoal_status route(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                          int32_t moe_layer, bool int8)
{
    const shoal_step *step = &model->step;
    shoal_op_run run = shoal__run_of(model, SHOAL__RUN_ROUTER, layer, in->n_token);
    while (shoal_op_next(&model->compute, &run)) {
        norm(model, layer, int8, in->n_token);
        choose(model, layer, in->n_token);
    }
    SHOAL_TRY(shoal_op_sync(&model->compute));
    if (in->capture != NULL) {
        size_t top_k = (size_t)model->spec->router.top_k, n_choice = (size_t)in->n_token * top_k;
        size_t at = shoal__captured_row(model, moe_layer) * top_k;
        memcpy(in->capture->expert + at, step->topk_expert, n_choice * sizeof(int32_t));
        memcpy(in->capture->weight + at, step->topk_weight, n_choice * sizeof(float));
    }
    return SHOAL_OK;
}

/* step.shared = the shared experts of the normed rows, gated where the family gates them. */
static void shared_experts(shoal_model *model, int32_t layer, shoal_rows h, int32_t n)
{
    const shoal_layer_weights *w = &model->weights.layer[layer];
    shoal_step *step = &model->step;
    shoal_op_run run = shoal__run_of(model, SHOAL__RUN_SHARED, layer, n);
    while (shoal_op_next(&model->compute, &run)) {
        shoal__mlp(step->shared, model, &w->shared, h, n);
        if (!model->spec->shared_gated)
            continue;
        const shoal_matmul_item gate =
            shoal__product(step->gate, &w->shared_gate, (shoal_rows){.f32 = h.f32}, n);
        shoal_op_matmul_many(&model->compute, &gate, 1);
        shoal_op_gate_rows(&model->compute, step->shared, step->gate, n, model->spec->n_embd);
    }
}

shoal_status shoal__moe_send(shoal_model *model, shoal_exchange *x, const shoal_forward_input *in,
                             int32_t layer, int32_t moe_layer)
{
    const shoal_shard_layer *placed = &model->weights.shard.layer[moe_layer];
    shoal_step *step = &model->step;
    shoal_phase_times *times = &model->times;
    int32_t n = in->n_token;
    bool shared = model->spec->n_ff_shared > 0;
    shoal_rows h = {0};
    if (n > 0) {
        bool shared_int8 =
            shared && shoal__takes_int8(model, &model->weights.layer[layer].shared.gate);
        const bool int8 = shared_int8 || model->wire.dispatch == SHOAL_WIRE_INT8;
        h = normed(model, int8);
        SHOAL_TRY(route(model, in, layer, moe_layer, int8));
    }
    shoal__lap(model, &times->router_us);
    shoal_plan_build(x, step->topk_expert, step->topk_weight, n, placed->owner, placed->local_of,
                     in->is_source,
                     model->is_target + (size_t)moe_layer * (size_t)x->config.n_rank);
    SHOAL_TRY(shoal_dispatch_begin(x, model->comm, h, in->step, layer));
    shoal__lap(model, &times->dispatch_us);
    if (n > 0 && shared) /* while the rows travel */
        shared_experts(model, layer, h, n);
    shoal__lap(model, &times->shared_us);
    return SHOAL_OK;
}

shoal_status shoal__moe_work(shoal_model *model, shoal_exchange *x, int64_t step, int32_t layer,
                             int32_t moe_layer)
{
    shoal_phase_times *times = &model->times;
    SHOAL_TRY(shoal_dispatch_end(x, model->comm, step, layer));
    shoal__lap_at(model, layer, x->recv.n_row);
    shoal__lap(model, &times->dispatch_us);
    shoal__lap_at(model, layer, x->recv.n_slot);
    const shoal_expert_slots slots = {.rows = {.f32 = x->recv.row, .int8 = x->recv.row_int8},
                                      .slot_row = x->recv.slot_row,
                                      .slot_expert = x->recv.slot_expert,
                                      .slot_done = x->recv.slot_done,
                                      .n_slot = x->recv.n_slot};
    shoal_experts_forward(model->step.done, &model->ffn, &model->weights.shard, &model->compute,
                          moe_layer, &slots);
    shoal__count_experts(model, moe_layer, x->recv.slot_expert, x->recv.n_slot);
    shoal__lap(model, &times->experts_us);
    SHOAL_TRY(shoal_combine_begin(x, model->comm, model->step.done));
    shoal__lap(model, &times->combine_us);
    return SHOAL_OK;
}

shoal_status shoal__moe_collect(shoal_model *model, shoal_exchange *x,
                                const shoal_forward_input *in, int32_t layer)
{
    shoal_step *step = &model->step;
    int32_t n = in->n_token;
    shoal__lap_at(model, layer, n);
    SHOAL_TRY(shoal_combine_end(step->acc, x, model->comm));
    if (n > 0)
        add_residual(model, model->spec->n_ff_shared > 0 ? step->shared : NULL, n);
    shoal__lap(model, &model->times.combine_us);
    return SHOAL_OK;
}

shoal_status shoal__moe(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                        int32_t moe_layer)
{
    shoal_exchange *x = &model->exchange[0];
    SHOAL_TRY(shoal__moe_send(model, x, in, layer, moe_layer));
    SHOAL_TRY(shoal__moe_work(model, x, in->step, layer, moe_layer));
    return shoal__moe_collect(model, x, in, layer);
}
