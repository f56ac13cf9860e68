/* Counting: phases by laps of one clock, so that nothing between two laps is lost, and bytes and
 * multiply-adds from the shapes of what a pass goes through. */
#include "runtime/model/work.h"

#include "runtime/model/model_state.h"

#include <stdlib.h>
#include <string.h>

void shoal_phase_times_add(shoal_phase_times *sum, const shoal_phase_times *times, int64_t sign)
{
#define ADD_PHASE(name) sum->name##_us += sign * times->name##_us;
    SHOAL_PHASE_MAP(ADD_PHASE)
#undef ADD_PHASE
}

int64_t shoal_phase_times_total(const shoal_phase_times *times)
{
    int64_t total_us = 0;
#define ADD_PHASE(name) total_us += times->name##_us;
    SHOAL_PHASE_MAP(ADD_PHASE)
#undef ADD_PHASE
    return total_us;
}

static shoal_lap moment(const shoal_model *model)
{
    const shoal_comm_counters *count = shoal_comm_count(model->comm);
    return (shoal_lap){.now_us = shoal_comm_now_us(model->comm),
                       .wait_us = count->wait_us,
                       .sent_bytes = count->sent_bytes,
                       .span = -1};
}

void shoal__lap_begin(shoal_model *model)
{
    model->lap = moment(model);
    if (model->timeline != NULL)
        model->lap.span = shoal_timeline_begin(model->timeline, SHOAL_SPAN_OPEN, model->lap.now_us);
}

/* The lap from `from` to now as a span, and the next one begins. */
static void record(shoal_model *model, const shoal_lap *from, size_t phase)
{
    shoal_lap *now = &model->lap;
    const shoal_span span = {.end_us = now->now_us,
                             .kind = (uint8_t)(SHOAL_SPAN_PHASE + phase),
                             .n = model->n_row_phase,
                             .sent_bytes = now->sent_bytes - from->sent_bytes};
    if (now->now_us == from->now_us && (span.n == 0 || phase == SHOAL_PHASE_NUMBER(other)))
        shoal_timeline_drop(model->timeline, from->span);
    else
        shoal_timeline_end(model->timeline, from->span, &span);
    now->span = shoal_timeline_begin(model->timeline, SHOAL_SPAN_OPEN, now->now_us);
}

void shoal__lap(shoal_model *model, int64_t *phase_us)
{
    const shoal_lap from = model->lap;
    model->lap = moment(model);
    const int64_t waited_us = model->lap.wait_us - from.wait_us;
    *phase_us += model->lap.now_us - from.now_us - waited_us;
    model->times.wait_us += waited_us;
    if (model->timeline != NULL) {
        const size_t at = (size_t)((const char *)phase_us - (const char *)&model->times);
        record(model, &from, at / sizeof(int64_t));
    }
}

void shoal__lap_end(shoal_model *model)
{
    shoal_timeline_drop(model->timeline, model->lap.span);
    shoal__lap_at(model, -1, 0);
}

void shoal__lap_at(shoal_model *model, int32_t layer, int32_t n_row)
{
    model->n_row_phase = n_row;
    if (model->timeline != NULL)
        model->timeline->layer = layer;
}

void shoal__lap_part(shoal_model *model, int32_t part)
{
    if (model->timeline != NULL)
        model->timeline->part = part;
}

void shoal_model_trace(shoal_model *model, shoal_timeline *timeline)
{
    model->timeline = timeline;
}

static void add_matrix(shoal_weight_work *work, const shoal_matrix *w)
{
    if (w->n_row == 0)
        return;
    work->n_bytes += shoal_matrix_data_bytes(w->format, w->n_row, w->n_col) +
                     shoal_matrix_scale_bytes(w->format, w->n_row, w->n_col);
    work->n_mac += (uint64_t)w->n_row * (uint64_t)w->n_col;
}

static void add_mlp(shoal_weight_work *work, const shoal_mlp_weights *w)
{
    add_matrix(work, &w->gate);
    add_matrix(work, &w->up);
    add_matrix(work, &w->down);
}

