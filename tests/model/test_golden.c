/* The line against the goldens, one rank, no engine: logits within 2e-3 of the largest, router
 * choices and greedy ids equal; and the same bits whatever the prefill chunk size, the thread count
 * and the kernel variant. */
#include "tests/support/check_main.h"
#include "tests/support/one_rank.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* expected.json and expected.safetensors of a golden folder. */
typedef struct expected {
    shoal_json *json;
    shoal_checkpoint *tensors;
    char folder[64];
    int32_t prompt[128], greedy[64];
    int32_t n_prompt, n_greedy;
} expected;

static void golden_path(char path[512], const char *name)
{
    (void)snprintf(path, 512, "%s/tests/golden/%s", getenv("SHOAL_SOURCE_DIR"), name);
}

/* --math fast, --weights */
typedef struct golden_mode {
    bool fast;
    shoal_weights_choice weights;
} golden_mode;

static void open_golden(shoal_one_rank *f, const char *name, const char *kernels, int32_t n_thread,
                        golden_mode mode)
{
    char model[128];
    (void)snprintf(model, sizeof(model), "tests/golden/%s", name);
    shoal_one_rank_config config = SHOAL_ONE_RANK_DEFAULT(model);
    config.kernels = kernels;
    config.n_thread = n_thread;
    config.fast = mode.fast;
    config.weights = mode.weights;
    config.kv_dtype = mode.fast ? SHOAL_KV_BF16 : SHOAL_KV_F32;
    shoal_one_rank_open(f, &config);
}

static int32_t read_ids(int32_t *ids, const shoal_json *array)
{
    for (size_t i = 0; i < shoal_json_size(array); i++)
        ids[i] = (int32_t)shoal_json_int(shoal_json_at(array, i), -1);
    return (int32_t)shoal_json_size(array);
}

