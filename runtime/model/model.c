/* Opening, loading and closing a model on one rank. */
#include "runtime/model/model_state.h"

#include <stdlib.h>

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
    return m->poll_status;
}

static shoal_weights_source source(shoal_model *m, shoal_loader *loader)
{
    return (shoal_weights_source){.spec = m->spec,
                                  .placement = m->config.placement,
                                  .rank = shoal_comm_rank(m->comm),
                                  .loader = loader,
                                  .expert_format = m->expert_format,
                                  .log = m->log,
                                  .loaded = tensor_loaded,
                                  .loaded_arg = m};
}

/* Buffers of the exchange; config's arrays live only during the call, carving copies them. */
static void carve_exchange(shoal_model *m, int32_t n_rank, int32_t *n_local_max, bool *may_source)
{
    const shoal_placement *p = m->config.placement;
    for (int32_t r = 0; r < n_rank; r++) {
        may_source[r] = p->sequence_weight[r] > 0.0;
        n_local_max[r] = 0;
        for (int32_t layer = 0; layer < p->n_layer; layer++) {
            int32_t n = shoal_placement_owned(p, layer, r, NULL);
            n_local_max[r] = n > n_local_max[r] ? n : n_local_max[r];
        }
    }
    shoal_exchange_config config = {.n_rank = n_rank,
                                    .rank = shoal_comm_rank(m->comm),
                                    .n_embd = m->spec->n_embd,
                                    .top_k = m->spec->router.top_k,
                                    .n_token_max = m->config.n_token_max,
                                    .n_local_max = n_local_max,
                                    .may_source = may_source,
                                    .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES,
                                    .wire = m->wire};
    shoal_exchange_carve(&m->exchange, &m->session_arena, &config, m->compute.kernels);
}

static shoal_status carve_session(shoal_model *m)
{
    const shoal_spec *s = m->spec;
    const shoal_placement *p = m->config.placement;
    int32_t n_rank = shoal_comm_n_rank(m->comm);
    int32_t *n_local_max = calloc((size_t)n_rank, sizeof(int32_t));
    bool *may_source = calloc((size_t)n_rank, sizeof(bool));
    if (n_local_max == NULL || may_source == NULL) {
        free(n_local_max);
        free(may_source);
        return shoal_fail(m->log, SHOAL_NO_MEMORY, "no memory to describe %d ranks", n_rank);
    }
    shoal_kv_cache_carve(&m->cache, &m->session_arena, m->config.kv_dtype, s->n_layer,
                         m->weights.has_attention ? m->config.n_sequence : 0, m->config.n_context,
                         shoal_spec_kv_width(s));
    m->memory.kv_bytes = m->session_arena.used_bytes;
    carve_exchange(m, n_rank, n_local_max, may_source);
    m->is_target = SHOAL_TAKE(&m->session_arena, p->n_layer, bool *);
    for (int32_t layer = 0; layer < p->n_layer; layer++) {
        bool *is_target = SHOAL_TAKE(&m->session_arena, n_rank, bool);
        for (int32_t r = 0; r < n_rank && is_target != NULL; r++)
            is_target[r] = shoal_placement_owned(p, layer, r, NULL) > 0;
        if (m->is_target != NULL)
            m->is_target[layer] = is_target;
    }
    shoal_ffn_carve(&m->ffn, &m->session_arena, &m->weights.shard, m->exchange.n_slot_max);
    m->memory.exchange_bytes = m->session_arena.used_bytes - m->memory.kv_bytes;
    free(n_local_max);
    free(may_source);
    return SHOAL_OK;
}

/* Run all carve functions once, on measuring or on opened arenas. */
static shoal_status carve(shoal_model *m)
{
    shoal_weights_totals totals = {0};
    shoal_weights_source from = source(m, NULL);
    shoal_weights_carve(&m->weights, &m->model_arena, &totals, &from);
    SHOAL_TRY(carve_session(m));
    bool own = m->weights.has_attention;
    shoal_step_carve(&m->step, &m->step_arena, m->spec, own ? m->config.n_token_max : 0,
                     own ? m->config.n_logit_max : 0, m->exchange.n_slot_max,
                     shoal_pool_n_thread(m->compute.pool));
    m->memory.expert_bytes = totals.expert_bytes;
    m->memory.attention_bytes = totals.attention_bytes;
    m->memory.other_weight_bytes = totals.other_bytes;
    m->memory.step_bytes = m->step_arena.used_bytes;
    return SHOAL_OK;
}

static shoal_status check_and_measure(shoal_model *m)
{
    shoal_loader loader;
    SHOAL_TRY(shoal_loader_open(&loader, m->checkpoint, m->log));
    shoal_weights_source from = source(m, &loader);
    shoal_status status = shoal_weights_check(&m->weights, &m->to_load, &from);
    shoal_loader_close(&loader);
    SHOAL_TRY(status);
    shoal_arena_measure(&m->model_arena, "model");
    shoal_arena_measure(&m->session_arena, "session");
    shoal_arena_measure(&m->step_arena, "step");
    return carve(m);
}

shoal_status shoal_model_open(shoal_model **model, const shoal_spec *spec,
                              shoal_checkpoint *checkpoint, const shoal_model_config *config,
                              shoal_log *log)
{
    shoal_model *m = calloc(1, sizeof(*m));
    shoal_expert_format *format = calloc((size_t)spec->n_moe_layer + 1, sizeof(*format));
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
    m->compute = config->compute;
    m->expert_format = format;
    m->wire = shoal_wire_format(config->fast, false, config->combine);
    shoal_status status = check_and_measure(m);
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
    SHOAL_TRY(carve(m));
    shoal_loader loader;
    SHOAL_TRY(shoal_loader_open(&loader, m->checkpoint, m->log));
    loader.progress = piece_loaded;
    loader.progress_arg = m;
    shoal_weights_source from = source(m, &loader);
    shoal_status status = shoal_weights_load(&m->weights, &m->loaded, &from);
    shoal_loader_close(&loader);
    shoal_pool_set_poll(m->compute.pool, poll_comm, m);
    return status;
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
    free(model->expert_format);
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
