/* What is done to text before it is cut into words. A normalizer is a list of steps.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_NORMALIZE_H
#define SHOAL_TEXT_NORMALIZE_H

#include "runtime/text/regex.h"

typedef enum shoal__normal_kind {
    SHOAL__NORMAL_NFC,
    SHOAL__NORMAL_PREPEND, /* text in front, unless empty */
    SHOAL__NORMAL_REPLACE, /* every match of a pattern by a text */
} shoal__normal_kind;

typedef struct shoal__normal_step {
    shoal__normal_kind kind;
    shoal__regex *regex; /* REPLACE; owned */
    shoal__bytes text;   /* PREPEND, REPLACE: what is put; owned */
} shoal__normal_step;

enum { SHOAL__MAX_NORMAL_STEP = 16 };

typedef struct shoal__normalizer {
    shoal__normal_step step[SHOAL__MAX_NORMAL_STEP];
    int32_t n_step;
} shoal__normalizer;

/* out = the normal form of text[0, n), which is valid UTF-8 and not inside out or scratch. Both are
 * overwritten. Errors: NO_MEMORY, BAD_DATA (a match limit). */
shoal_status shoal__normalize(shoal__bytes *out, shoal__bytes *scratch, shoal__normalizer *steps,
                              const char *text, size_t n, shoal_log *log);
void shoal__normalizer_fini(shoal__normalizer *normalizer);

#endif
