/* The weights of a rank with a device: the bytes that a CPU rank has, in the device's memory, but
 * for the embedding table; whether they come from the checkpoint or from a cache, which is the same
 * for both kinds of ranks. */
#include "runtime/model/model_state.h"
#include "tests/support/check_main.h"
#include "tests/support/memory_device.h"
#include "tests/support/one_rank.h"

#include <dirent.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANY ((size_t)1 << 30)

static const char *const goldens[] = {"deepseek_v3-mtp", "deepseek_v3-fp8", "qwen2_moe",
                                      "gpt_oss-mxfp4",   "granitemoe",      "mixtral"};
enum { N_GOLDEN = sizeof goldens / sizeof goldens[0] };

static shoal_memory_device *open_device(size_t memory_bytes, int32_t n_upload_good)
{
    const shoal_memory_device_config config = {
        .memory_bytes = memory_bytes, .pinned_bytes = MANY, .n_upload_good = n_upload_good};
    return shoal_memory_device_open(&config);
}

static void open_rank(shoal_one_rank *r, const char *golden, shoal_weights_choice weights,
                      shoal_memory_device *device, shoal_pack_cache *packed, shoal_status *loaded)
{
    static char model[128];
    snprintf(model, sizeof model, "tests/golden/%s", golden);
    shoal_one_rank_config config = SHOAL_ONE_RANK_DEFAULT(model);
    config.n_mtp = strstr(golden, "mtp") != NULL ? 1 : 0;
    config.weights = weights;
    config.device = device != NULL ? shoal_memory_device_of(device) : NULL;
    config.packed = packed;
    config.loaded = loaded;
    shoal_one_rank_open(r, &config);
}

/* -- the same bytes -- */

static int32_t n_compared;

static void same(const char *what, const void *a, const void *b, size_t n_bytes)
{
    ck_assert_msg((a == NULL) == (b == NULL), "%s: only one has it", what);
    ck_assert_msg(a == NULL || memcmp(a, b, n_bytes) == 0, "%s: other bytes", what);
    n_compared += a != NULL;
}

static void same_matrix(const char *what, const shoal_matrix *a, const shoal_matrix *b)
{
    ck_assert_int_eq(a->format, b->format);
    ck_assert_int_eq(a->n_row, b->n_row);
    ck_assert_int_eq(a->n_col, b->n_col);
    same(what, a->data, b->data, shoal_matrix_data_bytes(a->format, a->n_row, a->n_col));
    same(what, a->scale, b->scale, shoal_matrix_scale_bytes(a->format, a->n_row, a->n_col));
}

static void same_mlp(const char *what, const shoal_mlp_weights *a, const shoal_mlp_weights *b)
{
    same_matrix(what, &a->gate, &b->gate);
    same_matrix(what, &a->up, &b->up);
    same_matrix(what, &a->down, &b->down);
}

static void same_attention(const shoal_attention_weights *a, const shoal_attention_weights *b,
                           const shoal_spec *s)
{
    const shoal_attention_config *c = &s->attention;
    const size_t q = (size_t)(c->n_head * c->head_dim), kv = (size_t)(c->n_kv_head * c->head_dim);
    const size_t norm = c->qk_norm == SHOAL_QK_NORM_WHOLE ? 1 : 0, d = (size_t)c->head_dim;
    same_matrix("q", &a->q, &b->q);
    same_matrix("k", &a->k, &b->k);
    same_matrix("v", &a->v, &b->v);
    same("q_bias", a->q_bias, b->q_bias, q * sizeof(float));
    same("k_bias", a->k_bias, b->k_bias, kv * sizeof(float));
    same("v_bias", a->v_bias, b->v_bias, kv * sizeof(float));
    same("o_bias", a->o_bias, b->o_bias, (size_t)s->n_embd * sizeof(float));
    same("q_norm", a->q_norm, b->q_norm, (norm ? q : d) * sizeof(float));
    same("k_norm", a->k_norm, b->k_norm, (norm ? kv : d) * sizeof(float));
    same("sinks", a->sinks, b->sinks, (size_t)c->n_head * sizeof(float));
    same_matrix("q_a", &a->q_a, &b->q_a);
    same("q_a_norm", a->q_a_norm, b->q_a_norm, (size_t)c->q_lora_rank * sizeof(float));
    same_matrix("q_b", &a->q_b, &b->q_b);
    same_matrix("kv_a", &a->kv_a, &b->kv_a);
    same("kv_a_norm", a->kv_a_norm, b->kv_a_norm, (size_t)c->kv_lora_rank * sizeof(float));
    for (int32_t h = 0; h < c->n_head && a->k_up != NULL; h++) {
        same_matrix("k_up", &a->k_up[h], &b->k_up[h]);
        same_matrix("v_up", &a->v_up[h], &b->v_up[h]);
    }
    same_matrix("o", &a->o, &b->o);
}

