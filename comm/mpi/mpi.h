/* The MPI transport: MPI_Isend/Irecv/Test on a duplicate of MPI_COMM_WORLD, errors returned, never
 * a blocking call. One of two places that include <mpi.h> (the other is launcher/bootstrap.c, which
 * initialises and finalises). Layering: comm. */
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

/* MPI must be initialised with at least MPI_THREAD_FUNNELED. Collective. */
shoal_status shoal_transport_open_mpi(shoal_transport **transport, shoal_log *log);

#endif
