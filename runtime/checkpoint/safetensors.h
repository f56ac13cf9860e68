/* The header of one safetensors file. On disk: u64 little-endian header length, a JSON object
 * {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}}, then the data;
 * data_offsets count from the end of the header. Everything in it is checked here against the size
 * of the file, so that later reads need no checks. Parsing works on memory (a fuzzer's boundary);
 * only shoal__safetensors_read touches the file. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_SAFETENSORS_H
#define SHOAL_CHECKPOINT_SAFETENSORS_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/file.h"

#define SHOAL_SAFETENSORS_PREFIX_BYTES 8 /* the header length */
#define SHOAL_TENSOR_NAME_MAX_BYTES    255

typedef struct shoal__safetensors {
    int64_t n_tensor;
    shoal_tensor_info *tensor; /* [n_tensor], sorted by offset; .file is 0; owned */
    char *names;               /* what the names point into; owned */
    size_t n_header;           /* bytes before the data; of shoal__safetensors_read */
} shoal__safetensors;

/* Bytes of the JSON header. Errors: BAD_DATA (file too short, absurd length, not safetensors). */
shoal_status
shoal__safetensors_header_bytes(size_t *n_bytes,
                                const unsigned char prefix[SHOAL_SAFETENSORS_PREFIX_BYTES],
                                uint64_t file_bytes, const char *path, shoal_log *log);

/* header: [n_bytes], the JSON text. path is for messages. Nothing is owned if it fails. Errors:
 * BAD_DATA naming path, tensor, what was found and what was wanted; NO_MEMORY. */
shoal_status shoal__safetensors_parse(shoal__safetensors *s, const char *header, size_t n_bytes,
                                      uint64_t file_bytes, const char *path, shoal_log *log);

/* Both on a file; *hash goes over length, header bytes and file size. */
shoal_status shoal__safetensors_read(shoal__safetensors *s, uint64_t *hash, const shoal__file *file,
                                     shoal_log *log);
void shoal__safetensors_close(shoal__safetensors *s); /* accepts a zeroed one */

/* True if text can be a tensor's name: 1 to 255 bytes, none of them a control character, so that
 * it can be printed. */
bool shoal__tensor_name_ok(const char *text, size_t n_bytes);

/* "[2, 3]" into text (n_text bytes, cut with "..." if it does not fit); returns text. */
const char *shoal__shape_text(char *text, size_t n_text, const int64_t *shape, int32_t n_dim);

/* By offset, empty tensors first where several begin: for finding those that overlap. */
void shoal__sort_by_offset(shoal_tensor_info *tensor, int64_t n);

#endif
