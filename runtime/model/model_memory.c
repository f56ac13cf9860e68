/* The memory of a model: three lifetimes in the host's memory, and with a device three in its own.
 * The same carve functions measure them, here before anything is loaded, and hand them out. */
#include "runtime/model/model_state.h"

#include <stdlib.h>
#include <string.h>

shoal_weights_source shoal__weights_source(shoal_model *m, shoal_loader *loader)
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
                                  .on_device = m->has_device,
                                  .expert_format = m->expert_format,
                                  .log = m->log,
                                  .loaded = shoal__tensor_loaded,
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
    return (shoal_arenas){.host = host, .device = m->has_device ? device : host};
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
    shoal_weights_source from = shoal__weights_source(m, NULL);
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
    if (!m->has_device)
        return;
    m->memory.device_expert_bytes = totals.device_expert_bytes;
    m->memory.device_bytes = m->device_model_arena.used_bytes + m->device_session_arena.used_bytes +
                             m->device_step_arena.used_bytes;
    m->memory.pinned_bytes = m->session_arena.used_bytes + m->step_arena.used_bytes;
    m->memory.upload_bytes = 2 * shoal_upload_buffer_bytes(m->device_model_arena.used_bytes);
}

static void *take_device(void *arg, size_t n_bytes)
{
    shoal_device *device = arg;
    return device->ops->take(device, SHOAL_MEMORY_DEVICE, n_bytes);
}

static void give_device(void *arg, void *memory)
{
    shoal_device *device = arg;
    device->ops->give_back(device, SHOAL_MEMORY_DEVICE, memory);
}

static void *take_pinned(void *arg, size_t n_bytes)
{
    shoal_device *device = arg;
    return device->ops->take(device, SHOAL_MEMORY_HOST, n_bytes);
}

static void give_pinned(void *arg, void *memory)
{
    shoal_device *device = arg;
    device->ops->give_back(device, SHOAL_MEMORY_HOST, memory);
}

/* What a kernel reads or writes is in the device's memory or pinned; what the model keeps in the
 * host's, the embedding table, only the host reads. */
static void measure_arenas(shoal_model *m)
{
    shoal_device *device = m->compute.device;
    const shoal_allocator *pinned = NULL, *in_device = NULL;
    if (device != NULL) {
        snprintf(m->device_memory_name, sizeof m->device_memory_name, "the memory of %s",
                 device->info.id);
        snprintf(m->pinned_memory_name, sizeof m->pinned_memory_name, "pinned memory for %s",
                 device->info.id);
        m->device_memory = (shoal_allocator){.name = m->device_memory_name,
                                             .take = take_device,
                                             .give_back = give_device,
                                             .arg = device};
        m->pinned_memory = (shoal_allocator){.name = m->pinned_memory_name,
                                             .take = take_pinned,
                                             .give_back = give_pinned,
                                             .arg = device,
                                             .is_host = true};
        in_device = &m->device_memory;
        pinned = &m->pinned_memory;
    }
    shoal_arena_measure(&m->model_arena, "model");
    shoal_arena_measure_in(&m->session_arena, "session", pinned);
    shoal_arena_measure_in(&m->step_arena, "step", pinned);
    shoal_arena_measure_in(&m->device_model_arena, "model", in_device);
    shoal_arena_measure_in(&m->device_session_arena, "session", in_device);
    shoal_arena_measure_in(&m->device_step_arena, "step", in_device);
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
    shoal_weights_source from = shoal__weights_source(m, &loader);
    shoal_status status = shoal_weights_check(&m->weights, &m->to_load, &from);
    shoal_loader_close(&loader);
    SHOAL_TRY(status);
    m->wire = shoal_wire_format(m->config.fast, experts_are_quantised(m), m->config.combine);
    SHOAL_TRY(survey_placement(m));
    measure_arenas(m);
    carve(m);
    return SHOAL_OK;
}

shoal_status shoal__memory_open(shoal_model *m)
{
    shoal_arena *const all[] = {&m->device_model_arena, &m->device_session_arena,
                                &m->device_step_arena,  &m->model_arena,
                                &m->session_arena,      &m->step_arena};
    for (size_t i = m->has_device ? 0 : 3; i < sizeof all / sizeof all[0]; i++)
        SHOAL_TRY(shoal_arena_open(all[i], m->log));
    carve(m);
    return SHOAL_OK;
}

void shoal__memory_close(shoal_model *m)
{
    shoal_arena_close(&m->step_arena);
    shoal_arena_close(&m->session_arena);
    shoal_arena_close(&m->model_arena);
    shoal_arena_close(&m->device_step_arena);
    shoal_arena_close(&m->device_session_arena);
    shoal_arena_close(&m->device_model_arena);
}
