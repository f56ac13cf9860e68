#include "launcher/safetensors_write.h"
#include "runtime/checkpoint/checkpoint.h"
#include "tests/support/check_main.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
static char path[96];
static shoal_log logger;

static const shoal_safetensors_tensor declared[3] = {
    {"b", SHOAL_DTYPE_F32, 2, {2, 3}},
    {"a", SHOAL_DTYPE_I32, 3, {2, 1, 2}},
    {"empty", SHOAL_DTYPE_F32, 2, {0, 5}},
};

static void begin(void)
{
    strcpy(folder, "/tmp/shoal-safetensors-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    shoal_log_init(&logger, NULL, 0, "test");
}

static int32_t count_files(void)
{
    int32_t n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void end(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

START_TEST(what_is_written_can_be_read)
{
    begin();
    shoal_safetensors_file file;
    ck_assert_int_eq(shoal_safetensors_create(&file, path, declared, 3, &logger), SHOAL_OK);
    const float b[6] = {1, 2, 3, 4, 5, 6};
    const int32_t a[4] = {-1, 7, 8, 9};
    /* Out of order and in pieces. */
    ck_assert_int_eq(shoal_safetensors_put(&file, 1, 8, a + 2, 8), SHOAL_OK);
    ck_assert_int_eq(shoal_safetensors_put(&file, 0, 12, b + 3, 12), SHOAL_OK);
    ck_assert_int_eq(shoal_safetensors_put(&file, 0, 0, b, 12), SHOAL_OK);
    ck_assert_int_eq(shoal_safetensors_put(&file, 1, 0, a, 8), SHOAL_OK);
    ck_assert_int_ne(access(path, F_OK), 0); /* not before it is whole */
    ck_assert_int_eq(shoal_safetensors_commit(&file), SHOAL_OK);
    shoal_safetensors_close(&file);
    ck_assert_int_eq(count_files(), 1);

    shoal_checkpoint *checkpoint;
    ck_assert_int_eq(shoal_checkpoint_open(&checkpoint, folder, false, &logger), SHOAL_OK);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(checkpoint), 3);
    const shoal_tensor_info *t = shoal_checkpoint_find(checkpoint, "b");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->dtype, SHOAL_DTYPE_F32);
    ck_assert_int_eq(t->n_dim, 2);
    ck_assert_int_eq(t->shape[1], 3);
    ck_assert_uint_eq(t->offset % 8, 0);
    float read_b[6];
    ck_assert_int_eq(shoal_checkpoint_read(checkpoint, t, 0, sizeof read_b, read_b), SHOAL_OK);
    for (int i = 0; i < 6; i++)
        ck_assert_float_eq(read_b[i], b[i]);
    int32_t read_a[4];
    t = shoal_checkpoint_find(checkpoint, "a");
    ck_assert_int_eq(shoal_checkpoint_read(checkpoint, t, 0, sizeof read_a, read_a), SHOAL_OK);
    ck_assert_int_eq(memcmp(read_a, a, sizeof a), 0);
    shoal_checkpoint_close(checkpoint);
    end();
}
END_TEST

START_TEST(what_is_not_committed_leaves_nothing)
{
    begin();
    shoal_safetensors_file file;
    ck_assert_int_eq(shoal_safetensors_create(&file, path, declared, 3, &logger), SHOAL_OK);
    shoal_safetensors_close(&file);
    ck_assert_int_eq(count_files(), 0);
    shoal_safetensors_close(&file);
    end();
}
END_TEST

START_TEST(an_older_file_stays_until_the_new_one_is_whole)
{
    begin();
    FILE *old = fopen(path, "w");
    fputs("old", old);
    fclose(old);
    shoal_safetensors_file file;
    ck_assert_int_eq(shoal_safetensors_create(&file, path, declared, 3, &logger), SHOAL_OK);
    char text[8] = "";
    old = fopen(path, "r");
    ck_assert_ptr_nonnull(fgets(text, sizeof text, old));
    fclose(old);
    ck_assert_str_eq(text, "old");
    shoal_safetensors_close(&file);
    ck_assert_int_eq(count_files(), 1);
    end();
}
END_TEST

START_TEST(an_impossible_path_is_an_error)
{
    begin();
    shoal_safetensors_file file;
    ck_assert_int_eq(shoal_safetensors_create(&file, "/no/such/folder/f", declared, 3, &logger),
                     SHOAL_IO);
    ck_assert_ptr_nonnull(strstr(logger.error, "/no/such/folder/f"));
    shoal_safetensors_close(&file);
    end();
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, what_is_written_can_be_read);
    SHOAL_TEST(suite, what_is_not_committed_leaves_nothing);
    SHOAL_TEST(suite, an_older_file_stays_until_the_new_one_is_whole);
    SHOAL_TEST(suite, an_impossible_path_is_an_error);
}

SHOAL_TEST_MAIN("launcher.safetensors_write", add_tests)
