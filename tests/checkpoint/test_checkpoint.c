/* Opening and reading good checkpoints: the goldens, shards, identity, what is read and when. */
#include "runtime/checkpoint/checkpoint.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#define HEADER                                                                                     \
    "{\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"                            \
    "\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[16,24]}}"

static shoal_checkpoint *open_good(const char *path, shoal_log *log)
{
    shoal_checkpoint *c = NULL;
    shoal_status status = shoal_checkpoint_open(&c, path, true, log);
    ck_assert_msg(status == SHOAL_OK, "%s: %s", path, log->error);
    return c;
}

static shoal_log quiet_log(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    return log;
}

START_TEST(test_goldens)
{
    static const struct {
        const char *folder;
        int64_t n_tensor;
        bool generation_config;
    } golden[] = {
        {"tests/golden/deepseek_v3", 139, false},       {"tests/golden/deepseek_v3-fp8", 93, false},
        {"tests/golden/deepseek_v3-mtp", 145, false},   {"tests/golden/qwen3_moe", 113, false},
        {"tests/golden/qwen3_moe-sharded", 113, false}, {"models/demo", 737, true},
    };
    enum { N = sizeof golden / sizeof golden[0] };
    uint64_t identity[N];
    for (int i = 0; i < N; i++) {
        shoal_log log = quiet_log();
        shoal_checkpoint *c = open_good(fixture_source_path(golden[i].folder), &log);
        ck_assert_str_eq(shoal_checkpoint_path(c), fixture_source_path(golden[i].folder));
        ck_assert_int_eq(shoal_checkpoint_n_tensor(c), golden[i].n_tensor);
        ck_assert(shoal_json_is_object(shoal_checkpoint_config(c)));
        ck_assert_ptr_nonnull(shoal_json_get(shoal_checkpoint_config(c), "model_type"));
        ck_assert((shoal_checkpoint_generation_config(c) != NULL) == golden[i].generation_config);
        for (int64_t k = 0; k < golden[i].n_tensor; k++) {
            const shoal_tensor_info *t = shoal_checkpoint_tensor(c, k);
            ck_assert_ptr_eq(shoal_checkpoint_find(c, t->name), t);
            if (k > 0)
                ck_assert_int_lt(strcmp(shoal_checkpoint_tensor(c, k - 1)->name, t->name), 0);
        }
        ck_assert_ptr_null(shoal_checkpoint_find(c, "model.layers.0.no_such.weight"));
        ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 0);
        identity[i] = shoal_checkpoint_identity(c);
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(identity[k], identity[i]);
        shoal_checkpoint_close(c);
    }
}
END_TEST

/* The sharded golden holds the same weights as the single file: every byte, through both paths. */
START_TEST(test_shards_equal_single)
{
    shoal_log log = quiet_log();
    shoal_checkpoint *single = open_good(fixture_source_path("tests/golden/qwen3_moe"), &log);
    shoal_checkpoint *shards =
        open_good(fixture_source_path("tests/golden/qwen3_moe-sharded"), &log);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(single), shoal_checkpoint_n_tensor(shards));
    static char x[1 << 20];
    static char y[1 << 20];
    uint64_t n_bytes = 0;
    bool file_seen[3] = {false};
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(single); i++) {
        const shoal_tensor_info *s = shoal_checkpoint_tensor(single, i);
        const shoal_tensor_info *t = shoal_checkpoint_tensor(shards, i);
        ck_assert_str_eq(s->name, t->name);
        ck_assert_uint_eq(s->n_bytes, t->n_bytes);
        ck_assert_int_eq(s->dtype, t->dtype);
        ck_assert_str_eq(shoal_checkpoint_file_name(single, s), "model.safetensors");
        char file_name[64];
        snprintf(file_name, sizeof file_name, "model-0000%d-of-00003.safetensors", t->file + 1);
        ck_assert_str_eq(shoal_checkpoint_file_name(shards, t), file_name);
        file_seen[t->file] = true;
        ck_assert_uint_le(s->n_bytes, sizeof x);
        ck_assert_int_eq(shoal_checkpoint_read(single, s, 0, (size_t)s->n_bytes, x), SHOAL_OK);
        ck_assert_int_eq(shoal_checkpoint_read(shards, t, 0, (size_t)s->n_bytes, y), SHOAL_OK);
        ck_assert_mem_eq(x, y, (size_t)s->n_bytes);
        n_bytes += s->n_bytes;
    }
    ck_assert(file_seen[0] && file_seen[1] && file_seen[2]);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(single), n_bytes);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(shards), n_bytes);
    ck_assert_uint_ne(shoal_checkpoint_identity(single), shoal_checkpoint_identity(shards));
    shoal_checkpoint_close(single);
    shoal_checkpoint_close(shards);
}
END_TEST

