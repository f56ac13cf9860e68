/* What a rank on a GPU says of it. The others measure their processors meanwhile; this rank's stays
 * quiet, as it does in a run. */
#include "launcher/memory_report.h"
#include "launcher/probe/measure.h"
#include "runtime/kernels/device.h"

#include <stdlib.h>
#include <string.h>

/* Read from its memory, which must be free; half, a quarter of it and less are tried. */
enum { READ_BYTES_MAX = 512 << 20, READ_BYTES_MIN = 1 << 20 };

/* The number of "cuda:3". */
static int32_t number_of(const char *id)
{
    const char *colon = strchr(id, ':');
    return colon != NULL ? (int32_t)strtol(colon + 1, NULL, 10) : 0;
}

static shoal_status read_memory(double *gb_per_s, shoal_device *device, shoal_log *log)
{
    size_t n_bytes = READ_BYTES_MAX;
    void *memory = device->ops->take(device, SHOAL_MEMORY_DEVICE, n_bytes);
    while (memory == NULL && n_bytes > READ_BYTES_MIN) {
        n_bytes /= 2;
        memory = device->ops->take(device, SHOAL_MEMORY_DEVICE, n_bytes);
    }
    if (memory == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "device %s (%s) has no memory free to measure with; nvidia-smi shows who "
                          "has it",
                          device->info.id, device->info.name);
    *gb_per_s = device->ops->read_gb_per_s(device, memory, n_bytes);
    device->ops->give_back(device, SHOAL_MEMORY_DEVICE, memory);
    return device->ops->sync(device);
}

shoal_status shoal_probe_gpu(shoal_probe_rank *rank, const shoal_probe_job *job)
{
    shoal_device *device = job->compute->device;
    const shoal_device_info *info = &device->info;
    rank->gpu = number_of(info->id);
    rank->memory_bytes = shoal_memory_room(info->free_bytes);
    snprintf(rank->device, sizeof rank->device, "%s", info->name);
    return read_memory(&rank->read_gb_per_s, device, job->log);
}
