#include "tests/kernels/variants.h"

static shoal_log quiet(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    return log;
}

START_TEST(every_listed_variant_can_be_named)
{
    shoal_log log = quiet();
    variants v = all_variants();
    for (int32_t i = 0; i < v.n; i++) {
        const shoal_kernels *kernels = NULL;
        ck_assert_int_eq(shoal_kernels_select(&kernels, v.kernels[i]->name, &log), SHOAL_OK);
        ck_assert_ptr_eq(kernels, v.kernels[i]);
    }
}
END_TEST

START_TEST(auto_is_the_widest)
{
    shoal_log log = quiet();
    variants v = all_variants();
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "auto", &log), SHOAL_OK);
    ck_assert_ptr_eq(kernels, v.kernels[v.n - 1]);
}
END_TEST

START_TEST(the_list_is_cut_but_counted)
{
    const shoal_kernels *kernels[2] = {NULL, NULL};
    int32_t n = shoal_kernels_list(kernels, 1);
    ck_assert_int_eq(n, all_variants().n);
    ck_assert_str_eq(kernels[0]->name, "reference");
    ck_assert_ptr_null(kernels[1]);
}
END_TEST

START_TEST(unknown_names_are_answered_with_the_list)
{
    shoal_log log = quiet();
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "sse9", &log), SHOAL_USAGE);
    ck_assert_ptr_null(kernels);
    ck_assert_ptr_nonnull(strstr(log.error, "sse9"));
    ck_assert_ptr_nonnull(strstr(log.error, "auto, reference"));
}
END_TEST

/* Whatever the CPU, a variant that cannot run says what for. */
START_TEST(what_a_cpu_lacks_is_named)
{
    static const char *const name[] = {"avx2", "avx2vnni", "avx512"};
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        shoal_log log = quiet();
        const shoal_kernels *kernels = NULL;
        shoal_status status = shoal_kernels_select(&kernels, name[i], &log);
        if (status == SHOAL_OK)
            continue;
        ck_assert_ptr_null(kernels);
        if (status == SHOAL_UNAVAILABLE)
            ck_assert_ptr_nonnull(strstr(log.error, "need AVX"));
        else /* another architecture */
            ck_assert_int_eq(status, SHOAL_USAGE);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, every_listed_variant_can_be_named);
    SHOAL_TEST(suite, auto_is_the_widest);
    SHOAL_TEST(suite, the_list_is_cut_but_counted);
    SHOAL_TEST(suite, unknown_names_are_answered_with_the_list);
    SHOAL_TEST(suite, what_a_cpu_lacks_is_named);
}

SHOAL_TEST_MAIN("kernels.select", add_tests)
