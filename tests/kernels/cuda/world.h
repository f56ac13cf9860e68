/* The device that tests and benchmarks of device code run on: the emulation or a real one, by
 * linking world_emu.cpp or world_cuda.cpp. */
#ifndef SHOAL_TESTS_KERNELS_CUDA_WORLD_H
#define SHOAL_TESTS_KERNELS_CUDA_WORLD_H

#include <stdint.h>

bool world_is_emulated();

/* Begin anew. The emulation loses all memory and streams and shuffles by this seed; a real device
 * only forgets its last error. */
void world_reset(uint64_t seed);

/* Waits for everything. What has gone wrong since the last reset, "" if nothing. */
const char *world_problems();

/* Kernels launched since the last reset; -1 where nobody counts. */
int64_t world_launches();

#endif
