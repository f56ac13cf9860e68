/* The cluster file that people write (YAML; configs/ has examples, docs/CLUSTER.md explains each
 * field): hosts, what they have, the network between them, and how jobs are started. One file
 * gives two structs: the cluster for the cost model and the placement, and the `launch:` part for
 * the command lines. Figures that a file leaves out come from the presets of its processors and
 * GPUs. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_CLUSTER_FILE_H
#define SHOAL_LAUNCHER_CLUSTER_FILE_H

#include "launcher/cluster/cluster.h"

/* `hosts`, `network`: ranks are numbered host by host, as `ranks` of a host lists them. Owns its
 * memory: shoal_cluster_close. Errors: NO_INPUT, BAD_DATA (names the file, the host, the field,
 * what was found and wanted), NO_MEMORY. */
shoal_status shoal_cluster_read_file(shoal_cluster *cluster, const char *path, shoal_log *log);

typedef struct shoal_cluster_slurm {
    const char *partition, *time, *account; /* NULL: not given */
    int32_t n_node;                         /* 0: not given: the file's hosts */
    const char *const *option;              /* [n_option] further lines of #SBATCH */
    int32_t n_option;
} shoal_cluster_slurm;

/* `launch:` as it is written. Texts are NULL where the file has none. */
typedef struct shoal_cluster_launch {
    const char *binary;             /* of shoal, on every host */
    const char *interface;          /* subnet or interface that messages use */
    const char *rsh_agent;          /* instead of ssh */
    const char *const *environment; /* [n_environment] "K=V" */
    int32_t n_environment;
    const char *const *mpirun_option; /* [n_mpirun_option] further arguments of mpirun */
    int32_t n_mpirun_option;
    bool has_slurm; /* there is a `slurm:` part */
    shoal_cluster_slurm slurm;
    void *file; /* owns the texts */
} shoal_cluster_launch;

/* The `launch:` part of a cluster file; one without it gives a struct without anything. The whole
 * file is read and checked for its form. Owns its memory: shoal_cluster_launch_close. Errors: as
 * above. */
shoal_status shoal_cluster_read_launch(shoal_cluster_launch *launch, const char *path,
                                       shoal_log *log);
void shoal_cluster_launch_close(shoal_cluster_launch *launch); /* accepts zeroed */

#endif
