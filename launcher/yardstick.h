/* What this rank's machine could do at best, measured by the rank's own threads where they run: the
 * yardsticks of decode (reading weights) and prefill (multiplying). Formulas: docs/PERFORMANCE.md.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_YARDSTICK_H
#define SHOAL_LAUNCHER_YARDSTICK_H

#include "runtime/kernels/ops.h"

typedef struct shoal_yardstick {
    shoal_compute compute;
    void *buffer; /* [n_bytes] */
    size_t n_bytes;
    uint64_t *sink; /* [tiles], so that no read can be left out */
} shoal_yardstick;

/* The buffer that is read: the host's share of max(1 GiB, 4 times the last-level cache) among its
 * n_rank_host ranks, or of 256 MiB and 4 times the cache where that is more than a quarter of the
 * free memory. Errors: NO_MEMORY. */
shoal_status shoal_yardstick_open(shoal_yardstick *yardstick, const shoal_compute *compute,
                                  int32_t n_rank_host, shoal_log *log);
/* The same with n_bytes, of which whole huge pages are taken, one at least. */
shoal_status shoal_yardstick_open_bytes(shoal_yardstick *yardstick, const shoal_compute *compute,
                                        size_t n_bytes, shoal_log *log);
void shoal_yardstick_close(shoal_yardstick *yardstick); /* accepts zeroed */

/* One sequential read of the buffer by all threads: bytes / time / 1e9. */
double shoal_yardstick_read(shoal_yardstick *yardstick);

typedef struct shoal_peaks {
    double int8_gop_per_s;  /* a multiply and an add are two */
    double f32_gflop_per_s; /* likewise */
    double pool_job_us;     /* a job of the pool that every worker takes part in, empty */
} shoal_peaks;

/* f32 multiply-adds of all threads over at least window_us of wall-clock time, 2 of them a unit /
 * time / 1e9: with what other processes take in that time. */
double shoal_yardstick_f32(const shoal_yardstick *yardstick, int64_t window_us);

/* Of an empty job of the pool: as peaks' pool_job_us. */
double shoal_yardstick_job_us(const shoal_yardstick *yardstick);

/* The best of a few runs of some milliseconds, all threads. */
void shoal_yardstick_peaks(shoal_peaks *peaks, const shoal_yardstick *yardstick);

#endif
