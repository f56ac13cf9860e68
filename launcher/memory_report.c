#include "launcher/memory_report.h"

#include "launcher/agreement.h"
#include "launcher/report.h"

#include <stdlib.h>
#include <string.h>

/* What one rank has to say. */
typedef struct memory_table {
    shoal_memory_table model;
    uint64_t engine_bytes;
    int64_t n_expert; /* over all layers */
} memory_table;

uint64_t shoal_memory_total(const shoal_memory_table *m, uint64_t engine_bytes)
{
    return m->expert_bytes + m->attention_bytes + m->other_weight_bytes + m->kv_bytes +
           m->exchange_bytes + m->step_bytes + engine_bytes;
}

static uint64_t total_of(const memory_table *table)
{
    return shoal_memory_total(&table->model, table->engine_bytes);
}

/* Where it lies, of a rank with a GPU: "; of that 21.3 GB on cuda:0 (23.9 GB are free), ..." */
static void device_text(char text[256], const shoal_session *s, const memory_table *table,
                        int32_t rank)
{
    const shoal_memory_table *m = &table->model;
    const shoal_device_info *info = &s->devices.rank[rank].info;
    char t[5][SHOAL_BYTES_TEXT];
    text[0] = '\0';
    if (info->id[0] == '\0')
        return;
    snprintf(text, 256,
             "; of that %s on %s (%s are free), %s pinned and %s plain in the host's; "
             "%s more pinned while weights are loaded",
             shoal_bytes_text(t[0], m->device_bytes), info->id,
             shoal_bytes_text(t[1], info->free_bytes), shoal_bytes_text(t[2], m->pinned_bytes),
             shoal_bytes_text(t[3], total_of(table) - m->device_bytes - m->pinned_bytes),
             shoal_bytes_text(t[4], m->upload_bytes));
}

static void log_memory(const shoal_session *s, const memory_table *table, int32_t rank)
{
    const shoal_memory_table *m = &table->model;
    char t[8][SHOAL_BYTES_TEXT], mapped[SHOAL_BYTES_TEXT], from[512] = "", device[256];
    if (m->mapped_bytes > 0)
        snprintf(from, sizeof from, "; mapped from %s, shared by the ranks of a host: %s",
                 s->options.cache, shoal_bytes_text(mapped, m->mapped_bytes));
    device_text(device, s, table, rank);
    shoal_log_info(
        s->log,
        "memory of rank %d (%s): experts %s, attention %s, other weights %s, kv cache "
        "%s, exchange %s, step %s, engine %s; together %s%s%s",
        (int)rank, shoal_comm_host(s->comm, rank), shoal_bytes_text(t[0], m->expert_bytes),
        shoal_bytes_text(t[1], m->attention_bytes), shoal_bytes_text(t[2], m->other_weight_bytes),
        shoal_bytes_text(t[3], m->kv_bytes), shoal_bytes_text(t[4], m->exchange_bytes),
        shoal_bytes_text(t[5], m->step_bytes), shoal_bytes_text(t[6], table->engine_bytes),
        shoal_bytes_text(t[7], total_of(table)), device, from);
}

/* What the numbers will be made with. */
static void log_choices(const shoal_session *s)
{
    const shoal_wire *wire = shoal_model_wire(s->model);
    shoal_log_info(s->log,
                   "%skernels %s with %d threads, math %s, weights %s, kv cache %s, rows travel as "
                   "%s and return as %s (%s)",
                   s->devices.own != NULL ? "the host's " : "", s->compute.kernels->name,
                   (int)shoal_pool_n_thread(s->compute.pool), s->model_config.fast ? "fast" : "f32",
                   shoal_weights_text(s->model_config.weights),
                   s->model_config.kv_dtype == SHOAL_KV_F32 ? "f32" : "bf16",
                   shoal_wire_text(wire->dispatch), shoal_wire_text(wire->combine),
                   wire->kind == SHOAL_COMBINE_EXACT ? "exact" : "reduced");
}

