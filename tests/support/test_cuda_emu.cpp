/* The emulation of CUDA: it runs what is right, and catches what is wrong. Planted bugs are the
 * tests that matter: a missing barrier, an index that is one too far, a barrier that not all reach,
 * a host that does not wait. */
#include "check_main.h"
#include "runtime/kernels/cuda/ptx.cuh"
#include "tests/support/cuda_emu/emu.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

static void reset(uint64_t seed = 1)
{
    emu_config config = emu_default_config();
    config.seed = seed;
    emu_reset(config);
}

static void assert_problem(const char *text)
{
    ck_assert_msg(strstr(emu_problems(), text) != nullptr, "wanted a problem with '%s', got '%s'",
                  text, emu_problems());
}

static void assert_no_problem()
{
    ck_assert_str_eq(emu_problems(), "");
}

/* ---- kernels ---- */

/* out[block] = sum of the block's part of x, by a tree in shared memory. `forget`: the barrier of
 * this level is missing. */
static __global__ void sum_blocks(float *out, const float *x, int n, int forget)
{
    SHOAL_SHARED(bytes);
    float *part = reinterpret_cast<float *>(bytes);
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    part[threadIdx.x] = i < n ? x[i] : 0.0F;
    if (forget != 0)
        __syncthreads();
    for (int half = (int)blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half)
            part[threadIdx.x] += part[(int)threadIdx.x + half];
        if (half != forget)
            __syncthreads();
    }
    if (threadIdx.x == 0)
        out[blockIdx.x] = part[0];
}

#if !defined(__SANITIZE_ADDRESS__)
static __global__ void fill(int *out, int n, int over)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n + over)
        out[i] = i;
}
#endif

static __global__ void write_shared(int n)
{
    SHOAL_SHARED(bytes);
    bytes[(int)threadIdx.x + n] = 1;
}

