/* What a rank with a GPU reads and multiplies, and what it costs to start its kernels, to wait for
 * them and to bring bytes there. */
#include "launcher/memory_report.h"
#include "launcher/probe/compute.h"
#include "runtime/base/clock.h"
#include "runtime/kernels/device.h"

#include <stdlib.h>
#include <string.h>

enum {
    N_COL = SHOAL__PROBE_COL,
    N_TOKEN = SHOAL__PROBE_TOKEN,
    N_ROW_MANY = SHOAL__PROBE_ROW_MANY,
    BUFFER_MAX = 256 << 20, /* of matrices: several times the cache of a GPU */
    BUFFER_SHARE = 64,      /* and no larger a part of what is free */
    BUFFER_MIN = SHOAL_BAND * SHOAL__PROBE_COL * 4, /* a band of f32 */
    COPY_MAX = 32 << 20,
    N_AT_ONCE = 8, /* products between two waits */
};

typedef struct bench {
    const shoal_probe_job *job;
    const shoal_compute *compute;
    shoal_device *device;
    unsigned char *buffer; /* device [n_bytes] the matrix */
    size_t n_bytes;
    unsigned char *copy; /* host [n_copy] */
    size_t n_copy;
    float *x;                 /* device [N_TOKEN, N_COL] */
    shoal_int8_group *x_int8; /* device, the same rows */
    float *y;                 /* device, of any product */
    float *scale;             /* device, of FP8 blocks, all 1 */
    size_t n_scale;           /* bytes */
    float *band_x;            /* [2, 16, N_COL] values of a band, and scratch */
} bench;

static void *take(const bench *b, shoal_memory kind, size_t n_bytes)
{
    return b->device->ops->take(b->device, kind, n_bytes);
}

static void give(const bench *b, shoal_memory kind, void *memory)
{
    if (memory != NULL)
        b->device->ops->give_back(b->device, kind, memory);
}

static void bench_close(bench *b)
{
    (void)shoal_op_sync(b->compute);
    give(b, SHOAL_MEMORY_DEVICE, b->buffer);
    give(b, SHOAL_MEMORY_HOST, b->copy);
    give(b, SHOAL_MEMORY_DEVICE, b->x);
    give(b, SHOAL_MEMORY_DEVICE, b->x_int8);
    give(b, SHOAL_MEMORY_DEVICE, b->y);
    give(b, SHOAL_MEMORY_DEVICE, b->scale);
    free(b->band_x);
}

/* n_bytes to the device, as often as what was put into copy [n_piece] fits. */
static void fill(bench *b, void *to, size_t n_bytes, size_t n_piece)
{
    for (size_t at = 0; at < n_bytes; at += n_piece) {
        const size_t n = n_bytes - at < n_piece ? n_bytes - at : n_piece;
        shoal_op_upload(b->compute, (unsigned char *)to + at, n, b->copy, n, n, 1);
    }
}

static shoal_status bench_open(bench *b, const shoal_probe_job *job)
{
    shoal_device *device = job->compute->device;
    const size_t share = (size_t)(device->info.free_bytes / BUFFER_SHARE);
    size_t n_bytes = share < BUFFER_MAX ? share : BUFFER_MAX;
    n_bytes = n_bytes > BUFFER_MIN ? n_bytes : BUFFER_MIN;
    *b = (bench){.job = job, .compute = job->compute, .device = device, .n_bytes = n_bytes};
    const size_t n_row =
        n_bytes / shoal_matrix_data_bytes(SHOAL_FORMAT_MXFP4, SHOAL_BAND, N_COL) * SHOAL_BAND;
    const size_t n_many = (size_t)N_TOKEN * N_ROW_MANY, n_x = (size_t)N_TOKEN * N_COL;
    b->n_scale = shoal_matrix_scale_bytes(SHOAL_FORMAT_FP8_BLOCK, (int32_t)n_row, N_COL);
    b->n_copy = n_bytes < COPY_MAX ? n_bytes : COPY_MAX;
    if (b->n_copy < n_x * sizeof(float))
        b->n_copy = n_x * sizeof(float);
    b->buffer = take(b, SHOAL_MEMORY_DEVICE, n_bytes);
    b->copy = take(b, SHOAL_MEMORY_HOST, b->n_copy);
    b->x = take(b, SHOAL_MEMORY_DEVICE, n_x * sizeof(float));
    b->x_int8 = take(b, SHOAL_MEMORY_DEVICE,
                     (size_t)N_TOKEN * (size_t)shoal_int8_groups(N_COL) * sizeof *b->x_int8);
    b->y = take(b, SHOAL_MEMORY_DEVICE, (n_row > n_many ? n_row : n_many) * sizeof(float));
    b->scale = take(b, SHOAL_MEMORY_DEVICE, b->n_scale);
    b->band_x = malloc((size_t)2 * SHOAL_BAND * N_COL * sizeof(float));
    if (b->buffer == NULL || b->copy == NULL || b->x == NULL || b->x_int8 == NULL || b->y == NULL ||
        b->scale == NULL || b->band_x == NULL) {
        bench_close(b);
        return shoal_fail(job->log, SHOAL_NO_MEMORY,
                          "%s (%s) has no memory free to measure with; nvidia-smi shows who has it",
                          device->info.id, device->info.name);
    }
    float *value = (float *)(void *)b->copy;
    for (size_t i = 0; i < n_x; i++)
        value[i] = shoal__probe_value(i);
    memcpy(b->band_x, value, (size_t)SHOAL_BAND * N_COL * sizeof(float));
    fill(b, b->x, n_x * sizeof(float), n_x * sizeof(float));
    shoal_op_to_groups(b->compute, b->x_int8, shoal_int8_groups(N_COL), b->x, N_COL, N_TOKEN,
                       N_COL);
    return shoal_op_sync(b->compute);
}

