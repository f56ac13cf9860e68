/* Bytes of weights from config.json alone, and their share per rank. */
#include "launcher/weight_bytes.h"

#include <string.h>

static const char *text_at(const shoal_json *config, const char *key)
{
    const char *text = shoal_json_string(shoal_json_get(config, key), NULL);
    return text != NULL ? text : "";
}

shoal_storage_config shoal_storage_of(const shoal_json *config)
{
    shoal_storage_config s = {.storage = SHOAL_STORED_PLAIN, .dtype = SHOAL_DTYPE_BF16};
    const char *dtype = text_at(config, "torch_dtype");
    if (dtype[0] == '\0')
        dtype = text_at(config, "dtype");
    if (strcmp(dtype, "float32") == 0)
        s.dtype = SHOAL_DTYPE_F32;
    else if (strcmp(dtype, "float16") == 0)
        s.dtype = SHOAL_DTYPE_F16;
    const char *method = text_at(shoal_json_get(config, "quantization_config"), "quant_method");
    if (strcmp(method, "fp8") == 0)
        s.storage = SHOAL_STORED_FP8;
    else if (strcmp(method, "mxfp4") == 0)
        s.storage = SHOAL_STORED_MXFP4;
    return s;
}

/* True if --weights makes it something else than what is stored (checkpoint/load.h). */
static bool converted(shoal_format *format, const shoal_weight_shape *shape,
                      const shoal_storage_config *storage)
{
    static const shoal_format of_choice[] = {[SHOAL_WEIGHTS_BF16] = SHOAL_FORMAT_BF16,
                                             [SHOAL_WEIGHTS_Q8] = SHOAL_FORMAT_Q8,
                                             [SHOAL_WEIGHTS_Q4] = SHOAL_FORMAT_Q4};
    bool head = shape->weight_class == SHOAL_WEIGHT_LM_HEAD;
    bool mxfp4 = storage->storage == SHOAL_STORED_MXFP4 && shape->linear && shape->of_expert;
    *format = of_choice[storage->choice];
    return storage->choice != SHOAL_WEIGHTS_NATIVE && (shape->linear || head) && !shape->absorbed &&
           !(mxfp4 && storage->choice != SHOAL_WEIGHTS_BF16);
}

static uint64_t matrix_bytes(const shoal_weight_shape *shape, const shoal_storage_config *storage)
{
    uint64_t n_row = (uint64_t)shape->n_row, n_col = (uint64_t)shape->n_col;
    shoal_format format;
    if (converted(&format, shape, storage))
        return shoal_matrix_data_bytes(format, (int32_t)shape->n_row, (int32_t)shape->n_col);
    if (storage->storage == SHOAL_STORED_FP8 && shape->linear)
        return n_row * n_col + sizeof(float) * ((n_row + 127) / 128) * ((n_col + 127) / 128);
    if (storage->storage == SHOAL_STORED_MXFP4 && shape->linear && shape->of_expert)
        return n_row * ((n_col + 31) / 32) * 17; /* 16 bytes of nibbles and a scale */
    return n_row * n_col * (shape->f32 || storage->dtype == SHOAL_DTYPE_F32 ? 4 : 2);
}

shoal_weight_bytes shoal_weight_bytes_expected(const shoal_spec *spec,
                                               const shoal_storage_config *storage)
{
    shoal_weight_shape shape[SHOAL_MAX_WEIGHT_SHAPE];
    int32_t n_shape = shoal_spec_shapes(shape, spec);
    shoal_weight_bytes bytes = {0};
    uint64_t *const of_class[] = {
        [SHOAL_WEIGHT_EMBED] = &bytes.embed,
        [SHOAL_WEIGHT_LM_HEAD] = &bytes.lm_head,
        [SHOAL_WEIGHT_ATTENTION] = &bytes.attention,
        [SHOAL_WEIGHT_ROUTER] = &bytes.router,
        [SHOAL_WEIGHT_DENSE_MLP] = &bytes.dense_mlp,
        [SHOAL_WEIGHT_SHARED_EXPERTS] = &bytes.shared_experts,
        [SHOAL_WEIGHT_EXPERTS] = &bytes.experts,
        [SHOAL_WEIGHT_NORMS] = &bytes.norms,
        [SHOAL_WEIGHT_MTP] = &bytes.other,
    };
    for (int32_t i = 0; i < n_shape; i++) {
        uint64_t n_bytes = matrix_bytes(&shape[i], storage) * (uint64_t)shape[i].count;
        *of_class[shape[i].weight_class] += n_bytes;
        bytes.total += n_bytes;
    }
    if (spec->tied_embeddings && storage->choice != SHOAL_WEIGHTS_NATIVE) {
        const shoal_weight_shape head = {
            .weight_class = SHOAL_WEIGHT_LM_HEAD, .n_row = spec->n_vocab, .n_col = spec->n_embd};
        bytes.lm_head = matrix_bytes(&head, storage);
        bytes.total += bytes.lm_head;
    }
    uint64_t copies = (uint64_t)spec->n_mtp_layer * (bytes.embed + bytes.lm_head);
    bytes.other += copies;
    bytes.total += copies;
    if (spec->n_moe_layer > 0)
        bytes.one_expert = bytes.experts / ((uint64_t)spec->n_moe_layer * spec->router.n_expert);
    return bytes;
}

void shoal_weight_bytes_of_ranks(uint64_t *n_bytes, const shoal_weight_bytes *bytes,
                                 const shoal_placement *placement)
{
    uint64_t replicated = bytes->total - bytes->other - bytes->experts;
    for (int32_t r = 0; r < placement->n_rank; r++)
        n_bytes[r] = placement->sequence_weight[r] > 0 ? replicated : 0;
    for (int32_t layer = 0; layer < placement->n_layer; layer++) {
        for (int32_t e = 0; e < placement->n_expert; e++)
            n_bytes[shoal_placement_owner(placement, layer, e)] += bytes->one_expert;
    }
}
