/* The two sides of a comparison: the operations of ops.h on the CPU, and on a CUDA device (the
 * emulation's, or a real one: world.h). A test makes inputs once, gives each side a copy, calls the
 * same operation on both and compares what comes back. Layering: tests. */
#ifndef SHOAL_TESTS_KERNELS_CUDA_BOTH_H
#define SHOAL_TESTS_KERNELS_CUDA_BOTH_H

#include "tests/kernels/cuda/tolerance.h"
#include "tests/kernels/cuda/world.h"
#include "tests/support/check_main.h"

extern "C" {
#include "runtime/kernels/device.h"
#include "tests/kernels/cuda/cpu_side.h"
}

#include <math.h>
#include <string.h>

#include <utility>
#include <vector>

struct both {
    shoal_log log;
    shoal_pool *pool;
    shoal_compute cpu, device;

    explicit both(uint64_t seed, bool precise = false, int32_t n_item = 16) : cpu(), device()
    {
        world_reset(seed);
        shoal_log_init(&log, stderr, 0, "test");
        ck_assert_int_eq(shoal_pool_open(&pool, 1, &log), SHOAL_OK);
        shoal_device_config config = {};
        config.precise = precise;
        config.n_item = n_item;
        config.pool = pool;
        cpu = {cpu_kernels(), pool, nullptr};
        device = cpu;
        ck_assert_int_eq(shoal_cuda_backend.open(&device.device, 0, &config, &log), SHOAL_OK);
    }
    both(const both &) = delete;
    both &operator=(const both &) = delete;
    ~both()
    {
        for (const auto &one : taken)
            device.device->ops->give_back(device.device, one.first, one.second);
        shoal_device_close(device.device);
        shoal_pool_close(pool);
        ck_assert_str_eq(world_problems(), "");
    }

    /* n elements of the device's memory, or of its pinned one, like `from` (NULL: all bits set). */
    template <typename T> T *vram(const T *from, size_t n)
    {
        std::vector<unsigned char> unset(n * sizeof(T), 0xff);
        T *at = static_cast<T *>(take(SHOAL_MEMORY_DEVICE, n * sizeof(T)));
        T *staged = pinned(from != nullptr ? from : reinterpret_cast<const T *>(unset.data()), n);
        shoal_op_upload(&device, at, n * sizeof(T), staged, n * sizeof(T), n * sizeof(T), 1);
        sync();
        return at;
    }
    template <typename T> T *vram(const std::vector<T> &from)
    {
        return vram(from.data(), from.size());
    }
    template <typename T> T *pinned(const T *from, size_t n)
    {
        T *at = static_cast<T *>(take(SHOAL_MEMORY_HOST, n * sizeof(T)));
        if (from != nullptr && n > 0)
            memcpy(at, from, n * sizeof(T));
        return at;
    }
    template <typename T> T *pinned(const std::vector<T> &from)
    {
        return pinned(from.data(), from.size());
    }
    /* What is there now, when all that was enqueued has happened. */
    template <typename T> std::vector<T> back(const T *at, size_t n)
    {
        T *staged = pinned<T>(nullptr, n);
        shoal_op_fetch(&device, staged, at, n * sizeof(T));
        sync();
        return std::vector<T>(staged, staged + n);
    }
    void sync()
    {
        ck_assert_int_eq(shoal_op_sync(&device), SHOAL_OK);
    }

  private:
    void *take(shoal_memory kind, size_t n_bytes)
    {
        void *at = device.device->ops->take(device.device, kind, n_bytes);
        ck_assert(at != nullptr);
        taken.push_back({kind, at});
        return at;
    }
    std::vector<std::pair<shoal_memory, void *>> taken;
};

/* max |got - want| / max |want|; a NaN is as far as can be, but where both are NaNs. */
static inline double distance_of(const float *got, const float *want, size_t n)
{
    double worst = 0, largest = 1e-30;
    for (size_t i = 0; i < n; i++) {
        const double d =
            got[i] != got[i] && want[i] != want[i] ? 0 : fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst))
            worst = d == d ? d : INFINITY;
        if (fabs((double)want[i]) > largest)
            largest = fabs((double)want[i]);
    }
    return worst / largest;
}

static inline void assert_near(const std::vector<float> &got, const std::vector<float> &want,
                               double tolerance)
{
    ck_assert_uint_eq(got.size(), want.size());
    const double distance = distance_of(got.data(), want.data(), got.size());
    ck_assert_msg(distance <= tolerance, "%.3g of the largest value away, at most %.3g is fine",
                  distance, tolerance);
}

template <typename T> static void assert_same(const std::vector<T> &got, const std::vector<T> &want)
{
    ck_assert_uint_eq(got.size(), want.size());
    for (size_t i = 0; i < got.size(); i++)
        ck_assert_msg(memcmp(&got[i], &want[i], sizeof(T)) == 0, "element %zu of %zu differs", i,
                      got.size());
}

/* Numbers for shapes and lists. */
struct numbers {
    uint64_t state;
    /* in [from, to] */
    int32_t between(int32_t from, int32_t to)
    {
        state = state * 6364136223846793005U + 1442695040888963407U;
        return from + (int32_t)((state >> 33) % (uint64_t)(to - from + 1));
    }
};

static inline std::vector<float> some_values(int64_t n, uint64_t seed)
{
    const float *x = cpu_values(n, seed);
    return std::vector<float>(x, x + n);
}

#endif
