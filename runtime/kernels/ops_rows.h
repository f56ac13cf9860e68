/* One function for each row, spread over a pool. Layering: private to kernels. */
#ifndef SHOAL_KERNELS_OPS_ROWS_H
#define SHOAL_KERNELS_OPS_ROWS_H

#include "runtime/kernels/device.h"

typedef void shoal__row_fn(const void *job, const shoal_kernels *kernels, int32_t row,
                           int32_t worker);

/* fn for rows 0 .. n_row - 1, `rows` of them a tile; a single tile, and all without a pool, on the
 * calling thread. */
void shoal__for_rows(const shoal_compute *c, shoal__row_fn *fn, const void *job, int32_t n_row,
                     int32_t rows);

#endif
