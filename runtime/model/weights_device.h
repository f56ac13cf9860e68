/* Where weights go to in the load pass: on a CPU rank into the memory that was carved for them. On
 * a rank with a device that is the device's, but for the embedding table, which the host looks up;
 * they get there through the buffers of an upload (runtime/checkpoint/upload.h), piece by piece as
 * they are packed, or as the cache has them. What is packed and will be kept in the cache is made
 * in the host's memory, a unit at a time, as its file is written from there. Layering: inside
 * model. */
#ifndef SHOAL_MODEL_WEIGHTS_DEVICE_H
#define SHOAL_MODEL_WEIGHTS_DEVICE_H

#include "runtime/model/weights_walk.h"

/* Whether what is visited lies in the memory of the rank's device. */
bool shoal__to_device(const shoal_walker *w);

/* Read a matrix, or a vector m [n_row] of f32, into m's memory, and list it if it will be kept.
 * Errors: those of checkpoint/load.h. */
shoal_status shoal__load_matrix(shoal_walker *w, shoal_matrix *m, shoal_weight_ref ref);
shoal_status shoal__load_vector(shoal_walker *w, const shoal_matrix *m, shoal_weight_ref ref);

/* Contents of m that are made here: between begin and end, one m after the other, they are written
 * to `to`. No scales. */
shoal_status shoal__fill_begin(shoal_matrix *to, shoal_walker *w, const shoal_matrix *m);
shoal_status shoal__fill_end(shoal_walker *w, const shoal_matrix *m, const shoal_matrix *from,
                             shoal_weight_ref ref);

/* To m in the device's memory what `from` has in the host's. */
shoal_status shoal__device_copy(shoal_walker *w, const shoal_matrix *m, const shoal_matrix *from);

#endif
