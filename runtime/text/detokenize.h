/* Ids back to text. What each id contributes is worked out when the tokenizer is opened: bytes, or
 * with byte-fallback a single byte that only means something in a run of them.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_DETOKENIZE_H
#define SHOAL_TEXT_DETOKENIZE_H

#include "runtime/text/regex.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocab.h"

enum { SHOAL__MAX_DECODE_REPLACE = 8 };

/* The decoder of tokenizer.json. */
typedef struct shoal__detokenizer {
    bool byte_level;    /* characters of the byte-level alphabet are bytes */
    bool join_spaces;   /* there is no decoder: tokens are joined by spaces */
    bool byte_fallback; /* <0x..> are bytes; a run of them is text if it is UTF-8 */
    struct {
        shoal__regex *regex;              /* owned */
        shoal__bytes text;                /* owned */
    } replace[SHOAL__MAX_DECODE_REPLACE]; /* in every token */
    int32_t n_replace;
    char mark[4];   /* Metaspace: this character is a space */
    size_t n_mark;  /* its bytes; 0: no Metaspace */
    bool drop_mark; /* but nothing in the first token */
    char strip[4];  /* taken off the begin of the text */
    size_t n_strip_bytes;
    int64_t n_strip; /* at most so often */
    int32_t stage;   /* while it is read: place of the last step in their order */
    int32_t n_stage;

    shoal__bytes text; /* of all ids, one after the other */
    size_t *first;     /* [n_id + 1], offsets in text */
    int16_t *fallback; /* [n_id], byte of a <0x..> token, -1 of others; NULL without fallback */
} shoal__detokenizer;

/* Fills text, first and fallback from the vocabulary. Errors: NO_MEMORY, BAD_DATA. */
shoal_status shoal__detokenizer_prepare(shoal__detokenizer *d, const shoal__vocab *vocab,
                                        shoal_log *log);
void shoal__detokenizer_fini(shoal__detokenizer *d);

/* One sequence that is being decoded; begins zeroed. */
typedef struct shoal__detokenizing {
    shoal__utf8_reader reader; /* byte_level */
    shoal__bytes run;          /* byte_fallback: the bytes of the current run */
    bool begun;                /* a token has come */
    bool strip_done;
    int64_t n_stripped;
} shoal__detokenizing;

/* Appends what a token adds (whole characters). The id must be in the vocabulary. */
shoal_status shoal__detokenize(shoal__bytes *out, const shoal__detokenizer *d,
                               shoal__detokenizing *state, const shoal__vocab *vocab, int32_t id,
                               shoal_log *log);

/* Appends what was held back and zeroes the state, except for the memory of the run. */
shoal_status shoal__detokenize_end(shoal__bytes *out, const shoal__detokenizer *d,
                                   shoal__detokenizing *state, shoal_log *log);

#endif
