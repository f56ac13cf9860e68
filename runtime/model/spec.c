#include "runtime/model/spec.h"
#include "runtime/model/spec_read.h"

#include <stdlib.h>
#include <string.h>

static shoal_status unknown_type(const char *found, const char *name, shoal_log *log)
{
    char supported[512] = "";
    for (const shoal_family *const *f = shoal_families(); *f != NULL; f++) {
        size_t used = strlen(supported);
        (void)snprintf(supported + used, sizeof(supported) - used, "%s%s", used > 0 ? ", " : "",
                       (*f)->model_type);
    }
    return shoal_fail(log, SHOAL_BAD_DATA, "%s: model_type is %s; supported are %s", name, found,
                      supported);
}

static shoal_status find_family(const shoal_family **family, const shoal_json *config,
                                const char *name, shoal_log *log)
{
    const char *type = shoal_json_string(shoal_json_get(config, "model_type"), NULL);
    if (type == NULL)
        return unknown_type("missing", name, log);
    for (const shoal_family *const *f = shoal_families(); *f != NULL; f++) {
        if (strcmp((*f)->model_type, type) == 0) {
            *family = *f;
            return SHOAL_OK;
        }
    }
    char quoted[128];
    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", type);
    return unknown_type(quoted, name, log);
}

/* Weight formats that config.json announces: FP8 in 128x128 blocks, or none. */
static shoal_status check_quantization(const shoal_json *config, shoal_log *log)
{
    const shoal_json *q = shoal__config_find(config, "quantization_config", NULL);
    if (q == NULL)
        return SHOAL_OK;
    const char *method = shoal_json_string(shoal_json_get(q, "quant_method"), NULL);
    if (method != NULL && strcmp(method, "mxfp4") == 0)
        return SHOAL_OK;
    if (method == NULL || strcmp(method, "fp8") != 0)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: quantization_config.quant_method is \"%s\"; supported are "
                          "checkpoints in BF16, F16, "
                          "F32, \"fp8\" (e4m3 in 128x128 blocks) and \"mxfp4\"",
                          method != NULL ? method : "(missing)");
    const shoal_json *block = shoal_json_get(q, "weight_block_size");
    if (block != NULL && (shoal_json_size(block) != 2 ||
                          shoal_json_int(shoal_json_at(block, 0), 0) != SHOAL_FP8_BLOCK ||
                          shoal_json_int(shoal_json_at(block, 1), 0) != SHOAL_FP8_BLOCK))
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: quantization_config.weight_block_size, wanted [128, 128]");
    return SHOAL_OK;
}

static shoal_status read_eos(shoal_spec *spec, const shoal_json *holder, const char *name,
                             shoal_log *log)
{
    const shoal_json *eos = shoal__config_find(holder, "eos_token_id", NULL);
    size_t n = shoal_json_is_array(eos) ? shoal_json_size(eos) : eos != NULL ? 1 : 0;
    if (n > SHOAL_MAX_EOS)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: %zu end tokens, wanted at most %d", name, n,
                          SHOAL_MAX_EOS);
    for (size_t i = 0; i < n; i++) {
        const shoal_json *value = shoal_json_is_array(eos) ? shoal_json_at(eos, i) : eos;
        int64_t id = shoal_json_int(value, -1);
        if (id < 0 || id >= spec->n_vocab)
            return shoal_fail(log, SHOAL_BAD_DATA, "%s: eos_token_id is %lld, wanted 0 to %d", name,
                              (long long)id, spec->n_vocab - 1);
        spec->eos[i] = (int32_t)id;
    }
    spec->n_eos = (int32_t)n;
    return SHOAL_OK;
}

static shoal_status read_numbers(shoal_spec *spec, const shoal_json *config,
                                 const shoal_json *generation_config, const char *name,
                                 shoal_log *log)
{
    if (!shoal_json_is_object(config))
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: not a JSON object", name);
    SHOAL_TRY(find_family(&spec->family, config, name, log));
    SHOAL_TRY(check_quantization(config, log));
    SHOAL_TRY(spec->family->read(spec, config, log));

    const shoal_router_config *r = &spec->router;
    if (r->top_k > r->n_expert)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: num_experts_per_tok is %d with %d experts",
                          name, r->top_k, r->n_expert);
    if (r->n_expert % r->n_group != 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: %d experts do not divide into n_group %d", name,
                          r->n_expert, r->n_group);
    int32_t n_selectable = r->n_expert / r->n_group * r->topk_group;
    if (r->top_k > n_selectable)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: num_experts_per_tok is %d, but topk_group leaves %d experts", name,
                          r->top_k, n_selectable);
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->n_moe_layer += spec->is_moe[layer] ? 1 : 0;
    SHOAL_TRY(shoal__config_int(&spec->bos, config, "bos_token_id", NULL, -1, -1, spec->n_vocab - 1,
                                log));
    bool listed = generation_config != NULL &&
                  shoal__config_find(generation_config, "eos_token_id", NULL) != NULL;
    return listed ? read_eos(spec, generation_config, "generation_config.json", log)
                  : read_eos(spec, config, name, log);
}

shoal_status shoal_spec_read(shoal_spec *spec, const shoal_json *config,
                             const shoal_json *generation_config, const char *name, shoal_log *log)
{
    shoal_spec s = {0};
    shoal_status status = read_numbers(&s, config, generation_config, name, log);
    if (status != SHOAL_OK) {
        shoal_spec_close(&s);
        return status;
    }
    *spec = s;
    return SHOAL_OK;
}

shoal_status shoal_spec_open(shoal_spec *spec, const shoal_checkpoint *checkpoint, shoal_log *log)
{
    return shoal_spec_read(spec, shoal_checkpoint_config(checkpoint),
                           shoal_checkpoint_generation_config(checkpoint), "config.json", log);
}

void shoal_spec_close(shoal_spec *spec)
{
    free(spec->is_moe);
    free(spec->attention.window);
    free(spec->attention.rope.inv_freq);
    *spec = (shoal_spec){0};
}

const char *shoal_spec_tensor_name(char name[SHOAL_TENSOR_NAME_MAX], const shoal_spec *spec,
                                   shoal_role role, int32_t layer, int32_t expert)
{
    const char *pattern = spec->family->tensor[role];
    /* The patterns are the family's constants: %d for the layer, then for the expert. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    (void)snprintf(name, SHOAL_TENSOR_NAME_MAX, pattern != NULL ? pattern : "", layer, expert);
#pragma GCC diagnostic pop
    return name;
}

int32_t shoal_spec_kv_width(const shoal_spec *spec)
{
    const shoal_attention_config *a = &spec->attention;
    if (a->kind == SHOAL_ATTENTION_MLA)
        return a->kv_lora_rank + a->rope.n_rot;
    return 2 * a->n_kv_head * a->head_dim;
}
