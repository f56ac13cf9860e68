/* A probe of the cluster: facts of the hosts, figures of ranks and links, warnings. Made by all
 * ranks together, kept by rank 0. Used by `shoal probe`, and in short by --placement weighted.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PROBE_PROBE_H
#define SHOAL_LAUNCHER_PROBE_PROBE_H

#include "launcher/cores.h"
#include "launcher/probe/facts.h"
#include "launcher/probe/measure.h"
#include "launcher/probe/warnings.h"

typedef struct shoal_probe {
    shoal_probe_message message;
    shoal_probe_facts *facts; /* [n_rank] */
    double *clock_error_s;    /* [n_host] */
    size_t n_pair, n_pair_measured;
    double time_s; /* that the measurements took */
    int32_t n_warning;
    shoal_probe_warning warning[SHOAL_PROBE_N_WARNING];
} shoal_probe;

/* What the ranks measure with. */
typedef struct shoal_probe_setup {
    shoal_comm *comm;
    const shoal_compute *compute;
    const shoal_cores *cores;
    const char *mpi; /* version of the MPI library, or "" */
    shoal_probe_effort effort;
    bool shows_progress;
} shoal_probe_setup;

/* Collective. Rank 0's probe is filled and owned (shoal_probe_close), the others' stay zeroed.
 * Errors: FAILED (a rank of a build whose records have another form), PEER_LOST, ... */
shoal_status shoal_probe_run(shoal_probe *probe, const shoal_probe_setup *setup, shoal_log *log);
void shoal_probe_close(shoal_probe *probe); /* accepts zeroed */

/* On stdout: for people, and one JSON object. */
void shoal_probe_print(const shoal_probe *probe, FILE *out);
void shoal_probe_print_json(const shoal_probe *probe, FILE *out);

/* "shared memory", "tcp" */
const char *shoal_probe_path_name(int32_t path);

#endif
