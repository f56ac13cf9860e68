/* CUDA devices: found, opened, closed. */
#include "runtime/kernels/cuda/device.cuh"

#include <stdio.h>
#include <stdlib.h>

namespace
{

enum { VERSION_MIN = 86 }; /* compute capability, of the oldest that kernels are compiled for */

/* "12.4" from 12040. */
struct version_text {
    char text[16];
    explicit version_text(int version) : text()
    {
        snprintf(text, sizeof text, "%d.%d", version / 1000, version % 1000 / 10);
    }
};

/* Why the runtime finds no device. */
void explain_none(char *why, size_t n_why, cudaError_t error)
{
    int driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess)
        runtime = 0;
    const version_text has(driver), wants(runtime);
    if (driver == 0)
        snprintf(why, n_why,
                 "there is no NVIDIA driver here; one for CUDA %s or newer is wanted: install it, "
                 "or use --device cpu",
                 wants.text);
    else if (error == cudaErrorInsufficientDriver)
        snprintf(why, n_why,
                 "the NVIDIA driver is too old: it is made for CUDA %s, this program wants one for "
                 "CUDA %s or newer: update the driver (nvidia-smi shows its version), or use "
                 "--device cpu",
                 has.text, wants.text);
    else if (error == cudaErrorNoDevice || error == cudaSuccess)
        snprintf(why, n_why,
                 "the NVIDIA driver finds no device: nvidia-smi lists those that it has; "
                 "CUDA_VISIBLE_DEVICES may hide them, a container may lack them");
    else
        snprintf(why, n_why, "the NVIDIA driver gives no devices: %s (%s)",
                 cudaGetErrorString(error), cudaGetErrorName(error));
}

int32_t count(char *why, size_t n_why)
{
    int n = 0;
    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaSuccess && n > 0)
        return n;
    (void)cudaGetLastError();
    explain_none(why, n_why, error);
    return 0;
}

void bus_id(char text[32], int32_t index)
{
    text[0] = '\0';
    if (cudaDeviceGetPCIBusId(text, 32, index) != cudaSuccess)
        text[0] = '\0';
    (void)cudaGetLastError();
}

/* ---- opening ---- */

/* What is known of a device; the first that touches it, which takes the driver 0.2 s and more. */
cudaError_t find_out(shoal__cuda_device *d, int32_t index)
{
    cudaDeviceProp properties;
    size_t free_bytes = 0, all_bytes = 0;
    cudaError_t error = cudaSetDevice(index);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, index);
    if (error == cudaSuccess)
        error = cudaDeviceGetPCIBusId(d->info.bus_id, (int)sizeof d->info.bus_id, index);
    if (error == cudaSuccess)
        error = cudaMemGetInfo(&free_bytes, &all_bytes);
    if (error != cudaSuccess)
        return error;
    snprintf(d->info.name, sizeof d->info.name, "%.63s", properties.name);
    d->info.version = properties.major * 10 + properties.minor;
    d->info.memory_bytes = all_bytes;
    d->info.free_bytes = free_bytes;
    d->n_multiprocessor = properties.multiProcessorCount;
    return cudaSuccess;
}

cudaError_t make_events(shoal__cuda_device *d)
{
    cudaError_t error = cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking);
    for (int i = 0; i < SHOAL_N_MARK && error == cudaSuccess; i++)
        error = cudaEventCreateWithFlags(&d->mark[i], cudaEventDisableTiming);
    for (int i = 0; i < SHOAL__N_ROOM && error == cudaSuccess; i++)
        error = cudaEventCreateWithFlags(&d->ring.passed[i], cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&d->begin, cudaEventDefault);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&d->end, cudaEventDefault);
    return error;
}

cudaError_t make_ring(shoal__cuda_device *d, int32_t n_item)
{
    size_t n_bytes = (size_t)(n_item > 0 ? n_item : 0) * sizeof(shoal_cuda_item);
    n_bytes = n_bytes > SHOAL__ROOM_BYTES ? n_bytes : (size_t)SHOAL__ROOM_BYTES;
    d->ring.room_bytes = (n_bytes + 255) / 256 * 256;
    cudaError_t error =
        cudaHostAlloc(&d->ring.host, SHOAL__N_ROOM * d->ring.room_bytes, cudaHostAllocPortable);
    if (error == cudaSuccess)
        error = cudaMalloc(&d->ring.device, SHOAL__N_ROOM * d->ring.room_bytes);
    return error;
}

