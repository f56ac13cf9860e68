#include "runtime/base/json.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static shoal_log quiet_log(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    return log;
}

static shoal_json *parse_bytes(const char *text, size_t n)
{
    shoal_json *doc = NULL;
    shoal_log log = quiet_log();
    shoal_status status = shoal_json_parse(&doc, text, n, "t.json", &log);
    ck_assert_msg(status == SHOAL_OK, "%s", log.error);
    return doc;
}

static shoal_json *parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

static void reject_bytes(const char *text, size_t n)
{
    shoal_log log = quiet_log();
    shoal_json *doc = NULL;
    ck_assert_msg(shoal_json_parse(&doc, text, n, "t.json", &log) == SHOAL_BAD_DATA, "%.60s", text);
    ck_assert_ptr_null(doc);
    ck_assert_ptr_nonnull(strstr(log.error, "t.json"));
    ck_assert_ptr_nonnull(strstr(log.error, "line"));
}

static void reject(const char *text)
{
    reject_bytes(text, strlen(text));
}

START_TEST(values_and_defaults)
{
    shoal_json *doc = parse("{\"i\": 7, \"f\": 1.5, \"s\": \"x\", \"t\": true, \"n\": null, "
                            "\"a\": [1, 2, 3], \"o\": {\"k\": -9007199254740993}}");
    ck_assert(shoal_json_is_object(doc));
    ck_assert_uint_eq(shoal_json_size(doc), 7);
    ck_assert_int_eq(shoal_json_int(shoal_json_get(doc, "i"), -1), 7);
    ck_assert_int_eq(shoal_json_int(shoal_json_get(doc, "f"), -1), -1);
    ck_assert(shoal_json_number(shoal_json_get(doc, "f"), 0) == 1.5);
    ck_assert(shoal_json_number(shoal_json_get(doc, "i"), 0) == 7.0);
    ck_assert(shoal_json_number(shoal_json_get(doc, "s"), 4) == 4.0);
    ck_assert_str_eq(shoal_json_string(shoal_json_get(doc, "s"), NULL), "x");
    ck_assert_ptr_null(shoal_json_string(shoal_json_get(doc, "i"), NULL));
    ck_assert(shoal_json_bool(shoal_json_get(doc, "t"), false));
    ck_assert(shoal_json_bool(shoal_json_get(doc, "i"), true));
    ck_assert(shoal_json_is_null(shoal_json_get(doc, "n")));
    ck_assert(!shoal_json_is_null(shoal_json_get(doc, "missing")));
    const shoal_json *array = shoal_json_get(doc, "a");
    ck_assert(shoal_json_is_array(array));
    ck_assert_uint_eq(shoal_json_size(array), 3);
    ck_assert_int_eq(shoal_json_int(shoal_json_at(array, 2), 0), 3);
    ck_assert_ptr_null(shoal_json_at(array, 3));
    ck_assert_ptr_null(shoal_json_get(array, "k"));
    ck_assert_ptr_null(shoal_json_at(doc, 0));
    const shoal_json *inner = shoal_json_get(shoal_json_get(doc, "o"), "k");
    ck_assert(shoal_json_is_integer(inner) && shoal_json_is_number(inner));
    ck_assert(shoal_json_int(inner, 0) == -9007199254740993);
    shoal_json_close(doc);
}
END_TEST

START_TEST(absent_values_answer_false)
{
    ck_assert(!shoal_json_is_object(NULL) && !shoal_json_is_array(NULL));
    ck_assert(!shoal_json_is_string(NULL) && !shoal_json_is_number(NULL));
    ck_assert(!shoal_json_is_integer(NULL) && !shoal_json_is_bool(NULL));
    ck_assert(!shoal_json_is_null(NULL));
    ck_assert_ptr_null(shoal_json_get(NULL, "x"));
    ck_assert_ptr_null(shoal_json_at(NULL, 0));
    ck_assert_uint_eq(shoal_json_size(NULL), 0);
    ck_assert_ptr_null(shoal_json_next(NULL, NULL, NULL, NULL, NULL));
    ck_assert_int_eq(shoal_json_int(NULL, 5), 5);
    ck_assert(shoal_json_bool(NULL, true));
    ck_assert_ptr_null(shoal_json_string(NULL, NULL));
    shoal_json_close(NULL);
}
END_TEST

START_TEST(objects_iterate_in_file_order)
{
    shoal_json *doc = parse("{\"z\":0,\"a\":1,\"m\":2,\"\xc4\xa0x\":3}");
    const char *wanted[] = {"z", "a", "m", "\xc4\xa0x"};
    int64_t n = 0;
    const char *key;
    size_t n_key_bytes;
    const shoal_json *value;
    for (void *it = NULL; (it = shoal_json_next(doc, it, &key, &n_key_bytes, &value)) != NULL;
         n++) {
        ck_assert_int_lt(n, 4);
        ck_assert_str_eq(key, wanted[n]);
        ck_assert_uint_eq(n_key_bytes, strlen(wanted[n]));
        ck_assert_int_eq(shoal_json_int(value, -1), n);
    }
    ck_assert_int_eq(n, 4);
    shoal_json_close(doc);
}
END_TEST

