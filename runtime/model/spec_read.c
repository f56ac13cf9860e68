#include "runtime/model/spec_read.h"

#include "runtime/kernels/trig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const shoal_json *shoal__config_find(const shoal_json *config, const char *key, const char *key2)
{
    const shoal_json *value = shoal_json_get(config, key);
    if ((value == NULL || shoal_json_is_null(value)) && key2 != NULL)
        value = shoal_json_get(config, key2);
    return value == NULL || shoal_json_is_null(value) ? NULL : value;
}

shoal_status shoal__config_int(int32_t *out, const shoal_json *config, const char *key,
                               const char *key2, int32_t otherwise, int32_t min, int32_t max,
                               shoal_log *log)
{
    const shoal_json *value = shoal__config_find(config, key, key2);
    int64_t number = otherwise;
    if (value != NULL) {
        if (!shoal_json_is_integer(value))
            return shoal_fail(log, SHOAL_BAD_DATA, "config.json: %s is not an integer", key);
        number = shoal_json_int(value, 0);
    }
    if (number < min || number > max)
        return shoal_fail(log, SHOAL_BAD_DATA, "config.json: %s is %lld, wanted %d to %d", key,
                          (long long)number, min, max);
    *out = (int32_t)number;
    return SHOAL_OK;
}

shoal_status shoal__config_float(float *out, const shoal_json *config, const char *key,
                                 float otherwise, double min, double max, shoal_log *log)
{
    const shoal_json *value = shoal__config_find(config, key, NULL);
    double number = (double)otherwise;
    if (value != NULL) {
        if (!shoal_json_is_number(value))
            return shoal_fail(log, SHOAL_BAD_DATA, "config.json: %s is not a number", key);
        number = shoal_json_number(value, 0.0);
    }
    if (!(number >= min && number <= max))
        return shoal_fail(log, SHOAL_BAD_DATA, "config.json: %s is %g, wanted %g to %g", key,
                          number, min, max);
    *out = (float)number;
    return SHOAL_OK;
}

shoal_status shoal__config_bool(bool *out, const shoal_json *config, const char *key,
                                bool otherwise, shoal_log *log)
{
    const shoal_json *value = shoal__config_find(config, key, NULL);
    if (value != NULL && !shoal_json_is_bool(value))
        return shoal_fail(log, SHOAL_BAD_DATA, "config.json: %s is neither true nor false", key);
    *out = shoal_json_bool(value, otherwise);
    return SHOAL_OK;
}

shoal_status shoal__config_require(const shoal_json *config, const char *key, const char *wanted,
                                   shoal_log *log)
{
    const shoal_json *value = shoal__config_find(config, key, NULL);
    const char *text = shoal_json_string(value, NULL);
    if (value != NULL && (text == NULL || strcmp(text, wanted) != 0))
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: %s is \"%s\"; this version supports \"%s\" only", key,
                          text != NULL ? text : "(not a string)", wanted);
    return SHOAL_OK;
}

shoal_status shoal__config_require_bool(const shoal_json *config, const char *key, bool wanted,
                                        shoal_log *log)
{
    bool value;
    SHOAL_TRY(shoal__config_bool(&value, config, key, wanted, log));
    if (value != wanted)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: %s is %s, which this version does not support", key,
                          value ? "true" : "false");
    return SHOAL_OK;
}

