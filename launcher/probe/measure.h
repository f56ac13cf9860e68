/* The measurements of a probe, all through shoal_comm with its deadlines: what the ranks compute
 * (all at once, as in a run), what lies between two of them (pairs that share no host at a time),
 * and what a host sends when all its ranks do. Every function is collective. Formulas:
 * docs/PERFORMANCE.md. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PROBE_MEASURE_H
#define SHOAL_LAUNCHER_PROBE_MEASURE_H

#include "comm/comm.h"
#include "launcher/probe/facts.h"
#include "launcher/probe/schedule.h"
#include "launcher/progress.h"
#include "launcher/yardstick.h"

/* How much time goes into it. */
typedef struct shoal_probe_effort {
    size_t read_bytes;   /* that a host's ranks read in turn; at least twice its last-level cache */
    size_t weight_bytes; /* of that, of a matrix for one token; likewise */
    int64_t window_us;   /* of each figure of a rank */
    int64_t link_us;     /* of the large messages of a link, each way */
    int32_t n_slot_max;  /* pairs one after another */
    uint32_t format_bits; /* weight formats, 1 << shoal_format */
    bool host_links;      /* measure what hosts send with all their ranks */
} shoal_probe_effort;

shoal_probe_effort shoal_probe_effort_full(void);
/* Half a second, with the formats that a model has. */
shoal_probe_effort shoal_probe_effort_quick(uint32_t format_bits);

typedef struct shoal_probe_job {
    shoal_comm *comm;
    const shoal_compute *compute;
    const shoal_probe_effort *effort;
    const int32_t *host; /* [n_rank] index of each rank's */
    int32_t n_host;
    shoal_progress *progress; /* rank 0's, or NULL */
    shoal_log *log;
} shoal_probe_job;

/* rank: this rank's figures of reading and multiplying; of a GPU also its number, name and room. */
shoal_status shoal_probe_compute(shoal_probe_rank *rank, const shoal_probe_job *job);

/* link [n_rank]: from this rank to the others; only those that were measured are set. The schedule
 * is the same on every rank. */
shoal_status shoal_probe_links(shoal_probe_link *link, const shoal_probe_schedule *schedule,
                               const shoal_probe_job *job);

/* nic_gb_per_s [n_host] on rank 0: of the hosts' payload while all their ranks send to another
 * host at once. Zero where a host has no other. link: this rank's, as measured. */
shoal_status shoal_probe_host_links(double *nic_gb_per_s, const shoal_probe_link *link,
                                    const shoal_probe_job *job);

/* clock_s [n_host] on rank 0: of each host's clock minus rank 0's, and how far that may be off. */
shoal_status shoal_probe_clocks(double *clock_s, double *error_s, const shoal_probe_job *job);

#endif
