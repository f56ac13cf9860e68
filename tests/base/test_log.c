/* Statuses, log lines, clock and hash. */
#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "tests/support/check_main.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A log that writes into `text`. */
typedef struct log_fixture {
    shoal_log log;
    FILE *out;
    char *text;
    size_t n;
} log_fixture;

static void fixture_open(log_fixture *f)
{
    f->out = open_memstream(&f->text, &f->n);
    ck_assert_ptr_nonnull(f->out);
    shoal_log_init(&f->log, f->out, 3, "node7");
}

static void fixture_close(log_fixture *f)
{
    fclose(f->out);
    free(f->text);
}

START_TEST(status_texts_and_codes)
{
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_OK), 0);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_FAILED), 1);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_USAGE), 2);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_BAD_DATA), 65);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_NO_INPUT), 66);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_UNAVAILABLE), 69);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_PEER_LOST), 75);
    ck_assert_int_eq(shoal_status_exit_code(SHOAL_INTERRUPTED), 75);
    ck_assert_int_eq(shoal_status_exit_code((shoal_status)99), 1);
    ck_assert_str_eq(shoal_status_text(SHOAL_BAD_DATA), "bad input data");
    ck_assert_ptr_nonnull(shoal_status_text((shoal_status)99));
}
END_TEST

START_TEST(lines_have_the_binding_form)
{
    log_fixture f;
    fixture_open(&f);
    shoal_log_debug(&f.log, "below the level");
    shoal_log_info(&f.log, "loaded %d tensors", 12);
    shoal_log_warn(&f.log, "slow");
    ck_assert_str_eq(f.text, "[3 node7] info: loaded 12 tensors\n[3 node7] warning: slow\n");
    ck_assert_str_eq(f.log.error, "");
    fixture_close(&f);
}
END_TEST

START_TEST(fail_logs_once_and_keeps_the_text)
{
    log_fixture f;
    fixture_open(&f);
    ck_assert_int_eq(shoal_fail(&f.log, SHOAL_BAD_DATA, "tensor %s: bad", "x"), SHOAL_BAD_DATA);
    ck_assert_str_eq(f.log.error, "tensor x: bad");
    ck_assert_str_eq(f.text, "[3 node7] error: tensor x: bad\n");
    /* the last error may be an argument of the next */
    ck_assert_int_eq(shoal_fail(&f.log, SHOAL_IO, "line 4: %s", f.log.error), SHOAL_IO);
    ck_assert_str_eq(f.log.error, "line 4: tensor x: bad");
    fixture_close(&f);
}
END_TEST

START_TEST(capture_keeps_but_does_not_write)
{
    log_fixture f;
    fixture_open(&f);
    f.log.capture = true;
    ck_assert_int_eq(shoal_fail(&f.log, SHOAL_BAD_DATA, "quiet"), SHOAL_BAD_DATA);
    ck_assert_str_eq(f.log.error, "quiet");
    fflush(f.out);
    ck_assert_uint_eq(f.n, 0);
    fixture_close(&f);
    shoal_log silent;
    shoal_log_init(&silent, NULL, 0, NULL);
    ck_assert_int_eq(shoal_fail(&silent, SHOAL_IO, "kept"), SHOAL_IO);
    ck_assert_str_eq(silent.error, "kept");
    shoal_log_warn(&silent, "nowhere");
}
END_TEST

START_TEST(one_call_is_one_line_and_no_escapes)
{
    log_fixture f;
    fixture_open(&f);
    shoal_fail(&f.log, SHOAL_BAD_DATA, "name a\nb\x1b[31m\x7f and \xc3\xa9");
    ck_assert_str_eq(f.text, "[3 node7] error: name a?b?[31m? and \xc3\xa9\n");
    fixture_close(&f);
}
END_TEST

START_TEST(long_texts_and_hosts_are_cut)
{
    log_fixture f;
    fixture_open(&f);
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    shoal_log_init(&f.log, f.out, 0, text);
    ck_assert_uint_eq(strlen(f.log.host), 63);
    shoal_fail(&f.log, SHOAL_FAILED, "%s", text);
    ck_assert_uint_eq(strlen(f.log.error), 1023);
    ck_assert_str_eq(f.log.error + 1020, "...");
    ck_assert_int_eq(f.text[f.n - 1], '\n');
    fixture_close(&f);
}
END_TEST

/* A datagram socket keeps the borders between writes. */
START_TEST(a_line_is_one_write)
{
    int fd[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    FILE *out = fdopen(fd[0], "w");
    setvbuf(out, NULL, _IONBF, 0); /* as stderr is */
    shoal_log log;
    shoal_log_init(&log, out, 12, "h");
    shoal_log_info(&log, "first %s", "line");
    shoal_log_info(&log, "second");
    char text[256];
    ssize_t n = read(fd[1], text, sizeof text);
    ck_assert_int_eq(n, (int)strlen("[12 h] info: first line\n"));
    ck_assert_int_eq(memcmp(text, "[12 h] info: first line\n", (size_t)n), 0);
    fclose(out);
    close(fd[1]);
}
END_TEST

START_TEST(hash_is_fnv1a)
{
    ck_assert_uint_eq(shoal_hash(SHOAL_HASH_INIT, "", 0), 0xcbf29ce484222325ull);
    ck_assert_uint_eq(shoal_hash(SHOAL_HASH_INIT, "a", 1), 0xaf63dc4c8601ec8cull);
    ck_assert_uint_eq(shoal_hash(SHOAL_HASH_INIT, "foobar", 6), 0x85944171f73967e8ull);
    uint64_t part = shoal_hash(SHOAL_HASH_INIT, "foo", 3);
    ck_assert_uint_eq(shoal_hash(part, "bar", 3), 0x85944171f73967e8ull);
}
END_TEST

START_TEST(clock_does_not_go_back)
{
    int64_t before_us = shoal_clock_us();
    usleep(2000);
    ck_assert_int_ge(shoal_clock_us() - before_us, 2000);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, status_texts_and_codes);
    SHOAL_TEST(suite, lines_have_the_binding_form);
    SHOAL_TEST(suite, fail_logs_once_and_keeps_the_text);
    SHOAL_TEST(suite, capture_keeps_but_does_not_write);
    SHOAL_TEST(suite, one_call_is_one_line_and_no_escapes);
    SHOAL_TEST(suite, long_texts_and_hosts_are_cut);
    SHOAL_TEST(suite, a_line_is_one_write);
    SHOAL_TEST(suite, hash_is_fnv1a);
    SHOAL_TEST(suite, clock_does_not_go_back);
}

SHOAL_TEST_MAIN("base.log", add_tests)
