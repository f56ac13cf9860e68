#include "tests/text/text_fixture.h"

#include <sys/wait.h>

/* -- what the tokenizers library says -- */

/* Opens tests/tokenizers/<name>, unpacked into a temporary folder. */
static shoal_tokenizer *open_packed(const char *name)
{
    char folder[64];
    char packed[PATH_MAX];
    char config[PATH_MAX];
    char below[64];
    char command[3 * PATH_MAX];
    make_folder(folder);
    snprintf(below, sizeof below, "tests/tokenizers/%s/tokenizer.json.xz", name);
    source_path(packed, below);
    snprintf(below, sizeof below, "tests/tokenizers/%s/tokenizer_config.json", name);
    source_path(config, below);
    snprintf(command, sizeof command,
             "xz -dkc '%s' > '%s/tokenizer.json' && cp '%s' '%s/tokenizer_config.json'", packed,
             folder, config, folder);
    int rc = system(command);
    ck_assert_msg(WIFEXITED(rc) && WEXITSTATUS(rc) == 0, "failed: %s", command);
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    shoal_status status = shoal_tokenizer_open(&t, folder, &log);
    remove_folder(folder);
    ck_assert_msg(status == SHOAL_OK, "%s", log.error);
    return t;
}

static shoal_tokenizer *open_demo(void)
{
    char folder[PATH_MAX];
    source_path(folder, "models/demo");
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(shoal_tokenizer_open(&t, folder, &log) == SHOAL_OK, "%s", log.error);
    return t;
}

