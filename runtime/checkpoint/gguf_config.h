/* What GGUF's metadata says, as a config.json and a generation_config.json would say it, so that
 * the families read one kind of document. What GGUF has no key for comes from the tensors that are
 * there (dense layers, norms, tied embeddings) or from what the family's releases have. An unknown
 * architecture keeps its name as model_type, so that the families refuse it by name. Layering:
 * inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_CONFIG_H
#define SHOAL_CHECKPOINT_GGUF_CONFIG_H

#include "runtime/checkpoint/gguf.h"

/* checkpoint: its tensors are in place, under Hugging Face's names. The documents are new, the
 * caller's to close. Errors: BAD_DATA naming path and key. */
shoal_status shoal__gguf_config(shoal_json **config, shoal_json **generation_config,
                                const shoal__gguf *metadata, const shoal_checkpoint *checkpoint,
                                const char *path, shoal_log *log);

#endif
