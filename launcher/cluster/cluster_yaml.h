/* The cluster file as libcyaml loads it: texts, not yet looked at. Numbers are texts, too, because
 * libcyaml takes "1.0x" for the number it begins with. NULL: left out. Layering: private to
 * launcher/cluster. */
#ifndef SHOAL_LAUNCHER_CLUSTER_YAML_H
#define SHOAL_LAUNCHER_CLUSTER_YAML_H

#include "runtime/base/log.h"

typedef struct shoal__yaml_gpu {
    char *model, *count, *memory_gb, *memory_bandwidth_gb_per_s, *int8_top_per_s, *half_tflop_per_s,
        *f32_tflop_per_s, *pcie_gb_per_s, *launch_us, *wait_us;
} shoal__yaml_gpu;

typedef struct shoal__yaml_host {
    char *name, *address, *count, *cores, *memory_gb, *reserve_gb, *memory_bandwidth_gb_per_s, *cpu,
        *int8_top_per_s, *f32_tflop_per_s, *nic_gbit_per_s, *watts, *price_per_hour;
    shoal__yaml_gpu *gpus;
    unsigned gpus_count;
    char **ranks;
    unsigned ranks_count;
} shoal__yaml_host;

typedef struct shoal__yaml_network {
    char *gbit_per_s, *latency_us, *overhead_us;
} shoal__yaml_network;

typedef struct shoal__yaml_slurm {
    char *partition, *time, *nodes, *account;
    char **options;
    unsigned options_count;
} shoal__yaml_slurm;

typedef struct shoal__yaml_launch {
    char *binary, *interface, *rsh_agent;
    char **environment, **mpirun_options;
    unsigned environment_count, mpirun_options_count;
    shoal__yaml_slurm *slurm;
} shoal__yaml_launch;

typedef struct shoal__yaml_cluster {
    char *name;
    shoal__yaml_network *network;
    shoal__yaml_host *hosts;
    unsigned hosts_count;
    shoal__yaml_launch *launch;
} shoal__yaml_cluster;

shoal_status shoal__cluster_yaml_read(shoal__yaml_cluster **yaml, const char *path, shoal_log *log);
void shoal__cluster_yaml_close(shoal__yaml_cluster *yaml); /* accepts NULL */

#endif
