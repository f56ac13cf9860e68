/* Products spread over a pool. All items of a job lie one behind the other on a line of estimated
 * time, cut into tiles without regard to where items begin, so tiles take the same time whatever
 * the shapes and token counts. */
#include "runtime/kernels/device.h"

enum {
    /* Picoseconds on one core with a vector variant, from measurements (docs/PERFORMANCE.md). */
    BYTE_PS = 70,          /* to read a byte of weights, both cores reading */
    MAC_F32_PS = 20,       /* a multiply-add in f32 */
    MAC_INT8_PS = 6,       /* in integers */
    TILE_PS = 100000000,   /* at most, so that worker 0 polls the transport often enough (rule 7) */
    TILE_MIN_PS = 1500000, /* at least, so that taking a tile does not count */

    COARSE_SHARE = 8, /* a thread's share of the job is about so many tiles, ... */
    FINE_SHARE = 64,  /* but the last quarter of the job has finer ones: all end together */

    X_BYTES = 256 << 10, /* rows of x that stay in an L2 while weights stream */
    TOKEN_STEP = 32,     /* chunks are multiples of it, and so of what kernels work on at a time */
    FEW_TOKENS = 8,
    BAND_STEP = 4,    /* bands that it works on at a time for few tokens */
    N_ITEM_MAX = 512, /* in one job */
};

/* How one product is cut: token chunks by units of bands, all bands of a chunk before the next, so
 * that its rows of x stay in the cache while the weights stream. Units follow each other on the
 * job's line. */
typedef struct grid {
    int32_t n_band;  /* of the matrix */
    int32_t bands;   /* per unit */
    int32_t n_split; /* units along the bands */
    int32_t tokens;  /* per chunk */
    int64_t n_unit;
    int64_t unit_ps;
} grid;

static int32_t ceil_div(int32_t n, int32_t by)
{
    return (n - 1) / by + 1;
}

static bool takes_int8(const shoal_matmul_item *item)
{
    return item->x_int8 != NULL && shoal_format_is_quantised(item->w->format);
}

static grid cut(const shoal_matmul_item *item)
{
    const shoal_matrix *w = item->w;
    bool in_int8 = takes_int8(item);
    grid g = {.n_band = shoal_matrix_n_band(w), .bands = 1, .n_split = 1, .tokens = item->n_token};
    if (item->n_token < 1 || g.n_band == 0)
        return g;
    int64_t x_bytes = in_int8 ? (int64_t)sizeof(shoal_int8_group) : SHOAL_GROUP * 4;
    x_bytes *= w->n_col / SHOAL_GROUP + 1;
    int64_t tokens = X_BYTES / x_bytes / TOKEN_STEP * TOKEN_STEP;
    tokens = tokens < TOKEN_STEP ? TOKEN_STEP : tokens;
    int32_t n_chunk = tokens < item->n_token ? ceil_div(item->n_token, (int32_t)tokens) : 1;
    g.tokens = ceil_div(item->n_token, n_chunk);
    if (n_chunk > 1 && !in_int8)
        g.tokens = (int32_t)tokens;
    n_chunk = ceil_div(item->n_token, g.tokens);
    g.bands = in_int8 || g.tokens > FEW_TOKENS ? 1 : BAND_STEP;
    g.n_split = ceil_div(g.n_band, g.bands);
    g.n_unit = (int64_t)g.n_split * n_chunk;
    /* In f32 decoding a weight costs about as much as using it. */
    int64_t macs = (int64_t)SHOAL_BAND * w->n_col * (in_int8 ? g.tokens : g.tokens + 1);
    int64_t bytes = (int64_t)shoal_matrix_data_bytes(w->format, SHOAL_BAND, w->n_col);
    g.unit_ps = g.bands * (bytes * BYTE_PS + macs * (in_int8 ? MAC_INT8_PS : MAC_F32_PS) + 1);
    return g;
}

typedef struct matmul_job {
    const shoal_kernels *kernels;
    const shoal_matmul_item *item;
    int32_t n_item;
    int32_t n_coarse; /* tiles; the others are fine */
    int64_t coarse_ps;
    int64_t fine_ps;
    grid grid[N_ITEM_MAX];
    int64_t start_ps[N_ITEM_MAX];
} matmul_job;