static void same_experts(const shoal_shard *a, const shoal_shard *b)
{
    ck_assert_int_eq(a->n_layer, b->n_layer);
    const size_t n_ff = (size_t)a->shape.n_ff * sizeof(float);
    for (int32_t l = 0; l < a->n_layer; l++) {
        ck_assert_int_eq(a->layer[l].n_local, b->layer[l].n_local);
        for (int32_t e = 0; e < a->layer[l].n_local; e++) {
            const shoal_expert *x = &a->layer[l].expert[e], *y = &b->layer[l].expert[e];
            same_matrix("expert gate", &x->gate, &y->gate);
            same_matrix("expert up", &x->up, &y->up);
            same_matrix("expert down", &x->down, &y->down);
            same("gate_bias", x->gate_bias, y->gate_bias, n_ff);
            same("up_bias", x->up_bias, y->up_bias, n_ff);
            same("down_bias", x->down_bias, y->down_bias, (size_t)a->shape.n_embd * sizeof(float));
        }
    }
}

static void same_weights(const shoal_one_rank *cpu, const shoal_one_rank *other,
                         shoal_memory_device *device)
{
    const shoal_weights *a = &cpu->model->weights, *b = &other->model->weights;
    const shoal_spec *s = &cpu->spec;
    const size_t row = (size_t)s->n_embd * sizeof(float);
    n_compared = 0;
    same_matrix("embed", &a->embed, &b->embed); /* the host's: not shown yet */
    shoal_memory_device_show(device, true);
    same_matrix("lm_head", &a->lm_head, &b->lm_head);
    same("final_norm", a->final_norm, b->final_norm, row);
    for (int32_t l = 0; l < a->n_layer; l++) {
        const shoal_layer_weights *x = &a->layer[l], *y = &b->layer[l];
        same("attn_norm", x->attn_norm, y->attn_norm, row);
        same("mlp_norm", x->mlp_norm, y->mlp_norm, row);
        same_attention(&x->attention, &y->attention, s);
        same_mlp("dense", &x->dense, &y->dense);
        same_matrix("router", &x->router, &y->router);
        same("router_bias", x->router_bias, y->router_bias,
             (size_t)s->router.n_expert * sizeof(float));
        same("router_select_bias", x->router_select_bias, y->router_select_bias,
             (size_t)s->router.n_expert * sizeof(float));
        same_mlp("shared", &x->shared, &y->shared);
        same_matrix("shared_gate", &x->shared_gate, &y->shared_gate);
    }
    same("mtp", a->mtp.head_norm, b->mtp.head_norm, row);
    same_matrix("mtp project", &a->mtp.project, &b->mtp.project);
    same_experts(&a->shard, &b->shard);
    shoal_memory_device_show(device, false);
    ck_assert_int_gt(n_compared, 40);
}

/* What the table says is what was taken, and the two memories are all there is. */
static void check_table(const shoal_one_rank *cpu, const shoal_one_rank *r,
                        const shoal_memory_device *device)
{
    const shoal_memory_table *a = shoal_model_memory(cpu->model), *b = shoal_model_memory(r->model);
    const shoal_memory_device_counts count = shoal_memory_device_count(device);
    ck_assert_uint_eq(a->device_bytes, 0);
    ck_assert_uint_eq(b->device_bytes, count.device_bytes);
    ck_assert_uint_eq(b->pinned_bytes, count.pinned_bytes);
    ck_assert_uint_le(count.pinned_bytes_max, b->pinned_bytes + b->upload_bytes);
    ck_assert_uint_eq(a->attention_bytes, b->attention_bytes);
    ck_assert_uint_gt(b->device_expert_bytes, 0);
    ck_assert_uint_lt(b->device_expert_bytes, b->expert_bytes);
    const uint64_t all = b->expert_bytes + b->attention_bytes + b->other_weight_bytes +
                         b->kv_bytes + b->exchange_bytes + b->step_bytes;
    ck_assert_uint_lt(b->device_bytes + b->pinned_bytes, all + (64 << 10));
    size_t n_bytes;
    ck_assert_ptr_nonnull(shoal_model_device_weights(r->model, &n_bytes));
    ck_assert_uint_gt(n_bytes, b->device_expert_bytes);
    ck_assert_ptr_null(shoal_model_device_weights(cpu->model, &n_bytes));
}

START_TEST(a_device_gets_the_same_bytes)
{
    static const shoal_weights_choice choices[] = {SHOAL_WEIGHTS_NATIVE, SHOAL_WEIGHTS_Q4};
    for (size_t c = 0; c < sizeof choices / sizeof choices[0]; c++) {
        shoal_memory_device *device = open_device(MANY, -1);
        shoal_one_rank cpu, r;
        open_rank(&cpu, goldens[_i], choices[c], NULL, NULL, NULL);
        open_rank(&r, goldens[_i], choices[c], device, NULL, NULL);
        same_weights(&cpu, &r, device);
        check_table(&cpu, &r, device);
        ck_assert_uint_eq(shoal_model_expert_bytes_read(r.model),
                          shoal_model_expert_bytes_read(cpu.model));
        shoal_one_rank_close(&cpu);
        shoal_one_rank_close(&r);
        const shoal_memory_device_counts left = shoal_memory_device_count(device);
        ck_assert_uint_eq(left.device_bytes + left.pinned_bytes, 0);
        shoal_device_close(shoal_memory_device_of(device));
    }
}
END_TEST

