#include "tests/kernels/variants.h"

enum { MAX_QUERY = 80, WIDTH_OF_INVISIBLE = 24 };

/* One kv head over a cache of rows, and queries that each see [from, to) of its positions. */
typedef struct problem {
    int32_t n_position, n_query;
    int32_t d_k, d_v, key0, value0, row_elems;
    shoal_kv_dtype dtype;
    float scale;
    void *cache;
    float *q; /* [n_query, d_k] */
    int32_t from[MAX_QUERY];
    int32_t to[MAX_QUERY];
} problem;

static size_t elem_bytes(const problem *p)
{
    return p->dtype == SHOAL_KV_F32 ? 4 : 2;
}

static float cache_at(const problem *p, int32_t position, int32_t element)
{
    int64_t i = (int64_t)position * p->row_elems + element;
    return p->dtype == SHOAL_KV_F32 ? ((const float *)p->cache)[i]
                                    : shoal_bf16_to_f32(((const uint16_t *)p->cache)[i]);
}

static void make_problem(problem *p, source *s)
{
    p->row_elems = p->value0 + p->d_v > p->key0 + p->d_k ? p->value0 + p->d_v : p->key0 + p->d_k;
    int64_t n = (int64_t)p->n_position * p->row_elems;
    p->cache = room((size_t)n * elem_bytes(p));
    for (int64_t i = 0; i < n; i++) {
        if (p->dtype == SHOAL_KV_F32)
            ((float *)p->cache)[i] = draw_float(s);
        else
            ((uint16_t *)p->cache)[i] = shoal_f32_to_bf16(draw_float(s));
    }
    p->q = floats((int64_t)p->n_query * p->d_k);
    fill(p->q, (int64_t)p->n_query * p->d_k, s);
    p->scale = 4.0f / sqrtf((float)p->d_k);
}

static void drop_problem(problem *p)
{
    free(p->cache);
    free(p->q);
}

static void copy_element(void *to, int64_t i, const problem *p, int32_t position, int32_t element)
{
    int64_t j = (int64_t)position * p->row_elems + element;
    if (p->dtype == SHOAL_KV_F32)
        ((float *)to)[i] = ((const float *)p->cache)[j];
    else
        ((uint16_t *)to)[i] = ((const uint16_t *)p->cache)[j];
}

/* Block b of the cache as attention reads it, NaN where there is no position. Values that are the
 * beginning of the keys (MLA) are made of them. key, value: room for a block of f32. */
static shoal_attend_kv make_block(void *key, void *value, const shoal_kernels *k, const problem *p,
                                  int32_t b, int32_t n_position)
{
    const shoal_attend_kv kv = {
        .key = key, .value = value, .dtype = p->dtype, .d_k = p->d_k, .d_v = p->d_v};
    bool latent = p->key0 == 0 && p->value0 == 0;
    memset(key, 0xff, (size_t)SHOAL_ATTEND_BLOCK * (size_t)p->d_k * sizeof(float));
    memset(value, 0xff, (size_t)SHOAL_ATTEND_BLOCK * (size_t)p->d_v * sizeof(float));
    for (int32_t i = 0; i < n_position; i++) {
        for (int32_t c = 0; c < p->d_k; c++)
            copy_element(key, (i / 16 * p->d_k + c) * 16 + i % 16, p, b + i, p->key0 + c);
        for (int32_t d = 0; d < p->d_v && !latent; d++)
            copy_element(value, (int64_t)i * p->d_v + d, p, b + i, p->value0 + d);
    }
    if (latent)
        k->attend_values(value, key, p->dtype, n_position, p->d_k, p->d_v);
    return kv;
}

/* out: [n_query of the call, d_v], for queries [i0, i1), over positions [0, n_position) that exist
 * at the time of the call. */
static void attend(const shoal_kernels *k, float *out, const problem *p, int32_t i0, int32_t i1,
                   int32_t n_position)
{
    int32_t n = i1 - i0;
    float *key = floats((int64_t)SHOAL_ATTEND_BLOCK * p->d_k);
    float *value = floats((int64_t)SHOAL_ATTEND_BLOCK * p->d_v);
    shoal_attend_state state[MAX_QUERY];
    int32_t first[MAX_QUERY], last[MAX_QUERY];
    memset(out, 0, (size_t)n * (size_t)p->d_v * sizeof(float));
    for (int32_t i = 0; i < n; i++)
        state[i] = (shoal_attend_state){.max = -INFINITY, .denom = 0};
    for (int32_t b = 0; b < n_position; b += SHOAL_ATTEND_BLOCK) {
        int32_t n_here = n_position - b;
        if (n_here > SHOAL_ATTEND_BLOCK)
            n_here = SHOAL_ATTEND_BLOCK;
        const shoal_attend_kv kv = make_block(key, value, k, p, b, n_here);
        for (int32_t i = 0; i < n; i++) {
            first[i] = p->from[i0 + i] - b;
            last[i] = p->to[i0 + i] - b;
        }
        k->attend_block(out, p->d_v, state, p->q + (int64_t)i0 * p->d_k, p->d_k, n, first, last,
                        p->scale, &kv);
    }
    for (int32_t i = 0; i < n; i++)
        k->attend_finish(out + (int64_t)i * p->d_v, &state[i], p->d_v);
    free(key);
    free(value);
}