shoal_status shoal__spec_read_common(shoal_spec *spec, const shoal_json *config,
                                     const shoal_spec_defaults *d, shoal_log *log)
{
    SHOAL_TRY(shoal__config_int(&spec->n_layer, config, "num_hidden_layers", NULL, d->n_layer, 1,
                                SHOAL_MAX_LAYER, log));
    SHOAL_TRY(
        shoal__config_int(&spec->n_vocab, config, "vocab_size", NULL, d->n_vocab, 1, 1 << 24, log));
    SHOAL_TRY(
        shoal__config_int(&spec->n_embd, config, "hidden_size", NULL, d->n_embd, 1, 1 << 17, log));
    SHOAL_TRY(shoal__config_int(&spec->n_context_max, config, "max_position_embeddings", NULL,
                                d->n_context_max, 1, 1 << 24, log));
    SHOAL_TRY(
        shoal__config_float(&spec->norm_eps, config, "rms_norm_eps", d->norm_eps, 0.0, 1.0, log));
    SHOAL_TRY(shoal__config_bool(&spec->tied_embeddings, config, "tie_word_embeddings",
                                 d->tied_embeddings, log));
    SHOAL_TRY(shoal__config_require(config, "hidden_act", "silu", log));
    SHOAL_TRY(shoal__config_int(&spec->n_mtp_layer, config, "num_nextn_predict_layers", NULL, 0, 0,
                                64, log));
    spec->embedding_multiplier = spec->residual_multiplier = spec->logits_divisor = 1.0F;
    size_t n_layer = (size_t)spec->n_layer + (size_t)spec->n_mtp_layer;
    spec->is_moe = calloc(n_layer, sizeof(bool));
    spec->attention.window = calloc(n_layer, sizeof(int32_t));
    if (spec->is_moe == NULL || spec->attention.window == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %zu layers", n_layer);
    for (size_t layer = (size_t)spec->n_layer; layer < n_layer; layer++)
        spec->is_moe[layer] = true; /* MTP layers */
    return SHOAL_OK;
}

/* The numbers of a rope_scaling or rope_parameters object of type yarn. */
typedef struct yarn {
    float factor, beta_fast, beta_slow, mscale, mscale_all_dim, attention_factor;
    int32_t n_original;
    bool truncate;
} yarn;

static double yarn_mscale(double factor, double m)
{
    return factor <= 1.0 ? 1.0 : 0.1 * m * shoal_ln(factor) + 1.0;
}

static shoal_status read_yarn(yarn *y, const shoal_json *scaling, int32_t n_context_max,
                              shoal_log *log)
{
    SHOAL_TRY(shoal__config_float(&y->factor, scaling, "factor", 1.0F, 1.0, 1e6, log));
    SHOAL_TRY(shoal__config_float(&y->beta_fast, scaling, "beta_fast", 32.0F, 1e-6, 1e6, log));
    SHOAL_TRY(shoal__config_float(&y->beta_slow, scaling, "beta_slow", 1.0F, 1e-6, 1e6, log));
    SHOAL_TRY(shoal__config_float(&y->mscale, scaling, "mscale", 0.0F, 0.0, 1e3, log));
    SHOAL_TRY(
        shoal__config_float(&y->mscale_all_dim, scaling, "mscale_all_dim", 0.0F, 0.0, 1e3, log));
    SHOAL_TRY(shoal__config_float(&y->attention_factor, scaling, "attention_factor", 0.0F, 0.0, 1e3,
                                  log));
    SHOAL_TRY(shoal__config_int(&y->n_original, scaling, "original_max_position_embeddings", NULL,
                                n_context_max, 1, 1 << 24, log));
    return shoal__config_bool(&y->truncate, scaling, "truncate", true, log);
}

/* transformers _compute_yarn_parameters: a ramp between interpolated and original frequencies. */
static void apply_yarn(shoal_rope_config *rope, const yarn *y, double theta)
{
    int32_t dim = rope->n_rot;
    double low = dim * shoal_ln(y->n_original / ((double)y->beta_fast * 2.0 * M_PI)) /
                 (2.0 * shoal_ln(theta));
    double high = dim * shoal_ln(y->n_original / ((double)y->beta_slow * 2.0 * M_PI)) /
                  (2.0 * shoal_ln(theta));
    if (y->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = low < 0.0 ? 0.0 : low;
    high = high > dim - 1.0 ? dim - 1.0 : high;
    if (low == high)
        high += 0.001;
    for (int32_t i = 0; i < dim / 2; i++) {
        double ramp = (i - low) / (high - low);
        ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
        double plain = 1.0 / shoal_pow(theta, 2.0 * i / dim);
        rope->inv_freq[i] = (float)(plain / (double)y->factor * ramp + plain * (1.0 - ramp));
    }
    double factor = (double)y->attention_factor;
    if (factor == 0.0)
        factor = y->mscale != 0.0F && y->mscale_all_dim != 0.0F
                     ? yarn_mscale(y->factor, y->mscale) / yarn_mscale(y->factor, y->mscale_all_dim)
                     : yarn_mscale(y->factor, 1.0);
    rope->cos_sin_factor = (float)factor;
}

shoal_status shoal__spec_read_rope(shoal_spec *spec, const shoal_json *config, shoal_rope_kind kind,
                                   int32_t n_rot, float theta_otherwise, double *mscale_squared,
                                   shoal_log *log)
{
    shoal_rope_config *rope = &spec->attention.rope;
    const shoal_json *parameters = shoal__config_find(config, "rope_parameters", NULL);
    const shoal_json *scaling =
        parameters != NULL ? parameters : shoal__config_find(config, "rope_scaling", NULL);
    if (scaling != NULL && !shoal_json_is_object(scaling))
        return shoal_fail(log, SHOAL_BAD_DATA, "config.json: rope_scaling is not an object");
    float theta;
    const shoal_json *theta_holder =
        parameters != NULL && shoal_json_get(parameters, "rope_theta") != NULL ? parameters
                                                                               : config;
    SHOAL_TRY(shoal__config_float(&theta, theta_holder, "rope_theta", theta_otherwise, 1.0 + 1e-6,
                                  1e12, log));
    if (n_rot <= 0 || n_rot % 2 != 0)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: %d rotated values per head, wanted an even number > 0",
                          n_rot);

    rope->kind = kind;
    rope->n_rot = n_rot;
    rope->cos_sin_factor = 1.0F;
    *mscale_squared = 1.0;
    rope->inv_freq = malloc((size_t)n_rot / 2 * sizeof(float));
    if (rope->inv_freq == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %d rotary frequencies", n_rot / 2);
    for (int32_t i = 0; i < n_rot / 2; i++)
        rope->inv_freq[i] = (float)(1.0 / shoal_pow((double)theta, 2.0 * i / n_rot));

    const shoal_json *type_value =
        scaling != NULL ? shoal__config_find(scaling, "rope_type", "type") : NULL;
    const char *type = type_value != NULL ? shoal_json_string(type_value, NULL) : "default";
    if (type == NULL || (strcmp(type, "default") != 0 && strcmp(type, "yarn") != 0))
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: rope type \"%s\"; supported are \"default\" and \"yarn\"",
                          type != NULL ? type : "(not a string)");
    if (strcmp(type, "yarn") == 0) {
        yarn y;
        SHOAL_TRY(read_yarn(&y, scaling, spec->n_context_max, log));
        apply_yarn(rope, &y, (double)theta);
        if (y.mscale_all_dim != 0.0F) {
            double m = yarn_mscale(y.factor, y.mscale_all_dim);
            *mscale_squared = m * m;
        }
    }
    return SHOAL_OK;
}
