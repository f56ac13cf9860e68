/* The `launch:` part of a cluster file. */
#include "experts/placement.h"
#include "launcher/cluster/cluster_file.h"
#include "launcher/cluster/cluster_yaml.h"
#include "launcher/options.h"

#include <string.h>

static shoal_status take(shoal_cluster_launch *launch, const shoal__yaml_launch *yaml,
                         const char *path, shoal_log *log)
{
    launch->binary = yaml->binary;
    launch->interface = yaml->interface;
    launch->rsh_agent = yaml->rsh_agent;
    launch->environment = (const char *const *)yaml->environment;
    launch->n_environment = (int32_t)yaml->environment_count;
    launch->mpirun_option = (const char *const *)yaml->mpirun_options;
    launch->n_mpirun_option = (int32_t)yaml->mpirun_options_count;
    for (int32_t i = 0; i < launch->n_environment; i++) {
        const char *equals = strchr(launch->environment[i], '=');
        if (equals == NULL || equals == launch->environment[i])
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: launch: environment has \"%.60s\", wanted NAME=VALUE", path,
                              launch->environment[i]);
    }
    const shoal__yaml_slurm *slurm = yaml->slurm;
    if (slurm == NULL)
        return SHOAL_OK;
    int64_t n_node = 0;
    if (slurm->nodes != NULL &&
        (!shoal_parse_int64(&n_node, slurm->nodes) || n_node < 1 || n_node > SHOAL_MAX_RANK))
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: launch: slurm: nodes is \"%.40s\", wanted 1 to %d", path,
                          slurm->nodes, SHOAL_MAX_RANK);
    launch->has_slurm = true;
    launch->slurm = (shoal_cluster_slurm){.partition = slurm->partition,
                                          .time = slurm->time,
                                          .account = slurm->account,
                                          .n_node = (int32_t)n_node,
                                          .option = (const char *const *)slurm->options,
                                          .n_option = (int32_t)slurm->options_count};
    return SHOAL_OK;
}

shoal_status shoal_cluster_read_launch(shoal_cluster_launch *launch, const char *path,
                                       shoal_log *log)
{
    shoal__yaml_cluster *yaml;
    SHOAL_TRY(shoal__cluster_yaml_read(&yaml, path, log));
    shoal_cluster_launch l = {.file = yaml};
    shoal_status status = yaml->launch != NULL ? take(&l, yaml->launch, path, log) : SHOAL_OK;
    if (status != SHOAL_OK) {
        shoal_cluster_launch_close(&l);
        return status;
    }
    *launch = l;
    return SHOAL_OK;
}

void shoal_cluster_launch_close(shoal_cluster_launch *launch)
{
    shoal__cluster_yaml_close(launch->file);
    *launch = (shoal_cluster_launch){0};
}
