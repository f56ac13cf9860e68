/* The tokens of a model: text and flags by id, id by text. Ids need not be contiguous.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_VOCAB_H
#define SHOAL_TEXT_VOCAB_H

#include "runtime/text/buffer.h"

/* Larger than any vocabulary in use by an order of magnitude; keeps a damaged id from taking all
 * memory. */
#define SHOAL__MAX_ID 9999999

typedef enum shoal__token_flag {
    SHOAL__TOKEN_MODEL = 1,   /* in model.vocab: BPE may produce it */
    SHOAL__TOKEN_ADDED = 2,   /* in added_tokens */
    SHOAL__TOKEN_SPECIAL = 4, /* in added_tokens, special */
} shoal__token_flag;

typedef struct shoal__token {
    size_t first;            /* of its text in vocab.text */
    size_t decode_first;     /* of the text it is decoded as: normally the same */
    uint32_t n_bytes;        /* of its text */
    uint32_t decode_n_bytes; /* of the text it is decoded as */
    uint32_t flags;          /* shoal__token_flag; 0: no token has this id */
} shoal__token;

typedef struct shoal__vocab {
    shoal__bytes text;   /* of all tokens, one after the other */
    shoal__token *token; /* [n_id] */
    int32_t n_id;        /* largest id + 1 */
    int32_t n_token;     /* ids in use */
    size_t token_capacity;
    int32_t *slot; /* [n_slot], id or -1, open addressing by text */
    size_t n_slot; /* power of two, more than 2 * n_token */
} shoal__vocab;

/* Adds a token; the caller has checked 0 <= id <= SHOAL__MAX_ID, that the id is free, that the text
 * is new, and n_bytes < 2^32. Errors: NO_MEMORY. */
shoal_status shoal__vocab_add(shoal__vocab *vocab, int32_t id, const char *text, size_t n_bytes,
                              uint32_t flags, shoal_log *log);

/* What a token is decoded as, where that is not its own text. Errors: NO_MEMORY. */
shoal_status shoal__vocab_set_decode(shoal__vocab *vocab, int32_t id, const char *text,
                                     size_t n_bytes, shoal_log *log);
void shoal__vocab_fini(shoal__vocab *vocab);

/* Id of the token with this text, -1 if none. */
int32_t shoal__vocab_find(const shoal__vocab *vocab, const char *text, size_t n_bytes);

/* The same, but only tokens of model.vocab. */
int32_t shoal__vocab_find_model(const shoal__vocab *vocab, const char *text, size_t n_bytes);

/* NULL if no token has this id (any id may be asked for). */
const shoal__token *shoal__vocab_token(const shoal__vocab *vocab, int32_t id);

#endif
