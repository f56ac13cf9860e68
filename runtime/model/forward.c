/* THE LINE: tokens -> embed -> [ attention -> MLP or (route -> plan -> dispatch -> experts ->
 * combine) ] x L -> norm -> logits. The same for prefill and decode: a step is rows of any number
 * of sequences. A rank without rows still takes part in the exchange of every MoE layer. */
#include "runtime/kernels/trig.h"
#include "runtime/model/model_state.h"

#include <string.h>

enum { TILE_ROWS = 8 }; /* of one task below */

/* What is made of each row's token and position alone. */
typedef struct row_job {
    shoal_model *model;
    const shoal_forward_input *in;
    float *x; /* [n_token, ld] embeddings; host */
    int64_t ld;
} row_job;

/* cos and sin of a row's position. The angle is rounded to f32 before, as the reference classes
 * do. */
static void rotation(shoal_model *model, int32_t row)
{
    const shoal_rope_config *rope = &model->spec->attention.rope;
    size_t half = (size_t)rope->n_rot / 2, at = (size_t)row * half;
    float position = (float)model->step.place[row].position;
    for (size_t i = 0; i < half; i++) {
        double sin, cos;
        float angle = position * rope->inv_freq[i];
        shoal_sincos(&sin, &cos, (double)angle);
        model->step.host_cos[at + i] = (float)cos * rope->cos_sin_factor;
        model->step.host_sin[at + i] = (float)sin * rope->cos_sin_factor;
    }
}

static void row_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const row_job *job = arg;
    const shoal_spec *s = job->model->spec;
    int32_t n = job->in->n_token, row0 = tile * TILE_ROWS;
    for (int32_t row = row0; row < n && row < row0 + TILE_ROWS; row++) {
        float *x = job->x + row * job->ld;
        rotation(job->model, row);
        shoal_matrix_row(x, &job->model->weights.embed, job->in->token[row]);
        if (s->embedding_multiplier != 1.0F)
            job->model->compute.kernels->scale(x, s->embedding_multiplier, s->n_embd);
    }
}

/* x [n_token, ld] = embedding of each row's token; where the rows stand, and their rotations. All
 * are made by the host, from the table in its memory. */
static void embed(shoal_model *model, const shoal_forward_input *in, float *x, int64_t ld)
{
    shoal_step *step = &model->step;
    const size_t n = (size_t)in->n_token, n_embd = (size_t)model->spec->n_embd;
    const size_t angle_bytes = n * (size_t)model->spec->attention.rope.n_rot / 2 * sizeof(float);
    for (int32_t c = 0; c < in->n_chunk; c++) {
        const shoal_chunk *chunk = &in->chunk[c];
        for (int32_t r = 0; r < chunk->n_row; r++)
            step->place[chunk->row0 + r] =
                (shoal_place){.slot = chunk->slot, .position = chunk->position0 + r};
    }
    const bool in_place = model->compute.device == NULL;
    row_job job = {.model = model,
                   .in = in,
                   .x = in_place ? x : step->embedded,
                   .ld = in_place ? ld : (int64_t)n_embd};
    shoal_pool_run(model->compute.pool, row_tile, &job, (in->n_token + TILE_ROWS - 1) / TILE_ROWS);
    shoal_op_upload(&model->compute, x, (size_t)ld * sizeof(float), job.x,
                    (size_t)job.ld * sizeof(float), n_embd * sizeof(float), in->n_token);
    shoal_op_upload(&model->compute, step->cos, angle_bytes, step->host_cos, angle_bytes,
                    angle_bytes, 1);
    shoal_op_upload(&model->compute, step->sin, angle_bytes, step->host_sin, angle_bytes,
                    angle_bytes, 1);
}

