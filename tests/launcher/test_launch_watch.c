/* What is heard and what it means; the texts are those that ranks and Open MPI 4.1.4 wrote. */
#include "launcher/launch/watch.h"
#include "tests/support/check_main.h"

#include <signal.h>
#include <string.h>

#define LOST                                                                                       \
    "[0 fish1] error: rank 2 (fish3) is lost: silent for 3.0 s, waiting for combine rows at step " \
    "5, layer 3; last heard 3.0 s ago. See what became of that machine or its network, then "      \
    "start again\n"
#define TOLD                                                                                       \
    "[1 fish2] error: told by rank 0 (fish1) that rank 2 (fish3) is lost (step 5, layer 3)\n"
#define DEVICE                                                                                     \
    "[2 fish3] error: cuda:0 (a GPU) has failed: an injected fault\n"                              \
    "[2 fish3] error: rank 2 (fish3) is lost: its device is unavailable, see above, at step 5, "   \
    "layer 3; the other ranks are told\n"
#define KILLED                                                                                     \
    "--------------------------------------------------------------------------\n"                 \
    "mpirun noticed that process rank 1 with PID 0 on node fish2 exited on signal 9 (Killed).\n"
#define LEFT                                                                                       \
    "the job to be terminated. The first process to do so was:\n\n"                                \
    "  Process name: [[25061,1],1]\n  Exit code:    1\n"
#define STOPPED                                                                                    \
    "[0 fish1] error: stopped by signal 15, waiting for combine rows at step 5, layer 3\n"         \
    "[0 fish1] warning: rank 1 (fish2) has not answered since the signal and may be what was "     \
    "lost, at step 5, layer 3; last heard 0.1 s ago\n"
#define DAEMON                                                                                     \
    "ORTE has lost communication with a remote daemon.\n\n  HNP daemon   : [[53247,0],0] on node " \
    "fish1\n  Remote daemon: [[53247,0],2] on node fish3\n"

static int32_t exited(int32_t code)
{
    return code << 8;
}

/* Three hosts of one rank each. */
static void hear(shoal_outcome *outcome, const char *text, const shoal_launch_end *end)
{
    static shoal_launch_host host[] = {{.name = "fish1", .address = "fish1", .n_rank = 1},
                                       {.name = "fish2", .address = "10.0.0.2", .n_rank = 1},
                                       {.name = "fish3", .address = "fish3", .n_rank = 1}};
    const shoal_launch_job job = {.host = host, .n_host = 3};
    shoal_watch watch;
    shoal_watch_init(&watch);
    shoal_watch_take(&watch, text, strlen(text), 12500000);
    shoal_outcome_of(outcome, &watch, end, &job);
}

static void expect(const char *text, int32_t wait_status, shoal_outcome_kind kind, int32_t code,
                   const char *says)
{
    shoal_outcome o;
    hear(&o, text, &(shoal_launch_end){.wait_status = wait_status});
    ck_assert_msg(o.kind == kind, "kind %d, wanted %d: %s", o.kind, kind, o.text);
    ck_assert_int_eq(shoal_status_exit_code(o.status), code);
    ck_assert_msg(strstr(o.text, says) != NULL && (says[0] != '\0' || o.text[0] == '\0'),
                  "%s, wanted %s", o.text, says);
}

START_TEST(a_loss_that_ranks_found_is_75_whatever_mpirun_says)
{
    static const int32_t codes[] = {75, 137, 143, 1};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        expect(LOST TOLD, exited(codes[i]), SHOAL_OUTCOME_LOST, 75,
               "rank 2 (fish3) was lost 12.5 s after the start: silent for 3.0 s, waiting for "
               "combine rows at step 5, layer 3; last heard 3.0 s ago");
    expect(TOLD, exited(75), SHOAL_OUTCOME_LOST, 75, "rank 2 (fish3) was lost");
    shoal_outcome o;
    hear(&o, LOST, &(shoal_launch_end){.wait_status = exited(75)});
    ck_assert_int_eq(o.host, 2);
    hear(&o, TOLD LOST, &(shoal_launch_end){.wait_status = SIGKILL, .ended = true});
    ck_assert_int_eq(o.kind, SHOAL_OUTCOME_LOST);
    ck_assert_ptr_nonnull(strstr(o.text, "silent for"));
}
END_TEST