static void open_expected(expected *e, const char *name, shoal_log *log)
{
    char path[512], file[600], link[128];
    golden_path(path, name);
    (void)snprintf(file, sizeof(file), "%s/expected.json", path);
    ck_assert_int_eq(shoal_json_read_file(&e->json, file, log), SHOAL_OK);
    e->n_prompt = read_ids(e->prompt, shoal_json_get(e->json, "prompt_ids"));
    e->n_greedy = read_ids(e->greedy, shoal_json_get(e->json, "greedy_ids"));
    /* The checkpoint reader wants the file name model.safetensors: give it a link. */
    (void)snprintf(e->folder, sizeof(e->folder), "/tmp/shoal-golden-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(e->folder));
    (void)snprintf(file, sizeof(file), "%s/expected.safetensors", path);
    (void)snprintf(link, sizeof(link), "%s/model.safetensors", e->folder);
    ck_assert_int_eq(symlink(file, link), 0);
    ck_assert_int_eq(shoal_checkpoint_open(&e->tensors, e->folder, false, log), SHOAL_OK);
    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(rmdir(e->folder), 0);
}

static void close_expected(expected *e)
{
    shoal_checkpoint_close(e->tensors);
    shoal_json_close(e->json);
}

/* All values of a 4-byte tensor; free() it. */
static void *read_tensor(const expected *e, const char *name, int64_t *n)
{
    const shoal_tensor_info *t = shoal_checkpoint_find(e->tensors, name);
    ck_assert_msg(t != NULL, "no tensor %s", name);
    void *data = malloc(t->n_bytes + 1);
    ck_assert_int_eq(shoal_checkpoint_read(e->tensors, t, 0, t->n_bytes, data), SHOAL_OK);
    *n = (int64_t)(t->n_bytes / 4);
    return data;
}

/* Run rows [0, n) of ids from position0 in chunks; logits [n, n_vocab], hidden [n, n_embd] out;
 * routing captured when asked for. */
static void run(shoal_one_rank *f, const int32_t *ids, int32_t n, int32_t position0,
                int32_t chunk_rows, float *logits, float *hidden, int32_t *expert, float *weight)
{
    int32_t k = f->spec.router.top_k, n_moe = f->spec.n_moe_layer, row[64];
    bool is_source[1] = {true};
    for (int32_t i = 0; i < 64; i++)
        row[i] = i;
    for (int32_t at = 0; at < n; at += chunk_rows) {
        int32_t m = n - at < chunk_rows ? n - at : chunk_rows;
        const shoal_chunk chunk = {.slot = 0, .position0 = position0 + at, .row0 = 0, .n_row = m};
        int32_t *e = malloc((size_t)(n_moe * m * k) * sizeof(int32_t));
        float *w = malloc((size_t)(n_moe * m * k) * sizeof(float));
        const shoal_route_capture capture = {.expert = e, .weight = w};
        const shoal_forward_input in = {.step = at,
                                        .token = ids + at,
                                        .n_token = m,
                                        .chunk = &chunk,
                                        .n_chunk = 1,
                                        .is_source = is_source,
                                        .logit_row = row,
                                        .n_logit = m,
                                        .capture = &capture};
        shoal_forward_output out;
        ck_assert_int_eq(shoal_forward(&out, f->model, &in), SHOAL_OK);
        memcpy(logits + (size_t)at * (size_t)f->spec.n_vocab, out.logits,
               (size_t)m * (size_t)f->spec.n_vocab * sizeof(float));
        if (hidden != NULL)
            memcpy(hidden + (size_t)at * (size_t)f->spec.n_embd, out.hidden,
                   (size_t)m * (size_t)f->spec.n_embd * sizeof(float));
        for (int32_t layer = 0; expert != NULL && layer < n_moe; layer++) {
            memcpy(expert + (size_t)((layer * n + at) * k), e + (size_t)(layer * m * k),
                   (size_t)(m * k) * sizeof(int32_t));
            memcpy(weight + (size_t)((layer * n + at) * k), w + (size_t)(layer * m * k),
                   (size_t)(m * k) * sizeof(float));
        }
        free(e);
        free(w);
    }
}

static int32_t largest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static void compare(const char *what, const float *got, const float *want, int64_t n)
{
    float max = 0.0F, worst = 0.0F;
    for (int64_t i = 0; i < n; i++) {
        max = fabsf(want[i]) > max ? fabsf(want[i]) : max;
        worst = !(fabsf(got[i] - want[i]) <= worst) ? fabsf(got[i] - want[i]) : worst;
    }
    ck_assert_msg(worst <= 2e-3F * max, "%s: largest difference %g, largest value %g", what,
                  (double)worst, (double)max);
}

/* The file lists experts ascending; ours come in the order chosen. */
static void compare_routing(const shoal_one_rank *f, const expected *e, const int32_t *expert,
                            const float *weight)
{
    int64_t n, n_weight;
    int32_t *want = read_tensor(e, "router_topk_idx", &n);
    float *want_weight = read_tensor(e, "router_topk_weight", &n_weight);
    int32_t k = f->spec.router.top_k;
    ck_assert_int_eq(n, (int64_t)f->spec.n_moe_layer * e->n_prompt * k);
    for (int64_t row = 0; row < n / k; row++) {
        for (int32_t j = 0; j < k; j++) {
            int32_t at = 0;
            while (at < k && expert[row * k + at] != want[row * k + j])
                at++;
            ck_assert_msg(at < k, "row %lld: expert %d not chosen", (long long)row,
                          want[row * k + j]);
            ck_assert_float_eq_tol(weight[row * k + at], want_weight[row * k + j], 1e-3F);
        }
    }
    free(want);
    free(want_weight);
}

static const char *const goldens[] = {
    "deepseek_v3", "deepseek_v3-fp8",  "deepseek_v3-mtp", "qwen3_moe", "qwen3_moe-sharded",
    "deepseek_v2", "deepseek_v2-lite", "qwen2_moe",       "mixtral",   "mixtral-swa",
    "olmoe",       "gpt_oss",          "gpt_oss-mxfp4",   "glm4_moe",  "glm4_moe-noqknorm",
    "granitemoe"};
#define N_GOLDEN ((int)(sizeof(goldens) / sizeof(goldens[0])))

START_TEST(prompt_and_greedy)
{
    shoal_one_rank f;
    expected e;
    open_golden(&f, goldens[_i], "auto", 2, (golden_mode){0});
    open_expected(&e, goldens[_i], &f.log);
    int32_t n = e.n_prompt, k = f.spec.router.top_k;
    size_t n_vocab = (size_t)f.spec.n_vocab;
    float *logits = malloc((size_t)n * n_vocab * sizeof(float));
    float *hidden = malloc((size_t)(n * f.spec.n_embd) * sizeof(float));
    int32_t *expert = malloc((size_t)(f.spec.n_moe_layer * n * k) * sizeof(int32_t));
    float *weight = malloc((size_t)(f.spec.n_moe_layer * n * k) * sizeof(float));
    run(&f, e.prompt, n, 0, 64, logits, hidden, expert, weight);

    int64_t n_value;
    float *want = read_tensor(&e, "prompt_logits", &n_value);
    ck_assert_int_eq(n_value, (int64_t)n * f.spec.n_vocab);
    compare("prompt_logits", logits, want, n_value);
    float *want_hidden = read_tensor(&e, "final_hidden", &n_value);
    compare("final_hidden", hidden, want_hidden, n_value);
    compare_routing(&f, &e, expert, weight);

    int32_t token = largest(logits + (size_t)(n - 1) * n_vocab, f.spec.n_vocab);
    for (int32_t i = 0; i < e.n_greedy; i++) {
        ck_assert_int_eq(token, e.greedy[i]);
        run(&f, &token, 1, n + i, 1, logits, NULL, NULL, NULL);
        token = largest(logits, f.spec.n_vocab);
    }
    free(want_hidden);
    free(want);
    free(weight);
    free(expert);
    free(hidden);
    free(logits);
    close_expected(&e);
    shoal_one_rank_close(&f);
}
END_TEST

/* Under a sanitizer each variant has one of the thread counts, in turn: no code is left out. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_TURN(v, n_thread) (((v) % 2 == 0) == ((n_thread) == 3))
#else
#define HAS_TURN(v, n_thread) true
#endif

/* Bytes of the logits do not depend on chunk size, thread count or kernel variant; in both --math
 * modes, and with integer weights. */
START_TEST(same_bits)
{
    const golden_mode modes[] = {
        {false, SHOAL_WEIGHTS_NATIVE},
        {true, SHOAL_WEIGHTS_NATIVE},
        {true, _i % 2 == 0 ? SHOAL_WEIGHTS_Q8 : SHOAL_WEIGHTS_Q4},
    };
    const shoal_kernels *variant[8];
    int32_t n_variant = shoal_kernels_list(variant, 8);
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
        float *first = NULL;
        for (int32_t v = 0; v < n_variant; v++) {
            for (int32_t n_thread = 1; n_thread <= 3; n_thread += 2) {
                if (!HAS_TURN(v, n_thread))
                    continue;
                shoal_one_rank f;
                expected e;
                open_golden(&f, goldens[_i], variant[v]->name, n_thread, modes[m]);
                open_expected(&e, goldens[_i], &f.log);
                size_t n_bytes = (size_t)e.n_prompt * (size_t)f.spec.n_vocab * sizeof(float);
                const int32_t chunk_rows[3] = {64, 1, 7};
                for (int32_t c = 0; c < 3; c++) {
                    float *logits = malloc(n_bytes);
                    run(&f, e.prompt, e.n_prompt, 0, chunk_rows[c], logits, NULL, NULL, NULL);
                    if (first == NULL) {
                        first = logits;
                        continue;
                    }
                    ck_assert_msg(memcmp(first, logits, n_bytes) == 0,
                                  "%s, %d threads, chunks of %d: other bits", variant[v]->name,
                                  n_thread, chunk_rows[c]);
                    free(logits);
                }
                close_expected(&e);
                shoal_one_rank_close(&f);
            }
        }
        free(first);
    }
}
END_TEST

