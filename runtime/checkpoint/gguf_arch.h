/* How Hugging Face and GGUF call the tensors of each architecture. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_ARCH_H
#define SHOAL_CHECKPOINT_GGUF_ARCH_H

#include "runtime/checkpoint/view.h"

/* What differs between architectures. Of experts: a pattern for the expert's number, or a fused
 * tensor of that name, of which up is the second part. */
typedef struct shoal__arch_names {
    const char *gguf;
    const char *router;
    const char *gate, *up, *down;
    const char *weight_suffix, *bias_suffix; /* of the experts */
    const char *shared;                      /* of shared experts; NULL: none */
    shoal__view_kind fused;                  /* if up is NULL */
    bool paired_rows;                        /* of q and k */
} shoal__arch_names;

/* NULL if the architecture has no names here. */
const shoal__arch_names *shoal__gguf_find_arch(const char *architecture);

/* NULL where there is none. Of the model: the whole names. Of a layer: what follows "blk.N." and
 * "model.layers.N.", whole (bare) or without ".weight" and ".bias", which follow in both. */
const char *shoal__gguf_model_name(const char *gguf);
const char *shoal__gguf_bare_name(const char *gguf);
const char *shoal__gguf_layer_name(const char *gguf);

#endif
