/* Reading GGUF's metadata into a config: one key at a time, absent ones left out, errors that name
 * the key. Numbers and names as config.json has them. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_GGUF_META_H
#define SHOAL_CHECKPOINT_GGUF_META_H

#include "runtime/checkpoint/gguf.h"

typedef struct shoal__meta {
    shoal_json *config; /* being built */
    const shoal__gguf *metadata;
    const shoal_checkpoint *checkpoint; /* its tensors are in place */
    const char *path;
    shoal_log *log;
    int64_t n_layer; /* without prediction layers */
} shoal__meta;

/* A number that was rounded to f32: the shortest decimal that gives the same f32, which is what
 * config.json had. */
double shoal__meta_shortest(double x);

/* BAD_DATA: ARCHITECTURE.key is missing or wrong. */
shoal_status shoal__meta_wrong(const shoal__meta *b, const char *key, const char *wanted);

/* An integer, or an array (one for each layer) of equal ones. *found is false if there is no such
 * key; *out stays as it is then. */
shoal_status shoal__meta_int(int64_t *out, bool *found, const shoal__meta *b, const char *key);
shoal_status shoal__meta_number(double *out, bool *found, const shoal__meta *b, const char *key);

/* ARCHITECTURE.key becomes hf of the config, if it is there; need: it must be. */
shoal_status shoal__meta_copy_int(const shoal__meta *b, const char *hf, const char *key);
shoal_status shoal__meta_need_int(const shoal__meta *b, const char *hf, const char *key);
shoal_status shoal__meta_copy_number(const shoal__meta *b, const char *hf, const char *key);

void shoal__meta_set_int(const shoal__meta *b, const char *hf, int64_t value);
void shoal__meta_set_bool(const shoal__meta *b, const char *hf, bool value);
void shoal__meta_set_text(shoal_json *object, const char *hf, const char *text);

/* The checkpoint's tensor "model.layers.LAYER.REST", or NULL. */
const shoal_tensor_info *shoal__meta_layer_tensor(const shoal__meta *b, int64_t layer,
                                                  const char *rest);

/* rope_scaling. mscale: DeepSeek's two, from the multiplier of the logarithm. */
shoal_status shoal__meta_rope_scaling(const shoal__meta *b, bool mscale, bool truncate);

/* One architecture's own keys, beside the common ones. */
typedef struct shoal__meta_family {
    const char *gguf, *model_type;
    shoal_status (*read)(const shoal__meta *b);
    bool own_rope_scaling; /* read calls shoal__meta_rope_scaling itself */
} shoal__meta_family;

/* NULL if it is not known. */
const shoal__meta_family *shoal__meta_find_family(const char *architecture);

#endif
