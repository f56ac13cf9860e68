/* GGUF files against the folders they were converted from (tests/checkpoint/gguf/convert.py): every
 * weight of every family the same, whole, in slices and in rows; config, split files, tokenizers.
 */
#include "runtime/checkpoint/load.h"
#include "runtime/text/tokenizer.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <string.h>
#include <unistd.h>

/* Runs the converter: folder (of the repository) to NAME in the fixture's folder. */
static void convert(const fixture *f, const char *folder, const char *name, const char *options)
{
    char command[2048];
    const char *root = getenv("SHOAL_SOURCE_DIR");
    ck_assert_ptr_nonnull(root);
    snprintf(command, sizeof command,
             "cd '%s' && python3 tests/checkpoint/gguf/convert.py '%s' '%s/%s' %s", root, folder,
             f->path, name, options);
    ck_assert_msg(system(command) == 0, "failed: %s", command);
}

static shoal_checkpoint *open_at(const char *path, fixture *f)
{
    shoal_checkpoint *c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, path, true, &f->log) == SHOAL_OK, "%s", f->log.error);
    return c;
}

typedef struct pair {
    fixture *f;
    shoal_loader folder, gguf;
    int n_matrix, n_vector, n_mxfp4;
    uint64_t n_bytes; /* read of the GGUF */
} pair;

static shoal_matrix new_matrix(shoal_format format, int32_t n_row, int32_t n_col)
{
    shoal_matrix w = {.format = format, .n_row = n_row, .n_col = n_col};
    w.data = calloc(1, shoal_matrix_data_bytes(format, n_row, n_col) + 1);
    ck_assert_ptr_nonnull(w.data);
    return w;
}

/* A matrix by the same reference from both. kv_b: rows only, as the model reads it. */
static void compare_matrix(pair *p, shoal_weight_ref ref, int32_t n_row, int32_t n_col)
{
    shoal_format format[2] = {SHOAL_N_FORMAT, SHOAL_N_FORMAT};
    shoal_loader *loader[2] = {&p->folder, &p->gguf};
    shoal_matrix w[2];
    size_t n = (size_t)n_row * (size_t)n_col;
    float *rows[2];
    for (int i = 0; i < 2; i++) {
        shoal_status status = shoal_load_check_matrix(&format[i], loader[i], ref, n_row, n_col);
        ck_assert_msg(status == SHOAL_OK, "%s", p->f->log.error);
        w[i] = new_matrix(format[i], n_row, n_col);
        rows[i] = malloc(n * sizeof **rows);
        ck_assert_ptr_nonnull(rows[i]);
        status = shoal_load_matrix(&w[i], loader[i], ref);
        ck_assert_msg(status == SHOAL_OK, "%s", p->f->log.error);
        int32_t first = n_row / 3; /* not at its begin */
        status = shoal_load_rows_f32(rows[i] + (size_t)first * (size_t)n_col, loader[i], ref, first,
                                     n_row - first, n_col);
        ck_assert_msg(status == SHOAL_OK, "%s", p->f->log.error);
        status = shoal_load_rows_f32(rows[i], loader[i], ref, 0, first, n_col);
        ck_assert_msg(status == SHOAL_OK, "%s", p->f->log.error);
    }
    for (int32_t r = 0; r < n_row; r++)
        for (int32_t c = 0; c < n_col; c++) {
            float x = shoal_matrix_at(&w[0], r, c);
            if (shoal_matrix_at(&w[1], r, c) != x || rows[0][r * n_col + c] != x ||
                rows[1][r * n_col + c] != x)
                ck_abort_msg("%s slice %d row0 %d: (%d, %d)", ref.name, ref.slice, ref.row0, r, c);
        }
    for (int i = 0; i < 2; i++) {
        free(rows[i]);
        free(w[i].data);
    }
    p->n_matrix++;
    p->n_mxfp4 += format[1] == SHOAL_FORMAT_MXFP4;
}

