/* What would fit a GPU that has not enough memory: figures that hold. */
#include "launcher/memory_report.h"
#include "tests/support/check_main.h"

#include <string.h>

#define GB 1000000000ull

static void expect(const shoal_memory_shortage *shortage, const char *const *said)
{
    char text[512];
    shoal_memory_advice(text, shortage);
    for (; *said != NULL; said++)
        ck_assert_msg(strstr(text, *said) != NULL, "'%s' is not in '%s'", *said, text);
}

#define EXPECT(shortage, ...) expect((shortage), (const char *const[]){__VA_ARGS__, NULL})

START_TEST(experts_that_fit_beside_the_rest)
{
    /* 94 layers of 128 experts in 120 GB, 4 GB beside them: 20 GB of 24 are 2005 experts */
    shoal_memory_shortage s = {.free_bytes = 24 * GB,
                               .device_bytes = 124 * GB,
                               .expert_bytes = 120 * GB,
                               .kv_bytes = 2 * GB,
                               .n_expert = 94 * 128,
                               .n_layer = 94,
                               .n_context = 4096,
                               .n_sequence = 1};
    EXPECT(&s, "Beside all else (4.00 GB)", "2005 of the 12032 experts", " 21 of each layer",
           "mpirun -np 2", "--device cuda,cpu --placement weighted");
    s.has_cpu_rank = true;
    EXPECT(&s, "--placement weighted fills this GPU");
}
END_TEST

START_TEST(a_cache_that_is_too_large)
{
    /* 30 GB beside the experts, 26 of them cache, 24 free: 20 GB of cache fit */
    shoal_memory_shortage s = {.free_bytes = 24 * GB,
                               .device_bytes = 50 * GB,
                               .expert_bytes = 20 * GB,
                               .kv_bytes = 26 * GB,
                               .n_expert = 100,
                               .n_layer = 10,
                               .n_context = 32768,
                               .n_sequence = 8};
    EXPECT(&s, "Even without experts it needs 30.0 GB", "26.0 GB are the kv cache",
           "--context 25152 (now 32768)", "--sequences (now 8)");
    s.kv_bytes = 1 * GB;
    EXPECT(&s, "--weights q8 or q4", "sequences: 0");
}
END_TEST

START_TEST(a_little_is_left_to_the_driver)
{
    ck_assert_uint_eq(shoal_memory_room(24 * GB), 24 * GB - (256 << 20));
    ck_assert_uint_eq(shoal_memory_room(3200), 3100);
    ck_assert_uint_eq(shoal_memory_room(0), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, experts_that_fit_beside_the_rest);
    SHOAL_TEST(suite, a_cache_that_is_too_large);
    SHOAL_TEST(suite, a_little_is_left_to_the_driver);
}

SHOAL_TEST_MAIN("launcher.memory_report", add_tests)
