#include "runtime/checkpoint/gguf_meta.h"

#include "runtime/checkpoint/gguf_names.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Numbers are f32 in GGUF; the shoal__meta_shortest decimal that gives the same f32 is what
 * config.json had. */
double shoal__meta_shortest(double x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x)
            return strtod(text, NULL);
    }
    return x;
}

shoal_status shoal__meta_wrong(const shoal__meta *b, const char *key, const char *wanted)
{
    char arch[64];
    shoal__gguf_architecture(arch, sizeof arch, b->metadata);
    return shoal_fail(b->log, SHOAL_BAD_DATA, "%s: key %s.%s is missing or wrong, wanted %s",
                      b->path, arch, key, wanted);
}

/* An integer, or an array (one for each layer) of equal ones. false: there is no such key. */
shoal_status shoal__meta_int(int64_t *out, bool *found, const shoal__meta *b, const char *key)
{
    const shoal__gguf_value *value = shoal__gguf_arch_find(b->metadata, key);
    *found = value != NULL;
    if (value == NULL)
        return SHOAL_OK;
    int64_t first = 0;
    if (!shoal__gguf_int_at(&first, value, 0))
        return shoal__meta_wrong(b, key, "an integer");
    for (uint64_t i = 1; i < value->n; i++) {
        int64_t other = 0;
        if (!shoal__gguf_int_at(&other, value, i) || other != first)
            return shoal__meta_wrong(b, key, "the same integer for all layers");
    }
    *out = first;
    return SHOAL_OK;
}

/* key of the metadata as hf of the config; left out where it is absent. */
shoal_status shoal__meta_copy_int(const shoal__meta *b, const char *hf, const char *key)
{
    int64_t value = 0;
    bool found = false;
    SHOAL_TRY(shoal__meta_int(&value, &found, b, key));
    if (found)
        shoal_json_set(b->config, hf, shoal_json_new_int(value));
    return SHOAL_OK;
}

shoal_status shoal__meta_need_int(const shoal__meta *b, const char *hf, const char *key)
{
    SHOAL_TRY(shoal__meta_copy_int(b, hf, key));
    if (shoal_json_get(b->config, hf) == NULL)
        return shoal__meta_wrong(b, key, "an integer");
    return SHOAL_OK;
}

shoal_status shoal__meta_number(double *out, bool *found, const shoal__meta *b, const char *key)
{
    const shoal__gguf_value *value = shoal__gguf_arch_find(b->metadata, key);
    *found = value != NULL;
    if (value != NULL && !shoal__gguf_number_at(out, value, 0))
        return shoal__meta_wrong(b, key, "a finite number");
    if (value != NULL)
        *out = shoal__meta_shortest(*out);
    return SHOAL_OK;
}

shoal_status shoal__meta_copy_number(const shoal__meta *b, const char *hf, const char *key)
{
    double value = 0;
    bool found = false;
    SHOAL_TRY(shoal__meta_number(&value, &found, b, key));
    if (found)
        shoal_json_set(b->config, hf, shoal_json_new_number(value));
    return SHOAL_OK;
}

void shoal__meta_set_int(const shoal__meta *b, const char *hf, int64_t value)
{
    shoal_json_set(b->config, hf, shoal_json_new_int(value));
}

void shoal__meta_set_bool(const shoal__meta *b, const char *hf, bool value)
{
    shoal_json_set(b->config, hf, shoal_json_new_bool(value));
}

void shoal__meta_set_text(shoal_json *object, const char *hf, const char *text)
{
    shoal_json_set(object, hf, shoal_json_new_string(text, strlen(text)));
}

const shoal_tensor_info *shoal__meta_layer_tensor(const shoal__meta *b, int64_t layer,
                                                  const char *rest)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s", layer, rest);
    return shoal_checkpoint_find(b->checkpoint, name);
}

shoal_status shoal__meta_rope_scaling(const shoal__meta *b, bool mscale, bool truncate)
{
    size_t n = 0;
    const char *type =
        shoal__gguf_string(shoal__gguf_arch_find(b->metadata, "rope.scaling.type"), &n);
    if (type == NULL || (n == 4 && memcmp(type, "none", 4) == 0))
        return SHOAL_OK;
    static const struct {
        const char *hf, *key;
        double otherwise; /* 0: left out */
    } numbers[] = {
        {"factor", "rope.scaling.factor", 0},
        {"original_max_position_embeddings", "rope.scaling.original_context_length", 0},
        {"beta_fast", "rope.scaling.yarn_beta_fast", 32},
        {"beta_slow", "rope.scaling.yarn_beta_slow", 1},
    };
    shoal_json *scaling = shoal_json_new_object();
    shoal_json_set(b->config, "rope_scaling", scaling);
    shoal_json_set(scaling, "type", shoal_json_new_string(type, n));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value = 0;
        bool found = false;
        SHOAL_TRY(shoal__meta_number(&value, &found, b, numbers[i].key));
        if (!found)
            value = numbers[i].otherwise;
        bool whole = value >= 0 && value < 1e15 && value == (double)(int64_t)value;
        if (value != 0)
            shoal_json_set(scaling, numbers[i].hf,
                           whole ? shoal_json_new_int((int64_t)value)
                                 : shoal_json_new_number(value));
    }
    if (!truncate)
        shoal_json_set(scaling, "truncate", shoal_json_new_bool(false));
    double multiplier = 0;
    bool found = false;
    SHOAL_TRY(shoal__meta_number(&multiplier, &found, b, "rope.scaling.yarn_log_multiplier"));
    if (mscale && found && multiplier != 0) {
        double all =
            shoal__meta_shortest((double)(float)(multiplier * 10)); /* it is 0.1 * mscale_all_dim */
        shoal_json_set(scaling, "mscale", shoal_json_new_number(all));
        shoal_json_set(scaling, "mscale_all_dim", shoal_json_new_number(all));
    }
    static const char *const factors[] = {"rope.scaling.attn_factor",
                                          "rope.scaling.yarn_attn_factor"};
    for (int i = 0; i < 2; i++) {
        double factor = 1;
        SHOAL_TRY(shoal__meta_number(&factor, &found, b, factors[i]));
        if (found && factor != 1)
            return shoal__meta_wrong(b, factors[i], "1: no other is supported");
    }
    return SHOAL_OK;
}
