/* A small emulation of CUDA, so that device code is executed on every machine: the .cu files of the
 * tree are compiled by the host's C++ compiler against the cuda_runtime.h of this folder.
 *
 *   block   blocks run one after another; the threads of a block are fibers that change over only
 *           where they wait for each other (emu_block.cpp). Who goes on first is shuffled by a
 *           seed, so that a missing barrier shows as results that depend on the seed. A barrier or
 *           a warp operation that some thread never reaches is a launch failure that says who
 * waits.
 *   memory  device memory is host memory between red zones (poisoned under AddressSanitizer,
 *           checked when it is freed or the device is synchronised), filled with NaNs when it is
 *           fresh; so is shared memory at the start of each block. While no operation runs its
 *           pages are closed: a host that touches it crashes (emu_memory.cpp).
 *   stream  what is enqueued is not done before somebody has to wait for it, streams in an order
 *           shuffled by the seed: a missing synchronisation shows (emu_stream.cpp).
 *
 * This header is for tests that steer it. One host thread is one world: devices, streams and errors
 * are thread-local, as ranks of a simulated cluster are threads. */
#ifndef SHOAL_TESTS_CUDA_EMU_H
#define SHOAL_TESTS_CUDA_EMU_H

#include <stddef.h>
#include <stdint.h>

struct emu_config {
    uint64_t seed;       /* of every order that is not given by the program */
    int n_device;        /* 0: cudaErrorNoDevice */
    size_t memory_bytes; /* of each device; more is cudaErrorMemoryAllocation */
    int lost_after; /* calls until every further one is cudaErrorDeviceUnavailable; < 0: never */
    bool driver_too_old; /* cudaErrorInsufficientDriver everywhere */
    bool no_driver;      /* the same, and the driver has no version */
    int failing_launch;  /* number of the launch that fails while it runs, 1 ..; <= 0: none */
};

/* A device of 1 GiB, seed 1, that works. */
emu_config emu_default_config();

/* The default with what the environment variable SHOAL_CUDA_EMU says: names of numbers above, e.g.
 * "n_device=2,memory_bytes=1000000,lost_after=5000". What host threads begin with that never reset.
 * An unknown name ends the process. */
emu_config emu_environment_config();

/* Start anew: all memory, streams and errors of this host thread are gone. */
void emu_reset(const emu_config &config);

/* What was found wrong since the last reset, a line each; "" if nothing. Wrong is: a thread that is
 * waited for in vain, a lane that calls a warp operation with another mask than the others, a red
 * zone that was written, memory that is freed twice or was never allocated, more shared memory than
 * was allowed. */
const char *emu_problems();

/* For a library that enqueues on a stream by itself (the stand-in for NCCL): nothing behind this
 * place of the stream happens before ready(arg) is true. It is called whenever the stream could get
 * on, never after it was true. */
extern "C" void emu_stream_hold(void *stream, int (*ready)(void *arg), void *arg);

/* Kernels launched, threads run, and changes between fibers since the last reset. */
struct emu_counters {
    uint64_t n_launch, n_thread, n_switch;
};
emu_counters emu_count();

#endif
