/* Pack files: what is written is what is mapped; any number of writers; what is cut, flipped or
 * made up is refused or not there, and never read; what a kill leaves is of no harm. */
#include "runtime/checkpoint/pack_index.h"
#include "runtime/checkpoint/pack_write.h"
#include "tests/checkpoint/fixture.h"
#include "tests/checkpoint/pack_units.h"
#include "tests/support/check_main.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_UNIT = 6, N_ROW = 40 };

static const shoal__pack_shape shape = {.identity = 42, .layer = 3, .n_unit = N_UNIT};

typedef struct world {
    fixture f;
    pack_units u;
    shoal__pack_writer writer;
    char path[256];
} world;

static void open_world(world *w, int32_t n_row)
{
    fixture_open(&w->f);
    pack_units_open(&w->u, N_UNIT, n_row);
    w->writer = (shoal__pack_writer){.folder = w->f.path, .log = &w->f.log};
    snprintf(w->path, sizeof w->path, "%s", fixture_path(&w->f, "x.pack"));
}

static void close_world(world *w)
{
    pack_units_close(&w->u);
    fixture_close(&w->f);
}

static shoal_status add(const world *w, int32_t unit0, int32_t n)
{
    uint64_t n_bytes;
    return shoal__pack_add(&n_bytes, &w->writer, "x.pack", &shape, &w->u.unit[unit0], n);
}

/* The units that are there, as bits; all must have their bytes. */
static unsigned units_there(world *w)
{
    shoal__pack_file *file = NULL;
    ck_assert_int_eq(shoal__pack_open(&file, w->path, &shape, &w->f.log), SHOAL_OK);
    unsigned there = 0;
    for (int32_t i = 0; file != NULL && i < N_UNIT; i++) {
        if (file->unit[i].n_part == 0)
            continue;
        ck_assert(pack_units_equal(&file->unit[i], &w->u.unit[i]));
        there |= 1U << i;
    }
    shoal__pack_close(file);
    return there;
}

static off_t file_bytes(const char *path)
{
    struct stat entry;
    ck_assert_int_eq(stat(path, &entry), 0);
    return entry.st_size;
}

START_TEST(test_round_trip)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_uint_eq(units_there(&w), 0); /* no file is no error */
    ck_assert_int_eq(add(&w, 2, 2), SHOAL_OK);
    ck_assert_uint_eq(units_there(&w), 0x0c);
    ck_assert_int_eq(add(&w, 5, 1), SHOAL_OK);
    ck_assert_uint_eq(units_there(&w), 0x2c);
    off_t before = file_bytes(w.path);
    ck_assert_int_eq(add(&w, 2, 2), SHOAL_OK); /* they are there */
    ck_assert_int_eq(file_bytes(w.path), before);
    ck_assert_int_eq(add(&w, 0, N_UNIT), SHOAL_OK);
    ck_assert_uint_eq(units_there(&w), 0x3f);
    close_world(&w);
}
END_TEST

/* A mapping made before others append stays as it was. */
START_TEST(test_mapping_outlives_growth)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_int_eq(add(&w, 0, 1), SHOAL_OK);
    shoal__pack_file *file = NULL;
    ck_assert_int_eq(shoal__pack_open(&file, w.path, &shape, &w.f.log), SHOAL_OK);
    ck_assert_int_eq(add(&w, 1, N_UNIT - 1), SHOAL_OK);
    ck_assert_int_eq(unlink(w.path), 0);
    ck_assert(pack_units_equal(&file->unit[0], &w.u.unit[0]));
    ck_assert_int_eq(file->unit[1].n_part, 0);
    shoal__pack_close(file);
    close_world(&w);
}
END_TEST

