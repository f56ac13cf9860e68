#include "launcher/batch_io.h"
#include "tests/support/check_main.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static char path[96];
static shoal_log logger;
static shoal_batch_input input;

static void begin(void)
{
    strcpy(folder, "/tmp/shoal-batch-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/in.jsonl", folder);
    shoal_log_init(&logger, NULL, 0, "test");
}

static void begin_with(const char *content, size_t n_bytes)
{
    begin();
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(content, 1, n_bytes, file), n_bytes);
    fclose(file);
    ck_assert_int_eq(shoal_batch_input_open(&input, path, &logger), SHOAL_OK);
}

static void end(void)
{
    shoal_batch_input_close(&input);
    unlink(path);
    rmdir(folder);
}

static void expect(shoal_line_state wanted, const char *line, size_t n_bytes)
{
    shoal_line_state state;
    const char *found = NULL;
    size_t n_found = 0;
    ck_assert_int_eq(shoal_batch_input_next(&input, &state, &found, &n_found, 0), SHOAL_OK);
    ck_assert_int_eq(state, wanted);
    if (wanted != SHOAL_LINE_READY)
        return;
    ck_assert_uint_eq(n_found, n_bytes);
    ck_assert(memcmp(found, line, n_bytes) == 0);
}

#define EXPECT_LINE(text) expect(SHOAL_LINE_READY, (text), sizeof(text) - 1)

START_TEST(reads_lines)
{
    static const char content[] = "a\n\nb\0c\r\n{\"x\": 1}";
    begin_with(content, sizeof content - 1);
    EXPECT_LINE("a");
    EXPECT_LINE("");
    EXPECT_LINE("b\0c\r");
    EXPECT_LINE("{\"x\": 1}"); /* also without a newline */
    expect(SHOAL_LINE_END, NULL, 0);
    expect(SHOAL_LINE_END, NULL, 0);
    end();
}
END_TEST

START_TEST(an_empty_file_has_no_line)
{
    begin_with("", 0);
    expect(SHOAL_LINE_END, NULL, 0);
    end();
    begin_with("\n", 1);
    EXPECT_LINE("");
    expect(SHOAL_LINE_END, NULL, 0);
    end();
}
END_TEST

/* Lines around and far beyond the size of a piece that is read at once. */
START_TEST(lines_of_any_length)
{
    static const size_t length[] = {65535, 65536, 65537, 1, 0, 1000000, 70000, 3};
    enum { N = sizeof length / sizeof length[0], MAX = 1000000 };
    size_t total = 0;
    for (int i = 0; i < N; i++)
        total += length[i] + 1;
    char *content = malloc(total);
    char *line = malloc(MAX);
    ck_assert(content != NULL && line != NULL);
    size_t at = 0;
    for (int i = 0; i < N; i++) {
        memset(content + at, 'a' + i, length[i]);
        at += length[i];
        content[at++] = '\n';
    }
    begin_with(content, total);
    for (int i = 0; i < N; i++) {
        memset(line, 'a' + i, length[i]);
        expect(SHOAL_LINE_READY, line, length[i]);
    }
    expect(SHOAL_LINE_END, NULL, 0);
    end();
    free(content);
    free(line);
}
END_TEST

/* A pipe without a writer, with a slow one, and with one that leaves within a line. */
START_TEST(a_slow_pipe_is_not_waited_for)
{
    begin();
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(shoal_batch_input_open(&input, path, &logger), SHOAL_OK);
    expect(SHOAL_LINE_NOT_YET, NULL, 0);
    int fd = open(path, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    expect(SHOAL_LINE_NOT_YET, NULL, 0);
    ck_assert_int_eq(write(fd, "one\ntw", 6), 6);
    EXPECT_LINE("one");
    expect(SHOAL_LINE_NOT_YET, NULL, 0);
    ck_assert_int_eq(write(fd, "o\nthree", 7), 7);
    EXPECT_LINE("two");
    expect(SHOAL_LINE_NOT_YET, NULL, 0);
    close(fd);
    EXPECT_LINE("three");
    expect(SHOAL_LINE_END, NULL, 0);
    end();
}
END_TEST

START_TEST(what_cannot_be_read_is_named)
{
    begin();
    ck_assert_int_eq(shoal_batch_input_open(&input, path, &logger), SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(logger.error, path));
    shoal_batch_input_close(&input);
    ck_assert_int_eq(shoal_batch_input_open(&input, folder, &logger), SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(logger.error, "folder"));
    end();
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, reads_lines);
    SHOAL_TEST(suite, an_empty_file_has_no_line);
    SHOAL_TEST(suite, lines_of_any_length);
    SHOAL_TEST(suite, a_slow_pipe_is_not_waited_for);
    SHOAL_TEST(suite, what_cannot_be_read_is_named);
}

SHOAL_TEST_MAIN("launcher.batch_input", add_tests)
