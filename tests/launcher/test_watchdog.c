#include "launcher/watchdog.h"
#include "tests/support/check_main.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

/* What a child does that watches with `dog` and hangs: its exit code, and what it said. */
static int exit_code_of_a_hang(shoal_watchdog dog, bool speaks, char said[512])
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        shoal_log log;
        shoal_log_init(&log, fdopen(ends[1], "w"), 3, "fish4");
        dog.log = speaks ? &log : NULL;
        shoal_watchdog_start(&dog);
        sleep(30);
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], said, 511);
    said[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(ends_what_hangs)
{
    char said[512];
    shoal_watchdog dog = {.limit_s = 0.1, .text = "it hangs", .status = SHOAL_PEER_LOST};
    ck_assert_int_eq(exit_code_of_a_hang(dog, true, said), 75);
    ck_assert_str_eq(said, "[3 fish4] error: it hangs (waited 0.1 s)\n");
}
END_TEST

/* MPI_Abort after any failure: nothing is said, the exit code is that of the failure. */
START_TEST(may_end_in_silence)
{
    char said[512];
    shoal_watchdog dog = {.limit_s = 0.1, .text = "", .status = SHOAL_INTERRUPTED};
    ck_assert_int_eq(exit_code_of_a_hang(dog, false, said), 75);
    dog.status = SHOAL_BAD_DATA;
    ck_assert_int_eq(exit_code_of_a_hang(dog, false, said), 65);
    ck_assert_str_eq(said, "");
}
END_TEST

START_TEST(a_signal_ends_it_sooner)
{
    char said[512];
    interrupted = 15;
    shoal_watchdog dog = {
        .limit_s = 20, .text = "", .interrupted = &interrupted, .status = SHOAL_PEER_LOST};
    ck_assert_int_eq(exit_code_of_a_hang(dog, true, said), 75);
    ck_assert_str_eq(said, "[3 fish4] error: stopped by signal 15\n");
    interrupted = 0;
}
END_TEST

START_TEST(leaves_alone_what_comes_back)
{
    shoal_watchdog never = {0};
    shoal_watchdog_stop(&never);
    shoal_watchdog dog = {.limit_s = 0.3, .text = "", .status = SHOAL_FAILED};
    shoal_watchdog_start(&dog);
    shoal_watchdog_stop(&dog);
    shoal_watchdog_stop(&dog);
    usleep(500000);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, ends_what_hangs);
    SHOAL_TEST(suite, may_end_in_silence);
    SHOAL_TEST(suite, a_signal_ends_it_sooner);
    SHOAL_TEST(suite, leaves_alone_what_comes_back);
}

SHOAL_TEST_MAIN("launcher.watchdog", add_tests)
