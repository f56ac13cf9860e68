#include "runtime/kernels/ops.h"

enum {
    /* A tile is at most about 100 us of work on one core with a vector variant, so that worker 0
     * polls the transport often enough (rule 7); less if there would be too few for all threads to
     * end at the same time, but not so little that taking it counts. */
    TILE_MACS = 1 << 20,
    TILE_MACS_MIN = 1 << 16,
    TILES_PER_THREAD = 4,
    TILE_ELEMS = 1 << 14,
    TOKEN_STEP = 32, /* tokens that share one decoding of the weights in cpu/matmul.c */
    BAND_STEP = 4,   /* bands that it works on at a time for a token */
};

/* How one product is cut: a grid of token chunks by band chunks, all bands of a token chunk before
 * the next chunk, so that its rows of x stay in the cache while the weights stream. */
typedef struct grid {
    int32_t n_band;  /* of the matrix */
    int32_t bands;   /* per tile */
    int32_t tokens;  /* per tile */
    int32_t n_split; /* tiles along the bands */
    int32_t n_tile;
} grid;

/* One more than the tokens: decoding a weight costs about as much as using it. */
static int64_t macs_of(const shoal_matmul_item *item)
{
    return item->n_token == 0
               ? 0
               : (int64_t)item->w->n_row * item->w->n_col * ((int64_t)item->n_token + 1);
}

static grid cut(const shoal_matmul_item *item, int64_t tile_macs)
{
    grid g = {.n_band = shoal_matrix_n_band(item->w), .bands = 1, .tokens = 1, .n_split = 1};
    if (item->n_token == 0 || g.n_band == 0)
        return g;
    int64_t band_cost = (int64_t)SHOAL_BAND * item->w->n_col + 1;
    int64_t tokens = tile_macs / band_cost / TOKEN_STEP * TOKEN_STEP;
    tokens = tokens < TOKEN_STEP ? TOKEN_STEP : tokens;
    tokens = tokens < item->n_token ? tokens : item->n_token;
    int64_t bands = tile_macs / (band_cost * (tokens + 1));
    bands -= bands > BAND_STEP ? bands % BAND_STEP : 0;
    bands = bands < 1 ? 1 : bands < g.n_band ? bands : g.n_band;
    g.tokens = (int32_t)tokens;
    g.bands = (int32_t)bands;
    g.n_split = (g.n_band + g.bands - 1) / g.bands;
    g.n_tile = g.n_split * ((item->n_token + g.tokens - 1) / g.tokens);
    return g;
}

typedef struct matmul_job {
    const shoal_kernels *kernels;
    const shoal_matmul_item *item;
    int64_t tile_macs;
} matmul_job;

static void matmul_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const matmul_job *job = arg;
    const shoal_matmul_item *item = job->item;
    grid g = cut(item, job->tile_macs);
    while (tile >= g.n_tile) {
        tile -= g.n_tile;
        g = cut(++item, job->tile_macs);
    }
    int32_t band0 = tile % g.n_split * g.bands;
    int32_t band1 = g.n_band - band0 < g.bands ? g.n_band : band0 + g.bands;
    int32_t t0 = tile / g.n_split * g.tokens;
    int32_t n_token = item->n_token - t0 < g.tokens ? item->n_token - t0 : g.tokens;
    job->kernels->matmul(item->y + t0 * item->ld_y, item->ld_y, item->w, band0, band1,
                         item->x + t0 * item->ld_x, item->ld_x, n_token);
    if (item->bias == NULL)
        return;
    int32_t row0 = band0 * SHOAL_BAND;
    int32_t n_row = item->w->n_row - row0;
    n_row = n_row < (band1 - band0) * SHOAL_BAND ? n_row : (band1 - band0) * SHOAL_BAND;
    for (int32_t t = t0; t < t0 + n_token; t++)
        job->kernels->add(item->y + t * item->ld_y + row0, item->bias + row0, n_row);
}

