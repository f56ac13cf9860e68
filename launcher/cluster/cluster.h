/* A cluster as numbers: what each rank can stream and compute, what each pair of ranks can say to
 * each other. Two sources, one struct: `shoal probe` measures it under mpirun (cluster_probe.c,
 * shoal.proto Cluster), people write it by hand (cluster_yaml.c, examples in configs/). Readers
 * are the cost model and `plan` (cost.h), placement from facts, and `launch`. A rank is one
 * process with one memory and one device; a box with a GPU and much RAM is two ranks of one host.
 * Unknown numbers are 0. Layering: launcher; needs no model. */
#ifndef SHOAL_LAUNCHER_CLUSTER_CLUSTER_H
#define SHOAL_LAUNCHER_CLUSTER_CLUSTER_H

#include "runtime/base/log.h"
#include "runtime/kernels/matrix.h"

#define SHOAL_CLUSTER_VERSION  1
#define SHOAL_CLUSTER_NAME_MAX 64
#define SHOAL_CLUSTER_TEXT_MAX 160

typedef struct shoal_cluster_rank {
    char host[SHOAL_CLUSTER_NAME_MAX];
    char device[16];                  /* "cpu", "cuda:0" */
    char cpu[SHOAL_CLUSTER_NAME_MAX]; /* model name, or "" */
    int32_t n_core;                   /* physical cores of the host */
    int32_t n_numa;                   /* NUMA nodes of the host */
    int32_t n_thread;                 /* of this rank */
    uint64_t memory_bytes;            /* the host's, or the device's for a GPU rank */
    uint64_t free_memory_bytes;       /* what this rank may take of it (ranks of a host share it) */
    double read_gb_per_s; /* sequential read by this rank's threads while all ranks of the host
                             read */
    /* 2 * multiply-adds / time of a product with many rows (prefill), --math fast, by format */
    double matmul_gflop_per_s[SHOAL_N_FORMAT];
    double launch_us;       /* fixed cost of one parallel job (or kernel launch) */
    double device_gb_per_s; /* host <-> device copies of a GPU rank */
    double watts;           /* under load; a rank's share of its box */
    double price_per_hour;  /* any currency; a rank's share of its box */
} shoal_cluster_rank;

typedef enum shoal_link_kind {
    SHOAL_LINK_SELF,
    SHOAL_LINK_SHARED_MEMORY,
    SHOAL_LINK_TCP,
} shoal_link_kind;

/* From one rank to another. */
typedef struct shoal_cluster_link {
    shoal_link_kind kind;
    double latency_us;     /* one way, 64 B: half a round trip */
    double gb_per_s;       /* large messages, one direction at a time */
    char interface[16];    /* TCP: the NIC that carries it, or "" */
    double nic_gbit_per_s; /* its link speed, 0: unknown */
} shoal_cluster_link;

typedef struct shoal_cluster {
    char name[SHOAL_CLUSTER_NAME_MAX];
    int32_t n_rank;
    shoal_cluster_rank *rank; /* [n_rank] */
    shoal_cluster_link *link; /* [n_rank, n_rank] from row to column; the diagonal is SELF */
} shoal_cluster;

/* n_rank in 1 .. SHOAL_MAX_RANK, all zero, links SELF. Owns its memory. Errors: USAGE, NO_MEMORY.
 */
shoal_status shoal_cluster_open(shoal_cluster *cluster, int32_t n_rank, shoal_log *log);
void shoal_cluster_close(shoal_cluster *cluster); /* accepts zeroed */

shoal_cluster_link *shoal_cluster_link_at(const shoal_cluster *cluster, int32_t from, int32_t to);

/* The first n_rank ranks as a cluster of its own (for `--ranks A..B`). */
shoal_status shoal_cluster_first(shoal_cluster *part, const shoal_cluster *cluster, int32_t n_rank,
                                 shoal_log *log);

/* By hand: YAML, explained field by field in configs/cluster-*.yaml and docs/CONFIGURATION.md.
 * Hosts may carry a count, and what is left out of a rank is taken from `defaults`. Errors:
 * NO_INPUT, BAD_DATA (unknown key, wrong type, out of range; with the line). */
shoal_status shoal_cluster_read_yaml(shoal_cluster *cluster, const char *path, shoal_log *log);

/* As `shoal probe` stores it. Written under a temporary name, fsync, rename. Errors of read:
 * NO_INPUT, BAD_DATA (not a probe file, other version, bad number). */
shoal_status shoal_cluster_write_probe(const shoal_cluster *cluster, const char *path,
                                       shoal_log *log);
shoal_status shoal_cluster_read_probe(shoal_cluster *cluster, const char *path, shoal_log *log);

#endif