static shoal_weight_work work_of_layer(const shoal_layer_weights *w, int32_t n_head)
{
    shoal_weight_work work = {0};
    const shoal_attention_weights *a = &w->attention;
    const shoal_matrix *const plain[] = {&a->q,    &a->k, &a->v,      &a->q_a,        &a->q_b,
                                         &a->kv_a, &a->o, &w->router, &w->shared_gate};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        add_matrix(&work, plain[i]);
    for (int32_t h = 0; h < n_head; h++) {
        if (a->k_up != NULL)
            add_matrix(&work, &a->k_up[h]);
        if (a->v_up != NULL)
            add_matrix(&work, &a->v_up[h]);
    }
    add_mlp(&work, &w->dense);
    add_mlp(&work, &w->shared);
    return work;
}

shoal_status shoal__work_open(shoal_model *model)
{
    const shoal_weights *w = &model->weights;
    model->expert_slots = calloc((size_t)w->shard.n_local_max + 1, sizeof *model->expert_slots);
    model->layer_work = calloc((size_t)w->n_layer + 1, sizeof *model->layer_work);
    if (model->layer_work == NULL || model->expert_slots == NULL)
        return shoal_fail(model->log, SHOAL_NO_MEMORY, "no memory to count %d layers",
                          (int)w->n_layer);
    if (!w->has_attention)
        return SHOAL_OK;
    for (int32_t layer = 0; layer < w->n_layer; layer++)
        model->layer_work[layer] = work_of_layer(&w->layer[layer], model->spec->attention.n_head);
    add_matrix(&model->head_work, &w->lm_head);
    return SHOAL_OK;
}

/* A pass of n_row rows through weights. */
static void count(shoal_model *model, const shoal_weight_work *work, int32_t n_row)
{
    if (n_row == 0)
        return;
    model->work.weight_bytes += work->n_bytes;
    model->work.n_mac += work->n_mac * (uint64_t)n_row;
}

void shoal__count_layer(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    if (in->n_token == 0)
        return;
    count(model, &model->layer_work[layer], in->n_token);
    const int64_t window = model->spec->attention.window[layer];
    for (int32_t i = 0; i < in->n_chunk; i++) {
        const int64_t n_row = in->chunk[i].n_row, n_seen = in->chunk[i].position0 + n_row;
        const int64_t n_read = window > 0 && n_seen > window + n_row ? window + n_row : n_seen;
        model->work.cache_bytes += (uint64_t)n_read * model->cache.row_bytes;
    }
}

void shoal__count_head(shoal_model *model, int32_t n_logit)
{
    count(model, &model->head_work, n_logit);
}

void shoal__count_experts(shoal_model *model, int32_t moe_layer, const int32_t *slot_expert,
                          int32_t n_slot)
{
    const shoal_shard_layer *shard = &model->weights.shard.layer[moe_layer];
    memset(model->expert_slots, 0, (size_t)shard->n_local * sizeof *model->expert_slots);
    for (int32_t i = 0; i < n_slot; i++)
        model->expert_slots[slot_expert[i]]++;
    for (int32_t e = 0; e < shard->n_local; e++) {
        shoal_weight_work work = {0};
        if (model->expert_slots[e] == 0)
            continue;
        add_matrix(&work, &shard->expert[e].gate);
        add_matrix(&work, &shard->expert[e].up);
        add_matrix(&work, &shard->expert[e].down);
        count(model, &work, model->expert_slots[e]);
    }
    model->work.n_slot += (uint64_t)n_slot;
    if (model->slot_log.n < model->slot_log.n_max)
        model->slot_log.n_slot[model->slot_log.n] = n_slot;
    model->slot_log.n++;
}

const shoal_work_counters *shoal_model_work(const shoal_model *model)
{
    return &model->work;
}

void shoal_model_log_slots(shoal_model *model, int32_t *n_slot, int64_t n_max)
{
    model->slot_log = (shoal_slot_log){.n_slot = n_slot, .n_max = n_max};
}

int64_t shoal_model_n_logged(const shoal_model *model)
{
    return model->slot_log.n;
}
