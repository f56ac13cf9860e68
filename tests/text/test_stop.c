#include "runtime/text/stop.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STRING = 6, MAX_TEXT = 64 };

static shoal_log quiet_log(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    return log;
}

static shoal_stop *open_stop(const char *const *strings, size_t n)
{
    shoal_stop *stop = NULL;
    shoal_log log = quiet_log();
    size_t n_bytes[MAX_STRING];
    for (size_t i = 0; i < n; i++)
        n_bytes[i] = strlen(strings[i]);
    ck_assert_msg(shoal_stop_open(&stop, strings, n_bytes, n, &log) == SHOAL_OK, "%s", log.error);
    return stop;
}

/* What is kept of text[0, n), looked up the slow way: at every end, the longest string that ends
 * there. */
static size_t kept(bool *found, const char *text, size_t n, const char *const *strings,
                   size_t n_string)
{
    *found = true;
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_string; i++) {
            size_t n_bytes = strlen(strings[i]);
            if (n_bytes <= end && n_bytes > longest &&
                memcmp(text + end - n_bytes, strings[i], n_bytes) == 0)
                longest = n_bytes;
        }
        if (longest > 0)
            return end - longest;
    }
    *found = false;
    return n;
}

/* The longest end of text[0, n) that begins a string and is none. */
static size_t held(const char *text, size_t n, const char *const *strings, size_t n_string)
{
    size_t longest = 0;
    for (size_t i = 0; i < n_string; i++)
        for (size_t k = 1; k < strlen(strings[i]) && k <= n; k++)
            if (memcmp(text + n - k, strings[i], k) == 0 && k > longest)
                longest = k;
    return longest;
}

/* One text, cut behind byte i where bit i of `cuts` is set. */
static void check_split(const char *text, size_t n, uint64_t cuts, const char *const *strings,
                        size_t n_string)
{
    bool wanted_found;
    size_t n_wanted = kept(&wanted_found, text, n, strings, n_string);
    shoal_stop *stop = open_stop(strings, n_string);
    shoal_log log = quiet_log();
    char got[MAX_TEXT];
    size_t n_got = 0;
    bool found = false;
    const char *piece;
    size_t n_piece;
    for (size_t begin = 0, end = 1; end <= n && !found; end++) {
        if (end < n && (cuts >> (end - 1) & 1) == 0)
            continue;
        ck_assert_int_eq(
            shoal_stop_feed(stop, &piece, &n_piece, &found, text + begin, end - begin, &log),
            SHOAL_OK);
        memcpy(got + n_got, piece, n_piece);
        n_got += n_piece;
        begin = end;
        if (!found) /* nothing is held back longer than it must be */
            ck_assert_uint_eq(n_got, end - held(text, end, strings, n_string));
    }
    ck_assert_int_eq(found, wanted_found);
    shoal_stop_flush(stop, &piece, &n_piece);
    memcpy(got + n_got, piece, n_piece);
    n_got += n_piece;
    ck_assert_msg(n_got == n_wanted && memcmp(got, text, n_got) == 0, "'%.*s', cuts %llx: '%.*s'",
                  (int)n, text, (unsigned long long)cuts, (int)n_got, got);
    shoal_stop_flush(stop, &piece, &n_piece);
    ck_assert_uint_eq(n_piece, 0);
    shoal_stop_close(stop);
}

START_TEST(every_split_of_a_text)
{
    static const struct {
        const char *text;
        const char *strings[MAX_STRING];
    } cases[] = {
        {"hello world", {"wor"}},
        {"hello world", {"hello"}},
        {"hello world", {"d"}},
        {"hello worl", {"world"}}, /* held to the end */
        {"aaaaaab", {"aaab"}},
        {"ababac", {"abac"}},
        {"abcabcabd", {"abcabd"}},
        {"xabcdy", {"abcd", "bc"}}, /* the first that is complete, not the first that began */
        {"xabcy", {"bc", "abc"}},   /* both at once: the longer */
        {"a\n\nUser:", {"\n\nUser:", "\nUser:", "User:"}},
        {"a\nb\n\nc", {"\n\n"}},
        {"na\xc3\xafve \xe6\xbc\xa2", {"\xe6\xbc\xa2"}},
        {"na\xc3\xafve \xe6\xbc\xa3", {"\xe6\xbc\xa2", "\xc3\xa9"}},
        {"nothing", {NULL}},
        {"", {"x"}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t n = strlen(cases[c].text);
        size_t n_string = 0;
        while (cases[c].strings[n_string] != NULL)
            n_string++;
        for (uint64_t cuts = 0; cuts < (uint64_t)1 << (n > 1 ? n - 1 : 0); cuts++)
            check_split(cases[c].text, n, cuts, cases[c].strings, n_string);
    }
}
END_TEST

/* Short alphabets make strings that overlap themselves and each other. */
START_TEST(many_small_texts)
{
    uint32_t state = 7;
    for (int32_t round = 0; round < 4000; round++) {
        char text[16], strings[3][5];
        const char *pointers[3] = {strings[0], strings[1], strings[2]};
        for (size_t i = 0; i < 15; i++) {
            state = state * 1664525u + 1013904223u;
            text[i] = (char)('a' + (state >> 24) % 2);
        }
        for (size_t s = 0; s < 3; s++) {
            state = state * 1664525u + 1013904223u;
            size_t n = 1 + (state >> 20) % 4;
            for (size_t i = 0; i < n; i++)
                strings[s][i] = (char)('a' + (state >> (8 + i)) % 3);
            strings[s][n] = '\0';
        }
        check_split(text, 15, (uint64_t)state << 3, pointers, 1 + (size_t)round % 3);
    }
}
END_TEST

START_TEST(a_zero_byte_is_a_byte)
{
    const char *strings[] = {"\0end"};
    size_t n_bytes[] = {4};
    shoal_stop *stop = NULL;
    shoal_log log = quiet_log();
    ck_assert_int_eq(shoal_stop_open(&stop, strings, n_bytes, 1, &log), SHOAL_OK);
    const char *text;
    size_t n;
    bool found;
    ck_assert_int_eq(shoal_stop_feed(stop, &text, &n, &found, "a\0b\0end", 7, &log), SHOAL_OK);
    ck_assert(found);
    ck_assert_uint_eq(n, 3);
    ck_assert_mem_eq(text, "a\0b", 3);
    shoal_stop_close(stop);
    shoal_stop_close(NULL);
}
END_TEST

START_TEST(what_is_no_stop_string)
{
    static const struct {
        const char *text;
        size_t n;
        const char *said;
    } bad[] = {{"", 0, "empty"}, {"a\xff", 2, "byte 1"}, {"\xc3", 1, "byte 0"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *strings[] = {"fine", bad[i].text};
        size_t n_bytes[] = {4, bad[i].n};
        shoal_stop *stop = NULL;
        shoal_log log = quiet_log();
        ck_assert_int_eq(shoal_stop_open(&stop, strings, n_bytes, 2, &log), SHOAL_BAD_DATA);
        ck_assert_ptr_null(stop);
        ck_assert_msg(strstr(log.error, bad[i].said) != NULL, "%s", log.error);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, every_split_of_a_text);
    SHOAL_TEST(suite, many_small_texts);
    SHOAL_TEST(suite, a_zero_byte_is_a_byte);
    SHOAL_TEST(suite, what_is_no_stop_string);
}

SHOAL_TEST_MAIN("text.stop", add_tests)
