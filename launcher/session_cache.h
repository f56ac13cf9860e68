/* --cache, and what is staged, in the common way of a run (session.c). Layering: private to
 * launcher/session.c. */
#ifndef SHOAL_LAUNCHER_SESSION_CACHE_H
#define SHOAL_LAUNCHER_SESSION_CACHE_H

#include "launcher/session.h"

/* MODEL, or where it was staged to, if it is not on this host. */
const char *shoal__session_model(const shoal_options *options);

/* s->cache, if --cache or a staged MODEL wants one. The checkpoint and the spec are open; n_mtp:
 * MTP layers that are used. Errors: NO_INPUT, IO, NO_MEMORY. */
shoal_status shoal__session_open_cache(shoal_session *s, int32_t n_mtp);

#endif