static __global__ void half_reach_barrier(int *out)
{
    if (threadIdx.x < 40)
        __syncwarp();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void warp_sum(int *out, unsigned mask)
{
    int value = (int)threadIdx.x;
    for (int offset = 16; offset > 0; offset /= 2)
        value += __shfl_xor_sync(mask, value, offset);
    out[threadIdx.x] = value;
}

static __global__ void leave_early(int *out)
{
    if (threadIdx.x == 7)
        return;
    out[threadIdx.x] = (int)__ballot_sync(0xffffffffU, 1);
}

static __global__ void votes(unsigned *out)
{
    out[threadIdx.x] = __ballot_sync(0xffffffffU, threadIdx.x % 3 == 0);
    out[32 + threadIdx.x] = (unsigned)__shfl_up_sync(0xffffffffU, (int)threadIdx.x, 1, 8);
    out[64 + threadIdx.x] = (unsigned)__shfl_down_sync(0xffffffffU, (int)threadIdx.x, 2, 16);
    out[96 + threadIdx.x] = (unsigned)__shfl_sync(0xffffffffU, (int)threadIdx.x * 10, 5);
}

static __global__ void count(int *n)
{
    atomicAdd(n, 1);
}

static __global__ void add_one(int *x)
{
    x[threadIdx.x] += 1;
}

/* Through shared memory by cp.async; `wait` 0: as if it were there at once. */
static __global__ void copy_async(uint4 *out, const uint4 *in, int wait)
{
    SHOAL_SHARED(bytes);
    uint4 *room = reinterpret_cast<uint4 *>(bytes);
    shoal_cuda_copy_async_16(&room[threadIdx.x], &in[threadIdx.x]);
    shoal_cuda_copy_async_commit();
    if (wait != 0)
        shoal_cuda_copy_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = room[blockDim.x - 1 - threadIdx.x];
    if (wait == 0)
        shoal_cuda_copy_async_wait<0>();
}

static __global__ void mma_bf16(float *d, const uint16_t *a, const uint16_t *b, const float *c)
{
    const int g = (int)threadIdx.x / 4, t = (int)threadIdx.x % 4;
    uint32_t fa[4], fb[2];
    float fc[4], fd[4];
    for (int i = 0; i < 4; i++)
        memcpy(&fa[i], &a[(g + i % 2 * 8) * 16 + i / 2 * 8 + t * 2], 4);
    for (int i = 0; i < 2; i++)
        memcpy(&fb[i], &b[g * 16 + i * 8 + t * 2], 4);
    for (int i = 0; i < 4; i++)
        fc[i] = c[(g + i / 2 * 8) * 8 + t * 2 + i % 2];
    shoal_cuda_mma_bf16(fd, fa, fb, fc);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = fd[i];
}

static __global__ void mma_int8(int32_t *d, const int8_t *a, const int8_t *b)
{
    const int g = (int)threadIdx.x / 4, t = (int)threadIdx.x % 4;
    uint32_t fa[4], fb[2];
    int32_t fc[4] = {1, 2, 3, 4}, fd[4];
    for (int i = 0; i < 4; i++)
        memcpy(&fa[i], &a[(g + i % 2 * 8) * 32 + i / 2 * 16 + t * 4], 4);
    for (int i = 0; i < 2; i++)
        memcpy(&fb[i], &b[g * 32 + i * 16 + t * 4], 4);
    shoal_cuda_mma_int8(fd, fa, fb, fc);
    for (int i = 0; i < 4; i++)
        d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = fd[i] - fc[i];
}

/* ---- blocks ---- */

/* The sums of 4 blocks of 64 with this seed. */
static std::vector<float> sums(uint64_t seed, int forget)
{
    reset(seed);
    float *x, *out;
    ck_assert_int_eq(cudaMalloc(&x, 250 * sizeof *x), cudaSuccess);
    ck_assert_int_eq(cudaMalloc(&out, 4 * sizeof *out), cudaSuccess);
    std::vector<float> host(250), got(4);
    for (size_t i = 0; i < host.size(); i++)
        host[i] = (float)i;
    cudaMemcpy(x, host.data(), 250 * sizeof *x, cudaMemcpyHostToDevice);
    SHOAL_LAUNCH(sum_blocks, dim3(4), dim3(64), 64 * sizeof(float), nullptr, out, x, 250, forget);
    ck_assert_int_eq(cudaMemcpy(got.data(), out, 4 * sizeof *out, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    assert_no_problem();
    return got;
}

START_TEST(a_block_meets_at_its_barriers)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        std::vector<float> got = sums(seed, -1);
        ck_assert(got == (std::vector<float>{2016, 6112, 10208, 12789}));
    }
}
END_TEST

START_TEST(a_missing_barrier_shows)
{
    int n_wrong = 0;
    for (uint64_t seed = 1; seed <= 20; seed++)
        n_wrong += sums(seed, 0) != (std::vector<float>{2016, 6112, 10208, 12789});
    ck_assert_int_gt(n_wrong, 15);
    n_wrong = 0;
    for (uint64_t seed = 1; seed <= 20; seed++)
        n_wrong += sums(seed, 16) != (std::vector<float>{2016, 6112, 10208, 12789});
    ck_assert_int_gt(n_wrong, 15);
}
END_TEST

START_TEST(a_barrier_that_not_all_reach_is_a_failure)
{
    reset();
    int *out;
    cudaMalloc(&out, 64 * sizeof *out);
    SHOAL_LAUNCH(half_reach_barrier, dim3(1), dim3(64), 0, nullptr, out);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_problem("half_reach_barrier: thread (");
    assert_problem("waits in __syncwarp for lanes that never come");
    ck_assert_int_eq(cudaMalloc(&out, 4), cudaErrorLaunchFailure); /* it sticks */
}
END_TEST

START_TEST(shared_memory_has_an_end)
{
    reset();
    SHOAL_LAUNCH(write_shared, dim3(2), dim3(32), 32, nullptr, 0);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaSuccess);
    assert_no_problem();
    SHOAL_LAUNCH(write_shared, dim3(2), dim3(32), 32, nullptr, 1);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_problem("writes behind its 32 bytes of shared memory");
}
END_TEST

