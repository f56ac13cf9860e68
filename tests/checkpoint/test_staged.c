/* Staged checkpoints: what opens is the original but for its weights; what is not whole, not
 * ours, or damaged does not. */
#include "runtime/checkpoint/pack_cache.h"
#include "runtime/checkpoint/staged.h"
#include "tests/checkpoint/fixture.h"
#include "tests/checkpoint/gguf_maker.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER                                                                                     \
    "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"                   \
    "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[16,20]}}"

/* A checkpoint, and a folder to stage it to. */
typedef struct world {
    fixture from, to;
    shoal_checkpoint *original;
} world;

static void open_original(world *w, const char *name)
{
    const char *path = name != NULL ? fixture_path(&w->from, name) : w->from.path;
    ck_assert_msg(shoal_checkpoint_open(&w->original, path, true, &w->from.log) == SHOAL_OK, "%s",
                  w->from.log.error);
}

static void open_world(world *w)
{
    fixture_open(&w->from);
    fixture_open(&w->to);
    fixture_write_text(&w->from, "config.json", "{\"a\": 1}");
    fixture_write_text(&w->from, "tokenizer.json", "{}");
    fixture_write_safetensors(&w->from, "model.safetensors", HEADER, NULL, 20);
    open_original(w, NULL);
}

static void close_world(world *w)
{
    shoal_checkpoint_close(w->original);
    fixture_close(&w->from);
    fixture_close(&w->to);
}

static shoal_status write_to(world *w)
{
    shoal_staged_files files;
    ck_assert_int_eq(shoal_staged_describe(&files, w->original, &w->to.log), SHOAL_OK);
    const shoal_status status = shoal_staged_write(w->to.path, &files, &w->to.log);
    shoal_staged_files_close(&files);
    return status;
}

static void stage(world *w)
{
    ck_assert_msg(write_to(w) == SHOAL_OK, "%s", w->to.log.error);
    ck_assert_int_eq(shoal_staged_finish(w->to.path, &w->to.log), SHOAL_OK);
}

static void expect_same(world *w)
{
    shoal_checkpoint *c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, w->to.path, true, &w->to.log) == SHOAL_OK, "%s",
                  w->to.log.error);
    ck_assert(shoal_checkpoint_is_staged(c) && !shoal_checkpoint_is_staged(w->original));
    ck_assert_uint_eq(shoal_checkpoint_identity(c), shoal_checkpoint_identity(w->original));
    ck_assert_uint_eq(shoal_checkpoint_age(c), shoal_checkpoint_age(w->original));
    ck_assert_uint_eq(shoal_pack_identity(c, "q4"), shoal_pack_identity(w->original, "q4"));
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), shoal_checkpoint_n_tensor(w->original));
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(c); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(c, i);
        const shoal_tensor_info *o = shoal_checkpoint_tensor(w->original, i);
        ck_assert_str_eq(t->name, o->name);
        ck_assert(t->dtype == o->dtype && t->n_bytes == o->n_bytes && t->offset == o->offset);
    }
    unsigned char data[4];
    ck_assert_int_eq(shoal_checkpoint_read(c, shoal_checkpoint_tensor(c, 0), 0, 4, data),
                     SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(w->to.log.error, shoal_checkpoint_tensor(c, 0)->name));
    ck_assert_ptr_nonnull(strstr(w->to.log.error, "run shoal stage "));
    shoal_checkpoint_close(c);
}

START_TEST(test_opens_as_the_original)
{
    world w;
    open_world(&w);
    stage(&w);
    expect_same(&w);
    struct stat entry;
    ck_assert_int_eq(stat(fixture_path(&w.to, "model.safetensors"), &entry), -1);
    ck_assert_int_eq(stat(fixture_path(&w.to, "tokenizer.json"), &entry), 0);
    stage(&w); /* nothing is touched */
    expect_same(&w);
    ck_assert(shoal_staged_is_of(w.to.path, w.from.path));
    ck_assert(!shoal_staged_is_of(w.to.path, "/another"));
    ck_assert(!shoal_staged_is_of(w.from.path, w.from.path));
    char slash[256];
    snprintf(slash, sizeof slash, "%s//", w.from.path);
    ck_assert(shoal_staged_is_of(w.to.path, slash));
    close_world(&w);
}
END_TEST

START_TEST(test_gguf)
{
    static gguf_maker m;
    world w = {0};
    fixture_open(&w.from);
    fixture_open(&w.to);
    gguf_maker_init(&m);
    gguf_pairs_of_model(&m);
    static const uint64_t dims[2] = {4, 2};
    static const float data[8] = {0};
    gguf_tensor(&m, "token_embd.weight", 0, 2, dims, data, sizeof data);
    size_t n_bytes;
    unsigned char *bytes = gguf_file(&n_bytes, &m);
    fixture_write(&w.from, "m.gguf", bytes, n_bytes);
    free(bytes);
    open_original(&w, "m.gguf");
    stage(&w);
    expect_same(&w);
    close_world(&w);
}
END_TEST

static void expect_refused(const world *w, shoal_status status, const char *text)
{
    shoal_checkpoint *c = NULL;
    fixture log = w->to;
    ck_assert_int_eq(shoal_checkpoint_open(&c, w->to.path, true, &log.log), status);
    ck_assert_msg(strstr(log.log.error, text) != NULL, "%s", log.log.error);
}

