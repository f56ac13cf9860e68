#include "runtime/checkpoint/gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint32_t shoal__gguf_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t shoal__gguf_u64(const unsigned char *at)
{
    return shoal__gguf_u32(at) | (uint64_t)shoal__gguf_u32(at + 4) << 32;
}

size_t shoal__gguf_value_bytes(uint32_t type)
{
    static const size_t bytes[SHOAL__GGUF_N_TYPE] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

int shoal__gguf_compare_key(const void *a, const void *b)
{
    const shoal__gguf_pair *x = a;
    const shoal__gguf_pair *y = b;
    size_t n = x->n_key < y->n_key ? x->n_key : y->n_key;
    int order = memcmp(x->key, y->key, n);
    return order != 0 ? order : (x->n_key > y->n_key) - (x->n_key < y->n_key);
}

const shoal__gguf_value *shoal__gguf_find(const shoal__gguf *g, const char *key)
{
    shoal__gguf_pair wanted = {.key = key, .n_key = strlen(key)};
    if (g->n_pair == 0)
        return NULL;
    const shoal__gguf_pair *found =
        bsearch(&wanted, g->pair, (size_t)g->n_pair, sizeof *g->pair, shoal__gguf_compare_key);
    return found != NULL ? &found->value : NULL;
}

bool shoal__gguf_int_at(int64_t *out, const shoal__gguf_value *value, uint64_t index)
{
    if (value == NULL || index >= value->n)
        return false;
    const unsigned char *at = value->at + index * shoal__gguf_value_bytes(value->type);
    switch (value->type) {
    case SHOAL__GGUF_U8:
        *out = at[0];
        return true;
    case SHOAL__GGUF_I8:
        *out = at[0] < 128 ? at[0] : at[0] - 256;
        return true;
    case SHOAL__GGUF_BOOL:
        *out = at[0] != 0;
        return true;
    case SHOAL__GGUF_U16:
        *out = at[0] | at[1] << 8;
        return true;
    case SHOAL__GGUF_I16:
        *out = (int16_t)(at[0] | at[1] << 8);
        return true;
    case SHOAL__GGUF_U32:
        *out = shoal__gguf_u32(at);
        return true;
    case SHOAL__GGUF_I32:
        *out = (int32_t)shoal__gguf_u32(at);
        return true;
    case SHOAL__GGUF_U64:
    case SHOAL__GGUF_I64:
        *out = (int64_t)shoal__gguf_u64(at);
        return value->type == SHOAL__GGUF_I64 || *out >= 0;
    default:
        return false;
    }
}

bool shoal__gguf_number_at(double *out, const shoal__gguf_value *value, uint64_t index)
{
    int64_t whole;
    if (shoal__gguf_int_at(&whole, value, index)) {
        *out = (double)whole;
        return true;
    }
    if (value == NULL || index >= value->n)
        return false;
    if (value->type == SHOAL__GGUF_F32) {
        float narrow;
        memcpy(&narrow, value->at + index * 4, sizeof narrow);
        *out = (double)narrow;
    } else if (value->type == SHOAL__GGUF_F64) {
        memcpy(out, value->at + index * 8, sizeof *out);
    } else {
        return false;
    }
    return isfinite(*out);
}

const char *shoal__gguf_next_string(const unsigned char **at, size_t *n_bytes)
{
    *n_bytes = (size_t)shoal__gguf_u64(*at);
    const char *text = (const char *)*at + 8;
    *at += 8 + *n_bytes;
    return text;
}

const char *shoal__gguf_string(const shoal__gguf_value *value, size_t *n_bytes)
{
    if (value == NULL || value->is_array || value->type != SHOAL__GGUF_STRING)
        return NULL;
    const unsigned char *at = value->at;
    return shoal__gguf_next_string(&at, n_bytes);
}
