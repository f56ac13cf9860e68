/* A device that has nothing but a side stream, for tests of comm/nccl over the stand-in
 * (nccl_emu/nccl_emu.h): a queue of holds and marks. One for a process. */
#ifndef SHOAL_TESTS_SUPPORT_NCCL_DEVICE_H
#define SHOAL_TESTS_SUPPORT_NCCL_DEVICE_H

#include "runtime/kernels/device.h"
#include "tests/support/nccl_emu/nccl_emu.h"

#include <stdlib.h>
#include <string.h>

enum { NCCL_DEVICE_QUEUE = 128 };

typedef struct nccl_device {
    shoal_device base;
    struct {
        nccl_emu_ready_fn *ready; /* NULL: a mark */
        void *arg;
        int32_t mark;
    } queue[NCCL_DEVICE_QUEUE];
    int head, tail;
    bool reached[SHOAL_SIDE_MARKS];
} nccl_device;

__attribute__((visibility("default"))) void emu_stream_hold(void *stream, nccl_emu_ready_fn *ready,
                                                            void *arg);
void emu_stream_hold(void *stream, nccl_emu_ready_fn *ready, void *arg)
{
    nccl_device *d = stream;
    if (d->tail - d->head == NCCL_DEVICE_QUEUE)
        abort();
    int i = d->tail++ % NCCL_DEVICE_QUEUE;
    d->queue[i].ready = ready;
    d->queue[i].arg = arg;
}

static shoal_status nccl_device_open(void **stream, shoal_device *d)
{
    *stream = d;
    return SHOAL_OK;
}

static shoal_status nccl_device_mark(shoal_device *device, int32_t mark)
{
    nccl_device *d = (nccl_device *)device;
    emu_stream_hold(d, NULL, NULL);
    d->queue[(d->tail - 1) % NCCL_DEVICE_QUEUE].mark = mark;
    d->reached[mark] = false;
    return SHOAL_OK;
}

static shoal_status nccl_device_reached(bool *reached, shoal_device *device, int32_t mark)
{
    nccl_device *d = (nccl_device *)device;
    for (; d->head < d->tail; d->head++) {
        int i = d->head % NCCL_DEVICE_QUEUE;
        if (d->queue[i].ready == NULL)
            d->reached[d->queue[i].mark] = true;
        else if (!d->queue[i].ready(d->queue[i].arg))
            break;
    }
    *reached = d->reached[mark];
    return SHOAL_OK;
}

static void *nccl_device_take(shoal_device *d, shoal_memory kind, size_t n_bytes)
{
    (void)d;
    return kind == SHOAL_MEMORY_HOST ? calloc(1, n_bytes) : NULL;
}

static void nccl_device_give_back(shoal_device *d, shoal_memory kind, void *memory)
{
    (void)d;
    (void)kind;
    free(memory);
}

static const shoal_device_ops nccl_device_ops = {.take = nccl_device_take,
                                                 .give_back = nccl_device_give_back,
                                                 .side_open = nccl_device_open,
                                                 .side_mark = nccl_device_mark,
                                                 .side_reached = nccl_device_reached};

static inline nccl_device *nccl_device_new(void)
{
    nccl_device *d = calloc(1, sizeof *d);
    d->base.ops = &nccl_device_ops;
    return d;
}

#endif