START_TEST(launches_beyond_the_device_are_refused)
{
    reset();
    SHOAL_LAUNCH(write_shared, dim3(1), dim3(32), 60000, nullptr, 0);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorInvalidConfiguration);
    ck_assert_int_eq(cudaGetLastError(), cudaSuccess);
    ck_assert_int_eq(
        cudaFuncSetAttribute(write_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 60000),
        cudaSuccess);
    SHOAL_LAUNCH(write_shared, dim3(1), dim3(32), 60000, nullptr, 0);
    ck_assert_int_eq(cudaGetLastError(), cudaSuccess);
    SHOAL_LAUNCH(write_shared, dim3(1), dim3(1025), 0, nullptr, 0);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorInvalidConfiguration);
    SHOAL_LAUNCH(write_shared, dim3(0), dim3(32), 0, nullptr, 0);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorInvalidConfiguration);
}
END_TEST

/* ---- warps ---- */

START_TEST(lanes_exchange)
{
    reset(3);
    unsigned *out;
    cudaMalloc(&out, 128 * sizeof *out);
    SHOAL_LAUNCH(votes, dim3(1), dim3(32), 0, nullptr, out);
    unsigned got[128];
    ck_assert_int_eq(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost), cudaSuccess);
    for (unsigned lane = 0; lane < 32; lane++) {
        ck_assert_uint_eq(got[lane], 0x49249249U);
        ck_assert_uint_eq(got[32 + lane], lane % 8 == 0 ? lane : lane - 1);
        ck_assert_uint_eq(got[64 + lane], lane % 16 + 2 < 16 ? lane + 2 : lane);
        ck_assert_uint_eq(got[96 + lane], 50);
    }
    assert_no_problem();
}
END_TEST

START_TEST(a_wrong_mask_is_a_failure)
{
    int *out;
    reset();
    cudaMalloc(&out, 64 * sizeof *out);
    SHOAL_LAUNCH(warp_sum, dim3(1), dim3(64), 0, nullptr, out, 0xffffffffU);
    int got[64];
    ck_assert_int_eq(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost), cudaSuccess);
    ck_assert_int_eq(got[0], 496);
    ck_assert_int_eq(got[63], 496 + 32 * 32);
    SHOAL_LAUNCH(warp_sum, dim3(1), dim3(64), 0, nullptr, out, 0x0000ffffU);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_problem("with a mask that it is not in");
}
END_TEST

START_TEST(a_lane_that_has_ended_is_not_waited_for)
{
    reset();
    int *out;
    cudaMalloc(&out, 32 * sizeof *out);
    SHOAL_LAUNCH(leave_early, dim3(1), dim3(32), 0, nullptr, out);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_problem("__ballot_sync");
}
END_TEST

