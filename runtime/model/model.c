/* Opening, loading and closing a model on one rank. */
#include "runtime/model/model_state.h"

#include <stdlib.h>
#include <string.h>

static void poll_comm(void *arg)
{
    shoal_model *m = arg;
    if (m->poll_status == SHOAL_OK)
        m->poll_status = shoal_comm_poll(m->comm);
}

static void piece_loaded(void *arg, uint64_t n_bytes)
{
    (void)n_bytes;
    poll_comm(arg); /* signs of life while loading */
}

static shoal_status tensor_loaded(void *arg, const shoal_weights_totals *so_far)
{
    shoal_model *m = arg;
    if (m->config.progress != NULL)
        m->config.progress(m->config.progress_arg, so_far->n_tensor, m->to_load.n_tensor,
                           so_far->file_bytes, m->to_load.file_bytes);
    SHOAL_TRY(m->poll_status);
    return shoal_comm_at(m->comm, SHOAL_STEP_LOADING, so_far->layer);
}

static shoal_weights_source source(shoal_model *m, shoal_loader *loader)
{
    return (shoal_weights_source){.spec = m->spec,
                                  .placement = m->config.placement,
                                  .rank = m->rank,
                                  .n_mtp = m->config.n_mtp,
                                  .choice = m->config.weights,
                                  .loader = loader,
                                  .cache = m->config.packed,
                                  .measuring = m->measuring,
                                  .announced = m->announced,
                                  .expert_format = m->expert_format,
                                  .log = m->log,
                                  .loaded = tensor_loaded,
                                  .loaded_arg = m};
}

/* What the exchange wants to know of the placement, in one pass over it: which ranks own experts of
 * each layer, and how many at most. */
static shoal_status survey_placement(shoal_model *m)
{
    const shoal_placement *p = m->config.placement;
    size_t n_rank = (size_t)p->n_rank;
    m->is_target = calloc((size_t)p->n_layer * n_rank + 1, sizeof(bool));
    m->may_source = calloc(n_rank, sizeof(bool));
    m->n_local_max = calloc(n_rank, sizeof(int32_t));
    int32_t *count = calloc(n_rank, sizeof(int32_t));
    if (m->is_target == NULL || m->may_source == NULL || m->n_local_max == NULL || count == NULL) {
        free(count);
        return shoal_fail(m->log, SHOAL_NO_MEMORY, "no memory to describe %zu ranks", n_rank);
    }
    for (size_t r = 0; r < n_rank; r++)
        m->may_source[r] = p->sequence_weight[r] > 0.0;
    for (int32_t layer = 0; layer < p->n_layer; layer++) {
        memset(count, 0, n_rank * sizeof(int32_t));
        for (int32_t e = 0; e < p->n_expert; e++)
            count[shoal_placement_owner(p, layer, e)]++;
        for (size_t r = 0; r < n_rank; r++) {
            m->is_target[(size_t)layer * n_rank + r] = count[r] > 0;
            m->n_local_max[r] = count[r] > m->n_local_max[r] ? count[r] : m->n_local_max[r];
        }
    }
    free(count);
    return SHOAL_OK;
}

/* Where a lifetime's host and device memory come from. */
static shoal_arenas arenas_of(const shoal_model *m, shoal_arena *host, shoal_arena *device)
{
    return (shoal_arenas){.host = host, .device = m->compute.device != NULL ? device : host};
}

static uint64_t used_bytes(shoal_arenas arenas)
{
    return arenas.host->used_bytes + (arenas.device != arenas.host ? arenas.device->used_bytes : 0);
}

