/* Checkpoints that must be refused: status, and a text that names what is wrong and where. */
#include "runtime/checkpoint/checkpoint.h"
#include "tests/checkpoint/fixture.h"
#include "tests/support/check_main.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Two good tensors, 20 bytes of data; B alone has 4. */
#define A     "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"
#define B     "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[16,20]}"
#define B0    "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}"
#define GOOD  "{" A "," B "}"
#define SHARD "{\"weight_map\":{\"a.weight\":\"a.safetensors\",\"b.weight\":\"b.safetensors\"}}"

#define X(dtype, shape, offsets)                                                                   \
    "{" A ",\"x.weight\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets   \
    "}}"

#define TEN  "0123456789"
#define LONG TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define DEEP "[[[[[[[[[["

#define NONE ((const char *)"-") /* no such file */

typedef struct malformed {
    const char *label;
    const char *header;   /* of model.safetensors, with an index of a.safetensors; NULL: GOOD */
    const char *b_header; /* of b.safetensors, 4 bytes of data; NULL: no such file */
    const char *index;    /* NULL: no such file */
    const char *config;   /* NULL: "{}" */
    const char *generation_config; /* NULL: no such file */
    uint64_t length;               /* header length written, 0: the true one */
    size_t cut;                    /* the file has only so many bytes, 0: 20 data bytes */
    shoal_status status;
    const char *text[3]; /* all must be in the error text */
} malformed;

#define BAD .status = SHOAL_BAD_DATA, .text
#define OUT .status = SHOAL_NO_INPUT, .text
#define M   "model.safetensors"
#define I   "model.safetensors.index.json"

