/* Prompt look-up: a guess at the next tokens of a text from the text itself. Where its last three
 * tokens (else two, else one) stood before, what followed there may follow again; the latest such
 * place counts. Pure. Layering: engine; needs nothing. */
#ifndef SHOAL_ENGINE_NGRAM_H
#define SHOAL_ENGINE_NGRAM_H

#include <stdint.h>

/* Guesses at the tokens after token [n], at most n_guess_max, into guess. Returns how many. */
int32_t shoal_ngram_guess(int32_t *guess, int32_t n_guess_max, const int32_t *token, int32_t n);

#endif
