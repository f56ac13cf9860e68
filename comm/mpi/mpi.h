/* The MPI transport: MPI_Isend/Irecv/Test on MPI_COMM_WORLD, errors returned, never a blocking
 * call; a duplicate would be made by one, in which a host that cannot be reached hangs all. So a
 * process has one such transport at a time, and uses no tags of comm on MPI_COMM_WORLD beside it.
 * One of two places that include <mpi.h> (the other is launcher/bootstrap.c, which initialises and
 * finalises). Layering: comm. */
#ifndef SHOAL_COMM_MPI_MPI_H
#define SHOAL_COMM_MPI_MPI_H

#include "comm/transport.h"
#include "runtime/base/log.h"

/* Settings of Open MPI that launchers put into the environment, unless they are there, before MPI
 * is initialised. Ends with a NULL name. */
typedef struct shoal_mpi_setting {
    const char *name;
    const char *value;
} shoal_mpi_setting;
extern const shoal_mpi_setting shoal_mpi_settings[];

/* When MPI is initialised: Open MPI writes no help texts of its own any more. Each waits for the
 * launcher's daemon, which does not answer while it ends a job: the text about a broken connection
 * would hang a rank for good before it can say who is lost. */
void shoal_mpi_be_quiet(void);

/* MPI must be initialised with at least MPI_THREAD_FUNNELED. */
shoal_status shoal_transport_open_mpi(shoal_transport **transport, shoal_log *log);

#endif
