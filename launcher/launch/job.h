/* A job as launch sees it: which hosts take part with how many ranks, and what they run. From it
 * come, without looking at anything else, the line of mpirun and the script for SLURM. A host that
 * is lost stays in the list, marked, so that it can be spoken of. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_LAUNCH_JOB_H
#define SHOAL_LAUNCHER_LAUNCH_JOB_H

#include "launcher/cluster/cluster_file.h"
#include "launcher/launch/words.h"

typedef struct shoal_launch_host {
    char name[SHOAL_CLUSTER_NAME];
    char address[SHOAL_CLUSTER_NAME]; /* what is connected to: the address, or the name */
    int32_t n_rank;
    bool *is_gpu;   /* [n_rank] ranks on a GPU, in order; owned */
    int32_t n_loss; /* times that a rank was lost here */
    bool dropped;   /* takes no part any more */
} shoal_launch_host;

typedef struct shoal_launch_job {
    const shoal_cluster_launch *settings; /* borrowed */
    const char *binary;                   /* borrowed; of shoal, on every host */
    shoal_launch_host *host;              /* [n_host], owned */
    int32_t n_host;
    shoal_words argument; /* of shoal: COMMAND MODEL ... */
    bool as_root;         /* mpirun is told that it may run as root */
    bool resumes;         /* what runs is a batch */
} shoal_launch_job;

/* The first n_rank ranks of a cluster (0: all). `argument` is copied. Errors: USAGE (more ranks
 * than there are, ranks that are not numbered host by host), NO_MEMORY. On success the caller owns
 * the job: shoal_launch_job_close. */
shoal_status shoal_launch_job_open(shoal_launch_job *job, const shoal_cluster *cluster,
                                   int32_t n_rank, char *const *argument, shoal_log *log);
void shoal_launch_job_close(shoal_launch_job *job); /* accepts zeroed */

/* Over the hosts that take part. */
int32_t shoal_launch_job_n_rank(const shoal_launch_job *job);
int32_t shoal_launch_job_n_host(const shoal_launch_job *job);

/* Index of the host of a rank, and of the host that calls itself `name` (its name or address, also
 * when one of the two has a domain behind it); -1: none. */
int32_t shoal_launch_job_host_of(const shoal_launch_job *job, int32_t rank);
int32_t shoal_launch_job_host_named(const shoal_launch_job *job, const char *name);

/* Value of `--name V` or `--name=V` among the arguments; NULL: not given. */
const char *shoal_launch_job_option(const shoal_launch_job *job, const char *name);

/* Behind the arguments of shoal: `--device` as the cluster file's `ranks` say ("cuda", "cuda,cpu"),
 * where the command knows that option and is not given it. For n_host hosts: those that take part,
 * and further ones like the last. */
void shoal_launch_job_add_devices(shoal_words *words, const shoal_launch_job *job, int32_t n_host);

/* What a run that follows a loss is given: a batch goes on with its output (`--resume`), a fault
 * that was injected is not injected again, and if hosts were dropped (`fewer`) what was written for
 * all of them gives way: a placement file to `weighted`, a probe's to measuring. True if one did.
 */
bool shoal_launch_job_again(shoal_launch_job *job, bool fewer);

/* `mpirun ... shoal COMMAND ...`. Errors: NO_MEMORY. */
shoal_status shoal_launch_line(shoal_words *line, const shoal_launch_job *job, shoal_log *log);

/* The script for sbatch, requeued at most `restarts` times: what launcher/launch/script.c puts
 * before it, then scripts/slurm/batch.sbatch from its mark on. Errors: USAGE (unequal hosts, but
 * another number of nodes). */
shoal_status shoal_launch_script(FILE *out, const shoal_launch_job *job, int32_t restarts,
                                 shoal_log *log);

#endif