static void log_all(const shoal_session *s, const memory_table *all)
{
    enum { EACH_RANK_MAX = 16 }; /* beyond, only the fullest is named */
    int32_t fullest = 0;
    uint64_t sum_bytes = 0;
    log_choices(s);
    for (int32_t r = 0; r < s->n_rank; r++) {
        sum_bytes += total_of(&all[r]);
        if (total_of(&all[r]) > total_of(&all[fullest]))
            fullest = r;
        if (s->n_rank <= EACH_RANK_MAX)
            log_memory(s, &all[r], r);
    }
    char text[SHOAL_BYTES_TEXT];
    if (s->n_rank > EACH_RANK_MAX) {
        shoal_log_info(s->log, "memory of %d ranks: %s; the fullest:", (int)s->n_rank,
                       shoal_bytes_text(text, sum_bytes));
        log_memory(s, &all[fullest], fullest);
    }
}

/* -- whether it fits -- */

uint64_t shoal_memory_room(uint64_t free_bytes)
{
    const uint64_t most = (uint64_t)256 << 20, share = free_bytes / 32;
    return free_bytes - (share < most ? share : most);
}

/* The rest fits: how many experts do beside it. */
static void advise_experts(char text[512], const shoal_memory_shortage *s)
{
    char a[SHOAL_BYTES_TEXT];
    const uint64_t beside = s->device_bytes - s->expert_bytes;
    const double fraction = (double)(s->free_bytes - beside) / (double)s->expert_bytes;
    const int64_t n_fit = (int64_t)(fraction * (double)s->n_expert);
    int n = snprintf(text, 512,
                     "Beside all else (%s) it could hold %lld of the %lld experts that this rank "
                     "was to hold, %lld of each layer. ",
                     shoal_bytes_text(a, beside), (long long)n_fit, (long long)s->n_expert,
                     (long long)(n_fit / (s->n_layer > 0 ? s->n_layer : 1)));
    if (n > 0 && n < 512)
        snprintf(text + n, (size_t)(512 - n), "%s",
                 s->has_cpu_rank
                     ? "Give the others more: --placement weighted fills this GPU as far as it goes"
                     : "Add a rank for the rest, on this host or another: mpirun -np 2 shoal ... "
                       "--device cuda,cpu --placement weighted fills the GPU as far as it goes");
}

/* Not even that does: what of it can be made smaller. */
static void advise_cache(char text[512], const shoal_memory_shortage *s)
{
    char a[SHOAL_BYTES_TEXT], b[SHOAL_BYTES_TEXT];
    const uint64_t beside = s->device_bytes - s->expert_bytes, over = beside - s->free_bytes;
    const double left = s->kv_bytes > over ? (double)(s->kv_bytes - over) / (double)s->kv_bytes : 0;
    const int32_t round = s->n_context >= 1024 ? 64 : 1;
    const int32_t n_context = (int32_t)(left * s->n_context) / round * round;
    int n = snprintf(text, 512, "Even without experts it needs %s, of which %s are the kv cache. ",
                     shoal_bytes_text(a, beside), shoal_bytes_text(b, s->kv_bytes));
    if (n <= 0 || n >= 512)
        return;
    if (n_context > 0)
        snprintf(text + n, (size_t)(512 - n),
                 "With --context %d (now %d), or fewer --sequences (now %d), it would fit without "
                 "experts, which other ranks then hold: --device cuda,cpu --placement weighted",
                 (int)n_context, (int)s->n_context, (int)s->n_sequence);
    else
        snprintf(
            text + n, (size_t)(512 - n),
            "Make the weights smaller (--weights q8 or q4), or let this rank hold experts only "
            "(--placement FILE with sequences: 0) beside one with --device cpu");
}

void shoal_memory_advice(char text[512], const shoal_memory_shortage *shortage)
{
    if (shortage->device_bytes - shortage->expert_bytes <= shortage->free_bytes)
        advise_experts(text, shortage);
    else
        advise_cache(text, shortage);
}

