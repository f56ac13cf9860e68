/* THE LINE: tokens -> embed -> [ attention -> MLP or (route -> plan -> dispatch -> experts ->
 * combine) ] x L -> norm -> logits. The same for prefill and decode: a step is rows of any number
 * of sequences. A rank without rows still takes part in the exchange of every MoE layer. */
#include "runtime/base/clock.h"
#include "runtime/kernels/trig.h"
#include "runtime/model/model_state.h"

#include <string.h>

static void embed(shoal_model *model, const shoal_forward_input *in)
{
    int32_t n_embd = model->spec->n_embd;
    for (int32_t t = 0; t < in->n_token; t++) {
        float *x = model->step.x + (size_t)t * (size_t)n_embd;
        for (int32_t c = 0; c < n_embd; c++)
            x[c] = shoal_matrix_at(&model->weights.embed, in->token[t], c);
    }
}

/* cos and sin of every row's position. The angle is rounded to f32 before, as the reference classes
 * do. */
static void rotations(shoal_model *model, const shoal_forward_input *in)
{
    const shoal_rope_config *rope = &model->spec->attention.rope;
    int32_t half = rope->n_rot / 2;
    for (int32_t c = 0; c < in->n_chunk; c++) {
        for (int32_t r = 0; r < in->chunk[c].n_row; r++) {
            size_t at = (size_t)(in->chunk[c].row0 + r) * (size_t)half;
            float position = (float)(in->chunk[c].position0 + r);
            for (int32_t i = 0; i < half; i++) {
                double sin, cos;
                float angle = position * rope->inv_freq[i];
                shoal_sincos(&sin, &cos, (double)angle);
                model->step.cos[at + (size_t)i] = (float)cos * rope->cos_sin_factor;
                model->step.sin[at + (size_t)i] = (float)sin * rope->cos_sin_factor;
            }
        }
    }
}

static void head(shoal_forward_output *out, shoal_model *model, const shoal_forward_input *in)
{
    const shoal_spec *s = model->spec;
    shoal_step *step = &model->step;
    size_t n_embd = (size_t)s->n_embd;
    for (int32_t i = 0; i < in->n_logit; i++)
        memcpy(step->logit_hidden + (size_t)i * n_embd, step->x + (size_t)in->logit_row[i] * n_embd,
               n_embd * sizeof(float));
    shoal_op_rms_norm(&model->compute, step->logit_hidden, s->n_embd, step->logit_hidden, s->n_embd,
                      model->weights.final_norm, in->n_logit, s->n_embd, s->norm_eps);
    shoal_op_matmul(&model->compute, step->logits, s->n_vocab, &model->weights.lm_head,
                    step->logit_hidden, s->n_embd, in->n_logit);
    out->logits = step->logits;
    out->hidden = step->logit_hidden;
}

shoal_status shoal_forward(shoal_forward_output *out, shoal_model *model,
                           const shoal_forward_input *in)
{
    shoal_phase_times *times = &model->times;
    int64_t mark_us = shoal_clock_us();
    if (in->n_token > 0) {
        embed(model, in);
        rotations(model, in);
    }
    times->other_us += shoal_clock_us() - mark_us;

    int32_t moe_layer = 0;
    for (int32_t layer = 0; layer < model->spec->n_layer; layer++) {
        SHOAL_TRY(shoal_comm_at(model->comm, in->step, layer));
        mark_us = shoal_clock_us();
        if (in->n_token > 0)
            shoal__attention(model, in, layer);
        times->attention_us += shoal_clock_us() - mark_us;
        if (model->spec->is_moe[layer]) {
            SHOAL_TRY(shoal__moe(model, in, layer, moe_layer++));
        } else if (in->n_token > 0) {
            mark_us = shoal_clock_us();
            shoal__dense_mlp(model, layer, in->n_token);
            times->dense_us += shoal_clock_us() - mark_us;
        }
        SHOAL_TRY(model->poll_status); /* found between compute tiles */
    }

    *out = (shoal_forward_output){0};
    mark_us = shoal_clock_us();
    if (in->n_logit > 0)
        head(out, model, in);
    times->logits_us += shoal_clock_us() - mark_us;
    return model->poll_status;
}
