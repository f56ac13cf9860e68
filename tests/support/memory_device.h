/* A device that has memory and moves bytes, late, and computes nothing: for tests of what gets into
 * it. Nothing that is enqueued happens before somebody waits for it; while nothing happens its
 * memory is closed, so that a host which touches it crashes. Layering: tests. */
#ifndef SHOAL_TESTS_SUPPORT_MEMORY_DEVICE_H
#define SHOAL_TESTS_SUPPORT_MEMORY_DEVICE_H

#include "runtime/kernels/device.h"

typedef struct shoal_memory_device_config {
    size_t memory_bytes;   /* DEVICE */
    size_t pinned_bytes;   /* HOST */
    int32_t n_upload_good; /* uploads that work; then it has failed. < 0: all */
} shoal_memory_device_config;

typedef struct shoal_memory_device shoal_memory_device;

shoal_memory_device *shoal_memory_device_open(const shoal_memory_device_config *config);
shoal_device *shoal_memory_device_of(shoal_memory_device *d); /* close: shoal_device_close */

/* Between open and close the test may read device memory. */
void shoal_memory_device_show(shoal_memory_device *d, bool is_open);

/* Bytes taken now of each kind, the most of HOST so far, and uploads so far. */
typedef struct shoal_memory_device_counts {
    size_t device_bytes, pinned_bytes, pinned_bytes_max;
    int64_t n_upload;
} shoal_memory_device_counts;
shoal_memory_device_counts shoal_memory_device_count(const shoal_memory_device *d);

#endif
