/* Packed weights on their way into the memory of a rank's device (kernels/device.h): through two
 * buffers in memory that both the host and the device read. What is to travel is put into the
 * current one; when that is full the other one is next, once the device has read it. So one is
 * filled while the other travels, and no weight is ever whole in the host's memory on its account.
 *
 *     SHOAL_TRY(shoal_upload_room(&room, upload, n_bytes));   fill room
 *     shoal_upload_send(upload, to, room, n_bytes);           ... and forget it
 *     SHOAL_TRY(shoal_upload_finish(upload));                 all is there
 *
 * Uses the device's marks 0 and 1, so nothing else may go on there. Layering: checkpoint knows
 * kernels. */
#ifndef SHOAL_CHECKPOINT_UPLOAD_H
#define SHOAL_CHECKPOINT_UPLOAD_H

#include "runtime/base/log.h"
#include "runtime/kernels/ops.h"

#define SHOAL_UPLOAD_BYTES ((size_t)64 << 20) /* of a buffer, if there is so much to upload */

typedef struct shoal_upload {
    const shoal_compute *compute; /* with a device; borrowed, as is the log */
    shoal_log *log;
    unsigned char *buffer[2]; /* [n_bytes] each, HOST memory of the device */
    size_t n_bytes;
    size_t used_bytes; /* of the current buffer */
    int32_t current;   /* 0 or 1 */
    bool is_marked[2]; /* it has travelled since it was begun, and its mark says when it is read */
} shoal_upload;

/* Bytes of each buffer for weights of n_bytes in all. */
size_t shoal_upload_buffer_bytes(uint64_t n_bytes);

/* Two buffers of n_bytes. Errors: NO_MEMORY. */
shoal_status shoal_upload_open(shoal_upload *upload, const shoal_compute *compute, size_t n_bytes,
                               shoal_log *log);
void shoal_upload_close(shoal_upload *upload); /* accepts zeroed; waits for what is under way */

/* Room for n_bytes, 64-byte aligned, until the next call of room or copy. Errors: NO_MEMORY (more
 * than a buffer has), and what has befallen the device. */
shoal_status shoal_upload_room(void **room, shoal_upload *upload, size_t n_bytes);

/* Enqueue the upload of room's n_bytes to `to` in the device's memory. */
void shoal_upload_send(shoal_upload *upload, void *to, const void *room, size_t n_bytes);

/* Any bytes of the host to the device, in pieces; `from` is free again when this returns. poll:
 * called after each piece, may be NULL. Errors: as room. */
shoal_status shoal_upload_copy(shoal_upload *upload, void *to, const void *from, size_t n_bytes,
                               void (*poll)(void *arg), void *poll_arg);

/* Until all has arrived. Errors: what has befallen the device. */
shoal_status shoal_upload_finish(shoal_upload *upload);

#endif