START_TEST(strings_may_hold_zero_bytes)
{
    shoal_json *doc = parse("[\"a\\u0000b\", \"\\u0000\", \"\\ud83d\\ude00\"]");
    size_t n;
    const char *text = shoal_json_string(shoal_json_at(doc, 0), &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(memcmp(text, "a\0b", 4), 0);
    shoal_json_string(shoal_json_at(doc, 1), &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(shoal_json_string(shoal_json_at(doc, 2), &n), "\xf0\x9f\x98\x80");
    char *dump = shoal_json_dump(doc);
    ck_assert_str_eq(dump, "[\"a\\u0000b\",\"\\u0000\",\"\xf0\x9f\x98\x80\"]");
    free(dump);
    shoal_json_close(doc);
}
END_TEST

START_TEST(bad_documents_are_rejected)
{
    static const char *const bad[] = {
        "",
        "   ",
        "{",
        "[1,2",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "nul",
        "[1] 2",
        "[01]",
        "[1.]",
        "[+1]",
        "[NaN]",
        "[Infinity]",
        "[0x10]",
        "[\"a",
        "[\"\t\"]",
        "[\"\\q\"]",
        "[\"\\u12\"]",
        "[\"\\ud800\"]",
        "[\"\\udc00\\ud800\"]",
        "{\"a\":1,\"a\":1}",
        "{\"a\":{\"b\":1,\"c\":2,\"b\":3}}",
        "[9223372036854775808]",
        "[-9223372036854775809]",
        "[100000000000000000000000000]",
        "[1e400]",
        "[\"\xff\"]",
        "[\"\xc3\"]",
        "[\"\xc0\x80\"]",
        "[\"\xed\xa0\x80\"]",
        "[\"\xf4\x90\x80\x80\"]",
        "{\"\x80\":1}",
        "\xef\xbb\xbf[]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        reject(bad[i]);
    reject_bytes("[1\0]", 4);
    reject_bytes("[\"\0\"]", 5);
}
END_TEST

START_TEST(big_integers_are_exact)
{
    shoal_json *doc = parse("[9223372036854775807, -9223372036854775808]");
    ck_assert(shoal_json_int(shoal_json_at(doc, 0), 0) == INT64_MAX);
    ck_assert(shoal_json_int(shoal_json_at(doc, 1), 0) == INT64_MIN);
    shoal_json_close(doc);
}
END_TEST

START_TEST(integers_beyond_64_bits_are_read_loosely)
{
    char path[] = "/tmp/shoal-json-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    const char *text = "[1000000000000000019884624838656, 9223372036854775808, "
                       "-9223372036854775809, 9223372036854775807, -9223372036854775808, "
                       "\"99999999999999999999 \\\" 99999999999999999999\", 12, 1.5e3]";
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    shoal_json *doc = NULL;
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_BAD_DATA);
    ck_assert_msg(shoal_json_read_file_loosely(&doc, path, &log) == SHOAL_OK, "%s", log.error);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(shoal_json_is_number(shoal_json_at(doc, i)));
        ck_assert(!shoal_json_is_integer(shoal_json_at(doc, i)));
        ck_assert(shoal_json_int(shoal_json_at(doc, i), -5) == -5);
    }
    ck_assert(shoal_json_int(shoal_json_at(doc, 3), 0) == INT64_MAX);
    ck_assert(shoal_json_int(shoal_json_at(doc, 4), 0) == INT64_MIN);
    ck_assert_str_eq(shoal_json_string(shoal_json_at(doc, 5), NULL),
                     "99999999999999999999 \" 99999999999999999999");
    ck_assert(shoal_json_int(shoal_json_at(doc, 6), 0) == 12);
    shoal_json_close(doc);
    ck_assert_int_eq(truncate(path, 40), 0);
    ck_assert_int_eq(shoal_json_read_file_loosely(&doc, path, &log), SHOAL_BAD_DATA);
    unlink(path);
}
END_TEST

START_TEST(deep_nesting_is_rejected)
{
    enum { DEPTH = 1000000 };
    char *text = malloc(DEPTH);
    memset(text, '[', DEPTH);
    reject_bytes(text, DEPTH);
    for (size_t i = 0; i + 5 <= DEPTH; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    reject_bytes(text, DEPTH);
    memset(text, '[', 500);
    memset(text + 500, ']', 500);
    shoal_json_close(parse_bytes(text, 1000));
    free(text);
}
END_TEST

START_TEST(documents_are_built_and_dumped)
{
    shoal_json *doc = shoal_json_new_object();
    shoal_json_set(doc, "z", shoal_json_new_int(INT64_MIN));
    shoal_json_set(doc, "a", shoal_json_new_number(0.1));
    shoal_json_set(doc, "nan", shoal_json_new_number(NAN));
    shoal_json_set(doc, "inf", shoal_json_new_number(-INFINITY));
    shoal_json_set(doc, "b", shoal_json_new_bool(true));
    shoal_json_set(doc, "s", shoal_json_new_string("line\nbreak \"q\" \xc3\xa9", 17));
    int32_t ids[] = {3, -1, 2147483647};
    shoal_json_set(doc, "ids", shoal_json_new_ints(ids, 3));
    shoal_json *array = shoal_json_new_array();
    shoal_json_append(array, shoal_json_copy(doc));
    char *dump = shoal_json_dump(array);
    ck_assert_str_eq(dump, "[{\"z\":-9223372036854775808,\"a\":0.1,\"nan\":null,\"inf\":null,"
                           "\"b\":true,\"s\":\"line\\nbreak \\\"q\\\" \xc3\xa9\","
                           "\"ids\":[3,-1,2147483647]}]");
    free(dump);
    shoal_json_close(array);
    ck_assert_int_eq(shoal_json_int(shoal_json_get(doc, "z"), 0) == INT64_MIN, 1);
    shoal_json_close(doc);
    shoal_json *text = shoal_json_new_string("x", 1);
    dump = shoal_json_dump(text);
    ck_assert_str_eq(dump, "\"x\"");
    free(dump);
    shoal_json_close(text);
}
END_TEST

static void replaced(const char *text, size_t n, const char *wanted)
{
    shoal_json *value = shoal_json_new_string(text, n);
    ck_assert_str_eq(shoal_json_string(value, NULL), wanted);
    shoal_json_close(value);
}

#define BAD "\xef\xbf\xbd"

START_TEST(invalid_utf8_is_replaced)
{
    replaced("", 0, "");
    replaced("a\xff"
             "b",
             3, "a" BAD "b");
    replaced("\xc3", 1, BAD);
    replaced("\xe2\x82", 2, BAD BAD);
    replaced("\xe2\x82\xac", 3, "\xe2\x82\xac");
    replaced("\xe2\x82\xac", 2, BAD BAD);
    replaced("\xc0\x80", 2, BAD BAD);
    replaced("\xe0\x80\x80", 3, BAD BAD BAD);
    replaced("\xed\xa0\x80", 3, BAD BAD BAD);
    replaced("\xf4\x90\x80\x80", 4, BAD BAD BAD BAD);
    replaced("\xf4\x8f\xbf\xbf", 4, "\xf4\x8f\xbf\xbf");
    replaced("\xf0\x9f\x98\x80!", 5, "\xf0\x9f\x98\x80!");
    replaced("\x80\xe9z", 3, BAD BAD "z");
}
END_TEST

START_TEST(f32_values_survive)
{
    float wanted[] = {0.1f, 1.0f / 3.0f, 3.4028235e38f, 1.17549435e-38f, 16777217.0f};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        shoal_json *value = shoal_json_new_number((double)wanted[i]);
        char *dump = shoal_json_dump(value);
        shoal_json *back = parse(dump);
        ck_assert((float)shoal_json_number(back, 0) == wanted[i]);
        free(dump);
        shoal_json_close(back);
        shoal_json_close(value);
    }
}
END_TEST

START_TEST(files)
{
    char folder[] = "/tmp/shoal-json-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    char path[64];
    snprintf(path, sizeof path, "%s/x.json", folder);
    shoal_log log = quiet_log();
    shoal_json *doc = NULL;
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(log.error, path));
    ck_assert_int_eq(shoal_json_read_file(&doc, folder, &log), SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(log.error, "directory"));
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_NO_INPUT);
    unlink(path);
    FILE *file = fopen(path, "w");
    fputs("{\"a\":\n  [1, 2}\n", file);
    fclose(file);
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log.error, "line 2"));
    ck_assert_ptr_null(doc);
    file = fopen(path, "w");
    fputs("{\"a\": [1, 2]}\n", file);
    fclose(file);
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_OK);
    ck_assert_uint_eq(shoal_json_size(shoal_json_get(doc, "a")), 2);
    shoal_json_close(doc);
    ck_assert_int_eq(truncate(path, (off_t)1 << 40), 0); /* sparse */
    ck_assert_int_eq(shoal_json_read_file(&doc, path, &log), SHOAL_BAD_DATA);
    unlink(path);
    rmdir(folder);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, values_and_defaults);
    SHOAL_TEST(suite, absent_values_answer_false);
    SHOAL_TEST(suite, objects_iterate_in_file_order);
    SHOAL_TEST(suite, strings_may_hold_zero_bytes);
    SHOAL_TEST(suite, bad_documents_are_rejected);
    SHOAL_TEST(suite, big_integers_are_exact);
    SHOAL_TEST(suite, integers_beyond_64_bits_are_read_loosely);
    SHOAL_TEST(suite, deep_nesting_is_rejected);
    SHOAL_TEST(suite, documents_are_built_and_dumped);
    SHOAL_TEST(suite, invalid_utf8_is_replaced);
    SHOAL_TEST(suite, f32_values_survive);
    SHOAL_TEST(suite, files);
}

SHOAL_TEST_MAIN("base.json", add_tests)
