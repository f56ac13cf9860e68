#include "launcher/batch_io.h"
#include "tests/support/check_main.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char folder[64];
static char path[96];
static shoal_log logger;
static shoal_id_set answered;
static shoal_batch_output output;

static void begin(const char *content)
{
    strcpy(folder, "/tmp/shoal-batch-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out.jsonl", folder);
    shoal_log_init(&logger, NULL, 0, "test");
    answered = (shoal_id_set){0};
    if (content == NULL)
        return;
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(content, file);
    fclose(file);
}

static void end(const char *content)
{
    char found[4096] = "";
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        size_t n = fread(found, 1, sizeof found - 1, file);
        found[n] = '\0';
        fclose(file);
    }
    ck_assert_str_eq(found, content);
    shoal_id_set_close(&answered);
    unlink(path);
    rmdir(folder);
}

static shoal_status put(const char *id)
{
    shoal_json *answer = shoal_json_new_object();
    shoal_json_set(answer, "id", shoal_json_new_string(id, strlen(id)));
    return shoal_batch_output_put(&output, answer);
}

START_TEST(appends_whole_lines)
{
    begin(NULL);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, false, &logger), SHOAL_OK);
    ck_assert_int_eq(put("a"), SHOAL_OK);
    ck_assert_int_eq(put("b\n"), SHOAL_OK);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a\"}\n{\"id\":\"b\\n\"}\n");
}
END_TEST

START_TEST(refuses_to_mix_with_an_older_run)
{
    begin("{\"id\":\"a\"}\n");
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, false, &logger),
                     SHOAL_USAGE);
    ck_assert_ptr_nonnull(strstr(logger.error, "--resume"));
    end("{\"id\":\"a\"}\n");
}
END_TEST

START_TEST(an_empty_file_is_as_good_as_none)
{
    begin("");
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, false, &logger), SHOAL_OK);
    ck_assert_int_eq(put("a"), SHOAL_OK);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a\"}\n");
}
END_TEST

START_TEST(resumes_behind_the_last_whole_line)
{
    begin("{\"id\":\"a\"}\n{\"id\":7,\"error\":\"e\"}\n{\"id\":\"torn\",\"te");
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger), SHOAL_OK);
    ck_assert_int_eq(output.n_skipped, 2);
    ck_assert_int_eq(output.n_error, 1);
    ck_assert_int_eq(shoal_id_set_get(&answered, "\"a\""), SHOAL_ID_ANSWERED);
    ck_assert_int_eq(shoal_id_set_get(&answered, "7"), SHOAL_ID_ANSWERED);
    ck_assert_int_eq(shoal_id_set_get(&answered, "\"torn\""), 0);
    ck_assert_int_eq(put("torn"), SHOAL_OK);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a\"}\n{\"id\":7,\"error\":\"e\"}\n{\"id\":\"torn\"}\n");
}
END_TEST

START_TEST(resumes_a_file_that_is_only_torn)
{
    begin("{\"id\":\"to");
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger), SHOAL_OK);
    ck_assert_int_eq(output.n_skipped, 0);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("");
}
END_TEST

START_TEST(resumes_what_does_not_exist)
{
    begin(NULL);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger), SHOAL_OK);
    ck_assert_int_eq(put("a"), SHOAL_OK);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a\"}\n");
}
END_TEST

START_TEST(does_not_touch_what_is_no_output)
{
    static const char *const other[] = {"some text\nof mine\n", "{\"text\":\"no id\"}\n",
                                        "{\"id\":[1]}\n", "[]\nno newline"};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        begin(other[i]);
        ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger),
                         SHOAL_BAD_DATA);
        ck_assert_ptr_nonnull(strstr(logger.error, "line 1"));
        end(other[i]);
    }
}
END_TEST

START_TEST(two_batches_do_not_share_an_output)
{
    begin(NULL);
    shoal_batch_output second;
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger), SHOAL_OK);
    ck_assert_int_eq(shoal_batch_output_open(&second, &answered, path, true, &logger),
                     SHOAL_UNAVAILABLE);
    ck_assert_int_eq(shoal_batch_output_close(&second), SHOAL_OK);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("");
}
END_TEST

/* The file may grow to 40 bytes: three lines of 12 bytes fit, of the fourth only a part. */
START_TEST(a_full_disk_leaves_whole_lines)
{
    begin(NULL);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, false, &logger), SHOAL_OK);
    struct rlimit before;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 40, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    shoal_status status[4];
    const char *ids[4] = {"a1", "a2", "a3", "a4"};
    for (int i = 0; i < 4; i++)
        status[i] = put(ids[i]);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(status[i], SHOAL_OK);
    ck_assert_int_eq(status[3], SHOAL_IO);
    ck_assert_ptr_nonnull(strstr(logger.error, path));
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a1\"}\n{\"id\":\"a2\"}\n{\"id\":\"a3\"}\n");
}
END_TEST

START_TEST(an_impossible_path_is_an_error)
{
    begin(NULL);
    ck_assert_int_eq(
        shoal_batch_output_open(&output, &answered, "/no/such/folder/out", false, &logger),
        SHOAL_IO);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, folder, false, &logger), SHOAL_IO);
    end("");
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, appends_whole_lines);
    SHOAL_TEST(suite, refuses_to_mix_with_an_older_run);
    SHOAL_TEST(suite, an_empty_file_is_as_good_as_none);
    SHOAL_TEST(suite, resumes_behind_the_last_whole_line);
    SHOAL_TEST(suite, resumes_a_file_that_is_only_torn);
    SHOAL_TEST(suite, resumes_what_does_not_exist);
    SHOAL_TEST(suite, does_not_touch_what_is_no_output);
    SHOAL_TEST(suite, two_batches_do_not_share_an_output);
    SHOAL_TEST(suite, a_full_disk_leaves_whole_lines);
    SHOAL_TEST(suite, an_impossible_path_is_an_error);
}

SHOAL_TEST_MAIN("launcher.batch_output", add_tests)