static void compare_vector(pair *p, shoal_weight_ref ref, int32_t n)
{
    float x[2][4096] = {{0}};
    ck_assert_int_le(n, 4096);
    ck_assert_msg(shoal_load_vector(x[0], &p->folder, ref, n) == SHOAL_OK, "%s", p->f->log.error);
    ck_assert_msg(shoal_load_vector(x[1], &p->gguf, ref, n) == SHOAL_OK, "%s", p->f->log.error);
    ck_assert_msg(memcmp(x[0], x[1], (size_t)n * sizeof(float)) == 0, "%s", ref.name);
    p->n_vector++;
}

static bool ends_with(const char *text, const char *tail)
{
    size_t n = strlen(text), n_tail = strlen(tail);
    return n >= n_tail && strcmp(text + n - n_tail, tail) == 0;
}

/* gate and up of a fused tensor [E, 2 * I, ...] are read apart, like the families do. */
static void compare_fused(pair *p, const char *name, const shoal_tensor_info *t, bool bias)
{
    bool gpt_oss = strstr(name, "gate_up_proj") != NULL || strstr(name, "down_proj") != NULL;
    bool halves = strstr(name, "input_linear") != NULL, fused = halves || strstr(name, "gate_up");
    bool blocks = ends_with(t->name, "_blocks");
    bool transposed = gpt_oss && !bias;
    bool columns_first = transposed && !blocks;
    int32_t n_row = (int32_t)t->shape[columns_first ? 2 : 1];
    int32_t n_col = bias ? 1 : (int32_t)t->shape[columns_first ? 1 : 2] * (blocks ? 32 : 1);
    for (int32_t e = 0; e < (int32_t)t->shape[0]; e++)
        for (int32_t half = 0; half < (fused ? 2 : 1); half++) {
            int32_t n = fused ? n_row / 2 : n_row;
            shoal_weight_ref ref = {name,
                                    e,
                                    (int32_t)t->shape[0],
                                    n_row,
                                    halves ? half * n : half,
                                    fused && !halves ? 2 : 1,
                                    transposed,
                                    0};
            if (bias)
                compare_vector(p, ref, n);
            else
                compare_matrix(p, ref, n, n_col);
        }
}

static void compare_tensor(pair *p, const shoal_tensor_info *t)
{
    char name[256];
    snprintf(name, sizeof name, "%s", t->name);
    bool bias = ends_with(name, "_bias");
    if (t->n_dim == 1) {
        compare_vector(p, shoal_weight_ref_of(name), (int32_t)t->shape[0]);
    } else if (ends_with(name, "_blocks")) {
        name[strlen(name) - strlen("_blocks")] = '\0';
        compare_fused(p, name, t, false);
    } else if (t->n_dim == 3 || bias) {
        if (!ends_with(name, "_scales"))
            compare_fused(p, name, t, bias);
    } else {
        compare_matrix(p, shoal_weight_ref_of(name), (int32_t)t->shape[0], (int32_t)t->shape[1]);
    }
}

/* What the GGUF's config says is what the folder's says, in the same words. */
static void compare_config(const shoal_checkpoint *folder, const shoal_checkpoint *gguf)
{
    const shoal_json *x = shoal_checkpoint_config(folder), *y = shoal_checkpoint_config(gguf);
    const char *key = NULL;
    size_t n_key = 0;
    const shoal_json *value = NULL;
    void *it = NULL;
    while ((it = shoal_json_next(y, it, &key, &n_key, &value)) != NULL) {
        const shoal_json *other = shoal_json_get(x, key);
        if (other == NULL || shoal_json_is_array(other) != shoal_json_is_array(value))
            continue;
        /* the number of prediction layers is of those that the file has */
        if (strcmp(key, "num_nextn_predict_layers") == 0 || strcmp(key, "intermediate_size") == 0)
            continue;
        if (shoal_json_is_number(other) && shoal_json_is_number(value)) {
            double a = shoal_json_number(other, -1), b = shoal_json_number(value, -2);
            ck_assert_msg(a == b, "%s: %.17g, wanted %.17g", key, b, a);
        } else if (!shoal_json_is_object(other)) {
            char *a = shoal_json_dump(other), *b = shoal_json_dump(value);
            ck_assert_msg(strcmp(a, b) == 0, "%s: %s, wanted %s", key, b, a);
            free(a);
            free(b);
        }
    }
    /* yarn: the numbers that are in both */
    const shoal_json *yarn = shoal_json_get(x, "rope_scaling");
    const shoal_json *found = shoal_json_get(y, "rope_scaling");
    ck_assert(shoal_json_is_object(yarn) == shoal_json_is_object(found));
    static const char *const numbers[] = {"factor",    "original_max_position_embeddings",
                                          "beta_fast", "beta_slow",
                                          "mscale",    "mscale_all_dim"};
    for (int i = 0; i < 6 && shoal_json_is_object(yarn); i++)
        ck_assert_msg(shoal_json_number(shoal_json_get(yarn, numbers[i]), 0) ==
                          shoal_json_number(shoal_json_get(found, numbers[i]), 0),
                      "%s", numbers[i]);
}

