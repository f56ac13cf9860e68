#include "launcher/bandwidth.h"

#include "runtime/base/clock.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_PASS = 3, TILE_BYTES = 1 << 20 };

typedef uint64_t wide __attribute__((vector_size(64)));

typedef struct reading {
    const unsigned char *buffer;
    size_t n_bytes;
    uint64_t *sum; /* [n_tile], so that no read can be left out */
} reading;

static void read_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    reading *r = arg;
    const wide *from = (const wide *)(const void *)(r->buffer + (size_t)tile * TILE_BYTES);
    wide sum[4] = {{0}};
    for (size_t i = 0; i < TILE_BYTES / sizeof(wide); i += 4)
        for (size_t j = 0; j < 4; j++)
            sum[j] ^= from[i + j];
    sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
    uint64_t all = 0;
    for (size_t j = 0; j < sizeof(wide) / 8; j++)
        all ^= sum[0][j];
    r->sum[tile] = all;
}

/* Touch the pages by the threads that will read them. */
static void fill_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    reading *r = arg;
    memset((void *)(uintptr_t)(r->buffer + (size_t)tile * TILE_BYTES), tile & 0x7f, TILE_BYTES);
}

static size_t choose_bytes(int32_t n_rank_host)
{
    size_t least = (size_t)256 << 20;
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0 && 4 * (size_t)cache > least)
        least = 4 * (size_t)cache;
    size_t wanted = (size_t)1 << 30;
    long n_page = sysconf(_SC_AVPHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    size_t n_free = n_page > 0 && page > 0 ? (size_t)n_page * (size_t)page : 0;
    if (wanted < least || wanted * (size_t)n_rank_host > n_free / 4)
        wanted = least;
    return wanted / TILE_BYTES * TILE_BYTES;
}

shoal_status shoal_bandwidth_measure(double *gb_per_s, size_t *buffer_bytes, shoal_pool *pool,
                                     int32_t n_rank_host, shoal_log *log)
{
    reading r = {.n_bytes = choose_bytes(n_rank_host)};
    int32_t n_tile = (int32_t)(r.n_bytes / TILE_BYTES);
    void *buffer = aligned_alloc(4096, r.n_bytes);
    r.buffer = buffer;
    r.sum = calloc((size_t)n_tile, sizeof *r.sum);
    if (buffer == NULL || r.sum == NULL) {
        free(buffer);
        free(r.sum);
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "no memory for %zu bytes to measure the read bandwidth with", r.n_bytes);
    }
    shoal_pool_run(pool, fill_tile, &r, n_tile);
    int64_t best_us = INT64_MAX;
    for (int32_t pass = 0; pass < N_PASS; pass++) {
        int64_t start_us = shoal_clock_us();
        shoal_pool_run(pool, read_tile, &r, n_tile);
        int64_t passed_us = shoal_clock_us() - start_us;
        if (passed_us < best_us)
            best_us = passed_us;
    }
    uint64_t check = 0;
    for (int32_t i = 0; i < n_tile; i++)
        check ^= r.sum[i];
    shoal_log_debug(log, "read %zu bytes in %lld us (check %llx)", r.n_bytes, (long long)best_us,
                    (unsigned long long)check);
    free(r.sum);
    free(buffer);
    *buffer_bytes = r.n_bytes;
    *gb_per_s = (double)r.n_bytes / 1e3 / (double)(best_us > 0 ? best_us : 1);
    return SHOAL_OK;
}
