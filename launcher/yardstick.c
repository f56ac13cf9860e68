#include "launcher/yardstick.h"

#include "runtime/base/clock.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TILE_BYTES = 1 << 20, HUGE_PAGE = 1 << 21 };

static void read_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    shoal_yardstick *y = arg;
    const unsigned char *from = y->buffer;
    y->sink[tile] = y->compute.kernels->peak_read(from + (size_t)tile * TILE_BYTES, TILE_BYTES);
}

/* Pages are touched by the threads that will read them. */
static void fill_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    shoal_yardstick *y = arg;
    memset((unsigned char *)y->buffer + (size_t)tile * TILE_BYTES, tile & 0x7f, TILE_BYTES);
}

static size_t choose_bytes(int32_t n_rank_host)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const long n_page = sysconf(_SC_AVPHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const size_t n_cache = cache > 0 ? 4 * (size_t)cache : 0;
    const size_t n_free = n_page > 0 && page > 0 ? (size_t)n_page * (size_t)page : 0;
    size_t wanted = (size_t)1 << 30;
    if (wanted > n_free / 4)
        wanted = (size_t)256 << 20;
    wanted = wanted > n_cache ? wanted : n_cache;
    return wanted / (size_t)n_rank_host;
}

shoal_status shoal_yardstick_open(shoal_yardstick *yardstick, const shoal_compute *compute,
                                  int32_t n_rank_host, shoal_log *log)
{
    return shoal_yardstick_open_bytes(yardstick, compute, choose_bytes(n_rank_host), log);
}

shoal_status shoal_yardstick_open_bytes(shoal_yardstick *yardstick, const shoal_compute *compute,
                                        size_t n_bytes, shoal_log *log)
{
    n_bytes = n_bytes / HUGE_PAGE * HUGE_PAGE;
    shoal_yardstick y = {.compute = *compute, .n_bytes = n_bytes > 0 ? n_bytes : HUGE_PAGE};
    y.buffer = aligned_alloc(HUGE_PAGE, y.n_bytes);
    y.sink = calloc(y.n_bytes / TILE_BYTES, sizeof *y.sink);
    if (y.buffer == NULL || y.sink == NULL) {
        shoal_yardstick_close(&y);
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "no memory for %zu bytes to measure the read bandwidth with", y.n_bytes);
    }
    madvise(y.buffer, y.n_bytes, MADV_HUGEPAGE); /* as weights are */
    shoal_pool_run(compute->pool, fill_tile, &y, (int32_t)(y.n_bytes / TILE_BYTES));
    *yardstick = y;
    return SHOAL_OK;
}

void shoal_yardstick_close(shoal_yardstick *yardstick)
{
    free(yardstick->buffer);
    free(yardstick->sink);
    *yardstick = (shoal_yardstick){0};
}

static double at_least_1(int64_t us)
{
    return us > 1 ? (double)us : 1;
}

double shoal_yardstick_read(shoal_yardstick *yardstick)
{
    const int64_t start_us = shoal_clock_us();
    shoal_pool_run(yardstick->compute.pool, read_tile, yardstick,
                   (int32_t)(yardstick->n_bytes / TILE_BYTES));
    return (double)yardstick->n_bytes / 1e3 / at_least_1(shoal_clock_us() - start_us);
}

/* One tile a worker: each counts itself in, so that none is done before all have begun. */
typedef struct burst {
    const shoal_kernels *kernels;
    bool int8;
    int64_t n_round; /* 0: nothing but the meeting */
    int32_t n_worker;
    atomic_int n_in;
    atomic_uint_fast64_t n_mac;
} burst;

static void burst_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)tile;
    (void)worker;
    burst *b = arg;
    atomic_fetch_add(&b->n_in, 1);
    for (int spin = 0; atomic_load(&b->n_in) < b->n_worker; spin++)
        if (spin > 1000)
            sched_yield(); /* there may be fewer cores than workers */
    if (b->n_round == 0)
        return;
    int32_t ints[SHOAL_PEAK_SINK] = {1, 2, 3};
    float floats[SHOAL_PEAK_SINK] = {1e-3F, 2e-3F, 3e-3F};
    const uint64_t n_mac = b->int8 ? b->kernels->peak_int8(ints, b->n_round)
                                   : b->kernels->peak_f32(floats, b->n_round);
    atomic_fetch_add(&b->n_mac, n_mac);
}

static int64_t burst_us(burst *b, const shoal_compute *compute, int64_t n_round)
{
    b->n_round = n_round;
    atomic_store(&b->n_in, 0);
    atomic_store(&b->n_mac, 0);
    const int64_t start_us = shoal_clock_us();
    shoal_pool_run(compute->pool, burst_tile, b, b->n_worker);
    return shoal_clock_us() - start_us;
}

/* The shortest of a few: whatever else runs on the machine only makes it longer. */
static int64_t shortest_us(burst *b, const shoal_compute *compute, int64_t n_round)
{
    enum { N_RUN = 5 };
    int64_t shortest = INT64_MAX;
    for (int32_t run = 0; run < N_RUN; run++) {
        const int64_t passed_us = burst_us(b, compute, n_round);
        shortest = passed_us < shortest ? passed_us : shortest;
    }
    return shortest;
}

static double best_peak(const shoal_compute *compute, bool int8)
{
    enum { LEAST_US = 5000 };
    burst b = {
        .kernels = compute->kernels, .int8 = int8, .n_worker = shoal_pool_n_thread(compute->pool)};
    int64_t n_round = 1000, passed_us;
    while ((passed_us = shortest_us(&b, compute, n_round)) < LEAST_US)
        n_round *= 4;
    return 2 * (double)atomic_load(&b.n_mac) / 1e3 / at_least_1(passed_us);
}

static double best_job_us(const shoal_compute *compute)
{
    enum { N_RUN = 20, N_JOB = 200 };
    burst b = {.n_worker = shoal_pool_n_thread(compute->pool)};
    double best = 1e9;
    for (int32_t run = 0; run < N_RUN; run++) {
        const int64_t start_us = shoal_clock_us();
        for (int32_t job = 0; job < N_JOB; job++)
            (void)burst_us(&b, compute, 0);
        const double each_us = (double)(shoal_clock_us() - start_us) / N_JOB;
        best = each_us < best ? each_us : best;
    }
    return best;
}

double shoal_yardstick_f32(const shoal_yardstick *yardstick, int64_t window_us)
{
    enum { N_ROUND = 100000 }; /* about a millisecond */
    const shoal_compute *compute = &yardstick->compute;
    burst b = {.kernels = compute->kernels, .n_worker = shoal_pool_n_thread(compute->pool)};
    const int64_t start_us = shoal_clock_us();
    int64_t passed_us = 0;
    double n_mac = 0;
    while (passed_us < window_us) {
        (void)burst_us(&b, compute, N_ROUND);
        n_mac += (double)atomic_load(&b.n_mac);
        passed_us = shoal_clock_us() - start_us;
    }
    return 2 * n_mac / 1e3 / at_least_1(passed_us);
}

double shoal_yardstick_job_us(const shoal_yardstick *yardstick)
{
    return best_job_us(&yardstick->compute);
}

void shoal_yardstick_peaks(shoal_peaks *peaks, const shoal_yardstick *yardstick)
{
    const shoal_compute *compute = &yardstick->compute;
    *peaks = (shoal_peaks){
        .int8_gop_per_s = best_peak(compute, true),
        .f32_gflop_per_s = best_peak(compute, false),
        .pool_job_us = best_job_us(compute),
    };
}