static void check_naive(const problem *p, const float *out)
{
    double *weight = room((size_t)p->n_position * sizeof *weight);
    for (int32_t i = 0; i < p->n_query; i++) {
        double max = -INFINITY, sum = 0;
        for (int32_t j = p->from[i]; j < p->to[i]; j++) {
            weight[j] = 0;
            for (int32_t c = 0; c < p->d_k; c++)
                weight[j] +=
                    (double)p->q[(int64_t)i * p->d_k + c] * (double)cache_at(p, j, p->key0 + c);
            weight[j] *= (double)p->scale;
            max = max < weight[j] ? weight[j] : max;
        }
        for (int32_t j = p->from[i]; j < p->to[i]; j++)
            sum += weight[j] = exp(weight[j] - max);
        for (int32_t d = 0; d < p->d_v; d++) {
            double want = 0;
            for (int32_t j = p->from[i]; j < p->to[i]; j++)
                want += weight[j] / sum * (double)cache_at(p, j, p->value0 + d);
            ck_assert_double_eq_tol((double)out[(int64_t)i * p->d_v + d], want, 2e-6);
        }
    }
    free(weight);
}

/* Queries at the last positions of the cache, heads beside each other, each with its window. */
static void set_ranges(problem *p, int32_t n_head, int32_t window)
{
    for (int32_t i = 0; i < p->n_query; i++) {
        p->to[i] = p->n_position - (p->n_query - 1) / n_head + i / n_head;
        p->from[i] = window > 0 && p->to[i] > window ? p->to[i] - window : 0;
    }
}

static void check_problem(problem *p, int32_t n_head, int32_t window)
{
    source s = {(uint64_t)(p->n_position * 100 + p->d_k)};
    variants v = all_variants();
    make_problem(p, &s);
    set_ranges(p, n_head, window);
    int64_t n = (int64_t)p->n_query * p->d_v;
    float *want = floats(n);
    float *out = floats(n);
    attend(v.kernels[0], want, p, 0, p->n_query, p->n_position);
    check_naive(p, want);
    for (int32_t i = 1; i < v.n; i++) {
        attend(v.kernels[i], out, p, 0, p->n_query, p->n_position);
        ASSERT_SAME(v.kernels[i], out, want, n);
    }
    /* Each query alone, with no later position in the cache yet: the same bits. */
    const shoal_kernels *k = v.kernels[v.n - 1];
    for (int32_t i = 0; i < p->n_query; i++) {
        attend(k, out, p, i, i + 1, p->to[i]);
        ASSERT_SAME(k, out, want + (int64_t)i * p->d_v, p->d_v);
    }
    free(out);
    free(want);
    drop_problem(p);
}

START_TEST(grouped_heads_with_causal_ranges)
{
    static const int32_t n_position[] = {6, 17, 64, 65, 150, 257};
    for (size_t i = 0; i < sizeof n_position / sizeof n_position[0]; i++) {
        for (int32_t dtype = 0; dtype < 2; dtype++) {
            problem p = {.n_position = n_position[i],
                         .n_query = 15,
                         .d_k = 33,
                         .d_v = 40,
                         .value0 = 33,
                         .dtype = (shoal_kv_dtype)dtype};
            check_problem(&p, 3, 0);
        }
    }
}
END_TEST

START_TEST(windows)
{
    static const int32_t window[] = {1, 5, 16, 63, 64, 65, 100};
    for (size_t i = 0; i < sizeof window / sizeof window[0]; i++) {
        problem p = {.n_position = 200,
                     .n_query = i % 2 == 0 ? 20 : 70,
                     .d_k = 16,
                     .d_v = 16,
                     .value0 = 16,
                     .dtype = SHOAL_KV_BF16};
        check_problem(&p, 2, window[i]);
    }
}
END_TEST

