/* kernel_counts NAME: runs chosen cases of the kernels of that name, each once in counted_case, and
 * prints "compiler VERSION" and then a line "CASE MULTIPLY-ADDS" for each in this order. Under
 * callgrind, which is told to count inside counted_case only, that gives instructions per
 * multiply-add (bench_kernel_counts.py). */
#include "tests/kernels/inputs.h"

#include <stdio.h>

enum { N_ROW = 128, N_COL = 2048, MAX_TOKEN = 16, N_GROUP = N_COL / SHOAL_GROUP };
enum { N_QUERY = 8, WIDTH = 128 }; /* of attention: the heads that share a kv head, their size */

typedef struct run {
    const shoal_kernels *kernels;
    const shoal_matrix *w; /* NULL: attention */
    const float *x;
    const shoal_int8_group *x_int8; /* NULL: matmul */
    int32_t n_token;
    const shoal_attend_kv *kv;
    float *y;
} run;

static void attend(const run *r)
{
    shoal_attend_state state[MAX_TOKEN * N_QUERY];
    int32_t first[MAX_TOKEN * N_QUERY], last[MAX_TOKEN * N_QUERY];
    for (int32_t i = 0; i < r->n_token * N_QUERY; i++) {
        state[i] = (shoal_attend_state){.max = -INFINITY};
        first[i] = 0;
        last[i] = SHOAL_ATTEND_BLOCK;
    }
    r->kernels->attend_block(r->y, WIDTH, state, r->x, WIDTH, r->n_token * N_QUERY, first, last,
                             0.1f, r->kv);
}

static __attribute__((noinline)) void counted_case(const run *r)
{
    if (r->w == NULL)
        attend(r);
    else if (r->x_int8 != NULL)
        r->kernels->matmul_int8(r->y, N_ROW, r->w, 0, N_ROW / SHOAL_BAND, r->x_int8, N_GROUP,
                                r->n_token);
    else
        r->kernels->matmul(r->y, N_ROW, r->w, 0, N_ROW / SHOAL_BAND, r->x, N_COL, r->n_token);
}

static void count(const char *kernel, const char *what, const run *r)
{
    int64_t macs =
        r->w == NULL ? (int64_t)N_QUERY * SHOAL_ATTEND_BLOCK * 2 * WIDTH : (int64_t)N_ROW * N_COL;
    counted_case(r);
    printf("%s.%s.%d %lld\n", kernel, what, (int)r->n_token, (long long)(macs * r->n_token));
}

int main(int argc, char **argv)
{
    static const shoal_format format[] = {SHOAL_FORMAT_Q4, SHOAL_FORMAT_Q8, SHOAL_FORMAT_MXFP4,
                                          SHOAL_FORMAT_BF16, SHOAL_FORMAT_FP8_BLOCK};
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "kernel_counts");
    run r = {.kernels = NULL};
    shoal_status status = shoal_kernels_select(&r.kernels, argc > 1 ? argv[1] : "auto", &log);
    if (status != SHOAL_OK)
        return shoal_status_exit_code(status);
    printf("compiler %s\n", __VERSION__);
    source s = {1};
    float *x = floats(MAX_TOKEN * N_COL);
    shoal_int8_group *groups = room(MAX_TOKEN * N_GROUP * sizeof *groups);
    r.x = x;
    r.y = floats(MAX_TOKEN * N_COL);
    fill(x, MAX_TOKEN * N_COL, &s);
    for (int32_t t = 0; t < MAX_TOKEN; t++)
        r.kernels->to_groups(groups + t * N_GROUP, x + t * N_COL, N_COL);
    for (size_t f = 0; f < sizeof format / sizeof format[0]; f++) {
        shoal_matrix w = random_matrix(format[f], N_ROW, N_COL, &s);
        r.w = &w;
        r.x_int8 = shoal_format_is_quantised(format[f]) ? groups : NULL;
        for (r.n_token = 1; r.n_token <= MAX_TOKEN; r.n_token *= MAX_TOKEN)
            count(r.x_int8 != NULL ? "matmul_int8" : "matmul", shoal_format_text(format[f]), &r);
        drop_matrix(&w);
    }
    uint16_t *cache = room(SHOAL_ATTEND_BLOCK * 2 * WIDTH * sizeof *cache);
    for (int32_t i = 0; i < SHOAL_ATTEND_BLOCK * 2 * WIDTH; i++)
        cache[i] = shoal_f32_to_bf16(draw_float(&s));
    const shoal_attend_kv kv = {.key = cache,
                                .value = cache + SHOAL_ATTEND_BLOCK * WIDTH,
                                .dtype = SHOAL_KV_BF16,
                                .d_k = WIDTH,
                                .d_v = WIDTH};
    r.w = NULL;
    r.kv = &kv;
    for (r.n_token = 1; r.n_token <= MAX_TOKEN; r.n_token *= MAX_TOKEN)
        count("attention", "bf16", &r);
    free(cache);
    free(groups);
    free(r.y);
    free(x);
    return 0;
}