static const struct {
    const char *folder, *options;
    const char *must_have; /* keys of the config that the family has no default for */
} goldens[] = {
    {"qwen3_moe", "", "num_experts head_dim mlp_only_layers moe_intermediate_size"},
    {"qwen3_moe", "version=2", "norm_topk_prob rms_norm_eps rope_theta vocab_size"},
    {"qwen2_moe", "", "shared_expert_intermediate_size mlp_only_layers intermediate_size"},
    {"deepseek_v3", "", "kv_lora_rank q_lora_rank v_head_dim qk_nope_head_dim n_group topk_group"},
    {"deepseek_v3", "kv_b=whole", "scoring_func topk_method routed_scaling_factor"},
    {"deepseek_v3-mtp", "", "num_nextn_predict_layers first_k_dense_replace n_shared_experts"},
    {"deepseek_v2", "", "rope_scaling qk_rope_head_dim num_hidden_layers"},
    {"deepseek_v2-lite", "", "q_lora_rank topk_method max_position_embeddings"},
    {"mixtral", "", "num_local_experts intermediate_size head_dim"},
    {"mixtral-swa", "", "sliding_window num_experts_per_tok"},
    {"olmoe", "", "num_experts rms_norm_eps intermediate_size"},
    {"gpt_oss", "", "layer_types sliding_window head_dim rope_scaling swiglu_limit"},
    {"gpt_oss-mxfp4", "", "num_local_experts intermediate_size"},
    {"glm4_moe", "", "partial_rotary_factor use_qk_norm first_k_dense_replace n_routed_experts"},
    {"glm4_moe-noqknorm", "", "use_qk_norm attention_bias norm_topk_prob"},
    {"granitemoe", "",
     "embedding_multiplier attention_multiplier residual_multiplier logits_scaling"},
};
enum { N_GOLDEN = sizeof goldens / sizeof goldens[0] };

START_TEST(test_families)
{
    fixture f;
    fixture_open(&f);
    char folder[128];
    snprintf(folder, sizeof folder, "tests/golden/%s", goldens[_i].folder);
    convert(&f, folder, "m.gguf", goldens[_i].options);
    pair p = {.f = &f};
    shoal_checkpoint *x = open_at(fixture_source_path(folder), &f);
    shoal_checkpoint *y = open_at(fixture_path(&f, "m.gguf"), &f);
    ck_assert_int_eq(shoal_loader_open(&p.folder, x, &f.log), SHOAL_OK);
    ck_assert_int_eq(shoal_loader_open(&p.gguf, y, &f.log), SHOAL_OK);
    int n_tensor = 0;
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(x); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(x, i);
        compare_tensor(&p, t);
        n_tensor += !ends_with(t->name, "_blocks") && !ends_with(t->name, "_scales");
    }
    ck_assert_int_gt(p.n_vector, 5);
    ck_assert_int_gt(p.n_matrix, 20);
    ck_assert((p.n_mxfp4 > 0) == (strstr(goldens[_i].folder, "mxfp4") != NULL));
    ck_assert_int_ge(shoal_checkpoint_n_tensor(y), n_tensor);
    compare_config(x, y);
    char keys[256];
    snprintf(keys, sizeof keys, "%s", goldens[_i].must_have);
    for (char *key = strtok(keys, " "); key != NULL; key = strtok(NULL, " "))
        ck_assert_msg(shoal_json_get(shoal_checkpoint_config(y), key) != NULL, "no %s", key);
    shoal_loader_close(&p.folder);
    shoal_loader_close(&p.gguf);
    shoal_checkpoint_close(x);
    shoal_checkpoint_close(y);
    fixture_close(&f);
}
END_TEST

