#include "tests/kernels/cuda/world.h"

#include "tests/support/cuda_emu/emu.h"

#include <cuda_runtime.h>

bool world_is_emulated()
{
    return true;
}

void world_reset(uint64_t seed)
{
    emu_config config = emu_default_config();
    config.seed = seed;
    emu_reset(config);
}

const char *world_problems()
{
    cudaDeviceSynchronize();
    return emu_problems();
}

int64_t world_launches()
{
    return (int64_t)emu_count().n_launch;
}
