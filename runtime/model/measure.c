#include "runtime/model/measure.h"

#include "runtime/model/model_state.h"

#include <stdlib.h>

static void add_matrix(shoal_pass_work *work, const shoal_matrix *w)
{
    if (w->n_row == 0)
        return;
    work->n_bytes[w->format] += shoal_matrix_data_bytes(w->format, w->n_row, w->n_col) +
                                shoal_matrix_scale_bytes(w->format, w->n_row, w->n_col);
    work->n_mac[w->format] += (uint64_t)w->n_row * (uint64_t)w->n_col;
}

static void add_mlp(shoal_pass_work *work, const shoal_mlp_weights *w)
{
    add_matrix(work, &w->gate);
    add_matrix(work, &w->up);
    add_matrix(work, &w->down);
}

static void add_attention(shoal_pass_work *work, const shoal_attention_weights *a, int32_t n_head)
{
    const shoal_matrix *const plain[] = {&a->q, &a->k, &a->v, &a->q_a, &a->q_b, &a->kv_a, &a->o};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        add_matrix(work, plain[i]);
    for (int32_t h = 0; h < n_head && a->k_up != NULL; h++) {
        add_matrix(work, &a->k_up[h]);
        add_matrix(work, &a->v_up[h]);
    }
}

static void add_experts(shoal_pass_work *work, const shoal_model *m)
{
    const shoal_spec *s = m->spec;
    const int32_t n_layer = s->n_moe_layer;
    for (int32_t l = 0; l < n_layer; l++) {
        const shoal_expert_format *f = &m->expert_format[l];
        add_matrix(work, &(shoal_matrix){f->gate, s->n_ff_expert, s->n_embd, NULL, NULL});
        add_matrix(work, &(shoal_matrix){f->up, s->n_ff_expert, s->n_embd, NULL, NULL});
        add_matrix(work, &(shoal_matrix){f->down, s->n_embd, s->n_ff_expert, NULL, NULL});
    }
    for (shoal_format f = 0; f < SHOAL_N_FORMAT && n_layer > 0; f++) {
        work->n_bytes[f] /= (uint64_t)n_layer;
        work->n_mac[f] /= (uint64_t)n_layer;
    }
}

static void take(shoal_model_measured *measured, const shoal_model *m)
{
    shoal_model_measured all = {.memory = m->memory, .wire = m->wire};
    const shoal_weights *w = &m->weights;
    all.kv_row_bytes = m->cache.row_bytes;
    add_experts(&all.expert, m);
    for (int32_t layer = 0; w->has_attention && layer < m->spec->n_layer; layer++) {
        const shoal_layer_weights *l = &w->layer[layer];
        add_attention(&all.attention, &l->attention, m->spec->attention.n_head);
        add_matrix(&all.router, &l->router);
        add_mlp(&all.shared, &l->shared);
        add_matrix(&all.shared, &l->shared_gate);
        add_mlp(&all.dense, &l->dense);
    }
    if (w->has_attention)
        add_matrix(&all.head, &w->lm_head);
    *measured = all;
}

shoal_status shoal_model_measure(shoal_model_measured *measured, const shoal_spec *spec,
                                 shoal_checkpoint *checkpoint, const shoal_model_config *config,
                                 const shoal_measured_rank *rank, shoal_log *log)
{
    shoal_model m = {.spec = spec,
                     .config = *config,
                     .checkpoint = checkpoint,
                     .log = log,
                     .rank = rank->rank,
                     .n_thread = rank->n_thread,
                     .has_device = rank->has_device,
                     .measuring = true,
                     .announced = rank->announced};
    m.expert_format =
        calloc((size_t)spec->n_moe_layer + (size_t)config->n_mtp + 1, sizeof *m.expert_format);
    if (m.expert_format == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to measure a model");
    const shoal_status status = shoal__model_measure(&m);
    if (status == SHOAL_OK)
        take(measured, &m);
    shoal_weights_close(&m.weights);
    free(m.is_target);
    free(m.may_source);
    free(m.n_local_max);
    free(m.expert_format);
    return status;
}
