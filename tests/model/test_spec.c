/* config.json -> spec: published sizes, family defaults, both config styles, and clear errors for
 * what is wrong or not supported. */
#include "runtime/model/spec.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

static shoal_status read_text(shoal_spec *spec, const char *config, const char *generation,
                              shoal_log *log)
{
    shoal_json *c = NULL, *g = NULL;
    shoal_log_init(log, NULL, 0, "test");
    ck_assert_int_eq(shoal_json_parse(&c, config, strlen(config), "config.json", log), SHOAL_OK);
    if (generation != NULL)
        ck_assert_int_eq(
            shoal_json_parse(&g, generation, strlen(generation), "generation_config.json", log),
            SHOAL_OK);
    shoal_status status = shoal_spec_read(spec, c, g, "config.json", log);
    shoal_json_close(c);
    shoal_json_close(g);
    return status;
}

static void read_ok(shoal_spec *spec, const char *config)
{
    shoal_log log;
    shoal_status status = read_text(spec, config, NULL, &log);
    ck_assert_msg(status == SHOAL_OK, "%s", log.error);
}

/* DeepSeek-V3: the class defaults are the released model's numbers but for the number of MTP layers
 * and the context. */
START_TEST(deepseek_v3_published)
{
    shoal_spec s;
    read_ok(&s, "{\"model_type\": \"deepseek_v3\", \"num_nextn_predict_layers\": 1, "
                "\"max_position_embeddings\": 163840,"
                "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"beta_fast\": 32, "
                "\"beta_slow\": 1, \"mscale\": 1.0,"
                "\"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096}}");
    shoal_parameter_count c = shoal_spec_count(&s);
    ck_assert_int_eq(c.total, 671026419200);
    ck_assert_msg(c.active > 36500000000 && c.active < 37000000000, "active %lld",
                  (long long)c.active);
    ck_assert_int_eq(s.n_moe_layer, 58);
    ck_assert_int_eq(s.n_mtp_layer, 1);
    ck_assert_int_eq(shoal_spec_kv_width(&s), 576);
    ck_assert_float_eq_tol(s.attention.scale, 0.135234F, 1e-6F);
    ck_assert_float_eq_tol(s.attention.rope.cos_sin_factor, 1.0F, 1e-7F);
    /* low 10, high 23: below, plain frequencies; above, divided by 40. */
    ck_assert_float_eq_tol(s.attention.rope.inv_freq[10], powf(10000.0F, -20.0F / 64.0F), 1e-7F);
    ck_assert_float_eq_tol(s.attention.rope.inv_freq[24], powf(10000.0F, -48.0F / 64.0F) / 40.0F,
                           1e-9F);
    shoal_spec_close(&s);
}
END_TEST

START_TEST(qwen3_30b_published)
{
    shoal_spec s;
    read_ok(&s, "{\"model_type\": \"qwen3_moe\", \"head_dim\": 128, \"hidden_size\": 2048, "
                "\"intermediate_size\": 6144,"
                "\"moe_intermediate_size\": 768, \"num_attention_heads\": 32, \"num_experts\": "
                "128, \"num_experts_per_tok\": 8,"
                "\"num_hidden_layers\": 48, \"num_key_value_heads\": 4, \"vocab_size\": 151936, "
                "\"norm_topk_prob\": true,"
                "\"rope_theta\": 1000000.0, \"mlp_only_layers\": [], \"decoder_sparse_step\": 1}");
    shoal_parameter_count c = shoal_spec_count(&s);
    ck_assert_int_eq(c.total, 30532122624);
    ck_assert_msg(c.active_with_embedding > 3300000000 && c.active_with_embedding < 3400000000,
                  "active %lld", (long long)c.active_with_embedding);
    ck_assert_int_eq(c.active, c.active_with_embedding - c.embed);
    ck_assert_int_eq(s.n_moe_layer, 48);
    ck_assert_int_eq(shoal_spec_kv_width(&s), 1024);
    shoal_spec_close(&s);
}
END_TEST

START_TEST(both_styles_and_defaults)
{
    shoal_spec s;
    read_ok(&s, "{\"model_type\": \"qwen3_moe\", \"num_local_experts\": 16, \"num_hidden_layers\": "
                "4, \"mlp_only_layers\": [1],"
                "\"decoder_sparse_step\": 2, \"rope_parameters\": {\"rope_theta\": 5000.0, "
                "\"rope_type\": \"default\"},"
                "\"rope_theta\": 7.0, \"eos_token_id\": [3, 4]}");
    ck_assert_int_eq(s.router.n_expert, 16);
    ck_assert(!s.router.normalize); /* the class default, not the released value */
    ck_assert(!s.is_moe[0] && !s.is_moe[1] && !s.is_moe[2] && s.is_moe[3]);
    ck_assert_float_eq_tol(s.attention.rope.inv_freq[1], powf(5000.0F, -2.0F / 64.0F), 1e-6F);
    ck_assert_int_eq(s.attention.head_dim, 64); /* hidden_size / heads */
    ck_assert_int_eq(s.n_eos, 2);
    ck_assert_int_eq(s.bos, -1);
    shoal_spec_close(&s);

    shoal_log log;
    ck_assert_int_eq(
        read_text(&s,
                  "{\"model_type\": \"deepseek_v3\", \"q_lora_rank\": null, \"eos_token_id\": 1}",
                  "{\"eos_token_id\": [5, 6, 7]}", &log),
        SHOAL_OK);
    ck_assert_int_eq(s.attention.q_lora_rank, 0);
    ck_assert_int_eq(s.n_eos, 3);
    ck_assert_int_eq(s.eos[2], 7);
    char name[SHOAL_TENSOR_NAME_MAX];
    ck_assert_str_eq(shoal_spec_tensor_name(name, &s, SHOAL_ROLE_EXPERT_UP, 12, 345),
                     "model.layers.12.mlp.experts.345.up_proj.weight");
    shoal_spec_close(&s);
}
END_TEST

