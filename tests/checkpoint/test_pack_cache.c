/* The cache of packed weights: what is kept is found again under any order, stale state is not,
 * trouble is said and never ends a run, --verify names what is damaged. */
#include "runtime/checkpoint/pack_cache.h"
#include "tests/checkpoint/fixture.h"
#include "tests/checkpoint/pack_units.h"
#include "tests/support/check_main.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_LAYER = 2, N_EXPERT = 6 };

typedef struct world {
    fixture f;
    pack_units u;
    char dir[256];
    FILE *said; /* what the log wrote */
    shoal_log log;
    shoal_pack_config config;
} world;

static void open_world(world *w)
{
    fixture_open(&w->f);
    pack_units_open(&w->u, N_EXPERT, 40);
    snprintf(w->dir, sizeof w->dir, "%s", fixture_path(&w->f, "cache"));
    w->said = tmpfile();
    ck_assert_ptr_nonnull(w->said);
    shoal_log_init(&w->log, w->said, 0, "here");
    w->config = (shoal_pack_config){.dir = w->dir,
                                    .identity = 42,
                                    .weights = "q4",
                                    .model = "/models/fish",
                                    .n_layer = N_LAYER,
                                    .n_expert = N_EXPERT,
                                    .speaks = true};
}

static int remove_one(const char *path, const struct stat *entry, int kind, struct FTW *place)
{
    (void)entry, (void)kind, (void)place;
    return remove(path);
}

static void close_world(world *w)
{
    nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    fclose(w->said);
    pack_units_close(&w->u);
    fixture_close(&w->f);
}

/* Whether the log said it since the last call. */
static bool said(world *w, const char *text)
{
    static char all[8192];
    rewind(w->said);
    size_t n = fread(all, 1, sizeof all - 1, w->said);
    all[n] = '\0';
    rewind(w->said);
    ck_assert_int_eq(ftruncate(fileno(w->said), 0), 0);
    return strstr(all, text) != NULL;
}

static shoal_pack_cache *open_cache(world *w)
{
    shoal_pack_cache *cache = NULL;
    ck_assert_int_eq(shoal_pack_cache_open(&cache, &w->config, &w->log), SHOAL_OK);
    return cache;
}

static void add_experts(world *w, shoal_pack_cache *cache, int32_t layer, int32_t first, int32_t n)
{
    shoal_pack_cache_add(cache, layer, true, &w->u.unit[first], n);
}

static const char *file_of(const world *w, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/q4-000000000000002a/%s", w->dir, name);
    return path;
}

START_TEST(test_kept_and_found)
{
    world w;
    open_world(&w);
    shoal_pack_cache *cache = open_cache(&w);
    ck_assert_ptr_null(shoal_pack_cache_find(cache, 1, 3));
    add_experts(&w, cache, 1, 3, 2);
    shoal_pack_cache_add(cache, 1, false, &w.u.unit[0], 1);
    shoal_pack_cache_add(cache, SHOAL_PACK_NO_LAYER, false, &w.u.unit[0], 1);
    ck_assert_ptr_null(shoal_pack_cache_find(cache, 1, 3)); /* as it was when first looked at */
    shoal_pack_cache_close(cache);

    cache = open_cache(&w);
    for (int32_t e = 0; e < N_EXPERT; e++) {
        const shoal_pack_unit *unit = shoal_pack_cache_find(cache, 1, e);
        ck_assert_int_eq(unit != NULL, e == 3 || e == 4);
        ck_assert(unit == NULL || pack_units_equal(unit, &w.u.unit[e]));
        ck_assert_ptr_null(shoal_pack_cache_find(cache, 0, e));
    }
    const shoal_pack_unit *rest = shoal_pack_cache_find(cache, 1, SHOAL_PACK_NO_EXPERT);
    ck_assert(pack_units_equal(rest, &w.u.unit[0]));
    ck_assert(pack_units_equal(
        shoal_pack_cache_find(cache, SHOAL_PACK_NO_LAYER, SHOAL_PACK_NO_EXPERT), &w.u.unit[0]));
    ck_assert_ptr_null(shoal_pack_unit_find(rest, 99));
    const shoal_matrix *m = shoal_pack_unit_find(rest, 102);
    ck_assert_ptr_eq(m, &rest->part[2].matrix);
    ck_assert_int_eq(shoal_pack_cache_populate(cache, m->data, 2560), SHOAL_OK);
    shoal_pack_cache_close(cache);
    ck_assert(!said(&w, "cache"));
    close_world(&w);
}
END_TEST