/* MLA: the values are the first part of the keys; more heads than share one pass. */
START_TEST(overlapping_keys_and_values)
{
    static const int32_t d_v[] = {64, 53};
    for (int32_t i = 0; i < 4; i++) {
        problem p = {.n_position = 130,
                     .n_query = 44,
                     .d_k = 72,
                     .d_v = d_v[i / 2],
                     .dtype = i % 2 == 0 ? SHOAL_KV_F32 : SHOAL_KV_BF16};
        check_problem(&p, 11, 0);
    }
}
END_TEST

/* A block of which a query sees nothing leaves it untouched, whatever the tiles hold. */
START_TEST(a_masked_block_changes_nothing)
{
    variants v = all_variants();
    enum { D = 20 };
    float *tile = floats(SHOAL_ATTEND_BLOCK * D);
    const shoal_attend_kv kv = {tile, tile, SHOAL_KV_F32, D, D, NULL};
    memset(tile, 0xff, SHOAL_ATTEND_BLOCK * D * sizeof(float)); /* NaN */
    static const int32_t range[][2] = {{0, 0}, {5, 5}, {9, 3}, {64, 90}, {-70, -6}, {-5, 0}};
    for (int32_t i = 0; i < v.n; i++) {
        for (size_t j = 0; j < sizeof range / sizeof range[0]; j++) {
            float out[D], before[D], q[D] = {0};
            source s = {j};
            fill(out, D, &s);
            out[3] = -0.0f;
            memcpy(before, out, sizeof out);
            shoal_attend_state state = {.max = 0.7f, .denom = 3.1f};
            v.kernels[i]->attend_block(out, D, &state, q, D, 1, &range[j][0], &range[j][1], 1.0f,
                                       &kv);
            ck_assert_int_lt(first_difference(out, before, D), 0);
            ck_assert(state.max == 0.7f && state.denom == 3.1f);
        }
    }
    free(tile);
}
END_TEST

/* Positions outside a query's range may hold anything, for few queries and for many. */
static void check_invisible(const shoal_kernels *k, const float *want_first, float *out, int32_t n,
                            bool dirty)
{
    source s = {5};
    enum { D = WIDTH_OF_INVISIBLE };
    float *k_tile = floats(SHOAL_ATTEND_BLOCK * D);
    float *v_tile = floats(SHOAL_ATTEND_BLOCK * D);
    float *q = floats((int64_t)n * D);
    fill(k_tile, SHOAL_ATTEND_BLOCK * D, &s);
    fill(v_tile, SHOAL_ATTEND_BLOCK * D, &s);
    fill(q, (int64_t)n * D, &s);
    shoal_attend_state state[MAX_QUERY];
    int32_t first[MAX_QUERY] = {0}, last[MAX_QUERY] = {0};
    for (int32_t i = 0; i < n; i++) {
        state[i] = (shoal_attend_state){-INFINITY, 0};
        first[i] = 18;
        last[i] = 21 + i / 2;
    }
    for (int32_t p = 0; dirty && p < SHOAL_ATTEND_BLOCK; p++) {
        for (int32_t d = 0; d < D && (p < 18 || p >= last[n - 1]); d++) {
            k_tile[(p / 16 * D + d) * 16 + p % 16] = NAN;
            v_tile[p * D + d] = NAN;
        }
    }
    const shoal_attend_kv kv = {k_tile, v_tile, SHOAL_KV_F32, D, D, NULL};
    memset(out, 0, (size_t)n * D * sizeof(float));
    k->attend_block(out, D, state, q, D, n, first, last, 0.5f, &kv);
    ASSERT_SAME(k, out, want_first, (int64_t)n * D);
    ck_assert(!isnan(out[0]) && !isnan(state[n - 1].denom));
    free(k_tile);
    free(v_tile);
    free(q);
}

START_TEST(invisible_positions_may_be_nan)
{
    variants v = all_variants();
    static float want[MAX_QUERY * WIDTH_OF_INVISIBLE], out[MAX_QUERY * WIDTH_OF_INVISIBLE];
    static const int32_t n_query[] = {2, 24};
    for (size_t j = 0; j < sizeof n_query / sizeof n_query[0]; j++) {
        check_invisible(v.kernels[0], want, want, n_query[j], false);
        for (int32_t i = 0; i < v.n; i++)
            check_invisible(v.kernels[i], want, out, n_query[j], true);
    }
}
END_TEST

/* A sink is a position with this score whose value is 0: the numbers of attention over one more
 * block that holds just that. */