/* -- with a cache -- */

static shoal_pack_cache *open_cache(const char *dir, const shoal_one_rank *of,
                                    shoal_weights_choice weights, shoal_log *log)
{
    const char *text = shoal_weights_text(weights);
    const shoal_pack_config config = {.dir = dir,
                                      .identity = shoal_pack_identity(of->checkpoint, text),
                                      .weights = text,
                                      .model = "a golden",
                                      .n_layer = of->spec.n_layer + 1,
                                      .n_expert = of->spec.router.n_expert,
                                      .verify = true};
    shoal_pack_cache *cache;
    ck_assert_int_eq(shoal_pack_cache_open(&cache, &config, log), SHOAL_OK);
    return cache;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static off_t size_of_all;
static int add_size(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)path, (void)at;
    size_of_all += kind == FTW_F ? info->st_size : 0;
    return 0;
}

static off_t folder_bytes(const char *dir)
{
    size_of_all = 0;
    ck_assert_int_eq(nftw(dir, add_size, 16, FTW_PHYS), 0);
    return size_of_all;
}

/* A start that fills the cache and one that uses it, first of a device rank and then of a CPU rank,
 * or the other way round: the second packs nothing, and all have the same bytes. */
START_TEST(a_cache_is_filled_by_one_kind_and_used_by_both)
{
    const shoal_weights_choice weights = SHOAL_WEIGHTS_Q8;
    const char *golden = goldens[_i / 2];
    char dir[] = "/tmp/shoal-device-cache-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    shoal_one_rank cpu;
    open_rank(&cpu, golden, weights, NULL, NULL, NULL);
    off_t filled = 0;
    for (int32_t start = 0; start < 3; start++) {
        const bool on_device = start == 1 || (start == 0) == (_i % 2 == 0);
        shoal_memory_device *device = on_device ? open_device(MANY, -1) : NULL;
        shoal_pack_cache *cache = open_cache(dir, &cpu, weights, &cpu.log);
        shoal_one_rank r;
        open_rank(&r, golden, weights, device, cache, NULL);
        const shoal_memory_table *table = shoal_model_memory(r.model);
        if (on_device)
            same_weights(&cpu, &r, device);
        if (start == 0)
            filled = folder_bytes(dir);
        else
            ck_assert_uint_gt(table->mapped_bytes, 0);
        if (start > 0 && on_device) /* the embedding alone is used where it is mapped */
            ck_assert_uint_eq(table->mapped_bytes,
                              shoal_matrix_data_bytes(cpu.model->weights.embed.format,
                                                      cpu.spec.n_vocab, cpu.spec.n_embd));
        ck_assert_int_eq(folder_bytes(dir), filled);
        ck_assert_uint_eq(shoal_model_expert_bytes_read(r.model) == 0, start > 0);
        shoal_one_rank_close(&r);
        shoal_pack_cache_close(cache);
        if (on_device)
            shoal_device_close(shoal_memory_device_of(device));
    }
    shoal_one_rank_close(&cpu);
    ck_assert_int_eq(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}
END_TEST

/* -- what goes wrong -- */

START_TEST(a_device_that_fails_while_loading_ends_it)
{
    shoal_memory_device *device = open_device(MANY, 20);
    shoal_status loaded;
    shoal_one_rank r;
    open_rank(&r, "deepseek_v3", SHOAL_WEIGHTS_NATIVE, device, NULL, &loaded);
    ck_assert_int_eq(loaded, SHOAL_UNAVAILABLE);
    shoal_one_rank_close(&r);
    ck_assert_uint_eq(shoal_memory_device_count(device).pinned_bytes, 0);
    shoal_device_close(shoal_memory_device_of(device));
}
END_TEST

START_TEST(what_does_not_fit_is_said_with_its_memory)
{
    shoal_memory_device *device = open_device(100000, -1);
    shoal_status loaded;
    shoal_one_rank r;
    open_rank(&r, "deepseek_v3", SHOAL_WEIGHTS_NATIVE, device, NULL, &loaded);
    ck_assert_int_eq(loaded, SHOAL_NO_MEMORY);
    ck_assert_ptr_nonnull(strstr(r.log.error, "the memory of memory:0"));
    shoal_one_rank_close(&r);
    ck_assert_uint_eq(shoal_memory_device_count(device).device_bytes, 0);
    shoal_device_close(shoal_memory_device_of(device));
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *same_case = tcase_create("same");
    tcase_set_timeout(same_case, 0);
    tcase_add_loop_test(same_case, a_device_gets_the_same_bytes, 0, N_GOLDEN);
    tcase_add_loop_test(same_case, a_cache_is_filled_by_one_kind_and_used_by_both, 0, 2 * N_GOLDEN);
    suite_add_tcase(suite, same_case);
    SHOAL_TEST(suite, a_device_that_fails_while_loading_ends_it);
    SHOAL_TEST(suite, what_does_not_fit_is_said_with_its_memory);
}

SHOAL_TEST_MAIN("model.device_weights", add_tests)
