#include "runtime/text/added_tokens.h"

#include "runtime/text/utf8.h"

#include <stdlib.h>
#include <string.h>

shoal_status shoal__added_add(shoal__added_set *set, shoal__added token, const char *text,
                              shoal_log *log)
{
    SHOAL_TRY(
        shoal__grow((void **)&set->token, &set->capacity, set->n + 1, sizeof *set->token, log));
    token.text = malloc(token.n_bytes + 1);
    if (token.text == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "tokenizer: no memory for the added tokens");
    memcpy(token.text, text, token.n_bytes);
    token.text[token.n_bytes] = '\0';
    set->token[set->n++] = token;
    set->begins[(unsigned char)text[0]] = true;
    return SHOAL_OK;
}

static int compare(const void *left, const void *right)
{
    const shoal__added *a = left;
    const shoal__added *b = right;
    int order = memcmp(a->text, b->text, a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes);
    return order != 0 ? order : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

size_t shoal__added_finish(shoal__added_set *set)
{
    if (set->n > 0)
        qsort(set->token, set->n, sizeof *set->token, compare);
    for (size_t i = 1; i < set->n; i++)
        if (compare(&set->token[i - 1], &set->token[i]) == 0)
            return i;
    return set->n;
}

void shoal__added_fini(shoal__added_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->token[i].text);
    free(set->token);
}

/* First of token[low, high) whose byte at `depth` is at least `byte`. All of them share the first
 * `depth` bytes; one that ends there comes first. */
static size_t lower_bound(const shoal__added_set *set, size_t low, size_t high, size_t depth,
                          int32_t byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const shoal__added *token = &set->token[middle];
        int32_t found = token->n_bytes > depth ? (unsigned char)token->text[depth] : -1;
        if (found < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that text[0, n) begins with, NULL if none. */
static const shoal__added *longest_at(const shoal__added_set *set, const char *text, size_t n)
{
    const shoal__added *longest = NULL;
    size_t low = 0;
    size_t high = set->n;
    for (size_t depth = 0; depth < n && low < high; depth++) {
        unsigned char byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
        if (low < high && set->token[low].n_bytes == depth + 1)
            longest = &set->token[low];
    }
    return longest;
}

static bool touches_word(const char *text, size_t n, size_t begin, size_t end)
{
    if (begin > 0 && shoal__is_word(shoal__utf8_previous(text, &begin)))
        return true;
    return end < n && shoal__is_word(shoal__utf8_next(text, &end));
}

bool shoal__added_next(shoal__span *span, int32_t *id, const shoal__added_set *set,
                       shoal__added_cursor *cursor, const char *text, size_t n)
{
    if (set->n == 0)
        return false;
    for (size_t at = cursor->search; at < n; at++) {
        if (!set->begins[(unsigned char)text[at]])
            continue;
        const shoal__added *token = longest_at(set, text + at, n - at);
        if (token == NULL)
            continue;
        size_t begin = at;
        size_t end = at + token->n_bytes;
        at = end - 1; /* a token that is refused still uses up its text */
        if (token->single_word && touches_word(text, n, begin, end))
            continue;
        cursor->search = end;
        for (size_t to = begin; token->lstrip && to > cursor->covered; begin = to)
            if (!shoal__is_space(shoal__utf8_previous(text, &to)))
                break;
        for (size_t to = end; token->rstrip && to < n; end = to)
            if (!shoal__is_space(shoal__utf8_next(text, &to)))
                break;
        if (token->lstrip && begin < cursor->covered)
            begin = cursor->covered; /* the token before has stripped into this one */
        if (begin >= end)
            continue;
        *span = (shoal__span){begin, end, true};
        *id = token->id;
        cursor->covered = end;
        return true;
    }
    cursor->search = n;
    return false;
}