static const malformed cases[] = {
    /* the file */
    {"shorter than the length", .cut = 5, BAD = {M, "5 bytes", "too short"}},
    {"7 bytes", .cut = 7, BAD = {M, "7 bytes", "too short"}},
    {"length only", .cut = 8, BAD = {M, "beyond the file of 8 bytes"}},
    {"cut inside the header", .cut = 40, BAD = {M, "beyond the file of 40 bytes", "download"}},
    {"length one too long", .length = 148, BAD = {M, "header length 148", "file of 155 bytes"}},
    {"length one byte into the data", .length = 128, BAD = {M, "JSON"}},
    {"length one too short", .length = 126, BAD = {M, "JSON"}},
    {"length zero-ish", .length = 1, BAD = {M, "absurd header length 1,"}},
    {"length over 100 MB", .length = 100000001, BAD = {M, "absurd header length 100000001"}},
    {"length 2^63", .length = 1ull << 63, BAD = {M, "absurd header length 9223372036854775808"}},
    {"length 2^64 - 1", .length = UINT64_MAX, BAD = {M, "absurd header length", "100000000"}},
    {"length 2^32 + 100", .length = (1ull << 32) + 100, BAD = {M, "absurd header length 42949"}},
    {"Git LFS pointer", .length = 0x206e6f6973726576, BAD = {M, "LFS", "git lfs pull"}},
    {"data cut by a byte", .cut = 154, BAD = {M, "b.weight", "beyond the 19 data bytes"}},
    {"data all gone", .cut = 135, BAD = {M, "weight", "beyond the 0 data bytes"}},
    /* the header */
    {"header is an array", "[1, 2]", BAD = {M, "does not begin with '{'"}},
    {"header is text", "hello, world", BAD = {M, "does not begin with '{'"}},
    {"header is not closed", "{" A, BAD = {M, "JSON"}},
    {"header has a tail", "{" A "} x", BAD = {M, "JSON"}},
    {"header is not UTF-8", "{\"\xff\":1}", BAD = {M, "JSON"}},
    {"header is never closed", "{\"a\":" DEEP DEEP DEEP DEEP DEEP DEEP DEEP DEEP DEEP DEEP,
     BAD = {M, "JSON"}},
    {"duplicate name", "{" A "," A "}", BAD = {M, "uplicate", "a.weight"}},
    {"empty name", "{\"\":{}}", BAD = {M, "name of tensor 0", "0 bytes"}},
    {"name of 260 bytes", "{\"" LONG LONG "\":{}}", BAD = {M, "name of tensor 0", "260 bytes"}},
    {"name with a newline", "{\"a\\nb\":{}}", BAD = {M, "name of tensor 0", "control"}},
    {"metadata is an array", "{\"__metadata__\":[]," A "}", BAD = {M, "__metadata__"}},
    {"metadata holds a number", "{\"__metadata__\":{\"n\":1}," A "}", BAD = {M, "__metadata__"}},
    {"entry is null", "{\"x.weight\":null}", BAD = {M, "x.weight", "object"}},
    {"entry is a number", "{\"x.weight\":3}", BAD = {M, "x.weight", "object"}},
    {"entry is empty", "{\"x.weight\":{}}", BAD = {M, "x.weight", "dtype"}},
    /* dtype */
    {"dtype is a number", "{\"x.weight\":{\"dtype\":32,\"shape\":[],\"data_offsets\":[0,4]}}",
     BAD = {M, "x.weight", "dtype"}},
    {"dtype with a line feed", X("F8_E5M2\\n", "[4]", "[16,20]"),
     BAD = {M, "x.weight has a dtype of 8 bytes or with control characters"}},
    {"dtype empty", X("", "[2]", "[16,20]"), BAD = {M, "x.weight", "dtype of 0 bytes"}},
    {"dtype with a zero byte", X("F32\\u0000", "[1]", "[16,20]"), BAD = {M, "x.weight", "dtype"}},
    {"dtype of another size", X("F64", "[1]", "[16,20]"),
     BAD = {M, "x.weight", "hold 4 bytes, wanted 8 for F64 [1]"}},
    /* shape */
    {"shape missing", "{\"x.weight\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}",
     BAD = {M, "x.weight", "shape"}},
    {"shape is a number", X("F32", "1", "[16,20]"), BAD = {M, "x.weight", "shape"}},
    {"shape holds a string", X("F32", "[\"1\"]", "[16,20]"), BAD = {M, "x.weight", "dimension 0"}},
    {"shape holds a fraction", X("F32", "[1, 1.0]", "[16,20]"),
     BAD = {M, "x.weight", "dimension 1"}},
    {"shape is negative", X("F32", "[-1,-1]", "[16,20]"), BAD = {M, "x.weight", "dimension 0"}},
    {"shape beyond 64 bits", X("F32", "[99999999999999999999]", "[16,20]"), BAD = {M, "JSON"}},
    {"shape product wraps to 4", X("F32", "[4294967296,4294967296,4294967297]", "[16,20]"),
     BAD = {M, "x.weight", "[4294967296, 4294967296, 4294967297] overflows"}},
    {"shape product times 8 wraps to 0", X("I64", "[2305843009213693952]", "[16,16]"),
     BAD = {M, "x.weight", "overflows 64 bits"}},
    {"9 dimensions", X("F32", "[1,1,1,1,1,1,1,1,1]", "[16,20]"),
     BAD = {M, "x.weight", "9 dimensions, wanted at most 8"}},
    {"shape too small", X("U8", "[3]", "[16,20]"), BAD = {M, "x.weight", "hold 4 bytes, wanted 3"}},
    {"shape empty", X("U8", "[4,0]", "[16,20]"), BAD = {M, "x.weight", "wanted 0 for U8 [4, 0]"}},
    /* data_offsets */
    {"offsets missing", "{\"x.weight\":{\"dtype\":\"F32\",\"shape\":[1]}}",
     BAD = {M, "x.weight", "data_offsets"}},
    {"one offset", X("U8", "[4]", "[16]"), BAD = {M, "x.weight", "[begin, end]"}},
    {"three offsets", X("U8", "[4]", "[16,20,20]"), BAD = {M, "x.weight", "[begin, end]"}},
    {"offsets are an object", X("U8", "[4]", "{\"begin\":16,\"end\":20}"),
     BAD = {M, "x.weight", "[begin, end]"}},
    {"offset negative", X("U8", "[4]", "[-4,0]"), BAD = {M, "x.weight", "[begin, end]"}},
    {"offset a fraction", X("U8", "[4]", "[16.0,20]"), BAD = {M, "x.weight", "[begin, end]"}},
    {"offsets swapped", X("U8", "[4]", "[20,16]"), BAD = {M, "x.weight", "end before they begin"}},
    {"offset beyond the file", X("U8", "[4]", "[17,21]"),
     BAD = {M, "x.weight", "[17, 21] go beyond the 20 data bytes"}},
    {"offset far beyond", X("U8", "[4]", "[9223372036854775803,9223372036854775807]"),
     BAD = {M, "x.weight", "beyond"}},
    {"empty tensor beyond the file", X("U8", "[0]", "[21,21]"), BAD = {M, "x.weight", "beyond"}},
    {"overlap by a byte", X("U8", "[4]", "[15,19]"),
     BAD = {M, "a.weight and x.weight overlap", "byte"}},
    {"overlap, the same bytes", X("F32", "[4]", "[0,16]"), BAD = {M, "x.weight", "overlap"}},
    {"overlap, inside", X("U8", "[2]", "[4,6]"), BAD = {M, "a.weight and x.weight overlap"}},
    {"overlap behind an empty tensor",
     "{" A ",\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]},"
     "\"x.weight\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]}}",
     BAD = {M, "a.weight and x.weight overlap"}},
    /* the index and its shards */
    {"index is not JSON", .index = "{", BAD = {I, "JSON"}},
    {"index is an array", .index = "[]", BAD = {I, "weight_map"}},
    {"index without weight_map", .index = "{\"metadata\":{}}", BAD = {I, "weight_map"}},
    {"weight_map is empty", .index = "{\"weight_map\":{}}", BAD = {I, "weight_map"}},
    {"weight_map is an array", .index = "{\"weight_map\":[\"a\"]}", BAD = {I, "weight_map"}},
    {"file is a number", .index = "{\"weight_map\":{\"a.weight\":1}}", BAD = {I, "a.weight"}},
    {"file above the folder", .index = "{\"weight_map\":{\"a.weight\":\"../a.safetensors\"}}",
     BAD = {I, "a.weight", "\"../a.safetensors\", wanted the name of a file inside"}},
    {"file above, in the middle",
     .index = "{\"weight_map\":{\"a.weight\":\"x/../../a.safetensors\"}}",
     BAD = {I, "a.weight", "x/../../a"}},
    {"file absolute", .index = "{\"weight_map\":{\"a.weight\":\"/etc/passwd\"}}",
     BAD = {I, "a.weight", "/etc/passwd"}},
    {"file is the folder", .index = "{\"weight_map\":{\"a.weight\":\".\"}}", BAD = {I, "a.weight"}},
    {"file name empty", .index = "{\"weight_map\":{\"a.weight\":\"\"}}", BAD = {I, "a.weight"}},
    {"file name with a zero byte", .index = "{\"weight_map\":{\"a.weight\":\"a\\u0000b\"}}",
     BAD = {I, "a.weight"}},
    {"tensor name empty", .index = "{\"weight_map\":{\"\":\"a.safetensors\"}}",
     BAD = {I, "tensor 0"}},
    {"duplicate in weight_map",
     .index = "{\"weight_map\":{\"a.weight\":\"a.safetensors\",\"a.weight\":\"b.safetensors\"}}",
     BAD = {I, "uplicate", "a.weight"}},
    {"shard missing", "{" A "}", .index = SHARD, OUT = {"b.safetensors", "no such file"}},
    {"tensor in both shards", GOOD, "{" B0 "}", SHARD,
     BAD = {"duplicate tensor b.weight", "a.safetensors", "b.safetensors"}},
    {"tensor in the other shard", "{" A "}", "{" B0 "}",
     "{\"weight_map\":{\"a.weight\":\"b.safetensors\",\"b.weight\":\"a.safetensors\"}}",
     BAD = {I, "a.weight into b.safetensors", "lies in a.safetensors"}},
    {"tensor of the index in no shard", "{" A "}", "{" B0 "}",
     "{\"weight_map\":{\"a.weight\":\"a.safetensors\",\"b.weight\":\"b.safetensors\","
     "\"c.weight\":\"b.safetensors\"}}",
     BAD = {I, "c.weight into b.safetensors", "no shard has it"}},
    {"tensor unknown to the index", GOOD,
     .index = "{\"weight_map\":{\"a.weight\":\"a.safetensors\"}}",
     BAD = {I, "does not know tensor b.weight", "a.safetensors"}},
    {"second shard bad", "{" A "}", "{\"b.weight\":{}}", SHARD,
     BAD = {"b.safetensors", "b.weight", "dtype"}},
    /* the folder and its configs */
    {"no config.json", .config = NONE, OUT = {"config.json"}},
    {"config.json empty", .config = "", BAD = {"config.json", "JSON"}},
    {"config.json cut", .config = "{\"model_type\": \"deep", BAD = {"config.json", "JSON"}},
    {"config.json is an array", .config = "[]", BAD = {"config.json", "object"}},
    {"config.json has a key twice", .config = "{\"a\":1,\"a\":2}", BAD = {"config.json", "\"a\""}},
    {"generation_config.json bad", .generation_config = "{,}",
     BAD = {"generation_config.json", "JSON"}},
    {"generation_config.json is a string", .generation_config = "\"x\"",
     BAD = {"generation_config.json", "object"}},
};
enum { N_CASE = sizeof cases / sizeof cases[0] };

