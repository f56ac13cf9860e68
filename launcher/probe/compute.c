/* What a rank reads and multiplies, all ranks at once. */
#include "launcher/probe/compute.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_COL = SHOAL__PROBE_COL, N_TOKEN = SHOAL__PROBE_TOKEN, N_ROW_MANY = SHOAL__PROBE_ROW_MANY };

typedef struct bench {
    const shoal_probe_job *job;
    shoal_yardstick yardstick;
    float *x;                 /* [N_TOKEN, N_COL] */
    shoal_int8_group *x_int8; /* the same rows */
    float *y;                 /* [n_y] */
    size_t n_y;
    float *scale; /* of FP8 blocks, all 1 */
    void *band;   /* one band of a matrix, repeated over the buffer */
    size_t n_weight_bytes;
} bench;

shoal_probe_effort shoal_probe_effort_full(void)
{
    return (shoal_probe_effort){.read_bytes = (size_t)512 << 20,
                                .weight_bytes = (size_t)128 << 20,
                                .window_us = 80000,
                                .link_us = 50000,
                                .n_slot_max = 36,
                                .format_bits = (1U << SHOAL_N_FORMAT) - 1,
                                .host_links = true};
}

shoal_probe_effort shoal_probe_effort_quick(uint32_t format_bits)
{
    return (shoal_probe_effort){.read_bytes = (size_t)128 << 20,
                                .weight_bytes = (size_t)128 << 20,
                                .window_us = 80000,
                                .link_us = 10000,
                                .n_slot_max = 6,
                                .format_bits = format_bits};
}

static int32_t ranks_beside(const shoal_probe_job *job)
{
    const int32_t rank = shoal_comm_rank(job->comm);
    int32_t n = 1;
    for (int32_t r = 0; r < shoal_comm_n_rank(job->comm); r++)
        n += r != rank && job->host[r] == job->host[rank];
    return n;
}

/* Matrices are read from memory: beyond the caches, whatever was asked for. */
static size_t beyond_caches(size_t n_bytes)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t least = cache > 0 ? 2 * (size_t)cache : 0;
    return n_bytes > least ? n_bytes : least;
}

static void bench_close(bench *b)
{
    shoal_yardstick_close(&b->yardstick);
    free(b->x);
    free(b->x_int8);
    free(b->y);
    free(b->scale);
    free(b->band);
}

static shoal_status bench_open(bench *b, const shoal_probe_job *job)
{
    *b = (bench){.job = job};
    const size_t n_beside = (size_t)ranks_beside(job);
    const shoal_probe_effort *e = job->effort;
    SHOAL_TRY(shoal_yardstick_open_bytes(&b->yardstick, job->compute,
                                         beyond_caches(e->read_bytes) / n_beside, job->log));
    b->n_weight_bytes = beyond_caches(e->weight_bytes) / n_beside;
    if (b->n_weight_bytes > b->yardstick.n_bytes)
        b->n_weight_bytes = b->yardstick.n_bytes;
    /* Outputs of the format with the fewest bytes a row, and of the many tokens. */
    const size_t n_row = b->n_weight_bytes /
                             shoal_matrix_data_bytes(SHOAL_FORMAT_MXFP4, SHOAL_BAND, N_COL) *
                             SHOAL_BAND +
                         SHOAL_BAND;
    const size_t n_many = (size_t)N_TOKEN * N_ROW_MANY;
    b->n_y = n_row > n_many ? n_row : n_many;
    const size_t n_group = (size_t)N_TOKEN * (size_t)shoal_int8_groups(N_COL);
    const size_t n_scale = shoal_matrix_scale_bytes(SHOAL_FORMAT_FP8_BLOCK, (int32_t)n_row, N_COL);
    b->x = calloc((size_t)N_TOKEN * N_COL, sizeof *b->x);
    b->x_int8 = calloc(n_group, sizeof *b->x_int8);
    b->y = calloc(b->n_y, sizeof *b->y);
    b->scale = malloc(n_scale);
    b->band = aligned_alloc(64, shoal_matrix_data_bytes(SHOAL_FORMAT_F32, SHOAL_BAND, N_COL));
    if (b->x == NULL || b->x_int8 == NULL || b->y == NULL || b->scale == NULL || b->band == NULL) {
        bench_close(b);
        return shoal_fail(job->log, SHOAL_NO_MEMORY, "no memory to measure products with");
    }
    for (size_t i = 0; i < n_scale / sizeof *b->scale; i++)
        b->scale[i] = 1;
    for (size_t i = 0; i < (size_t)N_TOKEN * N_COL; i++)
        b->x[i] = shoal__probe_value(i);
    shoal_op_to_groups(job->compute, b->x_int8, shoal_int8_groups(N_COL), b->x, N_COL, N_TOKEN,
                       N_COL);
    return SHOAL_OK;
}

