/* Recorded runs (ops.h): a graph for each key, launched instead of its operations from the third
 * time on. The first time they are enqueued as ever, which also brings their kernels to the device;
 * the second time they are recorded. What small arrays they carry stays in a store of its own.
 * Where table or store is full all graphs are forgotten. A driver that cannot record is not asked
 * again.
 */
#include "runtime/kernels/cuda/device.cuh"

#include <stdlib.h>
#include <string.h>

namespace
{

enum turn { FRESH, PLAIN, RECORDING };
enum {
    N_RUN = 4096,           /* places of the table, a power of two */
    STORE_BYTES = 4 << 20,  /* of pinned memory, and as much of the device's */
    STORE_LEFT = 256 << 10, /* for one run */
    FEW_ROWS = 64           /* with more, kernels take longer than their launches */
};

uint32_t hash_of(const shoal_op_key &key)
{
    const int32_t part[] = {key.what, key.layer, key.row0, key.n_row, key.n_seen};
    uint32_t h = 2166136261U;
    for (int32_t p : part)
        h = (h ^ (uint32_t)p) * 16777619U;
    return h ^ h >> 15;
}

bool same(const shoal_op_key &a, const shoal_op_key &b)
{
    return a.what == b.what && a.layer == b.layer && a.row0 == b.row0 && a.n_row == b.n_row &&
           a.n_seen == b.n_seen;
}

/* All graphs go; those that are under way have happened before. */
void forget(shoal__cuda_device *d)
{
    shoal__cuda_graphs *g = &d->graphs;
    (void)shoal__cuda_sync(d);
    for (int32_t i = 0; i < N_RUN; i++)
        if (g->run[i].graph != nullptr)
            (void)cudaGraphExecDestroy(g->run[i].graph);
    memset(g->run, 0, N_RUN * sizeof *g->run);
    g->n_run = 0;
    g->used_bytes = 0;
}

/* The place of a key, made where there is none yet. */
shoal__cuda_run *place_of(shoal__cuda_device *d, const shoal_op_key &key)
{
    shoal__cuda_graphs *g = &d->graphs;
    if (g->n_run >= N_RUN / 4 * 3 || g->used_bytes + STORE_LEFT > STORE_BYTES)
        forget(d);
    uint32_t at = hash_of(key);
    while (g->run[at % N_RUN].known && !same(g->run[at % N_RUN].key, key))
        at++;
    shoal__cuda_run *run = &g->run[at % N_RUN];
    if (!run->known) {
        *run = {key, true, false, nullptr};
        g->n_run++;
    }
    return run;
}

/* Recording ends; what was recorded becomes the run's graph. False: it cannot. */
bool keep(shoal__cuda_device *d, shoal__cuda_run *run)
{
    cudaGraph_t graph = nullptr;
    cudaError_t error = cudaStreamEndCapture(d->stream, &graph);
    d->graphs.recorded = nullptr;
    if (error == cudaSuccess && !d->graphs.overflown)
        error = cudaGraphInstantiate(&run->graph, graph, 0);
    if (graph != nullptr)
        (void)cudaGraphDestroy(graph);
    return error == cudaSuccess && !d->graphs.overflown;
}

bool launch(shoal__cuda_device *d, const shoal__cuda_run *run)
{
    shoal__cuda_fine(d, "a recorded run", cudaGraphLaunch(run->graph, d->stream));
    return false;
}

/* Without graphs from now on: the operations are enqueued as ever. */
bool give_up(shoal__cuda_device *d, shoal_op_run *turn)
{
    (void)cudaGetLastError();
    d->graphs.off = true;
    turn->turn = PLAIN;
    return true;
}

} // namespace

cudaError_t shoal__cuda_graphs_open(shoal__cuda_device *d)
{
    shoal__cuda_graphs *g = &d->graphs;
    g->run = static_cast<shoal__cuda_run *>(calloc(N_RUN, sizeof *g->run));
    if (g->run == nullptr)
        return cudaErrorMemoryAllocation;
    const cudaError_t error = cudaHostAlloc(&g->host, STORE_BYTES, cudaHostAllocPortable);
    return error == cudaSuccess ? cudaMalloc(&g->device, STORE_BYTES) : error;
}

void shoal__cuda_graphs_close(shoal__cuda_device *d)
{
    shoal__cuda_graphs *g = &d->graphs;
    if (g->run != nullptr)
        forget(d);
    cudaFree(g->device);
    cudaFreeHost(g->host);
    free(g->run);
}

bool shoal__cuda_cut_kept(shoal__cuda_piece *piece, shoal__cuda_device *d, size_t n_bytes)
{
    shoal__cuda_graphs *g = &d->graphs;
    g->overflown = g->overflown || g->used_bytes + n_bytes > STORE_BYTES;
    if (d->status != SHOAL_OK || g->overflown)
        return false;
    *piece = {g->host + g->used_bytes, g->device + g->used_bytes};
    g->used_bytes += n_bytes;
    return true;
}

bool shoal__cuda_run_next(shoal_device *device, shoal_op_run *turn)
{
    shoal__cuda_device *d = shoal__cuda(device);
    shoal__cuda_graphs *g = &d->graphs;
    if (turn->turn == RECORDING) {
        shoal__cuda_run *run = g->recorded;
        return keep(d, run) ? launch(d, run) : give_up(d, turn);
    }
    if (turn->turn == PLAIN || d->status != SHOAL_OK)
        return false;
    turn->turn = PLAIN;
    if (g->off || turn->key.n_row > FEW_ROWS)
        return true;
    shoal__cuda_run *run = place_of(d, turn->key);
    if (run->graph != nullptr)
        return launch(d, run);
    if (!run->seen) {
        run->seen = true;
        return true;
    }
    if (cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
        return give_up(d, turn);
    g->recorded = run;
    g->overflown = false;
    turn->turn = RECORDING;
    return true;
}
