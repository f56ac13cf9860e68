/* The time of an encoding, counted in steps (moves in the heap, pairs looked up), not measured. */
#include "tests/text/text_fixture.h"

/* model: every power of two of 'a' is a token, so a run of them merges all the way up, and the
 * pattern is one word, whatever the text. */
static shoal_tokenizer *open_powers(void)
{
    enum { n_power = 12 };
    shoal_json *doc = parse_json("{\"decoder\": {\"type\": \"Fuse\"}}");
    shoal_json *model = parse_json("{\"type\": \"BPE\", \"merges\": []}");
    shoal_json *vocab = parse_json("{\"b\": 100, \"ab\": 101, \"ba\": 102}");
    shoal_json *merges = parse_json("[\"a b\", \"b a\"]");
    char run[(1 << n_power) + 1];
    memset(run, 'a', sizeof run - 1);
    run[sizeof run - 1] = '\0';
    for (size_t i = 0; i < n_power; i++) {
        size_t n = (size_t)1 << i;
        char key[sizeof run];
        snprintf(key, sizeof key, "%.*s", (int)n, run);
        shoal_json_set(vocab, key, shoal_json_new_int((int64_t)i));
        if (i + 1 == n_power)
            break;
        shoal_json *pair = shoal_json_new_array();
        shoal_json_append(pair, shoal_json_new_string(run, n));
        shoal_json_append(pair, shoal_json_new_string(run, n));
        shoal_json_append(merges, pair);
    }
    shoal_json_set(model, "vocab", vocab);
    shoal_json_set(model, "merges", merges);
    shoal_json_set(doc, "model", model);
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(open_json(&t, doc, &log) == SHOAL_OK, "%s", log.error);
    shoal_json_close(doc);
    return t;
}

/* Steps to encode `pattern` repeated to n bytes. */
static uint64_t count_steps(shoal_tokenizer *t, const char *pattern, size_t n, size_t *n_id)
{
    size_t n_pattern = strlen(pattern);
    char *text = malloc(n + n_pattern);
    ck_assert_ptr_nonnull(text);
    n -= n % n_pattern;
    for (size_t at = 0; at < n; at++)
        text[at] = pattern[at % n_pattern];
    int32_t *ids = NULL;
    shoal_log log = quiet_log();
    t->scratch.n_step = 0;
    ck_assert_msg(shoal_tokenizer_encode(t, &ids, n_id, text, n, false, &log) == SHOAL_OK, "%s",
                  log.error);
    free(ids);
    free(text);
    return t->scratch.n_step;
}

/* n log2 n, with the constant of about four visits of each symbol. */
static uint64_t bound(size_t n)
{
    uint64_t log2 = 0;
    while (n >> log2 > 1)
        log2++;
    return 4 * (uint64_t)n * (log2 + 1);
}

START_TEST(one_word_of_a_million_letters)
{
    shoal_tokenizer *t = open_powers();
    const size_t n = (size_t)1 << 20;
    size_t n_id;
    uint64_t steps = count_steps(t, "a", n, &n_id);
    ck_assert_uint_eq(n_id, n >> 11); /* the longest token has 2^11 letters */
    ck_assert_uint_gt(steps, n);      /* the count counts */
    ck_assert_uint_le(steps, bound(n));
    static const char *const patterns[] = {"ab", "ba", "aab", "b", "aaaaaaab"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        ck_assert_uint_le(count_steps(t, patterns[i], n / 8, &n_id), bound(n / 8));
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(text_of_any_shape)
{
    char folder[PATH_MAX];
    source_path(folder, "models/demo");
    shoal_tokenizer *t = NULL;
    shoal_log log = quiet_log();
    ck_assert_int_eq(shoal_tokenizer_open(&t, folder, &log), SHOAL_OK);
    static const char *const patterns[] = {
        " ",
        "the ",
        ".",
        "1",
        "\n",
        " \n",
        "<|begin_of_text|>",
        "<|",
        "\xe6\xbc\xa2",
        "e\xcc\x81",
        "a1",
        "_",
        "In the beginning was the Word, and the Word was with God.\n"};
    const size_t n = (size_t)1 << 17;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        size_t n_id;
        uint64_t steps = count_steps(t, patterns[i], n, &n_id);
        ck_assert_msg(steps <= bound(n), "'%s': %llu steps", patterns[i],
                      (unsigned long long)steps);
        ck_assert_uint_gt(n_id, 0);
    }
    shoal_tokenizer_close(t);
}
END_TEST

START_TEST(of_equal_ranks_the_left_one_merges_first)
{
    shoal_tokenizer *t = open_powers();
    int32_t *ids = NULL;
    size_t n;
    shoal_log log = quiet_log();
    ck_assert_int_eq(shoal_tokenizer_encode(t, &ids, &n, "aaaaaaa", 7, false, &log), SHOAL_OK);
    const int32_t wanted[] = {2, 1, 0}; /* aaaa aa a */
    ck_assert_uint_eq(n, 3);
    ck_assert_mem_eq(ids, wanted, sizeof wanted);
    free(ids);
    /* "a b" has a lower rank than "b a" and than "a a". */
    ck_assert_int_eq(shoal_tokenizer_encode(t, &ids, &n, "babaab", 6, false, &log), SHOAL_OK);
    const int32_t mixed[] = {100, 101, 0, 101}; /* b ab a ab */
    ck_assert_uint_eq(n, 4);
    ck_assert_mem_eq(ids, mixed, sizeof mixed);
    free(ids);
    shoal_tokenizer_close(t);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, one_word_of_a_million_letters);
    SHOAL_TEST(suite, text_of_any_shape);
    SHOAL_TEST(suite, of_equal_ranks_the_left_one_merges_first);
}

SHOAL_TEST_MAIN("text.bpe", add_tests)
