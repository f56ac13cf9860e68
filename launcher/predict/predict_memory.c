/* Memory of every rank, by the carve functions of a run. Ranks that differ in nothing that memory
 * depends on are measured once. */
#include "launcher/memory_report.h"
#include "launcher/predict/predict.h"
#include "launcher/weight_bytes.h"

#include <stdlib.h>
#include <string.h>

/* All that the memory of a rank depends on, beside what ranks have in common. */
typedef struct rank_kind {
    int64_t n_expert;    /* of all layers */
    int32_t n_local_max; /* of one layer */
    int32_t n_slot, n_thread;
    bool first; /* rank 0 keeps results for all */
    bool has_device;
} rank_kind;

static rank_kind kind_of(const shoal_predict_run *run, const shoal_placement *placement,
                         const shoal_engine_config *engine, int32_t rank)
{
    rank_kind kind = {.n_slot = shoal_engine_slots(engine, rank),
                      .n_thread = run->cluster->rank[rank].n_thread,
                      .first = rank == 0,
                      .has_device = run->cluster->rank[rank].gpu >= 0};
    kind.n_thread = kind.n_thread > 0 ? kind.n_thread : 1;
    for (int32_t l = 0; l < placement->n_layer; l++) {
        const int32_t n = shoal_placement_owned(placement, l, rank, NULL);
        kind.n_expert += n;
        kind.n_local_max = n > kind.n_local_max ? n : kind.n_local_max;
    }
    return kind;
}

static bool same_kind(const rank_kind *a, const rank_kind *b)
{
    return a->n_expert == b->n_expert && a->n_local_max == b->n_local_max &&
           a->n_slot == b->n_slot && a->n_thread == b->n_thread && a->first == b->first &&
           a->has_device == b->has_device;
}

/* What the ranks of one prediction have in common. */
typedef struct measuring {
    const shoal_predict_run *run;
    const shoal_placement *placement;
    shoal_engine_config engine;
    shoal_model_config model;
    shoal_model_announced announced;
    bool has_weights;
    shoal_log *log;
} measuring;

static void begin(measuring *m)
{
    const shoal_predict_run *run = m->run;
    m->has_weights = shoal_checkpoint_n_tensor(run->checkpoint) > 0;
    const shoal_storage_config storage = shoal_storage_of(shoal_checkpoint_config(run->checkpoint));
    m->announced = (shoal_model_announced){.fp8 = storage.storage == SHOAL_STORED_FP8,
                                           .mxfp4 = storage.storage == SHOAL_STORED_MXFP4,
                                           .dtype = storage.dtype};
    m->engine = (shoal_engine_config){.n_context = run->n_context,
                                      .n_sequence = run->n_sequence,
                                      .prefill_chunk = run->prefill_chunk,
                                      .placement = m->placement};
    m->model = (shoal_model_config){.fast = run->fast,
                                    .weights = run->weights,
                                    .combine = run->combine,
                                    .kv_dtype = run->kv_dtype,
                                    .n_context = run->n_context,
                                    .n_token_max = shoal_engine_token_max(&m->engine),
                                    .n_logit_max = shoal_engine_logit_max(&m->engine),
                                    .overlap_rows = run->overlap_rows,
                                    .placement = m->placement};
}

static shoal_status measure_rank(shoal_rank_memory *memory, shoal_model_measured *measured,
                                 const measuring *m, int32_t rank, const rank_kind *kind)
{
    shoal_model_config config = m->model;
    config.n_sequence = kind->n_slot;
    const shoal_measured_rank of = {.rank = rank,
                                    .n_thread = kind->n_thread,
                                    .has_device = kind->has_device,
                                    .announced = m->has_weights ? NULL : &m->announced};
    shoal_model_measured found;
    SHOAL_TRY(shoal_engine_measure(&memory->engine_bytes, &m->engine, m->run->spec, rank, m->log));
    SHOAL_TRY(shoal_model_measure(&found, m->run->spec, m->run->checkpoint, &config, &of, m->log));
    memory->model = found.memory;
    memory->total_bytes = shoal_memory_total(&memory->model, memory->engine_bytes);
    memory->expert_bytes = memory->model.expert_bytes;
    if (kind->has_device) { /* what of it must fit there */
        memory->host_bytes = memory->total_bytes - memory->model.device_bytes;
        memory->total_bytes = memory->model.device_bytes;
        memory->expert_bytes = memory->model.device_expert_bytes;
    }
    if (m->placement->sequence_weight[rank] > 0)
        *measured = found;
    return SHOAL_OK;
}

shoal_status shoal_predict_memory(shoal_rank_memory *memory, shoal_model_measured *measured,
                                  const shoal_predict_run *run, const shoal_placement *placement,
                                  shoal_log *log)
{
    const int32_t n_rank = placement->n_rank;
    measuring m = {.run = run, .placement = placement, .log = log};
    rank_kind *kind = calloc((size_t)n_rank, sizeof *kind);
    if (kind == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %d ranks", (int)n_rank);
    begin(&m);
    shoal_status status = SHOAL_OK;
    for (int32_t r = 0; r < n_rank && status == SHOAL_OK; r++) {
        kind[r] = kind_of(run, placement, &m.engine, r);
        int32_t like = 0;
        while (like < r && !same_kind(&kind[like], &kind[r]))
            like++;
        if (like < r)
            memory[r] = memory[like];
        else
            status = measure_rank(&memory[r], measured, &m, r, &kind[r]);
    }
    free(kind);
    return status;
}

/* What GPU ranks of a host take of its memory, and its cpu ranks. */
static double gpus_take(int32_t *n_cpu_rank, const shoal_cluster *cluster,
                        const shoal_rank_memory *memory, int32_t host)
{
    double n_bytes = 0;
    *n_cpu_rank = 0;
    for (int32_t r = 0; r < cluster->n_rank; r++) {
        if (cluster->rank[r].host != host)
            continue;
        n_bytes += (double)memory[r].host_bytes;
        *n_cpu_rank += cluster->rank[r].gpu < 0;
    }
    return n_bytes;
}

double shoal_predict_room(const shoal_cluster *cluster, const shoal_rank_memory *memory, int32_t r)
{
    const shoal_cluster_rank *rank = &cluster->rank[r];
    const double all = (double)rank->memory_bytes;
    if (rank->gpu >= 0)
        return all;
    int32_t n_cpu_rank;
    const double taken = gpus_take(&n_cpu_rank, cluster, memory, rank->host) / n_cpu_rank;
    return taken < all ? all - taken : 0;
}

double shoal_predict_host_over(const shoal_cluster *cluster, const shoal_rank_memory *memory,
                               int32_t host)
{
    int32_t n_cpu_rank;
    const double taken = gpus_take(&n_cpu_rank, cluster, memory, host);
    const double room = (double)cluster->host[host].room_bytes;
    return n_cpu_rank == 0 && room > 0 && taken > room ? taken - room : 0;
}
