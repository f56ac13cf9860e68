#include "runtime/checkpoint/upload.h"

#include "runtime/kernels/device.h"

#include <string.h>

enum { ALIGN = 64, LEAST_BYTES = 64 << 10, COPY_BYTES = 8 << 20, TILE_BYTES = 256 << 10 };

static size_t aligned(size_t n_bytes)
{
    return (n_bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t shoal_upload_buffer_bytes(uint64_t n_bytes)
{
    if (n_bytes > SHOAL_UPLOAD_BYTES)
        return SHOAL_UPLOAD_BYTES;
    return n_bytes > LEAST_BYTES ? aligned((size_t)n_bytes) : LEAST_BYTES;
}

shoal_status shoal_upload_open(shoal_upload *upload, const shoal_compute *compute, size_t n_bytes,
                               shoal_log *log)
{
    shoal_device *device = compute->device;
    shoal_upload u = {.compute = compute, .log = log, .n_bytes = n_bytes};
    for (int32_t i = 0; i < 2; i++)
        u.buffer[i] = device->ops->take(device, SHOAL_MEMORY_HOST, n_bytes);
    if (u.buffer[0] == NULL || u.buffer[1] == NULL) {
        shoal_upload_close(&u);
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "no pinned memory to load weights to %s through: wanted 2 buffers of %zu "
                          "bytes",
                          device->info.id, n_bytes);
    }
    *upload = u;
    return SHOAL_OK;
}

void shoal_upload_close(shoal_upload *upload)
{
    if (upload->compute != NULL) {
        shoal_device *device = upload->compute->device;
        (void)shoal_op_sync(upload->compute); /* what failed has been said */
        for (int32_t i = 0; i < 2; i++)
            if (upload->buffer[i] != NULL)
                device->ops->give_back(device, SHOAL_MEMORY_HOST, upload->buffer[i]);
    }
    *upload = (shoal_upload){0};
}

/* To the other buffer, when the device has read what was in it. */
static shoal_status turn(shoal_upload *u)
{
    (void)shoal_op_mark(u->compute, u->current);
    u->is_marked[u->current] = true;
    u->current = 1 - u->current;
    u->used_bytes = 0;
    return u->is_marked[u->current] ? shoal_op_wait(u->compute, u->current) : SHOAL_OK;
}

shoal_status shoal_upload_room(void **room, shoal_upload *upload, size_t n_bytes)
{
    if (n_bytes > upload->n_bytes)
        return shoal_fail(upload->log, SHOAL_NO_MEMORY,
                          "%zu bytes of weights are to be uploaded to %s in one piece; at most %zu "
                          "can be",
                          n_bytes, upload->compute->device->info.id, upload->n_bytes);
    if (n_bytes > upload->n_bytes - upload->used_bytes)
        SHOAL_TRY(turn(upload));
    *room = upload->buffer[upload->current] + upload->used_bytes;
    const size_t used = upload->used_bytes + aligned(n_bytes);
    upload->used_bytes = used < upload->n_bytes ? used : upload->n_bytes;
    return SHOAL_OK;
}

void shoal_upload_send(shoal_upload *upload, void *to, const void *room, size_t n_bytes)
{
    if (n_bytes > 0)
        shoal_op_upload(upload->compute, to, n_bytes, room, n_bytes, n_bytes, 1);
}

typedef struct copy_job {
    unsigned char *to;
    const unsigned char *from;
    size_t n_bytes;
} copy_job;

static void copy_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const copy_job *job = arg;
    const size_t at = (size_t)tile * TILE_BYTES;
    memcpy(job->to + at, job->from + at,
           job->n_bytes - at < TILE_BYTES ? job->n_bytes - at : TILE_BYTES);
}

shoal_status shoal_upload_copy(shoal_upload *upload, void *to, const void *from, size_t n_bytes,
                               void (*poll)(void *arg), void *poll_arg)
{
    const size_t most = upload->n_bytes < COPY_BYTES ? upload->n_bytes : COPY_BYTES;
    for (size_t at = 0; at < n_bytes; at += most) {
        const size_t n = n_bytes - at < most ? n_bytes - at : most;
        void *room;
        SHOAL_TRY(shoal_upload_room(&room, upload, n));
        copy_job job = {.to = room, .from = (const unsigned char *)from + at, .n_bytes = n};
        shoal_pool_run(upload->compute->pool, copy_tile, &job,
                       (int32_t)((n + TILE_BYTES - 1) / TILE_BYTES));
        shoal_upload_send(upload, (unsigned char *)to + at, room, n);
        if (poll != NULL)
            poll(poll_arg);
    }
    return SHOAL_OK;
}

shoal_status shoal_upload_finish(shoal_upload *upload)
{
    return shoal_op_sync(upload->compute);
}
