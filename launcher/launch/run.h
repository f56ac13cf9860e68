/* mpirun as a child: in a process group of its own, stdout untouched, stderr passed on as it comes
 * and read on the way (watch.h), signals forwarded, and ended when it does not end by itself.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_LAUNCH_RUN_H
#define SHOAL_LAUNCHER_LAUNCH_RUN_H

#include "launcher/launch/watch.h"

#include <signal.h>

/* What a loss, or a signal, leaves mpirun to end in. */
#define SHOAL_LAUNCH_GRACE_US 10000000

/* Run `line` to its end. `watch` is begun anew. Whatever mpirun leaves behind when it has to be
 * ended is ended too. Errors: UNAVAILABLE (mpirun is not installed), FAILED (no process, no pipe);
 * how it ended is in *end. */
shoal_status shoal_launch_run(shoal_launch_end *end, shoal_watch *watch, const shoal_words *line,
                              const volatile sig_atomic_t *interrupted, shoal_log *log);

/* Which hosts that take part are there: each answers `true` through the agent within 10 s. This
 * machine is there. alive[n_host] */
void shoal_launch_check_hosts(bool *alive, const shoal_launch_job *job);

/* Hand `script` (n bytes) to sbatch, whose answer ("Submitted batch job 12") goes to stdout.
 * Errors: UNAVAILABLE (no sbatch), FAILED (it refused and has said why). */
shoal_status shoal_launch_submit(const char *script, size_t n, shoal_log *log);

#endif
