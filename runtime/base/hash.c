#include "runtime/base/hash.h"

uint64_t shoal_hash(uint64_t hash, const void *data, size_t n_bytes)
{
    const unsigned char *byte = data;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ byte[i]) * 0x100000001b3ull;
    return hash;
}