/* An expert's bytes are all that is read of a tensor that holds all of them. */
START_TEST(test_own_bytes)
{
    fixture f;
    fixture_open(&f);
    convert(&f, "tests/golden/qwen3_moe", "m.gguf", "");
    shoal_checkpoint *c = open_at(fixture_path(&f, "m.gguf"), &f);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 0);
    shoal_matrix w = new_matrix(SHOAL_FORMAT_BF16, 32, 64);
    ck_assert_int_eq(
        shoal_load_matrix(&w, &loader,
                          shoal_weight_ref_of("model.layers.0.mlp.experts.5.up_proj.weight")),
        SHOAL_OK);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 32 * 64 * 2);
    free(w.data);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

START_TEST(test_split)
{
    fixture f;
    fixture_open(&f);
    convert(&f, "tests/golden/qwen3_moe", "m.gguf", "");
    convert(&f, "tests/golden/qwen3_moe", "s", "split=3");
    shoal_checkpoint *one = open_at(fixture_path(&f, "m.gguf"), &f);
    shoal_checkpoint *split = open_at(fixture_path(&f, "s-00001-of-00003.gguf"), &f);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(one), shoal_checkpoint_n_tensor(split));
    ck_assert_uint_ne(shoal_checkpoint_identity(one), shoal_checkpoint_identity(split));
    int n_file[3] = {0};
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(one); i++) {
        const shoal_tensor_info *a = shoal_checkpoint_tensor(one, i);
        const shoal_tensor_info *b = shoal_checkpoint_tensor(split, i);
        static char x[1 << 17], y[1 << 17];
        ck_assert_str_eq(a->name, b->name);
        ck_assert_uint_eq(a->n_bytes, b->n_bytes);
        ck_assert_uint_le(a->n_bytes, sizeof x);
        ck_assert_int_eq(shoal_checkpoint_read(one, a, 0, (size_t)a->n_bytes, x), SHOAL_OK);
        ck_assert_int_eq(shoal_checkpoint_read(split, b, 0, (size_t)a->n_bytes, y), SHOAL_OK);
        ck_assert_mem_eq(x, y, (size_t)a->n_bytes);
        n_file[b->file]++;
    }
    ck_assert(n_file[0] == 0 && n_file[1] > 10 && n_file[2] > 10);
    shoal_checkpoint_close(split);
    shoal_checkpoint_close(one);

    /* not the first; one missing; a stranger among them */
    shoal_checkpoint *c = NULL;
    ck_assert_int_eq(
        shoal_checkpoint_open(&c, fixture_path(&f, "s-00002-of-00003.gguf"), true, &f.log),
        SHOAL_BAD_DATA);
    ck_assert_msg(strstr(f.log.error, "file 2 of a split of 3") != NULL, "%s", f.log.error);
    char third[512];
    snprintf(third, sizeof third, "%s", fixture_path(&f, "s-00003-of-00003.gguf"));
    ck_assert_int_eq(rename(third, fixture_path(&f, "away")), 0);
    ck_assert_int_eq(
        shoal_checkpoint_open(&c, fixture_path(&f, "s-00001-of-00003.gguf"), true, &f.log),
        SHOAL_NO_INPUT);
    ck_assert_msg(strstr(f.log.error, "s-00003-of-00003.gguf") != NULL, "%s", f.log.error);
    ck_assert_int_eq(rename(fixture_path(&f, "m.gguf"), third), 0);
    ck_assert_int_eq(
        shoal_checkpoint_open(&c, fixture_path(&f, "s-00001-of-00003.gguf"), true, &f.log),
        SHOAL_BAD_DATA);
    ck_assert_msg(strstr(f.log.error, "split.no is -1, wanted 2") != NULL, "%s", f.log.error);
    ck_assert_ptr_null(c);
    fixture_close(&f);
}
END_TEST

