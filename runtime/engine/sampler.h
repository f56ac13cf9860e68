/* From a row of logits to a token. Greedy, or: divide by temperature, keep the top_k largest,
 * softmax, keep the smallest set whose probability reaches top_p, draw. Ties: lower token id first.
 * The draw comes from a counter-based generator (random.h) keyed by (seed, key) with counter
 * (position, draw). Every step is exact or has one fixed order, so the token is equal on every
 * machine. Layering: engine. */
#ifndef SHOAL_ENGINE_SAMPLER_H
#define SHOAL_ENGINE_SAMPLER_H

#include "runtime/engine/engine.h"
#include "runtime/engine/random.h"

/* Rows of logits, whole or as the largest of each. */
typedef struct shoal_logit_rows {
    const float *logits;        /* [n, n_vocab] */
    const shoal_logit *largest; /* [n, n_largest] in order, instead; NULL: logits */
    int32_t n_largest;
} shoal_logit_rows;

/* How many of the largest logits of a row say what is drawn: 1 or top_k; 0: all may count. */
int32_t shoal_sampling_n_largest(const shoal_sampling *sampling, int32_t n_vocab);

/* Scratch of one worker, carved once. */
typedef struct shoal_sampler {
    int32_t n_vocab;
    float *p;           /* [n_vocab] scaled logits, then probabilities */
    shoal_logit *entry; /* [n_vocab] candidates, by scaled logit */
} shoal_sampler;

/* Measure or carve. */
void shoal_sampler_carve(shoal_sampler *sampler, shoal_arena *arena, int32_t n_vocab);

/* logits [n_vocab] are read only. position: of the token drawn. NaN counts as -infinity; a row
 * without a finite largest logit is taken greedily. */
int32_t shoal_sample(shoal_sampler *sampler, const shoal_kernels *kernels, const float *logits,
                     const shoal_sampling *sampling, uint64_t key, int32_t position);

/* Where a token is drawn, and a guess at it that was made without a look at these logits. */
typedef struct shoal_sample_place {
    uint64_t key;
    int32_t position; /* of the token drawn */
    int32_t guess;    /* -1: none */
} shoal_sample_place;

/* As shoal_sample, of the first row, with the same distribution: the guess is taken with the
 * probability p that it has there; else one of the other tokens is drawn, with its p divided by 1 -
 * p(guess). */
int32_t shoal_sample_guessed(shoal_sampler *sampler, const shoal_kernels *kernels,
                             shoal_logit_rows rows, const shoal_sampling *sampling,
                             const shoal_sample_place *place);

/* Guesses at consecutive tokens, from `position` on. */
typedef struct shoal_guesses {
    const int32_t *token; /* [n] */
    int32_t n;            /* 0 is fine */
    uint64_t key;
    int32_t position;
} shoal_guesses;

/* Draw as long as the guesses are right: token [n + 1] gets the right guesses and the token behind
 * them, then -1. rows: n + 1, of which row i is right if guesses 0 .. i-1 are. If they are the
 * largest logits alone, they are as many as shoal_sampling_n_largest says, or more. Returns how
 * many tokens, 1 .. n + 1. */
int32_t shoal_sample_verify(int32_t *token, shoal_sampler *sampler, const shoal_kernels *kernels,
                            shoal_logit_rows rows, const shoal_sampling *sampling,
                            const shoal_guesses *guesses);

/* True if the parameters make sense: temperature finite and >= 0, top_k >= 0, 0 <= top_p <= 1
 * (top_p keeps at least one token). */
bool shoal_sampling_valid(const shoal_sampling *sampling);

#endif
