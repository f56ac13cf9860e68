/* The attention core over several segments of the cache, GQA and MLA, windows and sinks: near plain
 * attention in double, and the same bits whatever the chunks, batch-mates and threads. */
#include "runtime/model/model_state.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_POSITION = 2 * SHOAL_ATTEND_SEGMENT + 90, N_SLOT = 2, MAX_WIDTH = 8 * 24 };

typedef struct fixture {
    shoal_log log;
    shoal_model model;
    shoal_spec spec;
    shoal_arena session, step;
    shoal_layer_weights layer;
    int32_t window;
    float sinks[8];
    int32_t d_k, d_v;
} fixture;

typedef struct attention_case {
    bool mla, sinks;
    int32_t n_head, n_kv_head, window;
    shoal_kv_dtype dtype;
} attention_case;

static float draw(int32_t a, int32_t b, int32_t c)
{
    uint32_t x = (uint32_t)a * 2654435761u + (uint32_t)b * 40503u + (uint32_t)c * 2246822519u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return (float)((int32_t)x >> 8) * 0x1p-22F;
}

static float key_at(const fixture *f, int32_t head, int32_t position, int32_t c)
{
    float x = draw(head, position, c);
    return f->model.cache.shape.dtype == SHOAL_KV_F32 ? x : shoal_bf16_to_f32(shoal_f32_to_bf16(x));
}

static float value_at(const fixture *f, int32_t head, int32_t position, int32_t d)
{
    return key_at(f, f->model.cache.shape.latent ? head : head + 100, position, d);
}

static float query_at(int32_t head, int32_t position, int32_t c)
{
    return draw(head + 1000, position, c);
}

static void open_fixture(fixture *f, const attention_case *k, int32_t n_thread)
{
    memset(f, 0, sizeof *f);
    shoal_log_init(&f->log, stderr, 0, "test");
    f->window = k->window;
    f->spec = (shoal_spec){.n_layer = 1, .n_embd = 16, .n_vocab = 16};
    f->spec.attention =
        (shoal_attention_config){.kind = k->mla ? SHOAL_ATTENTION_MLA : SHOAL_ATTENTION_GQA,
                                 .n_head = k->n_head,
                                 .n_kv_head = k->n_kv_head,
                                 .head_dim = 20,
                                 .kv_lora_rank = 18,
                                 .v_dim = 16,
                                 .scale = 0.25F,
                                 .window = &f->window,
                                 .rope = {.n_rot = 6}};
    shoal_model *m = &f->model;
    m->spec = &f->spec;
    m->weights.layer = &f->layer;
    for (int32_t i = 0; i < 8; i++)
        f->sinks[i] = draw(7, i, 0);
    f->layer.attention.sinks = k->sinks ? f->sinks : NULL;
    ck_assert_int_eq(shoal_kernels_select(&m->compute.kernels, "auto", &f->log), SHOAL_OK);
    ck_assert_int_eq(shoal_pool_open(&m->compute.pool, n_thread, &f->log), SHOAL_OK);
    f->d_k = shoal_step_d_k(&f->spec);
    f->d_v = shoal_step_d_v(&f->spec);
    const shoal_kv_shape kv = {.dtype = k->dtype,
                               .n_layer = 1,
                               .n_slot = N_SLOT,
                               .n_context = N_POSITION,
                               .n_head = k->n_kv_head,
                               .d_k = f->d_k,
                               .d_v = f->d_v,
                               .latent = k->mla};
    const shoal_step_limits limits = {.n_token_max = 150, .n_slot_max = 1, .n_thread = n_thread};
    for (int32_t pass = 0; pass < 2; pass++) {
        if (pass == 0) {
            shoal_arena_measure(&f->session, "session");
            shoal_arena_measure(&f->step, "step");
        } else {
            ck_assert_int_eq(shoal_arena_open(&f->session, &f->log), SHOAL_OK);
            ck_assert_int_eq(shoal_arena_open(&f->step, &f->log), SHOAL_OK);
        }
        shoal_kv_cache_carve(&m->cache, &f->session, &kv);
        shoal_step_carve(&m->step, shoal_arenas_same(&f->step), &f->spec, &limits);
    }
}

static void close_fixture(fixture *f)
{
    ck_assert(shoal_arena_check(&f->session) && shoal_arena_check(&f->step));
    shoal_pool_close(f->model.compute.pool);
    shoal_arena_close(&f->session);
    shoal_arena_close(&f->step);
}

/* Keys and values of positions [from, to) of a slot. Wrong ones were there before. */
static void store(fixture *f, int32_t slot, int32_t from, int32_t to)
{
    for (int32_t p = from; p < to; p++) {
        for (int32_t head = 0; head < f->spec.attention.n_kv_head; head++) {
            float key[32], value[32], wrong[32];
            for (int32_t c = 0; c < 32; c++) {
                key[c] = draw(head, p, c);
                value[c] = draw(head + 100, p, c);
                wrong[c] = 9;
            }
            const shoal_kernels *k = f->model.compute.kernels;
            shoal_kv_cache_store(&f->model.cache, k, 0, slot, head, p, wrong, wrong);
            shoal_kv_cache_store(&f->model.cache, k, 0, slot, head, p, key, value);
        }
    }
}

