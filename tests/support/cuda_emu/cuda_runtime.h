/* The part of CUDA that Shoal uses, emulated (emu.h). Kernels see the words of the language as
 * macros and functions; the host sees the runtime's calls. Shared memory is dynamic only
 * (SHOAL_SHARED in runtime/kernels/cuda/launch.cuh), so that its size is known here. */
#ifndef SHOAL_TESTS_CUDA_EMU_RUNTIME_H
#define SHOAL_TESTS_CUDA_EMU_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

/* ---- the language ---- */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) int4 {
    int32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    return {x, y, z, w};
}

/* Where the running thread stands. */
struct emu_thread {
    dim3 thread, block, block_dim, grid_dim;
    int lane, warp;
};
extern __thread const emu_thread *emu__self; /* of this fiber */
static inline const emu_thread &emu_self()
{
    return *emu__self;
}
#define threadIdx (emu_self().thread)
#define blockIdx  (emu_self().block)
#define blockDim  (emu_self().block_dim)
#define gridDim   (emu_self().grid_dim)
static constexpr int warpSize = 32;

void *emu_shared(); /* the block's shared memory, of the launch's size */
void emu_sync_block(const char *where);
int emu_sync_block_or(int predicate);

#define __syncthreads()        emu_sync_block("__syncthreads")
#define __syncthreads_or(p)    emu_sync_block_or(p)
#define __threadfence()        ((void)0)
#define __threadfence_block()  ((void)0)
#define __threadfence_system() ((void)0)

/* cp.async: a copy that is not there before its thread has waited for its group. */
void emu_async_copy(void *to, const void *from, int n_bytes);
void emu_async_commit();
void emu_async_wait(int n_left); /* until at most n_left groups are under way */

/* All lanes of `mask` meet: the last to come calls resolve with what each lane brought (NULL for
 * lanes outside), then all go on. `what` names the operation; lanes that meet must agree on it. */
typedef void emu_resolve_fn(void *const brought[32], unsigned mask);
void emu_warp_meet(const char *what, unsigned mask, void *brought, emu_resolve_fn *resolve);

void __syncwarp(unsigned mask = 0xffffffffU);
unsigned __ballot_sync(unsigned mask, int predicate);
int __any_sync(unsigned mask, int predicate);
int __all_sync(unsigned mask, int predicate);
uint32_t emu_shuffle(const char *what, unsigned mask, uint32_t value, int source_lane);

template <typename T>
static inline T emu_shuffle_any(const char *what, unsigned mask, T value, int source)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint32_t word[sizeof(T) / 4];
    memcpy(word, &value, sizeof value);
    for (uint32_t &w : word)
        w = emu_shuffle(what, mask, w, source);
    memcpy(&value, word, sizeof value);
    return value;
}
/* The lane that a lane reads from within its segment of `width`, its own if there is none. */
enum { EMU_IDX, EMU_UP, EMU_DOWN, EMU_XOR };
static inline int emu_source_lane(int kind, int delta, int width)
{
    const int lane = emu_self().lane, first = lane & ~(width - 1), in = lane - first;
    switch (kind) {
    case EMU_IDX:
        return first + (delta & (width - 1));
    case EMU_UP:
        return in - delta >= 0 ? lane - delta : lane;
    case EMU_DOWN:
        return in + delta < width ? lane + delta : lane;
    default:
        return (lane ^ delta) < first + width ? lane ^ delta : lane;
    }
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    return emu_shuffle_any("__shfl_sync", mask, v, emu_source_lane(EMU_IDX, lane, width));
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32)
{
    return emu_shuffle_any("__shfl_up_sync", mask, v, emu_source_lane(EMU_UP, (int)d, width));
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32)
{
    return emu_shuffle_any("__shfl_down_sync", mask, v, emu_source_lane(EMU_DOWN, (int)d, width));
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32)
{
    return emu_shuffle_any("__shfl_xor_sync", mask, v, emu_source_lane(EMU_XOR, x, width));
}