/* What the caller sees of a pass. */
static void show(shoal_model *model, const shoal_forward_input *in)
{
    const shoal_step *step = &model->step;
    const size_t row_bytes = (size_t)model->spec->n_embd * sizeof(float);
    const size_t logit_bytes = (size_t)in->n_logit * (size_t)model->spec->n_vocab * sizeof(float);
    if (model->config.n_mtp > 0)
        shoal_op_fetch(&model->compute, step->shown_hidden, step->h,
                       (size_t)in->n_token * row_bytes);
    shoal_op_fetch(&model->compute, step->shown_logit_hidden, step->logit_hidden,
                   (size_t)in->n_logit * row_bytes);
    const shoal_largest largest = {.out = step->largest,
                                   .logits = step->logits,
                                   .n_row = in->n_logit,
                                   .n_vocab = model->spec->n_vocab,
                                   .k = in->n_largest};
    if (in->n_largest > 0)
        shoal_op_largest(&model->compute, &largest);
    else
        shoal_op_fetch(&model->compute, step->shown_logits, step->logits, logit_bytes);
}

/* Logits of the rows that are wanted, from the normed rows in step.h. */
static void head(shoal_model *model, const shoal_forward_input *in, const float *norm)
{
    const shoal_spec *s = model->spec;
    shoal_step *step = &model->step;
    shoal_op_rms_norm(&model->compute, step->h, s->n_embd, step->x, s->n_embd, norm, in->n_token,
                      s->n_embd, s->norm_eps);
    if (in->n_logit == 0)
        return;
    memcpy(step->logit_row, in->logit_row, (size_t)in->n_logit * sizeof *step->logit_row);
    const shoal_gather wanted = {.f32 = step->logit_hidden,
                                 .from = {.f32 = step->h},
                                 .row = step->logit_row,
                                 .n_row = in->n_logit,
                                 .n_col = s->n_embd};
    shoal_op_gather(&model->compute, &wanted);
    const shoal_matrix *lm_head = &model->weights.lm_head;
    const shoal_matmul_item logits = shoal__product(
        step->logits, lm_head,
        shoal__rows_for(model, step->logit_int8, lm_head, step->logit_hidden, in->n_logit),
        in->n_logit);
    shoal_op_matmul_many(&model->compute, &logits, 1);
    shoal__count_head(model, in->n_logit);
    if (s->logits_divisor != 1.0F)
        shoal_op_scale(&model->compute, step->logits, 1.0F / s->logits_divisor,
                       (int64_t)in->n_logit * s->n_vocab);
}

size_t shoal__captured_row(const shoal_model *model, int32_t layer)
{
    return (size_t)layer * (size_t)model->n_row_step + (size_t)model->row0;
}

/* Keep the residual stream of a layer, if it is asked for. */
static void capture(float *hidden, const shoal_model *model, const shoal_forward_input *in,
                    int32_t layer)
{
    size_t n_embd = (size_t)model->spec->n_embd;
    if (hidden != NULL && in->n_token > 0)
        shoal_op_fetch(&model->compute, hidden + shoal__captured_row(model, layer) * n_embd,
                       model->step.x, (size_t)in->n_token * n_embd * sizeof(float));
}

shoal_status shoal__layer_begin(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    SHOAL_TRY(shoal_comm_at(model->comm, in->step, layer));
    shoal__lap(model, &model->times.other_us);
    shoal__lap_at(model, layer, in->n_token);
    shoal__count_layer(model, in, layer);
    if (in->n_token > 0)
        shoal__attention(model, in, layer);
    if (in->capture != NULL)
        capture(in->capture->attention_hidden, model, in, layer);
    shoal__lap(model, &model->times.attention_us);
    return SHOAL_OK;
}

void shoal__layer_end(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    if (in->capture != NULL)
        capture(in->capture->layer_hidden, model, in, layer);
}

/* One decoder layer: step.x in and out. moe_layer: its number among the MoE layers, if it is one.
 */
static shoal_status decoder_layer(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                                  int32_t moe_layer)
{
    SHOAL_TRY(shoal__layer_begin(model, in, layer));
    if (model->spec->is_moe[layer]) {
        SHOAL_TRY(shoal__moe(model, in, layer, moe_layer));
    } else if (in->n_token > 0) {
        shoal__dense_mlp(model, layer, in->n_token);
        shoal__lap(model, &model->times.dense_us);
    }
    shoal__layer_end(model, in, layer);
    return model->poll_status; /* found between compute tiles */
}