START_TEST(sinks)
{
    variants v = all_variants();
    enum { D = 21 };
    static const float sink[] = {-200, -3, 0.25f, 2, 150};
    float *k_tile = floats(SHOAL_ATTEND_BLOCK * D);
    float *v_tile = floats(SHOAL_ATTEND_BLOCK * D);
    float *k_none = floats(SHOAL_ATTEND_BLOCK * D);
    float *v_none = floats(SHOAL_ATTEND_BLOCK * D);
    const shoal_attend_kv kv = {k_tile, v_tile, SHOAL_KV_F32, D, D, NULL};
    const shoal_attend_kv none = {k_none, v_none, SHOAL_KV_F32, D, D, NULL};
    for (int32_t n_position = 0; n_position <= 40; n_position += 20) {
        for (size_t j = 0; j < sizeof sink / sizeof sink[0]; j++) {
            source s = {(uint64_t)n_position + j};
            float q[D], out[D], want[D], first_out[D];
            fill(q, D, &s);
            fill(k_tile, SHOAL_ATTEND_BLOCK * D, &s);
            fill(v_tile, SHOAL_ATTEND_BLOCK * D, &s);
            q[0] = 1; /* the score of the extra block's position is its first value */
            k_none[0] = sink[j];
            const int32_t first = 0, last = n_position, one = 1;
            for (int32_t i = 0; i < v.n; i++) {
                const shoal_kernels *k = v.kernels[i];
                shoal_attend_state state = {-INFINITY, 0}, other = {-INFINITY, 0};
                memset(out, 0, sizeof out);
                memset(want, 0, sizeof want);
                k->attend_block(out, D, &state, q, D, 1, &first, &last, 1, &kv);
                k->attend_block(want, D, &other, q, D, 1, &first, &last, 1, &kv);
                k->attend_block(want, D, &other, q, D, 1, &first, &one, 1, &none);
                k->attend_sink(out, &state, sink[j], D);
                ck_assert(same_bits(state.max, other.max) && same_bits(state.denom, other.denom));
                for (int32_t d = 0; d < D; d++)
                    ck_assert(out[d] == want[d]); /* but for the sign of a zero */
                k->attend_finish(out, &state, D);
                if (i == 0)
                    memcpy(first_out, out, sizeof out);
                ASSERT_SAME(k, out, first_out, D);
            }
            double sum = exp((double)sink[j]), value = 0;
            for (int32_t p = 0; p < n_position; p++) {
                double score = 0;
                for (int32_t c = 0; c < D; c++)
                    score += (double)q[c] * (double)k_tile[(p / 16 * D + c) * 16 + p % 16];
                sum += exp(score);
                value += exp(score) * (double)v_tile[p * D];
            }
            ck_assert_double_eq_tol((double)out[0], value / sum, 2e-6);
        }
    }
    free(v_none);
    free(k_none);
    free(v_tile);
    free(k_tile);
}
END_TEST

/* Parts of the positions merged in order: near the whole, the same for all variants; a part alone
 * is the whole. */
START_TEST(merged_parts)
{
    variants v = all_variants();
    source s = {11};
    enum { D = 37, N_PART = 3 };
    float part[N_PART][D], want[D], out[D];
    shoal_attend_state state[N_PART];
    static const float max[N_PART] = {-2.5f, 1.25f, -90};
    double sum = 0, value = 0;
    for (int32_t j = 0; j < N_PART; j++) {
        fill(part[j], D, &s);
        state[j] = (shoal_attend_state){.max = max[j], .denom = 1.5f + (float)j};
        sum += (double)state[j].denom * exp((double)max[j]);
        value += (double)part[j][5] * exp((double)max[j]);
    }
    for (int32_t i = 0; i < v.n; i++) {
        const shoal_kernels *k = v.kernels[i];
        shoal_attend_state merged = state[0];
        memcpy(out, part[0], sizeof out);
        for (int32_t j = 1; j < N_PART; j++)
            k->attend_merge(out, &merged, part[j], &state[j], D);
        k->attend_finish(out, &merged, D);
        ck_assert(merged.max == 1.25f);
        ck_assert_double_eq_tol((double)out[5], value / sum, 1e-6);
        if (i == 0)
            memcpy(want, out, sizeof want);
        ASSERT_SAME(k, out, want, D);

        merged = (shoal_attend_state){-INFINITY, 0};
        memset(out, 0, sizeof out);
        k->attend_merge(out, &merged, part[1], &state[1], D);
        ck_assert(merged.max == state[1].max && merged.denom == state[1].denom);
        ck_assert_int_lt(first_difference(out, part[1], D), 0);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, grouped_heads_with_causal_ranges);
    SHOAL_TEST(suite, windows);
    SHOAL_TEST(suite, overlapping_keys_and_values);
    SHOAL_TEST(suite, a_masked_block_changes_nothing);
    SHOAL_TEST(suite, sinks);
    SHOAL_TEST(suite, merged_parts);
    SHOAL_TEST(suite, invisible_positions_may_be_nan);
}

SHOAL_TEST_MAIN("kernels.attention", add_tests)
