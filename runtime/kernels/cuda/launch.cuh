/* The one way to start a kernel, and the one way to get shared memory in it: the places where the
 * emulation of CUDA (tests/support/cuda_emu) takes the work over. The same kernels are compiled by
 * nvcc and by the host's compiler; beside this header only ptx.cuh knows which of the two it is.
 * Layering: kernels. */
#ifndef SHOAL_KERNELS_CUDA_LAUNCH_CUH
#define SHOAL_KERNELS_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#if defined(__CUDACC__)

/* Start kernel<<<grid, block, shared_bytes, stream>>>(...). cudaGetLastError says whether it could
 * be started. */
#define SHOAL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                               \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

/* All of a block's shared memory, as bytes aligned to 16. Once in a kernel. */
#define SHOAL_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

#else

#define SHOAL_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                               \
    shoal__emu_launch(#kernel, (grid), (block), (shared_bytes), (stream), (kernel), __VA_ARGS__)

#define SHOAL_SHARED(name) unsigned char *const name = static_cast<unsigned char *>(emu_shared())

template <typename... P, typename... A>
static inline void shoal__emu_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                                     cudaStream_t stream, void (*kernel)(P...), A... args)
{
    /* Arguments are copied now, as a launch does. */
    emu_enqueue({name, reinterpret_cast<const void *>(kernel), grid, block, shared_bytes,
                 [=] { kernel(static_cast<P>(args)...); }},
                stream);
}

#endif

#endif
