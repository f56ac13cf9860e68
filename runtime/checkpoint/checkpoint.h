/* A checkpoint as people have it: a Hugging Face folder (config.json, model.safetensors or shards
 * with model.safetensors.index.json), or a GGUF file (the first of a split), which is offered as if
 * it were such a folder: tensors under Hugging Face's names, a config made from the metadata.
 * Opening reads headers only; every offset, shape and dtype is checked against the file sizes
 * before any weight is read. Weights are then read with pread, in pieces. No size is held in 32
 * bits. A file that shrinks or vanishes while it is read is an error, not a signal.
 *
 * A folder without weights (config.json only, or a tokenizer only) opens too; n_tensor is then 0.
 * Layering: checkpoint knows kernels (the packed layout) and base. It does not know architectures.
 */
#ifndef SHOAL_CHECKPOINT_CHECKPOINT_H
#define SHOAL_CHECKPOINT_CHECKPOINT_H

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/tensor.h"

#define SHOAL_TENSOR_MAX_DIM 8

typedef struct shoal_tensor_info {
    const char *name; /* owned by the checkpoint */
    shoal_dtype dtype;
    int32_t n_dim;
    int64_t shape[SHOAL_TENSOR_MAX_DIM];
    int32_t file;        /* index of the file it lies in */
    uint64_t offset;     /* absolute byte offset in that file */
    uint64_t n_bytes;    /* = product of shape * dtype size, checked; OTHER: what the file says */
    char dtype_text[16]; /* as the file calls it, for messages; cut */
    const struct shoal__view *view; /* GGUF: how it is made of what lies there; NULL: as it lies */
} shoal_tensor_info;

typedef struct shoal_checkpoint shoal_checkpoint;

/* Errors: NO_INPUT (no such folder, no config.json when need_config, a shard the index names is
 * missing), BAD_DATA (truncated file, header length absurd, offsets outside the file or
 * overlapping, sizes that do not match shapes, duplicate names, index that
 * disagrees with the shards): one line naming file, tensor, what was found, what was wanted. */
shoal_status shoal_checkpoint_open(shoal_checkpoint **checkpoint, const char *path,
                                   bool need_config, shoal_log *log);
void shoal_checkpoint_close(shoal_checkpoint *checkpoint); /* accepts NULL */

const char *shoal_checkpoint_path(const shoal_checkpoint *c);
const shoal_json *shoal_checkpoint_config(const shoal_checkpoint *c); /* NULL if there is none */
const shoal_json *
shoal_checkpoint_generation_config(const shoal_checkpoint *c); /* NULL if there is none */

/* A GGUF's tokenizer as tokenizer.json and tokenizer_config.json (with the chat template) would
 * describe it: new documents, the caller's to close. NULL for a folder, which has the files, and
 * for a GGUF without a tokenizer. Errors: BAD_DATA (a kind that is not supported: it is named). */
shoal_status shoal_checkpoint_tokenizer(const shoal_checkpoint *c, shoal_json **tokenizer,
                                        shoal_json **config);

int64_t shoal_checkpoint_n_tensor(const shoal_checkpoint *c);
const shoal_tensor_info *shoal_checkpoint_tensor(const shoal_checkpoint *c,
                                                 int64_t index); /* sorted by name */
const shoal_tensor_info *shoal_checkpoint_find(const shoal_checkpoint *c,
                                               const char *name); /* or NULL */
const char *shoal_checkpoint_file_name(const shoal_checkpoint *c, const shoal_tensor_info *t);

/* Hash of config.json's bytes, all safetensors headers and all file sizes: what the ranks must
 * agree on. GGUF: of all headers (with the metadata) and file sizes. */
uint64_t shoal_checkpoint_identity(const shoal_checkpoint *c);

/* A staged checkpoint (staged.h) has no weights, only what was packed of them. */
bool shoal_checkpoint_is_staged(const shoal_checkpoint *c);
/* The path it was opened by; of a staged one that of the original, where it was staged from. */
const char *shoal_checkpoint_origin(const shoal_checkpoint *c);

/* Hash of the modification times of the files of weights; of a staged one, of the original's. */
uint64_t shoal_checkpoint_age(const shoal_checkpoint *c);

/* The files of weights have the sizes and times that they were opened with. Errors: NO_INPUT (one
 * has gone), BAD_DATA. */
shoal_status shoal_checkpoint_check_unchanged(const shoal_checkpoint *c);

/* Read bytes [first, first + n_bytes) of a tensor. Errors: BAD_DATA (file shrank), NO_INPUT (it
 * is a staged checkpoint), IO. Counts the bytes. */
shoal_status shoal_checkpoint_read(shoal_checkpoint *c, const shoal_tensor_info *t, uint64_t first,
                                   size_t n_bytes, void *dst);

/* Bytes read through shoal_checkpoint_read since open. */
uint64_t shoal_checkpoint_bytes_read(const shoal_checkpoint *c);

#endif
