/* Check under mpirun. A rank that fails an assertion while another waits in an exchange would hang
 * the job, so a verdict is all-reduced first and then asserted on every rank. Tests run in one
 * process each (CK_NOFORK): MPI does not survive a fork. */
#ifndef SHOAL_TESTS_SUPPORT_MPI_CHECK_H
#define SHOAL_TESTS_SUPPORT_MPI_CHECK_H

#include <check.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Open MPI loads, leaks and unloads plugins, so that its leaks cannot be told from ours. Ours are
 * looked for in the tests over sim. */
#ifdef __SANITIZE_ADDRESS__
const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

/* True if `good` is true on every rank; who says no is printed. Collective. */
static inline bool mpi_all(bool good, const char *text, int line)
{
    int mine = good ? 1 : 0;
    int all = 0;
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (!good)
        fprintf(stderr, "rank %d, line %d: not true: %s\n", rank, line, text);
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    return all == 1;
}

#define MPI_CHECK(condition)                                                                       \
    ck_assert_msg(mpi_all((condition), #condition, __LINE__), "%s, on some rank", #condition)

#define SHOAL_MPI_TEST_MAIN(name, add_tests)                                                       \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        int provided = MPI_THREAD_SINGLE;                                                          \
        if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)          \
            return EXIT_FAILURE;                                                                   \
        Suite *suite = suite_create(name);                                                         \
        add_tests(suite);                                                                          \
        SRunner *runner = srunner_create(suite);                                                   \
        srunner_set_fork_status(runner, CK_NOFORK);                                                \
        srunner_run_all(runner, CK_NORMAL);                                                        \
        int n_failed = srunner_ntests_failed(runner);                                              \
        srunner_free(runner);                                                                      \
        MPI_Finalize();                                                                            \
        return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                        \
    }

#endif
