/* Attention of one layer: norm, the kind's projections around the core, what it adds to x. */
#include "runtime/model/model_state.h"

shoal_rows shoal__normed_rows(shoal_model *model, const shoal_matrix *const *w, int32_t n_matrix,
                              int32_t n_row)
{
    int32_t i = 0;
    while (i + 1 < n_matrix && !shoal__takes_int8(model, w[i]))
        i++;
    return shoal__rows_for(model, model->step.h_int8, w[i], model->step.h, n_row);
}

shoal_rotation shoal__rotation(const shoal_model *model)
{
    const shoal_rope_config *rope = &model->spec->attention.rope;
    return (shoal_rotation){.cos = model->step.cos,
                            .sin = model->step.sin,
                            .n_rot = rope->n_rot,
                            .interleaved = rope->kind == SHOAL_ROPE_INTERLEAVED};
}

void shoal__attend(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                   const float *query)
{
    const shoal_attention_config *a = &model->spec->attention;
    const shoal_attend attend = {.out = model->step.attended,
                                 .query = query,
                                 .cache = &model->cache,
                                 .layer = layer,
                                 .place = model->step.place,
                                 .chunk = in->chunk,
                                 .n_chunk = in->n_chunk,
                                 .n_token = in->n_token,
                                 .n_head = a->n_head,
                                 .window = a->window[layer],
                                 .scale = a->scale,
                                 .sinks = model->weights.layer[layer].attention.sinks,
                                 .room = &model->step.attend};
    shoal_op_attend(&model->compute, &attend);
}

shoal_op_run shoal__run_of(const shoal_model *model, int32_t what, int32_t layer, int32_t n_row)
{
    return (shoal_op_run){
        .key = {.what = what, .layer = layer, .row0 = model->row0, .n_row = n_row}};
}

void shoal__attention(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_spec *s = model->spec;
    shoal_step *step = &model->step;
    shoal_op_run run = shoal__run_of(model, SHOAL__RUN_ATTENTION, layer, in->n_token);
    run.key.n_seen =
        shoal_attend_most_segments(step->place, in->n_token, s->attention.window[layer]);
    while (shoal_op_next(&model->compute, &run)) {
        shoal_op_rms_norm(&model->compute, step->h, s->n_embd, step->x, s->n_embd,
                          model->weights.layer[layer].attn_norm, in->n_token, s->n_embd,
                          s->norm_eps);
        if (s->attention.kind == SHOAL_ATTENTION_MLA)
            shoal__attention_mla(model, in, layer);
        else
            shoal__attention_gqa(model, in, layer);
        shoal__add_residual(model, in->n_token);
    }
}