static void write_case(const fixture *f, const malformed *c)
{
    if (c->config != NONE)
        fixture_write_text(f, "config.json", c->config != NULL ? c->config : "{}");
    if (c->generation_config != NULL)
        fixture_write_text(f, "generation_config.json", c->generation_config);
    if (c->index != NULL)
        fixture_write_text(f, "model.safetensors.index.json", c->index);
    if (c->b_header != NULL)
        fixture_write_safetensors(f, "b.safetensors", c->b_header, NULL, 4);

    const char *name = c->index != NULL ? "a.safetensors" : "model.safetensors";
    const char *header = c->header != NULL ? c->header : GOOD;
    fixture_write_safetensors(f, name, header, NULL, 20);
    if (c->length != 0) {
        FILE *file = fopen(fixture_path(f, name), "r+b");
        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(&c->length, 1, 8, file), 8);
        fclose(file);
    }
    if (c->cut != 0)
        ck_assert_int_eq(truncate(fixture_path(f, name), (off_t)c->cut), 0);
}

START_TEST(test_refused)
{
    const malformed *c = &cases[_i];
    fixture f;
    fixture_open(&f);
    write_case(&f, c);
    shoal_checkpoint *checkpoint = NULL;
    shoal_status status = shoal_checkpoint_open(&checkpoint, f.path, true, &f.log);
    ck_assert_msg(status == c->status, "%s: status %d, wanted %d: %s", c->label, status, c->status,
                  f.log.error);
    ck_assert_msg(checkpoint == NULL, "%s: output set although it failed", c->label);
    for (int i = 0; i < 3 && c->text[i] != NULL; i++)
        ck_assert_msg(strstr(f.log.error, c->text[i]) != NULL, "%s: \"%s\" is not in: %s", c->label,
                      c->text[i], f.log.error);
    ck_assert_msg(strstr(f.log.error, f.path) != NULL, "%s: no path in: %s", c->label, f.log.error);
    fixture_close(&f);
}
END_TEST