static void carve_session(shoal_model *m)
{
    const shoal_arenas arenas = arenas_of(m, &m->session_arena, &m->device_session_arena);
    const shoal_spec *s = m->spec;
    int32_t n_slot = m->weights.has_attention ? m->config.n_sequence : 0;
    bool mla = s->attention.kind == SHOAL_ATTENTION_MLA;
    const shoal_kv_shape kv = {.dtype = m->config.kv_dtype,
                               .n_layer = m->weights.n_layer,
                               .n_slot = n_slot,
                               .n_context = m->config.n_context,
                               .n_head = s->attention.n_kv_head,
                               .d_k = shoal_step_d_k(s),
                               .d_v = shoal_step_d_v(s),
                               .latent = mla};
    shoal_kv_cache_carve(&m->cache, arenas.device, &kv);
    m->memory.kv_bytes = used_bytes(arenas);
    const shoal_exchange_config config = {.n_rank = m->config.placement->n_rank,
                                          .rank = m->rank,
                                          .n_embd = s->n_embd,
                                          .top_k = s->router.top_k,
                                          .n_token_max = m->config.n_token_max,
                                          .n_local_max = m->n_local_max,
                                          .may_source = m->may_source,
                                          .slot_bytes = shoal_comm_slot_bytes(m->comm),
                                          .n_thread = m->n_thread,
                                          .wire = m->wire};
    int32_t n_part = shoal__part_max(m);
    for (int32_t i = 0; i < n_part; i++) {
        shoal_exchange_config part = config;
        part.n_token_max = shoal__part_rows_max(m, i);
        shoal_exchange_carve(&m->exchange[i], arenas, &part, &m->compute);
    }
    m->part_chunk = n_part > 1
                        ? SHOAL_TAKE(&m->session_arena,
                                     (size_t)config.n_token_max + SHOAL__PART_MAX, shoal_chunk)
                        : NULL;
    shoal_ffn_carve(&m->ffn, arenas, &m->weights.shard, m->exchange[0].n_slot_max, m->config.fast);
    m->memory.exchange_bytes = used_bytes(arenas) - m->memory.kv_bytes;
}

/* Run all carve functions once, on measuring or on opened arenas. */
static void carve(shoal_model *m)
{
    shoal_weights_totals totals = {0};
    shoal_weights_source from = source(m, NULL);
    shoal_weights_carve(&m->weights, arenas_of(m, &m->model_arena, &m->device_model_arena), &totals,
                        &from);
    carve_session(m);
    bool own = m->weights.has_attention;
    const shoal_step_limits limits = {.n_token_max = own ? m->config.n_token_max : 0,
                                      .n_logit_max = own ? m->config.n_logit_max : 0,
                                      .n_slot_max = m->exchange[0].n_slot_max,
                                      .n_thread = m->n_thread,
                                      .n_context = m->config.n_context,
                                      .mtp = m->config.n_mtp > 0,
                                      .fast = m->config.fast};
    const shoal_arenas step = arenas_of(m, &m->step_arena, &m->device_step_arena);
    shoal_step_carve(&m->step, step, m->spec, &limits);
    m->memory.expert_bytes = totals.expert_bytes;
    m->memory.attention_bytes = totals.attention_bytes;
    m->memory.other_weight_bytes = totals.other_bytes;
    m->memory.step_bytes = used_bytes(step);
    m->memory.mapped_bytes = m->to_load.mapped_bytes;
}

/* What the wire depends on, the same on every rank: whether all experts take their rows as
 * integers. */
static bool experts_are_quantised(const shoal_model *m)
{
    int32_t n_layer = m->config.placement->n_layer;
    bool all = n_layer > 0;
    for (int32_t l = 0; l < n_layer; l++)
        all = all && shoal_format_is_quantised(m->expert_format[l].gate) &&
              shoal_format_is_quantised(m->expert_format[l].up);
    return all;
}

shoal_status shoal__model_measure(shoal_model *m)
{
    shoal_loader loader;
    SHOAL_TRY(shoal_loader_open(&loader, m->checkpoint, m->log));
    shoal_weights_source from = source(m, &loader);
    shoal_status status = shoal_weights_check(&m->weights, &m->to_load, &from);
    shoal_loader_close(&loader);
    SHOAL_TRY(status);
    m->wire = shoal_wire_format(m->config.fast, experts_are_quantised(m), m->config.combine);
    SHOAL_TRY(survey_placement(m));
    shoal_arena_measure(&m->model_arena, "model");
    shoal_arena_measure(&m->session_arena, "session");
    shoal_arena_measure(&m->step_arena, "step");
    carve(m);
    return SHOAL_OK;
}