template <typename T> static inline T atomicAdd(T *at, T value)
{
    T old = *at;
    *at = old + value;
    return old;
}
template <typename T> static inline T atomicMax(T *at, T value)
{
    T old = *at;
    *at = old > value ? old : value;
    return old;
}
template <typename T> static inline T atomicCAS(T *at, T expected, T value)
{
    T old = *at;
    if (old == expected)
        *at = value;
    return old;
}
template <typename T> static inline T atomicExch(T *at, T value)
{
    T old = *at;
    *at = value;
    return old;
}

template <typename T> static inline T __ldg(const T *at)
{
    return *at;
}
static inline float __int_as_float(int v)
{
    float f;
    memcpy(&f, &v, 4);
    return f;
}
static inline int __float_as_int(float f)
{
    int v;
    memcpy(&v, &f, 4);
    return v;
}
static inline float __uint_as_float(unsigned v)
{
    return __int_as_float((int)v);
}
static inline unsigned __float_as_uint(float f)
{
    return (unsigned)__float_as_int(f);
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float rsqrtf(float x)
{
    return 1.0F / sqrtf(x);
}
static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
static inline int __clz(int v)
{
    return v == 0 ? 32 : __builtin_clz((unsigned)v);
}
/* Byte i of the result is the byte of (high, low) that the i-th nibble of `select` names; no sign
 * replication (its bit 3). */
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned select)
{
    const uint64_t both = (uint64_t)high << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(both >> 8 * (select >> 4 * i & 7U) & 0xffU) << 8 * i;
    return result;
}
/* a - b in each byte. */
static inline unsigned __vsub4(unsigned a, unsigned b)
{
    unsigned result = 0;
    for (int i = 0; i < 32; i += 8)
        result |= (((a >> i & 0xffU) - (b >> i & 0xffU)) & 0xffU) << i;
    return result;
}
/* acc + four products of signed bytes. */
static inline int __dp4a(int a, int b, int acc)
{
    for (int i = 0; i < 4; i++)
        acc += (int)(int8_t)((unsigned)a >> (8 * i)) * (int)(int8_t)((unsigned)b >> (8 * i));
    return acc;
}

/* ---- a launch: SHOAL_LAUNCH (runtime/kernels/cuda/launch.cuh) makes one ---- */

typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
typedef struct emu_graph *cudaGraph_t;
typedef struct emu_graph *cudaGraphExec_t;

struct emu_launch {
    const char *name;
    const void *function;
    dim3 grid, block;
    size_t shared_bytes;
    std::function<void()> body; /* one thread */
};
void emu_enqueue(emu_launch launch, cudaStream_t stream);

/* ---- the runtime ---- */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDeviceUnavailable = 46,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
} cudaError_t;

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum {
    cudaStreamDefault = 0,
    cudaStreamNonBlocking = 1,
    cudaEventDefault = 0,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0,
    cudaHostAllocPortable = 1,
    cudaHostAllocMapped = 2
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major, minor;
    int multiProcessorCount;
    size_t sharedMemPerBlockOptin;
    int pciBusID, pciDeviceID, pciDomainID;
};

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetPCIBusId(char *text, int n_text, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);

cudaError_t emu_malloc(void **pointer, size_t n_bytes);
template <typename T> static inline cudaError_t cudaMalloc(T **pointer, size_t n_bytes)
{
    return emu_malloc((void **)pointer, n_bytes);
}
cudaError_t cudaFree(void *pointer);
cudaError_t emu_host_alloc(void **pointer, size_t n_bytes);
template <typename T> static inline cudaError_t cudaHostAlloc(T **pointer, size_t n_bytes, unsigned)
{
    return emu_host_alloc((void **)pointer, n_bytes);
}
cudaError_t cudaFreeHost(void *pointer);
cudaError_t cudaHostRegister(void *pointer, size_t n_bytes, unsigned flags);
cudaError_t cudaHostUnregister(void *pointer);
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags);

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t n_bytes, size_t n_row, cudaMemcpyKind kind,
                              cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *to, int value, size_t n_bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t n_bytes, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void *), void *arg);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

cudaError_t emu_allow_shared(const void *function, size_t n_bytes);
template <typename F>
static inline cudaError_t cudaFuncSetAttribute(F *function, cudaFuncAttribute, int n_bytes)
{
    return emu_allow_shared((const void *)function, (size_t)n_bytes);
}

#endif
