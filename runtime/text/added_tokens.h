/* Tokens that are cut out of the text before anything else sees it ("<|im_start|>"). There are two
 * sets: those matched in the raw text, and those matched in the normalized text (`normalized` in
 * tokenizer.json), whose own text is normalized as well. At each place the longest one wins.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_ADDED_TOKENS_H
#define SHOAL_TEXT_ADDED_TOKENS_H

#include "runtime/text/buffer.h"

typedef struct shoal__added {
    char *text; /* owned */
    size_t n_bytes;
    int32_t id;
    bool single_word; /* only where no word character touches it */
    bool lstrip;      /* takes the white space on its left along */
    bool rstrip;
} shoal__added;

typedef struct shoal__added_set {
    shoal__added *token; /* [n], sorted by text */
    size_t n;
    size_t capacity;
    bool begins[256]; /* some token begins with this byte */
} shoal__added_set;

/* text is copied. Errors: NO_MEMORY. */
shoal_status shoal__added_add(shoal__added_set *set, shoal__added token, const char *text,
                              shoal_log *log);

/* Sorts; to be called once after the last add. Returns the index of a token whose text another one
 * has too, or set->n. */
size_t shoal__added_finish(shoal__added_set *set);
void shoal__added_fini(shoal__added_set *set);

/* Cutting one text: begin with a zeroed cursor. */
typedef struct shoal__added_cursor {
    size_t search;  /* where the next token may begin */
    size_t covered; /* end of the token before, with what it stripped */
} shoal__added_cursor;

/* The next token in text[0, n), valid UTF-8: its span (white space that it strips included) and id;
 * false if there is none. A token all of whose text was stripped by the one before is none. What
 * lies between cursor->covered (before the call) and the span is ordinary text. */
bool shoal__added_next(shoal__span *span, int32_t *id, const shoal__added_set *set,
                       shoal__added_cursor *cursor, const char *text, size_t n);

#endif