/* What the cases are mutations of opens. */
START_TEST(test_unmutated)
{
    fixture f;
    fixture_open(&f);
    write_case(&f, &(malformed){.label = "good"});
    shoal_checkpoint *c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, f.path, true, &f.log) == SHOAL_OK, "%s", f.log.error);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 2);
    shoal_checkpoint_close(c);

    write_case(&f, &(malformed){.header = "{" A "}", .b_header = "{" B0 "}", .index = SHARD});
    c = NULL;
    ck_assert_msg(shoal_checkpoint_open(&c, f.path, true, &f.log) == SHOAL_OK, "%s", f.log.error);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 2);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

static void refuse(fixture *f, const char *path, shoal_status wanted, const char *text)
{
    shoal_checkpoint *c = NULL;
    shoal_status status = shoal_checkpoint_open(&c, path, true, &f->log);
    ck_assert_msg(status == wanted && c == NULL, "%s: status %d: %s", path, status, f->log.error);
    ck_assert_msg(strstr(f->log.error, text) != NULL, "\"%s\" is not in: %s", text, f->log.error);
}

START_TEST(test_folders)
{
    fixture f;
    fixture_open(&f);
    refuse(&f, fixture_path(&f, "absent"), SHOAL_NO_INPUT,
           "checkpoint folder that holds config.json");
    refuse(&f, "", SHOAL_NO_INPUT, "checkpoint folder that holds config.json");
    refuse(&f, f.path, SHOAL_NO_INPUT, "no config.json");
    fixture_write_text(&f, "config.json", "{}");
    refuse(&f, fixture_path(&f, "config.json"), SHOAL_BAD_DATA, "not a folder and no GGUF file");
    refuse(&f, fixture_path(&f, "config.json/x"), SHOAL_NO_INPUT, "config.json/x");

    /* an index goes before a single file, also before a good one */
    fixture_write_safetensors(&f, "model.safetensors", GOOD, NULL, 20);
    fixture_write_text(&f, "model.safetensors.index.json",
                       "{\"weight_map\":{\"a.weight\":\"gone.safetensors\"}}");
    refuse(&f, f.path, SHOAL_NO_INPUT, "gone.safetensors");
    unlink(fixture_path(&f, "model.safetensors.index.json"));
    unlink(fixture_path(&f, "model.safetensors"));

    /* shards without their index */
    fixture_write_safetensors(&f, "model-00001-of-00002.safetensors", GOOD, NULL, 20);
    refuse(&f, f.path, SHOAL_NO_INPUT, "model-00001-of-00002.safetensors but no model.safetensors");
    unlink(fixture_path(&f, "model-00001-of-00002.safetensors"));

    /* a link to nothing is not "no weights"; a folder or a FIFO must not be read (or waited for) */
    ck_assert_int_eq(symlink("../blobs/gone", fixture_path(&f, "model.safetensors")), 0);
    refuse(&f, f.path, SHOAL_NO_INPUT, "model.safetensors");
    unlink(fixture_path(&f, "model.safetensors"));
    ck_assert_int_eq(mkdir(fixture_path(&f, "model.safetensors"), 0700), 0);
    refuse(&f, f.path, SHOAL_BAD_DATA, "model.safetensors");
    rmdir(fixture_path(&f, "model.safetensors"));
    ck_assert_int_eq(mkfifo(fixture_path(&f, "model.safetensors"), 0600), 0);
    refuse(&f, f.path, SHOAL_BAD_DATA, "model.safetensors");
    fixture_close(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_unmutated);
    SHOAL_TEST(suite, test_folders);
    TCase *table = tcase_create("refused");
    tcase_set_timeout(table, 0);
    tcase_add_loop_test(table, test_refused, 0, N_CASE);
    suite_add_tcase(suite, table);
}

SHOAL_TEST_MAIN("checkpoint.malformed", add_tests)
