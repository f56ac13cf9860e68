/* From a row of logits to a token. Greedy, or: divide by temperature, keep the top_k largest,
 * softmax, keep the smallest set whose probability reaches top_p, draw. Ties: lower token id first.
 * The draw comes from a counter-based generator (Philox4x32-10, Salmon et al. 2011) keyed by (seed,
 * key) with counter (position, draw): equal on every machine. Layering: engine. */
#ifndef SHOAL_ENGINE_SAMPLER_H
#define SHOAL_ENGINE_SAMPLER_H

#include "runtime/engine/engine.h"

/* Uniform in [0, 1), 24 bits. */
float shoal_random_uniform(uint64_t seed, uint64_t key, uint64_t position, uint64_t draw);

/* Scratch: [n_vocab] pairs, carved once. */
typedef struct shoal_sampler_entry {
    float p;
    int32_t token;
} shoal_sampler_entry;

/* logits [n_vocab] are read only. position: of the token drawn. */
int32_t shoal_sample(shoal_sampler_entry *scratch, const shoal_kernels *kernels,
                     const float *logits, int32_t n_vocab, const shoal_sampling *sampling,
                     uint64_t key, int32_t position);

#endif