void shoal_op_matmul_many(const shoal_compute *c, const shoal_matmul_item *item, int32_t n_item)
{
    int64_t macs = 0;
    for (int32_t i = 0; i < n_item; i++)
        macs += macs_of(&item[i]);
    int64_t share = macs / (TILES_PER_THREAD * shoal_pool_n_thread(c->pool));
    share = share < TILE_MACS_MIN ? TILE_MACS_MIN : share;
    int64_t tile_macs = share < TILE_MACS ? share : TILE_MACS;
    int32_t n_tile = 0;
    for (int32_t i = 0; i < n_item; i++)
        n_tile += cut(&item[i], tile_macs).n_tile;
    matmul_job job = {.kernels = c->kernels, .item = item, .tile_macs = tile_macs};
    if (n_tile > 0)
        shoal_pool_run(c->pool, matmul_tile, &job, n_tile);
}

void shoal_op_matmul(const shoal_compute *c, float *y, int64_t ld_y, const shoal_matrix *w,
                     const float *x, int64_t ld_x, int32_t n_token)
{
    shoal_matmul_item item = {
        .y = y, .ld_y = ld_y, .w = w, .x = x, .ld_x = ld_x, .n_token = n_token};
    shoal_op_matmul_many(c, &item, 1);
}

typedef struct norm_job {
    const shoal_kernels *kernels;
    float *y;
    int64_t ld_y;
    const float *x;
    int64_t ld_x;
    const float *weight;
    int32_t n_row;
    int32_t n_col;
    int32_t rows; /* per tile */
    float eps;
} norm_job;

static void norm_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const norm_job *job = arg;
    int32_t row0 = tile * job->rows;
    int32_t row1 = job->n_row - row0 < job->rows ? job->n_row : row0 + job->rows;
    for (int32_t r = row0; r < row1; r++)
        job->kernels->rms_norm(job->y + r * job->ld_y, job->x + r * job->ld_x, job->weight,
                               job->n_col, job->eps);
}

void shoal_op_rms_norm(const shoal_compute *c, float *y, int64_t ld_y, const float *x, int64_t ld_x,
                       const float *weight, int32_t n_row, int32_t n_col, float eps)
{
    norm_job job = {.kernels = c->kernels,
                    .y = y,
                    .ld_y = ld_y,
                    .x = x,
                    .ld_x = ld_x,
                    .weight = weight,
                    .n_row = n_row,
                    .n_col = n_col,
                    .rows = n_col < TILE_ELEMS ? TILE_ELEMS / (n_col + 1) : 1,
                    .eps = eps};
    if (n_row > 0)
        shoal_pool_run(c->pool, norm_tile, &job, (n_row - 1) / job.rows + 1);
}

typedef struct activate_job {
    const shoal_kernels *kernels;
    const shoal_activation *activation;
    float *y;
    const float *gate;
    const float *up;
    int64_t n;
} activate_job;

static void activate_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const activate_job *job = arg;
    const shoal_activation *a = job->activation;
    int64_t i0 = (int64_t)tile * TILE_ELEMS;
    int64_t n = job->n - i0 < TILE_ELEMS ? job->n - i0 : TILE_ELEMS;
    if (a->kind == SHOAL_ACTIVATION_SWIGLU_CLAMPED)
        job->kernels->swiglu_clamped(job->y + i0, job->gate + i0, job->up + i0, n, a->alpha,
                                     a->limit);
    else
        job->kernels->silu_mul(job->y + i0, job->gate + i0, job->up + i0, n);
}

void shoal_op_activate(const shoal_compute *c, const shoal_activation *activation, float *y,
                       const float *gate, const float *up, int64_t n)
{
    activate_job job = {
        .kernels = c->kernels, .activation = activation, .y = y, .gate = gate, .up = up, .n = n};
    if (n > 0)
        shoal_pool_run(c->pool, activate_tile, &job, (int32_t)((n - 1) / TILE_ELEMS + 1));
}
