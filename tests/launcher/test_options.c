#include "launcher/options.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>

static shoal_status parse(shoal_options *options, shoal_log *log, int32_t command,
                          const char *const *argv)
{
    int argc = 0;
    while (argv[argc] != NULL)
        argc++;
    shoal_log_init(log, NULL, 0, "test");
    shoal_options_init(options, command);
    return shoal_options_parse(options, "generate", argc, (char *const *)argv, log);
}

#define PARSE(...)                                                                                 \
    parse(&options, &log, SHOAL_COMMAND_GENERATE, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(takes_both_forms_of_values)
{
    shoal_options options;
    shoal_log log;
    ck_assert_int_eq(PARSE("M", "--prompt", "--looks-like-one", "--top-k=7", "--seed",
                           "18446744073709551615", "--math=f32", "--ignore-eos"),
                     SHOAL_OK);
    ck_assert_str_eq(options.model, "M");
    ck_assert_str_eq(options.prompt, "--looks-like-one");
    ck_assert_int_eq(options.top_k, 7);
    ck_assert_uint_eq(options.seed, UINT64_MAX);
    ck_assert_int_eq(options.math, SHOAL_MATH_F32);
    ck_assert(options.ignore_eos);
    ck_assert(!options.json);
}
END_TEST

START_TEST(has_the_defaults_that_help_states)
{
    shoal_options options;
    shoal_log log;
    ck_assert_int_eq(PARSE("M"), SHOAL_OK);
    ck_assert_int_eq(options.math, SHOAL_MATH_FAST);
    ck_assert_int_eq(options.combine, SHOAL_COMBINE_EXACT);
    ck_assert_int_eq(options.prefill_chunk, 256);
    ck_assert_double_eq(options.deadline_s, 30);
    ck_assert_double_eq(options.temperature, 0);
    ck_assert_double_eq(options.top_p, 1);
    ck_assert_str_eq(options.kernels, "auto");
    ck_assert_str_eq(options.device, "auto");
    ck_assert_int_eq(options.fault.kind, SHOAL_FAULT_NONE);
}
END_TEST

START_TEST(refuses_bad_values)
{
    static const char *const bad[][2] = {
        {"--top-k", "x"},
        {"--top-k", ""},
        {"--top-k", " 7"},
        {"--top-k", "7 "},
        {"--top-k", "+7"},
        {"--top-k", "7.0"},
        {"--top-k", "-1"},
        {"--top-k", "2147483648"},
        {"--top-k", "99999999999999999999"},
        {"--max-tokens", "0"},
        {"--seed", "-1"},
        {"--seed", "18446744073709551616"},
        {"--temperature", "nan"},
        {"--temperature", "inf"},
        {"--temperature", "-0.1"},
        {"--temperature", "0x1p3"},
        {"--temperature", "1e999"},
        {"--top-p", "1.01"},
        {"--deadline", "0"},
        {"--math", "F32"},
        {"--math", "f32|fast"},
        {"--weights", "q5"},
        {"--kv", "f16"},
        {"--combine", ""},
        {"--transport", "tcp"},
        {"--device", ""},
        {"--device", "gpu"},
        {"--device", "cuda:"},
        {"--device", "cuda:x"},
        {"--device", "cuda:-1"},
        {"--device", "cuda:99999"},
        {"--device", "cpu,"},
        {"--device", "cpu,,cuda"},
        {"--fault", "rank=1"},
        {"--fault", "rank=1,step=2,layer=0,do=nothing"},
        {"--fault", "rank=1,step=-2,layer=0,do=kill"},
        {"--fault", "rank=1,layer=0,do=kill"},
        {"--fault", "rank=-1,step=2,layer=0,do=kill"},
        {"--fault", "rank=1,step=2,layer=0,when=now,do=kill"},
        {"--fault", "rank=1,step=x,layer=0,do=kill"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        shoal_options options;
        shoal_log log;
        ck_assert_msg(PARSE("M", bad[i][0], bad[i][1]) == SHOAL_USAGE, "%s '%s' was taken",
                      bad[i][0], bad[i][1]);
        ck_assert_msg(strstr(log.error, bad[i][0]) != NULL, "%s: '%s'", bad[i][0], log.error);
    }
}
END_TEST

START_TEST(names_what_is_supported)
{
    shoal_options options;
    shoal_log log;
    ck_assert_int_eq(PARSE("M", "--weights", "q5"), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(log.error, "native"));
    ck_assert_int_eq(PARSE("M", "--kv", "q8"), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(log.error, "auto|f32|bf16"));
}
END_TEST

START_TEST(unknown_options_are_refused_with_a_hint)
{
    shoal_options options;
    shoal_log log;
    ck_assert_int_eq(PARSE("M", "--promt", "x"), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(log.error, "did you mean --prompt?"));
    ck_assert_int_eq(PARSE("M", "--frobnicate"), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(log.error, "--help"));
    /* Of another command, abbreviated, short. */
    static const char *const unknown[] = {"--file", "--input", "--resume", "--promp",
                                          "-p",     "-",       "--=x",     "---prompt"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        ck_assert_msg(PARSE("M", unknown[i], "x") == SHOAL_USAGE &&
                          strstr(log.error, "unknown option") != NULL,
                      "%s: '%s'", unknown[i], log.error);
}
END_TEST

START_TEST(wants_one_model_and_what_is_required)
{
    shoal_options options;
    shoal_log log;
    ck_assert_int_eq(PARSE("--json"), SHOAL_USAGE);
    ck_assert_int_eq(PARSE(""), SHOAL_USAGE);
    ck_assert_int_eq(PARSE("M", "N"), SHOAL_USAGE);
    ck_assert_int_eq(PARSE("--", "--M"), SHOAL_OK);
    ck_assert_str_eq(options.model, "--M");
    ck_assert_int_eq(PARSE("M", "--top-k"), SHOAL_USAGE);
    ck_assert_int_eq(PARSE("M", "--json=yes"), SHOAL_USAGE);
    ck_assert_int_eq(PARSE("--help"), SHOAL_OK);
    ck_assert(options.help);
    const char *const logits[] = {"M", "--ids", "1", NULL};
    ck_assert_int_eq(parse(&options, &log, SHOAL_COMMAND_LOGITS, logits), SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(log.error, "--output"));
}
END_TEST

START_TEST(reads_a_fault)
{
    shoal_options options;
    shoal_log log;
    ck_assert_int_eq(PARSE("M", "--fault", "do=drop,layer=3,rank=2,step=17"), SHOAL_OK);
    ck_assert_int_eq(options.fault.kind, SHOAL_FAULT_DROP);
    ck_assert_int_eq(options.fault.rank, 2);
    ck_assert_int_eq(options.fault.step, 17);
    ck_assert_int_eq(options.fault.layer, 3);
    ck_assert_int_eq(PARSE("M", "--fault", "rank=0,step=-1,layer=1,do=stop"), SHOAL_OK);
    ck_assert_int_eq(options.fault.step, SHOAL_STEP_LOADING);
    ck_assert_int_eq(PARSE("M", "--fault", "rank=0,step=0,do=kill"), SHOAL_OK);
    ck_assert_int_eq(options.fault.layer, -1);
}
END_TEST

START_TEST(reads_ids)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    int32_t *ids;
    int32_t n;
    ck_assert_int_eq(shoal_options_ids(&ids, &n, "7", "ids", &log), SHOAL_OK);
    ck_assert_int_eq(n, 1);
    free(ids);
    ck_assert_int_eq(shoal_options_ids(&ids, &n, "1,0,2147483647", "ids", &log), SHOAL_OK);
    ck_assert_int_eq(n, 3);
    ck_assert_int_eq(ids[0], 1);
    ck_assert_int_eq(ids[2], INT32_MAX);
    free(ids);
    static const char *const bad[] = {"", ",", "1,", ",1", "1,,2", "1, 2", "-1", "x", "2147483648"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(shoal_options_ids(&ids, &n, bad[i], "ids", &log) == SHOAL_USAGE, "'%s'",
                      bad[i]);
}
END_TEST

START_TEST(help_lists_what_parsing_knows)
{
    static const int32_t commands[] = {SHOAL_COMMAND_GENERATE, SHOAL_COMMAND_BATCH,
                                       SHOAL_COMMAND_LOGITS,   SHOAL_COMMAND_PERPLEXITY,
                                       SHOAL_COMMAND_TOKENIZE, SHOAL_COMMAND_INSPECT,
                                       SHOAL_COMMAND_BENCH};
    for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++) {
        char *text = NULL;
        size_t n_text = 0;
        FILE *out = open_memstream(&text, &n_text);
        shoal_options_print(out, commands[c]);
        fclose(out);
        for (const shoal_option *o = shoal_option_table(); o->name != NULL; o++) {
            char line[80];
            snprintf(line, sizeof line, "  --%s%s", o->name, o->value != NULL ? " " : "");
            bool listed = strstr(text, line) != NULL;
            ck_assert_msg(listed || (o->commands & commands[c]) == 0, "--%s is not listed",
                          o->name);
        }
        for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
            ck_assert_msg(strcspn(line, "\n") <= 100, "%.*s", (int)strcspn(line, "\n"), line);
        free(text);
    }
}
END_TEST

START_TEST(counts_edits)
{
    ck_assert_int_eq(shoal_text_distance("prompt", "prompt"), 0);
    ck_assert_int_eq(shoal_text_distance("promt", "prompt"), 1);
    ck_assert_int_eq(shoal_text_distance("", "abc"), 3);
    ck_assert_int_eq(shoal_text_distance("abc", ""), 3);
    ck_assert_int_eq(shoal_text_distance("kitten", "sitting"), 3);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, takes_both_forms_of_values);
    SHOAL_TEST(suite, has_the_defaults_that_help_states);
    SHOAL_TEST(suite, refuses_bad_values);
    SHOAL_TEST(suite, names_what_is_supported);
    SHOAL_TEST(suite, unknown_options_are_refused_with_a_hint);
    SHOAL_TEST(suite, wants_one_model_and_what_is_required);
    SHOAL_TEST(suite, reads_a_fault);
    SHOAL_TEST(suite, reads_ids);
    SHOAL_TEST(suite, help_lists_what_parsing_knows);
    SHOAL_TEST(suite, counts_edits);
}

SHOAL_TEST_MAIN("launcher.options", add_tests)