START_TEST(test_stale)
{
    world w;
    open_world(&w);
    shoal_pack_cache *cache = open_cache(&w);
    add_experts(&w, cache, 0, 0, 1);
    shoal_pack_cache_close(cache);
    w.config.identity = 43;
    cache = open_cache(&w);
    ck_assert(said(&w, "q4-000000000000002a is stale"));
    ck_assert_ptr_null(shoal_pack_cache_find(cache, 0, 0));
    shoal_pack_cache_close(cache);
    w.config.model = "/models/other"; /* another's is not stale */
    w.config.identity = 44;
    shoal_pack_cache_close(open_cache(&w));
    w.config.model = "/models/fish";
    w.config.weights = "q8";
    w.config.identity = 45;
    shoal_pack_cache_close(open_cache(&w));
    ck_assert(!said(&w, "stale"));
    close_world(&w);
}
END_TEST

/* The identity changes with the configuration, a header, a size, a time and --weights. */
START_TEST(test_identity)
{
    fixture f;
    fixture_open(&f);
    uint64_t seen[6];
    for (int i = 0; i < 6; i++) {
        fixture_write_text(&f, "config.json", i == 1 ? "{\"a\":1}" : "{}");
        fixture_write_safetensors(
            &f, "model.safetensors",
            i == 2 ? "{\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
                   : "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            NULL, 4);
        const struct timespec times[2] = {{.tv_sec = 9}, {.tv_sec = 9, .tv_nsec = i == 3 ? 1 : 0}};
        ck_assert_int_eq(utimensat(AT_FDCWD, fixture_path(&f, "model.safetensors"), times, 0), 0);
        shoal_checkpoint *c = NULL;
        ck_assert_int_eq(shoal_checkpoint_open(&c, f.path, true, &f.log), SHOAL_OK);
        seen[i] = shoal_pack_identity(c, i == 4 ? "q8" : "q4");
        shoal_checkpoint_close(c);
    }
    for (int i = 1; i < 5; i++)
        for (int k = 0; k < i; k++)
            ck_assert_msg(seen[i] != seen[k], "%d and %d", i, k);
    ck_assert_uint_eq(seen[5], seen[0]);
    fixture_close(&f);
}
END_TEST

START_TEST(test_damaged_file)
{
    world w;
    open_world(&w);
    shoal_pack_cache *cache = open_cache(&w);
    add_experts(&w, cache, 0, 0, N_EXPERT);
    shoal_pack_cache_close(cache);
    ck_assert_int_eq(truncate(file_of(&w, "layer-00000-experts.pack"), 100), 0);
    cache = open_cache(&w);
    ck_assert_ptr_null(shoal_pack_cache_find(cache, 0, 0));
    ck_assert(said(&w, "layer-00000-experts.pack: has 100 bytes"));
    add_experts(&w, cache, 0, 0, N_EXPERT);
    shoal_pack_cache_close(cache);
    cache = open_cache(&w);
    ck_assert_ptr_nonnull(shoal_pack_cache_find(cache, 0, 0));
    ck_assert(!said(&w, "cache"));
    shoal_pack_cache_close(cache);
    close_world(&w);
}
END_TEST

START_TEST(test_verify)
{
    world w;
    open_world(&w);
    shoal_pack_cache *cache = open_cache(&w);
    add_experts(&w, cache, 1, 0, N_EXPERT);
    shoal_pack_cache_close(cache);
    /* a bit of the last weight of the file: expert 5 */
    int fd = open(file_of(&w, "layer-00001-experts.pack"), O_RDWR);
    ck_assert_int_ge(fd, 0);
    off_t end = lseek(fd, 0, SEEK_END);
    unsigned char byte;
    ck_assert_int_eq(pread(fd, &byte, 1, end - 200), 1);
    byte ^= 4;
    ck_assert_int_eq(pwrite(fd, &byte, 1, end - 200), 1);
    close(fd);
    for (int verify = 0; verify < 2; verify++) {
        w.config.verify = verify != 0;
        cache = open_cache(&w);
        for (int32_t e = 0; e < N_EXPERT; e++) {
            const shoal_pack_unit *unit = shoal_pack_cache_find(cache, 1, e);
            ck_assert_ptr_nonnull(unit);
            shoal_status status = shoal_pack_cache_verify(cache, unit, 1, e);
            ck_assert_int_eq(status, verify && e == 5 ? SHOAL_BAD_DATA : SHOAL_OK);
        }
        shoal_pack_cache_close(cache);
    }
    ck_assert_ptr_nonnull(strstr(w.log.error, "layer-00001-experts.pack"));
    ck_assert_ptr_nonnull(strstr(w.log.error, "of layer 1, expert 5 have checksum "));
    ck_assert_ptr_nonnull(strstr(w.log.error, "wanted "));
    close_world(&w);
}
END_TEST

START_TEST(test_full_disk)
{
    world w;
    open_world(&w);
    shoal_pack_cache *cache = open_cache(&w);
    add_experts(&w, cache, 0, 0, 1);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 30000, .rlim_max = RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    add_experts(&w, cache, 0, 0, N_EXPERT);
    ck_assert(said(&w, "layer-00000-experts.pack: cannot be written: File too large; the run goes "
                       "on"));
    ck_assert(!shoal_pack_cache_keeps(cache));
    add_experts(&w, cache, 1, 0, N_EXPERT); /* not tried any more */
    ck_assert(!said(&w, "cache"));
    shoal_pack_cache_close(cache);
    cache = open_cache(&w);
    ck_assert(pack_units_equal(shoal_pack_cache_find(cache, 0, 0), &w.u.unit[0]));
    ck_assert_ptr_null(shoal_pack_cache_find(cache, 0, N_EXPERT - 1));
    shoal_pack_cache_close(cache);
    close_world(&w);
}
END_TEST

START_TEST(test_no_folder)
{
    world w;
    open_world(&w);
    w.log.capture = true;
    shoal_pack_cache *cache = NULL;
    w.config.dir = "/nowhere/at/all";
    ck_assert_int_eq(shoal_pack_cache_open(&cache, &w.config, &w.log), SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(w.log.error, "--cache /nowhere/at/all"));
    fixture_write_text(&w.f, "cache", "a file");
    w.config.dir = w.dir;
    ck_assert_int_eq(shoal_pack_cache_open(&cache, &w.config, &w.log), SHOAL_NO_INPUT);
    /* a folder in which nothing can be made: the run goes on without (a file bars the way) */
    ck_assert_int_eq(unlink(w.dir), 0);
    ck_assert_int_eq(mkdir(w.dir, 0777), 0);
    fixture_write_text(&w.f, "cache/q4-000000000000002a", "a file");
    cache = open_cache(&w);
    ck_assert(said(&w, "nothing can be written"));
    ck_assert_ptr_null(shoal_pack_cache_find(cache, 0, 0));
    add_experts(&w, cache, 0, 0, 1);
    shoal_pack_cache_close(cache);
    close_world(&w);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_kept_and_found);
    SHOAL_TEST(suite, test_stale);
    SHOAL_TEST(suite, test_identity);
    SHOAL_TEST(suite, test_damaged_file);
    SHOAL_TEST(suite, test_verify);
    SHOAL_TEST(suite, test_full_disk);
    SHOAL_TEST(suite, test_no_folder);
}

SHOAL_TEST_MAIN("checkpoint.pack_cache", add_tests)
