/* What a session keeps of itself on request: a timeline of every rank (--trace F) and the router's
 * choices (--routes F). Without either nothing is opened, and nothing is asked in a step but
 * whether there is a recorder. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_RECORDING_H
#define SHOAL_LAUNCHER_RECORDING_H

#include "launcher/session.h"

/* Every rank by itself, before weights are loaded: files and memory. Errors: IO, USAGE, NO_MEMORY.
 */
shoal_status shoal_recording_open(shoal_session *session);
/* With the engine open: from here on everything is recorded. Collective. Errors: those of comm. */
shoal_status shoal_recording_start(shoal_session *session);
/* When the work is done: the files are written. Collective. A file that could not be written is
 * said and kept for close. Errors: those of comm. */
shoal_status shoal_recording_finish(shoal_session *session);
/* Always, with the session's status, before comm is closed: behind a failure saves what this rank
 * has. Errors: IO, if the run was fine but a file is not. */
shoal_status shoal_recording_close(shoal_session *session, shoal_status status);

#endif
