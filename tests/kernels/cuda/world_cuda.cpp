#include "tests/kernels/cuda/world.h"

#include <cuda_runtime.h>

bool world_is_emulated()
{
    return false;
}

void world_reset(uint64_t seed)
{
    (void)seed;
    (void)cudaGetLastError();
}

const char *world_problems()
{
    const cudaError_t waited = cudaDeviceSynchronize(), last = cudaGetLastError();
    const cudaError_t error = waited != cudaSuccess ? waited : last;
    return error != cudaSuccess ? cudaGetErrorString(error) : "";
}

int64_t world_launches()
{
    return -1;
}