/* Bands [band0, band1) for n_token tokens from t0 on. */
static void run_part(const shoal_kernels *k, const shoal_matmul_item *item, int32_t band0,
                     int32_t band1, int32_t t0, int32_t n_token)
{
    float *y = item->y + t0 * item->ld_y;
    if (takes_int8(item))
        k->matmul_int8(y, item->ld_y, item->w, band0, band1, item->x_int8 + t0 * item->ld_x_int8,
                       item->ld_x_int8, n_token);
    else
        k->matmul(y, item->ld_y, item->w, band0, band1, item->x + t0 * item->ld_x, item->ld_x,
                  n_token);
    if (item->bias == NULL)
        return;
    int32_t row0 = band0 * SHOAL_BAND;
    int32_t n_row = item->w->n_row - row0;
    n_row = n_row < (band1 - band0) * SHOAL_BAND ? n_row : (band1 - band0) * SHOAL_BAND;
    for (int32_t t = 0; t < n_token; t++)
        k->add(y + t * item->ld_y + row0, item->bias + row0, n_row);
}

/* The units of an item that begin in [begin_ps, end_ps) of its own line. */
static void run_units(const shoal_kernels *k, const shoal_matmul_item *item, grid g,
                      int64_t begin_ps, int64_t end_ps)
{
    if (g.n_unit == 0)
        return;
    int64_t unit = begin_ps <= 0 ? 0 : (begin_ps - 1) / g.unit_ps + 1;
    int64_t end = (end_ps - 1) / g.unit_ps + 1;
    end = end < g.n_unit ? end : g.n_unit;
    while (unit < end) {
        int32_t chunk = (int32_t)(unit / g.n_split);
        int64_t first = (int64_t)chunk * g.n_split;
        int64_t last = end - first < g.n_split ? end - first : g.n_split;
        int32_t band0 = (int32_t)(unit - first) * g.bands;
        int32_t band1 = last == g.n_split ? g.n_band : (int32_t)last * g.bands;
        int32_t t0 = chunk * g.tokens;
        int32_t n_token = item->n_token - t0 < g.tokens ? item->n_token - t0 : g.tokens;
        run_part(k, item, band0, band1, t0, n_token);
        unit = first + last;
    }
}

static int64_t tile_begin_ps(const matmul_job *job, int32_t tile)
{
    int32_t n_fine = tile > job->n_coarse ? tile - job->n_coarse : 0;
    return (tile - n_fine) * job->coarse_ps + n_fine * job->fine_ps;
}

/* The last item that begins at or before at_ps. */
static int32_t item_at(const matmul_job *job, int64_t at_ps)
{
    int32_t low = 0, high = job->n_item;
    while (high - low > 1) {
        int32_t middle = (low + high) / 2;
        if (job->start_ps[middle] <= at_ps)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void matmul_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const matmul_job *job = arg;
    int64_t begin = tile_begin_ps(job, tile);
    int64_t end = tile_begin_ps(job, tile + 1);
    for (int32_t i = item_at(job, begin); i < job->n_item && job->start_ps[i] < end; i++)
        run_units(job->kernels, &job->item[i], job->grid[i], begin - job->start_ps[i],
                  end - job->start_ps[i]);
}

static int64_t within(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

static void run_job(const shoal_compute *c, const shoal_matmul_item *item, int32_t n_item)
{
    matmul_job job; /* as many of its places as there are items are set */
    job.kernels = c->kernels;
    job.item = item;
    job.n_item = n_item;
    int64_t total = 0;
    for (int32_t i = 0; i < n_item; i++) {
        job.grid[i] = cut(&item[i]);
        job.start_ps[i] = total;
        total += job.grid[i].n_unit * job.grid[i].unit_ps;
    }
    int64_t share = total / shoal_pool_n_thread(c->pool);
    job.fine_ps = within(share / FINE_SHARE, TILE_MIN_PS, TILE_PS);
    job.coarse_ps = within(share / COARSE_SHARE, job.fine_ps, TILE_PS);
    job.n_coarse = (int32_t)(total / 4 * 3 / job.coarse_ps);
    int64_t rest = total - job.n_coarse * job.coarse_ps;
    int32_t n_tile = job.n_coarse + (int32_t)((rest + job.fine_ps - 1) / job.fine_ps);
    shoal_pool_run(c->pool, matmul_tile, &job, n_tile);
}

void shoal_op_matmul_many(const shoal_compute *c, const shoal_matmul_item *item, int32_t n_item)
{
    if (c->device != NULL) {
        c->device->ops->matmul_many(c->device, item, n_item);
        return;
    }
    for (int32_t i = 0; i < n_item; i += N_ITEM_MAX)
        run_job(c, item + i, n_item - i < N_ITEM_MAX ? n_item - i : N_ITEM_MAX);
}

void shoal_op_matmul(const shoal_compute *c, float *y, int64_t ld_y, const shoal_matrix *w,
                     const float *x, int64_t ld_x, int32_t n_token)
{
    shoal_matmul_item item = {
        .y = y, .ld_y = ld_y, .w = w, .x = x, .ld_x = ld_x, .n_token = n_token};
    shoal_op_matmul_many(c, &item, 1);
}
