/* Parts of a step in flight. The rows of a step that is big enough are cut in two or four; while
 * rows of one part travel, another computes. With two:
 *
 *     attention A(l), send A | attention B(l), send B | experts A | experts B | collect A, ...
 *
 * so A's rows travel out under B's attention, B's under A's experts, A's results come home under
 * B's experts and B's under A's attention of the next layer. Rows do not depend on each other but
 * through the cache, where A's positions of a sequence lie before B's; so the bits are those of the
 * whole step (rule 1). All ranks cut the same steps and pass the same places in the same order. */
#include "runtime/model/model_state.h"

#include <string.h>

/* Parts of a step of n_row_all rows: smaller ones would read the weights of experts for too few
 * rows. */
static int32_t n_part_of(const shoal_model *model, int64_t n_row_all)
{
    const shoal_router_config *router = &model->spec->router;
    int64_t per_part = (int64_t)model->config.overlap_rows * router->n_expert;
    bool may = per_part > 0 && model->config.placement->n_rank > 1 && model->spec->n_moe_layer > 0;
    int64_t n = may ? n_row_all * router->top_k / per_part : 1;
    return n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

int32_t shoal__part_max(const shoal_model *model)
{
    int64_t n_source = 0;
    for (int32_t r = 0; r < model->config.placement->n_rank; r++)
        n_source += model->may_source[r];
    return n_part_of(model, n_source * model->config.n_token_max);
}

int32_t shoal__part_rows_max(const shoal_model *model, int32_t part)
{
    /* The first is the whole step where it is not cut, and the second half of one. */
    int32_t n = part == 0 ? 1 : part == 1 ? 2 : 4;
    return (model->config.n_token_max + n - 1) / n;
}

bool shoal_model_cuts(const shoal_model *model, int64_t n_row_all)
{
    return n_part_of(model, n_row_all) > 1;
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

/* model->step shows the rows of one part. What a block only uses while it runs is shared. */
static void show(const shoal__parts *parts, const shoal__part *part)
{
    const shoal_spec *s = parts->model->spec;
    shoal_step *step = &parts->model->step;
    size_t row0 = (size_t)part->row0, n_embd = (size_t)s->n_embd;
    size_t top_k = (size_t)s->router.top_k, n_angle = (size_t)s->attention.rope.n_rot / 2;
    *step = parts->whole;
    parts->model->row0 = part->row0;
    shoal__lap_part(parts->model, (int32_t)(part - parts->part) + 1);
    if (part->in.n_token == 0)
        return;
    step->place += row0;
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

bool shoal__parts_begin(shoal__parts *parts, shoal_model *model, const shoal_forward_input *in)
{
    int32_t n_part = n_part_of(model, in->n_row_all), row0 = 0, n_chunk = 0;
    if (n_part == 1)
        return false;
    *parts = (shoal__parts){.model = model, .whole = model->step, .n_part = n_part};
    for (int32_t i = 0; i < n_part; i++) {
        shoal__part *part = &parts->part[i];
        int32_t n_left = n_part - i, n_row = (in->n_token - row0 + n_left - 1) / n_left;
        *part = (shoal__part){.x = &model->exchange[i], .row0 = row0, .away_layer = -1};
        n_chunk += cut(&part->in, in, row0, n_row, model->part_chunk + n_chunk);
        row0 += n_row;
    }
    return true;
}

/* The results of the layer before, if they are still away. */
static shoal_status collect(const shoal__parts *parts, shoal__part *part)
{
    shoal_model *model = parts->model;
    int32_t layer = part->away_layer;
    if (layer < 0)
        return SHOAL_OK;
    part->away_layer = -1;
    SHOAL_TRY(shoal_comm_at(model->comm, part->in.step, layer));
    SHOAL_TRY(shoal__moe_collect(model, part->x, &part->in, layer));
    shoal__layer_end(model, &part->in, layer);
    return SHOAL_OK;
}

shoal_status shoal__parts_layer(shoal__parts *parts, int32_t layer, int32_t moe_layer)
{
    shoal_model *model = parts->model;
    for (int32_t i = 0; i < parts->n_part; i++) {
        shoal__part *part = &parts->part[i];
        show(parts, part);
        SHOAL_TRY(collect(parts, part));
        SHOAL_TRY(shoal__layer_begin(model, &part->in, layer));
        SHOAL_TRY(shoal__moe_send(model, part->x, &part->in, layer, moe_layer));
    }
    for (int32_t i = 0; i < parts->n_part; i++) {
        shoal__part *part = &parts->part[i];
        show(parts, part);
        SHOAL_TRY(shoal__moe_work(model, part->x, part->in.step, layer, moe_layer));
        part->away_layer = layer;
    }
    return model->poll_status;
}

shoal_status shoal__parts_join(shoal__parts *parts)
{
    for (int32_t i = 0; i < parts->n_part; i++) {
        show(parts, &parts->part[i]);
        SHOAL_TRY(collect(parts, &parts->part[i]));
    }
    parts->model->step = parts->whole;
    parts->model->row0 = 0;
    shoal__lap_part(parts->model, 0);
    return SHOAL_OK;
}
