/* The header of one GGUF file (versions 2 and 3). On disk, little-endian: magic, version, number of
 * tensors and of key-value pairs; the pairs (typed values, arrays of them); a description of each
 * tensor (name, dimensions with the fastest first, type, offset); padding; the data. Everything is
 * checked here against the size of the file, so that later reads need no checks. Values stay in the
 * header's bytes and are read on demand. Parsing works on memory (a fuzzer's boundary); only
 * shoal__gguf_read touches the file. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_H
#define SHOAL_CHECKPOINT_GGUF_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/file.h"

/* Longest header that is taken; the largest known, of 130,000 tokens and their merges, have 10 MB.
 */
#define SHOAL_GGUF_MAX_HEADER_BYTES ((size_t)1 << 30)

/* Types of values, as the format numbers them. */
enum {
    SHOAL__GGUF_U8,
    SHOAL__GGUF_I8,
    SHOAL__GGUF_U16,
    SHOAL__GGUF_I16,
    SHOAL__GGUF_U32,
    SHOAL__GGUF_I32,
    SHOAL__GGUF_F32,
    SHOAL__GGUF_BOOL,
    SHOAL__GGUF_STRING,
    SHOAL__GGUF_ARRAY,
    SHOAL__GGUF_U64,
    SHOAL__GGUF_I64,
    SHOAL__GGUF_F64,
    SHOAL__GGUF_N_TYPE
};

typedef struct shoal__gguf_value {
    uint32_t type; /* of the value, or of the elements */
    bool is_array;
    uint64_t n;              /* elements; 1 if it is no array */
    const unsigned char *at; /* in the header */
} shoal__gguf_value;

typedef struct shoal__gguf_pair {
    const char *key; /* [n_key], in the header, not terminated */
    size_t n_key;
    shoal__gguf_value value;
} shoal__gguf_pair;

typedef struct shoal__gguf {
    unsigned char *header; /* [n_header]; owned */
    size_t n_header;
    int64_t n_pair;
    shoal__gguf_pair *pair; /* [n_pair] sorted by key; owned */
    int64_t n_tensor;
    shoal_tensor_info *tensor; /* [n_tensor], sorted by offset; .file is 0; shapes with the slowest
                                  dimension first; owned */
    char *names;               /* what the names point into; owned */
} shoal__gguf;

/* bytes: the first n_bytes of a file of file_bytes. *more is set if the header goes on behind them
 * (nothing is said then and nothing owned); bytes becomes the value's on success only. Errors:
 * BAD_DATA naming path, what was found and what was wanted; NO_MEMORY. */
shoal_status shoal__gguf_parse(shoal__gguf *g, bool *more, unsigned char *bytes, size_t n_bytes,
                               uint64_t file_bytes, const char *path, shoal_log *log);

/* On a file; *hash goes over header bytes and file size. */
shoal_status shoal__gguf_read(shoal__gguf *g, uint64_t *hash, const shoal__file *file,
                              shoal_log *log);
void shoal__gguf_close(shoal__gguf *g); /* accepts a zeroed one */

/* -- values -- */

/* Little-endian numbers, unaligned; bytes of an element of a type (0: string, array); qsort order
 * of pairs. */
uint32_t shoal__gguf_u32(const unsigned char *at);
uint64_t shoal__gguf_u64(const unsigned char *at);
size_t shoal__gguf_value_bytes(uint32_t type);
int shoal__gguf_compare_key(const void *a, const void *b);

/* NULL if there is none of that key. */
const shoal__gguf_value *shoal__gguf_find(const shoal__gguf *g, const char *key);

/* Element `index` of a value of numbers, integers (bool: 0, 1) or any; false if it is not one or
 * does not fit. value may be NULL. Not for arrays of strings. */
bool shoal__gguf_int_at(int64_t *out, const shoal__gguf_value *value, uint64_t index);
bool shoal__gguf_number_at(double *out, const shoal__gguf_value *value, uint64_t index);

/* Text of a value that is one string; NULL if it is not. */
const char *shoal__gguf_string(const shoal__gguf_value *value, size_t *n_bytes);

/* The strings of an array one after the other: begin with *at = value->at, value->n of them. */
const char *shoal__gguf_next_string(const unsigned char **at, size_t *n_bytes);

#endif
