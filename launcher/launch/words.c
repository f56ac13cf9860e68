#include "launcher/launch/words.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Takes `text`, which may be NULL: then there was no memory for it. */
static void take(shoal_words *words, char *text)
{
    if (text != NULL && words->n + 1 >= words->n_max) {
        int32_t n_max = words->n_max > 0 ? 2 * words->n_max : 64;
        char **word = realloc(words->word, (size_t)n_max * sizeof *word);
        if (word == NULL) {
            free(text);
            text = NULL;
        } else {
            words->word = word;
            words->n_max = n_max;
        }
    }
    if (text == NULL) {
        words->failed = true;
        return;
    }
    words->word[words->n++] = text;
    words->word[words->n] = NULL;
}

void shoal_words_add(shoal_words *words, const char *text)
{
    take(words, strdup(text));
}

void shoal_words_addf(shoal_words *words, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    take(words, text);
}

void shoal_words_close(shoal_words *words)
{
    for (int32_t i = 0; i < words->n; i++)
        free(words->word[i]);
    free(words->word);
    *words = (shoal_words){0};
}

void shoal_word_print(FILE *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "%+,-./:=@_";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        fputs(word, out);
        return;
    }
    fputc('\'', out);
    for (const char *c = word; *c != '\0'; c++) {
        if (*c == '\'')
            fputs("'\\''", out);
        else
            fputc(*c, out);
    }
    fputc('\'', out);
}

void shoal_words_print(FILE *out, char *const *word, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (i > 0)
            fputc(' ', out);
        shoal_word_print(out, word[i]);
    }
}
