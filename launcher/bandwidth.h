/* How fast this rank's threads read memory: the yardstick of decode, which reads every weight that
 * it uses once per step. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_BANDWIDTH_H
#define SHOAL_LAUNCHER_BANDWIDTH_H

#include "runtime/base/pool.h"

#include <stddef.h>

/* Sequential reads of one buffer by all threads of the pool; bytes / time / 1e9, the best of a few
 * passes. The buffer is at least 256 MiB and 4 times the last-level cache, 1 GiB where n_rank_host
 * ranks together then take less than a quarter of the free memory. Errors: NO_MEMORY. */
shoal_status shoal_bandwidth_measure(double *gb_per_s, size_t *buffer_bytes, shoal_pool *pool,
                                     int32_t n_rank_host, shoal_log *log);

#endif
