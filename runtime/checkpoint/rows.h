/* Reading rows of a source: in pieces of as many as fit into the loader's piece, as stored (for
 * packing) or as f32. Reports progress. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_ROWS_H
#define SHOAL_CHECKPOINT_ROWS_H

#include "runtime/checkpoint/source.h"

typedef struct shoal__rows {
    shoal_loader *loader;
    const shoal__source *source;
    size_t row_bytes;     /* of a stored row; transposed: of the gathered row */
    int32_t n_step;       /* the most rows that one read gives: whole bands */
    unsigned char *slice; /* transposed: the whole slice, [n_col, n_stored_row]; owned */
    float *fp8_scale;     /* f32 of F8_E4M3: scales of the blocks that the rows lie in; owned */
    int32_t fp8_block0;   /* block of rows that fp8_scale begins with */
    uint8_t *mxfp4_scale; /* MXFP4 pair: [n_row, n_col / 32]; owned */
} shoal__rows;

/* Makes the loader's piece hold n_step rows. as_f32: scales are wanted, too. The source is
 * borrowed. Errors: NO_MEMORY, IO, BAD_DATA (bad scales). */
shoal_status shoal__rows_open(shoal__rows *rows, shoal_loader *loader, const shoal__source *source,
                              bool as_f32);
void shoal__rows_close(shoal__rows *rows);

/* Rows [row, row + n) of the source, n <= n_step, without gaps in loader->piece. */
shoal_status shoal__rows_read(shoal__rows *rows, int32_t row, int32_t n);
/* The same as f32 into dst, any n. */
shoal_status shoal__rows_read_f32(float *dst, shoal__rows *rows, int32_t row, int32_t n);

/* Rows [row, row + n) of the source, which lie at `stored` as read, as f32, scales applied. */
void shoal__rows_to_f32(float *dst, const shoal__rows *rows, const void *stored, int32_t row,
                        int32_t n);

/* MXFP4 pair: the scales from row `row` of the source on. */
const uint8_t *shoal__rows_mxfp4_scales(const shoal__rows *rows, int32_t row);

/* F8_E4M3: the factors of blocks of rows [block0, block0 + n_block), [n_block, blocks of columns]
 * into dst. Errors: BAD_DATA for one that is not a finite number >= 0. */
shoal_status shoal__rows_read_scales(float *dst, shoal__rows *rows, int32_t block0,
                                     int32_t n_block);

#endif
