#include "launcher/launch/run.h"

#include "launcher/launch/child.h"
#include "runtime/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TURN_MS = 100, DRAIN_US = 1000000, KILL_AFTER_US = 2000000 };

typedef struct run {
    pid_t pid;
    int err; /* what the job says */
    bool at_end, exited;
    int64_t signal_us; /* when a signal was forwarded; 0: none */
    int64_t term_us;   /* when it was told to end; 0: not */
    bool killed;
    shoal_launch_end *end;
    shoal_watch *watch;
} run;

/* All of it to our own stderr; a reader that went away is no reason to end a job. */
static void pass_on(const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        bytes += done;
        n -= (size_t)done;
    }
}

static void listen_for(run *r, int timeout_ms)
{
    struct pollfd fd = {.fd = r->at_end ? -1 : r->err, .events = POLLIN};
    if (poll(&fd, 1, timeout_ms) <= 0)
        return;
    char bytes[16384];
    ssize_t n = read(r->err, bytes, sizeof bytes);
    if (n > 0) {
        pass_on(bytes, (size_t)n);
        shoal_watch_take(r->watch, bytes, (size_t)n, shoal_clock_us());
    } else if (n == 0 || errno != EINTR) {
        r->at_end = true;
    }
}

static void look_for_end(run *r)
{
    int status;
    pid_t pid = waitpid(r->pid, &status, WNOHANG);
    if (pid == r->pid) {
        r->exited = true;
        r->end->wait_status = status;
        r->end->end_us = shoal_clock_us();
    }
}

/* What has come in the pipe; something that outlives mpirun may hold its other end. */
static void drain(run *r)
{
    const int64_t until = shoal_clock_us() + DRAIN_US;
    while (!r->at_end && shoal_clock_us() < until)
        listen_for(r, TURN_MS);
}

/* After a loss, or a signal, it has some seconds; then its group is told to end, and then killed.
 */
static void keep_to_time(run *r, shoal_log *log)
{
    const int64_t now = shoal_clock_us();
    int64_t since = r->watch->lost ? r->watch->lost_us : 0;
    if (r->signal_us != 0 && (since == 0 || r->signal_us < since))
        since = r->signal_us;
    if (since == 0 || now < since + SHOAL_LAUNCH_GRACE_US)
        return;
    if (r->term_us == 0) {
        shoal_log_warn(log, "launch: mpirun still runs %d s after %s; its process group is ended",
                       (int)(SHOAL_LAUNCH_GRACE_US / 1000000),
                       since == r->signal_us ? "the signal" : "the loss");
        r->term_us = now;
        r->end->ended = true;
        kill(-r->pid, SIGTERM);
        kill(-r->pid, SIGCONT);
    } else if (!r->killed && now >= r->term_us + KILL_AFTER_US) {
        r->killed = true;
        kill(-r->pid, SIGKILL);
    }
}

static void forward(run *r, const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    if (r->signal_us != 0 || *interrupted == 0)
        return;
    r->end->signal = *interrupted;
    r->signal_us = shoal_clock_us();
    shoal_log_info(log, "launch: signal %d (%s) is passed on", (int)r->end->signal,
                   strsignal(r->end->signal));
    kill(r->pid, r->end->signal);
}

shoal_status shoal_launch_run(shoal_launch_end *end, shoal_watch *watch, const shoal_words *line,
                              const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    shoal_watch_init(watch);
    *end = (shoal_launch_end){.start_us = shoal_clock_us()};
    int err[2];
    if (pipe2(err, O_CLOEXEC) != 0)
        return shoal_fail(log, SHOAL_FAILED, "launch: no pipe: %s", strerror(errno));
    /* What mpirun leaves behind becomes ours, to be ended and collected. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fflush(stdout);
    run r = {.err = err[0], .end = end, .watch = watch};
    r.pid = shoal_child_start(line->word, -1, STDOUT_FILENO, err[1]);
    int error = errno;
    close(err[1]);
    if (r.pid < 0) {
        close(err[0]);
        return shoal_fail(log, error == ENOENT ? SHOAL_UNAVAILABLE : SHOAL_FAILED,
                          "launch: %s could not be started: %s; it comes with Open MPI "
                          "(openmpi-bin)",
                          line->word[0], strerror(error));
    }
    while (!r.exited) {
        listen_for(&r, TURN_MS);
        forward(&r, interrupted, log);
        keep_to_time(&r, log);
        look_for_end(&r);
    }
    /* An agent (ssh) to a host that is cut off does not notice for long, and holds our stdout. */
    if (end->wait_status != 0)
        shoal_child_end_all();
    drain(&r);
    shoal_child_reap();
    close(err[0]);
    return SHOAL_OK;
}
