#include "runtime/checkpoint/gguf_merges.h"

#include "runtime/base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_NORMAL = 1 };

typedef struct piece {
    const char *text; /* [n_bytes]; NULL: takes no part */
    size_t n_bytes;
    double score;
} piece;

typedef struct merge {
    int32_t whole, left, right;
    double score;
    size_t n_left, n_right; /* characters */
} merge;

typedef struct merger {
    int32_t n_piece;
    piece *piece;  /* [n_piece] by id; owned */
    size_t n_slot; /* a power of 2 */
    int32_t *slot; /* [n_slot] open addressing: id, -1 empty; owned */
    size_t n_merge, n_merge_max;
    merge *merge; /* owned */
} merger;

static int32_t find(const merger *m, uint64_t hash, const char *text, size_t n_bytes)
{
    for (size_t at = (size_t)hash & (m->n_slot - 1);; at = (at + 1) & (m->n_slot - 1)) {
        int32_t id = m->slot[at];
        if (id < 0)
            return -1;
        const piece *p = &m->piece[id];
        if (p->n_bytes == n_bytes && memcmp(p->text, text, n_bytes) == 0)
            return id;
    }
}

/* The first of equal pieces stays. */
static void insert(merger *m, int32_t id)
{
    const piece *p = &m->piece[id];
    uint64_t hash = shoal_hash(SHOAL_HASH_INIT, p->text, p->n_bytes);
    if (find(m, hash, p->text, p->n_bytes) >= 0)
        return;
    size_t at = (size_t)hash & (m->n_slot - 1);
    while (m->slot[at] >= 0)
        at = (at + 1) & (m->n_slot - 1);
    m->slot[at] = id;
}

static bool starts_character(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

static bool add(merger *m, merge added)
{
    if (m->n_merge == m->n_merge_max) {
        size_t n_max = m->n_merge_max == 0 ? 4096 : 2 * m->n_merge_max;
        merge *grown = realloc(m->merge, n_max * sizeof *grown);
        if (grown == NULL)
            return false;
        m->merge = grown;
        m->n_merge_max = n_max;
    }
    m->merge[m->n_merge++] = added;
    return true;
}

/* All splits of a piece into two. The hash of the left part grows with it; of the right one it is
 * taken only if the left is a piece. */
static bool add_splits(merger *m, int32_t id)
{
    const piece *p = &m->piece[id];
    uint64_t hash = SHOAL_HASH_INIT;
    size_t n_char = 0, n_left = 0;
    for (size_t i = 0; i < p->n_bytes; i++)
        n_char += starts_character(p->text[i]) ? 1 : 0;
    for (size_t i = 1; i < p->n_bytes; i++) {
        n_left += starts_character(p->text[i - 1]) ? 1 : 0;
        hash = shoal_hash(hash, p->text + i - 1, 1);
        if (!starts_character(p->text[i]))
            continue;
        int32_t left = find(m, hash, p->text, i);
        if (left < 0)
            continue;
        uint64_t right_hash = shoal_hash(SHOAL_HASH_INIT, p->text + i, p->n_bytes - i);
        int32_t right = find(m, right_hash, p->text + i, p->n_bytes - i);
        if (right >= 0 && !add(m, (merge){id, left, right, p->score, n_left, n_char - n_left}))
            return false;
    }
    return true;
}

/* Best score first; then longer parts; then as they are found: by id, by the parts' ids. */
static int compare_merge(const void *a, const void *b)
{
    const merge *x = a;
    const merge *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->n_left != y->n_left)
        return x->n_left > y->n_left ? -1 : 1;
    if (x->n_right != y->n_right)
        return x->n_right > y->n_right ? -1 : 1;
    if (x->whole != y->whole)
        return x->whole < y->whole ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static bool fill(merger *m, const shoal__gguf_value *tokens, const shoal__gguf_value *types,
                 const shoal__gguf_value *scores)
{
    m->n_piece = (int32_t)tokens->n;
    m->n_slot = 16;
    while (m->n_slot < 2 * (size_t)m->n_piece)
        m->n_slot *= 2;
    m->piece = calloc((size_t)m->n_piece + 1, sizeof *m->piece);
    m->slot = malloc(m->n_slot * sizeof *m->slot);
    if (m->piece == NULL || m->slot == NULL)
        return false;
    memset(m->slot, 0xff, m->n_slot * sizeof *m->slot);
    const unsigned char *at = tokens->at;
    for (int32_t id = 0; id < m->n_piece; id++) {
        piece *p = &m->piece[id];
        int64_t type = TOKEN_NORMAL;
        (void)shoal__gguf_int_at(&type, types, (uint64_t)id);
        (void)shoal__gguf_number_at(&p->score, scores, (uint64_t)id);
        p->text = shoal__gguf_next_string(&at, &p->n_bytes);
        if (type == TOKEN_NORMAL && p->n_bytes > 0)
            insert(m, id);
        else
            p->n_bytes = 0;
    }
    for (int32_t id = 0; id < m->n_piece; id++)
        if (!add_splits(m, id))
            return false;
    if (m->n_merge > 0)
        qsort(m->merge, m->n_merge, sizeof *m->merge, compare_merge);
    return true;
}

shoal_status shoal__gguf_merges(shoal_json **merges, const shoal__gguf_value *tokens,
                                const shoal__gguf_value *types, const shoal__gguf_value *scores,
                                const char *path, shoal_log *log)
{
    if (scores == NULL || !scores->is_array || scores->n != tokens->n ||
        scores->type == SHOAL__GGUF_STRING)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: tokenizer.ggml.scores is missing, or no array of as many numbers as "
                          "there are tokens",
                          path);
    merger m = {0};
    bool ok = fill(&m, tokens, types, scores);
    if (ok) {
        *merges = shoal_json_new_array();
        for (size_t i = 0; i < m.n_merge; i++) {
            const piece *left = &m.piece[m.merge[i].left], *right = &m.piece[m.merge[i].right];
            shoal_json *pair = shoal_json_new_array();
            shoal_json_append(pair, shoal_json_new_string(left->text, left->n_bytes));
            shoal_json_append(pair, shoal_json_new_string(right->text, right->n_bytes));
            shoal_json_append(*merges, pair);
        }
    }
    free(m.merge);
    free(m.slot);
    free(m.piece);
    return ok ? SHOAL_OK
              : shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for the tokenizer's merges", path);
}
