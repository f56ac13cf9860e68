#include "launcher/batch_io.h"
#include "tests/support/check_main.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    static const char binary[] = "\177ELF\0\0\n\0";
    begin(NULL);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fwrite(binary, 1, sizeof binary, file);
    fclose(file);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger),
                     SHOAL_BAD_DATA);
    end("\177ELF");
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

/* -- what a power cut leaves -- */

static const char *const key[] = {"\"q0\"", "7", "\"\xc3\xa9\"", "\"q3\""};
static const char *const whole[] = {
    "{\"id\":\"q0\",\"text\":\"a\\nb\"}\n",
    "{\"id\":7,\"error\":\"bad\"}\n",
    "{\"id\":\"\xc3\xa9\",\"text\":\"\xe2\x82\xac {}\"}\n",
    "{\"id\":\"q3\",\"ids\":[1,2]}\n",
};
enum { N_WHOLE = 4 };

/* Resume the file that holds text[0, n), answer what is missing, and look at what came of it. */
static void resume_and_answer_the_rest(const char *text, size_t n, const char *wanted,
                                       int32_t n_kept)
{
    begin(NULL);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, n, file), n);
    fclose(file);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger), SHOAL_OK);
    ck_assert_int_eq(output.n_skipped, n_kept);
    for (int32_t i = 0; i < N_WHOLE; i++) {
        bool is_there = (shoal_id_set_get(&answered, key[i]) & SHOAL_ID_ANSWERED) != 0;
        ck_assert_msg(is_there == (i < n_kept), "cut at %zu: answer %d", n, i);
        shoal_json *answer;
        if (is_there)
            continue;
        ck_assert_int_eq(shoal_json_parse(&answer, whole[i], strlen(whole[i]) - 1, "test", &logger),
                         SHOAL_OK);
        ck_assert_int_eq(shoal_batch_output_put(&output, answer), SHOAL_OK);
    }
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end(wanted);
}

static void join(char *all)
{
    all[0] = '\0';
    for (int32_t i = 0; i < N_WHOLE; i++)
        strcat(all, whole[i]);
}

static int32_t n_lines(const char *text, size_t n)
{
    int32_t n_line = 0;
    for (size_t i = 0; i < n; i++)
        n_line += text[i] == '\n';
    return n_line;
}

/* The file may end at any byte: every whole line is kept, the rest answered again, nothing twice.
 */
START_TEST(cut_off_at_any_byte)
{
    char all[512];
    join(all);
    for (size_t n = 0; n <= strlen(all); n++)
        resume_and_answer_the_rest(all, n, all, n_lines(all, n));
}
END_TEST

/* A file system may know the new length before it has the bytes: zeros from some byte on, to the
 * end or up to a later line that did reach the disk. */
START_TEST(zeros_from_some_byte_on)
{
    char all[512], torn[512];
    join(all);
    size_t n_all = strlen(all);
    for (size_t n = 0; n < n_all; n += 3) { /* each case syncs files */
        memcpy(torn, all, n_all);
        memset(torn + n, 0, n_all - n);
        resume_and_answer_the_rest(torn, n_all, all, n_lines(all, n));
        size_t n_last = n_all - strlen(whole[N_WHOLE - 1]);
        if (n == 0 || n >= n_last)
            continue;
        memcpy(torn + n_last, whole[N_WHOLE - 1], n_all - n_last);
        resume_and_answer_the_rest(torn, n_all, all, n_lines(all, n));
    }
}
END_TEST

START_TEST(counts_ids_that_came_before)
{
    begin("{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\"}\n");
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, true, &logger), SHOAL_OK);
    ck_assert_int_eq(output.n_skipped, 3);
    ck_assert_int_eq(output.n_again, 1);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\"}\n");
}
END_TEST

START_TEST(lines_are_synced_when_a_second_old)
{
    begin(NULL);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, false, &logger), SHOAL_OK);
    ck_assert_int_eq(output.unsynced_us, 0);
    ck_assert_int_eq(put("a"), SHOAL_OK);
    int64_t first_us = output.unsynced_us;
    ck_assert_int_gt(first_us, 0);
    ck_assert_int_eq(put("b"), SHOAL_OK);
    ck_assert_int_eq(output.unsynced_us, first_us); /* the oldest counts */
    ck_assert_int_eq(shoal_batch_output_sync_due(&output), SHOAL_OK);
    output.unsynced_us -= 1000000;
    ck_assert_int_eq(shoal_batch_output_sync_due(&output), SHOAL_OK);
    ck_assert_int_eq(output.unsynced_us, 0);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    end("{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
}
END_TEST

static shoal_status give_up_after_three(void *arg)
{
    int32_t *n = arg;
    return ++*n < 3 ? SHOAL_OK : SHOAL_INTERRUPTED;
}

/* A pipe that nobody reads: the pulse beats while it is full, and may end the wait. */
START_TEST(a_full_pipe_beats_the_pulse)
{
    begin(NULL);
    int32_t n_beat = 0;
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(shoal_batch_output_open(&output, &answered, path, false, &logger), SHOAL_OK);
    output.pulse = (shoal_pulse){give_up_after_three, &n_beat};
    shoal_status status = SHOAL_OK;
    for (int32_t i = 0; i < 100000 && status == SHOAL_OK; i++)
        status = put("a line of an answer");
    ck_assert_int_eq(status, SHOAL_INTERRUPTED);
    ck_assert_int_eq(n_beat, 3);
    ck_assert_int_eq(shoal_batch_output_close(&output), SHOAL_OK);
    unlink(path);
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
    SHOAL_TEST(suite, cut_off_at_any_byte);
    SHOAL_TEST(suite, zeros_from_some_byte_on);
    SHOAL_TEST(suite, counts_ids_that_came_before);
    SHOAL_TEST(suite, lines_are_synced_when_a_second_old);
    SHOAL_TEST(suite, a_full_pipe_beats_the_pulse);
}

SHOAL_TEST_MAIN("launcher.batch_output", add_tests)
