/* kernel_digest NAME: what the kernels of that name give for the same inputs on every machine, as
 * one digest per kernel, format and shape. Rule 1 holds between two machines if the lines are
 * equal; a NaN counts as any other NaN. The first line, "kernels NAME", says which were chosen. */
#include "runtime/base/hash.h"
#include "runtime/kernels/trig.h"
#include "tests/kernels/inputs.h"

#include <stdio.h>

static const shoal_kernels *k;

static uint64_t digest_f32(uint64_t hash, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float value = isnan(x[i]) ? NAN : x[i];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        hash = shoal_hash(hash, &bits, sizeof bits);
    }
    return hash;
}

static void line(const char *what, uint64_t hash)
{
    printf("%s %016llx\n", what, (unsigned long long)hash);
}

static void lines_f32(const char *what, const float *x, int64_t n)
{
    line(what, digest_f32(SHOAL_HASH_INIT, x, n));
}

enum { N_SHAPE = 6, N_COUNT = 6 };

static const int32_t shape[N_SHAPE][2] = {{1, 1},     {17, 129}, {40, 50},
                                          {150, 300}, {16, 640}, {81, 33}};
static const int32_t count[N_COUNT] = {1, 2, 3, 6, 17, 37}; /* tokens */

/* x: every fourth row any numbers, the others moderate. */
static void activations(float *x, int64_t n_row, int64_t n_col, source *s)
{
    for (int64_t r = 0; r < n_row; r++) {
        for (int64_t c = 0; c < n_col; c++)
            x[r * n_col + c] = r % 4 == 3 ? draw_any(s) : draw_float(s);
    }
}