/* Its rank leaves with 69, the others with 75; to the job it is a loss, whoever is heard. */
START_TEST(a_device_that_failed_is_a_loss)
{
    expect(DEVICE, exited(69), SHOAL_OUTCOME_LOST, 75,
           "rank 2 (fish3) was lost 12.5 s after the start: its device is unavailable");
    expect(DEVICE TOLD, exited(75), SHOAL_OUTCOME_LOST, 75, "its device is unavailable");
    expect("[1 fish2] error: told by rank 2 (fish3) that rank 2 (fish3) is lost (step 5, layer 3): "
           "its device is unavailable\n",
           exited(69), SHOAL_OUTCOME_LOST, 75, "rank 2 (fish3) was lost");
    shoal_outcome o;
    hear(&o, DEVICE, &(shoal_launch_end){.wait_status = exited(69)});
    ck_assert_int_eq(o.host, 2);
}
END_TEST

START_TEST(a_rank_that_died_without_a_word_is_mpiruns_to_tell)
{
    expect(STOPPED KILLED, exited(137), SHOAL_OUTCOME_LOST, 75,
           "rank 1 (fish2) was lost 12.5 s after the start at step 5, layer 3; last heard 0.1 s "
           "ago: killed by signal 9 (Killed); if nobody "
           "did that, the host ran out of memory");
    expect(
        STOPPED LEFT, exited(1), SHOAL_OUTCOME_LOST, 75,
        "rank 1 (fish2) was lost at step 5, layer 3; last heard 0.1 s ago: it ended with status 1 "
        "without a word");
    expect("", exited(137), SHOAL_OUTCOME_LOST, 75, "a rank was killed (status 137 of mpirun)");
    expect("", exited(143), SHOAL_OUTCOME_LOST, 75, "a rank was killed (status 143 of mpirun)");
    expect("", exited(75), SHOAL_OUTCOME_LOST, 75, "a rank was lost");
    expect("", SIGKILL, SHOAL_OUTCOME_LOST, 75, "mpirun itself was ended by signal 9");
}
END_TEST

START_TEST(a_host_that_mpirun_does_not_reach_is_lost)
{
    expect(DAEMON, exited(1), SHOAL_OUTCOME_LOST, 75,
           "the host fish3 was lost 12.5 s after the start: mpirun does not reach it any more");
    shoal_outcome o;
    hear(&o, DAEMON, &(shoal_launch_end){.wait_status = exited(1)});
    ck_assert_int_eq(o.host, 2);
    hear(&o, "  Remote daemon: [[1,0],1] on node 10.0.0.2\n",
         &(shoal_launch_end){.wait_status = exited(1)});
    ck_assert_int_eq(o.host, 1);
}
END_TEST

START_TEST(a_failure_that_was_said_stays_what_it_is)
{
    expect("[0 fish1] error: model \"/x\": No such file\n" LEFT, exited(66), SHOAL_OUTCOME_FAILED,
           66, "");
    expect("[2 fish3] error: out of memory\n" LEFT, exited(1), SHOAL_OUTCOME_FAILED, 1, "");
    expect("[0 fish1] error: 3 bad lines in in.jsonl\n", exited(65), SHOAL_OUTCOME_FAILED, 65, "");
    expect("", exited(1), SHOAL_OUTCOME_FAILED, 1, "mpirun ended with status 1 before a rank said");
    expect("", exited(213), SHOAL_OUTCOME_FAILED, 1, "mpirun ended with status 213");
}
END_TEST

START_TEST(a_crash_is_no_loss)
{
    expect("mpirun noticed that process rank 1 with PID 7 on node fish2 exited on signal 11 "
           "(Segmentation fault).\n",
           exited(139), SHOAL_OUTCOME_FAILED, 1, "rank 1 (fish2) crashed with signal 11");
}
END_TEST

START_TEST(what_could_not_be_started_is_unavailable)
{
    expect("ORTE was unable to reliably start one or more daemons.\n", exited(255),
           SHOAL_OUTCOME_UNREACHABLE, 69, "could not start on every host");
    expect("mpirun was unable to launch the specified application as it could not access\n",
           exited(132), SHOAL_OUTCOME_FAILED, 69, "is the binary at the same path");
}
END_TEST

