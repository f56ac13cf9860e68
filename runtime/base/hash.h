/* A 64-bit hash (FNV-1a over bytes) for the agreement before load and for deriving seeds. Equal on
 * every machine for equal bytes; callers hash fields in little-endian order.
 * Layering: base. */
#ifndef SHOAL_BASE_HASH_H
#define SHOAL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define SHOAL_HASH_INIT 0xcbf29ce484222325ull

/* hash = SHOAL_HASH_INIT to begin. */
uint64_t shoal_hash(uint64_t hash, const void *data, size_t n_bytes);

#endif