static void digest_product(shoal_format format, int32_t n_row, int32_t n_any, int32_t n_token)
{
    int32_t n_col = columns(format, n_any);
    int32_t n_group = (n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
    source s = {(uint64_t)(n_row * 31 + n_col * 7 + n_token)};
    shoal_matrix w = random_matrix(format, n_row, n_col, &s);
    float *x = floats((int64_t)n_col * n_token);
    float *y = floats((int64_t)n_row * n_token);
    char what[96];
    snprintf(what, sizeof what, "%s [%d, %d] x %d", shoal_format_text(format), n_row, n_col,
             n_token);
    activations(x, n_token, n_col, &s);

    uint64_t hash =
        shoal_hash(SHOAL_HASH_INIT, w.data, shoal_matrix_data_bytes(format, n_row, n_col));
    printf("pack ");
    line(what, hash);
    k->matmul(y, n_row, &w, 0, shoal_matrix_n_band(&w), x, n_col, n_token);
    printf("matmul ");
    lines_f32(what, y, (int64_t)n_row * n_token);
    if (shoal_format_is_quantised(format)) {
        shoal_int8_group *groups = room((size_t)n_group * (size_t)n_token * sizeof *groups);
        hash = SHOAL_HASH_INIT;
        for (int32_t t = 0; t < n_token; t++)
            k->to_groups(groups + t * n_group, x + (int64_t)t * n_col, n_col);
        for (int32_t i = 0; i < n_group * n_token; i++) {
            hash = shoal_hash(hash, groups[i].q, sizeof groups[i].q);
            hash = digest_f32(hash, &groups[i].scale, 1);
            hash = shoal_hash(hash, &groups[i].minus_8_sum, sizeof groups[i].minus_8_sum);
        }
        printf("to_groups ");
        line(what, hash);
        k->matmul_int8(y, n_row, &w, 0, shoal_matrix_n_band(&w), groups, n_group, n_token);
        printf("matmul_int8 ");
        lines_f32(what, y, (int64_t)n_row * n_token);
        free(groups);
    }
    free(y);
    free(x);
    drop_matrix(&w);
}

/* Kernels of rows and elements; n values, every fourth time any numbers. */
static void digest_row(int32_t n, int32_t round)
{
    source s = {(uint64_t)(n * 131 + round)};
    int32_t n_group = (n + SHOAL_GROUP - 1) / SHOAL_GROUP;
    float *x = floats(n), *a = floats(n), *b = floats(n), *y = floats(n), *scale = floats(n_group);
    uint16_t *half = room((size_t)n * sizeof *half);
    int8_t *q = room((size_t)n);
    for (int32_t i = 0; i < n; i++) {
        x[i] = round == 3 ? draw_any(&s) : draw_float(&s) * (float)(1 + 20 * round);
        a[i] = round == 3 ? draw_any(&s) : draw_float(&s);
        b[i] = draw_float(&s);
    }
    char what[64];
    snprintf(what, sizeof what, "[%d] %d", n, round);
#define DIGEST(name, from, call)                                                                   \
    do {                                                                                           \
        memcpy(y, from, (size_t)n * sizeof *y);                                                    \
        call;                                                                                      \
        printf(name " ");                                                                          \
        lines_f32(what, y, n);                                                                     \
    } while (0)
    DIGEST("rms_norm", x, k->rms_norm(y, x, b, n, 1e-6f));
    DIGEST("rope_half", x, k->rope_half(y, a, b, n / 2 * 2));
    DIGEST("rope_interleaved", x, k->rope_interleaved(y, a, b, n / 2 * 2));
    DIGEST("silu_mul", x, k->silu_mul(y, x, a, n));
    DIGEST("swiglu_clamped", x, k->swiglu_clamped(y, x, a, n, 1.702f, 7.0f));
    DIGEST("add", x, k->add(y, a, n));
    DIGEST("axpy", x, k->axpy(y, 0.37f, a, n));
    DIGEST("axpy_bf16", x, (k->to_bf16(half, a, n), k->axpy_bf16(y, 0.37f, half, n)));
    DIGEST("scale", x, k->scale(y, 1.1f, n));
    DIGEST("softmax", x, k->softmax(y, n));
    DIGEST("sigmoid", x, k->sigmoid(y, n));
    DIGEST("bf16", x, (k->to_bf16(half, x, n), k->from_bf16(y, half, n)));
    DIGEST("int8", x, (k->to_int8(q, scale, x, n), k->from_int8(y, q, scale, n)));
#undef DIGEST
    uint64_t hash = shoal_hash(digest_f32(SHOAL_HASH_INIT, scale, n_group), q, (size_t)n);
    double sum = round == 3 ? 0 : k->log_sum_exp(x, n);
    printf("to_int8 ");
    line(what, hash);
    printf("log_sum_exp ");
    line(what, shoal_hash(SHOAL_HASH_INIT, &sum, sizeof sum));
    free(q);
    free(half);
    free(scale);
    free(y);
    free(b);
    free(a);
    free(x);
}

/* n values of the cache's type. */
static void *cache_values(shoal_kv_dtype dtype, int32_t n, source *s)
{
    float *f32 = floats(n);
    uint16_t *half = room((size_t)n * sizeof *half);
    for (int32_t i = 0; i < n; i++) {
        f32[i] = draw_float(s);
        half[i] = shoal_f32_to_bf16(f32[i]);
    }
    free(dtype == SHOAL_KV_F32 ? (void *)half : f32);
    return dtype == SHOAL_KV_F32 ? (void *)f32 : half;
}

/* Two blocks of a cache, the second not full, for queries with ranges of their own; then the same
 * as a second part, merged. Latent: the values are the beginning of the keys. */
static void digest_attention(shoal_kv_dtype dtype, int32_t d_k, int32_t d_v, int32_t n_query,
                             bool latent)
{
    enum { ROWS = SHOAL_ATTEND_BLOCK + 37 };
    source s = {(uint64_t)(d_k * 1000 + d_v * 10 + n_query)};
    float *q = floats((int64_t)n_query * d_k), *out = floats((int64_t)n_query * d_v);
    shoal_attend_state *state = room((size_t)n_query * sizeof *state);
    int32_t *first = room((size_t)n_query * sizeof *first),
            *last = room((size_t)n_query * sizeof *last);
    fill(q, (int64_t)n_query * d_k, &s);
    for (int32_t i = 0; i < n_query; i++)
        state[i].max = -INFINITY;
    for (int32_t p0 = 0; p0 < ROWS; p0 += SHOAL_ATTEND_BLOCK) {
        int32_t n = ROWS - p0 < SHOAL_ATTEND_BLOCK ? ROWS - p0 : SHOAL_ATTEND_BLOCK;
        for (int32_t i = 0; i < n_query; i++) {
            first[i] = i % 3 == 2 ? 5 - p0 : 0;
            last[i] = 40 + 9 * (i / 2) - p0 < n ? 40 + 9 * (i / 2) - p0 : n;
        }
        void *key = cache_values(dtype, SHOAL_ATTEND_BLOCK * d_k, &s);
        void *value = cache_values(dtype, SHOAL_ATTEND_BLOCK * d_v, &s);
        if (latent)
            k->attend_values(value, key, dtype, n, d_k, d_v);
        const shoal_attend_kv kv = {
            .key = key, .value = value, .dtype = dtype, .d_k = d_k, .d_v = d_v};
        k->attend_block(out, d_v, state, q, d_k, n_query, first, last, 0.2f, &kv);
        free(value);
        free(key);
    }
    for (int32_t i = 0; i < n_query; i++) {
        const shoal_attend_state part = {.max = 0.125f * (float)(i - 2), .denom = 1.5f};
        k->attend_merge(out + i * d_v, &state[i], q, &part, d_v < d_k ? d_v : d_k);
        if (i % 2 == 1)
            k->attend_sink(out + i * d_v, &state[i], 0.3f, d_v);
        k->attend_finish(out + i * d_v, &state[i], d_v);
    }
    char what[96];
    snprintf(what, sizeof what, "attend%s %s %d %d x %d", latent ? " latent" : "",
             dtype == SHOAL_KV_F32 ? "f32" : "bf16", d_k, d_v, n_query);
    lines_f32(what, out, (int64_t)n_query * d_v);
    free(last);
    free(first);
    free(state);
    free(out);
    free(q);
}

static void digest_tables(void)
{
    source s = {5};
    uint64_t hash = SHOAL_HASH_INIT;
    for (int32_t i = 0; i < 2000; i++) {
        double x = (double)draw_float(&s) * 4000;
        double all[5] = {0, 0, shoal_ln(fabs(x) + 1e-3), shoal_exp(x / 10),
                         shoal_pow(1e4, x / 4000)};
        shoal_sincos(&all[0], &all[1], x);
        hash = shoal_hash(hash, all, sizeof all);
    }
    line("tables", hash);
}

int main(int argc, char **argv)
{
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "digest");
    shoal_status status = shoal_kernels_select(&k, argc > 1 ? argv[1] : "auto", &log);
    if (status != SHOAL_OK)
        return shoal_status_exit_code(status);
    printf("kernels %s\n", k->name);
    for (int32_t format = 0; format < SHOAL_N_FORMAT; format++) {
        for (int32_t i = 0; i < N_SHAPE * N_COUNT; i++)
            digest_product((shoal_format)format, shape[i / N_COUNT][0], shape[i / N_COUNT][1],
                           count[i % N_COUNT]);
    }
    for (int32_t i = 0; i < N_SHAPE * 4; i++)
        digest_row(shape[i / 4][1], i % 4);
    for (int32_t i = 0; i < 12; i++) {
        digest_attention(i % 2 == 0 ? SHOAL_KV_F32 : SHOAL_KV_BF16, 24, 40, i + 1, false);
        digest_attention(i % 2 == 0 ? SHOAL_KV_F32 : SHOAL_KV_BF16, 64, 7, i + 1, false);
        digest_attention(i % 2 == 0 ? SHOAL_KV_F32 : SHOAL_KV_BF16, 53, 43, i + 1, true);
    }
    digest_tables();
    return 0;
}
