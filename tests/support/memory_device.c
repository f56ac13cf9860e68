#include "tests/support/memory_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { N_PIECE_MAX = 256, N_QUEUE_MAX = 1 << 16 };

typedef struct piece {
    void *memory;
    size_t n_bytes, n_mapped;
    shoal_memory kind;
} piece;

/* A copy, or with to == NULL the mark `mark`. */
typedef struct queued {
    void *to;
    const void *from;
    size_t to_pitch, from_pitch, n_bytes;
    int32_t n_row, mark;
} queued;

struct shoal_memory_device {
    shoal_device base;
    shoal_memory_device_config config;
    shoal_memory_device_counts count;
    piece piece[N_PIECE_MAX];
    queued *queue; /* [N_QUEUE_MAX], [first, n) still to be done */
    int32_t first, n;
};

static shoal_memory_device *of(shoal_device *device)
{
    return (shoal_memory_device *)device;
}

static void protect(shoal_memory_device *d, int how)
{
    for (int32_t i = 0; i < N_PIECE_MAX; i++)
        if (d->piece[i].memory != NULL && d->piece[i].kind == SHOAL_MEMORY_DEVICE)
            (void)mprotect(d->piece[i].memory, d->piece[i].n_mapped, how);
}

static bool has_failed(const shoal_memory_device *d)
{
    return d->config.n_upload_good >= 0 && d->count.n_upload > d->config.n_upload_good;
}

/* What is enqueued up to the latest mark, or all with mark < 0. */
static shoal_status run(shoal_memory_device *d, int32_t mark)
{
    int32_t end = d->n;
    while (mark >= 0 && end > d->first &&
           (d->queue[end - 1].to != NULL || d->queue[end - 1].mark != mark))
        end--;
    if (end > d->first) {
        protect(d, PROT_READ | PROT_WRITE);
        for (; d->first < end; d->first++) {
            const queued *q = &d->queue[d->first];
            for (int32_t r = 0; r < q->n_row && q->to != NULL && !has_failed(d); r++)
                memcpy((unsigned char *)q->to + (size_t)r * q->to_pitch,
                       (const unsigned char *)q->from + (size_t)r * q->from_pitch, q->n_bytes);
        }
        protect(d, PROT_NONE);
    }
    if (d->first == d->n)
        d->first = d->n = 0;
    return has_failed(d) ? SHOAL_UNAVAILABLE : SHOAL_OK;
}

static void enqueue(shoal_memory_device *d, queued q)
{
    if (d->n == N_QUEUE_MAX)
        (void)run(d, -1);
    d->queue[d->n++] = q;
}

static void upload(shoal_device *device, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t n_bytes, int32_t n_row)
{
    shoal_memory_device *d = of(device);
    d->count.n_upload++;
    enqueue(d, (queued){.to = to,
                        .from = from,
                        .to_pitch = to_pitch,
                        .from_pitch = from_pitch,
                        .n_bytes = n_bytes,
                        .n_row = n_row});
}

static void fetch(shoal_device *device, void *to, const void *from, size_t n_bytes)
{
    enqueue(of(device), (queued){.to = to, .from = from, .n_bytes = n_bytes, .n_row = 1});
}

static bool mark(shoal_device *device, int32_t i)
{
    shoal_memory_device *d = of(device);
    const bool all_done = d->first == d->n;
    enqueue(d, (queued){.mark = i % SHOAL_N_MARK});
    return all_done;
}

static shoal_status wait_for(shoal_device *device, int32_t i)
{
    return run(of(device), i % SHOAL_N_MARK);
}

static shoal_status sync_all(shoal_device *device)
{
    return run(of(device), -1);
}

static void *take(shoal_device *device, shoal_memory kind, size_t n_bytes)
{
    shoal_memory_device *d = of(device);
    const bool in_device = kind == SHOAL_MEMORY_DEVICE;
    size_t *taken = in_device ? &d->count.device_bytes : &d->count.pinned_bytes;
    const size_t limit = in_device ? d->config.memory_bytes : d->config.pinned_bytes;
    const size_t n_mapped = (n_bytes + 4095) / 4096 * 4096;
    int32_t at = 0;
    while (at < N_PIECE_MAX && d->piece[at].memory != NULL)
        at++;
    if (at == N_PIECE_MAX || *taken + n_bytes > limit)
        return NULL;
    void *memory = mmap(NULL, n_mapped, in_device ? PROT_NONE : PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    d->piece[at] = (piece){memory, n_bytes, n_mapped, kind};
    *taken += n_bytes;
    if (d->count.pinned_bytes > d->count.pinned_bytes_max)
        d->count.pinned_bytes_max = d->count.pinned_bytes;
    return memory;
}

/* What is still enqueued would use it: a bug of the caller. */
static void check_unused(const shoal_memory_device *d, const piece *p)
{
    const unsigned char *from = p->memory, *end = from + p->n_bytes;
    for (int32_t i = d->first; i < d->n; i++) {
        const unsigned char *a = d->queue[i].to, *b = d->queue[i].from;
        if ((a >= from && a < end) || (b >= from && b < end)) {
            fprintf(stderr, "memory_device: memory is given back while it is in use\n");
            abort();
        }
    }
}

static void give_back(shoal_device *device, shoal_memory kind, void *memory)
{
    shoal_memory_device *d = of(device);
    for (int32_t i = 0; i < N_PIECE_MAX; i++) {
        piece *p = &d->piece[i];
        if (p->memory != memory || p->kind != kind)
            continue;
        check_unused(d, p);
        munmap(p->memory, p->n_mapped);
        *(kind == SHOAL_MEMORY_DEVICE ? &d->count.device_bytes : &d->count.pinned_bytes) -=
            p->n_bytes;
        *p = (piece){0};
        return;
    }
    fprintf(stderr, "memory_device: memory is given back that was not taken\n");
    abort();
}

static void close_device(shoal_device *device)
{
    shoal_memory_device *d = of(device);
    for (int32_t i = 0; i < N_PIECE_MAX; i++)
        if (d->piece[i].memory != NULL)
            munmap(d->piece[i].memory, d->piece[i].n_mapped);
    free(d->queue);
    free(d);
}

static const shoal_device_ops ops = {
    .upload = upload,
    .fetch = fetch,
    .mark = mark,
    .wait = wait_for,
    .sync = sync_all,
    .take = take,
    .give_back = give_back,
    .close = close_device,
};

shoal_memory_device *shoal_memory_device_open(const shoal_memory_device_config *config)
{
    shoal_memory_device *d = calloc(1, sizeof *d);
    queued *queue = calloc(N_QUEUE_MAX, sizeof *queue);
    if (d == NULL || queue == NULL)
        abort();
    d->base.ops = &ops;
    snprintf(d->base.info.id, sizeof d->base.info.id, "memory:0");
    snprintf(d->base.info.name, sizeof d->base.info.name, "memory that moves");
    d->base.info.memory_bytes = d->base.info.free_bytes = config->memory_bytes;
    d->config = *config;
    d->queue = queue;
    return d;
}

shoal_device *shoal_memory_device_of(shoal_memory_device *d)
{
    return &d->base;
}

void shoal_memory_device_show(shoal_memory_device *d, bool is_open)
{
    protect(d, is_open ? PROT_READ : PROT_NONE);
}

shoal_memory_device_counts shoal_memory_device_count(const shoal_memory_device *d)
{
    return d->count;
}