START_TEST(products_of_fragments)
{
    reset(5);
    uint16_t a[16 * 16], b[8 * 16]; /* b: a column after the other */
    float c[16 * 8], d[16 * 8];
    int8_t a8[16 * 32], b8[8 * 32];
    int32_t d8[16 * 8];
    for (int i = 0; i < 16 * 16; i++)
        a[i] = shoal_cuda_to_bf16((float)(i * 7 % 19 - 9));
    for (int i = 0; i < 8 * 16; i++)
        b[i] = shoal_cuda_to_bf16((float)(i * 5 % 13 - 6) * 0.5F);
    for (int i = 0; i < 16 * 8; i++)
        c[i] = (float)i;
    for (int i = 0; i < 16 * 32; i++)
        a8[i] = (int8_t)(i * 37 % 255 - 127);
    for (int i = 0; i < 8 * 32; i++)
        b8[i] = (int8_t)(i * 91 % 255 - 127);
    uint16_t *da, *db;
    float *dc, *dd;
    int8_t *da8, *db8;
    int32_t *dd8;
    cudaMalloc(&da, sizeof a), cudaMalloc(&db, sizeof b), cudaMalloc(&dc, sizeof c),
        cudaMalloc(&dd, sizeof d);
    cudaMalloc(&da8, sizeof a8), cudaMalloc(&db8, sizeof b8), cudaMalloc(&dd8, sizeof d8);
    cudaMemcpy(da, a, sizeof a, cudaMemcpyHostToDevice),
        cudaMemcpy(db, b, sizeof b, cudaMemcpyHostToDevice);
    cudaMemcpy(dc, c, sizeof c, cudaMemcpyHostToDevice),
        cudaMemcpy(da8, a8, sizeof a8, cudaMemcpyHostToDevice);
    cudaMemcpy(db8, b8, sizeof b8, cudaMemcpyHostToDevice);
    SHOAL_LAUNCH(mma_bf16, dim3(1), dim3(32), 0, nullptr, dd, da, db, dc);
    SHOAL_LAUNCH(mma_int8, dim3(1), dim3(32), 0, nullptr, dd8, da8, db8);
    ck_assert_int_eq(cudaMemcpy(d, dd, sizeof d, cudaMemcpyDeviceToHost), cudaSuccess);
    ck_assert_int_eq(cudaMemcpy(d8, dd8, sizeof d8, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int row = 0; row < 16; row++) {
        for (int column = 0; column < 8; column++) {
            float sum = c[row * 8 + column];
            int32_t sum8 = 0;
            for (int k = 0; k < 16; k++) /* small numbers: exact in any order */
                sum += shoal_cuda_from_bf16(a[row * 16 + k]) *
                       shoal_cuda_from_bf16(b[column * 16 + k]);
            for (int k = 0; k < 32; k++)
                sum8 += a8[row * 32 + k] * b8[column * 32 + k];
            ck_assert(d[row * 8 + column] == sum);
            ck_assert_int_eq(d8[row * 8 + column], sum8);
        }
    }
    assert_no_problem();
}
END_TEST

START_TEST(asynchronous_copies_are_waited_for)
{
    for (int wait = 0; wait < 2; wait++) {
        reset(9);
        uint4 host[32], *in, *out;
        for (uint32_t i = 0; i < 32; i++)
            host[i] = make_uint4(i, i, i, i);
        cudaMalloc(&in, sizeof host), cudaMalloc(&out, sizeof host);
        cudaMemcpy(in, host, sizeof host, cudaMemcpyHostToDevice);
        SHOAL_LAUNCH(copy_async, dim3(1), dim3(32), sizeof host, nullptr, out, in, wait);
        ck_assert_int_eq(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost), cudaSuccess);
        int n_right = 0;
        for (uint32_t i = 0; i < 32; i++)
            n_right += host[i].z == 31 - i;
        ck_assert(wait != 0 ? n_right == 32 : n_right < 32);
    }
}
END_TEST

/* ---- memory ---- */

#if !defined(__SANITIZE_ADDRESS__) /* which stops at the write itself */
START_TEST(one_too_far_is_found)
{
    reset();
    int *out;
    cudaMalloc(&out, 100 * sizeof *out);
    SHOAL_LAUNCH(fill, dim3(4), dim3(32), 0, nullptr, out, 100, 0);
    cudaDeviceSynchronize();
    assert_no_problem();
    SHOAL_LAUNCH(fill, dim3(4), dim3(32), 0, nullptr, out, 100, 1);
    cudaDeviceSynchronize();
    assert_problem("the red zones of 400 bytes of device memory were written");
}
END_TEST
#endif

START_TEST(fresh_memory_is_not_zero)
{
    reset();
    float *x, got;
    cudaMalloc(&x, sizeof *x);
    cudaMemcpy(&got, x, sizeof got, cudaMemcpyDeviceToHost);
    ck_assert(isnan(got));
}
END_TEST