/* -- tokenizers -- */

static void write_json(const fixture *f, const char *name, const shoal_json *doc)
{
    char *text = shoal_json_dump(doc);
    fixture_write_text(f, name, text);
    free(text);
}

/* The cases of a real tokenizer, through GGUF's metadata and back. */
static void check_tokenizer(const char *folder, const char *pre)
{
    fixture f;
    fixture_open(&f);
    char options[256];
    snprintf(options, sizeof options, "tokenizer=%s,%s", folder, pre);
    convert(&f, "tests/golden/qwen3_moe", "m.gguf", options);
    shoal_checkpoint *c = open_at(fixture_path(&f, "m.gguf"), &f);
    shoal_json *doc = NULL, *config = NULL;
    ck_assert_msg(shoal_checkpoint_tokenizer(c, &doc, &config) == SHOAL_OK, "%s", f.log.error);
    write_json(&f, "tokenizer.json", doc);
    write_json(&f, "tokenizer_config.json", config);
    shoal_json_close(doc);
    shoal_json_close(config);
    shoal_checkpoint_close(c);

    shoal_tokenizer *tokenizer = NULL;
    ck_assert_msg(shoal_tokenizer_open(&tokenizer, f.path, &f.log) == SHOAL_OK, "%s", f.log.error);
    char path[256];
    snprintf(path, sizeof path, "%s/cases.jsonl", folder);
    FILE *cases = fopen(fixture_source_path(path), "r");
    ck_assert_ptr_nonnull(cases);
    char *line = NULL;
    size_t n_line = 0;
    ssize_t n_read = 0;
    int n_case = 0;
    while ((n_read = getline(&line, &n_line, cases)) > 0) {
        shoal_json *item = NULL;
        ck_assert_int_eq(shoal_json_parse(&item, line, (size_t)n_read, path, &f.log), SHOAL_OK);
        size_t n_text = 0, n = 0;
        const char *text = shoal_json_string(shoal_json_get(item, "text"), &n_text);
        const shoal_json *wanted = shoal_json_get(item, "ids");
        ck_assert(text != NULL && wanted != NULL);
        int32_t *ids = NULL;
        ck_assert_msg(shoal_tokenizer_encode(tokenizer, &ids, &n, text, n_text, false, &f.log) ==
                          SHOAL_OK,
                      "%s", f.log.error);
        ck_assert_msg(n == shoal_json_size(wanted), "%s: %zu ids, wanted %zu", text, n,
                      shoal_json_size(wanted));
        for (size_t i = 0; i < n; i++)
            ck_assert_msg(ids[i] == shoal_json_int(shoal_json_at(wanted, i), -1), "%s: id %zu",
                          text, i);
        free(ids);
        shoal_json_close(item);
        n_case++;
    }
    ck_assert_int_gt(n_case, 50);
    free(line);
    fclose(cases);
    shoal_tokenizer_close(tokenizer);
    fixture_close(&f);
}

START_TEST(test_tokenizer_qwen)
{
    check_tokenizer("tests/tokenizers/qwen3", "qwen2");
}
END_TEST

START_TEST(test_tokenizer_deepseek)
{
    check_tokenizer("tests/tokenizers/deepseek_v3", "deepseek-v3");
}
END_TEST

START_TEST(test_tokenizer_gpt_oss)
{
    check_tokenizer("tests/tokenizers/gptoss", "gpt-4o");
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_own_bytes);
    SHOAL_TEST(suite, test_split);
    TCase *families = tcase_create("families");
    tcase_set_timeout(families, 0);
    tcase_add_loop_test(families, test_families, 0, N_GOLDEN);
    suite_add_tcase(suite, families);
    TCase *tokenizers = tcase_create("tokenizers");
    tcase_set_timeout(tokenizers, 0);
    tcase_add_test(tokenizers, test_tokenizer_qwen);
    tcase_add_test(tokenizers, test_tokenizer_deepseek);
    tcase_add_test(tokenizers, test_tokenizer_gpt_oss);
    suite_add_tcase(suite, tokenizers);
}

SHOAL_TEST_MAIN("checkpoint.gguf", add_tests)