/* What all ranks want of the GPU of `rank`, and what is free there. */
static uint64_t wanted_there(uint64_t *free_bytes, const shoal_session *s, const memory_table *all,
                             int32_t rank)
{
    const shoal_device_info *own = &s->devices.rank[rank].info;
    uint64_t sum = 0;
    *free_bytes = own->free_bytes;
    for (int32_t r = 0; r < s->n_rank; r++) {
        const shoal_device_info *info = &s->devices.rank[r].info;
        const bool same =
            r == rank || (info->id[0] != '\0' && own->bus_id[0] != '\0' &&
                          strcmp(info->bus_id, own->bus_id) == 0 &&
                          strcmp(shoal_comm_host(s->comm, r), shoal_comm_host(s->comm, rank)) == 0);
        if (!same)
            continue;
        sum += all[r].model.device_bytes;
        if (info->free_bytes < *free_bytes)
            *free_bytes = info->free_bytes;
    }
    return sum;
}

/* Rank 0. The first that does not fit is explained. */
static shoal_status check_fits(const shoal_session *s, const memory_table *all)
{
    for (int32_t r = 0; r < s->n_rank && s->devices.n_device > 0; r++) {
        const shoal_device_info *info = &s->devices.rank[r].info;
        const shoal_memory_table *m = &all[r].model;
        uint64_t free_bytes;
        const uint64_t wanted = info->id[0] != '\0' ? wanted_there(&free_bytes, s, all, r) : 0;
        if (wanted == 0 || wanted <= shoal_memory_room(free_bytes))
            continue;
        const uint64_t others = wanted - m->device_bytes, room = shoal_memory_room(free_bytes);
        const shoal_memory_shortage shortage = {
            .free_bytes = room > others ? room - others : 0,
            .device_bytes = m->device_bytes,
            .expert_bytes = m->device_expert_bytes,
            .kv_bytes = m->kv_bytes,
            .n_expert = all[r].n_expert,
            .n_layer = s->placement.n_layer,
            .n_context = s->options.n_context,
            .n_sequence = s->options.n_sequence,
            .has_cpu_rank = s->devices.n_device < s->n_rank,
        };
        char advice[512], a[SHOAL_BYTES_TEXT], b[SHOAL_BYTES_TEXT], c[SHOAL_BYTES_TEXT];
        shoal_memory_advice(advice, &shortage);
        return shoal_fail(s->log, SHOAL_NO_MEMORY,
                          "rank %d (%s) needs %s of %s (%s)%s, of which %s are free and %s can be "
                          "filled. %s",
                          (int)r, shoal_comm_host(s->comm, r), shoal_bytes_text(a, m->device_bytes),
                          info->id, info->name, others > 0 ? ", which it shares" : "",
                          shoal_bytes_text(b, free_bytes), shoal_bytes_text(c, shortage.free_bytes),
                          advice);
    }
    return SHOAL_OK;
}

static int64_t experts_of(const shoal_session *s)
{
    int64_t n = 0;
    for (int32_t layer = 0; layer < s->placement.n_layer; layer++)
        n += shoal_placement_owned(&s->placement, layer, s->rank, NULL);
    return n;
}

shoal_status shoal_memory_report(const shoal_session *s)
{
    const memory_table mine = {*shoal_model_memory(s->model), s->engine_bytes, experts_of(s)};
    memory_table *all = NULL;
    if (s->rank == 0) {
        all = calloc((size_t)s->n_rank, sizeof *all);
        if (all == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for the table of %d ranks",
                              (int)s->n_rank);
    }
    shoal_status status = shoal_comm_gather(s->comm, all, &mine, sizeof mine, 0);
    if (status != SHOAL_OK) {
        free(all);
        return status;
    }
    if (all != NULL)
        log_all(s, all);
    if (s->devices.n_device > 0) {
        s->log->capture = true;
        status = all != NULL ? check_fits(s, all) : SHOAL_OK;
        status = shoal_agreement_stage(s->comm, status, "looking whether it fits", s->log);
    }
    free(all);
    return status;
}
