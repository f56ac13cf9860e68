/* One entry of `hosts`: what is checked, and what its ranks come to. */
#include "launcher/cluster/cluster_hosts.h"
#include "launcher/options.h"

#include <string.h>

#define GB 1e9

/* Of a layer of a cpu rank: jobs of the pool that every worker takes part in. */
enum { LAYER_CPU_US = 20 };

static shoal_status fail_field(const shoal__cluster_reader *r, const char *field, const char *found,
                               const char *wanted)
{
    return shoal_fail(r->log, SHOAL_BAD_DATA, "%s: %s%s%s%s is %s%.60s%s, wanted %s", r->path,
                      r->host != NULL ? "host " : "", r->host != NULL ? r->host : "",
                      r->host != NULL ? ": " : "", field, found != NULL ? "\"" : "",
                      found != NULL ? found : "missing", found != NULL ? "\"" : "", wanted);
}

/* text: NULL leaves *value. */
shoal_status shoal__cluster_number(double *value, const shoal__cluster_reader *r, const char *field,
                                   const char *text)
{
    double parsed;
    if (text == NULL)
        return SHOAL_OK;
    if (!shoal_parse_number(&parsed, text) || parsed < 0 || parsed > 1e9)
        return fail_field(r, field, text, "a number from 0 to 1e9");
    *value = parsed;
    return SHOAL_OK;
}

static shoal_status count(int32_t *value, const shoal__cluster_reader *r, const char *field,
                          const char *text, int32_t most)
{
    int64_t parsed;
    if (text == NULL)
        return SHOAL_OK;
    char wanted[48];
    snprintf(wanted, sizeof wanted, "a whole number from 1 to %d", (int)most);
    if (!shoal_parse_int64(&parsed, text) || parsed < 1 || parsed > most)
        return fail_field(r, field, text, wanted);
    *value = (int32_t)parsed;
    return SHOAL_OK;
}

static const char *gpu_names(char text[256])
{
    size_t n = 0;
    for (const shoal_gpu_preset *p = shoal_gpu_presets(); p->name != NULL && n < 200; p++)
        n += (size_t)snprintf(text + n, 256 - n, "%s%s", n > 0 ? ", " : "", p->name);
    snprintf(text + n, 256 - n, ", or all figures of another");
    return text;
}

static const char *cpu_names(char text[256])
{
    size_t n = 0;
    for (const shoal_cpu_preset *p = shoal_cpu_presets(); p->name != NULL && n < 200; p++)
        n += (size_t)snprintf(text + n, 256 - n, "%s%s", n > 0 ? ", " : "", p->name);
    return text;
}

static int32_t n_gpu_of(const shoal__yaml_host *y, const shoal__cluster_reader *r,
                        shoal_status *status)
{
    int32_t n = 0;
    for (unsigned g = 0; g < y->gpus_count && *status == SHOAL_OK; g++) {
        int32_t n_alike = 1;
        *status = count(&n_alike, r, "gpus: count", y->gpus[g].count, 64);
        n += n_alike;
    }
    return n;
}

static shoal_status read_ranks(shoal__host_kind *kind, const shoal__cluster_reader *r)
{
    const shoal__yaml_host *y = kind->yaml;
    shoal_status status = SHOAL_OK;
    const int32_t n_gpu = n_gpu_of(y, r, &status);
    SHOAL_TRY(status);
    kind->n_cpu_rank = n_gpu > 0 ? 0 : 1;
    kind->n_rank = n_gpu > 0 ? n_gpu : 1;
    if (y->ranks_count == 0)
        return SHOAL_OK;
    int32_t n_cuda = 0, n_cpu = 0;
    for (unsigned i = 0; i < y->ranks_count; i++) {
        if (strcmp(y->ranks[i], "cpu") == 0)
            n_cpu++;
        else if (strcmp(y->ranks[i], "cuda") == 0)
            n_cuda++;
        else
            return fail_field(r, "ranks", y->ranks[i], "cpu or cuda for each rank");
    }
    if (n_cuda > n_gpu)
        return shoal_fail(r->log, SHOAL_BAD_DATA,
                          "%s: host %s: ranks names %d GPUs, but gpus lists %d", r->path, r->host,
                          (int)n_cuda, (int)n_gpu);
    kind->n_cpu_rank = n_cpu;
    kind->n_rank = n_cuda + n_cpu;
    return SHOAL_OK;
}

