/* A fast 64-bit checksum of large data (XXH3 of the xxHash library), against damage on disk and not
 * against intent. Equal on every machine for equal bytes. Small keys and seeds use hash.h.
 * Layering: base, the one door to xxHash. */
#ifndef SHOAL_BASE_CHECKSUM_H
#define SHOAL_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Of n_bytes; of several pieces: the checksum of one is the seed of the next. seed: 0 to begin. */
uint64_t shoal_checksum(uint64_t seed, const void *data, size_t n_bytes);

#endif
