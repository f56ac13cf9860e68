#include "tests/text/text_fixture.h"

/* Replaces the member at a path such as "model.vocab" by JSON text; NULL takes it away (null does
 * not: many members may be null). */
static shoal_json *mutated(const char *path, const char *json)
{
    shoal_json *doc = base_tokenizer();
    const char *dot = strchr(path, '.');
    if (strcmp(path, "") == 0) {
        shoal_json_close(doc);
        return parse_json(json);
    }
    if (dot == NULL) {
        shoal_json_set(doc, path, parse_json(json));
        return doc;
    }
    char outer[32];
    snprintf(outer, sizeof outer, "%.*s", (int)(dot - path), path);
    shoal_json *inner = shoal_json_copy(shoal_json_get(doc, outer));
    shoal_json_set(inner, dot + 1, parse_json(json));
    shoal_json_set(doc, outer, inner);
    return doc;
}

/* Path, what stands there, and what the message must name. In strings ' stands for ". */
static const struct {
    const char *path;
    const char *json;
    const char *wanted;
} mutations[] = {
    {"", "[]", "object"},
    {"", "{}", "model"},
    {"", "3", "object"},
    {"version", "'2.0'", "version"},
    {"model", "[]", "model"},
    {"model", "null", "model"},
    {"model.type", "'WordPiece'", "supported: BPE"},
    {"model.type", "7", "model.type"},
    {"model.vocab", "[]", "model.vocab"},
    {"model.vocab", "{}", "model.vocab"},
    {"model.vocab", "{'a': 'x'}", "model.vocab"},
    {"model.vocab", "{'a': 1.5}", "model.vocab"},
    {"model.vocab", "{'a': -1}", "model.vocab"},
    {"model.vocab", "{'a': 10000000}", "model.vocab"},
    {"model.vocab", "{'a': 9223372036854775807}", "model.vocab"},
    {"model.vocab", "{'a': 1, 'b': 1}", "id 1"},
    {"model.vocab", "{'a': 1}", "model.merges[0]"},
    {"model.merges", "{}", "model.merges"},
    {"model.merges", "null", "model.merges"},
    {"model.merges", "['a']", "model.merges[0]"},
    {"model.merges", "['a b c']", "model.merges[0]"},
    {"model.merges", "['']", "model.merges[0]"},
    {"model.merges", "['a ']", "model.merges[0]"},
    {"model.merges", "['e r', ['a']]", "model.merges[1]"},
    {"model.merges", "[['a', 'b', 'c']]", "model.merges[0]"},
    {"model.merges", "[['a', 1]]", "model.merges[0]"},
    {"model.merges", "[3]", "model.merges[0]"},
    {"model.merges", "['nothere a']", "nothere"},
    {"model.merges", "['a nothere']", "nothere"},
    {"model.merges", "['z q']", "zq"},
    {"model.dropout", "0.1", "dropout"},
    {"model.dropout", "'x'", "dropout"},
    {"model.unk_token", "'nothere'", "unk_token"},
    {"model.unk_token", "3", "unk_token"},
    {"model.fuse_unk", "1", "fuse_unk"},
    {"model.byte_fallback", "'yes'", "byte_fallback"},
    {"model.ignore_merges", "0", "ignore_merges"},
    {"model.continuing_subword_prefix", "'##'", "continuing_subword_prefix"},
    {"model.end_of_word_suffix", "'</w>'", "end_of_word_suffix"},
    {"added_tokens", "{}", "added_tokens"},
    {"added_tokens", "[3]", "added_tokens[0]"},
    {"added_tokens", "[{'content': 'x'}]", "added_tokens[0]"},
    {"added_tokens", "[{'id': 400}]", "content"},
    {"added_tokens", "[{'id': -4, 'content': '<x>'}]", "added_tokens[0]"},
    {"added_tokens", "[{'id': 99999999, 'content': '<x>'}]", "added_tokens[0]"},
    {"added_tokens", "[{'id': 5, 'content': '<x>'}]", "id 5"},
    {"added_tokens", "[{'id': 400, 'content': 'a'}]", "'a'"},
    {"added_tokens", "[{'id': 400, 'content': '<x>'}, {'id': 401, 'content': '<x>'}]", "<x>"},
    {"added_tokens", "[{'id': 400, 'content': '<x>'}, {'id': 400, 'content': '<y>'}]", "<y>"},
    {"added_tokens", "[{'id': 400, 'content': '<x>', 'special': 1}]", "special"},
    {"added_tokens", "[{'id': 400, 'content': '<x>', 'lstrip': 'no'}]", "lstrip"},
    {"normalizer", "[]", "normalizer"},
    {"normalizer", "{}", "type"},
    {"normalizer", "{'type': 'Lowercase'}", "supported: NFC"},
    {"normalizer", "{'type': 'Sequence'}", "normalizers"},
    {"normalizer", "{'type': 'Sequence', 'normalizers': [{'type': 'Precompiled'}]}",
     "normalizer.normalizers[0]"},
    {"normalizer", "{'type': 'Replace', 'content': 'x'}", "pattern"},
    {"normalizer", "{'type': 'Prepend'}", "prepend"},
    {"pre_tokenizer", "3", "pre_tokenizer"},
    {"pre_tokenizer", "{'type': 'BertPreTokenizer'}", "supported: Split"},
    {"pre_tokenizer", "{'type': 'Split', 'behavior': 'Isolated'}", "pattern"},
    {"pre_tokenizer", "{'type': 'Split', 'behavior': 'Isolated', 'pattern': 'x'}", "pattern"},
    {"pre_tokenizer", "{'type': 'Split', 'behavior': 'Isolated', 'pattern': {'Regex': 3}}",
     "pattern"},
    {"pre_tokenizer",
     "{'type': 'Split', 'behavior': 'Isolated', 'pattern': {'Regex': 'a', 'String': 'a'}}",
     "pattern"},
    {"pre_tokenizer", "{'type': 'Split', 'pattern': {'Regex': 'a'}}", "behavior"},
    {"pre_tokenizer", "{'type': 'Split', 'behavior': 'Any', 'pattern': {'Regex': 'a'}}", "'Any'"},
    {"pre_tokenizer",
     "{'type': 'Split', 'behavior': 'Isolated', 'invert': 1, 'pattern': {'Regex': 'a'}}", "invert"},
    {"pre_tokenizer",
     "{'type': 'Sequence', 'pretokenizers': [{'type': 'ByteLevel'}, {'type': 'Split', "
     "'behavior': 'Isolated', 'pattern': {'Regex': '(a'}}]}",
     "pre_tokenizer.pretokenizers[1]"},
    {"pre_tokenizer", "{'type': 'ByteLevel', 'use_regex': 'x'}", "use_regex"},
    {"pre_tokenizer", "{'type': 'Digits', 'individual_digits': 3}", "individual_digits"},
    {"pre_tokenizer", "{'type': 'Metaspace', 'replacement': 'ab'}", "replacement"},
    {"pre_tokenizer", "{'type': 'Metaspace', 'replacement': '_', 'prepend_scheme': 'x'}",
     "prepend_scheme"},
    {"post_processor", "{'type': 'BertProcessing'}", "supported: ByteLevel"},
    {"post_processor", "{'type': 'TemplateProcessing'}", "single"},
    {"post_processor", "{'type': 'TemplateProcessing', 'single': []}", "Sequence A"},
    {"post_processor", "{'type': 'TemplateProcessing', 'single': ['$A']}", "single[0]"},
    {"post_processor", "{'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'B'}}]}",
     "single[0]"},
    {"post_processor", "{'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'X'}}]}",
     "'X'"},
    {"post_processor",
     "{'type': 'TemplateProcessing', 'single': [{'SpecialToken': {'id': 'X'}}], "
     "'special_tokens': {'X': {'ids': [99999]}}}",
     "'X'"},
    {"decoder", "{'type': 'WordPiece'}", "supported: ByteLevel"},
    {"decoder", "{'type': 'Sequence', 'decoders': {}}", "decoders"},
    {"decoder", "{'type': 'Sequence', 'decoders': [{'type': 'ByteLevel'}, {'type': 'Fuse'}]}",
     "decoder.decoders[1]"},
    {"decoder", "{'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}", "Strip"},
    {"decoder",
     "{'type': 'Sequence', 'decoders': [{'type': 'Fuse'}, {'type': 'Strip', 'content': ' ', "
     "'start': 1, 'stop': 1}]}",
     "stop"},
    {"decoder", "{'type': 'Replace', 'pattern': {'String': '_'}}", "content"},
    {"decoder", "{'type': 'Metaspace'}", "replacement"},
};