/* The device's own things; each may be missing. */
void release(shoal__cuda_device *d)
{
    if (d->hung) {
        free(d->graphs.run);
        free(d);
        return;
    }
    shoal__cuda_graphs_close(d);
    cudaFree(d->ring.device);
    cudaFreeHost(d->ring.host);
    for (int i = 0; i < SHOAL_N_MARK; i++)
        if (d->mark[i] != nullptr)
            cudaEventDestroy(d->mark[i]);
    for (int i = 0; i < SHOAL__N_ROOM; i++)
        if (d->ring.passed[i] != nullptr)
            cudaEventDestroy(d->ring.passed[i]);
    for (int i = 0; i < SHOAL_SIDE_MARKS; i++)
        if (d->side_mark[i] != nullptr)
            cudaEventDestroy(d->side_mark[i]);
    if (d->begin != nullptr)
        cudaEventDestroy(d->begin);
    if (d->end != nullptr)
        cudaEventDestroy(d->end);
    if (d->side != nullptr)
        cudaStreamDestroy(d->side);
    if (d->stream != nullptr)
        cudaStreamDestroy(d->stream);
    (void)cudaGetLastError();
    free(d);
}

shoal_status fill(shoal__cuda_device *d, int32_t index, const shoal_device_config *config)
{
    cudaError_t error = find_out(d, index);
    if (error == cudaSuccess && d->info.version < VERSION_MIN)
        return shoal_fail(
            d->log, SHOAL_UNAVAILABLE,
            "device cuda:%d (%s) has compute capability %d.%d, %d.%d (GeForce RTX 30) "
            "or newer is wanted; use --device cpu or another device",
            (int)index, d->info.name, (int)d->info.version / 10, (int)d->info.version % 10,
            VERSION_MIN / 10, VERSION_MIN % 10);
    if (error == cudaSuccess)
        error = make_events(d);
    if (error == cudaSuccess)
        error = make_ring(d, config->n_item);
    if (error == cudaSuccess)
        error = shoal__cuda_graphs_open(d);
    size_t free_bytes = 0, all_bytes = 0; /* behind what the device has taken for itself */
    if (error == cudaSuccess)
        error = cudaMemGetInfo(&free_bytes, &all_bytes);
    if (error == cudaSuccess) {
        d->info.free_bytes = free_bytes;
        return SHOAL_OK;
    }
    return shoal_fail(
        d->log, error == cudaErrorMemoryAllocation ? SHOAL_NO_MEMORY : SHOAL_UNAVAILABLE,
        "device cuda:%d cannot be opened: %s (%s); %s", (int)index, cudaGetErrorString(error),
        cudaGetErrorName(error), shoal__cuda_advice(error));
}

shoal_status open_device(shoal_device **device, int32_t index, const shoal_device_config *config,
                         shoal_log *log)
{
    char why[256];
    const int32_t n = count(why, sizeof why);
    if (n == 0)
        return shoal_fail(log, SHOAL_UNAVAILABLE, "device cuda:%d cannot be used: %s", (int)index,
                          why);
    if (index < 0 || index >= n)
        return shoal_fail(log, SHOAL_UNAVAILABLE,
                          "device cuda:%d is not there: this host has %d, cuda:0 to cuda:%d "
                          "(CUDA_VISIBLE_DEVICES may hide others)",
                          (int)index, (int)n, (int)n - 1);
    shoal__cuda_device *d = static_cast<shoal__cuda_device *>(calloc(1, sizeof *d));
    if (d == nullptr)
        return shoal_fail(log, SHOAL_NO_MEMORY, "device cuda:%d: no memory for its state",
                          (int)index);
    d->ops = &shoal__cuda_ops;
    d->log = log;
    d->pool = config->pool;
    d->precise = config->precise;
    d->patience_us = config->patience_us;
    d->index = index;
    d->status = SHOAL_OK;
    snprintf(d->info.id, sizeof d->info.id, "cuda:%d", (int)index);
    const shoal_status status = fill(d, index, config);
    if (status == SHOAL_OK)
        *device = d;
    else
        release(d);
    return status;
}

} // namespace

extern "C" const shoal_device_backend shoal_cuda_backend = {"cuda", count, bus_id, open_device};

void shoal__cuda_close(shoal_device *device)
{
    shoal__cuda_device *d = shoal__cuda(device);
    (void)shoal__cuda_sync(device);
    release(d);
}
