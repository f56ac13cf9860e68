/* The script for sbatch: its head from the cluster file, its body from scripts/slurm/batch.sbatch,
 * which is compiled in (batch_body.inc), so that there is one script to test. */
#include "launcher/launch/job.h"

static const char body[] = {
#include "batch_body.inc"
};

/* 0: hosts have different numbers of ranks. */
static int32_t ranks_per_host(const shoal_launch_job *job)
{
    int32_t n = 0;
    for (int32_t h = 0; h < job->n_host; h++) {
        if (job->host[h].dropped)
            continue;
        if (n != 0 && job->host[h].n_rank != n)
            return 0;
        n = job->host[h].n_rank;
    }
    return n;
}

static void print_hosts(FILE *out, const shoal_launch_job *job, const char *separator, bool each)
{
    const char *between = "";
    for (int32_t h = 0; h < job->n_host; h++)
        for (int32_t i = 0; !job->host[h].dropped && i < (each ? job->host[h].n_rank : 1); i++) {
            fputs(between, out);
            shoal_word_print(out, job->host[h].name);
            between = separator;
        }
}

static shoal_status print_shape(FILE *out, const shoal_launch_job *job, shoal_log *log)
{
    const shoal_cluster_slurm *slurm = &job->settings->slurm;
    const int32_t n_node = shoal_launch_job_n_host(job), each = ranks_per_host(job);
    if (each > 0) {
        fprintf(out, "#SBATCH --nodes=%d\n#SBATCH --ntasks-per-node=%d\n",
                (int)(slurm->n_node > 0 ? slurm->n_node : n_node), (int)each);
        return SHOAL_OK;
    }
    if (slurm->n_node > 0 && slurm->n_node != n_node)
        return shoal_fail(log, SHOAL_USAGE,
                          "the hosts have different numbers of ranks, so the job needs just these "
                          "%d, but slurm's `nodes` is %d; take it out",
                          (int)n_node, (int)slurm->n_node);
    fprintf(out, "#SBATCH --nodes=%d\n#SBATCH --ntasks=%d\n#SBATCH --nodelist=", (int)n_node,
            (int)shoal_launch_job_n_rank(job));
    print_hosts(out, job, ",", false);
    fputc('\n', out);
    return SHOAL_OK;
}

/* srun takes the machine of each rank from a file when they are unequal. */
static void print_distribution(FILE *out, const shoal_launch_job *job)
{
    if (ranks_per_host(job) > 0)
        return;
    fputs("hosts_file=$(mktemp)\n"
          "export SLURM_DISTRIBUTION=arbitrary SLURM_HOSTFILE=$hosts_file\n"
          "printf '%s\\n' ",
          out);
    print_hosts(out, job, " ", true);
    fputs(" >\"$hosts_file\"\n", out);
}

static void print_environment(FILE *out, const shoal_cluster_launch *settings)
{
    if (settings->interface != NULL) {
        static const char *const names[] = {"OMPI_MCA_btl_tcp_if_include",
                                            "OMPI_MCA_oob_tcp_if_include"};
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            fprintf(out, "export %s=", names[i]);
            shoal_word_print(out, settings->interface);
            fputc('\n', out);
        }
    }
    for (int32_t i = 0; i < settings->n_environment; i++) {
        fputs("export ", out);
        shoal_word_print(out, settings->environment[i]);
        fputc('\n', out);
    }
}

static shoal_status print_devices(FILE *out, const shoal_launch_job *job, shoal_log *log)
{
    shoal_words words = {0};
    const int32_t n_node = job->settings->slurm.n_node;
    shoal_launch_job_add_devices(&words, job, n_node > 0 ? n_node : shoal_launch_job_n_host(job));
    if (words.n > 0) {
        fputc(' ', out);
        shoal_words_print(out, words.word, words.n);
    }
    const bool failed = words.failed;
    shoal_words_close(&words);
    return failed ? shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the script") : SHOAL_OK;
}

shoal_status shoal_launch_script(FILE *out, const shoal_launch_job *job, int32_t restarts,
                                 shoal_log *log)
{
    const shoal_cluster_slurm *slurm = &job->settings->slurm;
    fputs("#!/usr/bin/env bash\n"
          "# Written by shoal launch --slurm; docs/CLUSTER.md explains it.\n"
          "#SBATCH --job-name=shoal\n",
          out);
    SHOAL_TRY(print_shape(out, job, log));
    if (slurm->time != NULL)
        fprintf(out, "#SBATCH --time=%s\n", slurm->time);
    if (slurm->partition != NULL)
        fprintf(out, "#SBATCH --partition=%s\n", slurm->partition);
    if (slurm->account != NULL)
        fprintf(out, "#SBATCH --account=%s\n", slurm->account);
    fputs("#SBATCH --requeue\n"
          "#SBATCH --open-mode=append\n"
          "#SBATCH --output=shoal-%j.out\n"
          "#SBATCH --signal=B:USR1@60\n",
          out);
    for (int32_t i = 0; i < slurm->n_option; i++)
        fprintf(out, "#SBATCH %s\n", slurm->option[i]);
    fputc('\n', out);
    print_environment(out, job->settings);
    print_distribution(out, job);
    fputs("shoal=", out);
    shoal_word_print(out, job->binary);
    fputs("\nrun=(", out);
    shoal_words_print(out, job->argument.word, job->argument.n);
    SHOAL_TRY(print_devices(out, job, log));
    fprintf(out, ")\nrestarts=%d\n\n", (int)restarts);
    fwrite(body, 1, sizeof body, out);
    return SHOAL_OK;
}
