/* What the device does where nothing else is asked of it. */
#include "runtime/kernels/cuda/launch.cuh"
#include "runtime/kernels/cuda/ptx.cuh"
#include "tests/bench/cuda/bench.h"

#include <chrono>
#include <math.h>
#include <string.h>

namespace
{

/* Read n words of 16 bytes; the sum is stored where it cannot be left out. */
__global__ void read_all(uint32_t *sum, const uint4 *from, int64_t n)
{
    uint32_t all = 0;
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const uint4 word = from[i];
        all ^= word.x ^ word.y ^ word.z ^ word.w;
    }
    if (all == 0x9e3779b9U)
        *sum = all;
}

enum { CHAINS = 8 }; /* independent sums of a warp, so that their latency does not count */

__global__ void multiply_bf16(float *out, int32_t n)
{
    float d[CHAINS][4] = {};
    const uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {blockIdx.x, threadIdx.x};
    for (int32_t i = 0; i < n; i++) {
#pragma unroll
        for (int c = 0; c < CHAINS; c++)
            shoal_cuda_mma_bf16(d[c], a, b, d[c]);
    }
    float sum = 0.0F;
#pragma unroll
    for (int c = 0; c < CHAINS; c++)
        sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
    if (sum == 12345.0F)
        *out = sum;
}

__global__ void multiply_int8(int32_t *out, int32_t n)
{
    int32_t d[CHAINS][4] = {};
    const uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {blockIdx.x, threadIdx.x};
    for (int32_t i = 0; i < n; i++) {
#pragma unroll
        for (int c = 0; c < CHAINS; c++)
            shoal_cuda_mma_int8(d[c], a, b, d[c]);
    }
    int32_t sum = 0;
#pragma unroll
    for (int c = 0; c < CHAINS; c++)
        sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
    if (sum == 12345)
        *out = sum;
}

__global__ void nothing(int32_t zero)
{
    (void)zero;
}

int multiprocessors()
{
    cudaDeviceProp p;
    bench_must(cudaGetDeviceProperties(&p, 0), "the device's properties");
    return p.multiProcessorCount;
}

void read_peak(bench &b)
{
    bench_memory m;
    const size_t n_bytes = b.tiny ? (size_t)1 << 14 : (size_t)1 << 30;
    uint32_t *sum = m.device<uint32_t>(1);
    const unsigned char zero[4096] = {};
    const uint4 *from =
        reinterpret_cast<const uint4 *>(m.repeated(zero, sizeof zero, n_bytes / sizeof zero));
    const unsigned n_block = b.tiny ? 2 : (unsigned)multiprocessors() * 16;
    const double us = bench_us(b, 1, [&](int) {
        SHOAL_LAUNCH(read_all, dim3(n_block), dim3(b.tiny ? 64 : 512), 0, b.stream, sum, from,
                     (int64_t)(n_bytes / sizeof(uint4)));
        return cudaGetLastError();
    });
    b.read_gb_per_s = (double)n_bytes / us * 1e-3;
    bench_print_number("read_gb_per_s", b.read_gb_per_s);
}

template <typename T, typename K> double tensor_peak(const bench &b, K kernel, double ops)
{
    bench_memory m;
    T *out = m.device<T>(1);
    const int32_t n = b.tiny ? 2 : 4096, n_thread = b.tiny ? 32 : 256;
    const int n_block = b.tiny ? 1 : multiprocessors() * 4;
    const double us = bench_us(b, 1, [&](int) {
        SHOAL_LAUNCH(kernel, dim3((unsigned)n_block), dim3((unsigned)n_thread), 0, b.stream, out,
                     n);
        return cudaGetLastError();
    });
    return ops * CHAINS * n * n_block * n_thread / 32 / us * 1e-6;
}

void copies(bench &b)
{
    bench_memory m;
    const size_t n_bytes = b.tiny ? 4096 : (size_t)64 << 20;
    unsigned char *host = m.pinned<unsigned char>(n_bytes);
    unsigned char *device = m.device<unsigned char>(n_bytes);
    memset(host, 1, n_bytes);
    b.to_device_gb_per_s = (double)n_bytes /
                           bench_us(b, 1,
                                    [&](int) {
                                        return cudaMemcpyAsync(device, host, n_bytes,
                                                               cudaMemcpyHostToDevice, b.stream);
                                    }) *
                           1e-3;
    b.to_host_gb_per_s = (double)n_bytes /
                         bench_us(b, 1,
                                  [&](int) {
                                      return cudaMemcpyAsync(host, device, n_bytes,
                                                             cudaMemcpyDeviceToHost, b.stream);
                                  }) *
                         1e-3;
    bench_print_number("copy_to_device_gb_per_s", b.to_device_gb_per_s);
    bench_print_number("copy_to_host_gb_per_s", b.to_host_gb_per_s);
}

double now_us()
{
    return std::chrono::duration<double, std::micro>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

/* The host's time for n kernels without work, each waited for or not. */
double launch_us(const bench &b, bool waits)
{
    const int n = b.tiny ? 4 : 2000;
    double begun = 0;
    for (int i = -n / 10; i < n; i++) {
        if (i == 0)
            begun = now_us();
        SHOAL_LAUNCH(nothing, dim3(1), dim3(32), 0, b.stream, 0);
        if (waits)
            bench_must(cudaStreamSynchronize(b.stream), "a kernel");
    }
    const double us = (now_us() - begun) / n;
    bench_must(cudaStreamSynchronize(b.stream), "kernels");
    return b.tiny ? NAN : us;
}

} // namespace

void bench_yardsticks(bench &b)
{
    read_peak(b);
    b.bf16_tflop_per_s = tensor_peak<float>(b, multiply_bf16, 2.0 * 16 * 8 * 16);
    b.int8_top_per_s = tensor_peak<int32_t>(b, multiply_int8, 2.0 * 16 * 8 * 32);
    bench_print_number("mma_bf16_tflop_per_s", b.bf16_tflop_per_s);
    bench_print_number("mma_int8_top_per_s", b.int8_top_per_s);
    copies(b);
    bench_print_number("launch_us", launch_us(b, false));
    bench_print_number("launch_and_wait_us", launch_us(b, true));
    bench_print_number("kernel_in_graph_us", bench_us(b, b.tiny ? 2 : 100, [&](int) {
                           SHOAL_LAUNCH(nothing, dim3(1), dim3(32), 0, b.stream, 0);
                           return cudaGetLastError();
                       }));
}
