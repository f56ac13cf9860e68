/* Weights on their way into a device's memory: all arrives, nothing before its time, through two
 * buffers and no more. */
#include "runtime/checkpoint/load.h"
#include "tests/support/check_main.h"
#include "tests/support/memory_device.h"

#include <stdlib.h>
#include <string.h>

enum { MB = 1 << 20 };

typedef struct fixture {
    shoal_log log;
    shoal_memory_device *device;
    shoal_compute compute;
    shoal_upload upload;
    unsigned char *to; /* DEVICE [MB] */
} fixture;

static void open_fixture(fixture *f, size_t n_bytes, int32_t n_upload_good)
{
    const shoal_memory_device_config config = {
        .memory_bytes = 64 * MB, .pinned_bytes = 64 * MB, .n_upload_good = n_upload_good};
    *f = (fixture){0};
    shoal_log_init(&f->log, NULL, 0, "test");
    f->device = shoal_memory_device_open(&config);
    f->compute.device = shoal_memory_device_of(f->device);
    ck_assert_int_eq(shoal_pool_open(&f->compute.pool, 2, &f->log), SHOAL_OK);
    f->to = f->compute.device->ops->take(f->compute.device, SHOAL_MEMORY_DEVICE, MB);
    ck_assert_ptr_nonnull(f->to);
    ck_assert_int_eq(shoal_upload_open(&f->upload, &f->compute, n_bytes, &f->log), SHOAL_OK);
}

static void close_fixture(fixture *f)
{
    shoal_upload_close(&f->upload);
    ck_assert_uint_eq(shoal_memory_device_count(f->device).pinned_bytes, 0);
    shoal_pool_close(f->compute.pool);
    shoal_device_close(f->compute.device);
}

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 2654435761U >> 13);
}

static void check(const fixture *f, size_t n_bytes)
{
    shoal_memory_device_show(f->device, true);
    for (size_t i = 0; i < n_bytes; i++)
        ck_assert_msg(f->to[i] == byte_at(i), "byte %zu", i);
    shoal_memory_device_show(f->device, false);
}

/* Pieces of all sizes up to a whole buffer. */
START_TEST(pieces_arrive)
{
    enum { BUFFER = 4096 };
    fixture f;
    open_fixture(&f, BUFFER, -1);
    size_t at = 0;
    for (size_t n = 1; at + n <= MB; n = n * 5 % BUFFER + 1) {
        void *room;
        ck_assert_int_eq(shoal_upload_room(&room, &f.upload, n), SHOAL_OK);
        ck_assert_uint_eq((uintptr_t)room % 64, 0);
        for (size_t i = 0; i < n; i++)
            ((unsigned char *)room)[i] = byte_at(at + i);
        shoal_upload_send(&f.upload, f.to + at, room, n);
        at += n;
    }
    ck_assert_int_eq(shoal_upload_finish(&f.upload), SHOAL_OK);
    check(&f, at);
    ck_assert_uint_eq(shoal_memory_device_count(f.device).pinned_bytes_max, 2 * BUFFER);
    close_fixture(&f);
}
END_TEST

static void count_call(void *arg)
{
    ++*(int32_t *)arg;
}

START_TEST(a_copy_goes_in_pieces)
{
    fixture f;
    open_fixture(&f, 100000, -1);
    unsigned char *from = malloc(MB);
    int32_t n_call = 0;
    for (size_t i = 0; i < MB; i++)
        from[i] = byte_at(i);
    ck_assert_int_eq(shoal_upload_copy(&f.upload, f.to, from, MB, count_call, &n_call), SHOAL_OK);
    memset(from, 0, MB); /* it is the caller's again */
    free(from);
    ck_assert_int_eq(n_call, (MB + 99999) / 100000);
    ck_assert_int_eq(shoal_upload_finish(&f.upload), SHOAL_OK);
    check(&f, MB);
    ck_assert_int_eq(shoal_upload_copy(&f.upload, f.to, NULL, 0, NULL, NULL), SHOAL_OK);
    close_fixture(&f);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    fixture f;
    open_fixture(&f, 4096, -1);
    void *room;
    ck_assert_int_eq(shoal_upload_room(&room, &f.upload, 4097), SHOAL_NO_MEMORY);
    ck_assert_ptr_nonnull(strstr(f.log.error, "memory:0"));
    shoal_upload other;
    ck_assert_int_eq(shoal_upload_open(&other, &f.compute, 40 * MB, &f.log), SHOAL_NO_MEMORY);
    ck_assert_ptr_nonnull(strstr(f.log.error, "pinned"));
    close_fixture(&f);
}
END_TEST

/* A device that fails is noticed at the latest when a buffer is to be used again. */
START_TEST(a_failure_is_noticed)
{
    fixture f;
    open_fixture(&f, 4096, 3);
    unsigned char from[4096] = {0};
    shoal_status status = SHOAL_OK;
    for (int32_t i = 0; i < 6 && status == SHOAL_OK; i++)
        status = shoal_upload_copy(&f.upload, f.to, from, sizeof from, NULL, NULL);
    ck_assert_int_eq(status, SHOAL_UNAVAILABLE);
    ck_assert_int_eq(shoal_upload_finish(&f.upload), SHOAL_UNAVAILABLE);
    close_fixture(&f);
}
END_TEST

