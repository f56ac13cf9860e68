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

shoal_status shoal__tensor_loaded(void *arg, const shoal_weights_totals *so_far)
{
    shoal_model *m = arg;
    if (m->config.progress != NULL)
        m->config.progress(m->config.progress_arg, so_far->n_tensor, m->to_load.n_tensor,
                           so_far->file_bytes, m->to_load.file_bytes);
    SHOAL_TRY(m->poll_status);
    return shoal_comm_at(m->comm, SHOAL_STEP_LOADING, so_far->layer);
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
    m->has_device = config->compute.device != NULL;
    m->expert_format = format;
    shoal_status status = shoal__model_measure(m);
    if (status != SHOAL_OK) {
        shoal_model_close(m);
        return status;
    }
    *model = m;
    return SHOAL_OK;
}

static shoal_status load_weights(shoal_model *m, shoal_loader *loader)
{
    shoal_weights_source from = shoal__weights_source(m, loader);
    shoal_upload upload = {0};
    if (m->compute.device != NULL) {
        SHOAL_TRY(shoal_upload_open(&upload, &m->compute,
                                    shoal_upload_buffer_bytes(m->device_model_arena.size_bytes),
                                    m->log));
        from.upload = &upload;
    }
    shoal_status status = shoal_weights_load(&m->weights, &m->loaded, &from);
    if (status == SHOAL_OK && from.upload != NULL)
        status = shoal_upload_finish(&upload);
    shoal_upload_close(&upload);
    return status;
}

shoal_status shoal_model_load(shoal_model *m)
{
    SHOAL_TRY(shoal__memory_open(m));
    shoal_loader loader;
    SHOAL_TRY(shoal_loader_open(&loader, m->checkpoint, m->log));
    loader.progress = piece_loaded;
    loader.progress_arg = m;
    loader.pool = m->compute.pool;
    if (m->config.packed != NULL)
        shoal_pack_cache_set_poll(m->config.packed, poll_comm, m);
    shoal_status status = load_weights(m, &loader);
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
    (void)shoal_op_sync(&model->compute); /* nothing is under way in what is freed */
    shoal_weights_close(&model->weights);
    shoal__memory_close(model);
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

const void *shoal_model_device_weights(const shoal_model *model, size_t *n_bytes)
{
    *n_bytes = model->device_model_arena.size_bytes;
    return model->device_model_arena.base;
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
