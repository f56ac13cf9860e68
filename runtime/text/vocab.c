#include "runtime/text/vocab.h"

#include "runtime/base/hash.h"

#include <stdlib.h>
#include <string.h>

static size_t slot_of(const shoal__vocab *vocab, const char *text, size_t n_bytes)
{
    size_t mask = vocab->n_slot - 1;
    size_t slot = (size_t)shoal_hash(SHOAL_HASH_INIT, text, n_bytes) & mask;
    while (vocab->slot[slot] >= 0) {
        const shoal__token *token = &vocab->token[vocab->slot[slot]];
        if (token->n_bytes == n_bytes &&
            memcmp(vocab->text.data + token->first, text, n_bytes) == 0)
            break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

static shoal_status grow_slots(shoal__vocab *vocab, shoal_log *log)
{
    size_t n_slot = vocab->n_slot == 0 ? 1024 : vocab->n_slot * 2;
    int32_t *slot = malloc(n_slot * sizeof *slot);
    if (slot == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "tokenizer: no memory for a table of %zu tokens",
                          n_slot / 2);
    memset(slot, 0xff, n_slot * sizeof *slot);
    free(vocab->slot);
    vocab->slot = slot;
    vocab->n_slot = n_slot;
    for (int32_t id = 0; id < vocab->n_id; id++) {
        const shoal__token *token = &vocab->token[id];
        if (token->flags != 0)
            slot[slot_of(vocab, vocab->text.data + token->first, token->n_bytes)] = id;
    }
    return SHOAL_OK;
}

shoal_status shoal__vocab_add(shoal__vocab *vocab, int32_t id, const char *text, size_t n_bytes,
                              uint32_t flags, shoal_log *log)
{
    if (((size_t)vocab->n_token + 1) * 2 > vocab->n_slot)
        SHOAL_TRY(grow_slots(vocab, log));
    if (id >= vocab->n_id) {
        SHOAL_TRY(shoal__grow((void **)&vocab->token, &vocab->token_capacity, (size_t)id + 1,
                              sizeof *vocab->token, log));
        memset(vocab->token + vocab->n_id, 0,
               ((size_t)id + 1 - (size_t)vocab->n_id) * sizeof *vocab->token);
        vocab->n_id = id + 1;
    }
    size_t first = vocab->text.n;
    shoal__token token = {first, first, (uint32_t)n_bytes, (uint32_t)n_bytes, flags};
    SHOAL_TRY(shoal__bytes_append(&vocab->text, text, n_bytes, log));
    vocab->token[id] = token;
    vocab->slot[slot_of(vocab, text, n_bytes)] = id;
    vocab->n_token++;
    return SHOAL_OK;
}

shoal_status shoal__vocab_set_decode(shoal__vocab *vocab, int32_t id, const char *text,
                                     size_t n_bytes, shoal_log *log)
{
    size_t first = vocab->text.n;
    SHOAL_TRY(shoal__bytes_append(&vocab->text, text, n_bytes, log));
    vocab->token[id].decode_first = first;
    vocab->token[id].decode_n_bytes = (uint32_t)n_bytes;
    return SHOAL_OK;
}

void shoal__vocab_fini(shoal__vocab *vocab)
{
    free(vocab->text.data);
    free(vocab->token);
    free(vocab->slot);
}

int32_t shoal__vocab_find(const shoal__vocab *vocab, const char *text, size_t n_bytes)
{
    return vocab->n_slot == 0 ? -1 : vocab->slot[slot_of(vocab, text, n_bytes)];
}

int32_t shoal__vocab_find_model(const shoal__vocab *vocab, const char *text, size_t n_bytes)
{
    int32_t id = shoal__vocab_find(vocab, text, n_bytes);
    return id >= 0 && (vocab->token[id].flags & SHOAL__TOKEN_MODEL) != 0 ? id : -1;
}

const shoal__token *shoal__vocab_token(const shoal__vocab *vocab, int32_t id)
{
    if (id < 0 || id >= vocab->n_id || vocab->token[id].flags == 0)
        return NULL;
    return &vocab->token[id];
}