shoal_status shoal_model_open(shoal_model **model, const shoal_spec *spec,
                              shoal_checkpoint *checkpoint, const shoal_model_config *config,
                              shoal_log *log)
{
    shoal_model *m = calloc(1, sizeof(*m));
    shoal_expert_format *format =
        calloc((size_t)spec->n_moe_layer + (size_t)config->n_mtp + 1, sizeof(*format));
    if (m == NULL || format == NULL) {
        free(m);
        free(format);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to open a model");
    }
    m->spec = spec;
    m->config = *config;
    m->checkpoint = checkpoint;
    m->log = log;
    m->comm = config->comm;
    m->rank = shoal_comm_rank(m->comm);
    m->n_thread = shoal_pool_n_thread(config->compute.pool);
    m->compute = config->compute;
    m->expert_format = format;
    shoal_status status = shoal__model_measure(m);
    if (status != SHOAL_OK) {
        shoal_model_close(m);
        return status;
    }
    *model = m;
    return SHOAL_OK;
}

shoal_status shoal_model_load(shoal_model *m)
{
    SHOAL_TRY(shoal_arena_open(&m->model_arena, m->log));
    SHOAL_TRY(shoal_arena_open(&m->session_arena, m->log));
    SHOAL_TRY(shoal_arena_open(&m->step_arena, m->log));
    carve(m);
    shoal_loader loader;
    SHOAL_TRY(shoal_loader_open(&loader, m->checkpoint, m->log));
    loader.progress = piece_loaded;
    loader.progress_arg = m;
    loader.pool = m->compute.pool;
    shoal_weights_source from = source(m, &loader);
    if (m->config.packed != NULL)
        shoal_pack_cache_set_poll(m->config.packed, poll_comm, m);
    shoal_status status = shoal_weights_load(&m->weights, &m->loaded, &from);
    if (m->config.packed != NULL)
        shoal_pack_cache_set_poll(m->config.packed, NULL, NULL);
    shoal_loader_close(&loader);
    shoal_pool_set_poll(m->compute.pool, poll_comm, m);
    SHOAL_TRY(status);
    SHOAL_TRY(shoal_comm_at(m->comm, SHOAL_STEP_LOADING, -1));
    return shoal__work_open(m);
}

void shoal_model_close(shoal_model *model)
{
    if (model == NULL)
        return;
    shoal_pool_set_poll(model->compute.pool, NULL, NULL);
    shoal_weights_close(&model->weights);
    shoal_arena_close(&model->step_arena);
    shoal_arena_close(&model->session_arena);
    shoal_arena_close(&model->model_arena);
    free(model->is_target);
    free(model->may_source);
    free(model->n_local_max);
    free(model->expert_format);
    free(model->layer_work);
    free(model->expert_slots);
    free(model);
}

const shoal_spec *shoal_model_spec(const shoal_model *model)
{
    return model->spec;
}

const shoal_memory_table *shoal_model_memory(const shoal_model *model)
{
    return &model->memory;
}

uint64_t shoal_model_expert_bytes_read(const shoal_model *model)
{
    return model->loaded.expert_file_bytes;
}

uint64_t shoal_model_bytes_read(const shoal_model *model)
{
    return shoal_checkpoint_bytes_read(model->checkpoint);
}

const shoal_wire *shoal_model_wire(const shoal_model *model)
{
    return &model->wire;
}

const shoal_phase_times *shoal_model_times(const shoal_model *model)
{
    return &model->times;
}

bool shoal_model_has_mtp(const shoal_spec *spec, const shoal_checkpoint *checkpoint)
{
    char name[SHOAL_TENSOR_NAME_MAX];
    (void)shoal_spec_tensor_name(name, spec, SHOAL_ROLE_MTP_PROJECT, spec->n_layer, 0);
    return spec->n_mtp_layer > 0 && shoal_checkpoint_find(checkpoint, name) != NULL;
}