START_TEST(memory_is_counted)
{
    reset();
    size_t free_bytes, total;
    void *a, *b;
    ck_assert_int_eq(cudaMalloc(&a, (size_t)900 << 20), cudaSuccess);
    ck_assert_int_eq(cudaMalloc(&b, (size_t)200 << 20), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    cudaMemGetInfo(&free_bytes, &total);
    ck_assert_uint_eq(free_bytes, (size_t)124 << 20);
    ck_assert_int_eq(cudaFree(a), cudaSuccess);
    ck_assert_int_eq(cudaFree(a), cudaErrorInvalidValue);
    assert_problem("freed twice");
}
END_TEST

/* ---- streams ---- */

START_TEST(a_host_that_does_not_wait_reads_too_early)
{
    int n_early = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        reset(seed);
        int *x, *host;
        cudaStream_t stream;
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaMalloc(&x, 32 * sizeof *x),
            cudaHostAlloc(&host, 32 * sizeof *host, cudaHostAllocDefault);
        cudaMemsetAsync(x, 0, 32 * sizeof *x, stream);
        SHOAL_LAUNCH(add_one, dim3(1), dim3(32), 0, stream, x);
        cudaMemcpyAsync(host, x, 32 * sizeof *x, cudaMemcpyDeviceToHost, stream);
        n_early += host[31] != 1;
        ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
        ck_assert_int_eq(host[31], 1);
    }
    ck_assert_int_gt(n_early, 10);
}
END_TEST

START_TEST(streams_wait_for_events_only)
{
    int n_wrong[2] = {0, 0};
    for (int wait = 0; wait < 2; wait++) {
        for (uint64_t seed = 1; seed <= 30; seed++) {
            reset(seed);
            int *x, host[32];
            cudaStream_t a, b;
            cudaEvent_t done;
            cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking),
                cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
            cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
            cudaMalloc(&x, sizeof host);
            cudaMemsetAsync(x, 0, sizeof host, a);
            SHOAL_LAUNCH(add_one, dim3(1), dim3(32), 0, a, x);
            cudaEventRecord(done, a);
            if (wait != 0)
                cudaStreamWaitEvent(b, done);
            SHOAL_LAUNCH(add_one, dim3(1), dim3(32), 0, b, x);
            cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost);
            n_wrong[wait] += host[0] != 2;
            ck_assert_int_eq(cudaEventQuery(done), cudaSuccess);
        }
    }
    ck_assert_int_gt(n_wrong[0], 5);
    ck_assert_int_eq(n_wrong[1], 0);
}
END_TEST

static int is_set(void *arg)
{
    return *static_cast<int *>(arg);
}

START_TEST(a_held_stream_waits)
{
    reset();
    cudaStream_t held;
    cudaEvent_t behind;
    int set = 0;
    ck_assert_int_eq(cudaStreamCreateWithFlags(&held, cudaStreamNonBlocking), cudaSuccess);
    ck_assert_int_eq(cudaEventCreateWithFlags(&behind, cudaEventDisableTiming), cudaSuccess);
    emu_stream_hold(held, is_set, &set);
    ck_assert_int_eq(cudaEventRecord(behind, held), cudaSuccess);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(cudaEventQuery(behind), cudaErrorNotReady);
    set = 1;
    int n = 0;
    while (cudaEventQuery(behind) != cudaSuccess && n < 1000)
        n++;
    ck_assert_int_lt(n, 1000);
    assert_no_problem();
}
END_TEST

