/* Units with weights of every kind, filled deterministically, to be kept and compared. */
#ifndef SHOAL_TESTS_CHECKPOINT_PACK_UNITS_H
#define SHOAL_TESTS_CHECKPOINT_PACK_UNITS_H

#include "runtime/checkpoint/pack_file.h"

enum { PACK_UNITS_N_PART = 5 };

typedef struct pack_units {
    int32_t n_unit;
    shoal_pack_unit *unit; /* [n_unit] ids 0 .. n_unit - 1 */
    shoal_pack_part *part; /* [n_unit * PACK_UNITS_N_PART] */
} pack_units;

/* Q4, Q8, FP8_BLOCK with scales, BF16 and a vector; about n_row * 64 * 6 bytes a unit. */
void pack_units_open(pack_units *u, int32_t n_unit, int32_t n_row);
void pack_units_close(pack_units *u);

/* True if `found` is the same unit with the same bytes. */
bool pack_units_equal(const shoal_pack_unit *found, const shoal_pack_unit *wanted);

#endif