void shoal__probe_band(void *band, void *scratch, shoal_format format, const float *x)
{
    enum { N = SHOAL_BAND * N_COL };
    shoal_matrix w = {.format = format, .n_row = SHOAL_BAND, .n_col = N_COL, .data = band};
    uint8_t *raw = scratch;
    int32_t bad_row;
    if (format == SHOAL_FORMAT_Q8 || format == SHOAL_FORMAT_Q4) {
        (void)shoal_matrix_pack_quantised(&w, 0, SHOAL_BAND, x, &bad_row);
    } else if (format == SHOAL_FORMAT_MXFP4) {
        for (size_t i = 0; i < N / 2; i++)
            raw[i] = (uint8_t)(i * 37);
        memset(raw + N / 2, 120, N / SHOAL_GROUP);
        shoal_matrix_pack_mxfp4(&w, 0, SHOAL_BAND, raw, raw + N / 2);
    } else {
        uint16_t *half = scratch;
        for (size_t i = 0; i < N && format == SHOAL_FORMAT_F16; i++)
            half[i] = shoal_f32_to_f16(x[i]);
        for (size_t i = 0; i < N && format == SHOAL_FORMAT_BF16; i++)
            half[i] = shoal_f32_to_bf16(x[i]);
        for (size_t i = 0; i < N && format == SHOAL_FORMAT_FP8_BLOCK; i++)
            raw[i] = (uint8_t)(i * 37 % 0x70);
        shoal_matrix_pack(&w, 0, SHOAL_BAND, format == SHOAL_FORMAT_F32 ? (const void *)x : raw);
    }
}

shoal_matmul_item shoal__probe_product(float *y, const shoal_matrix *w, shoal_rows x,
                                       int32_t n_token)
{
    const bool integers = shoal_format_is_quantised(w->format);
    return (shoal_matmul_item){.y = y,
                               .ld_y = w->n_row,
                               .w = w,
                               .x = x.f32,
                               .ld_x = N_COL,
                               .n_token = n_token,
                               .x_int8 = integers ? x.int8 : NULL,
                               .ld_x_int8 = shoal_int8_groups(N_COL)};
}

float shoal__probe_value(size_t i)
{
    return (float)(int32_t)(i * 2654435761U % 2001) / 1000 - 1;
}

typedef struct filling {
    const bench *b;
    size_t n_band_bytes;
} filling;

static void fill_band(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const filling *f = arg;
    memcpy((unsigned char *)f->b->yardstick.buffer + (size_t)tile * f->n_band_bytes, f->b->band,
           f->n_band_bytes);
}

/* A matrix of the format over the buffer. */
static shoal_matrix make_matrix(bench *b, shoal_format format)
{
    shoal__probe_band(b->band, b->y, format, b->x);
    filling f = {.b = b, .n_band_bytes = shoal_matrix_data_bytes(format, SHOAL_BAND, N_COL)};
    int32_t n_band = (int32_t)(b->n_weight_bytes / f.n_band_bytes);
    const int32_t n_least = N_ROW_MANY / SHOAL_BAND; /* 1 to 8 MiB; the buffer has at least 2 */
    const int32_t n_whole = (int32_t)(b->yardstick.n_bytes / f.n_band_bytes);
    if (n_band < n_least)
        n_band = n_least < n_whole ? n_least : n_whole;
    shoal_pool_run(b->job->compute->pool, fill_band, &f, n_band);
    return (shoal_matrix){.format = format,
                          .n_row = n_band * SHOAL_BAND,
                          .n_col = N_COL,
                          .data = b->yardstick.buffer,
                          .scale = format == SHOAL_FORMAT_FP8_BLOCK ? b->scale : NULL};
}

