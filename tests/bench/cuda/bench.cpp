/* usage: cuda_bench [--case-s S] [--only yardsticks|matmul|attention|rows]   (yardsticks always)
 * Sizes are small and times null where the device is the emulation. */
#include "tests/bench/cuda/bench.h"

#include "tests/kernels/cuda/world.h"

extern "C" {
#include "tests/kernels/cuda/cpu_side.h"
}

#include <algorithm>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "cuda_bench: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

void *bench_memory::take(size_t n_bytes, bool pinned)
{
    unsigned char *at = nullptr;
    if (pinned)
        bench_must(cudaHostAlloc(&at, n_bytes, cudaHostAllocDefault), "pinned memory");
    else
        bench_must(cudaMalloc(&at, n_bytes), "device memory");
    taken.push_back({at, pinned});
    return at;
}

bench_memory::~bench_memory()
{
    for (const auto &one : taken) {
        if (one.second)
            cudaFreeHost(one.first);
        else
            cudaFree(one.first);
    }
}

unsigned char *bench_memory::repeated(const void *from, size_t n_bytes, size_t n_times)
{
    unsigned char *at = device<unsigned char>(n_bytes * n_times);
    bench_must(cudaMemcpy(at, from, n_bytes, cudaMemcpyHostToDevice), "copying inputs");
    for (size_t n = 1; n < n_times; n *= 2)
        bench_must(cudaMemcpy(at + n * n_bytes, at, std::min(n, n_times - n) * n_bytes,
                              cudaMemcpyDeviceToDevice),
                   "repeating inputs");
    return at;
}

float *bench_memory::values(int64_t n)
{
    enum { N = 1 << 16 };
    static const float *some = cpu_values(N, 5);
    const size_t n_times = (size_t)(n + N - 1) / N;
    return n < N ? copy(some, (size_t)n)
                 : reinterpret_cast<float *>(repeated(some, N * sizeof(float), n_times));
}

int bench_calls(const bench &b, double n_bytes)
{
    const double n = ceil((double)b.flush / n_bytes);
    return b.tiny ? 2 : (int)fmin(fmax(n, 4), 64);
}

namespace
{

struct graph {
    cudaGraph_t recorded;
    cudaGraphExec_t exec;
};

graph record(const bench &b, int n_call, const std::function<cudaError_t(int)> &enqueue)
{
    graph g;
    bench_must(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeThreadLocal), "recording");
    for (int i = 0; i < n_call; i++)
        bench_must(enqueue(i), "a kernel");
    bench_must(cudaStreamEndCapture(b.stream, &g.recorded), "recording");
    bench_must(cudaGraphInstantiate(&g.exec, g.recorded, 0), "a graph");
    return g;
}

/* ms of n replays. */
double replay(const bench &b, const graph &g, int n, cudaEvent_t from, cudaEvent_t to)
{
    float ms = 0;
    bench_must(cudaEventRecord(from, b.stream), "an event");
    for (int i = 0; i < n; i++)
        bench_must(cudaGraphLaunch(g.exec, b.stream), "a graph");
    bench_must(cudaEventRecord(to, b.stream), "an event");
    bench_must(cudaEventSynchronize(to), "what was enqueued");
    bench_must(cudaEventElapsedTime(&ms, from, to), "an event's time");
    return (double)ms;
}

} // namespace

double bench_us(const bench &b, int n_call, const std::function<cudaError_t(int)> &enqueue)
{
    enum { N_ROUND = 5 };
    cudaEvent_t from, to;
    bench_must(cudaEventCreateWithFlags(&from, cudaEventDefault), "an event");
    bench_must(cudaEventCreateWithFlags(&to, cudaEventDefault), "an event");
    const graph g = record(b, n_call, enqueue);
    double us = NAN;
    const double first_ms = replay(b, g, 1, from, to);
    if (!b.tiny) {
        (void)first_ms; /* loads the kernels */
        const double one_ms = replay(b, g, 1, from, to);
        const int n = (int)fmin(fmax(b.case_s * 1e3 / N_ROUND / fmax(one_ms, 1e-3), 1), 1000);
        std::vector<double> ms;
        for (int i = 0; i < N_ROUND; i++)
            ms.push_back(replay(b, g, n, from, to));
        std::sort(ms.begin(), ms.end());
        us = ms[N_ROUND / 2] * 1e3 / n / n_call;
    }
    cudaGraphExecDestroy(g.exec);
    cudaGraphDestroy(g.recorded);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    const char *problems = world_problems();
    if (problems[0] == '\0')
        return us;
    fprintf(stderr, "cuda_bench: %s\n", problems);
    exit(1);
}

