/* Byte pair encoding of one word: begin with one symbol per character, then merge the neighbours
 * with the lowest rank (the leftmost of equals) until none is left. The symbols are a linked list
 * and the candidates a heap ordered by (rank, position), so a word of n characters takes
 * O(n log n), whatever it is.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_BPE_H
#define SHOAL_TEXT_BPE_H

#include "runtime/base/pulse.h"
#include "runtime/text/vocab.h"

typedef struct shoal__merge {
    int32_t left; /* ids; left is -1 in an empty slot */
    int32_t right;
    int32_t rank; /* place in the file */
    int32_t id;   /* what the two become */
} shoal__merge;

typedef struct shoal__bpe {
    shoal__vocab *vocab; /* borrowed */
    shoal__merge *merge; /* [n_slot], open addressing by (left, right) */
    size_t n_slot;       /* power of two */
    size_t n_merge;
    int32_t unk_id;       /* for characters that are no token; -1: they vanish */
    bool fuse_unk;        /* neighbouring unknown characters become one unk_id */
    bool byte_fallback;   /* such a character becomes the tokens <0x..> of its bytes instead */
    int32_t byte_id[256]; /* those tokens, -1 where the vocabulary lacks one */
    bool ignore_merges;   /* a word that is a token is that token */
} shoal__bpe;

typedef struct shoal__symbol {
    size_t previous; /* index, SIZE_MAX for none */
    size_t next;
    int32_t id; /* -1 when merged into the one before */
} shoal__symbol;

typedef struct shoal__candidate {
    size_t at; /* left symbol */
    int32_t rank;
    int32_t id;
} shoal__candidate;

/* Working memory of an encoder, kept between words. */
typedef struct shoal__bpe_scratch {
    shoal__symbol *symbol;
    size_t symbol_capacity;
    size_t n_symbol;
    shoal__candidate *heap;
    size_t heap_capacity;
    size_t n_heap;
    uint64_t n_step; /* moves in the heap and looked up pairs so far: what the time goes with */
    const shoal_pulse *pulse; /* for words of a whole text; borrowed, may be NULL */
} shoal__bpe_scratch;

/* A merge of ids; a pair that comes twice keeps the later one, as in the tokenizers library. Room
 * must have been reserved. */
shoal_status shoal__bpe_reserve(shoal__bpe *bpe, size_t n_merge, shoal_log *log);
void shoal__bpe_add(shoal__bpe *bpe, shoal__merge merge);
void shoal__bpe_fini(shoal__bpe *bpe);

/* Appends the ids of one word (valid UTF-8). Errors: NO_MEMORY, what the pulse gives. */
shoal_status shoal__bpe_encode(shoal__ids *ids, const shoal__bpe *bpe, shoal__bpe_scratch *scratch,
                               const char *word, size_t n_bytes, shoal_log *log);
void shoal__bpe_scratch_fini(shoal__bpe_scratch *scratch);

#endif
