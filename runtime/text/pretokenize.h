/* Cutting normalized text into the words that BPE works on. A pre-tokenizer is a list of steps that
 * each cut the words of the one before, or write them anew (byte-level: one printable character for
 * each byte, so that every byte is a token).
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_PRETOKENIZE_H
#define SHOAL_TEXT_PRETOKENIZE_H

#include "runtime/text/regex.h"

typedef enum shoal__cut_kind {
    SHOAL__CUT_SPLIT,        /* by a pattern */
    SHOAL__CUT_DIGITS,       /* by runs of, or by single numeric characters */
    SHOAL__CUT_PREFIX_SPACE, /* a space in front of each word that has none */
    SHOAL__CUT_BYTE_LEVEL,   /* bytes to characters */
    SHOAL__CUT_METASPACE,    /* see pretokenize.c */
} shoal__cut_kind;

typedef enum shoal__cut_behavior {
    SHOAL__CUT_ISOLATED,    /* matches are words */
    SHOAL__CUT_REMOVED,     /* matches are dropped */
    SHOAL__CUT_CONTIGUOUS,  /* neighbouring matches are one word */
    SHOAL__CUT_MERGED_PREV, /* a match belongs to the word before */
    SHOAL__CUT_MERGED_NEXT, /* or to the word behind */
} shoal__cut_behavior;

typedef enum shoal__prepend {
    SHOAL__PREPEND_NEVER,
    SHOAL__PREPEND_FIRST, /* only the word the text begins with */
    SHOAL__PREPEND_ALWAYS,
} shoal__prepend;

typedef struct shoal__cut_step {
    shoal__cut_kind kind;
    shoal__cut_behavior behavior; /* SPLIT, DIGITS */
    bool invert;                  /* SPLIT: what lies between matches is the match */
    shoal__regex *regex;          /* SPLIT; owned */
    shoal__prepend prepend;       /* METASPACE */
    bool split;                   /* METASPACE: cut in front of each replacement */
    char replacement[4];          /* METASPACE: one character */
    size_t n_replacement;         /* its bytes */
} shoal__cut_step;

enum { SHOAL__MAX_CUT_STEP = 32 };

typedef struct shoal__pretokenizer {
    shoal__cut_step step[SHOAL__MAX_CUT_STEP];
    int32_t n_step;
} shoal__pretokenizer;

/* Text and its words in order; words are never empty. What lies between words is dropped. */
typedef struct shoal__words {
    shoal__bytes text;
    shoal__spans span;
} shoal__words;

typedef struct shoal__cutter {
    shoal__words words;  /* the result */
    shoal__words next;   /* of the step that runs */
    shoal__spans events; /* matches and gaps of one word */
} shoal__cutter;

/* cutter->words = the words of text[0, n). is_first: the text stands at the begin of the whole
 * input. Errors: NO_MEMORY, BAD_DATA (a match limit). */
shoal_status shoal__pretokenize(shoal__cutter *cutter, shoal__pretokenizer *steps, const char *text,
                                size_t n, bool is_first, shoal_log *log);
void shoal__pretokenizer_fini(shoal__pretokenizer *pretokenizer);
void shoal__cutter_fini(shoal__cutter *cutter);

/* The byte-level alphabet: printable Latin-1 bytes are themselves, the others U+0100 and up. */
int32_t shoal__byte_character(unsigned char byte);

/* The byte that a character stands for, -1 if none. */
int32_t shoal__character_byte(int32_t code_point);

#endif
