/* GGUF's tokenizer metadata as the documents tokenizer.json and tokenizer_config.json.
 * Pre-tokenizer patterns, which GGUF only names, are those of the tokenizers' own files. Layering:
 * inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_TOKENIZER_H
#define SHOAL_CHECKPOINT_GGUF_TOKENIZER_H

#include "runtime/checkpoint/gguf.h"

/* New documents, the caller's to close; NULL if the metadata has no tokenizer. Errors: BAD_DATA
 * naming path and key, NO_MEMORY. */
shoal_status shoal__gguf_tokenizer(shoal_json **tokenizer, shoal_json **config,
                                   const shoal__gguf *metadata, const char *path, shoal_log *log);

#endif
