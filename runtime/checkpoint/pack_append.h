/* Units behind the end of a pack file that the caller has locked. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_PACK_APPEND_H
#define SHOAL_CHECKPOINT_PACK_APPEND_H

#include "runtime/checkpoint/pack_write.h"

/* As shoal__pack_add, to a file that is there. Errors: also BAD_DATA (it cannot be used). */
shoal_status shoal__pack_append(uint64_t *n_bytes_added, const shoal__pack_writer *writer, int fd,
                                const char *path, const shoal__pack_shape *shape,
                                const shoal_pack_unit *unit, int32_t n_unit);

#endif
