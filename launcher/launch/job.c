#include "launcher/launch/job.h"

#include <stdlib.h>
#include <string.h>

static shoal_status take_host(shoal_launch_host *host, const shoal_cluster_host *from,
                              int32_t n_rank_max, shoal_log *log)
{
    *host = (shoal_launch_host){0};
    snprintf(host->name, sizeof host->name, "%s", from->name);
    snprintf(host->address, sizeof host->address, "%s",
             from->address[0] != '\0' ? from->address : from->name);
    host->is_gpu = calloc((size_t)n_rank_max, sizeof *host->is_gpu);
    return host->is_gpu != NULL ? SHOAL_OK
                                : shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a job");
}

static shoal_status take_ranks(shoal_launch_job *job, const shoal_cluster *cluster, int32_t n_rank,
                               shoal_log *log)
{
    int32_t last = -1;
    for (int32_t r = 0; r < n_rank; r++) {
        const shoal_cluster_rank *rank = &cluster->rank[r];
        const shoal_cluster_host *from = &cluster->host[rank->host];
        if (rank->host < last)
            return shoal_fail(log, SHOAL_USAGE,
                              "rank %d is on %s, in front of ranks of other hosts; mpirun numbers "
                              "ranks host by host",
                              (int)r, from->name);
        if (rank->host != last)
            SHOAL_TRY(take_host(&job->host[job->n_host++], from, n_rank - r, log));
        shoal_launch_host *host = &job->host[job->n_host - 1];
        host->is_gpu[host->n_rank++] = rank->gpu >= 0;
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
    for (int32_t h = 0; h < job->n_host && job->host != NULL; h++)
        free(job->host[h].is_gpu);
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

/* Commands whose ranks compute: they know --device. */
static bool command_computes(const char *name)
{
    static const char *const names[] = {"generate", "batch", "logits", "perplexity",
                                        "bench",    "check", "probe"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The host that takes part as number `index`, or the last. */
static const shoal_launch_host *host_at(const shoal_launch_job *job, int32_t index)
{
    const shoal_launch_host *at = NULL;
    for (int32_t h = 0; h < job->n_host && index >= 0; h++) {
        if (job->host[h].dropped)
            continue;
        at = &job->host[h];
        index--;
    }
    return at;
}

/* "cuda,cpu,cuda,cpu", or one word for all. NULL: no memory. */
static char *devices_text(const shoal_launch_job *job, int32_t n_host)
{
    char *text = NULL;
    size_t n_text = 0;
    bool any[2] = {false, false};
    FILE *out = open_memstream(&text, &n_text);
    if (out == NULL)
        return NULL;
    for (int32_t h = 0; h < n_host; h++) {
        const shoal_launch_host *host = host_at(job, h);
        for (int32_t i = 0; i < host->n_rank; i++) {
            fprintf(out, "%s%s", any[0] || any[1] ? "," : "", host->is_gpu[i] ? "cuda" : "cpu");
            any[host->is_gpu[i]] = true;
        }
    }
    if (fclose(out) != 0 || text == NULL || (any[0] && any[1]))
        return text;
    text[strcspn(text, ",")] = '\0';
    return text;
}

void shoal_launch_job_add_devices(shoal_words *words, const shoal_launch_job *job, int32_t n_host)
{
    if (!command_computes(job->argument.word[0]) || find_option(&job->argument, "device") >= 0)
        return;
    char *text = devices_text(job, n_host);
    if (text == NULL) {
        words->failed = true;
        return;
    }
    shoal_words_add(words, "--device");
    shoal_words_add(words, text);
    free(text);
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
