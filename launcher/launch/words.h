/* A command line as it is built: a growing list of owned words that exec takes, and the same as one
 * line that can be pasted into a shell. A word that cannot be added for want of memory is
 * remembered and said once, by whoever looks at `failed`. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_LAUNCH_WORDS_H
#define SHOAL_LAUNCHER_LAUNCH_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct shoal_words {
    char **word; /* [n], and a NULL behind them; NULL: none yet */
    int32_t n, n_max;
    bool failed; /* no memory: what is here is not whole */
} shoal_words;

void shoal_words_add(shoal_words *words, const char *text); /* copied */
void shoal_words_addf(shoal_words *words, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void shoal_words_close(shoal_words *words); /* accepts zeroed */

/* One word as a shell reads it back: in single quotes if it has anything but letters, digits and
 * %+,-./:=@_. */
void shoal_word_print(FILE *out, const char *word);

/* All of them, separated by spaces; no newline. */
void shoal_words_print(FILE *out, char *const *word, int32_t n);

#endif