/* A matrix of the format over the buffer. */
static shoal_status make_matrix(shoal_matrix *w, bench *b, shoal_format format)
{
    const size_t band = shoal_matrix_data_bytes(format, SHOAL_BAND, N_COL);
    const size_t n_band = b->n_bytes / band, n_fit = b->n_copy / band;
    float *one = (float *)(void *)b->copy;
    for (size_t i = 0; i < b->n_copy / sizeof *one; i++)
        one[i] = 1;
    fill(b, b->scale, b->n_scale, b->n_copy);
    SHOAL_TRY(shoal_op_sync(b->compute));
    shoal__probe_band(b->copy, b->band_x + (size_t)SHOAL_BAND * N_COL, format, b->band_x);
    for (size_t i = 1; i < n_fit; i++)
        memcpy(b->copy + i * band, b->copy, band);
    fill(b, b->buffer, n_band * band, n_fit * band);
    *w = (shoal_matrix){.format = format,
                        .n_row = (int32_t)n_band * SHOAL_BAND,
                        .n_col = N_COL,
                        .data = b->buffer,
                        .scale = format == SHOAL_FORMAT_FP8_BLOCK ? b->scale : NULL};
    return shoal_op_sync(b->compute);
}

/* Times a second that the product can be made, over at least the window; looks at messages between
 * products. */
static shoal_status product_rate(double *per_s, bench *b, const shoal_matrix *w, int32_t n_token)
{
    const shoal_matmul_item item =
        shoal__probe_product(b->y, w, (shoal_rows){.f32 = b->x, .int8 = b->x_int8}, n_token);
    shoal_op_matmul_many(b->compute, &item, 1); /* clocks warm up */
    SHOAL_TRY(shoal_op_sync(b->compute));
    int64_t n = 0, passed_us = 0;
    const int64_t start_us = shoal_clock_us();
    while (n == 0 || passed_us < b->job->effort->window_us) {
        const int64_t n_now = n == 0 ? 1 : N_AT_ONCE;
        for (int64_t i = 0; i < n_now; i++)
            shoal_op_matmul_many(b->compute, &item, 1);
        SHOAL_TRY(shoal_op_sync(b->compute));
        n += n_now;
        SHOAL_TRY(shoal_comm_poll(b->job->comm));
        passed_us = shoal_clock_us() - start_us;
    }
    *per_s = (double)n * 1e6 / (double)(passed_us > 0 ? passed_us : 1);
    return SHOAL_OK;
}

static double ops_of(const shoal_matrix *w)
{
    return 2 * (double)w->n_row * N_COL * N_TOKEN;
}

/* Rows of the many tokens' matrix: fewer where the buffer is small. */
static int32_t rows_for_many(const shoal_matrix *w)
{
    const int32_t n = w->n_row / 4 / SHOAL_BAND * SHOAL_BAND;
    return n > N_ROW_MANY ? N_ROW_MANY : n > SHOAL_BAND ? n : SHOAL_BAND;
}

static shoal_status measure_format(shoal_probe_rate *rate, bench *b, shoal_format format)
{
    double per_s;
    shoal_matrix w;
    snprintf(rate->format, sizeof rate->format, "%s", shoal_format_text(format));
    SHOAL_TRY(make_matrix(&w, b, format));
    SHOAL_TRY(shoal__probe_together(b->job));
    SHOAL_TRY(product_rate(&per_s, b, &w, 1));
    rate->decode_gb_per_s = per_s * (double)shoal_matrix_data_bytes(format, w.n_row, N_COL) / 1e9;
    w.n_row = rows_for_many(&w);
    SHOAL_TRY(shoal__probe_together(b->job));
    SHOAL_TRY(product_rate(&per_s, b, &w, N_TOKEN));
    rate->prefill_gop_per_s = per_s * ops_of(&w) / 1e9;
    return SHOAL_OK;
}

static double at_least_1(int64_t us)
{
    return us > 1 ? (double)us : 1;
}

