#include "launcher/progress.h"
#include "launcher/report.h"
#include "tests/support/check_main.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Run the same progress on `out`. */
static void report(FILE *out, bool shown, shoal_log_level level)
{
    shoal_log log;
    shoal_log_init(&log, out, 0, "test");
    log.level = level;
    shoal_progress progress;
    shoal_progress_init(&progress, shown, &log);
    for (int64_t i = 1; i <= 50; i++)
        shoal_progress_load(&progress, i, 50, (uint64_t)i * 1000, 50000);
    shoal_progress_finish(&progress, "loaded");
    fflush(out);
}

static size_t read_all(char text[4096], FILE *file)
{
    rewind(file);
    size_t n = fread(text, 1, 4095, file);
    text[n] = '\0';
    return n;
}

START_TEST(a_file_gets_one_line)
{
    char text[4096];
    FILE *file = tmpfile();
    report(file, true, SHOAL_LOG_INFO);
    read_all(text, file);
    ck_assert_ptr_nonnull(
        strstr(text, "[0 test] info: loaded: 50 of 50 tensors, 50.0 kB of 50.0 kB"));
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    ck_assert_ptr_null(strchr(text, '\r'));
    fclose(file);
}
END_TEST

START_TEST(other_ranks_and_quiet_runs_say_nothing)
{
    char text[4096];
    FILE *file = tmpfile();
    report(file, false, SHOAL_LOG_INFO);
    report(file, true, SHOAL_LOG_WARN);
    ck_assert_uint_eq(read_all(text, file), 0);
    fclose(file);
}
END_TEST

START_TEST(a_terminal_gets_a_line_that_is_redrawn)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0)
        return; /* no pseudo-terminals here */
    FILE *out = fopen(ptsname(terminal), "w");
    ck_assert_ptr_nonnull(out);
    report(out, true, SHOAL_LOG_INFO);
    char text[4096];
    size_t n_text = 0;
    text[0] = '\0';
    while (strchr(text, '\n') == NULL) { /* a terminal hands out what it has */
        ssize_t n = read(terminal, text + n_text, sizeof text - 1 - n_text);
        ck_assert_int_gt(n, 0);
        n_text += (size_t)n;
        text[n_text] = '\0';
    }
    ck_assert_ptr_nonnull(strstr(text, "\r\033[K1 of 50 tensors"));
    ck_assert_ptr_nonnull(strstr(text, "info: loaded: 50 of 50"));
    fclose(out);
    close(terminal);
}
END_TEST

START_TEST(nothing_done_is_nothing_said)
{
    char text[4096];
    FILE *file = tmpfile();
    shoal_log log;
    shoal_log_init(&log, file, 0, "test");
    shoal_progress progress;
    shoal_progress_init(&progress, true, &log);
    shoal_progress_finish(&progress, "loaded");
    fflush(file);
    ck_assert_uint_eq(read_all(text, file), 0);
    fclose(file);
}
END_TEST

START_TEST(bytes_are_written_for_people)
{
    char text[SHOAL_BYTES_TEXT];
    ck_assert_str_eq(shoal_bytes_text(text, 0), "0 B");
    ck_assert_str_eq(shoal_bytes_text(text, 999), "999 B");
    ck_assert_str_eq(shoal_bytes_text(text, 1000), "1.00 kB");
    ck_assert_str_eq(shoal_bytes_text(text, 12345678), "12.3 MB");
    ck_assert_str_eq(shoal_bytes_text(text, 999990000), "1.00 GB");
    ck_assert_str_eq(shoal_bytes_text(text, 700000000000), "700.0 GB");
    ck_assert_str_eq(shoal_bytes_text(text, UINT64_MAX), "18.4 EB");
}
END_TEST

START_TEST(speeds_follow_their_formulas)
{
    shoal_event done = {.submitted_us = 1000000,
                        .first_token_us = 3000000,
                        .done_us = 7000000,
                        .n_prompt = 10,
                        .n_generated = 9};
    shoal_speeds v = shoal_speeds_of(&done);
    ck_assert_double_eq(v.prefill_tok_per_s, 5);
    ck_assert_double_eq(v.decode_tok_per_s, 2);
    done.n_generated = 1;
    ck_assert_double_eq(shoal_speeds_of(&done).decode_tok_per_s, 0);
    done.first_token_us = 0; /* ended at once: no token came */
    done.n_generated = 0;
    v = shoal_speeds_of(&done);
    ck_assert_int_eq(v.prefill_us, 6000000);
    ck_assert_double_eq(v.decode_tok_per_s, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, a_file_gets_one_line);
    SHOAL_TEST(suite, other_ranks_and_quiet_runs_say_nothing);
    SHOAL_TEST(suite, a_terminal_gets_a_line_that_is_redrawn);
    SHOAL_TEST(suite, nothing_done_is_nothing_said);
    SHOAL_TEST(suite, bytes_are_written_for_people);
    SHOAL_TEST(suite, speeds_follow_their_formulas);
}

SHOAL_TEST_MAIN("launcher.progress", add_tests)