/* Each: a config, and what the message must name. */
static const struct {
    const char *config, *text;
} bad[] = {
    {"{}", "supported are deepseek_v2, deepseek_v3, glm4_moe"},
    {"{\"model_type\": \"llama\"}", "\"llama\"; supported are deepseek_v2, deepseek_v3"},
    {"{\"model_type\": 3}", "model_type"},
    {"[]", "not a JSON object"},
    {"{\"model_type\": \"deepseek_v3\", \"hidden_size\": \"many\"}", "hidden_size"},
    {"{\"model_type\": \"deepseek_v3\", \"hidden_size\": 0}", "hidden_size"},
    {"{\"model_type\": \"deepseek_v3\", \"hidden_size\": -64}", "hidden_size"},
    {"{\"model_type\": \"deepseek_v3\", \"hidden_size\": 99999999999}", "hidden_size"},
    {"{\"model_type\": \"deepseek_v3\", \"num_hidden_layers\": 0}", "num_hidden_layers"},
    {"{\"model_type\": \"deepseek_v3\", \"num_hidden_layers\": 1e9}", "num_hidden_layers"},
    {"{\"model_type\": \"deepseek_v3\", \"rms_norm_eps\": -1}", "rms_norm_eps"},
    {"{\"model_type\": \"deepseek_v3\", \"rms_norm_eps\": []}", "rms_norm_eps"},
    {"{\"model_type\": \"deepseek_v3\", \"scoring_func\": \"softmax\"}", "scoring_func"},
    {"{\"model_type\": \"deepseek_v3\", \"topk_method\": \"greedy\"}", "topk_method"},
    {"{\"model_type\": \"deepseek_v3\", \"n_group\": 7}", "n_group"},
    {"{\"model_type\": \"deepseek_v3\", \"topk_group\": 9}", "topk_group"},
    {"{\"model_type\": \"deepseek_v3\", \"n_routed_experts\": 4, \"n_group\": 1, \"topk_group\": "
     "1}",
     "num_experts_per_tok"},
    {"{\"model_type\": \"deepseek_v3\", \"n_routed_experts\": 16, \"n_group\": 8, \"topk_group\": "
     "1}",
     "topk_group"},
    {"{\"model_type\": \"deepseek_v3\", \"qk_rope_head_dim\": 15}", "even number"},
    {"{\"model_type\": \"deepseek_v3\", \"attention_bias\": true}", "attention_bias"},
    {"{\"model_type\": \"deepseek_v3\", \"hidden_act\": \"gelu\"}", "hidden_act"},
    {"{\"model_type\": \"deepseek_v3\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}",
     "rope type"},
    {"{\"model_type\": \"deepseek_v3\", \"rope_scaling\": 4}", "rope_scaling"},
    {"{\"model_type\": \"deepseek_v3\", \"rope_theta\": 0}", "rope_theta"},
    {"{\"model_type\": \"deepseek_v3\", \"quantization_config\": {\"quant_method\": \"awq\"}}",
     "awq"},
    {"{\"model_type\": \"deepseek_v3\", \"quantization_config\": {\"quant_method\": \"fp8\", "
     "\"weight_block_size\": [64, 64]}}",
     "weight_block_size"},
    {"{\"model_type\": \"deepseek_v3\", \"eos_token_id\": 999999999}", "eos_token_id"},
    {"{\"model_type\": \"deepseek_v3\", \"eos_token_id\": \"end\"}", "eos_token_id"},
    {"{\"model_type\": \"deepseek_v3\", \"norm_topk_prob\": 1}", "norm_topk_prob"},
    {"{\"model_type\": \"qwen3_moe\", \"num_key_value_heads\": 5}", "num_key_value_heads"},
    {"{\"model_type\": \"qwen3_moe\", \"mlp_only_layers\": [99]}", "mlp_only_layers"},
    {"{\"model_type\": \"qwen3_moe\", \"mlp_only_layers\": 1}", "mlp_only_layers"},
    {"{\"model_type\": \"qwen3_moe\", \"decoder_sparse_step\": 0}", "decoder_sparse_step"},
    {"{\"model_type\": \"qwen3_moe\", \"use_sliding_window\": true}", "use_sliding_window"},
};

START_TEST(malformed)
{
    shoal_spec s;
    shoal_log log;
    shoal_status status = read_text(&s, bad[_i].config, NULL, &log);
    ck_assert_msg(status == SHOAL_BAD_DATA, "%s: status %d", bad[_i].config, (int)status);
    ck_assert_msg(strstr(log.error, bad[_i].text) != NULL, "%s: \"%s\" does not name %s",
                  bad[_i].config, log.error, bad[_i].text);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, deepseek_v3_published);
    SHOAL_TEST(suite, qwen3_30b_published);
    SHOAL_TEST(suite, both_styles_and_defaults);
    TCase *cases = tcase_create("malformed");
    tcase_add_loop_test(cases, malformed, 0, (int)(sizeof(bad) / sizeof(bad[0])));
    suite_add_tcase(suite, cases);
}

SHOAL_TEST_MAIN("model.spec", add_tests)
