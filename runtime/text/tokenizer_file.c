/* tokenizer.json: the model (vocabulary and merges) and the added tokens. */
#include "runtime/text/tokenizer_internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

shoal_status shoal__reader_fail(const shoal__reader *reader, const char *place, const char *format,
                                ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return shoal_fail(reader->log, SHOAL_BAD_DATA, "%s: %s: %s", reader->path, place, text);
}

shoal_status shoal__read_bool(bool *value, const shoal_json *object, const char *key,
                              bool otherwise, const char *place, const shoal__reader *r)
{
    const shoal_json *member = shoal_json_get(object, key);
    if (member != NULL && !shoal_json_is_null(member) && !shoal_json_is_bool(member))
        return shoal__reader_fail(r, place, "%s must be true or false", key);
    *value = shoal_json_bool(member, otherwise);
    return SHOAL_OK;
}

shoal_status shoal__read_string(const char **text, size_t *n_bytes, const shoal_json *object,
                                const char *key, const char *place, const shoal__reader *r)
{
    *text = shoal_json_string(shoal_json_get(object, key), n_bytes);
    if (*text == NULL)
        return shoal__reader_fail(r, place, "%s must be there and a string", key);
    return SHOAL_OK;
}

shoal_status shoal__read_pattern(shoal__regex **regex, const shoal_json *object, const char *place,
                                 const shoal__reader *r)
{
    const shoal_json *pattern = shoal_json_get(object, "pattern");
    size_t n_literal = 0;
    size_t n_regex = 0;
    const char *literal = shoal_json_string(shoal_json_get(pattern, "String"), &n_literal);
    const char *text = shoal_json_string(shoal_json_get(pattern, "Regex"), &n_regex);
    if ((literal == NULL) == (text == NULL))
        return shoal__reader_fail(r, place,
                                  "pattern must be an object with one string, Regex or String");
    char where[256];
    snprintf(where, sizeof where, "%.150s: %.90s", r->path, place);
    return shoal__regex_open(regex, text != NULL ? text : literal,
                             text != NULL ? n_regex : n_literal, text == NULL, where, r->log);
}

/* -- vocabulary -- */

static shoal_status check_id(int64_t *id, const shoal_json *value, const char *place,
                             const char *token, const shoal__reader *r)
{
    if (!shoal_json_is_integer(value))
        return shoal__reader_fail(r, place, "the id of token '%.60s' is not an integer", token);
    *id = shoal_json_int(value, -1);
    if (*id < 0 || *id > SHOAL__MAX_ID)
        return shoal__reader_fail(r, place, "the id %lld of token '%.60s' is not in 0 to %d",
                                  (long long)*id, token, SHOAL__MAX_ID);
    return SHOAL_OK;
}

static shoal_status read_vocab(shoal_tokenizer *t, const shoal_json *model, const shoal__reader *r)
{
    const char *place = "model.vocab";
    const shoal_json *vocab = shoal_json_get(model, "vocab");
    if (!shoal_json_is_object(vocab) || shoal_json_size(vocab) == 0)
        return shoal__reader_fail(r, place, "must be an object of tokens and their ids");
    const char *token;
    size_t n_bytes;
    const shoal_json *value;
    void *it = NULL;
    while ((it = shoal_json_next(vocab, it, &token, &n_bytes, &value)) != NULL) {
        int64_t id = 0;
        SHOAL_TRY(check_id(&id, value, place, token, r));
        const shoal__token *other = shoal__vocab_token(&t->vocab, (int32_t)id);
        if (other != NULL)
            return shoal__reader_fail(r, place, "id %lld belongs to '%.*s' and to '%.60s'",
                                      (long long)id,
                                      (int)(other->n_bytes < 60 ? other->n_bytes : 60),
                                      t->vocab.text.data + other->first, token);
        SHOAL_TRY(
            shoal__vocab_add(&t->vocab, (int32_t)id, token, n_bytes, SHOAL__TOKEN_MODEL, r->log));
    }
    return SHOAL_OK;
}