/* -- matrices that are larger than a buffer -- */

static shoal_matrix take_matrix(shoal_device *device, shoal_format format, int32_t n_row,
                                int32_t n_col)
{
    shoal_matrix w = {.format = format, .n_row = n_row, .n_col = n_col};
    const size_t data_bytes = shoal_matrix_data_bytes(format, n_row, n_col);
    const size_t scale_bytes = shoal_matrix_scale_bytes(format, n_row, n_col);
    w.data = device != NULL ? device->ops->take(device, SHOAL_MEMORY_DEVICE, data_bytes)
                            : aligned_alloc(64, (data_bytes + 63) / 64 * 64);
    if (scale_bytes > 0)
        w.scale = device != NULL ? device->ops->take(device, SHOAL_MEMORY_DEVICE, scale_bytes)
                                 : malloc(scale_bytes);
    ck_assert_ptr_nonnull(w.data);
    return w;
}

/* Two bands of f32 at a time. True if that were several pieces. */
static bool compare_matrix(fixture *f, shoal_loader *loader, const shoal_tensor_info *t,
                           shoal_weights_choice choice)
{
    const int32_t n_row = (int32_t)t->shape[0], n_col = (int32_t)t->shape[1];
    shoal_weight_ref ref = shoal_weight_ref_of(t->name);
    shoal_format format;
    ref.weights = choice;
    ck_assert_int_eq(shoal_load_check_matrix(&format, loader, ref, n_row, n_col), SHOAL_OK);
    shoal_device *device = f->compute.device;
    shoal_matrix a = take_matrix(NULL, format, n_row, n_col);
    shoal_matrix b = take_matrix(device, format, n_row, n_col);
    shoal_upload_close(&f->upload);
    ck_assert_int_eq(shoal_upload_open(&f->upload, &f->compute,
                                       2 * SHOAL_BAND * (size_t)n_col * sizeof(float), &f->log),
                     SHOAL_OK);
    ck_assert_int_eq(shoal_load_matrix(&a, loader, ref), SHOAL_OK);
    ck_assert_int_eq(shoal_load_matrix_up(&b, loader, ref, &f->upload), SHOAL_OK);
    ck_assert_int_eq(shoal_upload_finish(&f->upload), SHOAL_OK);
    const size_t n_bytes = shoal_matrix_data_bytes(format, n_row, n_col);
    shoal_memory_device_show(f->device, true);
    ck_assert_msg(memcmp(a.data, b.data, n_bytes) == 0, "%s", t->name);
    ck_assert_msg(a.scale == NULL ||
                      memcmp(a.scale, b.scale, shoal_matrix_scale_bytes(format, n_row, n_col)) == 0,
                  "%s: scales", t->name);
    shoal_memory_device_show(f->device, false);
    free(a.data);
    free(a.scale);
    device->ops->give_back(device, SHOAL_MEMORY_DEVICE, b.data);
    if (b.scale != NULL)
        device->ops->give_back(device, SHOAL_MEMORY_DEVICE, b.scale);
    return n_bytes > f->upload.n_bytes;
}

START_TEST(large_matrices_go_in_bands)
{
    static const char *const golden[] = {"deepseek_v3-fp8", "qwen3_moe"};
    char path[512];
    int32_t n_large = 0;
    snprintf(path, sizeof path, "%s/tests/golden/%s", getenv("SHOAL_SOURCE_DIR"), golden[_i]);
    fixture f;
    open_fixture(&f, 4096, -1);
    shoal_checkpoint *checkpoint;
    shoal_loader loader;
    ck_assert_int_eq(shoal_checkpoint_open(&checkpoint, path, true, &f.log), SHOAL_OK);
    ck_assert_int_eq(shoal_loader_open(&loader, checkpoint, &f.log), SHOAL_OK);
    loader.pool = f.compute.pool;
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i += 2) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(checkpoint, i);
        if (t->n_dim != 2 || strstr(t->name, "_scale_inv") != NULL)
            continue;
        n_large += compare_matrix(&f, &loader, t, SHOAL_WEIGHTS_NATIVE);
        n_large += compare_matrix(&f, &loader, t, SHOAL_WEIGHTS_Q8);
    }
    ck_assert_int_gt(n_large, 5);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(checkpoint);
    close_fixture(&f);
}
END_TEST

START_TEST(buffers_are_no_larger_than_what_is_uploaded)
{
    ck_assert_uint_eq(shoal_upload_buffer_bytes(1), 64 << 10);
    ck_assert_uint_eq(shoal_upload_buffer_bytes(1000001), 1000064);
    ck_assert_uint_eq(shoal_upload_buffer_bytes((uint64_t)1 << 40), SHOAL_UPLOAD_BYTES);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, pieces_arrive);
    SHOAL_TEST(suite, a_copy_goes_in_pieces);
    SHOAL_TEST(suite, what_does_not_fit_is_refused);
    SHOAL_TEST(suite, a_failure_is_noticed);
    TCase *large = tcase_create("large");
    tcase_add_loop_test(large, large_matrices_go_in_bands, 0, 2);
    suite_add_tcase(suite, large);
    SHOAL_TEST(suite, buffers_are_no_larger_than_what_is_uploaded);
}

SHOAL_TEST_MAIN("checkpoint.upload", add_tests)
