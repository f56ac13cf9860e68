#include "runtime/text/bpe.h"

#include "runtime/text/utf8.h"

#include <stdlib.h>
#include <string.h>

#define NONE SIZE_MAX

#define BEAT_TRIES 65536

/* -- the table of merges -- */

static size_t slot_of(const shoal__bpe *bpe, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9e3779b97f4a7c15ull; /* multiplicative hashing: the high bits are the mixed ones */
    size_t mask = bpe->n_slot - 1;
    size_t slot = (size_t)(key >> 32) & mask;
    while (bpe->merge[slot].left >= 0 &&
           (bpe->merge[slot].left != left || bpe->merge[slot].right != right))
        slot = (slot + 1) & mask;
    return slot;
}

shoal_status shoal__bpe_reserve(shoal__bpe *bpe, size_t n_merge, shoal_log *log)
{
    size_t n_slot = 16;
    while (n_slot / 2 < n_merge)
        n_slot *= 2;
    bpe->merge = malloc(n_slot * sizeof *bpe->merge);
    if (bpe->merge == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "tokenizer: no memory for %zu merges", n_merge);
    memset(bpe->merge, 0xff, n_slot * sizeof *bpe->merge);
    bpe->n_slot = n_slot;
    return SHOAL_OK;
}

void shoal__bpe_add(shoal__bpe *bpe, shoal__merge merge)
{
    size_t slot = slot_of(bpe, merge.left, merge.right);
    bpe->n_merge += bpe->merge[slot].left < 0;
    bpe->merge[slot] = merge;
}

void shoal__bpe_fini(shoal__bpe *bpe)
{
    free(bpe->merge);
}

static const shoal__merge *find_merge(const shoal__bpe *bpe, int32_t left, int32_t right)
{
    const shoal__merge *merge = &bpe->merge[slot_of(bpe, left, right)];
    return merge->left >= 0 ? merge : NULL;
}

/* -- candidates: a binary heap with the lowest (rank, position) first -- */

static bool before(const shoal__candidate *a, const shoal__candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static shoal_status push(shoal__bpe_scratch *s, const shoal__bpe *bpe, size_t left, size_t right,
                         shoal_log *log)
{
    s->n_step++;
    const shoal__merge *merge = find_merge(bpe, s->symbol[left].id, s->symbol[right].id);
    if (merge == NULL)
        return SHOAL_OK;
    SHOAL_TRY(
        shoal__grow((void **)&s->heap, &s->heap_capacity, s->n_heap + 1, sizeof *s->heap, log));
    shoal__candidate added = {left, merge->rank, merge->id};
    size_t at = s->n_heap++;
    while (at > 0 && before(&added, &s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
        s->n_step++;
    }
    s->heap[at] = added;
    return SHOAL_OK;
}

static shoal__candidate pop(shoal__bpe_scratch *s)
{
    shoal__candidate top = s->heap[0];
    shoal__candidate last = s->heap[--s->n_heap];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= s->n_heap)
            break;
        if (child + 1 < s->n_heap && before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!before(&s->heap[child], &last))
            break;
        s->heap[at] = s->heap[child];
        at = child;
        s->n_step++;
    }
    if (s->n_heap > 0)
        s->heap[at] = last;
    s->n_step++;
    return top;
}

/* -- one word -- */

static shoal_status append_symbol(shoal__bpe_scratch *s, int32_t id, shoal_log *log)
{
    SHOAL_TRY(shoal__grow((void **)&s->symbol, &s->symbol_capacity, s->n_symbol + 1,
                          sizeof *s->symbol, log));
    size_t at = s->n_symbol++;
    s->symbol[at] = (shoal__symbol){at > 0 ? at - 1 : NONE, NONE, id};
    if (at > 0)
        s->symbol[at - 1].next = at;
    return SHOAL_OK;
}

