#include "launcher/batch_io.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>

static const shoal_batch_defaults defaults = {
    .max_tokens = 5,
    .sampling = {.temperature = 0.5f, .top_k = 3, .top_p = 0.9f, .seed = 11},
};

static shoal_status parse(shoal_batch_line *line, shoal_log *log, const char *text)
{
    shoal_log_init(log, NULL, 0, "test");
    return shoal_batch_line_parse(line, text, strlen(text), 12, &defaults, log);
}

START_TEST(takes_a_line_with_everything)
{
    shoal_batch_line line;
    shoal_log log;
    ck_assert_int_eq(parse(&line, &log,
                           "{\"id\":\"a\",\"prompt\":\"h\\u0000i\",\"max_tokens\":9,"
                           "\"temperature\":0,\"top_k\":0,\"top_p\":1,\"seed\":4,"
                           "\"ignore_eos\":true}"),
                     SHOAL_OK);
    ck_assert_str_eq(line.key, "\"a\"");
    ck_assert_uint_eq(line.n_prompt_bytes, 3);
    ck_assert_int_eq(memcmp(line.prompt, "h\0i", 3), 0);
    ck_assert_int_eq(line.max_tokens, 9);
    ck_assert_float_eq(line.sampling.temperature, 0);
    ck_assert_int_eq(line.sampling.top_k, 0);
    ck_assert_float_eq(line.sampling.top_p, 1);
    ck_assert_uint_eq(line.sampling.seed, 4);
    ck_assert(line.ignore_eos);
    ck_assert_ptr_null(line.unknown_key);
    shoal_batch_line_close(&line);
}
END_TEST

START_TEST(what_is_left_out_is_the_default)
{
    shoal_batch_line line;
    shoal_log log;
    ck_assert_int_eq(parse(&line, &log, "{\"id\":7,\"prompt_ids\":[3,1],\"seed\":null}"), SHOAL_OK);
    ck_assert_str_eq(line.key, "7");
    ck_assert_uint_eq(line.n_prompt_ids, 2);
    ck_assert_int_eq(line.prompt_ids[0], 3);
    ck_assert_int_eq(line.max_tokens, 5);
    ck_assert_float_eq(line.sampling.temperature, 0.5f);
    ck_assert_int_eq(line.sampling.top_k, 3);
    ck_assert_uint_eq(line.sampling.seed, shoal_batch_seed(11, line.id));
    ck_assert(!line.ignore_eos);
    shoal_batch_line_close(&line);
}
END_TEST

