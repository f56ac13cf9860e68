/* The merges of a SentencePiece BPE, which GGUF leaves out: every way to put a piece together from
 * two others, best score first, in the order in which the `transformers` library makes
 * tokenizer.json of such a model. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_MERGES_H
#define SHOAL_CHECKPOINT_GGUF_MERGES_H

#include "runtime/checkpoint/gguf.h"

/* merges: a new array of [left, right]. tokens: an array of strings; types: of integers, as many,
 * or NULL (all normal); scores: of numbers, as many. Errors: BAD_DATA (scores), NO_MEMORY. */
shoal_status shoal__gguf_merges(shoal_json **merges, const shoal__gguf_value *tokens,
                                const shoal__gguf_value *types, const shoal__gguf_value *scores,
                                const char *path, shoal_log *log);

#endif