/* What the host's processors do in all, from the preset and what the file says beside it. */
static shoal_status read_cpu(shoal__host_kind *kind, const shoal__cluster_reader *r)
{
    const shoal__yaml_host *y = kind->yaml;
    double int8_top = 0, f32_tflop = 0, read = 0;
    char names[256];
    if (y->cpu != NULL) {
        const shoal_cpu_preset *p = shoal_cpu_preset_find(y->cpu);
        if (p == NULL)
            return fail_field(r, "cpu", y->cpu, cpu_names(names));
        int8_top = p->int8_gop_per_s * kind->host.n_core / 1e3;
        f32_tflop = p->f32_gflop_per_s * kind->host.n_core / 1e3;
        read = p->memory_gb_per_s;
        kind->cpu_text = p->text;
    }
    SHOAL_TRY(shoal__cluster_number(&int8_top, r, "int8_top_per_s", y->int8_top_per_s));
    SHOAL_TRY(shoal__cluster_number(&f32_tflop, r, "f32_tflop_per_s", y->f32_tflop_per_s));
    SHOAL_TRY(
        shoal__cluster_number(&read, r, "memory_bandwidth_gb_per_s", y->memory_bandwidth_gb_per_s));
    kind->cpu = (shoal_device_rates){.int8_gop_per_s = int8_top * 1e3,
                                     .f32_gflop_per_s = f32_tflop * 1e3,
                                     .read_gb_per_s = read};
    if (kind->n_cpu_rank == 0)
        return SHOAL_OK;
    if (kind->host.n_core == 0)
        return fail_field(r, "cores", NULL, "the cores that its cpu ranks share");
    if (int8_top <= 0 || f32_tflop <= 0)
        return fail_field(r, "cpu", y->cpu,
                          "a preset, or int8_top_per_s and f32_tflop_per_s above 0");
    if (read <= 0)
        return fail_field(r, "memory_bandwidth_gb_per_s", y->memory_bandwidth_gb_per_s,
                          "GB/s that all cores read together, above 0");
    return SHOAL_OK;
}

shoal_status shoal__host_read(shoal__host_kind *kind, const shoal__yaml_host *y, const char *path,
                              double network_gbit, shoal_log *log)
{
    const shoal__cluster_reader r = {.path = path, .host = y->name, .log = log};
    double memory_gb = 0, nic_gbit = network_gbit;
    *kind = (shoal__host_kind){.yaml = y, .count = 1, .cpu_text = ""};
    shoal_cluster_host *host = &kind->host;
    SHOAL_TRY(count(&kind->count, &r, "count", y->count, SHOAL_MAX_RANK));
    SHOAL_TRY(count(&host->n_core, &r, "cores", y->cores, 1 << 16));
    SHOAL_TRY(shoal__cluster_number(&memory_gb, &r, "memory_gb", y->memory_gb));
    if (memory_gb <= 0)
        return fail_field(&r, "memory_gb", y->memory_gb, "the memory of the machine, above 0");
    kind->reserve_gb = memory_gb * 0.06 > 2 ? memory_gb * 0.06 : 2;
    SHOAL_TRY(shoal__cluster_number(&kind->reserve_gb, &r, "reserve_gb", y->reserve_gb));
    if (kind->reserve_gb >= memory_gb)
        return fail_field(&r, "reserve_gb", y->reserve_gb, "less than memory_gb (2 if left out)");
    SHOAL_TRY(shoal__cluster_number(&nic_gbit, &r, "nic_gbit_per_s", y->nic_gbit_per_s));
    SHOAL_TRY(shoal__cluster_number(&host->watts, &r, "watts", y->watts));
    SHOAL_TRY(
        shoal__cluster_number(&host->price_per_hour, &r, "price_per_hour", y->price_per_hour));
    host->memory_bytes = (uint64_t)(memory_gb * GB);
    host->room_bytes = (uint64_t)((memory_gb - kind->reserve_gb) * GB);
    host->nic_gb_per_s = nic_gbit / 8 * SHOAL_NIC_PAYLOAD;
    SHOAL_TRY(read_ranks(kind, &r));
    return read_cpu(kind, &r);
}

/* Rank number `index` of the host among those of its kind. */
static void fill_cpu_rank(shoal_cluster_rank *rank, const shoal__host_kind *kind, int32_t index)
{
    const double share = 1.0 / kind->n_cpu_rank;
    const int32_t n_left = kind->host.n_core % kind->n_cpu_rank;
    *rank =
        (shoal_cluster_rank){.gpu = -1,
                             .n_thread = kind->host.n_core / kind->n_cpu_rank + (index < n_left),
                             .memory_bytes = (uint64_t)((double)kind->host.room_bytes * share),
                             .layer_us = LAYER_CPU_US};
    rank->n_thread = rank->n_thread > 0 ? rank->n_thread : 1;
    snprintf(rank->device, sizeof rank->device, "%s", kind->cpu_text);
    const shoal_device_rates rates = {.int8_gop_per_s = share * kind->cpu.int8_gop_per_s,
                                      .f32_gflop_per_s = share * kind->cpu.f32_gflop_per_s,
                                      .read_gb_per_s = share * kind->cpu.read_gb_per_s};
    shoal_device_fill(rank, &rates);
}

