#include "tests/checkpoint/gguf_maker.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { U32 = 4, F32 = 6, STRING = 8, ARRAY = 9 };

void gguf_maker_init(gguf_maker *m)
{
    memset(m, 0, sizeof *m);
    m->magic = "GGUF";
    m->version = 3;
    m->n_pair_said = m->n_tensor_said = UINT64_MAX;
    m->alignment = 32;
}

void gguf_put(gguf_bytes *b, const void *data, size_t n)
{
    ck_assert_uint_le(n, sizeof b->data - b->n);
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

void gguf_put_u32(gguf_bytes *b, uint32_t value)
{
    gguf_put(b, &value, sizeof value);
}

void gguf_put_u64(gguf_bytes *b, uint64_t value)
{
    gguf_put(b, &value, sizeof value);
}

void gguf_put_string(gguf_bytes *b, const char *text)
{
    gguf_put_u64(b, strlen(text));
    gguf_put(b, text, strlen(text));
}

void gguf_pair(gguf_maker *m, const char *key, uint32_t type)
{
    gguf_put_string(&m->pairs, key);
    gguf_put_u32(&m->pairs, type);
    m->n_pair++;
}

void gguf_pair_u32(gguf_maker *m, const char *key, uint32_t value)
{
    gguf_pair(m, key, U32);
    gguf_put_u32(&m->pairs, value);
}

void gguf_pair_f32(gguf_maker *m, const char *key, float value)
{
    gguf_pair(m, key, F32);
    gguf_put(&m->pairs, &value, sizeof value);
}

void gguf_pair_text(gguf_maker *m, const char *key, const char *text)
{
    gguf_pair(m, key, STRING);
    gguf_put_string(&m->pairs, text);
}

void gguf_pair_texts(gguf_maker *m, const char *key, const char *const *text, size_t n)
{
    gguf_pair(m, key, ARRAY);
    gguf_put_u32(&m->pairs, STRING);
    gguf_put_u64(&m->pairs, n);
    for (size_t i = 0; i < n; i++)
        gguf_put_string(&m->pairs, text[i]);
}

void gguf_info(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dim, const uint64_t *dims,
               uint64_t offset)
{
    gguf_put_string(&m->infos, name);
    gguf_put_u32(&m->infos, n_dim);
    for (uint32_t i = 0; i < n_dim; i++)
        gguf_put_u64(&m->infos, dims[i]);
    gguf_put_u32(&m->infos, type);
    gguf_put_u64(&m->infos, offset);
    m->n_tensor++;
}

uint64_t gguf_tensor(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dim,
                     const uint64_t *dims, const void *data, size_t n_bytes)
{
    static const unsigned char zero = 0;
    while (m->values.n % m->alignment != 0)
        gguf_put(&m->values, &zero, 1);
    uint64_t offset = m->values.n;
    gguf_info(m, name, type, n_dim, dims, offset);
    gguf_put(&m->values, data, n_bytes);
    return offset;
}

unsigned char *gguf_file(size_t *n_bytes, const gguf_maker *m)
{
    uint64_t n_pair = m->n_pair_said != UINT64_MAX ? m->n_pair_said : m->n_pair;
    uint64_t n_tensor = m->n_tensor_said != UINT64_MAX ? m->n_tensor_said : m->n_tensor;
    size_t n_head = 24 + m->pairs.n + m->infos.n;
    size_t data_at = (n_head + m->alignment - 1) / m->alignment * m->alignment;
    unsigned char *file = calloc(1, data_at + m->values.n + 1);
    ck_assert_ptr_nonnull(file);
    memcpy(file, m->magic, 4);
    memcpy(file + 4, &m->version, 4);
    memcpy(file + 8, &n_tensor, 8);
    memcpy(file + 16, &n_pair, 8);
    memcpy(file + 24, m->pairs.data, m->pairs.n);
    memcpy(file + 24 + m->pairs.n, m->infos.data, m->infos.n);
    memcpy(file + data_at, m->values.data, m->values.n);
    *n_bytes = data_at + m->values.n;
    return file;
}

void gguf_pairs_of_model(gguf_maker *m)
{
    gguf_pair_text(m, "general.architecture", "qwen3moe");
    gguf_pair_u32(m, "qwen3moe.block_count", 1);
    gguf_pair_u32(m, "qwen3moe.vocab_size", 4);
    gguf_pair_u32(m, "qwen3moe.embedding_length", 32);
    gguf_pair_u32(m, "qwen3moe.attention.head_count", 2);
    gguf_pair_u32(m, "qwen3moe.expert_count", 2);
    gguf_pair_u32(m, "qwen3moe.expert_used_count", 1);
    gguf_pair_f32(m, "qwen3moe.rope.freq_base", 1e6F);
}
