/* A CUDA device at work: waiting for it, what is said when it fails, its ring, marks and memory. */
#include "runtime/kernels/cuda/device.cuh"

extern "C" {
#include "runtime/base/clock.h"
}

#include <sched.h>
#include <string.h>

namespace
{

enum {
    SPINS = 200, /* polls before others of this host get a turn, too */
    LOOK = 256   /* polls between two looks at the clock */
};

void give_turn(shoal__cuda_device *d, int64_t spin)
{
    if (d->pool != nullptr)
        shoal_pool_poll(d->pool);
    if (spin >= SPINS)
        sched_yield();
}

/* Called between polls: since when it is waited, and whether for too long. */
void look_at_clock(shoal__cuda_device *d, int64_t *since_us)
{
    const int64_t now_us = shoal_clock_us();
    if (*since_us == 0)
        *since_us = now_us;
    if (d->patience_us == 0 || now_us - *since_us <= d->patience_us)
        return;
    d->hung = true;
    d->status =
        shoal_fail(d->log, SHOAL_UNAVAILABLE,
                   "device %s (%s, %s) has not ended what it was given for %.1f s: it hangs; "
                   "%s",
                   d->info.id, d->info.name, d->info.bus_id, (double)d->patience_us / 1e6,
                   shoal__cuda_advice(cudaErrorNotReady));
}

/* Poll until `query`, a call of the runtime, no longer says that it is not ready. */
template <typename Query> void await(shoal__cuda_device *d, const Query &query)
{
    int64_t since_us = 0;
    for (int64_t spin = 1; d->status == SHOAL_OK; spin++) {
        const cudaError_t error = query();
        if (error != cudaErrorNotReady) {
            shoal__cuda_fine(d, "waiting", error);
            return;
        }
        (void)cudaGetLastError(); /* "not ready" is not to be found by others */
        give_turn(d, spin);
        if (spin % LOOK == 0)
            look_at_clock(d, &since_us);
    }
}

} // namespace

const char *shoal__cuda_advice(cudaError_t error)
{
    switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
        return "this is a bug of Shoal if the device is well: please report it; `dmesg | grep -i "
               "xid` tells what the driver saw";
    case cudaErrorMemoryAllocation:
        return "another process may have taken memory (nvidia-smi shows who has it)";
    default:
        return "it may have fallen off the bus, or been reset: `dmesg | grep -i xid` tells what "
               "the driver saw; check its power and its slot, or go on without it (--device cpu)";
    }
}

bool shoal__cuda_fine(shoal__cuda_device *d, const char *what, cudaError_t error)
{
    if (error != cudaSuccess && d->status == SHOAL_OK)
        d->status = shoal_fail(d->log, SHOAL_UNAVAILABLE,
                               "device %s (%s, %s) failed, found at %s: %s (%s); %s", d->info.id,
                               d->info.name, d->info.bus_id, what, cudaGetErrorString(error),
                               cudaGetErrorName(error), shoal__cuda_advice(error));
    return d->status == SHOAL_OK;
}

bool shoal__cuda_happened(shoal__cuda_device *d, const char *what, cudaEvent_t event)
{
    const cudaError_t error = cudaEventQuery(event);
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* "not ready" is not to be found by others */
        return false;
    }
    return shoal__cuda_fine(d, what, error);
}

void shoal__cuda_await(shoal__cuda_device *d, cudaEvent_t event)
{
    await(d, [event] { return cudaEventQuery(event); });
}

bool shoal__cuda_cut(shoal__cuda_piece *piece, shoal__cuda_device *d, size_t n_bytes)
{
    shoal__cuda_ring *ring = &d->ring;
    n_bytes = (n_bytes + 255) / 256 * 256;
    if (d->graphs.recorded != nullptr)
        return shoal__cuda_cut_kept(piece, d, n_bytes);
    if (d->status == SHOAL_OK && ring->used_bytes + n_bytes > ring->room_bytes) {
        shoal__cuda_fine(d, "an event", cudaEventRecord(ring->passed[ring->room], d->stream));
        ring->under_way[ring->room] = true;
        ring->room = (ring->room + 1) % SHOAL__N_ROOM;
        ring->used_bytes = 0;
        if (ring->under_way[ring->room])
            shoal__cuda_await(d, ring->passed[ring->room]);
        ring->under_way[ring->room] = false;
    }
    if (d->status != SHOAL_OK)
        return false;
    const size_t at = (size_t)ring->room * ring->room_bytes + ring->used_bytes;
    ring->used_bytes += n_bytes;
    *piece = {ring->host + at, ring->device + at};
    return true;
}

bool shoal__cuda_mark(shoal_device *device, int32_t i)
{
    shoal__cuda_device *d = shoal__cuda(device);
    cudaEvent_t event = d->mark[(uint32_t)i % SHOAL_N_MARK];
    if (d->status != SHOAL_OK ||
        !shoal__cuda_fine(d, "an event", cudaEventRecord(event, d->stream)))
        return false;
    return shoal__cuda_happened(d, "an event", event);
}