START_TEST(test_many_writers)
{
    enum { N_PROCESS = 8 };
    world w;
    open_world(&w, N_ROW);
    pid_t child[N_PROCESS];
    for (int i = 0; i < N_PROCESS; i++) {
        child[i] = fork();
        ck_assert_int_ge(child[i], 0);
        if (child[i] == 0) {
            bool good = true;
            for (int32_t k = 0; k < N_UNIT; k++)
                good = good && add(&w, (k + i) % N_UNIT, 1) == SHOAL_OK;
            _exit(good ? 0 : 1);
        }
    }
    for (int i = 0; i < N_PROCESS; i++) {
        int status;
        ck_assert_int_eq(waitpid(child[i], &status, 0), child[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(units_there(&w), 0x3f);
    /* each unit is there once */
    off_t once = file_bytes(w.path);
    ck_assert_int_eq(unlink(w.path), 0);
    ck_assert_int_eq(add(&w, 0, N_UNIT), SHOAL_OK);
    ck_assert_int_eq(file_bytes(w.path), once);
    close_world(&w);
}
END_TEST

/* Killed at any moment: what is there is whole, and the next goes on. */
START_TEST(test_killed_writer)
{
    world w;
    open_world(&w, 4000);
    for (useconds_t delay = 0; delay < 20000; delay += 700) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            for (int32_t k = 0; k < N_UNIT; k++)
                add(&w, k, 1);
            _exit(0);
        }
        usleep(delay);
        kill(child, SIGKILL);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        units_there(&w);
        if (delay % 2100 == 0)
            unlink(w.path);
    }
    ck_assert_int_eq(add(&w, 0, N_UNIT), SHOAL_OK);
    ck_assert_uint_eq(units_there(&w), 0x3f);
    close_world(&w);
}
END_TEST

/* As a full disk: an error with a text, what was there stays and nothing is left behind it. */
START_TEST(test_full_disk)
{
    world w;
    open_world(&w, 400);
    ck_assert_int_eq(add(&w, 0, 2), SHOAL_OK);
    off_t before = file_bytes(w.path);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = (rlim_t)before + 20000, .rlim_max = RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(add(&w, 2, 2), SHOAL_IO);
    ck_assert_ptr_nonnull(strstr(w.f.log.error, "x.pack: cannot be written: File too large"));
    ck_assert_int_eq(file_bytes(w.path), before);
    ck_assert_uint_eq(units_there(&w), 0x03);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(add(&w, 2, 2), SHOAL_OK);
    ck_assert_uint_eq(units_there(&w), 0x0f);
    close_world(&w);
}
END_TEST

static void damage(const world *w, off_t at, unsigned char mask)
{
    int fd = open(w->path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    unsigned char byte;
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= mask;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static shoal_status open_only(world *w, const shoal__pack_shape *wanted)
{
    shoal__pack_file *file = NULL;
    shoal_status status = shoal__pack_open(&file, w->path, wanted, &w->f.log);
    shoal__pack_close(file);
    return status;
}

/* Every bit of the header, and every byte of the slots. */
START_TEST(test_flipped_bits)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_int_eq(add(&w, 0, N_UNIT), SHOAL_OK);
    for (off_t bit = 0; bit < 8 * (off_t)sizeof(shoal__pack_header); bit++) {
        damage(&w, bit / 8, (unsigned char)(1 << bit % 8));
        ck_assert_int_eq(open_only(&w, &shape), SHOAL_BAD_DATA);
        damage(&w, bit / 8, (unsigned char)(1 << bit % 8));
    }
    ck_assert_uint_eq(units_there(&w), 0x3f);
    const off_t slot_bytes = 64 * 4; /* 40 + 5 * 40, to 64 */
    for (off_t at = 0; at < slot_bytes - 16; at++) {
        damage(&w, 64 + 2 * slot_bytes + at, 0x10);
        ck_assert_uint_eq(units_there(&w), 0x3f & ~4U);
        damage(&w, 64 + 2 * slot_bytes + at, 0x10);
    }
    ck_assert_uint_eq(units_there(&w), 0x3f);
    close_world(&w);
}
END_TEST

START_TEST(test_truncated)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_int_eq(add(&w, 0, N_UNIT), SHOAL_OK);
    for (off_t n = file_bytes(w.path); n >= 0; n -= n > 5000 ? 997 : 61) {
        ck_assert_int_eq(truncate(w.path, n), 0);
        shoal__pack_file *file = NULL;
        shoal_status status = shoal__pack_open(&file, w.path, &shape, &w.f.log);
        if (status == SHOAL_OK) {
            for (int32_t i = 0; i < N_UNIT; i++)
                if (file->unit[i].n_part > 0)
                    ck_assert(pack_units_equal(&file->unit[i], &w.u.unit[i]));
            ck_assert_int_ge(file->n_damaged, 1 - (n == file_bytes(w.path)));
        } else {
            ck_assert_int_eq(status, SHOAL_BAD_DATA);
        }
        shoal__pack_close(file);
    }
    ck_assert_int_eq(open_only(&w, &shape), SHOAL_BAD_DATA); /* empty */
    ck_assert_int_eq(add(&w, 1, 1), SHOAL_OK);               /* made anew */
    ck_assert_uint_eq(units_there(&w), 0x02);
    close_world(&w);
}
END_TEST

/* A file that lost its end must not, when it grows again, make an old slot point at new bytes. */
START_TEST(test_cut_then_grown)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_int_eq(add(&w, 0, 3), SHOAL_OK);
    ck_assert_int_eq(truncate(w.path, file_bytes(w.path) - 100), 0);
    ck_assert_uint_eq(units_there(&w), 0x03);
    ck_assert_int_eq(add(&w, 4, 2), SHOAL_OK);
    ck_assert_uint_eq(units_there(&w), 0x33);
    close_world(&w);
}
END_TEST

