#include "tests/text/text_fixture.h"

/* NFC of text must be `wanted`. */
static void check_nfc(const char *text, size_t n, const char *wanted, size_t n_wanted)
{
    shoal__normalizer nfc = {.step = {{.kind = SHOAL__NORMAL_NFC}}, .n_step = 1};
    shoal__bytes out = {0};
    shoal__bytes scratch = {0};
    shoal_log log = quiet_log();
    ck_assert_int_eq(shoal__normalize(&out, &scratch, &nfc, text, n, &log), SHOAL_OK);
    ck_assert_uint_eq(out.n, n_wanted);
    ck_assert_mem_eq(out.data, wanted, n_wanted);
    free(out.data);
    free(scratch.data);
}

START_TEST(nfc_composes_and_orders)
{
    static const char *const pairs[][2] = {
        {"plain ascii\n", "plain ascii\n"},
        {"e\xcc\x81", "\xc3\xa9"},
        {"\xe2\x84\xab", "\xc3\x85"},                             /* Angstrom sign */
        {"q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"},               /* order by class */
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, /* Hangul */
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},             /* excluded from composing */
        {"\xcc\x81", "\xcc\x81"},                                 /* a mark alone */
        {"a\xcc\xa3\xcc\x81\xcc\x81", "\xe1\xba\xa1\xcc\x81\xcc\x81"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        check_nfc(pairs[i][0], strlen(pairs[i][0]), pairs[i][1], strlen(pairs[i][1]));
    check_nfc("", 0, "", 0);
    check_nfc("\0e\xcc\x81\0", 5, "\0\xc3\xa9\0", 4);
}
END_TEST

/* Swapping neighbours until they are in order would take 10^11 steps here. */
START_TEST(long_runs_of_marks_are_ordered_in_linear_time)
{
    const size_t half = (size_t)1 << 18;
    char *text = malloc(4 * half);
    char *wanted = malloc(4 * half);
    ck_assert(text != NULL && wanted != NULL);
    for (size_t i = 0; i < 2 * half; i++) {
        bool first = i < half;
        text[2 * i] = wanted[2 * i] = '\xcc';
        text[2 * i + 1] = first ? '\x81' : '\xa3'; /* class 230, then class 220 */
        wanted[2 * i + 1] = first ? '\xa3' : '\x81';
    }
    check_nfc(text, 4 * half, wanted, 4 * half);
    free(text);
    free(wanted);
}
END_TEST

START_TEST(lossy_reading_as_in_rust)
{
    static const struct {
        const char *bytes;
        const char *wanted; /* ? stands for U+FFFD */
    } cases[] = {
        {"ok \xc3\xa9", "ok \xc3\xa9"},
        {"\xff", "?"},
        {"a\xe6\xbc", "a?"}, /* a begin that could go on: one */
        {"a\xe6\xbcz", "a?z"},
        {"\xe6\xbc\xe6\xbc\xa2", "?\xe6\xbc\xa2"},
        {"\xed\xa0\x80", "???"}, /* a surrogate is three wrong bytes */
        {"\xf0\x9f\x98", "?"},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", "?\xf0\x9f\x98\x80"},
        {"\xc0\xaf", "??"},
        {"\x80\x80", "??"},
        {"\xf4\x90\x80", "???"},
        {"\xe0\x80", "??"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shoal__bytes out = {0};
        shoal__bytes wanted = {0};
        shoal__utf8_reader reader = {.n_held = 0};
        shoal_log log = quiet_log();
        for (const char *c = cases[i].bytes; *c != '\0'; c++) { /* byte by byte */
            ck_assert_int_eq(shoal__utf8_read(&out, &reader, c, 1, &log), SHOAL_OK);
            ck_assert_uint_eq(shoal__utf8_valid(out.data, out.n), out.n);
        }
        ck_assert_int_eq(shoal__utf8_end(&out, &reader, &log), SHOAL_OK);
        for (const char *c = cases[i].wanted; *c != '\0'; c++)
            shoal__bytes_append(&wanted, *c == '?' ? SHOAL__REPLACEMENT : c, *c == '?' ? 3 : 1,
                                &log);
        ck_assert_msg(out.n == wanted.n && memcmp(out.data, wanted.data, out.n) == 0, "case %zu",
                      i);
        free(out.data);
        free(wanted.data);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, nfc_composes_and_orders);
    SHOAL_TEST(suite, long_runs_of_marks_are_ordered_in_linear_time);
    SHOAL_TEST(suite, lossy_reading_as_in_rust);
}

SHOAL_TEST_MAIN("text.normalize", add_tests)
