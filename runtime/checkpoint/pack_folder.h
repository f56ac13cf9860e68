/* The folder of one identity in the cache's DIR. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_PACK_FOLDER_H
#define SHOAL_CHECKPOINT_PACK_FOLDER_H

#include "runtime/checkpoint/pack_cache.h"

/* Make DIR and the folder in it where they are not there, and about.json in a new folder; say
 * (config.speaks) which other folders were packed from the same MODEL in another state. *path is
 * the caller's to free. *writable: files can be made in it; if not, a warning was given. Errors:
 * NO_INPUT, IO, NO_MEMORY. */
shoal_status shoal__pack_folder_open(char **path, bool *writable, const shoal_pack_config *config,
                                     shoal_log *log);

#endif
