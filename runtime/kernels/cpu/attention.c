/* Attention over one block of the cache for the queries that share a kv head. Both products
 * (attention_product.h) are made a lane per position for scores, a lane per element for values. */
#include "runtime/kernels/cpu/attention_product.h"

enum {
    POSITIONS = SHOAL_ATTEND_BLOCK,
    QUERIES = 64, /* worked on together at most */
    MANY = 16,    /* for which a panel is worth making */
};

/* Queries that are worked on together, each with the positions [lo, hi) that it sees. */
typedef struct group {
    _Alignas(64) float p[QUERIES][POSITIONS]; /* scores, then weights of the values */
    int32_t n;
    int32_t lo[QUERIES], hi[QUERIES];
} group;

typedef struct range {
    int32_t from, to;
} range;

/* Positions that any of the queries [i0, i0 + n) sees, from the first to the last. */
static range seen_by_any(const group *g, int32_t i0, int32_t n)
{
    range r = {POSITIONS, 0};
    for (int32_t i = i0; i < i0 + n; i++) {
        r.from = g->lo[i] < r.from ? g->lo[i] : r.from;
        r.to = g->hi[i] > r.to ? g->hi[i] : r.to;
    }
    return r;
}

/* Those that all of them see; none: from the end to the end. */
static range seen_by_all(const group *g, int32_t i0, int32_t n)
{
    range r = {0, POSITIONS};
    for (int32_t i = i0; i < i0 + n; i++) {
        r.from = g->lo[i] > r.from ? g->lo[i] : r.from;
        r.to = g->hi[i] < r.to ? g->hi[i] : r.to;
    }
    return r.from < r.to ? r : (range){POSITIONS, POSITIONS};
}

static int32_t bands_until(int32_t position)
{
    return (position + SHOAL_BAND - 1) / SHOAL_BAND;
}

/* Scores of all positions that one of the queries sees. */
static void score(group *g, const float *q, int64_t ld_q, const shoal_attend_kv *kv)
{
    range seen = seen_by_any(g, 0, g->n);
    int32_t band0 = seen.from / SHOAL_BAND;
    size_t step_bytes = SHOAL_BAND * shoal__element_bytes(kv->dtype);
    size_t band_bytes = (size_t)kv->d_k * step_bytes;
    shoal__product m = {.acc = g->p[0] + band0 * SHOAL_BAND,
                        .ld_acc = POSITIONS,
                        .x = q,
                        .ld_x = ld_q,
                        .w = (const unsigned char *)kv->key + (size_t)band0 * band_bytes,
                        .step_bytes = step_bytes,
                        .band_bytes = band_bytes,
                        .n = kv->d_k,
                        .n_row = g->n,
                        .n_band = bands_until(seen.to) - band0,
                        .fresh = true,
                        .next = kv->value != NULL ? kv->value : kv->key};
    if (g->n <= SHOAL__FEW_ROWS) {
        shoal__mac_few(&m, kv->dtype);
        return;
    }
    _Alignas(64) float panel[SHOAL__PANEL_COLUMNS * SHOAL__PANEL_WIDTH];
    for (int32_t k0 = 0; k0 < kv->d_k; k0 += SHOAL__PANEL_COLUMNS) {
        int32_t n = kv->d_k - k0 < SHOAL__PANEL_COLUMNS ? kv->d_k - k0 : SHOAL__PANEL_COLUMNS;
        shoal__fill_panel(panel, &m, k0, n, 0, m.n_band, kv->dtype);
        for (int32_t i = 0; i < g->n; i += SHOAL__PANEL_ROWS) {
            int32_t n_row = g->n - i < SHOAL__PANEL_ROWS ? g->n - i : SHOAL__PANEL_ROWS;
            shoal__product part = shoal__over_panel(panel, n, n_row);
            part.acc = m.acc + i * m.ld_acc;
            part.ld_acc = m.ld_acc;
            part.x = m.x + i * m.ld_x + k0;
            part.ld_x = m.ld_x;
            part.n_band = bands_until(seen_by_any(g, i, n_row).to) - band0;
            part.fresh = k0 == 0;
            shoal__mac_panel(&part);
        }
    }
}