static std::string number(double x)
{
    char text[32];
    if (!(x == x) || x == INFINITY)
        return "null";
    snprintf(text, sizeof text, "%.6g", x);
    return text;
}

void bench_print_number(const char *name, double value)
{
    printf("{\"number\": \"%s\", \"value\": %s}\n", name, number(value).c_str());
    fflush(stdout);
}

static double yardstick(const bench &b, const bench_result &r)
{
    const std::string of = r.of != nullptr ? r.of : "";
    return of == "read"        ? b.read_gb_per_s
           : of == "bf16"      ? b.bf16_tflop_per_s * 1e3
           : of == "int8"      ? b.int8_top_per_s * 1e3
           : of == "to_host"   ? b.to_host_gb_per_s
           : of == "to_device" ? b.to_device_gb_per_s
                               : 0;
}

void bench_print(const bench &b, const bench_result &r)
{
    const double gb_per_s = r.n_bytes > 0 ? r.n_bytes / r.us * 1e-3 : NAN;
    const double gop_per_s = r.n_op > 0 ? r.n_op / r.us * 1e-3 : NAN;
    const bool ops = r.of != nullptr && (strcmp(r.of, "bf16") == 0 || strcmp(r.of, "int8") == 0);
    const double reached = ops ? gop_per_s : gb_per_s, peak = yardstick(b, r);
    const std::string of = r.of != nullptr ? "\"" + std::string(r.of) + "\"" : "null";
    printf("{\"part\": \"%s\", \"kernel\": \"%s\", \"format\": \"%s\", \"shape\": \"%s\", "
           "\"tokens\": %d, \"us\": %s, \"gb_per_s\": %s, \"tflop_per_s\": %s, \"of\": %s, "
           "\"fraction\": %s, \"target\": %s}\n",
           r.part, r.kernel, r.format, r.shape.c_str(), r.n_token, number(r.us).c_str(),
           number(gb_per_s).c_str(), number(gop_per_s * 1e-3).c_str(), of.c_str(),
           number(peak > 0 ? reached / peak : NAN).c_str(),
           r.target > 0 ? number(r.target).c_str() : "null");
    fflush(stdout);
}

static void print_device(const bench &b)
{
    cudaDeviceProp p;
    int driver = 0, runtime = 0;
    size_t n_free = 0, n_total = 0;
    bench_must(cudaGetDeviceProperties(&p, 0), "the device's properties");
    bench_must(cudaDriverGetVersion(&driver), "the driver's version");
    bench_must(cudaRuntimeGetVersion(&runtime), "the runtime's version");
    bench_must(cudaMemGetInfo(&n_free, &n_total), "the device's memory");
    printf("{\"device\": \"%s\", \"compute_capability\": \"%d.%d\", \"multiprocessors\": %d, "
           "\"memory_bytes\": %zu, \"free_bytes\": %zu, \"driver\": %d, \"runtime\": %d, "
           "\"emulated\": %s}\n",
           p.name, p.major, p.minor, p.multiProcessorCount, n_total, n_free, driver, runtime,
           b.tiny ? "true" : "false");
    fflush(stdout);
}

int main(int n_arg, char **arg)
{
    static const struct {
        const char *name;
        void (*run)(bench &);
    } part[] = {{"yardsticks", bench_yardsticks},
                {"matmul", bench_matmul},
                {"attention", bench_attention},
                {"rows", bench_rows}};
    world_reset(1);
    bench b = {};
    b.tiny = world_is_emulated();
    b.case_s = 0.05;
    b.flush = b.tiny ? 1 : (size_t)400 << 20;
    for (int i = 1; i + 1 < n_arg; i += 2) {
        if (strcmp(arg[i], "--case-s") == 0)
            b.case_s = atof(arg[i + 1]);
        else if (strcmp(arg[i], "--only") == 0)
            b.only = arg[i + 1];
    }
    bench_must(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking), "a stream");
    print_device(b);
    for (const auto &p : part)
        if (b.only == nullptr || p.run == bench_yardsticks || strcmp(b.only, p.name) == 0)
            p.run(b);
    bench_must(cudaStreamDestroy(b.stream), "the stream");
    return 0;
}
