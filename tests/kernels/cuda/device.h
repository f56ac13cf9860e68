/* Device memory for tests: arrays that go there and come back. */
#ifndef SHOAL_TESTS_KERNELS_CUDA_DEVICE_H
#define SHOAL_TESTS_KERNELS_CUDA_DEVICE_H

#include "tests/support/check_main.h"

#include <cuda_runtime.h>

#include <vector>

/* n elements on the device, unset. */
template <typename T> static T *device_new(size_t n)
{
    T *at = nullptr;
    ck_assert_int_eq(cudaMalloc(&at, n * sizeof(T)), cudaSuccess);
    return at;
}

template <typename T> static T *to_device(const T *from, size_t n)
{
    T *at = device_new<T>(n);
    ck_assert_int_eq(cudaMemcpy(at, from, n * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return at;
}

template <typename T> static T *to_device(const std::vector<T> &from)
{
    return to_device(from.data(), from.size());
}

template <typename T> static std::vector<T> from_device(const T *at, size_t n)
{
    std::vector<T> host(n);
    ck_assert_int_eq(cudaMemcpy(host.data(), at, n * sizeof(T), cudaMemcpyDeviceToHost),
                     cudaSuccess);
    return host;
}

/* max |got - want| / max |want|; a NaN is as far as can be. */
static inline double distance_of(const float *got, const float *want, size_t n)
{
    double worst = 0, largest = 1e-30;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst))
            worst = d == d ? d : INFINITY;
        largest = fmax(largest, fabs((double)want[i]));
    }
    return worst / largest;
}

#endif
