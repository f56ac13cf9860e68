#include "runtime/engine/random.h"

#define N_ROUND 10

/* Multipliers and key increments of the paper. */
#define MULTIPLIER_0 0xd2511f53u
#define MULTIPLIER_1 0xcd9e8d57u
#define INCREMENT_0  0x9e3779b9u
#define INCREMENT_1  0xbb67ae85u

void shoal__philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < N_ROUND; round++) {
        const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0;
        const uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += INCREMENT_0;
        k1 += INCREMENT_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

float shoal_random_uniform(uint64_t seed, uint64_t key, uint64_t position, uint64_t draw)
{
    /* Four 64-bit words do not fit one block, so a first block turns (seed, key) into the key of
     * the stream. Its third and fourth word keep it apart from blocks of draws. */
    const uint32_t seed_key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t stream[4] = {(uint32_t)key, (uint32_t)(key >> 32), 0x5348414fu, 0x4c000001u};
    uint32_t stream_key[4];
    shoal__philox4x32(stream_key, stream, seed_key);

    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), (uint32_t)draw,
                                 (uint32_t)(draw >> 32)};
    uint32_t block[4];
    shoal__philox4x32(block, counter, stream_key);
    return (float)(block[0] >> 8) * 0x1p-24f;
}
