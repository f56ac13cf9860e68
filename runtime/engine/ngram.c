#include "runtime/engine/ngram.h"

enum { LONGEST = 3 };

/* Tokens that the text ending before `end` has in common with the end of the text, at most LONGEST.
 */
static int32_t common_suffix(const int32_t *token, int32_t n, int32_t end)
{
    int32_t m = 0;
    while (m < LONGEST && m < end && token[end - 1 - m] == token[n - 1 - m])
        m++;
    return m;
}

int32_t shoal_ngram_guess(int32_t *guess, int32_t n_guess_max, const int32_t *token, int32_t n)
{
    int32_t best = 0, best_end = 0;
    for (int32_t end = n - 1; end > 0 && best < LONGEST; end--) {
        const int32_t m = common_suffix(token, n, end);
        if (m > best) {
            best = m;
            best_end = end;
        }
    }
    int32_t n_guess = 0;
    while (best > 0 && n_guess < n_guess_max && best_end + n_guess < n) {
        guess[n_guess] = token[best_end + n_guess];
        n_guess++;
    }
    return n_guess;
}