START_TEST(messages_and_stop_strings)
{
    shoal_batch_line line;
    shoal_log log;
    ck_assert_int_eq(parse(&line, &log,
                           "{\"id\":\"a\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
                           "{\"role\":\"user\",\"content\":\"h\\u0000i\",\"name\":null}],"
                           "\"stop\":[\"\\n\",\"\\n\\n\"]}"),
                     SHOAL_OK);
    ck_assert_uint_eq(line.n_message, 2);
    ck_assert_str_eq(line.messages[0].role, "system");
    ck_assert_str_eq(line.messages[0].content, "s");
    ck_assert_str_eq(line.messages[1].role, "user");
    ck_assert_uint_eq(line.messages[1].n_bytes, 3);
    ck_assert_int_eq(memcmp(line.messages[1].content, "h\0i", 3), 0);
    ck_assert_uint_eq(line.stop.n, 2);
    ck_assert_str_eq(line.stop.text[1], "\n\n");
    ck_assert_ptr_null(line.unknown_key);
    shoal_batch_line_close(&line);
    shoal_batch_defaults with_stop = defaults;
    with_stop.stop = (shoal_text_list){.text = {"END"}, .n_bytes = {3}, .n = 1};
    static const struct {
        const char *text;
        size_t n;
        const char *first;
    } cases[] = {
        {"{\"id\":1,\"prompt\":\"x\"}", 1, "END"},
        {"{\"id\":1,\"prompt\":\"x\",\"stop\":null}", 1, "END"},
        {"{\"id\":1,\"prompt\":\"x\",\"stop\":\"own\"}", 1, "own"},
        {"{\"id\":1,\"prompt\":\"x\",\"stop\":[]}", 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(shoal_batch_line_parse(&line, cases[i].text, strlen(cases[i].text), 1,
                                                &with_stop, &log),
                         SHOAL_OK);
        ck_assert_uint_eq(line.stop.n, cases[i].n);
        if (cases[i].n > 0)
            ck_assert_str_eq(line.stop.text[0], cases[i].first);
        shoal_batch_line_close(&line);
    }
}
END_TEST

START_TEST(bad_lines_still_have_an_id)
{
    static const struct {
        const char *text, *key, *says;
    } bad[] = {
        {"{\"id\":\"a\"", "\"line 12\"", "JSON"},
        {"", "\"line 12\"", "JSON"},
        {"[1]", "\"line 12\"", "object"},
        {"\"x\"", "\"line 12\"", "object"},
        {"{\"prompt\":\"x\"}", "\"line 12\"", "id"},
        {"{\"id\":null,\"prompt\":\"x\"}", "\"line 12\"", "id"},
        {"{\"id\":1.5,\"prompt\":\"x\"}", "\"line 12\"", "id"},
        {"{\"id\":\"a\"}", "\"a\"", "prompt"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"prompt_ids\":[1]}", "\"a\"", "exactly one"},
        {"{\"id\":\"a\",\"prompt\":3}", "\"a\"", "string"},
        {"{\"id\":\"a\",\"prompt_ids\":[]}", "\"a\"", "at least one"},
        {"{\"id\":\"a\",\"prompt_ids\":[-1]}", "\"a\"", "token id"},
        {"{\"id\":\"a\",\"prompt_ids\":[1.0]}", "\"a\"", "token id"},
        {"{\"id\":\"a\",\"prompt_ids\":[4294967297]}", "\"a\"", "token id"},
        {"{\"id\":\"a\",\"prompt_ids\":\"1,2\"}", "\"a\"", "array"},
        {"{\"id\":\"a\",\"messages\":[]}", "\"a\"", "at least one message"},
        {"{\"id\":\"a\",\"messages\":{}}", "\"a\"", "at least one message"},
        {"{\"id\":\"a\",\"messages\":[1]}", "\"a\"", "messages[0]"},
        {"{\"id\":\"a\",\"messages\":[{\"role\":\"user\"}]}", "\"a\"", "messages[0]"},
        {"{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "\"a\"",
         "messages[0]"},
        {"{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"\",\"tool\":1}]}", "\"a\"",
         "'tool'"},
        {"{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\"prompt\":\"x\"}",
         "\"a\"", "exactly one"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"stop\":[\"y\",\"\"]}", "\"a\"", "stop"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"stop\":\"\"}", "\"a\"", "stop"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"stop\":[1]}", "\"a\"", "stop"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"stop\":{}}", "\"a\"", "stop"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\","
         "\"9\","
         "\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]}",
         "\"a\"", "at most 16"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"max_tokens\":0}", "\"a\"", "max_tokens"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"max_tokens\":\"9\"}", "\"a\"", "max_tokens"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"top_k\":-1}", "\"a\"", "top_k"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"top_p\":1.5}", "\"a\"", "top_p"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"temperature\":-1}", "\"a\"", "temperature"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"temperature\":true}", "\"a\"", "temperature"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"seed\":-1}", "\"a\"", "seed"},
        {"{\"id\":\"a\",\"prompt\":\"x\",\"ignore_eos\":1}", "\"a\"", "ignore_eos"},
        {"{\"id\":\"a\",\"id\":\"b\",\"prompt\":\"x\"}", "\"line 12\"", "JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        shoal_batch_line line;
        shoal_log log;
        ck_assert_msg(parse(&line, &log, bad[i].text) == SHOAL_BAD_DATA, "%s", bad[i].text);
        ck_assert_str_eq(line.key, bad[i].key);
        ck_assert_ptr_nonnull(line.id);
        ck_assert_msg(strstr(log.error, bad[i].says) != NULL, "%s: %s", bad[i].text, log.error);
        shoal_batch_line_close(&line);
    }
}
END_TEST

START_TEST(names_a_key_that_it_does_not_know)
{
    shoal_batch_line line;
    shoal_log log;
    ck_assert_int_eq(parse(&line, &log, "{\"id\":\"a\",\"prompt\":\"x\",\"max_token\":9}"),
                     SHOAL_OK);
    ck_assert_str_eq(line.unknown_key, "max_token");
    ck_assert_int_eq(line.max_tokens, 5);
    shoal_batch_line_close(&line);
}
END_TEST

START_TEST(seeds_differ_by_id_and_by_seed)
{
    shoal_json *a = shoal_json_new_string("1", 1);
    shoal_json *b = shoal_json_new_string("2", 1);
    shoal_json *number = shoal_json_new_int(1);
    ck_assert_uint_eq(shoal_batch_seed(3, a), shoal_batch_seed(3, a));
    ck_assert_uint_ne(shoal_batch_seed(3, a), shoal_batch_seed(3, b));
    ck_assert_uint_ne(shoal_batch_seed(3, a), shoal_batch_seed(4, a));
    ck_assert_uint_ne(shoal_batch_seed(3, a), shoal_batch_seed(3, number));
    shoal_json_close(a);
    shoal_json_close(b);
    shoal_json_close(number);
}
END_TEST

START_TEST(id_sets_keep_states_apart)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    shoal_id_set set = {0};
    ck_assert_int_eq(shoal_id_set_get(&set, "x"), 0);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "\"q%d\"", i);
        int32_t state = i % 2 == 0 ? SHOAL_ID_ANSWERED : SHOAL_ID_SEEN;
        ck_assert_int_eq(shoal_id_set_add(&set, key, state, &log), SHOAL_OK);
    }
    ck_assert_int_eq(shoal_id_set_add(&set, "\"q4\"", SHOAL_ID_SEEN, &log), SHOAL_OK);
    ck_assert_uint_eq(set.n, 1000);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "\"q%d\"", i);
        int32_t wanted = i == 4       ? SHOAL_ID_ANSWERED | SHOAL_ID_SEEN
                         : i % 2 == 0 ? SHOAL_ID_ANSWERED
                                      : SHOAL_ID_SEEN;
        ck_assert_int_eq(shoal_id_set_get(&set, key), wanted);
    }
    ck_assert_int_eq(shoal_id_set_get(&set, "\"q1000\""), 0);
    shoal_id_set_close(&set);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, takes_a_line_with_everything);
    SHOAL_TEST(suite, what_is_left_out_is_the_default);
    SHOAL_TEST(suite, messages_and_stop_strings);
    SHOAL_TEST(suite, bad_lines_still_have_an_id);
    SHOAL_TEST(suite, names_a_key_that_it_does_not_know);
    SHOAL_TEST(suite, seeds_differ_by_id_and_by_seed);
    SHOAL_TEST(suite, id_sets_keep_states_apart);
}

SHOAL_TEST_MAIN("launcher.batch_line", add_tests)
