/* shoal launch: from a cluster file to a job that runs, ends, and is started again on what is left.
 * The parts are in launch/: the line and the script are built from structs (line.c, script.c),
 * mpirun is a child (run.c), its end is understood from what it says (watch.c, outcome.c). */
#include "launcher/bootstrap.h"
#include "launcher/cluster/cluster_file.h"
#include "launcher/command.h"
#include "launcher/launch/run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLURM_RESTARTS = 20, KEEP_AFTER_LOSSES = 1 };

typedef struct launch {
    const shoal_options *options;
    shoal_cluster cluster;
    shoal_cluster_launch settings;
    shoal_launch_job job;
    char binary[4096]; /* this one, if the file names none */
    shoal_watch watch;
    shoal_log *log;
} launch;

static shoal_status open_job(launch *l)
{
    const char *path = l->options->cluster;
    SHOAL_TRY(shoal_cluster_read_file(&l->cluster, path, l->log));
    SHOAL_TRY(shoal_cluster_read_launch(&l->settings, path, l->log));
    SHOAL_TRY(shoal_launch_job_open(&l->job, &l->cluster, l->options->n_rank, l->options->program,
                                    l->log));
    l->job.settings = &l->settings;
    l->job.as_root = geteuid() == 0;
    l->job.binary = l->settings.binary;
    if (l->job.binary != NULL)
        return SHOAL_OK;
    ssize_t n = readlink("/proc/self/exe", l->binary, sizeof l->binary - 1);
    if (n <= 0)
        return shoal_fail(l->log, SHOAL_USAGE,
                          "launch: the path of this program is not known; name `binary` in the "
                          "cluster file's `launch`");
    l->binary[n] = '\0';
    l->job.binary = l->binary;
    return SHOAL_OK;
}

static shoal_status check_use(const shoal_options *o, shoal_log *log)
{
    if (shoal_bootstrap_environment_rank() >= 0)
        return shoal_fail(
            log, SHOAL_USAGE,
            "launch starts mpirun itself and cannot be started by it, or by srun: run "
            "it as an ordinary command");
    if (strcmp(o->program[0], "launch") == 0 || o->program[0][0] == '-')
        return shoal_fail(
            log, SHOAL_USAGE,
            "found '%s' behind --, wanted a command of shoal that a job runs, such as "
            "batch",
            o->program[0]);
    if (o->restarts > 0 && !o->slurm && strcmp(o->program[0], "generate") == 0)
        return shoal_fail(
            log, SHOAL_USAGE,
            "--restarts: what generate has printed would be printed again; use batch, "
            "which goes on where it was");
    return SHOAL_OK;
}

static shoal_status do_slurm(launch *l)
{
    char *script = NULL;
    size_t n_script = 0;
    FILE *out = open_memstream(&script, &n_script);
    if (out == NULL)
        return shoal_fail(l->log, SHOAL_NO_MEMORY, "no memory for the script");
    const int32_t restarts = l->options->restarts;
    shoal_status status =
        shoal_launch_script(out, &l->job, restarts >= 0 ? restarts : SLURM_RESTARTS, l->log);
    if (fclose(out) != 0 && status == SHOAL_OK)
        status = shoal_fail(l->log, SHOAL_NO_MEMORY, "no memory for the script");
    if (status == SHOAL_OK && l->options->print)
        fwrite(script, 1, n_script, stdout);
    else if (status == SHOAL_OK)
        status = shoal_launch_submit(script, n_script, l->log);
    free(script);
    return status;
}

static shoal_status do_print(launch *l)
{
    shoal_words line = {0};
    SHOAL_TRY(shoal_launch_line(&line, &l->job, l->log));
    shoal_words_print(stdout, line.word, line.n);
    fputc('\n', stdout);
    shoal_words_close(&line);
    return SHOAL_OK;
}

/* What to do about it, behind the text of an outcome. */
static const char *advice(const launch *l, const shoal_outcome *outcome)
{
    const bool again =
        outcome->kind == SHOAL_OUTCOME_LOST || outcome->kind == SHOAL_OUTCOME_STOPPED;
    if (!again)
        return "";
    if (l->job.resumes)
        return outcome->kind == SHOAL_OUTCOME_LOST
                   ? ". What is answered is kept: see to it, then start again with --resume, or "
                     "let "
                     "launch do so (--restarts N)"
                   : ". What is answered is kept: start again with --resume to go on";
    return ". Start again";
}