/* One query's scores, scaled; masked positions take no part in the maximum that is returned. */
static float scale_and_mask(float *p, int32_t first, int32_t last, float scale)
{
    static const int32_t position[POSITIONS] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const bool masked = first > 0 || last < POSITIONS;
    shoal__vec max[SHOAL_PARTS];
    for (int32_t j = 0; j < SHOAL_PARTS; j++)
        max[j] = shoal__vec_set(-INFINITY);
#pragma GCC unroll 16
    for (int32_t j = 0; j < POSITIONS / SHOAL_LANES; j++) {
        shoal__vec v = shoal__vec_load(p + j * SHOAL_LANES) * shoal__vec_set(scale);
        if (masked) {
            shoal__i32 at;
            memcpy(&at, position + j * SHOAL_LANES, sizeof at);
            shoal__i32 seen = (at >= first) & (at < last);
            v = (shoal__vec)(((shoal__i32)v & seen) |
                             ((shoal__i32)shoal__vec_set(-INFINITY) & ~seen));
        }
        shoal__vec_store(p + j * SHOAL_LANES, v);
        max[j % SHOAL_PARTS] = shoal__vec_max(max[j % SHOAL_PARTS], v);
    }
    return shoal__fold_max(max);
}

/* One query's scores become the weights p = exp(score - max) of its values, exactly 0 where masked;
 * their sum. */
static float weigh(float *p, float max)
{
    shoal__vec sum[SHOAL_PARTS] = {{0}};
#pragma GCC unroll 16
    for (int32_t j = 0; j < POSITIONS / SHOAL_LANES; j++) {
        shoal__vec v = shoal__vec_exp(shoal__vec_load(p + j * SHOAL_LANES) - shoal__vec_set(max));
        shoal__vec_store(p + j * SHOAL_LANES, v);
        sum[j % SHOAL_PARTS] += v;
    }
    return shoal__fold_sum(sum);
}

/* Scores become weights; states and outs move to the new maxima. */
static void update_states(group *g, float *out, int64_t ld_out, shoal_attend_state *state,
                          float scale, int32_t d_v)
{
    _Alignas(64) float shrink[QUERIES + SHOAL_LANES] = {0};
    for (int32_t i = 0; i < g->n; i++) {
        float block_max = scale_and_mask(g->p[i], g->lo[i], g->hi[i], scale);
        float max = state[i].max < block_max ? block_max : state[i].max;
        shrink[i] = state[i].max - max;
        state[i].max = max;
    }
    for (int32_t i = 0; i < g->n; i += SHOAL_LANES)
        shoal__vec_store(shrink + i, shoal__vec_exp(shoal__vec_load(shrink + i)));
    for (int32_t i = 0; i < g->n; i++) {
        float *row = out + i * ld_out, by = shrink[i];
        state[i].denom = fmaf(state[i].denom, by, weigh(g->p[i], state[i].max));
        if (by == 1.0f)
            continue;
        for (int32_t d = 0; d < d_v; d++)
            row[d] *= by;
    }
}

/* What add_values works on. */
typedef struct values {
    const group *g;
    float *out; /* of the group's first query, at the first of the bands */
    int64_t ld_out;
    const shoal_attend_kv *kv;
    const float *panel; /* of n_band bands from position panel0 on; NULL: all bands as they lie */
    int32_t panel0, n_band;
} values;

/* Elements behind the last band. */
static void add_odd_values(const values *v, int32_t i, range r)
{
    const shoal_attend_kv *kv = v->kv;
    size_t bytes = shoal__element_bytes(kv->dtype);
    for (int32_t d = kv->d_v / SHOAL_BAND * SHOAL_BAND; d < kv->d_v; d++) {
        float *y = v->out + i * v->ld_out + d;
        for (int32_t k = r.from; k < r.to; k++) {
            size_t at = ((size_t)k * (size_t)kv->d_v + (size_t)d) * bytes;
            *y = fmaf(v->g->p[i][k],
                      shoal__element((const unsigned char *)kv->value + at, kv->dtype), *y);
        }
    }
}

/* out += sum over positions of r in order of p v, for queries [i0, i0 + n). */
static void add_range(const values *v, int32_t i0, int32_t n, range r)
{
    const shoal_attend_kv *kv = v->kv;
    if (r.from >= r.to)
        return;
    shoal__product m;
    if (v->panel != NULL) {
        m = shoal__over_panel(v->panel + (r.from - v->panel0) * SHOAL__PANEL_WIDTH, r.to - r.from,
                              n);
    } else {
        size_t bytes = shoal__element_bytes(kv->dtype);
        m = (shoal__product){.w = (const unsigned char *)kv->value +
                                  (size_t)r.from * (size_t)kv->d_v * bytes,
                             .step_bytes = (size_t)kv->d_v * bytes,
                             .band_bytes = SHOAL_BAND * bytes,
                             .n = r.to - r.from,
                             .n_row = n,
                             .next = kv->next};
    }
    m.acc = v->out + i0 * v->ld_out;
    m.ld_acc = v->ld_out;
    m.x = v->g->p[i0] + r.from;
    m.ld_x = POSITIONS;
    m.n_band = v->n_band;
    if (v->panel != NULL) {
        shoal__mac_panel(&m);
        return;
    }
    shoal__mac_few(&m, kv->dtype);
    for (int32_t i = i0; i < i0 + n && kv->d_v % SHOAL_BAND != 0; i++)
        add_odd_values(v, i, r);
}

