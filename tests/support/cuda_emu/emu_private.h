/* What the files of this folder share. */
#ifndef SHOAL_TESTS_CUDA_EMU_PRIVATE_H
#define SHOAL_TESTS_CUDA_EMU_PRIVATE_H

#include "cuda_runtime.h"
#include "emu.h"

#include <string>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)   ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

/* Fresh memory is full of this byte: a NaN as f32, f64 and bf16, an impossible index as int. */
enum { EMU_FRESH = 0xFF };

extern thread_local emu_config emu__config;
extern thread_local emu_counters emu__counters;

/* Note something wrong. */
void emu__problem(const std::string &text);

/* The next of a stream of random numbers that the seed begins. */
uint64_t emu__random();

/* The error that this call ends with before it does anything: a lost device, an old driver, a
 * failed launch before it. Counts the calls. */
cudaError_t emu__entry();
/* Errors that stick to the device until it is reset. */
void emu__stick(cudaError_t error);
cudaError_t emu__remember(cudaError_t error); /* what cudaGetLastError gives; returns it */

/* While one of these lives the device works: its memory can be read and written. At all other times
 * the host would crash at a touch of it, as it would with a real device. */
struct emu__device_time {
    emu__device_time();
    ~emu__device_time();
    emu__device_time(const emu__device_time &) = delete;
    emu__device_time &operator=(const emu__device_time &) = delete;
};

/* Run a grid now. False: it failed, and the problem is noted. */
bool emu__run_grid(const emu_launch &launch);

/* Red zones of everything that is allocated on the device; notes what is wrong. */
void emu__check_red_zones();
size_t emu__shared_allowed(const void *function);
bool emu__is_pinned(const void *pointer);
void emu__memory_reset();
void emu__stream_reset();

#endif
