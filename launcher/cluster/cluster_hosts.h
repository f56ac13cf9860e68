/* The alike hosts of one entry of a cluster file. Layering: private to launcher/cluster. */
#ifndef SHOAL_LAUNCHER_CLUSTER_HOSTS_H
#define SHOAL_LAUNCHER_CLUSTER_HOSTS_H

#include "launcher/cluster/cluster_presets.h"
#include "launcher/cluster/cluster_yaml.h"

/* Where a text was found, for messages. */
typedef struct shoal__cluster_reader {
    const char *path;
    const char *host; /* name as it is written; NULL: outside of hosts */
    shoal_log *log;
} shoal__cluster_reader;

/* text as a number from 0 to 1e9; NULL leaves *value. Errors: BAD_DATA. */
shoal_status shoal__cluster_number(double *value, const shoal__cluster_reader *r, const char *field,
                                   const char *text);

typedef struct shoal__host_kind {
    const shoal__yaml_host *yaml;
    shoal_cluster_host host;    /* without name and address */
    int32_t count;              /* hosts */
    int32_t n_rank, n_cpu_rank; /* of each */
    double reserve_gb;          /* for the system */
    shoal_device_rates cpu;     /* of the whole host */
    const char *cpu_text;
} shoal__host_kind;

/* network_gbit: of the network card where the entry says nothing. Errors: BAD_DATA. */
shoal_status shoal__host_read(shoal__host_kind *kind, const shoal__yaml_host *yaml,
                              const char *path, double network_gbit, shoal_log *log);

/* The ranks of one host into rank [n_rank], but for `host`. Errors: BAD_DATA. */
shoal_status shoal__host_ranks(shoal_cluster_rank *rank, const shoal__host_kind *kind,
                               const shoal__cluster_reader *r);

#endif
