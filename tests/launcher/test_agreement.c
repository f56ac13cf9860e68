#include "launcher/agreement.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>

enum { N_RANK = 4 };

static shoal_agreement all[N_RANK];
static const char *const host[N_RANK] = {"alpha", "beta", "gamma", "delta"};

static void begin(void)
{
    shoal_agreement one = {
        .magic = SHOAL_AGREEMENT_MAGIC,
        .build = "0.1.0 (abc)",
        .checkpoint = 7,
        .n_layer = 6,
        .n_expert = 16,
        .command = SHOAL_COMMAND_GENERATE,
        .math = SHOAL_MATH_FAST,
        .n_context = 4096,
        .n_sequence = 1,
        .prefill_chunk = 256,
        .placement = 9,
    };
    for (int32_t r = 0; r < N_RANK; r++)
        all[r] = one;
}

/* Compare; *text is everything that was said, the caller's to free. */
static shoal_status compare(char **text)
{
    size_t n_text = 0;
    FILE *out = open_memstream(text, &n_text);
    shoal_log log;
    shoal_log_init(&log, out, 0, "alpha");
    shoal_status status = shoal_agreement_compare(all, N_RANK, host, &log);
    fclose(out);
    return status;
}

static void expect(shoal_status status, const char *says)
{
    char *text;
    ck_assert_int_eq(compare(&text), status);
    ck_assert_msg(strstr(text, says) != NULL, "wanted '%s' in '%s'", says, text);
    free(text);
}

START_TEST(equal_ranks_agree)
{
    begin();
    char *text;
    ck_assert_int_eq(compare(&text), SHOAL_OK);
    ck_assert_str_eq(text, "");
    free(text);
    ck_assert_int_eq(shoal_agreement_compare(all, 1, host, NULL), SHOAL_OK);
}
END_TEST

/* Copies may differ in age; what was staged must be of the age of rank 0's. */
START_TEST(staged_at_another_time_is_bad_data)
{
    begin();
    all[1].age = 5;
    char *text;
    ck_assert_int_eq(compare(&text), SHOAL_OK);
    free(text);
    all[1].is_staged = 1;
    expect(SHOAL_BAD_DATA, "rank 1 (beta) has the model as it was when it was staged");
    all[1].is_staged = 0;
    all[0].is_staged = 1;
    expect(SHOAL_BAD_DATA, "rank 1 (beta) has the model as it was written");
    for (int32_t r = 0; r < N_RANK; r++)
        all[r].age = 5;
    ck_assert_int_eq(compare(&text), SHOAL_OK);
    free(text);
}
END_TEST

START_TEST(another_checkpoint_is_bad_data)
{
    begin();
    all[2].checkpoint = 8;
    all[2].n_layer = 61;
    expect(SHOAL_BAD_DATA, "rank 2 (gamma) has another checkpoint");
}
END_TEST

START_TEST(other_options_are_bad_usage)
{
    begin();
    all[1].math = SHOAL_MATH_F32;
    expect(SHOAL_USAGE, "rank 1 (beta) has other options: --math");
    begin();
    all[3].n_context = 512;
    expect(SHOAL_USAGE, "--context 512, rank 0 has 4096");
    begin();
    all[3].placement = 1;
    expect(SHOAL_USAGE, "--placement");
    begin();
    all[3].command = SHOAL_COMMAND_BATCH;
    expect(SHOAL_USAGE, "the command");
    begin();
    all[3].kv = 1;
    expect(SHOAL_USAGE, "--kv");
    begin();
    all[3].combine = 1;
    expect(SHOAL_USAGE, "--combine");
    begin();
    all[3].overlap = 1;
    expect(SHOAL_USAGE, "--overlap");
    begin();
    all[2].kernels = 1;
    expect(SHOAL_USAGE, "--kernels differs from rank 0's");
    begin();
    all[3].n_sequence = 2;
    expect(SHOAL_USAGE, "--sequences 2");
    begin();
    all[3].prefill_chunk = 2;
    expect(SHOAL_USAGE, "--prefill-chunk 2");
}
END_TEST

START_TEST(another_build_explains_everything_else)
{
    begin();
    strcpy(all[1].build, "0.2.0 (def)");
    all[1].checkpoint = 8;
    all[2].checkpoint = 8;
    expect(SHOAL_FAILED, "rank 1 (beta) is another build: 0.2.0 (def), rank 0 is 0.1.0 (abc)");
    expect(SHOAL_FAILED, "rank 2 (gamma) has another checkpoint");
    begin();
    all[3].magic = 1;
    memset(all[3].build, 'x', sizeof all[3].build);
    expect(SHOAL_FAILED, "rank 3 (delta) is another build: unknown");
}
END_TEST

START_TEST(every_deviating_rank_is_named_once)
{
    begin();
    all[1].checkpoint = 8;
    all[3].checkpoint = 8;
    char *text;
    ck_assert_int_eq(compare(&text), SHOAL_BAD_DATA);
    int32_t n_line = 0;
    for (const char *c = text; *c != '\0'; c++)
        n_line += *c == '\n';
    ck_assert_int_eq(n_line, 2);
    ck_assert_ptr_nonnull(strstr(text, "beta"));
    ck_assert_ptr_nonnull(strstr(text, "delta"));
    free(text);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, equal_ranks_agree);
    SHOAL_TEST(suite, staged_at_another_time_is_bad_data);
    SHOAL_TEST(suite, another_checkpoint_is_bad_data);
    SHOAL_TEST(suite, other_options_are_bad_usage);
    SHOAL_TEST(suite, another_build_explains_everything_else);
    SHOAL_TEST(suite, every_deviating_rank_is_named_once);
}

SHOAL_TEST_MAIN("launcher.agreement", add_tests)
