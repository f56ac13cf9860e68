/* Two half-batches in flight. The rows of a step that is big enough are cut in two; while rows of
 * one half travel, the other computes:
 *
 *     attention A(l), send A | attention B(l), send B | experts A, B | collect A, attention A(l+1)
 * ...
 *
 * so A's rows travel out under B's attention, B's under A's experts, A's results come home under
 * B's experts and B's under A's attention of the next layer. Rows do not depend on each other but
 * through the cache, where A's positions of a sequence lie before B's; so the bits are those of the
 * whole step (rule 1). All ranks cut the same steps and pass the same places in the same order. */
#include "runtime/model/model_state.h"

#include <string.h>

bool shoal__may_overlap(const shoal_model *model)
{
    const shoal_placement *p = model->config.placement;
    int64_t n_source = 0;
    for (int32_t r = 0; r < p->n_rank; r++)
        n_source += model->may_source[r];
    return model->config.overlap_rows > 0 && p->n_rank > 1 && model->spec->n_moe_layer > 0 &&
           n_source * model->config.n_token_max * model->spec->router.top_k >=
               (int64_t)2 * model->config.overlap_rows * model->spec->router.n_expert;
}

/* Smaller halves would read the weights of experts for too few rows. */
bool shoal_model_cuts(const shoal_model *model, int64_t n_row_all)
{
    const shoal_router_config *router = &model->spec->router;
    return shoal__may_overlap(model) &&
           n_row_all * router->top_k >= (int64_t)2 * model->config.overlap_rows * router->n_expert;
}

/* Rows [row0, row0 + n) of `in`, counted from row0. Returns the chunks used. */
static int32_t cut(shoal_forward_input *part, const shoal_forward_input *in, int32_t row0,
                   int32_t n, shoal_chunk *chunk)
{
    *part = *in;
    part->token = in->token + row0;
    part->n_token = n;
    part->chunk = chunk;
    part->n_chunk = 0;
    for (int32_t i = 0; i < in->n_chunk; i++) {
        const shoal_chunk *c = &in->chunk[i];
        int32_t first = c->row0 > row0 ? c->row0 : row0;
        int32_t end = c->row0 + c->n_row < row0 + n ? c->row0 + c->n_row : row0 + n;
        if (first < end)
            chunk[part->n_chunk++] = (shoal_chunk){.slot = c->slot,
                                                   .position0 = c->position0 + first - c->row0,
                                                   .row0 = first - row0,
                                                   .n_row = end - first};
    }
    return part->n_chunk;
}

/* model->step shows the rows of one half. What a block only uses while it runs is shared. */
static void show(const shoal__halves *halves, const shoal__half *half)
{
    const shoal_spec *s = halves->model->spec;
    shoal_step *step = &halves->model->step;
    size_t row0 = (size_t)half->row0, n_embd = (size_t)s->n_embd;
    size_t top_k = (size_t)s->router.top_k, n_angle = (size_t)s->attention.rope.n_rot / 2;
    *step = halves->whole;
    halves->model->row0 = half->row0;
    if (half->in.n_token == 0)
        return;
    step->row += row0;
    step->x += row0 * n_embd;
    step->h += row0 * n_embd;
    step->acc += row0 * n_embd;
    step->cos += row0 * n_angle;
    step->sin += row0 * n_angle;
    step->topk_expert += row0 * top_k;
    step->topk_weight += row0 * top_k;
    if (s->n_ff_shared > 0)
        step->shared += row0 * n_embd;
}

bool shoal__halves_begin(shoal__halves *halves, shoal_model *model, const shoal_forward_input *in)
{
    if (!shoal_model_cuts(model, in->n_row_all))
        return false;
    *halves = (shoal__halves){.model = model, .whole = model->step};
    int32_t n_first = (in->n_token + 1) / 2, n_used;
    shoal__half *a = &halves->half[0], *b = &halves->half[1];
    *a = (shoal__half){.x = &model->exchange, .row0 = 0, .away_layer = -1};
    *b = (shoal__half){.x = &model->second_exchange, .row0 = n_first, .away_layer = -1};
    n_used = cut(&a->in, in, 0, n_first, model->half_chunk);
    cut(&b->in, in, n_first, in->n_token - n_first, model->half_chunk + n_used);
    return true;
}

/* The results of the layer before, if they are still away. */
static shoal_status collect(const shoal__halves *halves, shoal__half *half)
{
    shoal_model *model = halves->model;
    int32_t layer = half->away_layer;
    if (layer < 0)
        return SHOAL_OK;
    half->away_layer = -1;
    SHOAL_TRY(shoal_comm_at(model->comm, half->in.step, layer));
    SHOAL_TRY(shoal__moe_collect(model, half->x, &half->in));
    shoal__layer_end(model, &half->in, layer);
    return SHOAL_OK;
}

shoal_status shoal__halves_layer(shoal__halves *halves, int32_t layer, int32_t moe_layer)
{
    shoal_model *model = halves->model;
    for (int i = 0; i < 2; i++) {
        shoal__half *half = &halves->half[i];
        show(halves, half);
        SHOAL_TRY(collect(halves, half));
        SHOAL_TRY(shoal__layer_begin(model, &half->in, layer));
        SHOAL_TRY(shoal__moe_send(model, half->x, &half->in, layer, moe_layer));
    }
    for (int i = 0; i < 2; i++) {
        shoal__half *half = &halves->half[i];
        show(halves, half);
        SHOAL_TRY(shoal__moe_work(model, half->x, half->in.step, layer, moe_layer));
        half->away_layer = layer;
    }
    return model->poll_status;
}

shoal_status shoal__halves_join(shoal__halves *halves)
{
    for (int i = 0; i < 2; i++) {
        show(halves, &halves->half[i]);
        SHOAL_TRY(collect(halves, &halves->half[i]));
    }
    halves->model->step = halves->whole;
    halves->model->row0 = 0;
    return SHOAL_OK;
}