/* -- merges -- */

typedef struct part {
    const char *text;
    size_t n_bytes;
} part;

/* The two tokens of a merge, in either form: "a b" or ["a", "b"]. */
static bool split_merge(part parts[2], const shoal_json *merge)
{
    if (shoal_json_is_array(merge)) {
        for (size_t i = 0; i < 2; i++)
            parts[i].text = shoal_json_string(shoal_json_at(merge, i), &parts[i].n_bytes);
        return shoal_json_size(merge) == 2 && parts[0].text != NULL && parts[1].text != NULL;
    }
    size_t n_bytes = 0;
    const char *text = shoal_json_string(merge, &n_bytes);
    const char *space = text == NULL ? NULL : memchr(text, ' ', n_bytes);
    if (space == NULL)
        return false;
    size_t n_left = (size_t)(space - text);
    parts[0] = (part){text, n_left};
    parts[1] = (part){space + 1, n_bytes - n_left - 1};
    return memchr(parts[1].text, ' ', parts[1].n_bytes) == NULL;
}

static shoal_status add_merge(shoal_tokenizer *t, const part parts[2], size_t index, int32_t rank,
                              shoal__bytes *joined, const shoal__reader *r)
{
    char place[64];
    snprintf(place, sizeof place, "model.merges[%zu]", index);
    shoal__merge merge = {.rank = rank};
    joined->n = 0;
    for (size_t i = 0; i < 2; i++) {
        const part *p = &parts[i];
        int32_t id = shoal__vocab_find_model(&t->vocab, p->text, p->n_bytes);
        if (id < 0)
            return shoal__reader_fail(r, place, "'%.*s' is not in model.vocab",
                                      (int)(p->n_bytes < 60 ? p->n_bytes : 60), p->text);
        *(i == 0 ? &merge.left : &merge.right) = id;
        SHOAL_TRY(shoal__bytes_append(joined, p->text, p->n_bytes, r->log));
    }
    merge.id = shoal__vocab_find_model(&t->vocab, joined->data, joined->n);
    if (merge.id < 0)
        return shoal__reader_fail(r, place, "makes '%.*s', which is not in model.vocab",
                                  (int)(joined->n < 60 ? joined->n : 60), joined->data);
    shoal__bpe_add(&t->bpe, merge);
    return SHOAL_OK;
}

static shoal_status read_merges(shoal_tokenizer *t, const shoal_json *model, const shoal__reader *r)
{
    const shoal_json *merges = shoal_json_get(model, "merges");
    if (!shoal_json_is_array(merges))
        return shoal__reader_fail(r, "model.merges", "must be an array");
    size_t n = shoal_json_size(merges);
    if (n > INT32_MAX)
        return shoal__reader_fail(r, "model.merges", "has %zu entries, which is too many", n);
    SHOAL_TRY(shoal__bpe_reserve(&t->bpe, n, r->log));
    shoal__bytes joined = {0};
    shoal_status status = SHOAL_OK;
    int32_t rank = 0;
    for (size_t i = 0; status == SHOAL_OK && i < n; i++) {
        const shoal_json *merge = shoal_json_at(merges, i);
        const char *text = shoal_json_string(merge, NULL);
        if (text != NULL && strncmp(text, "#version", 8) == 0)
            continue; /* a line of merges.txt that converters leave in */
        part parts[2];
        if (split_merge(parts, merge)) {
            status = add_merge(t, parts, i, rank++, &joined, r);
            continue;
        }
        char place[64];
        snprintf(place, sizeof place, "model.merges[%zu]", i);
        status = shoal__reader_fail(r, place, "must be two tokens: \"a b\" or [\"a\", \"b\"]");
    }
    free(joined.data);
    return status;
}

/* -- model -- */