shoal_status shoal__cuda_wait(shoal_device *device, int32_t i)
{
    shoal__cuda_device *d = shoal__cuda(device);
    shoal__cuda_await(d, d->mark[(uint32_t)i % SHOAL_N_MARK]);
    return d->status;
}

shoal_status shoal__cuda_sync(shoal_device *device)
{
    shoal__cuda_device *d = shoal__cuda(device);
    await(d, [d] { return cudaStreamQuery(d->stream); });
    return d->status;
}

void *shoal__cuda_take(shoal_device *device, shoal_memory kind, size_t n_bytes)
{
    shoal__cuda_device *d = shoal__cuda(device);
    void *memory = nullptr;
    const size_t n = n_bytes > 0 ? n_bytes : 1;
    if (d->status != SHOAL_OK)
        return nullptr;
    const cudaError_t error = kind == SHOAL_MEMORY_HOST
                                  ? cudaHostAlloc(&memory, n, cudaHostAllocPortable)
                                  : cudaMalloc(&memory, n);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return nullptr;
    }
    if (!shoal__cuda_fine(d, "memory", error))
        return nullptr;
    if (kind == SHOAL_MEMORY_HOST)
        memset(memory, 0, n);
    else
        shoal__cuda_fine(d, "memory", cudaMemsetAsync(memory, 0, n, d->stream));
    return memory;
}

void shoal__cuda_give_back(shoal_device *device, shoal_memory kind, void *memory)
{
    (void)shoal__cuda_sync(device); /* what is under way may still use it */
    if (shoal__cuda(device)->hung)
        return;
    if (kind == SHOAL_MEMORY_HOST)
        cudaFreeHost(memory);
    else
        cudaFree(memory);
    (void)cudaGetLastError(); /* of a device that has failed, and was said then */
}

double shoal__cuda_read_gb_per_s(shoal_device *device, const void *from, size_t n_bytes)
{
    enum { REPEAT = 4, BLOCKS = 4 /* of 512 threads, of a multiprocessor */ };
    shoal__cuda_device *d = shoal__cuda(device);
    const int32_t n_block = BLOCKS * d->n_multiprocessor;
    float best_ms = 0.0F;
    for (int i = 0; i < REPEAT && d->status == SHOAL_OK; i++) {
        float ms = 0.0F;
        cudaError_t error = cudaEventRecord(d->begin, d->stream);
        if (error == cudaSuccess)
            error = shoal_cuda_read(reinterpret_cast<uint32_t *>(d->ring.device), from, n_bytes,
                                    n_block, d->stream);
        if (error == cudaSuccess)
            error = cudaEventRecord(d->end, d->stream);
        shoal__cuda_fine(d, "reading memory", error);
        shoal__cuda_await(d, d->end);
        if (d->status == SHOAL_OK)
            shoal__cuda_fine(d, "reading memory", cudaEventElapsedTime(&ms, d->begin, d->end));
        if (i > 0 && (best_ms == 0.0F || ms < best_ms)) /* the first warms up */
            best_ms = ms;
    }
    return d->status == SHOAL_OK && best_ms > 0.0F ? (double)n_bytes / 1e6 / (double)best_ms : 0.0;
}

/* ---- the stream beside ---- */

namespace
{

/* Made when it is first asked for. */
cudaError_t make_side(shoal__cuda_device *d)
{
    cudaError_t error = cudaStreamCreateWithFlags(&d->side, cudaStreamNonBlocking);
    for (int i = 0; i < SHOAL_SIDE_MARKS && error == cudaSuccess; i++)
        error = cudaEventCreateWithFlags(&d->side_mark[i], cudaEventDisableTiming);
    return error;
}

} // namespace

shoal_status shoal__cuda_side_open(void **stream, shoal_device *device)
{
    shoal__cuda_device *d = shoal__cuda(device);
    if (d->status == SHOAL_OK && shoal__cuda_fine(d, "a stream", cudaSetDevice(d->index)) &&
        d->side == nullptr)
        shoal__cuda_fine(d, "a stream", make_side(d));
    if (d->status == SHOAL_OK)
        *stream = d->side;
    return d->status;
}

shoal_status shoal__cuda_side_mark(shoal_device *device, int32_t i)
{
    shoal__cuda_device *d = shoal__cuda(device);
    if (d->status == SHOAL_OK)
        shoal__cuda_fine(d, "an exchange", cudaEventRecord(d->side_mark[i], d->side));
    return d->status;
}

shoal_status shoal__cuda_side_reached(bool *reached, shoal_device *device, int32_t i)
{
    shoal__cuda_device *d = shoal__cuda(device);
    if (d->status != SHOAL_OK)
        return d->status;
    const bool is = shoal__cuda_happened(d, "an exchange", d->side_mark[i]);
    if (d->status == SHOAL_OK)
        *reached = is;
    return d->status;
}