/* The last word on a run that is not tried again. */
static shoal_status give_up(const launch *l, const shoal_outcome *outcome, int32_t n_restart)
{
    if (outcome->kind == SHOAL_OUTCOME_FAILED && n_restart > 0)
        return shoal_fail(
            l->log, outcome->status,
            "launch: the run on the %d ranks that are left failed%s%s; if they are too "
            "few for it, bring the lost host back and start again with --resume",
            (int)shoal_launch_job_n_rank(&l->job), l->watch.error[0] != '\0' ? ": " : "",
            l->watch.error);
    if (outcome->text[0] == '\0')
        return outcome->status; /* the ranks have said it */
    return shoal_fail(
        l->log, outcome->status, "launch: %s%s%s", outcome->text,
        n_restart > 0 && outcome->kind == SHOAL_OUTCOME_LOST ? " (no restarts are left)" : "",
        advice(l, outcome));
}

/* Leave out the hosts that do not answer, and one that loses ranks again and again. True if any. */
static bool drop_hosts(launch *l, int32_t lost_host)
{
    bool any = false;
    bool *alive = calloc((size_t)l->job.n_host, sizeof *alive);
    if (alive == NULL)
        return false;
    shoal_launch_check_hosts(alive, &l->job);
    for (int32_t h = 0; h < l->job.n_host; h++) {
        shoal_launch_host *host = &l->job.host[h];
        const char *why = NULL;
        if (host->dropped)
            continue;
        if (h == lost_host)
            host->n_loss++;
        if (!alive[h])
            why = "it does not answer";
        else if (host->n_loss > KEEP_AFTER_LOSSES && shoal_launch_job_n_host(&l->job) > 1)
            why = "it answers, but has lost a rank before";
        if (why == NULL)
            continue;
        shoal_log_warn(l->log, "launch: %s takes no part any more: %s", host->name, why);
        host->dropped = any = true;
    }
    free(alive);
    return any;
}

/* Make the job ready for another run. Errors: UNAVAILABLE (no host is left). */
static shoal_status prepare_restart(launch *l, const shoal_outcome *outcome, int32_t n_restart)
{
    shoal_log_warn(l->log, "launch: %s", outcome->text);
    const bool fewer = drop_hosts(l, outcome->host);
    const int32_t n_rank = shoal_launch_job_n_rank(&l->job);
    if (n_rank == 0)
        return shoal_fail(l->log, SHOAL_UNAVAILABLE,
                          "launch: no host is left to start again on; what is done is kept");
    if (shoal_launch_job_again(&l->job, fewer))
        shoal_log_warn(l->log, "launch: --placement or --probe was for all hosts: those that are "
                               "left are measured instead");
    shoal_log_warn(l->log, "launch: starting again on %d rank%s of %d host%s (restart %d of %d)",
                   (int)n_rank, n_rank == 1 ? "" : "s", (int)shoal_launch_job_n_host(&l->job),
                   shoal_launch_job_n_host(&l->job) == 1 ? "" : "s", (int)n_restart,
                   (int)l->options->restarts);
    return SHOAL_OK;
}

static shoal_status do_run(launch *l, const volatile sig_atomic_t *interrupted)
{
    for (int32_t n_restart = 0;; n_restart++) {
        shoal_words line = {0};
        shoal_launch_end end;
        SHOAL_TRY(shoal_launch_line(&line, &l->job, l->log));
        shoal_status status = shoal_launch_run(&end, &l->watch, &line, interrupted, l->log);
        shoal_words_close(&line);
        SHOAL_TRY(status);
        shoal_outcome outcome;
        shoal_outcome_of(&outcome, &l->watch, &end, &l->job);
        if (outcome.kind == SHOAL_OUTCOME_DONE) {
            if (n_restart > 0)
                shoal_log_info(l->log, "launch: done after %d restart%s", (int)n_restart,
                               n_restart == 1 ? "" : "s");
            return SHOAL_OK;
        }
        const bool may_go_on =
            outcome.kind == SHOAL_OUTCOME_LOST || outcome.kind == SHOAL_OUTCOME_UNREACHABLE;
        if (!may_go_on || n_restart >= l->options->restarts || *interrupted != 0)
            return give_up(l, &outcome, n_restart);
        SHOAL_TRY(prepare_restart(l, &outcome, n_restart + 1));
    }
}

shoal_status shoal_cmd_launch(const shoal_options *options,
                              const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    launch l = {.options = options, .log = log};
    shoal_status status = check_use(options, log);
    if (status == SHOAL_OK)
        status = open_job(&l);
    if (status == SHOAL_OK)
        status = options->slurm   ? do_slurm(&l)
                 : options->print ? do_print(&l)
                                  : do_run(&l, interrupted);
    shoal_launch_job_close(&l.job);
    shoal_cluster_launch_close(&l.settings);
    shoal_cluster_close(&l.cluster);
    return status;
}