START_TEST(every_mutation_is_refused_with_its_place)
{
    for (size_t i = 0; i < sizeof mutations / sizeof mutations[0]; i++) {
        char json[512];
        snprintf(json, sizeof json, "%s", mutations[i].json);
        for (char *c = json; *c != '\0'; c++)
            if (*c == '\'')
                *c = '"';
        shoal_json *doc = mutated(mutations[i].path, json);
        shoal_tokenizer *t = NULL;
        shoal_log log = quiet_log();
        shoal_status status = open_json(&t, doc, &log);
        ck_assert_msg(status == SHOAL_BAD_DATA, "%s = %s gave %d", mutations[i].path, json,
                      (int)status);
        ck_assert_ptr_null(t);
        ck_assert_msg(strstr(log.error, "tokenizer.json: ") != NULL, "%s", log.error);
        ck_assert_msg(strstr(log.error, mutations[i].wanted) != NULL, "%s = %s: %s",
                      mutations[i].path, json, log.error);
        shoal_json_close(doc);
    }
}
END_TEST

START_TEST(odd_but_valid_files_are_read)
{
    static const struct {
        const char *path;
        const char *json;
    } good[] = {
        {"added_tokens", "[{'id': 5000, 'content': '<far>'}]"}, /* ids with gaps */
        {"added_tokens", "[{'id': 400, 'content': ''}]"},
        {"added_tokens", "[{'id': 400, 'content': '<x>'}, {'id': 400, 'content': '<x>'}]"},
        {"added_tokens", "null"},
        {"truncation", "{'max_length': 5}"},
        {"padding", "{'strategy': 'BatchLongest'}"},
        {"model.dropout", "0.0"},
        {"model.merges", "[]"},
        {"model.merges", "['e r', 'e r']"},
        {"model.unk_token", "''"},
        {"normalizer", "{'type': 'Sequence', 'normalizers': []}"},
        {"decoder", "null"},
        {"pre_tokenizer", "null"},
        {"something_new", "3"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char json[256];
        snprintf(json, sizeof json, "%s", good[i].json);
        for (char *c = json; *c != '\0'; c++)
            if (*c == '\'')
                *c = '"';
        shoal_json *doc = mutated(good[i].path, json);
        shoal_tokenizer *t = NULL;
        shoal_log log = quiet_log();
        ck_assert_msg(open_json(&t, doc, &log) == SHOAL_OK, "%s = %s: %s", good[i].path, json,
                      log.error);
        shoal_tokenizer_close(t);
        shoal_json_close(doc);
    }
}
END_TEST

/* A tokenizer that opens in spite of its damage must also work. */
static void use(shoal_tokenizer *t)
{
    static const char text[] =
        "The <|x|>caf\xc3\xa9 had 1234 e\xcc\x81 \xf0\x9f\x91\x8d\n\n  x = y;";
    shoal_log log = quiet_log();
    int32_t *ids = NULL;
    size_t n;
    if (shoal_tokenizer_encode_prompt(t, &ids, &n, text, sizeof text, &log) == SHOAL_OK) {
        char *back = NULL;
        size_t n_back;
        ck_assert_int_eq(shoal_tokenizer_decode(t, &back, &n_back, ids, n, true, &log), SHOAL_OK);
        ck_assert_uint_eq(shoal__utf8_valid(back, n_back), n_back);
        free(back);
        free(ids);
    }
    shoal_tokenizer_close(t);
}

/* Changes single bytes of a file that has one of everything, and cuts it off. */
START_TEST(random_damage_never_crashes)
{
    char *list = read_source("tests/text/cases/parts.jsonl");
    uint64_t random = 0x2545f4914f6cdd1dull;
    size_t n_opened = 0;
    size_t n_refused = 0;
    size_t line_number = 0;
    for (char *line = strtok(list, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (line_number++ % 6 != 0)
            continue;
        shoal_json *parsed = parse_json(line);
        shoal_json *doc = shoal_json_copy(shoal_json_get(parsed, "parts"));
        shoal_json_set(doc, "model",
                       base_model(shoal_json_string(shoal_json_get(parsed, "model"), NULL)));
        char *text = shoal_json_dump(doc);
        size_t n = strlen(text);
        for (size_t round = 0; round < 60; round++) {
            char *copy = malloc(n + 1);
            ck_assert_ptr_nonnull(copy);
            memcpy(copy, text, n + 1);
            for (size_t k = 0; k <= round % 3; k++) {
                random = random * 6364136223846793005ull + 1442695040888963407ull;
                size_t at = (size_t)(random >> 20) % n;
                if (round % 2 == 0) /* near the small parts, which come first */
                    at %= 600;
                copy[at] = (char)(round % 4 == 0 ? "\"\\{}[]:,09aue-"[(random >> 56) % 15]
                                                 : (char)(random >> 56));
            }
            char folder[64];
            make_folder(folder);
            write_file(folder, "tokenizer.json", copy, round % 20 == 19 ? n * round / 60 : n);
            shoal_tokenizer *t = NULL;
            shoal_log log = quiet_log();
            shoal_status status = shoal_tokenizer_open(&t, folder, &log);
            remove_folder(folder);
            ck_assert_msg(status == SHOAL_OK || status == SHOAL_BAD_DATA, "%d: %s", (int)status,
                          log.error);
            ck_assert(status == SHOAL_OK || log.error[0] != '\0');
            n_opened += status == SHOAL_OK;
            n_refused += status != SHOAL_OK;
            if (status == SHOAL_OK)
                use(t);
            free(copy);
        }
        free(text);
        shoal_json_close(doc);
        shoal_json_close(parsed);
    }
    free(list);
    ck_assert_uint_gt(n_opened, 20);
    ck_assert_uint_gt(n_refused, 200);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, every_mutation_is_refused_with_its_place);
    SHOAL_TEST(suite, odd_but_valid_files_are_read);
    SHOAL_TEST(suite, random_damage_never_crashes);
}

SHOAL_TEST_MAIN("text.malformed", add_tests)