/* out [n_position, n_head, d_v] of one chunk's rows, whose cache is complete up to them. */
static void attend(fixture *f, const shoal_chunk *chunk, int32_t n_chunk, float *out)
{
    int32_t n_head = f->spec.attention.n_head, n_row = 0;
    shoal_step *step = &f->model.step;
    float *query = f->spec.attention.kind == SHOAL_ATTENTION_MLA ? step->q_absorbed : step->q;
    for (int32_t i = 0; i < n_chunk; i++) {
        store(f, chunk[i].slot, chunk[i].position0, chunk[i].position0 + chunk[i].n_row);
        for (int32_t r = 0; r < chunk[i].n_row; r++, n_row++) {
            int32_t position = chunk[i].position0 + r;
            step->place[n_row] = (shoal_place){.slot = chunk[i].slot, .position = position};
            for (int32_t head = 0; head < n_head; head++) {
                for (int32_t c = 0; c < f->d_k; c++)
                    query[(n_row * n_head + head) * f->d_k + c] = query_at(head, position, c);
            }
        }
    }
    const shoal_forward_input in = {.n_token = n_row, .chunk = chunk, .n_chunk = n_chunk};
    shoal__attend(&f->model, &in, 0, query);
    size_t row_bytes = (size_t)(n_head * f->d_v) * sizeof(float);
    for (int32_t row = 0; row < n_row; row++)
        memcpy(out + (size_t)step->place[row].position * row_bytes / sizeof(float),
               step->attended + (size_t)row * row_bytes / sizeof(float), row_bytes);
}

static void check_plain(const fixture *f, const float *out, int32_t position)
{
    const shoal_attention_config *a = &f->spec.attention;
    int32_t n_group = a->n_head / a->n_kv_head;
    int32_t from = f->window > 0 && position >= f->window ? position + 1 - f->window : 0;
    for (int32_t head = 0; head < a->n_head; head++) {
        double sum = 0, value[32] = {0};
        if (f->layer.attention.sinks != NULL)
            sum = exp((double)f->sinks[head]);
        for (int32_t p = from; p <= position; p++) {
            double score = 0;
            for (int32_t c = 0; c < f->d_k; c++)
                score +=
                    (double)query_at(head, position, c) * (double)key_at(f, head / n_group, p, c);
            double weight = exp((double)a->scale * score);
            sum += weight;
            for (int32_t d = 0; d < f->d_v; d++)
                value[d] += weight * (double)value_at(f, head / n_group, p, d);
        }
        for (int32_t d = 0; d < f->d_v; d++)
            ck_assert_double_eq_tol((double)out[head * f->d_v + d], value[d] / sum, 2e-5);
    }
}

static const attention_case cases[] = {
    {false, false, 6, 2, 0, SHOAL_KV_F32},   {false, false, 8, 8, 0, SHOAL_KV_BF16},
    {false, true, 8, 2, 100, SHOAL_KV_BF16}, {false, false, 4, 1, 300, SHOAL_KV_F32},
    {true, false, 8, 1, 0, SHOAL_KV_F32},    {true, false, 5, 1, 0, SHOAL_KV_BF16},
};
enum { N_CASE = (int)(sizeof cases / sizeof cases[0]) };

START_TEST(segments)
{
    fixture f;
    int32_t width = 0;
    float *want = calloc((size_t)N_POSITION * MAX_WIDTH, sizeof *want);
    float *out = calloc((size_t)N_POSITION * MAX_WIDTH, sizeof *out);
    open_fixture(&f, &cases[_i], 1); /* a row at a time: segments of a row side by side */
    width = f.spec.attention.n_head * f.d_v;
    for (int32_t p = 0; p < N_POSITION; p++) {
        const shoal_chunk chunk = {.slot = 1, .position0 = p, .n_row = 1};
        attend(&f, &chunk, 1, want);
    }
    for (int32_t p = 0; p < N_POSITION; p += p < 20 ? 1 : 37)
        check_plain(&f, want + p * width, p);
    close_fixture(&f);

    static const int32_t rows[] = {3, 150, 64};
    for (int32_t i = 0; i < 3; i++) { /* chunks; the last time two of them in a step */
        open_fixture(&f, &cases[_i], i == 0 ? 1 : 3);
        for (int32_t p = 0; p < N_POSITION; p += rows[i]) {
            int32_t n = N_POSITION - p < rows[i] ? N_POSITION - p : rows[i];
            const shoal_chunk chunk[2] = {{.slot = 0, .position0 = p, .n_row = n},
                                          {.slot = 1, .position0 = p, .row0 = n, .n_row = n}};
            attend(&f, chunk, i == 2 ? 2 : 1, out);
        }
        ck_assert_msg(memcmp(out, want, (size_t)(N_POSITION * width) * sizeof(float)) == 0,
                      "case %d, chunks of %d rows: other bits than a row at a time", _i,
                      (int)rows[i]);
        close_fixture(&f);
    }
    free(out);
    free(want);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *core = tcase_create("core");
    tcase_set_timeout(core, 0);
    tcase_add_loop_test(core, segments, 0, N_CASE);
    suite_add_tcase(suite, core);
}

SHOAL_TEST_MAIN("model.attention", add_tests)