START_TEST(a_signal_is_no_loss)
{
    shoal_outcome o;
    hear(&o, STOPPED KILLED, &(shoal_launch_end){.wait_status = exited(1), .signal = SIGTERM});
    ck_assert_int_eq(o.kind, SHOAL_OUTCOME_STOPPED);
    ck_assert_int_eq(shoal_status_exit_code(o.status), 75);
    ck_assert_str_eq(o.text, "stopped by signal 15 (Terminated)");
    expect("[0 fish1] error: interrupted by signal 15\n", exited(75), SHOAL_OUTCOME_STOPPED, 75,
           "stopped by a signal");
    expect(STOPPED, exited(75), SHOAL_OUTCOME_STOPPED, 75, "stopped by a signal");
    hear(&o, "", &(shoal_launch_end){.wait_status = exited(0), .signal = SIGTERM});
    ck_assert_int_eq(o.kind, SHOAL_OUTCOME_DONE);
}
END_TEST

START_TEST(texts_that_only_look_like_it_mean_nothing)
{
    static const char *const cases[] = {
        "rank 2 (fish3) is lost: no\n",
        "[0 fish1] info: rank 2 (fish3) is lost: no\n",
        "[0 fish1] error: rank two (fish3) is lost: no\n",
        "[0 fish1] error: rank 2 (fish3\n",
        "[0 fish1] error: rank 99999999999 (fish3) is lost: no\n",
        "[vm:02875] 1 more process has sent help message help-mpi-api.txt / mpi-abort\n",
        "[] error: \n[0\n\n\n",
        "[0 fish1] error: told by rank 0 (fish1) that rank 2 (fish3) failed (step 1): run failed\n",
        " noticed that process rank \n",
        "noticed that process rank 1 exited on signal 9\n",
        "Remote daemon: [[1,0],2]\n",
        "  Process name: [[nothing\n",
        "[0 fish1] error: rank 2 (fish3) is lost: not yet whole"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shoal_watch watch;
        shoal_watch_init(&watch);
        shoal_watch_take(&watch, cases[i], strlen(cases[i]), 1);
        ck_assert_msg(!watch.lost && watch.killed_rank < 0 && watch.exit_rank < 0, "%s", cases[i]);
    }
}
END_TEST

START_TEST(lines_are_whole_whatever_the_cuts)
{
    static const char text[] = KILLED LOST DAEMON;
    for (size_t cut = 1; cut < 64; cut++) {
        shoal_watch watch;
        shoal_watch_init(&watch);
        for (size_t at = 0; at < sizeof text - 1; at += cut)
            shoal_watch_take(&watch, text + at,
                             at + cut < sizeof text - 1 ? cut : sizeof text - 1 - at, 1);
        ck_assert(watch.lost);
        ck_assert_int_eq(watch.lost_rank, 2);
        ck_assert_str_eq(watch.lost_host, "fish3");
        ck_assert_int_eq(watch.killed_rank, 1);
        ck_assert_int_eq(watch.killed_signal, 9);
    }
}
END_TEST

START_TEST(a_line_without_end_is_cut)
{
    shoal_watch watch;
    shoal_watch_init(&watch);
    for (int32_t i = 0; i < 3 * SHOAL_WATCH_LINE; i++)
        shoal_watch_take(&watch, i % 2 ? "\0" : "x", 1, 1);
    shoal_watch_take(&watch, "\n" LOST, strlen(LOST) + 1, 1);
    ck_assert(watch.lost);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, a_loss_that_ranks_found_is_75_whatever_mpirun_says);
    SHOAL_TEST(suite, a_device_that_failed_is_a_loss);
    SHOAL_TEST(suite, a_rank_that_died_without_a_word_is_mpiruns_to_tell);
    SHOAL_TEST(suite, a_host_that_mpirun_does_not_reach_is_lost);
    SHOAL_TEST(suite, a_failure_that_was_said_stays_what_it_is);
    SHOAL_TEST(suite, a_crash_is_no_loss);
    SHOAL_TEST(suite, what_could_not_be_started_is_unavailable);
    SHOAL_TEST(suite, a_signal_is_no_loss);
    SHOAL_TEST(suite, texts_that_only_look_like_it_mean_nothing);
    SHOAL_TEST(suite, lines_are_whole_whatever_the_cuts);
    SHOAL_TEST(suite, a_line_without_end_is_cut);
}

SHOAL_TEST_MAIN("launcher.launch_watch", add_tests)