/* A string member that must be absent, null or empty to be without effect. */
static shoal_status refuse_affix(const shoal_json *model, const char *key, const shoal__reader *r)
{
    const shoal_json *value = shoal_json_get(model, key);
    size_t n_bytes = 0;
    const char *text = shoal_json_string(value, &n_bytes);
    if (value == NULL || shoal_json_is_null(value) || (text != NULL && n_bytes == 0))
        return SHOAL_OK;
    char place[64];
    snprintf(place, sizeof place, "model.%s", key);
    return shoal__reader_fail(r, place, "is not supported, only null or \"\" is");
}

static shoal_status read_unknown(shoal_tokenizer *t, const shoal_json *model,
                                 const shoal__reader *r)
{
    t->bpe.unk_id = -1;
    const shoal_json *unk = shoal_json_get(model, "unk_token");
    if (unk != NULL && !shoal_json_is_null(unk)) {
        size_t n_bytes;
        const char *text;
        SHOAL_TRY(shoal__read_string(&text, &n_bytes, model, "unk_token", "model", r));
        t->bpe.unk_id = shoal__vocab_find_model(&t->vocab, text, n_bytes);
        if (t->bpe.unk_id < 0 && n_bytes > 0)
            return shoal__reader_fail(r, "model.unk_token", "'%.60s' is not in model.vocab", text);
    }
    SHOAL_TRY(shoal__read_bool(&t->bpe.fuse_unk, model, "fuse_unk", false, "model", r));
    SHOAL_TRY(shoal__read_bool(&t->bpe.byte_fallback, model, "byte_fallback", false, "model", r));
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", byte);
        t->bpe.byte_id[byte] = shoal__vocab_find_model(&t->vocab, name, (size_t)n);
    }
    return SHOAL_OK;
}

shoal_status shoal__read_model(shoal_tokenizer *t, const shoal_json *doc, const shoal__reader *r)
{
    const shoal_json *model = shoal_json_get(doc, "model");
    if (!shoal_json_is_object(model))
        return shoal__reader_fail(r, "model", "must be there and an object");
    const shoal_json *type = shoal_json_get(model, "type");
    const char *name = type == NULL && shoal_json_get(model, "merges") != NULL
                           ? "BPE" /* files from before the key existed */
                           : shoal_json_string(type, NULL);
    if (name == NULL || strcmp(name, "BPE") != 0)
        return shoal__reader_fail(r, "model.type", "is '%.60s'; supported: BPE",
                                  name != NULL ? name : "(none)");
    const shoal_json *dropout = shoal_json_get(model, "dropout");
    if (dropout != NULL && !shoal_json_is_null(dropout) && shoal_json_number(dropout, 1) != 0)
        return shoal__reader_fail(r, "model.dropout", "is not supported, only null or 0 is");
    SHOAL_TRY(refuse_affix(model, "continuing_subword_prefix", r));
    SHOAL_TRY(refuse_affix(model, "end_of_word_suffix", r));
    SHOAL_TRY(shoal__read_bool(&t->bpe.ignore_merges, model, "ignore_merges", false, "model", r));
    SHOAL_TRY(read_vocab(t, model, r));
    t->bpe.vocab = &t->vocab;
    SHOAL_TRY(read_unknown(t, model, r));
    return read_merges(t, model, r);
}

/* -- added tokens -- */

/* Puts the token into the vocabulary: a new one, or flags for one that the model has. */
static shoal_status enter(bool *is_new, shoal_tokenizer *t, int32_t id, const char *text,
                          size_t n_bytes, uint32_t flags, const char *place, const shoal__reader *r)
{
    int32_t known = shoal__vocab_find(&t->vocab, text, n_bytes);
    const shoal__token *holder = shoal__vocab_token(&t->vocab, id);
    if (known >= 0 && known != id)
        return shoal__reader_fail(r, place, "'%.60s' has id %d here and %d before", text, (int)id,
                                  (int)known);
    if (known < 0 && holder != NULL)
        return shoal__reader_fail(r, place, "id %d of '%.60s' belongs to '%.*s' already", (int)id,
                                  text, (int)(holder->n_bytes < 60 ? holder->n_bytes : 60),
                                  t->vocab.text.data + holder->first);
    *is_new = known < 0 || (holder->flags & SHOAL__TOKEN_ADDED) == 0;
    if (known < 0)
        return shoal__vocab_add(&t->vocab, id, text, n_bytes, flags, r->log);
    t->vocab.token[id].flags |= flags;
    return SHOAL_OK;
}