static shoal_status fill_gpu_rank(shoal_cluster_rank *rank, const shoal__yaml_gpu *y,
                                  const shoal__cluster_reader *r)
{
    char names[256];
    double launch = SHOAL_GPU_LAUNCH_US, wait = SHOAL_GPU_WAIT_US;
    const shoal_gpu_preset *p = shoal_gpu_preset_find(y->model);
    shoal_gpu_preset gpu = p != NULL ? *p : (shoal_gpu_preset){.text = y->model};
    SHOAL_TRY(shoal__cluster_number(&gpu.memory_gb, r, "gpus: memory_gb", y->memory_gb));
    SHOAL_TRY(shoal__cluster_number(&gpu.read_gb_per_s, r, "gpus: memory_bandwidth_gb_per_s",
                                    y->memory_bandwidth_gb_per_s));
    SHOAL_TRY(
        shoal__cluster_number(&gpu.int8_top_per_s, r, "gpus: int8_top_per_s", y->int8_top_per_s));
    SHOAL_TRY(shoal__cluster_number(&gpu.half_tflop_per_s, r, "gpus: half_tflop_per_s",
                                    y->half_tflop_per_s));
    SHOAL_TRY(shoal__cluster_number(&gpu.f32_tflop_per_s, r, "gpus: f32_tflop_per_s",
                                    y->f32_tflop_per_s));
    SHOAL_TRY(
        shoal__cluster_number(&gpu.pcie_gb_per_s, r, "gpus: pcie_gb_per_s", y->pcie_gb_per_s));
    SHOAL_TRY(shoal__cluster_number(&launch, r, "gpus: launch_us", y->launch_us));
    SHOAL_TRY(shoal__cluster_number(&wait, r, "gpus: wait_us", y->wait_us));
    if (gpu.memory_gb <= 1 || gpu.read_gb_per_s <= 0 || gpu.half_tflop_per_s <= 0 ||
        gpu.f32_tflop_per_s <= 0 || gpu.pcie_gb_per_s <= 0)
        return fail_field(r, "gpus: model", y->model, gpu_names(names));
    *rank = (shoal_cluster_rank){.memory_bytes = (uint64_t)((gpu.memory_gb - 1) * GB),
                                 .pcie_gb_per_s = gpu.pcie_gb_per_s,
                                 .launch_us = launch,
                                 .wait_us = wait};
    snprintf(rank->device, sizeof rank->device, "%s", gpu.text);
    shoal_device_fill(rank, &(shoal_device_rates){.int8_gop_per_s = gpu.int8_top_per_s * 1e3,
                                                  .f32_gflop_per_s = gpu.f32_tflop_per_s * 1e3,
                                                  .half_gflop_per_s = gpu.half_tflop_per_s * 1e3,
                                                  .read_gb_per_s = gpu.read_gb_per_s});
    return SHOAL_OK;
}

static const shoal__yaml_gpu *gpu_at(const shoal__yaml_host *y, int32_t index)
{
    for (unsigned g = 0; g < y->gpus_count; g++) {
        int64_t n = 1;
        if (y->gpus[g].count != NULL)
            (void)shoal_parse_int64(&n, y->gpus[g].count); /* was read before */
        if (index < n)
            return &y->gpus[g];
        index -= (int32_t)n;
    }
    return NULL; /* not reached: read_ranks counted them */
}

/* The ranks of one host, from rank[0] on. */
shoal_status shoal__host_ranks(shoal_cluster_rank *rank, const shoal__host_kind *kind,
                               const shoal__cluster_reader *r)
{
    const shoal__yaml_host *y = kind->yaml;
    int32_t n_cpu = 0, n_gpu = 0;
    for (int32_t i = 0; i < kind->n_rank; i++) {
        const bool cpu =
            y->ranks_count > 0 ? strcmp(y->ranks[i], "cpu") == 0 : kind->n_cpu_rank > 0;
        if (cpu) {
            fill_cpu_rank(&rank[i], kind, n_cpu++);
            continue;
        }
        SHOAL_TRY(fill_gpu_rank(&rank[i], gpu_at(y, n_gpu), r));
        rank[i].gpu = n_gpu++;
    }
    return SHOAL_OK;
}
