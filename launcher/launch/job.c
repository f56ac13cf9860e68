#include "launcher/launch/job.h"

#include <stdlib.h>
#include <string.h>

static void take_host(shoal_launch_host *host, const shoal_cluster_host *from)
{
    *host = (shoal_launch_host){0};
    snprintf(host->name, sizeof host->name, "%s", from->name);
    snprintf(host->address, sizeof host->address, "%s",
             from->address[0] != '\0' ? from->address : from->name);
}

static shoal_status take_ranks(shoal_launch_job *job, const shoal_cluster *cluster, int32_t n_rank,
                               shoal_log *log)
{
    int32_t last = -1;
    for (int32_t r = 0; r < n_rank; r++) {
        const shoal_cluster_rank *rank = &cluster->rank[r];
        const shoal_cluster_host *host = &cluster->host[rank->host];
        if (rank->gpu >= 0)
            return shoal_fail(
                log, SHOAL_USAGE,
                "rank %d (%s) is cuda:%d in the cluster file, but launch starts ranks "
                "on processors only; take it out of `ranks`",
                (int)r, host->name, (int)rank->gpu);
        if (rank->host < last)
            return shoal_fail(log, SHOAL_USAGE,
                              "rank %d is on %s, in front of ranks of other hosts; mpirun numbers "
                              "ranks host by host",
                              (int)r, host->name);
        if (rank->host != last)
            take_host(&job->host[job->n_host++], host);
        job->host[job->n_host - 1].n_rank++;
        last = rank->host;
    }
    return SHOAL_OK;
}

shoal_status shoal_launch_job_open(shoal_launch_job *job, const shoal_cluster *cluster,
                                   int32_t n_rank, char *const *argument, shoal_log *log)
{
    if (n_rank > cluster->n_rank)
        return shoal_fail(log, SHOAL_USAGE, "--ranks %d, but the cluster file has %d", (int)n_rank,
                          (int)cluster->n_rank);
    shoal_launch_job j = {.host = calloc((size_t)cluster->n_host, sizeof *j.host)};
    for (int32_t i = 0; argument[i] != NULL; i++)
        shoal_words_add(&j.argument, argument[i]);
    j.resumes = j.argument.n > 0 && strcmp(j.argument.word[0], "batch") == 0;
    shoal_status status = SHOAL_OK;
    if (j.host == NULL || j.argument.failed)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a job");
    if (status == SHOAL_OK)
        status = take_ranks(&j, cluster, n_rank > 0 ? n_rank : cluster->n_rank, log);
    if (status != SHOAL_OK) {
        shoal_launch_job_close(&j);
        return status;
    }
    *job = j;
    return SHOAL_OK;
}

void shoal_launch_job_close(shoal_launch_job *job)
{
    free(job->host);
    shoal_words_close(&job->argument);
    *job = (shoal_launch_job){0};
}

int32_t shoal_launch_job_n_rank(const shoal_launch_job *job)
{
    int32_t n = 0;
    for (int32_t h = 0; h < job->n_host; h++)
        n += job->host[h].dropped ? 0 : job->host[h].n_rank;
    return n;
}

int32_t shoal_launch_job_n_host(const shoal_launch_job *job)
{
    int32_t n = 0;
    for (int32_t h = 0; h < job->n_host; h++)
        n += !job->host[h].dropped;
    return n;
}

int32_t shoal_launch_job_host_of(const shoal_launch_job *job, int32_t rank)
{
    for (int32_t h = 0; h < job->n_host && rank >= 0; h++) {
        if (job->host[h].dropped)
            continue;
        if (rank < job->host[h].n_rank)
            return h;
        rank -= job->host[h].n_rank;
    }
    return -1;
}

/* "fish1" is "fish1.home.lan", but "10.0.0.1" is not "10.0.0.12". */
static bool same_name(const char *a, const char *b)
{
    size_t n_a = strlen(a), n_b = strlen(b);
    size_t n = n_a < n_b ? n_a : n_b;
    return n > 0 && strncmp(a, b, n) == 0 && (a[n] == '\0' || a[n] == '.') &&
           (b[n] == '\0' || b[n] == '.');
}

int32_t shoal_launch_job_host_named(const shoal_launch_job *job, const char *name)
{
    for (int32_t h = 0; h < job->n_host; h++)
        if (same_name(job->host[h].name, name) || same_name(job->host[h].address, name))
            return h;
    return -1;
}

/* Index of `--name` among the arguments, -1: not given. */
static int32_t find_option(const shoal_words *argument, const char *name)
{
    size_t n = strlen(name);
    for (int32_t i = 1; i < argument->n; i++) {
        const char *word = argument->word[i];
        if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, n) == 0 &&
            (word[2 + n] == '\0' || word[2 + n] == '='))
            return i;
    }
    return -1;
}

const char *shoal_launch_job_option(const shoal_launch_job *job, const char *name)
{
    int32_t i = find_option(&job->argument, name);
    if (i < 0)
        return NULL;
    const char *equals = strchr(job->argument.word[i], '=');
    return equals != NULL ? equals + 1 : job->argument.word[i + 1];
}

/* Take `--name V` out, as often as it is there. */
static void remove_option(shoal_words *argument, const char *name)
{
    int32_t at;
    while ((at = find_option(argument, name)) >= 0) {
        int32_t n = strchr(argument->word[at], '=') == NULL && at + 1 < argument->n ? 2 : 1;
        for (int32_t i = at; i < at + n; i++)
            free(argument->word[i]);
        for (int32_t i = at; i + n <= argument->n; i++)
            argument->word[i] = argument->word[i + n];
        argument->n -= n;
    }
}

bool shoal_launch_job_again(shoal_launch_job *job, bool fewer)
{
    remove_option(&job->argument, "fault");
    if (job->resumes && find_option(&job->argument, "resume") < 0)
        shoal_words_add(&job->argument, "--resume");
    if (!fewer)
        return false;
    /* a probe of all ranks is none of those that are left: they measure themselves */
    bool changed = find_option(&job->argument, "probe") >= 0;
    remove_option(&job->argument, "probe");
    const char *placement = shoal_launch_job_option(job, "placement");
    if (placement != NULL && strcmp(placement, "uniform") != 0 &&
        strcmp(placement, "weighted") != 0) {
        changed = true;
        remove_option(&job->argument, "placement");
        if (strcmp(job->argument.word[0], "stage") != 0) { /* which knows no weighted */
            shoal_words_add(&job->argument, "--placement");
            shoal_words_add(&job->argument, "weighted");
        }
    }
    return changed;
}
