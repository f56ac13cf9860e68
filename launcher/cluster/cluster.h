/* The cluster as data: hosts, the ranks on them, what each can do, and what lies between two of
 * them. One struct with several makers: a file that people write (cluster_file.c), the file of a
 * probe, what this job has just measured. Its readers are the cost model, the placement and the
 * command lines of launch. What is not known is 0, and each reader says what it takes for it.
 * Units: GB is 10^9 bytes. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_CLUSTER_H
#define SHOAL_LAUNCHER_CLUSTER_H

#include "runtime/base/log.h"
#include "runtime/kernels/matrix.h"

#define SHOAL_CLUSTER_NAME 64

/* Of the bytes that an Ethernet carries those of messages: 1448 of 1538. */
#define SHOAL_NIC_PAYLOAD 0.94

typedef struct shoal_cluster_host {
    char name[SHOAL_CLUSTER_NAME];
    char address[SHOAL_CLUSTER_NAME]; /* what launch connects to; "": the name */
    int32_t n_core;
    uint64_t memory_bytes; /* of the machine */
    uint64_t room_bytes;   /* of it that its ranks may fill together; 0: not known */
    double nic_gb_per_s;   /* payload, each direction, shared by the host's ranks */
    double watts;          /* under load */
    double price_per_hour; /* in any currency */
} shoal_cluster_host;

typedef struct shoal_cluster_rank {
    int32_t host;                    /* index */
    int32_t gpu;                     /* -1: cpu; N: cuda:N */
    char device[SHOAL_CLUSTER_NAME]; /* the processor or GPU, for people; "": not known */
    int32_t n_thread;                /* cpu */
    uint64_t memory_bytes;           /* that this rank may fill: of a GPU its own */
    /* A sequential read by its threads, while the host's other ranks read too. */
    double read_gb_per_s;
    /* Products with weights of a format as `--math fast` makes them: packed weight bytes a second
     * for one token (from memory, so at most read_gb_per_s), and 2 * multiply-adds a second for
     * many. */
    double decode_gb_per_s[SHOAL_N_FORMAT];
    double prefill_gop_per_s[SHOAL_N_FORMAT];
    double f32_gflop_per_s; /* fma: what attention over the cache is made of */
    double layer_us;        /* cpu: of every layer, whatever its rows: barriers */
    /* Of a GPU; 0 on a cpu rank. */
    double pcie_gb_per_s; /* one way between it and the host's memory, by which rows travel */
    double launch_us;     /* of the host, for a kernel */
    double wait_us;       /* from the end of a kernel until the host goes on, and the next begins */
} shoal_cluster_rank;

/* From one rank to another, one way. */
typedef struct shoal_cluster_link {
    double latency_us;  /* of a message of 64 bytes */
    double gb_per_s;    /* payload, of a large message, alone on the link */
    double overhead_us; /* of a message, in the processors of sender and receiver each */
    double burst_bytes; /* that pass at once after a pause: of links shaped by a token bucket */
} shoal_cluster_link;

typedef struct shoal_cluster {
    char name[SHOAL_CLUSTER_NAME];
    int32_t n_host, n_rank;
    /* Cores that the ranks of all hosts take turns on, which then stand for each other's (network
     * namespaces of one machine); 0: hosts are machines. */
    int32_t n_shared_core;
    shoal_cluster_host *host; /* [n_host] */
    shoal_cluster_rank *rank; /* [n_rank] in rank order */
    shoal_cluster_link *link; /* [n_rank, n_rank] from, to; the diagonal is all 0 */
} shoal_cluster;

/* All zero, for the caller to fill. n_host, n_rank in 1 .. SHOAL_MAX_RANK. Owns its memory:
 * shoal_cluster_close. Errors: NO_MEMORY. */
shoal_status shoal_cluster_open(shoal_cluster *cluster, int32_t n_host, int32_t n_rank,
                                shoal_log *log);
void shoal_cluster_close(shoal_cluster *cluster); /* accepts zeroed */

/* A cluster of the first n_rank ranks and of the hosts that they are on. Errors: NO_MEMORY. */
shoal_status shoal_cluster_first(shoal_cluster *part, const shoal_cluster *cluster, int32_t n_rank,
                                 shoal_log *log);

shoal_cluster_link *shoal_cluster_link_at(const shoal_cluster *cluster, int32_t from, int32_t to);

#endif