START_TEST(test_without_weights)
{
    fixture f;
    fixture_open(&f);
    fixture_write_text(&f, "tokenizer.json", "{}");
    fixture_write_text(&f, "expected.safetensors", "not ours to read");
    shoal_checkpoint *c = NULL;
    ck_assert_int_eq(shoal_checkpoint_open(&c, f.path, false, &f.log), SHOAL_OK);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 0);
    ck_assert_ptr_null(shoal_checkpoint_find(c, "a"));
    ck_assert_ptr_null(shoal_checkpoint_config(c));
    ck_assert_ptr_null(shoal_checkpoint_generation_config(c));
    shoal_checkpoint_close(c);

    fixture_write_text(&f, "config.json", "{\"model_type\":\"x\"}");
    c = open_good(f.path, &f.log);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 0);
    shoal_checkpoint_close(c);
    shoal_checkpoint_close(NULL);
    fixture_close(&f);
}
END_TEST

static uint64_t identity_of(fixture *f)
{
    shoal_checkpoint *c = open_good(f->path, &f->log);
    uint64_t identity = shoal_checkpoint_identity(c);
    shoal_checkpoint_close(c);
    return identity;
}

static void write_small(const fixture *f, const char *header, size_t n_data)
{
    fixture_write_text(f, "config.json", "{\"a\":1}");
    fixture_write_safetensors(f, "model.safetensors", header, NULL, n_data);
}

/* Of content that is cheap to read, not of places or times. */
START_TEST(test_identity)
{
    fixture f;
    fixture g;
    fixture_open(&f);
    fixture_open(&g);
    write_small(&f, HEADER, 24);
    write_small(&g, HEADER, 24);
    fixture_write_text(&g, "generation_config.json", "{}");
    uint64_t identity = identity_of(&f);
    ck_assert_uint_eq(identity_of(&f), identity);
    ck_assert_uint_eq(identity_of(&g), identity);

    write_small(&g, HEADER " ", 24);
    ck_assert_uint_ne(identity_of(&g), identity);
    write_small(&g, HEADER, 25);
    ck_assert_uint_ne(identity_of(&g), identity);
    write_small(&g, HEADER, 24);
    ck_assert_uint_eq(identity_of(&g), identity);
    fixture_write_text(&g, "config.json", "{\"a\":2}");
    ck_assert_uint_ne(identity_of(&g), identity);
    fixture_close(&f);
    fixture_close(&g);
}
END_TEST

