/* Patterns that Oniguruma and PCRE2 read differently. What they match is compared with the library
 * in test_tokenizer.c (cases/parts.jsonl); here is what is refused, and that nothing crashes. */
#include "tests/text/text_fixture.h"

static shoal_status compile(const char *pattern, size_t n, shoal_log *log)
{
    shoal__regex *regex = NULL;
    shoal_status status = shoal__regex_open(&regex, pattern, n, false, "a.json: place", log);
    ck_assert_int_eq(status == SHOAL_OK, regex != NULL);
    shoal__regex_close(regex);
    return status;
}

START_TEST(what_cannot_be_rewritten_is_refused_by_place)
{
    static const char *const patterns[] = {
        "(",
        ")",
        "[a",
        "[",
        "[^",
        "[]",
        "\\",
        "a**b[",
        "\\p",
        "\\p{",
        "\\p{}",
        "\\p{L",
        "\\p{Foo}",
        "\\p{alnum}",
        "\\p{Punct}",
        "\\pL",
        "\\x{}",
        "\\x{110000}",
        "\\x{zz}",
        "\\u12",
        "\\xe9",
        "\\x",
        "[[:alpha:]]",
        "[\\W]",
        "[\\H]",
        "\\1",
        "\\k<a>",
        "\\Qa\\E",
        "\\yx",
        "\\ca",
        "(?x) a",
        "a(?i)b",
        "(?i:\xc3\x9f)",
        "(?i:ss)",
        "(?P<n>a)",
        "(?#c)",
        "(*FAIL)",
        "(?~ab)",
        "a{1,2}+",
        "a{2}?",
        "(?<=a+)b",
        "[z-a]",
        "[a&&[b]",
        "+",
        "(?<n",
        "\\p{L}\\p{!}",
        "a{3,2}",
        "\\g<1>",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        shoal_log log = quiet_log();
        shoal_status status = compile(patterns[i], strlen(patterns[i]), &log);
        ck_assert_msg(status == SHOAL_BAD_DATA, "'%s' gave %d", patterns[i], (int)status);
        ck_assert_msg(strstr(log.error, "a.json: place: the pattern") != NULL, "%s", log.error);
    }
}
END_TEST

START_TEST(patterns_of_real_tokenizers_are_read)
{
    static const char *const patterns[] = {
        ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
         "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
        "[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}?",
        "[\\p{Han}]+|[\\p{Lu}\\p{Lt}&&[^\\p{Han}]]*",
        "'(?i:[sdmt]|ll|ve|re)|\\s++$",
        "[^(\\s|[.,!?\xe2\x80\xa6\xe3\x80\x82\xef\xbc\x8c])]+",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        shoal_log log = quiet_log();
        ck_assert_msg(compile(patterns[i], strlen(patterns[i]), &log) == SHOAL_OK, "%s: %s",
                      patterns[i], log.error);
    }
}
END_TEST

/* Every string over the characters that mean something, up to a length, and some random longer
 * ones: each is read or refused. */
START_TEST(no_pattern_crashes)
{
    static const char letters[] = "a\\[](){}^-&?*+|.:<=!,0pPsSuxiWHLM \xc3";
    const size_t n_letter = sizeof letters - 1;
    uint64_t random = 88172645463325252ull;
    size_t n_good = 0;
    for (size_t i = 0; i < 60000; i++) {
        char pattern[24];
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t n = 1 + (random >> 33) % 12;
        uint64_t bits = random * 0x9e3779b97f4a7c15ull;
        for (size_t k = 0; k < n; k++) {
            bits = bits * 6364136223846793005ull + 1442695040888963407ull;
            pattern[k] = letters[(bits >> 33) % (k + 1 < n ? n_letter : n_letter - 1)];
            if (pattern[k] == '\xc3') /* keep it UTF-8, as JSON does */
                pattern[++k] = '\xa9';
        }
        pattern[n] = '\0';
        if (shoal__utf8_valid(pattern, n) < n)
            continue;
        shoal_log log = quiet_log();
        n_good += compile(pattern, n, &log) == SHOAL_OK;
    }
    ck_assert_uint_gt(n_good, 1000);
}
END_TEST

START_TEST(endless_backtracking_is_an_error)
{
    shoal__regex *regex = NULL;
    shoal_log log = quiet_log();
    const char *pattern = "^(?:a|aa)+$";
    ck_assert_int_eq(
        shoal__regex_open(&regex, pattern, strlen(pattern), false, "a.json: place", &log),
        SHOAL_OK);
    char text[200];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    bool found;
    shoal__span match;
    ck_assert_int_eq(shoal__regex_find(&found, &match, regex, text, 0, sizeof text, &log),
                     SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log.error, "a.json: place"));
    shoal__regex_close(regex);
}
END_TEST

START_TEST(deep_recursion_does_not_end_the_stack)
{
    shoal__regex *regex = NULL;
    shoal_log log = quiet_log();
    ck_assert_int_eq(shoal__regex_open(&regex, "(?:x|(a|b)y?)+", 14, false, "place", &log),
                     SHOAL_OK);
    const size_t n = (size_t)1 << 20;
    char *text = malloc(n);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a', n);
    bool found = false;
    shoal__span match = {0, 0, false};
    shoal_status status = shoal__regex_find(&found, &match, regex, text, 0, n, &log);
    ck_assert(status == SHOAL_OK || status == SHOAL_BAD_DATA);
    if (status == SHOAL_OK)
        ck_assert(found && match.begin == 0 && match.end == n);
    free(text);
    shoal__regex_close(regex);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, what_cannot_be_rewritten_is_refused_by_place);
    SHOAL_TEST(suite, patterns_of_real_tokenizers_are_read);
    SHOAL_TEST(suite, no_pattern_crashes);
    SHOAL_TEST(suite, endless_backtracking_is_an_error);
    SHOAL_TEST(suite, deep_recursion_does_not_end_the_stack);
}

SHOAL_TEST_MAIN("text.regex", add_tests)