/* Times a second that the product can be made, over at least the window; looks at messages between
 * products. */
static shoal_status product_rate(double *per_s, bench *b, const shoal_matrix *w, int32_t n_token)
{
    const shoal_matmul_item item =
        shoal__probe_product(b->y, w, (shoal_rows){.f32 = b->x, .int8 = b->x_int8}, n_token);
    const int64_t start_us = shoal_clock_us();
    int64_t n = 0, passed_us = 0;
    while (passed_us < b->job->effort->window_us) {
        shoal_op_matmul_many(b->job->compute, &item, 1);
        n++;
        SHOAL_TRY(shoal_comm_poll(b->job->comm));
        passed_us = shoal_clock_us() - start_us;
    }
    *per_s = (double)n * 1e6 / (double)passed_us;
    return SHOAL_OK;
}

shoal_status shoal__probe_together(const shoal_probe_job *job)
{
    return shoal_comm_agree(job->comm, SHOAL_OK, "measuring");
}

static shoal_status measure_format(shoal_probe_rate *rate, bench *b, shoal_format format)
{
    shoal_matrix w = make_matrix(b, format);
    double per_s;
    snprintf(rate->format, sizeof rate->format, "%s", shoal_format_text(format));
    SHOAL_TRY(shoal__probe_together(b->job));
    SHOAL_TRY(product_rate(&per_s, b, &w, 1));
    rate->decode_gb_per_s = per_s * (double)shoal_matrix_data_bytes(format, w.n_row, N_COL) / 1e9;
    w.n_row = w.n_row < N_ROW_MANY ? w.n_row : N_ROW_MANY;
    SHOAL_TRY(shoal__probe_together(b->job));
    SHOAL_TRY(product_rate(&per_s, b, &w, N_TOKEN));
    rate->prefill_gop_per_s = per_s * 2 * (double)w.n_row * N_COL * N_TOKEN / 1e9;
    return SHOAL_OK;
}

static shoal_status measure_read(shoal_probe_rank *rank, bench *b)
{
    SHOAL_TRY(shoal__probe_together(b->job));
    const int64_t start_us = shoal_clock_us();
    int64_t n = 0, passed_us = 0;
    while (passed_us < b->job->effort->window_us * 3 / 2) {
        (void)shoal_yardstick_read(&b->yardstick);
        n++;
        SHOAL_TRY(shoal_comm_poll(b->job->comm));
        passed_us = shoal_clock_us() - start_us;
    }
    rank->read_gb_per_s = (double)n * (double)b->yardstick.n_bytes / 1e3 / (double)passed_us;
    return SHOAL_OK;
}

static shoal_status measure_all(shoal_probe_rank *rank, bench *b)
{
    const shoal_probe_job *job = b->job;
    SHOAL_TRY(measure_read(rank, b));
    if (job->progress != NULL)
        shoal_progress_set(job->progress, "memory is read at %.1f GB/s", rank->read_gb_per_s);
    SHOAL_TRY(shoal__probe_together(job));
    rank->f32_gflop_per_s = shoal_yardstick_f32(&b->yardstick, job->effort->window_us);
    rank->job_us = shoal_yardstick_job_us(&b->yardstick);
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

shoal_status shoal_probe_compute(shoal_probe_rank *rank, const shoal_probe_job *job)
{
    if (job->compute->device != NULL)
        return shoal__probe_device(rank, job);
    bench b;
    shoal_status status = bench_open(&b, job);
    const bool open = status == SHOAL_OK;
    status = shoal_comm_agree(job->comm, status, "preparing to measure");
    if (status == SHOAL_OK && open)
        status = measure_all(rank, &b);
    if (open)
        bench_close(&b);
    return status;
}
