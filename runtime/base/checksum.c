#include "runtime/base/checksum.h"

#include <xxhash.h>

uint64_t shoal_checksum(uint64_t seed, const void *data, size_t n_bytes)
{
    return XXH3_64bits_withSeed(data, n_bytes, seed);
}