/* True if every byte of the character has its token, which are then appended. */
static shoal_status append_bytes(bool *done, shoal__bpe_scratch *s, const shoal__bpe *bpe,
                                 const char *character, size_t n_bytes, shoal_log *log)
{
    *done = false;
    for (size_t i = 0; i < n_bytes; i++)
        if (bpe->byte_id[(unsigned char)character[i]] < 0)
            return SHOAL_OK;
    for (size_t i = 0; i < n_bytes; i++)
        SHOAL_TRY(append_symbol(s, bpe->byte_id[(unsigned char)character[i]], log));
    *done = true;
    return SHOAL_OK;
}

/* One symbol per character. An unknown token is pending until a known character or another unknown
 * one comes; characters that fall back to bytes do not flush it (as in the tokenizers library). */
static shoal_status split_characters(shoal__bpe_scratch *s, const shoal__bpe *bpe, const char *word,
                                     size_t n_bytes, shoal_log *log)
{
    bool unknown = false;
    s->n_symbol = 0;
    for (size_t at = 0; at < n_bytes;) {
        size_t begin = at;
        shoal__utf8_next(word, &at);
        int32_t id = shoal__vocab_find_model(bpe->vocab, word + begin, at - begin);
        if (id >= 0) {
            if (unknown)
                SHOAL_TRY(append_symbol(s, bpe->unk_id, log));
            unknown = false;
            SHOAL_TRY(append_symbol(s, id, log));
            continue;
        }
        bool done = false;
        if (bpe->byte_fallback)
            SHOAL_TRY(append_bytes(&done, s, bpe, word + begin, at - begin, log));
        if (done || bpe->unk_id < 0)
            continue;
        if (unknown && !bpe->fuse_unk)
            SHOAL_TRY(append_symbol(s, bpe->unk_id, log));
        unknown = true;
    }
    return unknown ? append_symbol(s, bpe->unk_id, log) : SHOAL_OK;
}

static shoal_status merge_all(shoal__bpe_scratch *s, const shoal__bpe *bpe, shoal_log *log)
{
    size_t n_try = 0;
    s->n_heap = 0;
    for (size_t i = 0; i + 1 < s->n_symbol; i++)
        SHOAL_TRY(push(s, bpe, i, i + 1, log));
    while (s->n_heap > 0) {
        shoal__candidate top = pop(s);
        shoal__symbol *left = &s->symbol[top.at];
        if (left->id < 0 || left->next == NONE)
            continue;
        shoal__symbol *right = &s->symbol[left->next];
        /* One of the two may have been merged since the candidate was found. */
        if (++n_try % BEAT_TRIES == 0)
            SHOAL_TRY(shoal_pulse_beat(s->pulse));
        s->n_step++;
        const shoal__merge *merge = find_merge(bpe, left->id, right->id);
        if (merge == NULL || merge->id != top.id)
            continue;
        left->id = top.id;
        left->next = right->next;
        right->id = -1;
        if (left->next != NONE)
            s->symbol[left->next].previous = top.at;
        if (left->previous != NONE)
            SHOAL_TRY(push(s, bpe, left->previous, top.at, log));
        if (left->next != NONE)
            SHOAL_TRY(push(s, bpe, top.at, left->next, log));
    }
    return SHOAL_OK;
}

shoal_status shoal__bpe_encode(shoal__ids *ids, const shoal__bpe *bpe, shoal__bpe_scratch *scratch,
                               const char *word, size_t n_bytes, shoal_log *log)
{
    if (bpe->ignore_merges) {
        int32_t id = shoal__vocab_find_model(bpe->vocab, word, n_bytes);
        if (id >= 0)
            return shoal__ids_append(ids, id, log);
    }
    SHOAL_TRY(split_characters(scratch, bpe, word, n_bytes, log));
    SHOAL_TRY(merge_all(scratch, bpe, log));
    SHOAL_TRY(shoal__grow((void **)&ids->data, &ids->capacity, ids->n + scratch->n_symbol,
                          sizeof *ids->data, log));
    for (size_t i = 0; i < scratch->n_symbol; i++)
        if (scratch->symbol[i].id >= 0)
            ids->data[ids->n++] = scratch->symbol[i].id;
    return SHOAL_OK;
}

void shoal__bpe_scratch_fini(shoal__bpe_scratch *scratch)
{
    free(scratch->symbol);
    free(scratch->heap);
}