/* All layers, in parts where the step is big enough. Dense layers have nothing to wait for. */
static shoal_status layers(shoal_model *model, const shoal_forward_input *in)
{
    const shoal_spec *s = model->spec;
    shoal__parts parts;
    bool overlap = shoal__parts_begin(&parts, model, in);
    int32_t moe_layer = 0;
    for (int32_t layer = 0; layer < s->n_layer; layer++) {
        if (overlap && s->is_moe[layer]) {
            SHOAL_TRY(shoal__parts_layer(&parts, layer, moe_layer));
        } else {
            if (overlap)
                SHOAL_TRY(shoal__parts_join(&parts));
            SHOAL_TRY(decoder_layer(model, in, layer, moe_layer));
        }
        moe_layer += s->is_moe[layer] ? 1 : 0;
    }
    if (overlap)
        SHOAL_TRY(shoal__parts_join(&parts));
    for (int32_t i = 0; i < (overlap ? parts.n_part : 1); i++)
        SHOAL_TRY(shoal_exchange_drain(&model->exchange[i], model->comm));
    return SHOAL_OK;
}

static void begin_pass(shoal_model *model, const shoal_forward_input *in)
{
    if (model->timeline != NULL)
        model->timeline->step = in->step;
    shoal__lap_at(model, -1, in->n_token);
    shoal__lap_begin(model);
}

static shoal_status end_pass(shoal_forward_output *out, shoal_model *model,
                             const shoal_forward_input *in, const float *norm)
{
    shoal__lap_at(model, -1, in->n_logit);
    if (in->n_token > 0) {
        head(model, in, norm);
        show(model, in);
    }
    shoal_status status = shoal_op_sync(&model->compute);
    shoal__lap(model, &model->times.logits_us);
    shoal__lap_end(model);
    *out = (shoal_forward_output){.logits = model->step.shown_logits,
                                  .largest = model->step.largest,
                                  .hidden = model->step.shown_logit_hidden,
                                  .all_hidden = model->step.shown_hidden};
    return status != SHOAL_OK ? status : model->poll_status;
}

shoal_status shoal_forward(shoal_forward_output *out, shoal_model *model,
                           const shoal_forward_input *in)
{
    begin_pass(model, in);
    model->row0 = 0;
    model->n_row_step = in->n_token;
    embed(model, in, model->step.x, model->spec->n_embd);
    SHOAL_TRY(layers(model, in));
    return end_pass(out, model, in, model->weights.final_norm);
}

shoal_status shoal_forward_mtp(shoal_forward_output *out, shoal_model *model,
                               const shoal_forward_input *in, const float *hidden)
{
    const shoal_spec *s = model->spec;
    const shoal_mtp_weights *w = &model->weights.mtp;
    shoal_step *step = &model->step;
    const int64_t n_embd = s->n_embd;
    begin_pass(model, in);
    if (in->n_token > 0) { /* x = W [ norm(embedding of the next token) ; norm(hidden) ] */
        const size_t row_bytes = (size_t)n_embd * sizeof(float);
        embed(model, in, step->mtp_pair, 2 * n_embd);
        shoal_op_rms_norm(&model->compute, step->mtp_pair, 2 * n_embd, step->mtp_pair, 2 * n_embd,
                          w->embed_norm, in->n_token, s->n_embd, s->norm_eps);
        shoal_op_upload(&model->compute, step->mtp_pair + n_embd, 2 * row_bytes, hidden, row_bytes,
                        row_bytes, in->n_token);
        shoal_op_rms_norm(&model->compute, step->mtp_pair + n_embd, 2 * n_embd,
                          step->mtp_pair + n_embd, 2 * n_embd, w->hidden_norm, in->n_token,
                          s->n_embd, s->norm_eps);
        const shoal_rows pair =
            shoal__rows_for(model, step->mtp_int8, &w->project, step->mtp_pair, in->n_token);
        const shoal_matmul_item project = shoal__product(step->x, &w->project, pair, in->n_token);
        shoal_op_matmul_many(&model->compute, &project, 1);
    }

    SHOAL_TRY(decoder_layer(model, in, s->n_layer, s->n_moe_layer));
    SHOAL_TRY(shoal_exchange_drain(&model->exchange[0], model->comm));
    return end_pass(out, model, in, w->head_norm);
}
