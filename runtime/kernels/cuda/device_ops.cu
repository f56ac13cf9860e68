/* The table of operations: each enqueues its kernels, if nothing has failed before. Small host
 * arrays that callers use again at once travel through the ring. */
#include "runtime/kernels/cuda/device.cuh"

#include <string.h>

namespace
{

/* launch(stream), unless something has failed; notes whether it does. */
template <typename Launch>
void enqueue(shoal_device *device, const char *what, const Launch &launch)
{
    shoal__cuda_device *d = shoal__cuda(device);
    if (d->status == SHOAL_OK)
        shoal__cuda_fine(d, what, launch(d->stream));
}

void matmul_many(shoal_device *device, const shoal_matmul_item *item, int32_t n_item)
{
    shoal__cuda_device *d = shoal__cuda(device);
    const int32_t n_max = (int32_t)(d->ring.room_bytes / sizeof(shoal_cuda_item));
    shoal__cuda_piece piece;
    for (int32_t i = 0; i < n_item; i += n_max) {
        const int32_t n = n_item - i < n_max ? n_item - i : n_max;
        if (!shoal__cuda_cut(&piece, d, (size_t)n * sizeof(shoal_cuda_item)))
            return;
        const shoal_cuda_items room = {static_cast<shoal_cuda_item *>(piece.host),
                                       static_cast<shoal_cuda_item *>(piece.device)};
        enqueue(device, "matrix products", [&](cudaStream_t stream) {
            return shoal_cuda_matmul_many(&room, item + i, n, d->precise, stream);
        });
    }
}

void to_groups(shoal_device *device, shoal_int8_group *y, int64_t ld_y, const float *x,
               int64_t ld_x, int32_t n_row, int32_t n_col)
{
    enqueue(device, "rows to integers", [&](cudaStream_t stream) {
        return shoal_cuda_to_groups(y, ld_y, {x, ld_x, n_row, n_col}, nullptr, nullptr, stream);
    });
}

void rms_norm(shoal_device *device, float *y, int64_t ld_y, const float *x, int64_t ld_x,
              const float *weight, int32_t n_row, int32_t n_col, float eps)
{
    enqueue(device, "a norm", [&](cudaStream_t stream) {
        return shoal_cuda_rms_norm(y, ld_y, {x, ld_x, n_row, n_col}, weight, eps, stream);
    });
}

void activate(shoal_device *device, const shoal_activation *activation, float *y, const float *gate,
              const float *up, int64_t n)
{
    enqueue(device, "an activation", [&](cudaStream_t stream) {
        return shoal_cuda_activate(y, gate, up, n, activation, stream);
    });
}

void activate_groups(shoal_device *device, const shoal_activation *activation, shoal_int8_group *y,
                     int64_t ld_y, const float *gate, const float *up, int64_t ld, int32_t n_row,
                     int32_t n_col)
{
    enqueue(device, "an activation", [&](cudaStream_t stream) {
        return shoal_cuda_to_groups(y, ld_y, {gate, ld, n_row, n_col}, up, activation, stream);
    });
}

void scale(shoal_device *device, float *y, float a, int64_t n)
{
    enqueue(device, "a scaling",
            [&](cudaStream_t stream) { return shoal_cuda_scale(y, a, n, stream); });
}

void add_residual(shoal_device *device, float *x, float *acc, const float *shared, float multiplier,
                  int64_t n)
{
    enqueue(device, "a residual", [&](cudaStream_t stream) {
        return shoal_cuda_add_residual(x, acc, shared, multiplier, n, stream);
    });
}

void gate_rows(shoal_device *device, float *y, float *gate, int32_t n_row, int32_t n_col)
{
    enqueue(device, "a gate", [&](cudaStream_t stream) {
        return shoal_cuda_gate_rows(y, gate, n_row, n_col, stream);
    });
}

/* Where the rows of a step stand, as the device reads it: in the host's memory if they are few,
 * else a copy, since every block of a kernel looks. NULL: something has failed. */
const shoal_place *places(shoal__cuda_device *d, const shoal_place *place, int32_t n)
{
    enum { IN_PLACE = 64 };
    const size_t n_bytes = (size_t)n * sizeof *place;
    shoal__cuda_piece piece;
    if (n <= IN_PLACE || n_bytes > d->ring.room_bytes)
        return place;
    if (!shoal__cuda_cut(&piece, d, n_bytes))
        return nullptr;
    const cudaError_t error =
        cudaMemcpyAsync(piece.device, place, n_bytes, cudaMemcpyHostToDevice, d->stream);
    return shoal__cuda_fine(d, "places", error) ? static_cast<const shoal_place *>(piece.device)
                                                : nullptr;
}

void place_heads(shoal_device *device, const shoal_place_heads *step)
{
    enqueue(device, "heads",
            [&](cudaStream_t stream) { return shoal_cuda_place_heads(step, step->place, stream); });
}

void place_latent(shoal_device *device, const shoal_place_latent *step)
{
    enqueue(device, "latents", [&](cudaStream_t stream) {
        return shoal_cuda_place_latent(step, step->place, stream);
    });
}

void attend(shoal_device *device, const shoal_attend *a)
{
    const shoal_place *place = places(shoal__cuda(device), a->place, a->n_token);
    enqueue(device, "attention",
            [&](cudaStream_t stream) { return shoal_cuda_attend(a, place, stream); });
}

void route(shoal_device *device, const shoal_route_step *step)
{
    enqueue(device, "the router's choice",
            [&](cudaStream_t stream) { return shoal_cuda_route(step, stream); });
}

void largest(shoal_device *device, const shoal_largest *l)
{
    enqueue(device, "the largest logits",
            [&](cudaStream_t stream) { return shoal_cuda_largest(l, stream); });
}

/* The lists are read in place, from a piece of the ring: each row looks once. */
void gather(shoal_device *device, const shoal_gather *all)
{
    shoal__cuda_device *d = shoal__cuda(device);
    const int32_t n_list = all->to != nullptr ? 2 : 1;
    const int32_t n_max = (int32_t)(d->ring.room_bytes / sizeof(int32_t)) / n_list;
    const int64_t n_group = shoal_int8_groups(all->n_col);
    shoal__cuda_piece piece;
    for (int32_t i = 0; i < all->n_row; i += n_max) {
        shoal_gather some = *all;
        some.n_row = all->n_row - i < n_max ? all->n_row - i : n_max;
        const size_t list_bytes = (size_t)some.n_row * sizeof(int32_t);
        if (!shoal__cuda_cut(&piece, d, list_bytes * (size_t)n_list))
            return;
        int32_t *list = static_cast<int32_t *>(piece.host);
        memcpy(list, all->row + i, list_bytes);
        some.row = list;
        if (all->to != nullptr) {
            memcpy(list + some.n_row, all->to + i, list_bytes);
            some.to = list + some.n_row;
        } else {
            some.f32 = all->f32 != nullptr ? all->f32 + (int64_t)i * all->n_col : nullptr;
            some.int8 = all->int8 != nullptr ? all->int8 + i * n_group : nullptr;
        }
        enqueue(device, "rows brought together",
                [&](cudaStream_t stream) { return shoal_cuda_gather(&some, stream); });
    }
}

void pack_rows(shoal_device *device, const shoal_pack *pack)
{
    enqueue(device, "rows to be sent",
            [&](cudaStream_t stream) { return shoal_cuda_pack_rows(pack, stream); });
}

void pack_sums(shoal_device *device, const shoal_pack_sums *pack)
{
    enqueue(device, "sums to be sent",
            [&](cudaStream_t stream) { return shoal_cuda_pack_sums(pack, stream); });
}

void unpack_rows(shoal_device *device, const shoal_unpack *unpack)
{
    enqueue(device, "rows that have come",
            [&](cudaStream_t stream) { return shoal_cuda_unpack_rows(unpack, stream); });
}

void sum_rows(shoal_device *device, const shoal_sum *sum)
{
    enqueue(device, "results that have come",
            [&](cudaStream_t stream) { return shoal_cuda_sum_rows(sum, stream); });
}

void upload(shoal_device *device, void *to, size_t to_pitch, const void *from, size_t from_pitch,
            size_t n_bytes, int32_t n_row)
{
    const bool whole = n_row == 1 || (to_pitch == n_bytes && from_pitch == n_bytes);
    if (n_bytes == 0 || n_row <= 0)
        return;
    enqueue(device, "an upload", [&](cudaStream_t stream) {
        return whole ? cudaMemcpyAsync(to, from, n_bytes * (size_t)n_row, cudaMemcpyHostToDevice,
                                       stream)
                     : cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, n_bytes, (size_t)n_row,
                                         cudaMemcpyHostToDevice, stream);
    });
}

void fetch(shoal_device *device, void *to, const void *from, size_t n_bytes)
{
    if (n_bytes == 0)
        return;
    enqueue(device, "a download", [&](cudaStream_t stream) {
        return cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToHost, stream);
    });
}

} // namespace

/* In the order of the table (device.h). */
extern const shoal_device_ops shoal__cuda_ops = {
    matmul_many,
    to_groups,
    rms_norm,
    activate,
    activate_groups,
    scale,
    add_residual,
    gate_rows,
    place_heads,
    place_latent,
    attend,
    route,
    largest,
    gather,
    pack_rows,
    pack_sums,
    unpack_rows,
    sum_rows,
    upload,
    fetch,
    shoal__cuda_run_next,
    shoal__cuda_mark,
    shoal__cuda_wait,
    shoal__cuda_sync,
    shoal__cuda_take,
    shoal__cuda_give_back,
    shoal__cuda_read_gb_per_s,
    shoal__cuda_close,
    shoal__cuda_side_open,
    shoal__cuda_side_mark,
    shoal__cuda_side_reached,
};
