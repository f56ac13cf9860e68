/* The line of mpirun. Why each setting is there: docs/CLUSTER.md, Launch. */
#include "launcher/launch/job.h"

#include <stdlib.h>

static void add_setting(shoal_words *line, const char *name, const char *value)
{
    shoal_words_add(line, "--mca");
    shoal_words_add(line, name);
    shoal_words_add(line, value);
}

/* --host a:1,b:2 */
static void add_hosts(shoal_words *line, const shoal_launch_job *job)
{
    char *text = NULL;
    size_t n_text = 0;
    FILE *out = open_memstream(&text, &n_text);
    if (out == NULL) {
        line->failed = true;
        return;
    }
    const char *comma = "";
    for (int32_t h = 0; h < job->n_host; h++) {
        if (job->host[h].dropped)
            continue;
        fprintf(out, "%s%s:%d", comma, job->host[h].address, (int)job->host[h].n_rank);
        comma = ",";
    }
    if (fclose(out) == 0) {
        shoal_words_add(line, "--host");
        shoal_words_add(line, text);
    } else {
        line->failed = true;
    }
    free(text);
}

shoal_status shoal_launch_line(shoal_words *line, const shoal_launch_job *job, shoal_log *log)
{
    const shoal_cluster_launch *settings = job->settings;
    shoal_words l = {0};
    shoal_words_add(&l, "mpirun");
    if (job->as_root)
        shoal_words_add(&l, "--allow-run-as-root");
    add_hosts(&l, job);
    shoal_words_add(&l, "-np");
    shoal_words_addf(&l, "%d", (int)shoal_launch_job_n_rank(job));
    shoal_words_add(&l, "--map-by");
    shoal_words_add(&l, "slot"); /* host by host, so that ranks are where the file says */
    shoal_words_add(&l, "--bind-to");
    shoal_words_add(&l, "none");
    add_setting(&l, "pml", "ob1");
    add_setting(&l, "btl", "self,vader,tcp");
    if (settings->interface != NULL) {
        add_setting(&l, "btl_tcp_if_include", settings->interface);
        add_setting(&l, "oob_tcp_if_include", settings->interface);
    }
    /* so that mpirun itself notices a host that is cut off: 3 s of silence, 3 tries of 1 s */
    add_setting(&l, "oob_tcp_keepalive_time", "3");
    add_setting(&l, "oob_tcp_keepalive_intvl", "1");
    add_setting(&l, "oob_tcp_keepalive_probes", "3");
    if (settings->rsh_agent != NULL)
        add_setting(&l, "plm_rsh_agent", settings->rsh_agent);
    for (int32_t i = 0; i < settings->n_environment; i++) {
        shoal_words_add(&l, "-x");
        shoal_words_add(&l, settings->environment[i]);
    }
    for (int32_t i = 0; i < settings->n_mpirun_option; i++)
        shoal_words_add(&l, settings->mpirun_option[i]);
    shoal_words_add(&l, job->binary);
    for (int32_t i = 0; i < job->argument.n; i++)
        shoal_words_add(&l, job->argument.word[i]);
    shoal_launch_job_add_devices(&l, job, shoal_launch_job_n_host(job));
    if (l.failed) {
        shoal_words_close(&l);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the line of mpirun");
    }
    *line = l;
    return SHOAL_OK;
}
