/* From a process to a rank: MPI is started only where a launcher's environment is present (mpirun,
 * srun --mpi=pmix), so one rank alone starts nothing. The only place besides comm/mpi that knows
 * <mpi.h>. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_BOOTSTRAP_H
#define SHOAL_LAUNCHER_BOOTSTRAP_H

#include "comm/comm.h"
#include "launcher/options.h"

#include <signal.h>

typedef struct shoal_bootstrap {
    shoal_comm *comm; /* NULL until open */
    bool mpi;         /* MPI was initialised here */
    double deadline_s;
    const volatile sig_atomic_t *interrupted;
    shoal_log *log;
} shoal_bootstrap;

/* Rank that the launcher's environment gives this process, before MPI is started; -1 if there is no
 * such environment. For commands that need no communicator: rank 0 speaks, the others leave. */
int32_t shoal_bootstrap_environment_rank(void);

/* Logger on stderr with this host's name and the rank of the environment (0 alone). */
void shoal_bootstrap_log(shoal_log *log);

/* Choose the transport, start MPI if it is that, open the communicator; log learns the rank.
 * Collective. The ranks of a job start one after the other, so MPI has the deadline and 10 s to
 * come up; then the process ends in here with the exit code of PEER_LOST. Also after a failure
 * shoal_bootstrap_close must be called. */
shoal_status shoal_bootstrap_open(shoal_bootstrap *bootstrap, const shoal_options *options,
                                  const volatile sig_atomic_t *interrupted, shoal_log *log);

/* The MPI library that this process runs, "Open MPI v4.1.4"; cut to fit. */
void shoal_bootstrap_mpi_text(char *text, size_t n_max);

/* Leave. With OK, or a failure that all ranks agreed on, all leave together and this returns; else
 * the failure is announced to the others, and a process that runs MPI ends in here with the exit
 * code of `status`, as MPI cannot be finalised without the others. Accepts a zeroed bootstrap. */
void shoal_bootstrap_close(shoal_bootstrap *bootstrap, shoal_status status);

#endif