START_TEST(graphs_replay)
{
    reset();
    int *n, host = 0;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaMalloc(&n, sizeof *n), cudaMemset(n, 0, sizeof *n);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    ck_assert_int_eq(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    SHOAL_LAUNCH(count, dim3(3), dim3(32), 0, stream, n);
    SHOAL_LAUNCH(count, dim3(1), dim3(4), 0, stream, n);
    ck_assert_int_eq(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ck_assert_int_eq(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(cudaGraphLaunch(exec, stream), cudaSuccess);
    cudaStreamSynchronize(stream);
    cudaMemcpy(&host, n, sizeof host, cudaMemcpyDeviceToHost);
    ck_assert_int_eq(host, 500);
    cudaGraphExecDestroy(exec);
    assert_no_problem();
}
END_TEST

START_TEST(devices_fail_when_they_are_told_to)
{
    emu_config config = emu_default_config();
    config.lost_after = 2;
    emu_reset(config);
    int *x;
    ck_assert_int_eq(cudaMalloc(&x, 4), cudaSuccess);
    ck_assert_int_eq(cudaMalloc(&x, 4), cudaSuccess);
    ck_assert_int_eq(cudaMalloc(&x, 4), cudaErrorDeviceUnavailable);
    SHOAL_LAUNCH(count, dim3(1), dim3(1), 0, nullptr, x);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorDeviceUnavailable);
    config = emu_default_config();
    config.n_device = 0;
    emu_reset(config);
    int n = 7;
    ck_assert_int_eq(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    ck_assert_int_eq(n, 0);
    config = emu_default_config();
    config.driver_too_old = true;
    emu_reset(config);
    ck_assert_int_eq(cudaSetDevice(0), cudaErrorInsufficientDriver);
}
END_TEST

/* In a process of its own, which is meant to crash. */
START_TEST(a_host_that_touches_device_memory_crashes)
{
    reset();
    int *x;
    ck_assert_int_eq(cudaMalloc(&x, sizeof *x), cudaSuccess);
    ck_assert_int_eq(cudaMemset(x, 0, sizeof *x), cudaSuccess);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(*static_cast<volatile int *>(x) == 0 ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %d", status);
    assert_no_problem();
}
END_TEST

START_TEST(conversions)
{
    const float values[] = {0.0F, -0.0F, 1.0F, -2.5F, 65504.0F, 0x1p-24F, 0x1.ff8p-15F, INFINITY};
    const uint16_t halves[] = {0x0000, 0x8000, 0x3c00, 0xc100, 0x7bff, 0x0001, 0x03ff, 0x7c00};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        ck_assert(shoal_cuda_from_f16(halves[i]) == values[i]);
    ck_assert(isnan(shoal_cuda_from_f16(0x7e00)));
    ck_assert_int_eq(shoal_cuda_to_bf16(1.00390625F), 0x3f80); /* ties to even */
    ck_assert_int_eq(shoal_cuda_to_bf16(1.01171875F), 0x3f82);
    ck_assert(isnan(shoal_cuda_from_bf16(shoal_cuda_to_bf16(NAN))));
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, a_block_meets_at_its_barriers);
    SHOAL_TEST(suite, a_missing_barrier_shows);
    SHOAL_TEST(suite, a_barrier_that_not_all_reach_is_a_failure);
    SHOAL_TEST(suite, shared_memory_has_an_end);
    SHOAL_TEST(suite, launches_beyond_the_device_are_refused);
    SHOAL_TEST(suite, lanes_exchange);
    SHOAL_TEST(suite, a_wrong_mask_is_a_failure);
    SHOAL_TEST(suite, a_lane_that_has_ended_is_not_waited_for);
    SHOAL_TEST(suite, products_of_fragments);
    SHOAL_TEST(suite, asynchronous_copies_are_waited_for);
#if !defined(__SANITIZE_ADDRESS__)
    SHOAL_TEST(suite, one_too_far_is_found);
#endif
    SHOAL_TEST(suite, fresh_memory_is_not_zero);
    SHOAL_TEST(suite, memory_is_counted);
    SHOAL_TEST(suite, a_host_that_does_not_wait_reads_too_early);
    SHOAL_TEST(suite, streams_wait_for_events_only);
    SHOAL_TEST(suite, a_held_stream_waits);
    SHOAL_TEST(suite, graphs_replay);
    SHOAL_TEST(suite, devices_fail_when_they_are_told_to);
    SHOAL_TEST(suite, a_host_that_touches_device_memory_crashes);
    SHOAL_TEST(suite, conversions);
}

SHOAL_TEST_MAIN("support.cuda_emu", add_tests)
