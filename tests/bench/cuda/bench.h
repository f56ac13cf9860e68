/* Speeds of device code (scripts/dev gpu-check). A case enqueues its work a number of times, each
 * time on other memory, so that no cache of the device keeps it; the calls are recorded as a graph,
 * which is replayed between two events. What is counted beside the time are the bytes that must be
 * moved and the operations that must be done, and what the same device reaches where nothing else
 * is asked of it (yardsticks.cpp): their ratio is the achieved fraction.
 *
 * Under the emulation the cases are small and run once: it shows that they are right, not how fast
 * they are. Output: a JSON object a line as it is found, so that what was measured is kept when the
 * time runs out. Formulas: docs/PERFORMANCE.md, "gpu-check". Layering: tests. */
#ifndef SHOAL_TESTS_BENCH_CUDA_BENCH_H
#define SHOAL_TESTS_BENCH_CUDA_BENCH_H

#include <cuda_runtime.h>

#include <functional>
#include <string>
#include <vector>

struct bench {
    bool tiny;        /* the emulation */
    double case_s;    /* time of a case */
    size_t flush;     /* bytes that a case's calls read in all, well above the device's caches */
    const char *only; /* the part that is wanted beside the yardsticks; NULL: all */
    cudaStream_t stream;
    /* yardsticks; 0: not measured */
    double read_gb_per_s, bf16_tflop_per_s, int8_top_per_s, to_host_gb_per_s, to_device_gb_per_s;
};

/* Ends the program if a call of CUDA has failed, with what it was for. */
void bench_must(cudaError_t error, const char *what);

/* Memory of one case, given back at its end. */
class bench_memory
{
  public:
    ~bench_memory();
    template <typename T> T *device(size_t n)
    {
        return static_cast<T *>(take(n * sizeof(T), false));
    }
    template <typename T> T *pinned(size_t n)
    {
        return static_cast<T *>(take(n * sizeof(T), true));
    }
    template <typename T> T *copy(const T *from, size_t n)
    {
        T *at = device<T>(n);
        bench_must(cudaMemcpy(at, from, n * sizeof(T), cudaMemcpyHostToDevice), "copying inputs");
        return at;
    }
    /* The bytes of `from` again and again, n_times. */
    unsigned char *repeated(const void *from, size_t n_bytes, size_t n_times);
    /* n values in [-1, 1), on the device. */
    float *values(int64_t n);

  private:
    void *take(size_t n_bytes, bool pinned);
    std::vector<std::pair<void *, bool>> taken;
};

/* us of one of n_call calls: the middle of some replays of all of them. NaN under the emulation. */
double bench_us(const bench &b, int n_call, const std::function<cudaError_t(int)> &enqueue);

/* What a case found. */
struct bench_result {
    const char *part, *kernel, *format;
    std::string shape;
    int n_token;
    double us;
    double n_bytes, n_op; /* 0: not counted */
    const char *of;       /* yardstick: "read", "bf16", "int8", "to_host", "to_device", or NULL */
    double target;        /* fraction that is wanted; 0: none */
};
void bench_print(const bench &b, const bench_result &r);

/* A number with its name, of the device as a whole. */
void bench_print_number(const char *name, double value);

/* Calls so that they read b.flush bytes in all, n_bytes each. */
int bench_calls(const bench &b, double n_bytes);

void bench_yardsticks(bench &b); /* read and tensor peaks, copies, launches and waits */
void bench_matmul(bench &b);
void bench_attention(bench &b);
void bench_rows(bench &b); /* norm, integers, rotation, wire, combine */

#endif