START_TEST(deepseek_v3)
{
    shoal_tokenizer *t = open_packed("deepseek_v3");
    ck_assert_int_eq(shoal_tokenizer_n_vocab(t), 128815);
    ck_assert_int_eq(shoal_tokenizer_bos(t), 0);
    ck_assert(shoal_tokenizer_is_eos(t, 1) && !shoal_tokenizer_is_eos(t, 0));
    ck_assert_uint_ge(for_each_line("tests/tokenizers/deepseek_v3/cases.jsonl", check_case, t), 80);
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(qwen3)
{
    shoal_tokenizer *t = open_packed("qwen3");
    ck_assert_int_eq(shoal_tokenizer_bos(t), -1);
    ck_assert_int_eq(shoal_tokenizer_find(t, "<|im_end|>", 10), 151645);
    ck_assert(shoal_tokenizer_is_eos(t, 151645));
    ck_assert(shoal_tokenizer_is_special(t, 151645));
    ck_assert(!shoal_tokenizer_is_special(t, 151668)); /* </think> is added, not special */
    ck_assert_uint_ge(for_each_line("tests/tokenizers/qwen3/cases.jsonl", check_case, t), 80);
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(gptoss)
{
    shoal_tokenizer *t = open_packed("gptoss");
    ck_assert_int_eq(shoal_tokenizer_find(t, "<|start|>", 9), 200006);
    ck_assert(shoal_tokenizer_is_eos(t, 200002)); /* <|return|> */
    ck_assert_uint_ge(for_each_line("tests/tokenizers/gptoss/cases.jsonl", check_case, t), 80);
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(demo_prompts_and_answers)
{
    shoal_tokenizer *t = open_demo();
    char *text = read_source("models/demo/expected.json");
    shoal_json *expected = parse_json(text);
    const shoal_json *greedy = shoal_json_get(expected, "greedy");
    ck_assert_uint_gt(shoal_json_size(greedy), 0);
    for (size_t i = 0; i < shoal_json_size(greedy); i++) {
        const shoal_json *one = shoal_json_at(greedy, i);
        size_t n_bytes;
        const char *prompt = shoal_json_string(shoal_json_get(one, "prompt"), &n_bytes);
        int32_t *ids = NULL;
        size_t n;
        shoal_log log = quiet_log();
        ck_assert_int_eq(shoal_tokenizer_encode_prompt(t, &ids, &n, prompt, n_bytes, &log),
                         SHOAL_OK);
        check_ids(ids, n, shoal_json_get(one, "prompt_ids"), prompt);
        free(ids);
        const shoal_json *answer = shoal_json_get(one, "greedy_ids");
        ids = ids_of(answer);
        check_decode(t, ids, shoal_json_size(answer), shoal_json_get(one, "text"), false, prompt);
        free(ids);
    }
    shoal_json_close(expected);
    free(text);
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(demo_edge_cases)
{
    shoal_tokenizer *t = open_demo();
    ck_assert_uint_ge(for_each_line("tests/text/cases/demo.jsonl", check_own_case, t), 80);
    shoal_tokenizer_close(t);
}
END_TEST

/* A line of parts.jsonl: a tokenizer and its cases. */
static void check_parts(shoal_tokenizer *unused, const shoal_json *line, const char *what)
{
    (void)unused;
    shoal_json *doc = shoal_json_copy(shoal_json_get(line, "parts"));
    shoal_json *model = base_model(shoal_json_string(shoal_json_get(line, "model"), NULL));
    const char *key;
    const shoal_json *value;
    const shoal_json *changes = shoal_json_get(doc, "model");
    for (void *it = NULL;
         changes != NULL && (it = shoal_json_next(changes, it, &key, NULL, &value)) != NULL;)
        shoal_json_set(model, key, shoal_json_copy(value));
    shoal_json_set(doc, "model", model);
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(open_json(&t, doc, &log) == SHOAL_OK, "%s: %s", what, log.error);
    const shoal_json *cases = shoal_json_get(line, "cases");
    for (size_t i = 0; i < shoal_json_size(cases); i++) {
        char name[PATH_MAX];
        snprintf(name, sizeof name, "%s, case %zu", what, i);
        check_own_case(t, shoal_json_at(cases, i), name);
    }
    shoal_tokenizer_close(t);
    shoal_json_close(doc);
}

START_TEST(every_component)
{
    ck_assert_uint_ge(for_each_line("tests/text/cases/parts.jsonl", check_parts, NULL), 60);
}
END_TEST

START_TEST(merges_in_both_forms_are_equal)
{
    shoal_json *doc = base_tokenizer();
    shoal_json *model = base_model("byte");
    const shoal_json *pairs = shoal_json_get(model, "merges");
    shoal_json *lines = shoal_json_new_array();
    shoal_json_append(lines, shoal_json_new_string("#version: 0.2", 13));
    for (size_t i = 0; i < shoal_json_size(pairs); i++) {
        char line[64];
        const shoal_json *pair = shoal_json_at(pairs, i);
        int n =
            snprintf(line, sizeof line, "%s %s", shoal_json_string(shoal_json_at(pair, 0), NULL),
                     shoal_json_string(shoal_json_at(pair, 1), NULL));
        shoal_json_append(lines, shoal_json_new_string(line, (size_t)n));
    }
    shoal_log log = quiet_log();
    shoal_tokenizer *t[2] = {NULL, NULL};
    ck_assert_msg(open_json(&t[0], doc, &log) == SHOAL_OK, "%s", log.error);
    shoal_json_set(model, "merges", lines);
    shoal_json_set(doc, "model", model);
    ck_assert_msg(open_json(&t[1], doc, &log) == SHOAL_OK, "%s", log.error);
    const char *text = "the quick brown fox, and then another thing in there";
    int32_t *ids[2];
    size_t n[2];
    for (int32_t i = 0; i < 2; i++)
        ck_assert_int_eq(
            shoal_tokenizer_encode(t[i], &ids[i], &n[i], text, strlen(text), false, &log),
            SHOAL_OK);
    ck_assert_uint_eq(n[0], n[1]);
    ck_assert_uint_lt(n[0], strlen(text)); /* something was merged */
    ck_assert_mem_eq(ids[0], ids[1], n[0] * sizeof *ids[0]);
    for (int32_t i = 0; i < 2; i++) {
        free(ids[i]);
        shoal_tokenizer_close(t[i]);
    }
    shoal_json_close(doc);
}
END_TEST

/* -- what lies beside tokenizer.json -- */

/* The demo's tokenizer with other configuration files (NULL: none). */
static shoal_status open_configured(shoal_tokenizer **t, const char *tokenizer_config,
                                    const char *generation_config, const char *config,
                                    shoal_log *log)
{
    char folder[64];
    make_folder(folder);
    shoal_json *doc = base_tokenizer();
    shoal_json_set(doc, "added_tokens",
                   parse_json("[{\"id\": 340, \"content\": \"<s>\", \"special\": true},"
                              " {\"id\": 350, \"content\": \"</s>\", \"special\": true}]"));
    shoal_json_set(
        doc, "post_processor",
        parse_json("{\"type\": \"TemplateProcessing\", \"single\": ["
                   "{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}],"
                   "\"special_tokens\": {\"<s>\": {\"ids\": [340]}}}"));
    char *text = shoal_json_dump(doc);
    write_file(folder, "tokenizer.json", text, strlen(text));
    free(text);
    shoal_json_close(doc);
    const char *const names[] = {"tokenizer_config.json", "generation_config.json", "config.json"};
    const char *const files[] = {tokenizer_config, generation_config, config};
    for (size_t i = 0; i < 3; i++)
        if (files[i] != NULL)
            write_file(folder, names[i], files[i], strlen(files[i]));
    shoal_status status = shoal_tokenizer_open(t, folder, log);
    remove_folder(folder);
    return status;
}

/* Ids of the prompt: how many are <s> at its begin, and how many there are in all. */
static void check_prompt(const char *tokenizer_config, const char *text, size_t n_bos, size_t n_all)
{
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(open_configured(&t, tokenizer_config, NULL, NULL, &log) == SHOAL_OK, "%s",
                  log.error);
    int32_t *ids = NULL;
    size_t n;
    ck_assert_int_eq(shoal_tokenizer_encode_prompt(t, &ids, &n, text, strlen(text), &log),
                     SHOAL_OK);
    ck_assert_uint_eq(n, n_all);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(ids[i] == 340, i < n_bos);
    free(ids);
    shoal_tokenizer_close(t);
}

START_TEST(a_prompt_begins_as_configured)
{
    const char *yes = "{\"bos_token\": {\"content\": \"<s>\"}, \"add_bos_token\": true}";
    const char *no = "{\"bos_token\": \"<s>\", \"add_bos_token\": false}";
    check_prompt(yes, "x", 1, 2);
    check_prompt(yes, "", 1, 1);
    check_prompt(yes, "<s>x", 1, 2); /* it is there already */
    check_prompt(no, "x", 0, 1);
    check_prompt(no, "<s>x", 1, 2);
    check_prompt("{\"bos_token\": \"<s>\"}", "x", 1, 2); /* the post-processor decides */
    check_prompt(NULL, "x", 1, 2);
}
END_TEST

static void check_eos(const char *tokenizer_config, const char *generation_config,
                      const char *config, const int32_t *wanted, size_t n_wanted)
{
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(open_configured(&t, tokenizer_config, generation_config, config, &log) ==
                      SHOAL_OK,
                  "%s", log.error);
    size_t n;
    const int32_t *eos = shoal_tokenizer_eos(t, &n);
    ck_assert_uint_eq(n, n_wanted);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(eos[i], wanted[i]);
        ck_assert(shoal_tokenizer_is_eos(t, wanted[i]));
    }
    ck_assert(!shoal_tokenizer_is_eos(t, 5));
    shoal_tokenizer_close(t);
}

START_TEST(end_tokens_come_from_all_files)
{
    const char *named = "{\"eos_token\": \"</s>\"}";
    check_eos(named, NULL, NULL, (int32_t[]){350}, 1);
    check_eos(named, "{\"eos_token_id\": [350, 7]}", NULL, (int32_t[]){350, 7}, 2);
    check_eos(NULL, "{\"eos_token_id\": 9}", "{\"eos_token_id\": 8}", (int32_t[]){9}, 1);
    check_eos(NULL, "{}", "{\"eos_token_id\": 8}", (int32_t[]){8}, 1);
    check_eos(NULL, NULL, NULL, NULL, 0);
}
END_TEST

START_TEST(bad_configurations_name_their_file)
{
    static const struct {
        const char *tokenizer_config;
        const char *generation_config;
        const char *wanted;
    } bad[] = {
        {"[]", NULL, "tokenizer_config.json"},
        {"{", NULL, "tokenizer_config.json"},
        {"{\"bos_token\": 1}", NULL, "bos_token"},
        {"{\"bos_token\": {\"text\": \"<s>\"}}", NULL, "bos_token"},
        {"{\"eos_token\": [\"</s>\"]}", NULL, "eos_token"},
        {"{\"add_bos_token\": true}", NULL, "add_bos_token"},
        {"{\"add_bos_token\": true, \"bos_token\": \"<none>\"}", NULL, "add_bos_token"},
        {"{\"add_bos_token\": 1, \"bos_token\": \"<s>\"}", NULL, "add_bos_token"},
        {NULL, "{\"eos_token_id\": \"x\"}", "generation_config.json"},
        {NULL, "{\"eos_token_id\": [1, -1]}", "eos_token_id"},
        {NULL, "{\"eos_token_id\": 4294967296}", "eos_token_id"},
        {NULL, "null", "generation_config.json"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        shoal_tokenizer *t = NULL;
        shoal_log log = quiet_log();
        shoal_status status =
            open_configured(&t, bad[i].tokenizer_config, bad[i].generation_config, NULL, &log);
        ck_assert_msg(status == SHOAL_BAD_DATA, "case %zu gave %d", i, (int)status);
        ck_assert_ptr_null(t);
        ck_assert_msg(strstr(log.error, bad[i].wanted) != NULL, "case %zu: %s", i, log.error);
    }
}
END_TEST

/* -- bad input -- */

START_TEST(text_that_is_no_utf8_is_refused)
{
    static const struct {
        const char *text;
        size_t n;
        const char *offset;
    } bad[] = {
        {"ab\xff", 3, "byte 2 of 3"},
        {"\xc3", 1, "byte 0 of 1"},
        {"a\xc0\xaf", 3, "byte 1"},        /* overlong */
        {"\xe0\x9f\xbf", 3, "byte 0"},     /* overlong */
        {"x\xed\xa0\x80", 4, "byte 1"},    /* surrogate */
        {"\xf4\x90\x80\x80", 4, "byte 0"}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", 4, "byte 0"},
        {"\xe6\xbc\xa2\xe6\xbc", 5, "byte 3"},
        {"\x80", 1, "0x80"},
    };
    shoal_tokenizer *t = open_demo();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int32_t *ids = NULL;
        size_t n;
        shoal_log log = quiet_log();
        ck_assert_int_eq(shoal_tokenizer_encode(t, &ids, &n, bad[i].text, bad[i].n, false, &log),
                         SHOAL_BAD_DATA);
        ck_assert_ptr_null(ids);
        ck_assert_msg(strstr(log.error, bad[i].offset) != NULL, "case %zu: %s", i, log.error);
    }
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(ids_outside_the_vocabulary)
{
    shoal_tokenizer *t = open_demo();
    int32_t n_vocab = shoal_tokenizer_n_vocab(t);
    const int32_t bad[] = {-1, INT32_MIN, INT32_MAX, n_vocab};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text = NULL;
        size_t n;
        shoal_log log = quiet_log();
        const int32_t ids[] = {5, bad[i]};
        ck_assert_int_eq(shoal_tokenizer_decode(t, &text, &n, ids, 2, true, &log), SHOAL_BAD_DATA);
        ck_assert_ptr_null(text);
        ck_assert_ptr_nonnull(strstr(log.error, "number 1 of 2"));
        ck_assert(!shoal_tokenizer_is_special(t, bad[i]));
    }
    /* A model may have more rows than the tokenizer has ids; a stream passes over them. */
    shoal_log log = quiet_log();
    shoal_decoder *decoder = NULL;
    const char *piece;
    size_t n;
    ck_assert_int_eq(shoal_decoder_open(&decoder, t, false, &log), SHOAL_OK);
    ck_assert_int_eq(shoal_decoder_feed(decoder, &piece, &n, n_vocab + 7, &log), SHOAL_OK);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(shoal_decoder_feed(decoder, &piece, &n, -1, &log), SHOAL_BAD_DATA);
    shoal_decoder_close(decoder);
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(a_decoder_begins_anew_after_a_flush)
{
    shoal_tokenizer *t = open_demo();
    shoal_log log = quiet_log();
    shoal_decoder *decoder = NULL;
    ck_assert_int_eq(shoal_decoder_open(&decoder, t, true, &log), SHOAL_OK);
    const char *piece;
    size_t n;
    int32_t lead = shoal_tokenizer_find(t, "\xc3\xa2", 2); /* byte e2: begins three bytes */
    int32_t letter = shoal_tokenizer_find(t, "a", 1);
    ck_assert_int_ge(lead, 0);
    for (int32_t round = 0; round < 2; round++) {
        ck_assert_int_eq(shoal_decoder_feed(decoder, &piece, &n, lead, &log), SHOAL_OK);
        ck_assert_uint_eq(n, 0);
        shoal_decoder_flush(decoder, &piece, &n);
        ck_assert_uint_eq(n, 3);
        ck_assert_mem_eq(piece, SHOAL__REPLACEMENT, 3);
        ck_assert_int_eq(shoal_decoder_feed(decoder, &piece, &n, letter, &log), SHOAL_OK);
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(piece[0], 'a');
        shoal_decoder_flush(decoder, &piece, &n);
        ck_assert_uint_eq(n, 0);
    }
    shoal_decoder_close(decoder);
    shoal_decoder_close(NULL);
    shoal_tokenizer_close(t);
    shoal_tokenizer_close(NULL);
}
END_TEST

typedef struct beats {
    int64_t n, n_end;
} beats;

static shoal_status end_after(void *arg)
{
    beats *b = arg;
    return ++b->n < b->n_end ? SHOAL_OK : SHOAL_INTERRUPTED;
}

/* 1.2 million characters, as words (the pattern, then BPE of the words) and as one word. */
START_TEST(a_long_text_beats_the_pulse)
{
    enum { N_BYTES = 1200000 };
    char path[PATH_MAX];
    shoal_log log = quiet_log();
    shoal_tokenizer *t = NULL;
    source_path(path, "models/demo");
    ck_assert_int_eq(shoal_tokenizer_open(&t, path, &log), SHOAL_OK);
    char *text = malloc(N_BYTES);
    ck_assert_ptr_nonnull(text);
    for (int32_t is_one_word = 0; is_one_word < 2; is_one_word++) {
        for (size_t i = 0; i < N_BYTES; i++)
            text[i] = (char)(i % 4 == 3 && !is_one_word ? ' ' : 'a' + i % 7);
        beats b = {0, INT64_MAX};
        shoal_tokenizer_set_pulse(t, (shoal_pulse){end_after, &b});
        int32_t *ids;
        size_t n;
        ck_assert_int_eq(shoal_tokenizer_encode(t, &ids, &n, text, N_BYTES, false, &log), SHOAL_OK);
        free(ids);
        ck_assert_int_ge(b.n, 4);
        /* Any of them may be the last, wherever encoding is. */
        const int64_t n_beat = b.n;
        for (int64_t n_end = n_beat; n_end >= 1; n_end -= (n_beat + 3) / 4) {
            b = (beats){0, n_end};
            ck_assert_int_eq(shoal_tokenizer_encode(t, &ids, &n, text, N_BYTES, false, &log),
                             SHOAL_INTERRUPTED);
            ck_assert_int_eq(b.n, n_end);
        }
    }
    shoal_tokenizer_set_pulse(t, (shoal_pulse){NULL, NULL});
    free(text);
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(a_missing_folder_is_missing_input)
{
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_int_eq(shoal_tokenizer_open(&t, "/nonexistent/shoal", &log), SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(log.error, "/nonexistent/shoal/tokenizer.json"));
    ck_assert_ptr_null(t);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, deepseek_v3);
    SHOAL_TEST(suite, qwen3);
    SHOAL_TEST(suite, gptoss);
    SHOAL_TEST(suite, demo_prompts_and_answers);
    SHOAL_TEST(suite, demo_edge_cases);
    SHOAL_TEST(suite, every_component);
    SHOAL_TEST(suite, merges_in_both_forms_are_equal);
    SHOAL_TEST(suite, a_prompt_begins_as_configured);
    SHOAL_TEST(suite, end_tokens_come_from_all_files);
    SHOAL_TEST(suite, bad_configurations_name_their_file);
    SHOAL_TEST(suite, text_that_is_no_utf8_is_refused);
    SHOAL_TEST(suite, ids_outside_the_vocabulary);
    SHOAL_TEST(suite, a_decoder_begins_anew_after_a_flush);
    SHOAL_TEST(suite, a_long_text_beats_the_pulse);
    SHOAL_TEST(suite, a_missing_folder_is_missing_input);
}

SHOAL_TEST_MAIN("text.tokenizer", add_tests)