START_TEST(test_not_finished)
{
    world w;
    open_world(&w);
    ck_assert_int_eq(write_to(&w), SHOAL_OK);
    expect_refused(&w, SHOAL_NO_INPUT, "has not finished");
    ck_assert(!shoal_staged_is_of(w.to.path, w.from.path));
    shoal_checkpoint *c = NULL;
    ck_assert_int_eq(shoal_staged_open(&c, w.to.path, &w.to.log), SHOAL_OK);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 2);
    shoal_checkpoint_close(c);
    ck_assert_int_eq(shoal_staged_finish(w.to.path, &w.to.log), SHOAL_OK);
    expect_same(&w);
    ck_assert_int_eq(shoal_staged_withdraw(w.to.path, &w.to.log), SHOAL_OK);
    expect_refused(&w, SHOAL_NO_INPUT, "has not finished");
    stage(&w);
    expect_same(&w);
    close_world(&w);
}
END_TEST

/* Another state of the same model replaces it; another model and a checkpoint do not. */
START_TEST(test_what_is_there)
{
    world w;
    open_world(&w);
    stage(&w);
    shoal_checkpoint_close(w.original);
    fixture_write_text(&w.from, "config.json", "{\"a\": 2}");
    open_original(&w, NULL);
    ck_assert_int_eq(write_to(&w), SHOAL_OK);
    expect_refused(&w, SHOAL_NO_INPUT, "has not finished"); /* nor is the old one any more */
    stage(&w);
    expect_same(&w);

    world other;
    open_world(&other);
    fixture_write_safetensors(&other.from, "model.safetensors",
                              "{\"c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                              NULL, 4);
    shoal_checkpoint_close(other.original);
    open_original(&other, NULL);
    shoal_staged_files files;
    ck_assert_int_eq(shoal_staged_describe(&files, other.original, &w.to.log), SHOAL_OK);
    ck_assert_int_eq(shoal_staged_write(w.to.path, &files, &w.to.log), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(w.to.log.error, "room for one model"));
    expect_same(&w);
    ck_assert_int_eq(shoal_staged_write(w.from.path, &files, &w.to.log), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(w.to.log.error, "that stage has not put there"));
    shoal_staged_files_close(&files);
    close_world(&other);
    close_world(&w);
}
END_TEST

START_TEST(test_changed_original)
{
    world w;
    open_world(&w);
    ck_assert_int_eq(shoal_checkpoint_check_unchanged(w.original), SHOAL_OK);
    const char *path = fixture_path(&w.from, "model.safetensors");
    ck_assert_int_eq(truncate(path, 50), 0);
    ck_assert_int_eq(shoal_checkpoint_check_unchanged(w.original), SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(w.from.log.error, "has changed since it was opened"));
    ck_assert_int_eq(unlink(fixture_path(&w.from, "model.safetensors")), 0);
    ck_assert_int_eq(shoal_checkpoint_check_unchanged(w.original), SHOAL_NO_INPUT);
    close_world(&w);
}
END_TEST

static char *read_text(const world *w, const char *name)
{
    static char text[4096];
    FILE *file = fopen(fixture_path(&w->to, name), "rb");
    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

START_TEST(test_damaged)
{
    static const struct {
        const char *from, *to; /* in staged.json; NULL: staged.headers is cut */
        const char *text;
    } cases[] = {
        {"\"staged\":1", "\"staged\":9", "is of format 9, wanted 1"},
        {"\"model\":", "\"x\":", "it has no model or kind"},
        {"\"safetensors\"", "\"zip\"", "kind is neither"},
        {"\"safetensors\"", "\"gguf\"", "does not begin with \"GGUF\""},
        {"\"weights\":[", "\"weights\":1,\"x\":[", "weights is no list"},
        {"\"bytes\":", "\"x\":", "an entry of weights"},
        {"\"modified_ns\":", "\"x\":", "an entry of weights"},
        {"\"header_bytes\":", "\"header_bytes\":9999999999, \"x\":", "an entry of weights"},
        {"\"header_bytes\":", "\"header_bytes\":7, \"x\":", "wanted 7 with"},
        {"\"headers_checksum\":\"", "\"headers_checksum\":\"x", "headers_checksum is no number"},
        {"\"headers_checksum\":\"", "\"headers_checksum\":\"0\",\"x\":\"", "run shoal stage again"},
        {"model.safetensors", "other.safetensors", NULL},
        {NULL, NULL, "has 20 bytes with checksum"},
    };
    world w;
    open_world(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stage(&w);
        if (cases[i].from == NULL) {
            ck_assert_int_eq(truncate(fixture_path(&w.to, "staged.headers"), 20), 0);
        } else {
            char changed[8192];
            const char *text = read_text(&w, "staged.json");
            const char *at = strstr(text, cases[i].from);
            ck_assert_msg(at != NULL, "%s in %s", cases[i].from, text);
            snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, cases[i].to,
                     at + strlen(cases[i].from));
            fixture_write_text(&w.to, "staged.json", changed);
        }
        if (cases[i].text != NULL) {
            expect_refused(&w, SHOAL_BAD_DATA, cases[i].text);
        } else { /* no file of weights that a checkpoint begins with: it has none */
            shoal_checkpoint *c = NULL;
            ck_assert_int_eq(shoal_checkpoint_open(&c, w.to.path, true, &w.to.log), SHOAL_OK);
            ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 0);
            shoal_checkpoint_close(c);
        }
    }
    close_world(&w);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_opens_as_the_original);
    SHOAL_TEST(suite, test_gguf);
    SHOAL_TEST(suite, test_not_finished);
    SHOAL_TEST(suite, test_what_is_there);
    SHOAL_TEST(suite, test_changed_original);
    SHOAL_TEST(suite, test_damaged);
}

SHOAL_TEST_MAIN("checkpoint.staged", add_tests)
