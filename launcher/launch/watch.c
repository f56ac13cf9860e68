#include "launcher/launch/watch.h"

#include <stdlib.h>
#include <string.h>

void shoal_watch_init(shoal_watch *watch)
{
    *watch = (shoal_watch){.lost_rank = -1, .killed_rank = -1, .unheard_rank = -1, .exit_rank = -1};
}

static void copy(char *to, size_t n_to, const char *from, size_t n_from)
{
    size_t n = n_from < n_to - 1 ? n_from : n_to - 1;
    memcpy(to, from, n);
    to[n] = '\0';
}

/* A number, with *text moved behind it; -1: none. */
static int32_t take_number(const char **text)
{
    char *end;
    if (**text < '0' || **text > '9')
        return -1;
    unsigned long value = strtoul(*text, &end, 10);
    *text = end;
    return value <= INT32_MAX ? (int32_t)value : -1;
}

/* True if *text begins with `what`, which is then behind it. */
static bool skip(const char **text, const char *what)
{
    size_t n = strlen(what);
    if (strncmp(*text, what, n) != 0)
        return false;
    *text += n;
    return true;
}

/* "rank 2 (fish3)" */
static bool take_rank(const char **text, int32_t *rank, char host[SHOAL_CLUSTER_NAME])
{
    const char *at = *text;
    if (!skip(&at, "rank ") || (*rank = take_number(&at)) < 0 || !skip(&at, " ("))
        return false;
    size_t n = strcspn(at, ")");
    if (at[n] == '\0')
        return false;
    copy(host, SHOAL_CLUSTER_NAME, at, n);
    *text = at + n + 1;
    return true;
}

static void note_loss(shoal_watch *watch, int32_t rank, const char *host, int64_t now_us)
{
    if (!watch->lost)
        watch->lost_us = now_us;
    watch->lost = true;
    watch->lost_rank = rank;
    copy(watch->lost_host, sizeof watch->lost_host, host, strlen(host));
}

/* What a rank says behind "error: ". The texts are those of comm/blame.c. */
static void take_error(shoal_watch *watch, const char *text, int64_t now_us)
{
    const char *at = text;
    int32_t rank, by;
    char host[SHOAL_CLUSTER_NAME], by_host[SHOAL_CLUSTER_NAME];
    if (take_rank(&at, &rank, host) && skip(&at, " is lost: ")) {
        if (watch->lost && watch->lost_how[0] != '\0')
            return; /* the first who found it knows best */
        note_loss(watch, rank, host, now_us);
        const char *hint = strstr(at, ". See what became of");
        copy(watch->lost_how, sizeof watch->lost_how, at,
             hint != NULL ? (size_t)(hint - at) : strlen(at));
        return;
    }
    at = text;
    if (skip(&at, "told by ") && take_rank(&at, &by, by_host) && skip(&at, " that ") &&
        take_rank(&at, &rank, host)) {
        if (skip(&at, " is lost") && !watch->lost)
            note_loss(watch, rank, host, now_us);
        return; /* and who failed says so itself */
    }
    at = text;
    if (skip(&at, "stopped by signal ") || skip(&at, "interrupted by signal ")) {
        watch->stopped = true;
        return;
    }
    if (watch->n_error++ == 0)
        copy(watch->error, sizeof watch->error, text, strlen(text));
}

/* Behind "warning: ". */
static void take_warning(shoal_watch *watch, const char *text)
{
    int32_t rank;
    char host[SHOAL_CLUSTER_NAME];
    if (!take_rank(&text, &rank, host) ||
        !skip(&text, " has not answered since the signal and may be what was lost, at "))
        return;
    if (watch->unheard_rank < 0)
        copy(watch->unheard_how, sizeof watch->unheard_how, text, strlen(text));
    if (watch->unheard_rank < 0)
        watch->unheard_rank = rank;
}

/* "mpirun noticed that process rank 1 with PID 0 on node fish2 exited on signal 9 (Killed)." */
static bool take_killed(shoal_watch *watch, const char *text, int64_t now_us)
{
    const char *at = strstr(text, " noticed that process rank ");
    if (at == NULL)
        return false;
    at += strlen(" noticed that process rank ");
    int32_t rank = take_number(&at);
    const char *node = strstr(at, " on node ");
    const char *by = strstr(at, " exited on signal ");
    if (rank < 0 || node == NULL || by == NULL || watch->killed_rank >= 0)
        return true;
    node += strlen(" on node ");
    copy(watch->killed_host, sizeof watch->killed_host, node, strcspn(node, " "));
    by += strlen(" exited on signal ");
    watch->killed_rank = rank;
    watch->killed_signal = take_number(&by);
    if (watch->lost_us == 0)
        watch->lost_us = now_us;
    return true;
}

/* mpirun's words, as of Open MPI 4.1 (help texts of orterun and of the daemons). */
static void take_mpirun(shoal_watch *watch, const char *text, int64_t now_us)
{
    const char *at = text + strspn(text, " ");
    if (take_killed(watch, at, now_us))
        return;
    if (skip(&at, "Remote daemon: ")) {
        const char *node = strstr(at, " on node ");
        if (node != NULL && !watch->lost) {
            node += strlen(" on node ");
            char host[SHOAL_CLUSTER_NAME];
            copy(host, sizeof host, node, strcspn(node, " "));
            note_loss(watch, -1, host, now_us);
        }
    } else if (skip(&at, "Process name: [[")) {
        const char *comma = strrchr(at, ',');
        if (comma != NULL && watch->exit_rank < 0) {
            comma++;
            watch->exit_rank = take_number(&comma);
        }
    } else if (skip(&at, "Exit code:")) {
        at += strspn(at, " ");
        if (watch->exit_code == 0)
            watch->exit_code = take_number(&at);
    } else if (skip(&at, "ORTE was unable to reliably start one or more daemons")) {
        watch->unreachable = true;
    } else if (strstr(at, "was unable to launch the specified application") != NULL ||
               strstr(at, "unable to find the specified executable") != NULL) {
        watch->no_binary = true;
    }
}

static void take_line(shoal_watch *watch, int64_t now_us)
{
    watch->line[watch->n_line] = '\0';
    watch->n_line = 0;
    const char *at = watch->line;
    if (skip(&at, "[") && take_number(&at) >= 0 && skip(&at, " ")) {
        at += strcspn(at, "] ");
        if (skip(&at, "] error: "))
            take_error(watch, at, now_us);
        else if (skip(&at, "] warning: "))
            take_warning(watch, at);
        return;
    }
    take_mpirun(watch, watch->line, now_us);
}

void shoal_watch_take(shoal_watch *watch, const char *bytes, size_t n, int64_t now_us)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n' || bytes[i] == '\r')
            take_line(watch, now_us);
        else if (watch->n_line < SHOAL_WATCH_LINE - 1)
            watch->line[watch->n_line++] = bytes[i] != '\0' ? bytes[i] : '?';
    }
}
