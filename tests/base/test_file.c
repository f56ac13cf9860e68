#include "runtime/base/file.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct beats {
    int32_t n, n_end;
} beats;

static shoal_status end_after(void *arg)
{
    beats *b = arg;
    return ++b->n < b->n_end ? SHOAL_OK : SHOAL_INTERRUPTED;
}

/* A file of 40 MB, mostly a hole, that ends with a word. */
START_TEST(a_long_file_beats_the_pulse)
{
    enum { N_BYTES = 40 << 20 };
    char path[] = "/tmp/shoal-file-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, N_BYTES), 0);
    ck_assert_int_eq(pwrite(fd, "end", 3, N_BYTES - 3), 3);
    close(fd);
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    char *text = NULL;
    size_t n = 0;
    beats b = {0, 1000};
    const shoal_pulse pulse = {end_after, &b};
    ck_assert_int_eq(shoal_file_read_long(&text, &n, path, N_BYTES, &pulse, &log), SHOAL_OK);
    ck_assert_uint_eq(n, N_BYTES);
    ck_assert_str_eq(text + N_BYTES - 3, "end");
    ck_assert_int_ge(b.n, 3);
    free(text);
    b = (beats){0, 2};
    ck_assert_int_eq(shoal_file_read_long(&text, &n, path, N_BYTES, &pulse, &log),
                     SHOAL_INTERRUPTED);
    ck_assert_int_eq(b.n, 2);
    ck_assert_int_eq(shoal_file_read(&text, &n, path, N_BYTES - 1, &log), SHOAL_BAD_DATA);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(shoal_file_read(&text, &n, path, N_BYTES, &log), SHOAL_NO_INPUT);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, a_long_file_beats_the_pulse);
}

SHOAL_TEST_MAIN("base.file", add_tests)
