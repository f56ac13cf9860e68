/* What `shoal probe` has measured, as bytes: the file that plan and --placement weighted read.
 * Plain structs here, protobuf-c behind the door. Links are a square of (from, to); what was not
 * measured itself but taken from a like pair says so in its path. Layering: proto knows base only;
 * what the figures mean is known by the launcher. */
#ifndef SHOAL_PROTO_PROBE_H
#define SHOAL_PROTO_PROBE_H

#include "runtime/base/log.h"

#include <stddef.h>

#define SHOAL_PROBE_VERSION  1
#define SHOAL_PROBE_NAME     64   /* bytes of a name with its end */
#define SHOAL_PROBE_RATE_MAX 16   /* weight formats of a rank */
#define SHOAL_PROBE_RANK_MAX 1024 /* SHOAL_MAX_RANK */

typedef struct shoal_probe_host {
    char name[SHOAL_PROBE_NAME];
    char address[SHOAL_PROBE_NAME]; /* of the interface that its links use, or "" */
    int32_t n_core, n_numa;
    uint64_t memory_bytes, free_bytes;
    double nic_gb_per_s; /* payload, all its ranks sending at once; 0: no other host */
    double clock_s;      /* its clock minus that of rank 0's host */
} shoal_probe_host;

typedef struct shoal_probe_rate {
    char format[16];          /* shoal_format_text */
    double decode_gb_per_s;   /* packed weight bytes, one token, from memory */
    double prefill_gop_per_s; /* 2 * multiply-adds, many tokens */
} shoal_probe_rate;

typedef struct shoal_probe_rank {
    int32_t host;                  /* index */
    int32_t gpu;                   /* -1: cpu */
    char device[SHOAL_PROBE_NAME]; /* the processor or GPU, for people; "": not known */
    int32_t n_thread, n_core;      /* n_core: bound to */
    uint64_t memory_bytes;         /* that it may fill */
    double read_gb_per_s;          /* while all ranks of all hosts read */
    double f32_gflop_per_s;        /* fma */
    double job_us;                 /* a job of the pool: start, barrier, end; of a GPU a kernel */
    double pcie_gb_per_s;          /* of a GPU: between it and the host's memory, the slower way */
    double launch_us, wait_us; /* of a GPU: of the host for a kernel; behind it until it goes on */
    int32_t n_rate;
    int32_t pad;
    shoal_probe_rate rate[SHOAL_PROBE_RATE_MAX];
} shoal_probe_rank;

typedef enum shoal_probe_path {
    SHOAL_PROBE_PATH_SELF, /* the diagonal */
    SHOAL_PROBE_PATH_MEMORY,
    SHOAL_PROBE_PATH_TCP,
    SHOAL_PROBE_PATH_ALIKE = 4, /* added: the figures are those of pairs like this one */
} shoal_probe_path;

typedef struct shoal_probe_link {
    float latency_us;   /* 64 bytes, one way */
    float gb_per_s;     /* payload of large messages, alone on the link */
    float overhead_us;  /* per message of a stream of small ones */
    float burst_bytes;  /* that pass at once after a pause: a token bucket's; 0: none seen */
    int32_t path;       /* shoal_probe_path */
    char interface[32]; /* of the sender, "" if none; several: "eth0+eth1" */
    int32_t mbit_per_s; /* of that, as its driver says; 0: not known */
} shoal_probe_link;

typedef struct shoal_probe_message {
    uint32_t version;
    int32_t n_host, n_rank;
    int64_t unix_s;
    char build[SHOAL_PROBE_NAME];
    shoal_probe_host *host; /* [n_host] */
    shoal_probe_rank *rank; /* [n_rank] */
    shoal_probe_link *link; /* [n_rank, n_rank] from, to */
} shoal_probe_message;

/* All zero, gpu -1. n_host, n_rank in 1 .. SHOAL_PROBE_RANK_MAX. Owns its memory:
 * shoal_probe_message_close. Errors: NO_MEMORY. */
shoal_status shoal_probe_message_open(shoal_probe_message *message, int32_t n_host, int32_t n_rank,
                                      shoal_log *log);
void shoal_probe_message_close(shoal_probe_message *message); /* accepts zeroed */

shoal_probe_link *shoal_probe_message_link(const shoal_probe_message *message, int32_t from,
                                           int32_t to);

/* The message is borrowed; bytes are malloc'ed and the caller's to free. Errors: NO_MEMORY. */
shoal_status shoal_probe_message_pack(uint8_t **bytes, size_t *n_bytes,
                                      const shoal_probe_message *message, shoal_log *log);

/* Owned by the caller: shoal_probe_message_close. What comes out is consistent: 1 .. RANK_MAX ranks
 * and as many hosts at most, every rank on one of them and every host with a rank, links of exactly
 * n_rank^2, numbers finite and >= 0 (the clock: finite). `name`, of the file, begins error texts.
 * Errors: BAD_DATA (not a probe, another version, inconsistent), NO_MEMORY. */
shoal_status shoal_probe_message_unpack(shoal_probe_message *message, const uint8_t *bytes,
                                        size_t n_bytes, const char *name, shoal_log *log);

#endif
