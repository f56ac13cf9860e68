/* From mpirun's status and what was heard to one meaning and one exit code (DESIGN: 75 is "try
 * again", whatever plain mpirun made of it). The cases and their statuses are measured:
 * docs/CLUSTER.md, Launch. */
#include "launcher/launch/watch.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define SAY(outcome, ...) snprintf((outcome)->text, sizeof(outcome)->text, __VA_ARGS__)

/* Signals that a program brings upon itself: it would do so again. */
static bool is_crash(int32_t signal_number)
{
    return signal_number == SIGSEGV || signal_number == SIGBUS || signal_number == SIGILL ||
           signal_number == SIGFPE || signal_number == SIGABRT || signal_number == SIGSYS;
}

static void lose(shoal_outcome *o, const shoal_launch_job *job, int32_t rank, const char *host)
{
    o->kind = SHOAL_OUTCOME_LOST;
    o->status = SHOAL_PEER_LOST;
    o->host = shoal_launch_job_host_of(job, rank);
    if (o->host < 0 && host != NULL)
        o->host = shoal_launch_job_host_named(job, host);
}

static void of_loss(shoal_outcome *o, const shoal_watch *watch, const shoal_launch_end *end,
                    const shoal_launch_job *job)
{
    lose(o, job, watch->lost_rank, watch->lost_host);
    const double after_s = (double)(watch->lost_us - end->start_us) / 1e6;
    if (watch->lost_rank < 0)
        SAY(o, "the host %s was lost %.1f s after the start: mpirun does not reach it any more",
            watch->lost_host, after_s);
    else
        SAY(o, "rank %d (%s) was lost %.1f s after the start%s%s", (int)watch->lost_rank,
            watch->lost_host, after_s, watch->lost_how[0] != '\0' ? ": " : "", watch->lost_how);
}

/* Where the others were when it went, if they noticed: " at step 6, layer 3; last heard 0.1 s ago"
 */
static const char *place_of(const shoal_watch *watch, int32_t rank)
{
    return rank >= 0 && rank == watch->unheard_rank ? watch->unheard_how : "";
}

/* A rank that died of a signal. */
static void of_killed(shoal_outcome *o, const shoal_watch *watch, const shoal_launch_end *end,
                      const shoal_launch_job *job)
{
    const int32_t s = watch->killed_signal;
    if (is_crash(s)) {
        o->kind = SHOAL_OUTCOME_FAILED;
        o->status = SHOAL_FAILED;
        o->host = shoal_launch_job_host_of(job, watch->killed_rank);
        SAY(o,
            "rank %d (%s) crashed with signal %d (%s): that is a bug, or broken memory, and is not "
            "tried again",
            (int)watch->killed_rank, watch->killed_host, (int)s, strsignal(s));
        return;
    }
    lose(o, job, watch->killed_rank, watch->killed_host);
    const char *place = place_of(watch, watch->killed_rank);
    SAY(o, "rank %d (%s) was lost %.1f s after the start%s%s: killed by signal %d (%s)%s",
        (int)watch->killed_rank, watch->killed_host, (double)(watch->lost_us - end->start_us) / 1e6,
        place[0] != '\0' ? " at " : "", place, (int)s, strsignal(s),
        s == SIGKILL ? "; if nobody did that, the host ran out of memory (see dmesg there)" : "");
}

/* A status that is shoal's own, or FAILED. */
static shoal_status status_of_code(int32_t code)
{
    static const shoal_status own[] = {SHOAL_USAGE, SHOAL_BAD_DATA, SHOAL_NO_INPUT,
                                       SHOAL_UNAVAILABLE};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (shoal_status_exit_code(own[i]) == code)
            return own[i];
    return SHOAL_FAILED;
}

/* Nobody said that a rank is lost. */
static void of_code(shoal_outcome *o, const shoal_watch *watch, int32_t code,
                    const shoal_launch_job *job)
{
    const shoal_status own = status_of_code(code);
    if (code == shoal_status_exit_code(SHOAL_PEER_LOST)) {
        lose(o, job, -1, NULL);
        if (watch->stopped)
            o->kind = SHOAL_OUTCOME_STOPPED;
        SAY(o, "%s", watch->stopped ? "the ranks were stopped by a signal" : "a rank was lost");
    } else if (code == 128 + SIGKILL || code == 128 + SIGTERM) {
        lose(o, job, -1, NULL);
        SAY(o, "a rank was killed (status %d of mpirun)", (int)code);
    } else if (watch->unreachable || watch->no_binary) {
        o->kind = watch->unreachable ? SHOAL_OUTCOME_UNREACHABLE : SHOAL_OUTCOME_FAILED;
        o->status = SHOAL_UNAVAILABLE;
        SAY(o, "%s",
            watch->unreachable
                ? "mpirun could not start on every host: does ssh (or rsh_agent) get there "
                  "without a password, and is Open MPI installed there?"
                : "shoal could not be started on every host: is the binary at the same path "
                  "there? (`binary` of the cluster file's `launch`)");
    } else if (own == SHOAL_FAILED && watch->n_error == 0 && watch->exit_rank >= 0) {
        lose(o, job, watch->exit_rank, NULL);
        const char *place = place_of(watch, watch->exit_rank);
        SAY(o, "rank %d (%s) was lost%s%s: it ended with status %d without a word",
            (int)watch->exit_rank, o->host >= 0 ? job->host[o->host].name : "?",
            place[0] != '\0' ? " at " : "", place, (int)watch->exit_code);
    } else {
        o->kind = SHOAL_OUTCOME_FAILED;
        o->status = own;
        if (watch->n_error == 0)
            SAY(o, "mpirun ended with status %d before a rank said why; see its own message",
                (int)code);
    }
}

void shoal_outcome_of(shoal_outcome *outcome, const shoal_watch *watch, const shoal_launch_end *end,
                      const shoal_launch_job *job)
{
    *outcome = (shoal_outcome){.kind = SHOAL_OUTCOME_DONE, .status = SHOAL_OK, .host = -1};
    const bool exited = WIFEXITED(end->wait_status);
    const int32_t code = exited ? WEXITSTATUS(end->wait_status) : -1;
    if (code == 0)
        return;
    if (end->signal != 0) {
        outcome->kind = SHOAL_OUTCOME_STOPPED;
        outcome->status = SHOAL_INTERRUPTED;
        SAY(outcome, "stopped by signal %d (%s)", (int)end->signal, strsignal(end->signal));
    } else if (watch->lost) {
        of_loss(outcome, watch, end, job);
    } else if (watch->killed_rank >= 0) {
        of_killed(outcome, watch, end, job);
    } else if (!exited) {
        lose(outcome, job, -1, NULL);
        SAY(outcome, "mpirun itself was ended by signal %d (%s)", (int)WTERMSIG(end->wait_status),
            strsignal(WTERMSIG(end->wait_status)));
    } else {
        of_code(outcome, watch, code, job);
    }
}
