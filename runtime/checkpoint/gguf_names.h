/* GGUF's tensors under the names that Hugging Face checkpoints have, so that a family's tensor
 * names serve for both: experts that lie in one tensor become one tensor each (or views where the
 * family itself has fused ones), llama.cpp's rearrangements become views. Tensors without a
 * counterpart keep their names. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_NAMES_H
#define SHOAL_CHECKPOINT_GGUF_NAMES_H

#include "runtime/checkpoint/gguf.h"
#include "runtime/checkpoint/view.h"

typedef struct shoal__gguf_names {
    int64_t n_tensor;
    shoal_tensor_info *tensor; /* [n_tensor], no order; names are owned, one malloc each */
    int64_t n_view;
    shoal__view **view; /* [n_view]; owned */
    int64_t n_tensor_max, n_view_max;
} shoal__gguf_names;

/* stored: [n_stored], of all files, sorted by name, all different. metadata: the first file's.
 * Errors: BAD_DATA naming path and tensor, NO_MEMORY. */
shoal_status shoal__gguf_names_open(shoal__gguf_names *names, const shoal_tensor_info *stored,
                                    int64_t n_stored, const shoal__gguf *metadata, const char *path,
                                    shoal_log *log);
void shoal__gguf_names_close(shoal__gguf_names *names); /* accepts a zeroed one */

/* general.architecture, copied and cut; "" if there is none. */
void shoal__gguf_architecture(char *text, size_t n_text, const shoal__gguf *metadata);

/* ARCHITECTURE.KEY */
const shoal__gguf_value *shoal__gguf_arch_find(const shoal__gguf *metadata, const char *key);

#endif
