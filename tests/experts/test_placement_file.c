/* Placements as people write them, good and bad. */
#include "experts/placement.h"
#include "tests/support/check_main.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static shoal_log log_;

/* Reads `text` as a placement of 2 layers of 8 experts. */
static shoal_status read_text(shoal_placement *p, const char *text, int32_t n_rank)
{
    char folder[] = "/tmp/shoal-test-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/placement.yaml", folder);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    shoal_log_init(&log_, NULL, 0, "test");
    shoal_status status = shoal_placement_read_file(p, path, 2, 8, 1, n_rank, &log_);
    unlink(path);
    rmdir(folder);
    return status;
}

START_TEST(test_good_files)
{
    shoal_placement p;
    ck_assert_int_eq(read_text(&p,
                               "# big box, small box, router\n"
                               "ranks:\n"
                               "  - {experts: 3, sequences: 0.0}\n"
                               "  - experts: 1.0\n"
                               "    sequences: 2.5e0\n"
                               "  - {experts: 0}\n",
                               3),
                     SHOAL_OK);
    ck_assert_int_eq(shoal_placement_owned(&p, 0, 0, NULL), 6);
    ck_assert_int_eq(shoal_placement_owned(&p, 1, 1, NULL), 2);
    ck_assert_int_eq(shoal_placement_owned(&p, 1, 2, NULL), 0);
    ck_assert(p.sequence_weight[0] == 0 && p.sequence_weight[1] == 2.5 &&
              p.sequence_weight[2] == 1); /* left out: 1 */
    shoal_placement_close(&p);

    ck_assert_int_eq(read_text(&p, "ranks: [{}, {}]\n", 2), SHOAL_OK);
    ck_assert_int_eq(shoal_placement_owned(&p, 0, 0, NULL), 4);
    shoal_placement_close(&p);
}
END_TEST

typedef struct bad_file {
    const char *text;
    int32_t n_rank;
    const char *names; /* what the message must say, or NULL */
} bad_file;

static const bad_file bad_files[] = {
    {"", 1, NULL},
    {"ranks", 1, NULL},
    {"ranks:\n", 1, NULL},
    {"[1, 2]\n", 1, NULL},
    {"{}\n", 1, "ranks"},
    {"ranks: 3\n", 1, NULL},
    {"ranks: []\n", 1, "1 ranks"},
    {"ranks: [{experts: 1}]\n", 2, "2 ranks"},
    {"ranks: [{experts: 1}, {experts: 1}]\n", 1, "1 ranks"},
    {"ranks: [{experts: one}]\n", 1, "\"one\""},
    {"ranks: [{experts: 1.0x}]\n", 1, NULL},
    {"ranks:\n - experts: 1,5\n", 1, "1,5"},
    {"ranks: [{experts: 1 2}]\n", 1, NULL},
    {"ranks: [{experts: [1]}]\n", 1, NULL},
    {"ranks: [{experts: }]\n", 1, NULL},
    {"ranks: [{experts: -1}, {}]\n", 2, "rank 0"},
    {"ranks: [{}, {sequences: -0.5}]\n", 2, "rank 1"},
    {"ranks: [{experts: nan}, {}]\n", 2, NULL},
    {"ranks: [{experts: inf}, {}]\n", 2, NULL},
    {"ranks: [{experts: 1e999}, {}]\n", 2, NULL},
    {"ranks: [{experts: 0}, {experts: 0}]\n", 2, "experts"},
    {"ranks: [{sequences: 0}, {sequences: 0}]\n", 2, "sequences"},
    {"ranks: [{expert: 1}]\n", 1, "expert"},
    {"ranks: [{experts: 1}]\nweights: 3\n", 1, "weights"},
    {"ranks: [{experts: 1, experts: 2}]\n", 1, NULL},
    {"ranks: [{experts: 1]\n", 1, NULL},
    {"ranks: [1, 2]\n", 2, NULL},
    {"\tranks: []\n", 1, NULL},
    {"ranks: [{experts: \"\\x00\"}]\n", 1, NULL},
};

START_TEST(test_bad_files)
{
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        shoal_placement p = {0};
        shoal_status status = read_text(&p, bad_files[i].text, bad_files[i].n_rank);
        ck_assert_msg(status == SHOAL_BAD_DATA, "case %zu: status %d for: %s", i, (int)status,
                      bad_files[i].text);
        ck_assert_msg(strstr(log_.error, "placement.yaml") != NULL, "case %zu names no file: %s", i,
                      log_.error);
        if (bad_files[i].names != NULL)
            ck_assert_msg(strstr(log_.error, bad_files[i].names) != NULL, "case %zu: %s", i,
                          log_.error);
        ck_assert_ptr_null(p.owner);
    }
}
END_TEST

START_TEST(test_missing_file)
{
    shoal_placement p = {0};
    shoal_log_init(&log_, NULL, 0, "test");
    ck_assert_int_eq(
        shoal_placement_read_file(&p, "/nonexistent/placement.yaml", 2, 8, 1, 2, &log_),
        SHOAL_NO_INPUT);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_good_files);
    SHOAL_TEST(suite, test_bad_files);
    SHOAL_TEST(suite, test_missing_file);
}

SHOAL_TEST_MAIN("experts.placement_file", add_tests)
