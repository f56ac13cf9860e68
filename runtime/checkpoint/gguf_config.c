#include "runtime/checkpoint/gguf_config.h"

#include "runtime/checkpoint/gguf_meta.h"
#include "runtime/checkpoint/gguf_names.h"

#include <inttypes.h>
#include <string.h>

/* -- what all have -- */

static shoal_status read_common(shoal__meta *b)
{
    SHOAL_TRY(shoal__meta_need_int(b, "hidden_size", "embedding_length"));
    SHOAL_TRY(shoal__meta_need_int(b, "num_hidden_layers", "block_count"));
    SHOAL_TRY(shoal__meta_need_int(b, "num_attention_heads", "attention.head_count"));
    SHOAL_TRY(shoal__meta_copy_int(b, "num_key_value_heads", "attention.head_count_kv"));
    SHOAL_TRY(shoal__meta_copy_int(b, "intermediate_size", "feed_forward_length"));
    SHOAL_TRY(shoal__meta_copy_int(b, "max_position_embeddings", "context_length"));
    SHOAL_TRY(shoal__meta_copy_number(b, "rms_norm_eps", "attention.layer_norm_rms_epsilon"));
    SHOAL_TRY(shoal__meta_copy_number(b, "rope_theta", "rope.freq_base"));
    SHOAL_TRY(shoal__meta_copy_int(b, "num_experts_per_tok", "expert_used_count"));

    int64_t n_predict = 0;
    bool found = false;
    SHOAL_TRY(shoal__meta_int(&n_predict, &found, b, "nextn_predict_layers"));
    b->n_layer = shoal_json_int(shoal_json_get(b->config, "num_hidden_layers"), 0);
    if (n_predict < 0 || n_predict >= b->n_layer)
        n_predict = n_predict == 0 ? 0 : -1;
    if (n_predict < 0 || b->n_layer < 1 || b->n_layer > 1 << 16)
        return shoal__meta_wrong(b, "block_count", "1 to 65536, more than nextn_predict_layers");
    b->n_layer -= n_predict;
    shoal__meta_set_int(b, "num_hidden_layers", b->n_layer);
    shoal__meta_set_int(b, "num_nextn_predict_layers", n_predict);

    const shoal_tensor_info *embed =
        shoal_checkpoint_find(b->checkpoint, "model.embed_tokens.weight");
    if (embed != NULL)
        shoal__meta_set_int(b, "vocab_size", embed->shape[0]);
    else
        SHOAL_TRY(shoal__meta_need_int(b, "vocab_size", "vocab_size"));
    shoal__meta_set_bool(b, "tie_word_embeddings",
                         embed != NULL &&
                             shoal_checkpoint_find(b->checkpoint, "lm_head.weight") == NULL);
    shoal__meta_set_bool(b, "attention_bias",
                         shoal__meta_layer_tensor(b, 0, "self_attn.q_proj.bias") != NULL);
    return SHOAL_OK;
}

/* -- tokens -- */

/* Token ids of the config, where the metadata has them. */
static bool token_id(int64_t *id, const shoal__meta *b, const char *key)
{
    int64_t n_vocab = shoal_json_int(shoal_json_get(b->config, "vocab_size"), 0);
    return shoal__gguf_int_at(id, shoal__gguf_find(b->metadata, key), 0) && *id >= 0 &&
           *id < n_vocab;
}

/* The text of a token is `text`. */
static bool token_is(const shoal__meta *b, int64_t id, const char *text)
{
    const shoal__gguf_value *tokens = shoal__gguf_find(b->metadata, "tokenizer.ggml.tokens");
    if (tokens == NULL || !tokens->is_array || tokens->type != SHOAL__GGUF_STRING ||
        (uint64_t)id >= tokens->n)
        return false;
    const unsigned char *at = tokens->at;
    const char *found = NULL;
    size_t n = 0;
    for (int64_t i = 0; i <= id; i++)
        found = shoal__gguf_next_string(&at, &n);
    return n == strlen(text) && memcmp(found, text, n) == 0;
}

static void read_tokens(const shoal__meta *b, shoal_json *generation)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id = 0, seen[3];
    int n_seen = 0;
    if (token_id(&id, b, "tokenizer.ggml.bos_token_id"))
        shoal__meta_set_int(b, "bos_token_id", id);
    shoal_json *list = shoal_json_new_array();
    for (int i = 0; i < 3; i++) {
        bool again = false;
        /* harmony ends every message with <|end|>, also those before the answer */
        if (!token_id(&id, b, ends[i]) || token_is(b, id, "<|end|>"))
            continue;
        for (int k = 0; k < n_seen; k++)
            again |= seen[k] == id;
        if (again)
            continue;
        if (i == 0)
            shoal__meta_set_int(b, "eos_token_id", id);
        shoal_json_append(list, shoal_json_new_int(id));
        seen[n_seen++] = id;
    }
    if (n_seen > 0)
        shoal_json_set(generation, "eos_token_id", list);
    else
        shoal_json_close(list);
}

static shoal_status read_config(shoal__meta *b, shoal_json *generation)
{
    char arch[64];
    shoal__gguf_architecture(arch, sizeof arch, b->metadata);
    if (arch[0] == '\0')
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: key general.architecture is missing or no text, wanted the "
                          "architecture's name",
                          b->path);
    shoal__meta_set_text(b->config, "model_type", arch);
    const shoal__meta_family *family = shoal__meta_find_family(arch);
    if (family != NULL) {
        shoal__meta_set_text(b->config, "model_type", family->model_type);
        SHOAL_TRY(read_common(b));
        SHOAL_TRY(family->read(b));
        if (!family->own_rope_scaling)
            SHOAL_TRY(shoal__meta_rope_scaling(b, false, true));
    }
    read_tokens(b, generation);
    return SHOAL_OK;
}

shoal_status shoal__gguf_config(shoal_json **config, shoal_json **generation_config,
                                const shoal__gguf *metadata, const shoal_checkpoint *checkpoint,
                                const char *path, shoal_log *log)
{
    shoal__meta b = {.config = shoal_json_new_object(),
                     .metadata = metadata,
                     .checkpoint = checkpoint,
                     .path = path,
                     .log = log};
    shoal_json *generation = shoal_json_new_object();
    shoal_status status = read_config(&b, generation);
    if (status != SHOAL_OK) {
        shoal_json_close(b.config);
        shoal_json_close(generation);
        return status;
    }
    *config = b.config;
    *generation_config = generation;
    return SHOAL_OK;
}
