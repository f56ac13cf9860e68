/* The main of a Check test program: SHOAL_TEST_MAIN("comm.plan", add_tests) where add_tests puts
 * cases into the suite. Runs in no-fork mode under MPI and under sanitizers is the caller's choice
 * (CK_FORK=no). */
#ifndef SHOAL_TESTS_SUPPORT_CHECK_MAIN_H
#define SHOAL_TESTS_SUPPORT_CHECK_MAIN_H

#include <check.h>
#include <stdlib.h>

/* Check notes the place of each assertion that held in a file, for the case of a crash behind it:
 * in loops over values that is nearly all of a test's time. A crash names its test all the same. */
#undef ck_assert_msg
#define ck_assert_msg(expr, ...)                                                                   \
    ((expr)                                                                                        \
         ? (void)0                                                                                 \
         : _ck_assert_failed(__FILE__, __LINE__, "Assertion '" #expr "' failed", ##__VA_ARGS__))

/* One TCase per test function: name and function. Fork mode: a crash fails one test only. */
#define SHOAL_TEST(suite, fn)                                                                      \
    do {                                                                                           \
        TCase *case_ = tcase_create(#fn);                                                          \
        tcase_set_timeout(case_, 0); /* ctest has the time-out */                                  \
        tcase_add_test(case_, fn);                                                                 \
        suite_add_tcase((suite), case_);                                                           \
    } while (0)

static inline int shoal_test_main(const char *name, void (*add_tests)(Suite *suite))
{
    Suite *suite = suite_create(name);
    add_tests(suite);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define SHOAL_TEST_MAIN(name, add_tests)                                                           \
    int main(void)                                                                                 \
    {                                                                                              \
        return shoal_test_main((name), (add_tests));                                               \
    }

#endif