START_TEST(test_other_shapes)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_int_eq(add(&w, 0, 1), SHOAL_OK);
    for (int i = 0; i < 3; i++) {
        shoal__pack_shape other = shape;
        other.identity += i == 0;
        other.layer += i == 1;
        other.n_unit -= i == 2;
        ck_assert_int_eq(open_only(&w, &other), SHOAL_BAD_DATA);
        ck_assert_ptr_nonnull(strstr(w.f.log.error, "wanted version"));
    }
    fixture_write_text(&w.f, "x.pack", "not what you think");
    ck_assert_int_eq(open_only(&w, &shape), SHOAL_BAD_DATA);
    ck_assert_int_eq(unlink(w.path), 0);
    ck_assert_int_eq(mkfifo(w.path, 0600), 0); /* refused, not waited for */
    ck_assert_int_eq(open_only(&w, &shape), SHOAL_BAD_DATA);
    close_world(&w);
}
END_TEST

/* Slots with good checksums that claim what cannot be. */
START_TEST(test_impossible_slots)
{
    world w;
    open_world(&w, N_ROW);
    ck_assert_int_eq(add(&w, 0, N_UNIT), SHOAL_OK);
    int fd = open(w.path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    shoal__pack_index index;
    ck_assert_int_eq(shoal__pack_index_read(&index, fd, w.path, &shape, &w.f.log), SHOAL_OK);
    for (int i = 0; i < 14; i++) {
        unsigned char saved[256];
        shoal__pack_slot *slot = shoal__pack_index_slot(&index, 1);
        shoal__pack_entry *entry = &shoal__pack_slot_entry(slot)[2]; /* FP8 with scales */
        ck_assert_uint_eq(index.header.slot_bytes, sizeof saved);
        memcpy(saved, slot, sizeof saved);
        slot->unit += i == 0;
        slot->n_part = i == 1 ? 0 : slot->n_part;
        slot->offset += i == 2 ? 4096000 : 0;
        slot->offset += i == 3 ? 64 : 0;
        slot->offset = i == 4 ? 0 : slot->offset;
        slot->n_bytes = i == 5 ? UINT64_MAX : i == 6 ? 64 : slot->n_bytes;
        entry->format = i == 7 ? SHOAL_N_FORMAT : entry->format;
        entry->n_row = i == 8 ? INT32_MAX : i == 9 ? 0 : entry->n_row;
        entry->n_col = i == 8 || i == 10 ? INT32_MAX : entry->n_col;
        entry->data_offset += i == 11 ? 32 : 0;
        entry->data_offset = i == 12 ? UINT64_MAX - 63 : entry->data_offset;
        entry->scale_offset = i == 13 ? 0 : entry->scale_offset;
        shoal__pack_slot_seal(slot);
        ck_assert_int_eq(
            pwrite(fd, slot, sizeof saved, (off_t)shoal__pack_index_slot_offset(&index, 1)),
            sizeof saved);
        ck_assert_msg(units_there(&w) == (0x3f & ~2U), "case %d", i);
        memcpy(slot, saved, sizeof saved);
    }
    shoal__pack_index_close(&index);
    close(fd);
    close_world(&w);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_round_trip);
    SHOAL_TEST(suite, test_mapping_outlives_growth);
    SHOAL_TEST(suite, test_many_writers);
    SHOAL_TEST(suite, test_killed_writer);
    SHOAL_TEST(suite, test_full_disk);
    SHOAL_TEST(suite, test_flipped_bits);
    SHOAL_TEST(suite, test_truncated);
    SHOAL_TEST(suite, test_cut_then_grown);
    SHOAL_TEST(suite, test_other_shapes);
    SHOAL_TEST(suite, test_impossible_slots);
}

SHOAL_TEST_MAIN("checkpoint.pack_file", add_tests)
