/* The generator behind every draw: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random
 * numbers: as easy as 1, 2, 3", 2011). Counter-based: a draw is a pure function of its key and its
 * number, so it needs no state and does not depend on who draws it, when, or beside whom.
 * Layering: engine. */
#ifndef SHOAL_ENGINE_RANDOM_H
#define SHOAL_ENGINE_RANDOM_H

#include <stdint.h>

/* One block: 10 rounds over counter [4] under key [2]. out may be counter. */
void shoal__philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Uniform in [0, 1), 24 bits. (seed, key) choose the stream, (position, draw) the number in it. */
float shoal_random_uniform(uint64_t seed, uint64_t key, uint64_t position, uint64_t draw);

#endif