/* mtp_logits[i] predicts token i + 2 from token i + 1 and the main model's hidden state of row i,
 * whatever the chunks. */
START_TEST(mtp)
{
    const int32_t chunk_rows[3] = {64, 1, 5};
    shoal_one_rank f;
    expected e;
    shoal_one_rank_config config = SHOAL_ONE_RANK_DEFAULT("tests/golden/deepseek_v3-mtp");
    config.n_mtp = 1;
    shoal_one_rank_open(&f, &config);
    ck_assert(shoal_model_has_mtp(&f.spec, f.checkpoint));
    open_expected(&e, "deepseek_v3-mtp", &f.log);
    int32_t n = e.n_prompt - 1;
    size_t n_vocab = (size_t)f.spec.n_vocab, n_embd = (size_t)f.spec.n_embd;
    float *logits = malloc((size_t)e.n_prompt * n_vocab * sizeof(float));
    float *hidden = malloc((size_t)e.n_prompt * n_embd * sizeof(float));
    int64_t n_value;
    float *want = read_tensor(&e, "mtp_logits", &n_value);
    ck_assert_int_eq(n_value, (int64_t)n * f.spec.n_vocab);
    run(&f, e.prompt, e.n_prompt, 0, 64, logits, hidden, NULL, NULL);
    int32_t row[64];
    for (int32_t i = 0; i < 64; i++)
        row[i] = i;
    bool is_source[1] = {true};
    int32_t rows = chunk_rows[_i];
    for (int32_t at = 0; at < n; at += rows) {
        int32_t m = n - at < rows ? n - at : rows;
        const shoal_chunk chunk = {.position0 = at, .n_row = m};
        const shoal_forward_input in = {.token = e.prompt + at + 1,
                                        .n_token = m,
                                        .chunk = &chunk,
                                        .n_chunk = 1,
                                        .is_source = is_source,
                                        .logit_row = row,
                                        .n_logit = m};
        shoal_forward_output out;
        ck_assert_int_eq(shoal_forward_mtp(&out, f.model, &in, hidden + (size_t)at * n_embd),
                         SHOAL_OK);
        memcpy(logits + (size_t)at * n_vocab, out.logits, (size_t)m * n_vocab * sizeof(float));
    }
    compare("mtp_logits", logits, want, n_value);
    free(want);
    free(hidden);
    free(logits);
    close_expected(&e);
    shoal_one_rank_close(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *golden = tcase_create("golden");
    tcase_set_timeout(golden, 0);
    tcase_add_loop_test(golden, prompt_and_greedy, 0, N_GOLDEN);
    tcase_add_loop_test(golden, same_bits, 0, N_GOLDEN);
    tcase_add_loop_test(golden, mtp, 0, 3);
    suite_add_tcase(suite, golden);
}

SHOAL_TEST_MAIN("model.golden", add_tests)
