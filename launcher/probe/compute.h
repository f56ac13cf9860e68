/* What compute.c (processors) and compute_device.c (GPUs) share. All ranks measure at once, so both
 * go through the same meetings: one before the first figure, two for reading and for the rest, two
 * for each format. Layering: private to launcher/probe. */
#ifndef SHOAL_LAUNCHER_PROBE_COMPUTE_H
#define SHOAL_LAUNCHER_PROBE_COMPUTE_H

#include "launcher/probe/measure.h"

/* Columns of the matrices; tokens of a prefill and rows of its matrix, which stays in the caches as
 * a tile of a large one does. */
enum { SHOAL__PROBE_COL = 2048, SHOAL__PROBE_TOKEN = 128, SHOAL__PROBE_ROW_MANY = 1024 };

/* One band of values within -1 .. 1 in the format. x: [16, COL] f32; scratch: as large as x. */
void shoal__probe_band(void *band, void *scratch, shoal_format format, const float *x);
/* Value i of the activations, within -1 .. 1. */
float shoal__probe_value(size_t i);

/* The product that is timed: y [n_token, w->n_row] from rows of COL values, of which w takes one
 * kind.
 */
shoal_matmul_item shoal__probe_product(float *y, const shoal_matrix *w, shoal_rows x,
                                       int32_t n_token);

/* All ranks begin together, so that the host's memory is shared as in a run. */
shoal_status shoal__probe_together(const shoal_probe_job *job);

/* The figures of a rank with a device. Collective with shoal_probe_compute of the others. */
shoal_status shoal__probe_device(shoal_probe_rank *rank, const shoal_probe_job *job);

#endif