START_TEST(test_read)
{
    fixture f;
    fixture_open(&f);
    write_small(&f, HEADER, 24);
    char path[256];
    snprintf(path, sizeof path, "%s/", f.path); /* people type the slash */
    shoal_checkpoint *c = open_good(path, &f.log);
    const shoal_tensor_info *a = shoal_checkpoint_find(c, "a");
    const shoal_tensor_info *b = shoal_checkpoint_find(c, "b");
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
    unsigned char data[16] = {0};
    ck_assert_int_eq(shoal_checkpoint_read(c, a, 2, 3, data), SHOAL_OK);
    ck_assert_mem_eq(data, "\x12\x13\x14\x00", 4);
    ck_assert_int_eq(shoal_checkpoint_read(c, b, 0, 16, data), SHOAL_OK);
    ck_assert_mem_eq(data, "\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17", 16);
    ck_assert_int_eq(shoal_checkpoint_read(c, a, 8, 0, data), SHOAL_OK);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 19);

    /* beyond the tensor, also where the sum wraps */
    ck_assert_int_eq(shoal_checkpoint_read(c, a, 8, 1, data), SHOAL_FAILED);
    ck_assert_int_eq(shoal_checkpoint_read(c, a, UINT64_MAX, 2, data), SHOAL_FAILED);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 19);

    /* the file is cut while it is open: what is left can be read, the rest is an error */
    ck_assert_int_eq(
        truncate(fixture_path(&f, "model.safetensors"), (off_t)(8 + strlen(HEADER) + 18)), 0);
    ck_assert_int_eq(shoal_checkpoint_read(c, b, 0, 16, data), SHOAL_OK);
    ck_assert_int_eq(shoal_checkpoint_read(c, a, 0, 8, data), SHOAL_BAD_DATA);
    ck_assert_msg(strstr(f.log.error, "model.safetensors: the file shrank") != NULL, "%s",
                  f.log.error);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), 35);

    /* removed while it is open: the bytes are still there */
    ck_assert_int_eq(unlink(fixture_path(&f, "model.safetensors")), 0);
    ck_assert_int_eq(shoal_checkpoint_read(c, b, 0, 16, data), SHOAL_OK);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

static int n_open_files(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL)
        n++;
    closedir(folder);
    return n;
}

/* 163 shards as DeepSeek-V3 has; nothing stays open, after success and after failure. */
START_TEST(test_many_shards)
{
    enum { N_SHARD = 163 };
    fixture f;
    fixture_open(&f);
    static char index[N_SHARD * 64];
    size_t at = (size_t)snprintf(index, sizeof index, "{\"weight_map\":{");
    for (int i = N_SHARD - 1; i >= 0; i--) {
        char name[64];
        char header[128];
        snprintf(name, sizeof name, "model-%05d.safetensors", i);
        snprintf(header, sizeof header,
                 "{\"t%d\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", i, i, i);
        fixture_write_safetensors(&f, name, header, NULL, (size_t)i);
        at += (size_t)snprintf(index + at, sizeof index - at, "\"t%d\":\"%s\"%s", i, name,
                               i > 0 ? "," : "}}");
    }
    fixture_write_text(&f, "model.safetensors.index.json", index);
    int n_before = n_open_files();
    shoal_checkpoint *c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, f.path, false, &f.log) == SHOAL_OK, "%s", f.log.error);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), N_SHARD);
    for (int i = 0; i < N_SHARD; i++) {
        char name[16];
        unsigned char data[N_SHARD];
        snprintf(name, sizeof name, "t%d", i);
        const shoal_tensor_info *t = shoal_checkpoint_find(c, name);
        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->file, i);
        ck_assert_int_eq(shoal_checkpoint_read(c, t, 0, (size_t)i, data), SHOAL_OK);
        ck_assert(i == 0 || data[i - 1] == (unsigned char)(i - 1));
    }
    shoal_checkpoint_close(c);
    ck_assert_int_eq(n_open_files(), n_before);

    ck_assert_int_eq(unlink(fixture_path(&f, "model-00150.safetensors")), 0);
    ck_assert_int_eq(shoal_checkpoint_open(&c, f.path, false, &f.log), SHOAL_NO_INPUT);
    ck_assert_msg(strstr(f.log.error, "model-00150") != NULL, "%s", f.log.error);
    ck_assert_int_eq(n_open_files(), n_before);
    fixture_close(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_goldens);
    SHOAL_TEST(suite, test_shards_equal_single);
    SHOAL_TEST(suite, test_without_weights);
    SHOAL_TEST(suite, test_identity);
    SHOAL_TEST(suite, test_read);
    SHOAL_TEST(suite, test_many_shards);
}

SHOAL_TEST_MAIN("checkpoint.checkpoint", add_tests)
