#include "runtime/base/arena.h"
#include "tests/support/check_main.h"

#include <signal.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

typedef struct buffers {
    char *bytes;   /* [5] */
    float *floats; /* [100] */
    double *none;  /* [0] */
    int64_t *last; /* [3] */
} buffers;

static void carve(buffers *b, shoal_arena *arena)
{
    b->bytes = SHOAL_TAKE(arena, 5, char);
    b->floats = SHOAL_TAKE(arena, 100, float);
    b->none = SHOAL_TAKE(arena, 0, double);
    b->last = SHOAL_TAKE(arena, 3, int64_t);
}

static void open_arena(shoal_arena *arena, buffers *b)
{
    shoal_arena_measure(arena, "test");
    carve(b, arena);
    ck_assert_ptr_null(b->floats);
    ck_assert_int_eq(shoal_arena_open(arena, NULL), SHOAL_OK);
    carve(b, arena);
}

START_TEST(carves_what_it_measured)
{
    shoal_arena arena;
    buffers b;
    shoal_arena_measure(&arena, "test");
    carve(&b, &arena);
    size_t measured = arena.used_bytes;
    ck_assert_uint_ge(measured, 5 + 400 + 24);
    ck_assert_int_eq(arena.n_buffer, 4);
    ck_assert_int_eq(shoal_arena_open(&arena, NULL), SHOAL_OK);
    ck_assert_uint_eq(arena.size_bytes, measured);
    ck_assert_uint_eq(arena.used_bytes, 0);
    carve(&b, &arena);
    ck_assert_uint_eq(arena.used_bytes, measured);
    ck_assert_uint_eq((uintptr_t)b.bytes % 64, 0);
    ck_assert_uint_eq((uintptr_t)b.floats % 64, 0);
    ck_assert_uint_eq((uintptr_t)b.last % 64, 0);
    for (int i = 0; i < 100; i++)
        ck_assert(b.floats[i] == 0.0f);
    memset(b.bytes, 1, 5);
    memset(b.floats, 2, 400);
    memset(b.last, 3, 24);
    ck_assert_int_eq(b.bytes[4], 1);
    ck_assert(shoal_arena_check(&arena));
    shoal_arena_close(&arena);
    ck_assert_ptr_null(arena.base);
    shoal_arena_close(&arena);
}
END_TEST

START_TEST(empty_and_zeroed_arenas)
{
    shoal_arena arena;
    shoal_arena_measure(&arena, "empty");
    ck_assert_int_eq(shoal_arena_open(&arena, NULL), SHOAL_OK);
    ck_assert_ptr_nonnull(arena.base);
    ck_assert(shoal_arena_check(&arena));
    shoal_arena_close(&arena);
    shoal_arena zeroed = {0};
    ck_assert(shoal_arena_check(&zeroed));
    shoal_arena_close(&zeroed);
}
END_TEST

START_TEST(no_memory_is_a_status)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    shoal_arena arena;
    shoal_arena_measure(&arena, "the session");
    shoal_arena_take(&arena, (size_t)1 << 60, 2);
    ck_assert_int_eq(shoal_arena_open(&arena, &log), SHOAL_NO_MEMORY);
    ck_assert_ptr_nonnull(strstr(log.error, "the session"));
    ck_assert_ptr_null(arena.base);
    ck_assert_uint_ge(arena.used_bytes, (size_t)1 << 61);
    shoal_arena_close(&arena);
}
END_TEST

/* These two end in abort(), which is what Check expects of them. */
START_TEST(overflow_aborts)
{
    shoal_arena arena;
    shoal_arena_measure(&arena, "test");
    shoal_arena_take(&arena, SIZE_MAX / 4 + 1, 4);
}
END_TEST

START_TEST(carving_more_aborts)
{
    shoal_arena arena;
    buffers b;
    open_arena(&arena, &b);
    shoal_arena_take(&arena, 1, 1);
}
END_TEST

#if defined(SHOAL_RED_ZONES) && !defined(__SANITIZE_ADDRESS__)

/* Every byte between the buffers, one at a time. */
START_TEST(every_overwritten_byte_is_noticed)
{
    shoal_arena arena;
    buffers b;
    open_arena(&arena, &b);
    unsigned char *first = (unsigned char *)b.bytes;
    unsigned char *second = (unsigned char *)b.floats;
    for (unsigned char *byte = first + 5; byte < second; byte++) {
        *byte ^= 0x10;
        ck_assert_msg(!shoal_arena_check(&arena), "byte %d", (int)(byte - first));
        *byte ^= 0x10;
    }
    ck_assert(shoal_arena_check(&arena));
    memset(b.last + 3, 0, 64);
    ck_assert(!shoal_arena_check(&arena));
    shoal_arena_close(&arena);
}
END_TEST

#endif

#if defined(SHOAL_RED_ZONES) && defined(__SANITIZE_ADDRESS__)

START_TEST(zones_are_poisoned)
{
    shoal_arena arena;
    buffers b;
    open_arena(&arena, &b);
    ck_assert(!__asan_address_is_poisoned(b.bytes + 4));
    ck_assert(__asan_address_is_poisoned(b.bytes + 5));
    ck_assert(__asan_address_is_poisoned((char *)b.floats - 1));
    ck_assert(!__asan_address_is_poisoned(b.floats + 99));
    ck_assert(__asan_address_is_poisoned(b.floats + 100));
    ck_assert(__asan_address_is_poisoned(b.last + 3));
    unsigned char *base = arena.base;
    size_t n_bytes = arena.size_bytes;
    shoal_arena_close(&arena);
    ck_assert_ptr_null(__asan_region_is_poisoned(base, n_bytes));
}
END_TEST

#endif

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, carves_what_it_measured);
    SHOAL_TEST(suite, empty_and_zeroed_arenas);
    SHOAL_TEST(suite, no_memory_is_a_status);
    TCase *aborts = tcase_create("aborts");
    tcase_add_test_raise_signal(aborts, overflow_aborts, SIGABRT);
    tcase_add_test_raise_signal(aborts, carving_more_aborts, SIGABRT);
    suite_add_tcase(suite, aborts);
#if defined(SHOAL_RED_ZONES) && !defined(__SANITIZE_ADDRESS__)
    SHOAL_TEST(suite, every_overwritten_byte_is_noticed);
#endif
#if defined(SHOAL_RED_ZONES) && defined(__SANITIZE_ADDRESS__)
    SHOAL_TEST(suite, zones_are_poisoned);
#endif
}

SHOAL_TEST_MAIN("base.arena", add_tests)