/* Only visible positions are touched: what else the cache holds cannot show. Positions that all
 * queries [i0, i0 + n) see are added for all at once, those before and behind for those alone that
 * see the same: in order for each. */
static void add_values(const values *v, int32_t i0, int32_t n)
{
    const group *g = v->g;
    range all = seen_by_all(g, i0, n);
    for (int32_t part = 0; part < 3; part++) {
        if (part == 1) {
            add_range(v, i0, n, all);
            continue;
        }
        for (int32_t i = i0, alike; i < i0 + n; i += alike) {
            for (alike = 1;
                 i + alike < i0 + n && g->lo[i + alike] == g->lo[i] && g->hi[i + alike] == g->hi[i];
                 alike++) {
            }
            range before = {g->lo[i], g->hi[i] < all.from ? g->hi[i] : all.from};
            add_range(v, i, alike, part == 0 ? before : (range){all.to, g->hi[i]});
        }
    }
}

/* The same for all queries of the group by way of panels. */
static void add_values_of_many(const group *g, float *out, int64_t ld_out,
                               const shoal_attend_kv *kv)
{
    _Alignas(64) float panel[POSITIONS * SHOAL__PANEL_WIDTH];
    range seen = seen_by_any(g, 0, g->n);
    size_t bytes = shoal__element_bytes(kv->dtype);
    const shoal__product all = {.w = kv->value,
                                .step_bytes = (size_t)kv->d_v * bytes,
                                .band_bytes = SHOAL_BAND * bytes,
                                .n = POSITIONS,
                                .next = kv->next};
    values v = {
        .g = g, .out = out, .ld_out = ld_out, .kv = kv, .panel = panel, .panel0 = seen.from};
    int32_t n_band = kv->d_v / SHOAL_BAND;
    for (int32_t b0 = 0; b0 < n_band; b0 += SHOAL__PANEL_BANDS) {
        v.n_band = n_band - b0 < SHOAL__PANEL_BANDS ? n_band - b0 : SHOAL__PANEL_BANDS;
        v.out = out + b0 * SHOAL_BAND;
        shoal__fill_panel(panel, &all, seen.from, seen.to - seen.from, b0, v.n_band, kv->dtype);
        for (int32_t i = 0; i < g->n; i += SHOAL__PANEL_ROWS)
            add_values(&v, i, g->n - i < SHOAL__PANEL_ROWS ? g->n - i : SHOAL__PANEL_ROWS);
    }
    v.out = out;
    for (int32_t i = 0; i < g->n && kv->d_v % SHOAL_BAND != 0; i++)
        add_odd_values(&v, i, (range){g->lo[i], g->hi[i]});
}

void SHOAL_FN(attend_block)(float *out, int64_t ld_out, shoal_attend_state *state, const float *q,
                            int64_t ld_q, int32_t n_query, const int32_t *first,
                            const int32_t *last, float scale, const shoal_attend_kv *kv)
{
    group g;
    for (int32_t i = 0; i < n_query;) {
        int32_t most = n_query - i < MANY ? SHOAL__FEW_ROWS : QUERIES;
        for (g.n = 0; g.n < most && i + g.n < n_query; g.n++) {
            int32_t lo = first[i + g.n] < 0 ? 0 : first[i + g.n];
            int32_t hi = last[i + g.n] > POSITIONS ? POSITIONS : last[i + g.n];
            if (lo >= hi)
                break;
            g.lo[g.n] = lo;
            g.hi[g.n] = hi;
        }
        if (g.n == 0) {
            i++; /* past one that sees nothing */
            continue;
        }
        float *o = out + i * ld_out;
        score(&g, q + i * ld_q, ld_q, kv);
        update_states(&g, o, ld_out, &state[i], scale, kv->d_v);
        if (g.n <= SHOAL__FEW_ROWS) {
            const values v = {
                .g = &g, .out = o, .ld_out = ld_out, .kv = kv, .n_band = kv->d_v / SHOAL_BAND};
            add_values(&v, 0, g.n);
        } else {
            add_values_of_many(&g, o, ld_out, kv);
        }
        i += g.n;
    }
}
