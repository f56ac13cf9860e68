#include "launcher/cluster/cluster_probe.h"

#include "launcher/cluster/cluster_presets.h"
#include "runtime/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Jobs of the pool in a MoE layer's decode: norm, projections, attention and its merge, output,
 * router, shared and routed experts in two halves each, with the rows made integers between them.
 */
#define JOBS_PER_LAYER 12

#define FILE_MAX_BYTES ((size_t)256 << 20)

/* What was not measured is as fast as memory, and as the fastest products that were. */
static void set_likely_rates(shoal_cluster_rank *rank)
{
    double many = rank->f32_gflop_per_s;
    for (int32_t f = 0; f < SHOAL_N_FORMAT; f++)
        many = rank->prefill_gop_per_s[f] > many ? rank->prefill_gop_per_s[f] : many;
    for (int32_t f = 0; f < SHOAL_N_FORMAT; f++) {
        if (rank->decode_gb_per_s[f] > 0 && rank->prefill_gop_per_s[f] > 0)
            continue;
        rank->decode_gb_per_s[f] = rank->read_gb_per_s;
        rank->prefill_gop_per_s[f] = many;
    }
}

static void copy_rates(shoal_cluster_rank *to, const shoal_probe_rank *from)
{
    for (int32_t i = 0; i < from->n_rate; i++) {
        for (int32_t f = 0; f < SHOAL_N_FORMAT; f++) {
            if (strcmp(from->rate[i].format, shoal_format_text((shoal_format)f)) != 0)
                continue;
            to->decode_gb_per_s[f] = from->rate[i].decode_gb_per_s;
            to->prefill_gop_per_s[f] = from->rate[i].prefill_gop_per_s;
        }
    }
}

/* Of a GPU what was measured in place of what its name says. */
static void take_measured(shoal_cluster_rank *to, const shoal_probe_rank *from)
{
    const double measured[] = {from->read_gb_per_s, from->f32_gflop_per_s, from->pcie_gb_per_s,
                               from->launch_us, from->wait_us};
    double *const known[] = {&to->read_gb_per_s, &to->f32_gflop_per_s, &to->pcie_gb_per_s,
                             &to->launch_us, &to->wait_us};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (measured[i] > 0)
            *known[i] = measured[i];
    copy_rates(to, from);
}

static void take_rank(shoal_cluster_rank *to, const shoal_probe_rank *from)
{
    to->host = from->host;
    to->gpu = from->gpu;
    to->n_thread = from->n_thread;
    to->memory_bytes = from->memory_bytes;
    memcpy(to->device, from->device, sizeof to->device);
    if (from->gpu >= 0) {
        shoal_device_fill_by_name(to, from->device, from->read_gb_per_s);
        take_measured(to, from);
        return;
    }
    to->read_gb_per_s = from->read_gb_per_s;
    to->f32_gflop_per_s = from->f32_gflop_per_s;
    to->layer_us = JOBS_PER_LAYER * from->job_us;
    copy_rates(to, from);
    set_likely_rates(to);
}

shoal_status shoal_cluster_of_probe(shoal_cluster *cluster, const shoal_probe_message *message,
                                    const char *name, shoal_log *log)
{
    shoal_cluster c;
    SHOAL_TRY(shoal_cluster_open(&c, message->n_host, message->n_rank, log));
    snprintf(c.name, sizeof c.name, "%s", name);
    for (int32_t h = 0; h < message->n_host; h++) {
        const shoal_probe_host *from = &message->host[h];
        shoal_cluster_host *to = &c.host[h];
        memcpy(to->name, from->name, sizeof to->name);
        memcpy(to->address, from->address, sizeof to->address);
        to->n_core = from->n_core;
        to->memory_bytes = from->memory_bytes;
        to->room_bytes = from->free_bytes;
        to->nic_gb_per_s = from->nic_gb_per_s;
    }
    for (int32_t r = 0; r < message->n_rank; r++)
        take_rank(&c.rank[r], &message->rank[r]);
    for (size_t i = 0; i < (size_t)message->n_rank * (size_t)message->n_rank; i++) {
        const shoal_probe_link *from = &message->link[i];
        c.link[i] = (shoal_cluster_link){.latency_us = (double)from->latency_us,
                                         .gb_per_s = (double)from->gb_per_s,
                                         .overhead_us = (double)from->overhead_us,
                                         .burst_bytes = (double)from->burst_bytes};
    }
    *cluster = c;
    return SHOAL_OK;
}

/* The last part of a path. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

shoal_status shoal_cluster_read_probe(shoal_cluster *cluster, const char *path, shoal_log *log)
{
    char *text;
    size_t n_bytes;
    SHOAL_TRY(shoal_file_read(&text, &n_bytes, path, FILE_MAX_BYTES, log));
    shoal_probe_message message = {0};
    shoal_status status =
        shoal_probe_message_unpack(&message, (const uint8_t *)text, n_bytes, path, log);
    free(text);
    if (status == SHOAL_OK)
        status = shoal_cluster_of_probe(cluster, &message, base_name(path), log);
    shoal_probe_message_close(&message);
    return status;
}

static shoal_status write_bytes(const char *path, const uint8_t *bytes, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        return SHOAL_IO;
    bool whole = fwrite(bytes, 1, n_bytes, file) == n_bytes;
    whole = fflush(file) == 0 && whole;
    whole = fsync(fileno(file)) == 0 && whole;
    const int error = errno;
    if (fclose(file) == 0 && whole)
        return SHOAL_OK;
    unlink(path);
    errno = error;
    return SHOAL_IO;
}

shoal_status shoal_cluster_write_probe(const shoal_probe_message *message, const char *path,
                                       shoal_log *log)
{
    uint8_t *bytes;
    size_t n_bytes;
    SHOAL_TRY(shoal_probe_message_pack(&bytes, &n_bytes, message, log));
    const size_t n_path = strlen(path) + sizeof ".new";
    char *path_new = malloc(n_path);
    if (path_new == NULL) {
        free(bytes);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to write %s", path);
    }
    snprintf(path_new, n_path, "%s.new", path);
    shoal_status status = write_bytes(path_new, bytes, n_bytes);
    if (status == SHOAL_OK && rename(path_new, path) != 0)
        status = SHOAL_IO;
    if (status != SHOAL_OK) {
        status = shoal_fail(log, status, "%s could not be written: %s", path, strerror(errno));
        unlink(path_new);
    }
    free(path_new);
    free(bytes);
    return status;
}
