/* Rows of a source into a packed matrix, as stored or through f32, piece by piece: one thread
 * reads, the pool packs the bands of what was read. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_PACK_H
#define SHOAL_CHECKPOINT_PACK_H

#include "runtime/checkpoint/rows.h"
#include "runtime/checkpoint/upload.h"

/* All rows of an opened source into w, whose format is the source's; upload: by way of it, into
 * memory of its device, or NULL. Errors: IO, NO_MEMORY, BAD_DATA for values and scales that w
 * cannot hold, and what has befallen the device. */
shoal_status shoal__pack_rows(shoal_matrix *w, shoal__rows *rows, shoal_upload *upload);

#endif
