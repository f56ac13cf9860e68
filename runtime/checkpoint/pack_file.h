/* A pack file: weights as they are in memory (the layout of runtime/kernels/matrix.h), to be mapped
 * and used in place. It has room for n_unit units, numbered; a unit is what is needed together: an
 * expert, or all else of a layer. A unit has parts: matrices and vectors, found by key.
 *
 *     header | n_unit slots: where a unit lies, its parts, checksums | units, each 4096-aligned
 *
 * A file appears whole and empty and then grows (pack_write.h). Bytes that a slot refers to never
 * change, so a mapping stays good while others append. Numbers are little-endian. Layering: inside
 * checkpoint; model sees units and parts. */
#ifndef SHOAL_CHECKPOINT_PACK_FILE_H
#define SHOAL_CHECKPOINT_PACK_FILE_H

#include "runtime/base/log.h"
#include "runtime/kernels/matrix.h"

/* Of this file format and of all that is packed into it: raise it when either changes, so that what
 * older builds wrote is packed anew (tests/checkpoint/test_pack_layout.c notices other bytes). */
#define SHOAL_PACK_VERSION 2

/* A weight: a packed matrix, or with n_col 0 a vector of n_row f32 at matrix.data. */
typedef struct shoal_pack_part {
    uint64_t key;
    shoal_matrix matrix;
} shoal_pack_part;

typedef struct shoal_pack_unit {
    int32_t id;     /* 0 .. n_unit - 1 */
    int32_t n_part; /* 0: it is not there */
    const shoal_pack_part *part;
    uint64_t checksum; /* as written, of all parts in order: data, then scales */
} shoal_pack_unit;

/* What a file must be for, so that one of another model or layer is not taken for it. */
typedef struct shoal__pack_shape {
    uint64_t identity;
    int32_t layer;
    int32_t n_unit;
} shoal__pack_shape;

typedef struct shoal__pack_file {
    unsigned char *base;   /* the mapping, read-only, shared; NULL if there is no unit */
    size_t n_bytes;        /* mapped */
    int32_t n_unit;        /* slots */
    int32_t n_damaged;     /* slots that were written but are not good */
    shoal_pack_unit *unit; /* [n_unit] */
    shoal_pack_part *part; /* of all units */
} shoal__pack_file;

/* Map a file. Header and slots are checked (magic, version, checksums, every offset and size); the
 * weights are not read. *file is NULL, without an error, if there is none. Errors: BAD_DATA (no
 * such file, or one of another shape, or damaged), IO, NO_MEMORY. */
shoal_status shoal__pack_open(shoal__pack_file **file, const char *path,
                              const shoal__pack_shape *shape, shoal_log *log);
void shoal__pack_close(shoal__pack_file *file); /* accepts NULL */

/* Bytes of the data and of the scales of a part's matrix (or vector). */
size_t shoal_pack_data_bytes(const shoal_matrix *matrix);
size_t shoal_pack_scale_bytes(const shoal_matrix *matrix);

/* The checksum of a unit's weights as they are now. poll: called after each few MiB, may be NULL.
 */
uint64_t shoal__pack_checksum(const shoal_pack_unit *unit, void (*poll)(void *arg), void *poll_arg);

#endif
