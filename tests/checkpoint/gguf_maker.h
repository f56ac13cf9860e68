/* Small GGUF files written by hand, good and bad. */
#ifndef SHOAL_TESTS_CHECKPOINT_GGUF_MAKER_H
#define SHOAL_TESTS_CHECKPOINT_GGUF_MAKER_H

#include <stddef.h>
#include <stdint.h>

typedef struct gguf_bytes {
    unsigned char data[1 << 16];
    size_t n;
} gguf_bytes;

typedef struct gguf_maker {
    gguf_bytes pairs, infos, values;
    uint64_t n_pair, n_tensor;
    const char *magic;                   /* "GGUF" */
    uint32_t version;                    /* 3 */
    uint64_t n_pair_said, n_tensor_said; /* UINT64_MAX: what there are */
    uint64_t alignment;                  /* 32 */
} gguf_maker;

void gguf_maker_init(gguf_maker *m);

void gguf_put(gguf_bytes *b, const void *data, size_t n);
void gguf_put_u32(gguf_bytes *b, uint32_t value);
void gguf_put_u64(gguf_bytes *b, uint64_t value);
void gguf_put_string(gguf_bytes *b, const char *text);

/* Pairs. key, type, then the value's bytes follow by gguf_put*(&m->pairs, ...). */
void gguf_pair(gguf_maker *m, const char *key, uint32_t type);
void gguf_pair_u32(gguf_maker *m, const char *key, uint32_t value);
void gguf_pair_f32(gguf_maker *m, const char *key, float value);
void gguf_pair_text(gguf_maker *m, const char *key, const char *text);
void gguf_pair_texts(gguf_maker *m, const char *key, const char *const *text, size_t n);

/* A tensor with its data at the next aligned place; dims: fastest first. Gives its offset. */
uint64_t gguf_tensor(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dim,
                     const uint64_t *dims, const void *data, size_t n_bytes);
/* Its description alone. */
void gguf_info(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dim, const uint64_t *dims,
               uint64_t offset);

/* The file, malloc'ed. */
unsigned char *gguf_file(size_t *n_bytes, const gguf_maker *m);

/* What a qwen3moe of one layer must say. */
void gguf_pairs_of_model(gguf_maker *m);

#endif