/* The slower way of a piece of pinned memory. */
static shoal_status measure_bus(shoal_probe_rank *rank, bench *b)
{
    double slowest = 0;
    for (int32_t way = 0; way < 2; way++) {
        const size_t n = b->n_copy < b->n_bytes ? b->n_copy : b->n_bytes;
        int64_t best_us = INT64_MAX;
        for (int32_t i = 0; i < 3; i++) {
            const int64_t start_us = shoal_clock_us();
            if (way == 0)
                shoal_op_upload(b->compute, b->buffer, n, b->copy, n, n, 1);
            else
                shoal_op_fetch(b->compute, b->copy, b->buffer, n);
            SHOAL_TRY(shoal_op_sync(b->compute));
            const int64_t passed_us = shoal_clock_us() - start_us;
            best_us = passed_us < best_us ? passed_us : best_us;
        }
        const double speed = (double)n / 1e3 / at_least_1(best_us);
        slowest = way == 0 || speed < slowest ? speed : slowest;
    }
    rank->pcie_gb_per_s = slowest;
    return SHOAL_OK;
}

/* The best of a few runs of small kernels: one behind the other, and each waited for. */
static shoal_status measure_calls(shoal_probe_rank *rank, bench *b)
{
    enum { N_RUN = 5, N_CALL = 100, N_ROUND = 25, N_VALUE = 32 };
    double launch_us = 1e9, round_us = 1e9;
    for (int32_t run = 0; run < N_RUN; run++) {
        int64_t start_us = shoal_clock_us();
        for (int32_t i = 0; i < N_CALL; i++)
            shoal_op_scale(b->compute, b->y, 1, N_VALUE);
        const double each_us = (double)(shoal_clock_us() - start_us) / N_CALL;
        launch_us = each_us < launch_us ? each_us : launch_us;
        SHOAL_TRY(shoal_op_sync(b->compute));
        start_us = shoal_clock_us();
        for (int32_t i = 0; i < N_ROUND; i++) {
            shoal_op_scale(b->compute, b->y, 1, N_VALUE);
            SHOAL_TRY(shoal_op_sync(b->compute));
        }
        const double both_us = (double)(shoal_clock_us() - start_us) / N_ROUND;
        round_us = both_us < round_us ? both_us : round_us;
    }
    rank->launch_us = launch_us;
    rank->wait_us = round_us > launch_us ? round_us - launch_us : 0;
    rank->job_us = round_us;
    return SHOAL_OK;
}

static shoal_status measure_all(shoal_probe_rank *rank, bench *b)
{
    const shoal_probe_job *job = b->job;
    shoal_matrix w;
    double per_s;
    SHOAL_TRY(shoal__probe_together(job));
    rank->read_gb_per_s = b->device->ops->read_gb_per_s(b->device, b->buffer, b->n_bytes);
    if (job->progress != NULL)
        shoal_progress_set(job->progress, "memory is read at %.1f GB/s", rank->read_gb_per_s);
    SHOAL_TRY(shoal__probe_together(job));
    SHOAL_TRY(measure_calls(rank, b));
    SHOAL_TRY(measure_bus(rank, b));
    SHOAL_TRY(make_matrix(&w, b, SHOAL_FORMAT_F32));
    w.n_row = rows_for_many(&w);
    SHOAL_TRY(product_rate(&per_s, b, &w, N_TOKEN));
    rank->f32_gflop_per_s = per_s * ops_of(&w) / 1e9;
    rank->n_rate = 0;
    for (int32_t f = 0; f < SHOAL_N_FORMAT; f++) {
        if ((job->effort->format_bits >> f & 1U) == 0)
            continue;
        if (job->progress != NULL)
            shoal_progress_set(job->progress, "products with %s weights",
                               shoal_format_text((shoal_format)f));
        SHOAL_TRY(measure_format(&rank->rate[rank->n_rate], b, (shoal_format)f));
        rank->n_rate++;
    }
    return SHOAL_OK;
}

static void describe(shoal_probe_rank *rank, const shoal_device_info *info)
{
    const char *colon = strchr(info->id, ':');
    rank->gpu = colon != NULL ? atoi(colon + 1) : 0;
    rank->memory_bytes = shoal_memory_room(info->free_bytes);
    snprintf(rank->device, sizeof rank->device, "%.*s", SHOAL_PROBE_NAME - 1, info->name);
}

shoal_status shoal__probe_device(shoal_probe_rank *rank, const shoal_probe_job *job)
{
    bench b;
    shoal_status status = bench_open(&b, job);
    const bool open = status == SHOAL_OK;
    describe(rank, &job->compute->device->info);
    status = shoal_comm_agree(job->comm, status, "preparing to measure");
    if (status == SHOAL_OK && open)
        status = measure_all(rank, &b);
    if (open)
        bench_close(&b);
    return status;
}
