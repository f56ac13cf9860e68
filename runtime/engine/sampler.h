/* From a row of logits to a token. Greedy, or: divide by temperature, keep the top_k largest,
 * softmax, keep the smallest set whose probability reaches top_p, draw. Ties: lower token id first.
 * The draw comes from a counter-based generator (random.h) keyed by (seed, key) with counter
 * (position, draw). Every step is exact or has one fixed order, so the token is equal on every
 * machine. Layering: engine. */
#ifndef SHOAL_ENGINE_SAMPLER_H
#define SHOAL_ENGINE_SAMPLER_H

#include "runtime/engine/engine.h"
#include "runtime/engine/random.h"

typedef struct shoal_sampler_entry {
    float value; /* scaled logit */
    int32_t token;
} shoal_sampler_entry;

/* Scratch of one worker, carved once. */
typedef struct shoal_sampler {
    int32_t n_vocab;
    float *p;                   /* [n_vocab] scaled logits, then probabilities */
    shoal_sampler_entry *entry; /* [n_vocab] candidates */
} shoal_sampler;

/* Measure or carve. */
void shoal_sampler_carve(shoal_sampler *sampler, shoal_arena *arena, int32_t n_vocab);

/* logits [n_vocab] are read only. position: of the token drawn. NaN counts as -infinity; a row
 * without a finite largest logit is taken greedily. */
int32_t shoal_sample(shoal_sampler *sampler, const shoal_kernels *kernels, const float *logits,
                     const shoal_sampling *sampling, uint64_t key, int32_t position);

/* True if the parameters make sense: temperature finite and >= 0, top_k >= 0, 0 <= top_p <= 1
 * (top_p keeps at least one token). */
bool shoal_sampling_valid(const shoal_sampling *sampling);

#endif