static shoal_status read_added_token(shoal_tokenizer *t, const shoal_json *entry, const char *place,
                                     const shoal__reader *r)
{
    if (!shoal_json_is_object(entry))
        return shoal__reader_fail(r, place, "must be an object");
    const char *text;
    size_t n_bytes;
    int64_t id = 0;
    bool special;
    bool normalized;
    shoal__added token = {0};
    SHOAL_TRY(shoal__read_string(&text, &n_bytes, entry, "content", place, r));
    SHOAL_TRY(check_id(&id, shoal_json_get(entry, "id"), place, text, r));
    SHOAL_TRY(shoal__read_bool(&special, entry, "special", false, place, r));
    SHOAL_TRY(shoal__read_bool(&normalized, entry, "normalized", !special, place, r));
    SHOAL_TRY(shoal__read_bool(&token.single_word, entry, "single_word", false, place, r));
    SHOAL_TRY(shoal__read_bool(&token.lstrip, entry, "lstrip", false, place, r));
    SHOAL_TRY(shoal__read_bool(&token.rstrip, entry, "rstrip", false, place, r));
    if (n_bytes == 0)
        return SHOAL_OK; /* matches nothing; the tokenizers library passes over it too */
    bool is_new;
    uint32_t flags = SHOAL__TOKEN_ADDED | (special ? SHOAL__TOKEN_SPECIAL : 0u);
    SHOAL_TRY(enter(&is_new, t, (int32_t)id, text, n_bytes, flags, place, r));
    if (!is_new)
        return SHOAL_OK; /* the same entry twice */
    token.id = (int32_t)id;
    token.n_bytes = n_bytes;
    if (normalized) {
        SHOAL_TRY(shoal__normalize(&t->normal, &t->normal_scratch, &t->normalizer, text, n_bytes,
                                   r->log));
        text = t->normal.data;
        token.n_bytes = t->normal.n;
        /* Not what it is written as, but what the tokenizers library (0.23) decodes it to. */
        SHOAL_TRY(shoal__vocab_set_decode(&t->vocab, token.id, text, token.n_bytes, r->log));
    }
    if (token.n_bytes == 0)
        return shoal__reader_fail(r, place, "nothing is left of it when it is normalized");
    return shoal__added_add(normalized ? &t->normalized : &t->raw, token, text, r->log);
}

shoal_status shoal__read_added_tokens(shoal_tokenizer *t, const shoal_json *doc,
                                      const shoal__reader *r)
{
    const shoal_json *list = shoal_json_get(doc, "added_tokens");
    if (list != NULL && !shoal_json_is_null(list) && !shoal_json_is_array(list))
        return shoal__reader_fail(r, "added_tokens", "must be an array");
    for (size_t i = 0; i < shoal_json_size(list); i++) {
        char place[64];
        snprintf(place, sizeof place, "added_tokens[%zu]", i);
        SHOAL_TRY(read_added_token(t, shoal_json_at(list, i), place, r));
    }
    shoal__added_set *sets[] = {&t->raw, &t->normalized};
    for (size_t i = 0; i < 2; i++) {
        size_t twice = shoal__added_finish(sets[i]);
        if (twice < sets[i]->n)
            return shoal__reader_fail(r, "added_tokens", "two tokens are '%.60s' when normalized",
                                      sets[i]->token[twice].text);
    }
    return SHOAL_OK;
}
