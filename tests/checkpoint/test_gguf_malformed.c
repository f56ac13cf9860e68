/* GGUF files that must be refused with a message, thousands of damaged ones that must not crash,
 * and what no conversion of a checkpoint shows: quantised tensors, odd metadata, SentencePiece. */
#include "runtime/checkpoint/dequant.h"
#include "runtime/checkpoint/gguf.h"
#include "runtime/checkpoint/load.h"
#include "tests/checkpoint/fixture.h"
#include "tests/checkpoint/gguf_maker.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { F32 = 0, Q4_0 = 2, Q8_0 = 8, Q2_K = 10, Q4_K = 12, Q6_K = 14, I8 = 24, MXFP4 = 39 };

static gguf_maker maker; /* too large for the stack */
static float ones[4096];

static shoal_status write_and_open(shoal_checkpoint **c, fixture *f, size_t n_cut)
{
    size_t n = 0;
    unsigned char *file = gguf_file(&n, &maker);
    fixture_write(f, "m.gguf", file, n_cut > 0 && n_cut < n ? n_cut : n);
    free(file);
    return shoal_checkpoint_open(c, fixture_path(f, "m.gguf"), true, &f->log);
}

/* -- refused -- */

#define D(...) ((const uint64_t[]){__VA_ARGS__})

static void good(void)
{
    gguf_pairs_of_model(&maker);
    gguf_tensor(&maker, "token_embd.weight", F32, 2, D(32, 4), ones, 512);
    gguf_tensor(&maker, "blk.0.ffn_gate_inp.weight", F32, 2, D(32, 2), ones, 256);
}

static void magic(void)
{
    good();
    maker.magic = "GGML";
}

static void version_1(void)
{
    good();
    maker.version = 1;
}

static void big_endian(void)
{
    good();
    maker.version = 3u << 24;
}

static void many_pairs(void)
{
    good();
    maker.n_pair_said = 1ull << 40;
}

static void one_pair_more(void)
{
    good();
    maker.n_pair_said = maker.n_pair + 1;
}

static void many_tensors(void)
{
    good();
    maker.n_tensor_said = UINT64_MAX - 1;
}

static void one_tensor_more(void)
{
    good();
    maker.n_tensor_said = maker.n_tensor + 1;
}

static void key_twice(void)
{
    good();
    gguf_pair_u32(&maker, "qwen3moe.block_count", 2);
}

static void key_empty(void)
{
    good();
    gguf_pair_u32(&maker, "", 2);
}

static void key_with_newline(void)
{
    good();
    gguf_pair_u32(&maker, "a\nb", 2);
}

static void key_long(void)
{
    good();
    gguf_put_u64(&maker.pairs, 1ull << 62);
    maker.n_pair++;
}

static void type_13(void)
{
    good();
    gguf_pair(&maker, "k", 13);
    gguf_put_u64(&maker.pairs, 0);
}

static void array_of_arrays(void)
{
    good();
    gguf_pair(&maker, "k", 9);
    gguf_put_u32(&maker.pairs, 9);
    gguf_put_u64(&maker.pairs, 1);
}

static void array_long(void)
{
    good();
    gguf_pair(&maker, "k", 9);
    gguf_put_u32(&maker.pairs, 10);
    gguf_put_u64(&maker.pairs, 1ull << 61); /* times 8 wraps */
}

static void strings_long(void)
{
    good();
    gguf_pair(&maker, "k", 9);
    gguf_put_u32(&maker.pairs, 8);
    gguf_put_u64(&maker.pairs, 1);
    gguf_put_u64(&maker.pairs, UINT64_MAX);
}

static void alignment_3(void)
{
    good();
    gguf_pair_u32(&maker, "general.alignment", 3);
}

static void alignment_0(void)
{
    good();
    gguf_pair_u32(&maker, "general.alignment", 0);
}

static void alignment_text(void)
{
    good();
    gguf_pair_text(&maker, "general.alignment", "32");
}

static void tensor_twice(void)
{
    good();
    gguf_tensor(&maker, "token_embd.weight", F32, 2, D(32, 1), ones, 128);
}

static void same_hf_name(void)
{
    good();
    gguf_tensor(&maker, "blk.0.ffn_norm.weight", F32, 1, D(32), ones, 128);
    gguf_tensor(&maker, "blk.0.post_attention_norm.weight", F32, 1, D(32), ones, 128);
}

static void name_empty(void)
{
    good();
    gguf_tensor(&maker, "", F32, 1, D(32), ones, 128);
}

static void no_dimension(void)
{
    good();
    gguf_tensor(&maker, "x", F32, 0, D(0), ones, 4);
}

static void five_dimensions(void)
{
    good();
    gguf_tensor(&maker, "x", F32, 5, D(1, 1, 1, 1, 1), ones, 4);
}

static void dimension_huge(void)
{
    good();
    gguf_tensor(&maker, "x", F32, 1, D(1ull << 63), ones, 4);
}

static void size_wraps(void)
{
    good();
    gguf_tensor(&maker, "x", F32, 3, D(1ull << 31, 1ull << 31, 1ull << 31), ones, 4);
}

static void half_a_block(void)
{
    good();
    gguf_tensor(&maker, "x", Q8_0, 2, D(48, 2), ones, 102);
}

static void offset_unaligned(void)
{
    good();
    gguf_info(&maker, "x", F32, 1, D(1), 1);
}

static void offset_beyond(void)
{
    good();
    gguf_info(&maker, "x", F32, 1, D(1), 1ull << 40);
}

static void overlap(void)
{
    good();
    gguf_info(&maker, "x", F32, 1, D(32), 64);
}

static void end_beyond(void)
{
    good();
    gguf_tensor(&maker, "x", F32, 1, D(64), ones, 128);
}

static void no_architecture(void)
{
    gguf_pair_u32(&maker, "qwen3moe.block_count", 1);
}

static void architecture_number(void)
{
    gguf_pair_u32(&maker, "general.architecture", 1);
}

static void no_embedding_length(void)
{
    gguf_pair_text(&maker, "general.architecture", "qwen3moe");
}

static void layers_differ(void)
{
    gguf_pairs_of_model(&maker);
    gguf_pair(&maker, "qwen3moe.attention.head_count_kv", 9);
    gguf_put_u32(&maker.pairs, 4);
    gguf_put_u64(&maker.pairs, 2);
    gguf_put_u32(&maker.pairs, 1);
    gguf_put_u32(&maker.pairs, 2);
}

static void rope_nan(void)
{
    gguf_pairs_of_model(&maker);
    gguf_pair_text(&maker, "qwen3moe.rope.scaling.type", "yarn");
    gguf_pair(&maker, "qwen3moe.rope.scaling.factor", 6);
    gguf_put_u32(&maker.pairs, 0x7fc00000);
}

static void rope_factor(void)
{
    gguf_pairs_of_model(&maker);
    gguf_pair_text(&maker, "qwen3moe.rope.scaling.type", "yarn");
    gguf_pair_f32(&maker, "qwen3moe.rope.scaling.yarn_attn_factor", 0.5F);
}

static void no_blocks(void)
{
    gguf_pair_text(&maker, "general.architecture", "olmoe");
    gguf_pair_u32(&maker, "olmoe.embedding_length", 32);
    gguf_pair_u32(&maker, "olmoe.attention.head_count", 1);
    gguf_pair_u32(&maker, "olmoe.block_count", 0);
}

static void experts_flat(void)
{
    good();
    gguf_tensor(&maker, "blk.0.ffn_up_exps.weight", F32, 1, D(32), ones, 128);
}

static void experts_none(void)
{
    good();
    gguf_tensor(&maker, "blk.0.ffn_up_exps.weight", F32, 3, D(32, 2, 0), ones, 0);
}

static void no_up(void)
{
    gguf_pair_text(&maker, "general.architecture", "gpt-oss");
    gguf_tensor(&maker, "blk.0.ffn_gate_exps.weight", F32, 3, D(32, 2, 2), ones, 512);
}

static void up_differs(void)
{
    no_up();
    gguf_tensor(&maker, "blk.0.ffn_up_exps.weight", F32, 3, D(32, 1, 2), ones, 256);
}

static void no_v_b(void)
{
    gguf_pair_text(&maker, "general.architecture", "deepseek2");
    gguf_tensor(&maker, "blk.0.attn_k_b.weight", F32, 3, D(32, 2, 2), ones, 512);
}

static void v_b_differs(void)
{
    no_v_b();
    gguf_tensor(&maker, "blk.0.attn_v_b.weight", F32, 3, D(32, 1, 2), ones, 256);
}

static void no_heads(void)
{
    gguf_pair_text(&maker, "general.architecture", "llama");
    gguf_tensor(&maker, "blk.0.attn_q.weight", F32, 2, D(32, 4), ones, 512);
}

static void heads_odd(void)
{
    gguf_pair_text(&maker, "general.architecture", "llama");
    gguf_pair_u32(&maker, "llama.attention.head_count", 4);
    gguf_tensor(&maker, "blk.0.attn_q.weight", F32, 2, D(32, 4), ones, 512);
}

static void split_many(void)
{
    good();
    gguf_pair_u32(&maker, "split.count", 3000000000u);
}

static void split_name(void)
{
    good();
    gguf_pair_u32(&maker, "split.count", 2);
}

static void split_tensors(void)
{
    good();
    gguf_pair_u32(&maker, "split.tensors.count", 7);
}

static const struct {
    const char *label;
    void (*make)(void);
    size_t n_cut;
    const char *text[2];
} cases[] = {
    {"empty but a byte", good, 1, {"ends in its header"}},
    {"magic alone", good, 4, {"ends in its header"}},
    {"cut in the counts", good, 20, {"ends in its header"}},
    {"cut in the pairs", good, 100, {"from byte 24 on"}},
    {"cut in the data", good, 1000, {"go beyond the", "is the download complete"}},
    {"magic", magic, 0, {"does not begin with \"GGUF\""}},
    {"version 1", version_1, 0, {"GGUF version 1, supported are 2 and 3"}},
    {"big-endian", big_endian, 0, {"(big-endian)"}},
    {"2^40 pairs", many_pairs, 0, {"1099511627776 key-value pairs do not fit"}},
    {"one pair more", one_pair_more, 0, {"m.gguf"}},
    {"2^64 - 2 tensors", many_tensors, 0, {"tensors do not fit"}},
    {"one tensor more", one_tensor_more, 0, {"m.gguf"}},
    {"a key twice", key_twice, 0, {"key qwen3moe.block_count occurs twice"}},
    {"an empty key", key_empty, 0, {"the key before byte", "has 0 bytes"}},
    {"a key with a line feed", key_with_newline, 0, {"control characters"}},
    {"a key of 2^62 bytes", key_long, 0, {"4611686018427387904 bytes of a key do not fit"}},
    {"type 13", type_13, 0, {"has type 13, wanted 0 to 12"}},
    {"an array of arrays", array_of_arrays, 0, {"has type 9 in an array"}},
    {"an array of 2^61", array_long, 0, {"elements of an array do not fit"}},
    {"a string of 2^64 - 1", strings_long, 0, {"bytes of a string do not fit"}},
    {"alignment 3", alignment_3, 0, {"general.alignment is 3"}},
    {"alignment 0", alignment_0, 0, {"general.alignment is 0"}},
    {"alignment in words", alignment_text, 0, {"general.alignment", "no integer"}},
    {"a tensor twice", tensor_twice, 0, {"duplicate tensor token_embd.weight"}},
    {"two norms", same_hf_name, 0, {"duplicate tensor model.layers.0.post_attention_layernorm"}},
    {"an empty name", name_empty, 0, {"the tensor's name before byte"}},
    {"no dimension", no_dimension, 0, {"tensor x has 0 dimensions, wanted 1 to 4"}},
    {"five dimensions", five_dimensions, 0, {"tensor x has 5 dimensions"}},
    {"a dimension of 2^63", dimension_huge, 0, {"tensor x: dimension 0 is"}},
    {"a size beyond 64 bits", size_wraps, 0, {"tensor x of F32", "overflows 64 bits"}},
    {"half a block", half_a_block, 0, {"tensor x of Q8_0: shape [2, 48]", "no whole blocks"}},
    {"an offset unaligned", offset_unaligned, 0, {"offset 1 is no multiple of the alignment 32"}},
    {"an offset beyond", offset_beyond, 0, {"tensor x", "go beyond"}},
    {"overlap", overlap, 0, {"tensors token_embd.weight and x overlap"}},
    {"an end beyond", end_beyond, 0, {"tensor x: its 256 bytes", "go beyond"}},
    {"no architecture", no_architecture, 0, {"general.architecture is missing"}},
    {"architecture 1", architecture_number, 0, {"general.architecture is missing or no text"}},
    {"no size", no_embedding_length, 0, {"qwen3moe.embedding_length is missing"}},
    {"layers that differ", layers_differ, 0, {"head_count_kv", "the same integer for all"}},
    {"a factor NaN", rope_nan, 0, {"rope.scaling.factor", "a finite number"}},
    {"another factor", rope_factor, 0, {"yarn_attn_factor is missing or wrong, wanted 1"}},
    {"no blocks", no_blocks, 0, {"olmoe.block_count"}},
    {"experts as a vector", experts_flat, 0, {"blk.0.ffn_up_exps.weight has shape [32]"}},
    {"no experts", experts_none, 0, {"blk.0.ffn_up_exps.weight has shape [0, 2, 32]"}},
    {"gate without up", no_up, 0, {"blk.0.ffn_gate_exps.weight, but not the one"}},
    {"gate and up differ", up_differs, 0, {"blk.0.ffn_gate_exps.weight has shape [2, 2, 32]"}},
    {"k_b without v_b", no_v_b, 0, {"blk.0.attn_k_b.weight", "attn_v_b"}},
    {"k_b and v_b differ", v_b_differs, 0, {"blk.0.attn_k_b.weight has shape [2, 2, 32]"}},
    {"pairs without heads", no_heads, 0, {"blk.0.attn_q.weight", "attention.head_count"}},
    {"heads of one row", heads_odd, 0, {"blk.0.attn_q.weight has shape [4, 32]"}},
    {"3 billion files", split_many, 0, {"split.count is 3000000000"}},
    {"a split by another name", split_name, 0, {"of the name ...-00001-of-00002.gguf"}},
    {"tensors of a split", split_tensors, 0, {"split.tensors.count is 7, wanted 2"}},
};
enum { N_CASE = sizeof cases / sizeof cases[0] };

START_TEST(test_refused)
{
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    cases[_i].make();
    shoal_checkpoint *c = NULL;
    shoal_status status = write_and_open(&c, &f, cases[_i].n_cut);
    ck_assert_msg(status == SHOAL_BAD_DATA && c == NULL, "%s: status %d: %s", cases[_i].label,
                  status, f.log.error);
    for (int i = 0; i < 2 && cases[_i].text[i] != NULL; i++)
        ck_assert_msg(strstr(f.log.error, cases[_i].text[i]) != NULL, "%s: \"%s\" is not in: %s",
                      cases[_i].label, cases[_i].text[i], f.log.error);
    ck_assert_msg(strstr(f.log.error, f.path) != NULL, "%s: %s", cases[_i].label, f.log.error);
    fixture_close(&f);
}
END_TEST

START_TEST(test_unmutated)
{
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    good();
    shoal_checkpoint *c = NULL;
    ck_assert_msg(write_and_open(&c, &f, 0) == SHOAL_OK, "%s", f.log.error);
    ck_assert_int_eq(shoal_checkpoint_n_tensor(c), 2);
    shoal_checkpoint_close(c);

    /* an architecture that nobody knows is the families' to refuse, by its name */
    gguf_maker_init(&maker);
    gguf_pair_text(&maker, "general.architecture", "mamba");
    ck_assert_msg(write_and_open(&c, &f, 0) == SHOAL_OK, "%s", f.log.error);
    ck_assert_str_eq(
        shoal_json_string(shoal_json_get(shoal_checkpoint_config(c), "model_type"), NULL), "mamba");
    shoal_checkpoint_close(c);

    /* by its first bytes, whatever the name; no other file is a model */
    size_t n = 0;
    unsigned char *file = gguf_file(&n, &maker);
    fixture_write(&f, "blob", file, n);
    free(file);
    c = NULL;
    ck_assert_int_eq(shoal_checkpoint_open(&c, fixture_path(&f, "blob"), true, &f.log), SHOAL_OK);
    shoal_checkpoint_close(c);
    fixture_write_text(&f, "text", "GG");
    ck_assert_int_eq(shoal_checkpoint_open(&c, fixture_path(&f, "text"), true, &f.log),
                     SHOAL_BAD_DATA);
    fixture_write_text(&f, "empty.gguf", "");
    ck_assert_int_eq(shoal_checkpoint_open(&c, fixture_path(&f, "empty.gguf"), true, &f.log),
                     SHOAL_BAD_DATA);
    fixture_close(&f);
}
END_TEST

/* -- damaged -- */

#define SPACE "\xe2\x96\x81" /* U+2581 */

static const char space_a[] = SPACE "a", space_ab[] = SPACE "ab";
static const char *const tokens[] = {"<unk>", "<s>", "</s>",   "<0x0A>", SPACE,    "a",
                                     "b",     "ab",  space_ab, space_a,  "<extra>"};
enum { N_TOKEN = sizeof tokens / sizeof tokens[0] };

static void sentencepiece(void)
{
    static const int32_t types[N_TOKEN] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 4};
    static const float scores[N_TOKEN] = {0, 0, 0, 0, -9, -8, -7, -1, -2, -3, 0};
    gguf_pair_text(&maker, "tokenizer.ggml.model", "llama");
    gguf_pair_texts(&maker, "tokenizer.ggml.tokens", tokens, N_TOKEN);
    gguf_pair(&maker, "tokenizer.ggml.token_type", 9);
    gguf_put_u32(&maker.pairs, 5);
    gguf_put_u64(&maker.pairs, N_TOKEN);
    gguf_put(&maker.pairs, types, sizeof types);
    gguf_pair(&maker, "tokenizer.ggml.scores", 9);
    gguf_put_u32(&maker.pairs, 6);
    gguf_put_u64(&maker.pairs, N_TOKEN);
    gguf_put(&maker.pairs, scores, sizeof scores);
    gguf_pair_u32(&maker, "tokenizer.ggml.bos_token_id", 1);
    gguf_pair_u32(&maker, "tokenizer.ggml.eos_token_id", 2);
    gguf_pair_u32(&maker, "tokenizer.ggml.eot_token_id", 3);
    gguf_pair_text(&maker, "tokenizer.chat_template", "{{ bos_token }}");
}

static void everything(void)
{
    gguf_pairs_of_model(&maker);
    sentencepiece();
    gguf_tensor(&maker, "token_embd.weight", F32, 2, D(32, 4), ones, 512);
    gguf_tensor(&maker, "blk.0.ffn_up_exps.weight", Q8_0, 3, D(32, 2, 2), ones, 136);
    gguf_tensor(&maker, "blk.0.attn_q.weight", I8, 2, D(32, 2), ones, 64);
}

static void damage(unsigned char *file, size_t n, uint64_t *random)
{
    uint64_t n_flip = 1 + fixture_random(random) % 3;
    for (uint64_t k = 0; k < n_flip; k++) {
        uint64_t value = fixture_random(random);
        size_t at = (size_t)(fixture_random(random) % n);
        if (value % 3 == 0)
            file[at] ^= (unsigned char)(1 << value / 3 % 8);
        else
            file[at] =
                value % 3 == 1 ? (unsigned char)(value >> 8) : (unsigned char)(value >> 8 & 15);
    }
}

START_TEST(test_byte_flips)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    gguf_maker_init(&maker);
    everything();
    size_t n = 0;
    unsigned char *whole = gguf_file(&n, &maker);
    size_t n_head = n - maker.values.n;
    uint64_t random = 5;
    int n_good = 0;
    for (int i = 0; i < 6000; i++) {
        size_t n_here = i % 4 == 3 ? (size_t)(fixture_random(&random) % n_head) : n_head;
        unsigned char *exact = malloc(n_here + 1); /* so that reading beyond is seen */
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, whole, n_here);
        if (n_here > 0)
            damage(exact, n_here, &random);
        unsigned char *moved = realloc(exact, n_here > 0 ? n_here : 1);
        shoal__gguf g;
        bool more = false;
        shoal_status status = shoal__gguf_parse(&g, &more, moved, n_here, n, "f.gguf", &log);
        if (status == SHOAL_OK && !more) {
            for (int64_t k = 0; k < g.n_tensor; k++) {
                const shoal_tensor_info *t = &g.tensor[k];
                ck_assert(t->offset <= n && t->n_bytes <= n - t->offset);
            }
            shoal__gguf_close(&g);
            n_good++;
        } else {
            ck_assert(more || status == SHOAL_BAD_DATA);
            free(moved);
        }
    }
    ck_assert_int_gt(n_good, 200);
    ck_assert_int_lt(n_good, 5500);
    free(whole);
}
END_TEST

/* Through files, and on to everything that can be asked of an open one. */
START_TEST(test_damaged_files)
{
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    everything();
    size_t n = 0;
    unsigned char *whole = gguf_file(&n, &maker), *bad = malloc(n);
    ck_assert_ptr_nonnull(bad);
    uint64_t random = 9;
    int n_good = 0;
    for (int i = 0; i < 600; i++) {
        memcpy(bad, whole, n);
        damage(bad, n, &random);
        fixture_write(&f, "m.gguf", bad, n);
        shoal_checkpoint *c = NULL;
        shoal_status status = shoal_checkpoint_open(&c, fixture_path(&f, "m.gguf"), true, &f.log);
        ck_assert(status == SHOAL_OK || status == SHOAL_BAD_DATA || status == SHOAL_NO_INPUT);
        if (status != SHOAL_OK)
            continue;
        n_good++;
        shoal_loader loader;
        ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
        for (int64_t k = 0; k < shoal_checkpoint_n_tensor(c); k++) {
            const shoal_tensor_info *t = shoal_checkpoint_tensor(c, k);
            if (t->n_dim == 2 && t->shape[0] * t->shape[1] <= 4096) {
                static float rows[4096];
                status = shoal_load_rows_f32(rows, &loader, shoal_weight_ref_of(t->name), 0,
                                             (int32_t)t->shape[0], (int32_t)t->shape[1]);
                ck_assert(status == SHOAL_OK || status == SHOAL_BAD_DATA);
            }
        }
        shoal_json *doc = NULL, *config = NULL;
        status = shoal_checkpoint_tokenizer(c, &doc, &config);
        ck_assert(status == SHOAL_OK || status == SHOAL_BAD_DATA);
        shoal_json_close(doc);
        shoal_json_close(config);
        shoal_loader_close(&loader);
        shoal_checkpoint_close(c);
    }
    ck_assert_int_gt(n_good, 50);
    free(whole);
    free(bad);
    fixture_close(&f);
}
END_TEST

/* -- tokenizer -- */

static shoal_status tokenizer_of(fixture *f, char **doc_text, char **config_text)
{
    shoal_checkpoint *c = NULL;
    ck_assert_msg(write_and_open(&c, f, 0) == SHOAL_OK, "%s", f->log.error);
    shoal_json *doc = NULL, *config = NULL;
    shoal_status status = shoal_checkpoint_tokenizer(c, &doc, &config);
    if (status == SHOAL_OK) {
        *doc_text = shoal_json_dump(doc);
        *config_text = shoal_json_dump(config);
    }
    shoal_json_close(doc);
    shoal_json_close(config);
    shoal_checkpoint_close(c);
    return status;
}

START_TEST(test_sentencepiece)
{
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    gguf_pairs_of_model(&maker);
    sentencepiece();
    char *doc = NULL, *config = NULL;
    ck_assert_msg(tokenizer_of(&f, &doc, &config) == SHOAL_OK, "%s", f.log.error);
    /* best score first: ab, then the longer left part of _ab, then _a */
    static const char merges[] = "\"merges\":[[\"a\",\"b\"],[\"" SPACE "a\",\"b\"],[\"" SPACE
                                 "\",\"ab\"],[\"" SPACE "\",\"a\"]]";
    static const char *const parts[] = {
        merges,         "\"byte_fallback\":true",       "\"unk_token\":\"<unk>\"",
        "\"<0x0A>\":3", "\"id\":1,\"content\":\"<s>\"", "\"id\":10,\"content\":\"<extra>\"",
        "\"Prepend\""};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        ck_assert_msg(strstr(doc, parts[i]) != NULL, "\"%s\" is not in: %s", parts[i], doc);
    ck_assert_msg(strstr(config, "\"add_bos_token\":true") != NULL &&
                      strstr(config, "\"bos_token\":\"<s>\"") != NULL &&
                      strstr(config, "\"eos_token\":\"</s>\"") != NULL &&
                      strstr(config, "\"chat_template\":\"{{ bos_token }}\"") != NULL,
                  "%s", config);
    free(doc);
    free(config);

    /* end tokens: each once, those of the vocabulary only */
    gguf_tensor(&maker, "token_embd.weight", F32, 2, D(32, 3), ones, 384);
    shoal_checkpoint *c = NULL;
    ck_assert_msg(write_and_open(&c, &f, 0) == SHOAL_OK, "%s", f.log.error);
    char *generation = shoal_json_dump(shoal_checkpoint_generation_config(c));
    ck_assert_str_eq(generation, "{\"eos_token_id\":[2]}");
    free(generation);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

static void refuse_tokenizer(fixture *f, const char *text)
{
    char *doc = NULL, *config = NULL;
    ck_assert_int_eq(tokenizer_of(f, &doc, &config), SHOAL_BAD_DATA);
    ck_assert_msg(strstr(f->log.error, text) != NULL, "\"%s\" is not in: %s", text, f->log.error);
}

static void tokenizer_pairs(const char *model, const char *pre)
{
    gguf_maker_init(&maker);
    gguf_pairs_of_model(&maker);
    if (model != NULL)
        gguf_pair_text(&maker, "tokenizer.ggml.model", model);
    if (pre != NULL)
        gguf_pair_text(&maker, "tokenizer.ggml.pre", pre);
}

START_TEST(test_tokenizers_refused)
{
    fixture f;
    fixture_open(&f);
    tokenizer_pairs("bert", NULL);
    refuse_tokenizer(&f, "tokenizer.ggml.model is \"bert\"");
    tokenizer_pairs("gpt2", "qwen2");
    refuse_tokenizer(&f, "tokenizer.ggml.tokens is missing");
    gguf_pair_texts(&maker, "tokenizer.ggml.tokens", tokens, 4);
    refuse_tokenizer(&f, "tokenizer.ggml.merges is missing");
    gguf_pair_texts(&maker, "tokenizer.ggml.merges", tokens, 0);
    char *doc = NULL, *config = NULL;
    ck_assert_int_eq(tokenizer_of(&f, &doc, &config), SHOAL_OK);
    ck_assert(strstr(doc, "\"NFC\"") != NULL && strstr(doc, "ByteLevel") != NULL);
    free(doc);
    free(config);
    gguf_pair(&maker, "tokenizer.ggml.token_type", 9);
    gguf_put_u32(&maker.pairs, 5);
    gguf_put_u64(&maker.pairs, 1);
    gguf_put_u32(&maker.pairs, 1);
    refuse_tokenizer(&f, "token_type has 1 elements, wanted 4");

    tokenizer_pairs("gpt2", "kimi-k2");
    gguf_pair_texts(&maker, "tokenizer.ggml.tokens", tokens, 4);
    refuse_tokenizer(&f,
                     "tokenizer.ggml.pre is \"kimi-k2\"; supported pre-tokenizers are deepseek");
    tokenizer_pairs("gpt2", NULL);
    gguf_pair_texts(&maker, "tokenizer.ggml.tokens", tokens, 4);
    refuse_tokenizer(&f, "tokenizer.ggml.pre is \"(missing)\"");
    static const char *const not_text[] = {"a", "\xff"};
    tokenizer_pairs("gpt2", "gpt-4o");
    gguf_pair_texts(&maker, "tokenizer.ggml.tokens", not_text, 2);
    gguf_pair_texts(&maker, "tokenizer.ggml.merges", tokens, 0);
    refuse_tokenizer(&f, "tokenizer.ggml.tokens[1] has 1 bytes or is no UTF-8");
    tokenizer_pairs("llama", NULL);
    gguf_pair_texts(&maker, "tokenizer.ggml.tokens", tokens, 4);
    refuse_tokenizer(&f, "tokenizer.ggml.scores is missing");
    fixture_close(&f);
}
END_TEST

/* -- quantised weights -- */

static void fill_blocks(unsigned char *data, size_t n, uint64_t *random)
{
    for (size_t i = 0; i < n; i++)
        data[i] = (unsigned char)fixture_random(random) & 0x3f; /* halves stay finite */
}

/* Experts of a type are packed as the f32 that their blocks are; MXFP4, Q8_0 and Q4_0 stay
 * integers, of the same values. */
static void check_quantised(uint32_t type, shoal_dtype dtype)
{
    enum { N_EXPERT = 2, N_ROW = 19, N_COL = 256 };
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    gguf_pairs_of_model(&maker);
    static unsigned char data[N_EXPERT * N_ROW * N_COL * 2];
    size_t row_bytes = N_COL / shoal_dtype_block(dtype) * shoal_dtype_bytes(dtype);
    uint64_t random = type;
    fill_blocks(data, N_EXPERT * N_ROW * row_bytes, &random);
    gguf_tensor(&maker, "blk.0.ffn_down_exps.weight", type, 3, D(N_COL, N_ROW, N_EXPERT), data,
                N_EXPERT * N_ROW * row_bytes);
    shoal_checkpoint *c = NULL;
    ck_assert_msg(write_and_open(&c, &f, 0) == SHOAL_OK, "%s", f.log.error);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    static const char name[] = "model.layers.0.mlp.experts.1.down_proj.weight";
    shoal_format format = SHOAL_N_FORMAT;
    shoal_weight_ref ref = shoal_weight_ref_of(name);
    ck_assert_msg(shoal_load_check_matrix(&format, &loader, ref, N_ROW, N_COL) == SHOAL_OK, "%s",
                  f.log.error);
    ck_assert_int_eq(format, type == MXFP4  ? SHOAL_FORMAT_MXFP4
                             : type == Q8_0 ? SHOAL_FORMAT_Q8
                             : type == Q4_0 ? SHOAL_FORMAT_Q4
                                            : SHOAL_FORMAT_F32);
    shoal_matrix w = {.format = format, .n_row = N_ROW, .n_col = N_COL};
    w.data = malloc(shoal_matrix_data_bytes(format, N_ROW, N_COL));
    ck_assert_ptr_nonnull(w.data);
    ck_assert_msg(shoal_load_matrix(&w, &loader, ref) == SHOAL_OK, "%s", f.log.error);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c), N_ROW * row_bytes);
    ck_assert_uint_eq(shoal_weight_ref_bytes(c, ref, N_ROW), N_ROW * row_bytes);
    static float wanted[N_ROW * N_COL];
    shoal__to_f32(wanted, data + N_ROW * row_bytes, dtype, N_ROW * N_COL);
    for (int32_t i = 0; i < N_ROW * N_COL; i++)
        if (shoal_matrix_at(&w, i / N_COL, i % N_COL) != wanted[i])
            ck_abort_msg("type %u: element %d", type, i);
    free(w.data);
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}

START_TEST(test_quantised)
{
    check_quantised(Q4_0, SHOAL_DTYPE_Q4_0);
    check_quantised(Q8_0, SHOAL_DTYPE_Q8_0);
    check_quantised(Q4_K, SHOAL_DTYPE_Q4_K);
    check_quantised(Q6_K, SHOAL_DTYPE_Q6_K);
    check_quantised(MXFP4, SHOAL_DTYPE_MXFP4);
}
END_TEST

/* kv_b from a quantised k_b, transposed per head, and a v_b of another type. */
START_TEST(test_quantised_kv_b)
{
    enum { N_HEAD = 2, RANK = 64, NOPE = 32, V_DIM = 3, N_ROW = N_HEAD * (NOPE + V_DIM) };
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    gguf_pair_text(&maker, "general.architecture", "deepseek2");
    static const struct {
        const char *key;
        uint32_t value;
    } pairs[] = {{"block_count", 1},
                 {"embedding_length", 32},
                 {"attention.head_count", 2},
                 {"expert_count", 2},
                 {"rope.dimension_count", 8},
                 {"attention.key_length_mla", NOPE + 8},
                 {"attention.value_length_mla", V_DIM},
                 {"attention.kv_lora_rank", RANK},
                 {"vocab_size", 4}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "deepseek2.%s", pairs[i].key);
        gguf_pair_u32(&maker, key, pairs[i].value);
    }
    static unsigned char k_data[N_HEAD * RANK * 34], v_data[N_HEAD * V_DIM * RANK / 32 * 18];
    uint64_t random = 3;
    fill_blocks(k_data, sizeof k_data, &random);
    fill_blocks(v_data, sizeof v_data, &random);
    gguf_tensor(&maker, "blk.0.attn_k_b.weight", Q8_0, 3, D(NOPE, RANK, N_HEAD), k_data,
                sizeof k_data);
    gguf_tensor(&maker, "blk.0.attn_v_b.weight", Q4_0, 3, D(RANK, V_DIM, N_HEAD), v_data,
                sizeof v_data);
    shoal_checkpoint *c = NULL;
    ck_assert_msg(write_and_open(&c, &f, 0) == SHOAL_OK, "%s", f.log.error);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    static float k[N_HEAD][RANK][NOPE], v[N_HEAD][V_DIM][RANK], rows[N_ROW][RANK];
    shoal__to_f32(k[0][0], k_data, SHOAL_DTYPE_Q8_0, sizeof k / sizeof(float));
    shoal__to_f32(v[0][0], v_data, SHOAL_DTYPE_Q4_0, sizeof v / sizeof(float));
    shoal_weight_ref ref = shoal_weight_ref_of("model.layers.0.self_attn.kv_b_proj.weight");
    shoal_format format = SHOAL_N_FORMAT;
    ck_assert_msg(shoal_load_check_matrix(&format, &loader, ref, N_ROW, RANK) == SHOAL_OK, "%s",
                  f.log.error);
    ck_assert_int_eq(format, SHOAL_FORMAT_F32);
    ck_assert_int_eq(shoal_load_rows_f32(rows[0], &loader, ref, 0, N_ROW, RANK), SHOAL_OK);
    for (int r = 0; r < N_ROW; r++)
        for (int i = 0; i < RANK; i++) {
            int head = r / (NOPE + V_DIM), inner = r % (NOPE + V_DIM);
            float wanted = inner < NOPE ? k[head][i][inner] : v[head][inner - NOPE][i];
            ck_assert(rows[r][i] == wanted);
        }
    /* the second head alone: its bytes, no others */
    uint64_t before = shoal_checkpoint_bytes_read(c);
    ck_assert_int_eq(shoal_load_rows_f32(rows[0], &loader, ref, NOPE + V_DIM, NOPE + V_DIM, RANK),
                     SHOAL_OK);
    ck_assert(rows[0][0] == k[1][0][0] && rows[NOPE][5] == v[1][0][5]);
    ck_assert_uint_eq(shoal_checkpoint_bytes_read(c) - before,
                      sizeof k_data / 2 + sizeof v_data / 2);
    ck_assert_str_eq(
        shoal_json_string(shoal_json_get(shoal_checkpoint_config(c), "model_type"), NULL),
        "deepseek_v2");
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

/* Types that nobody reads: the file opens, the weight is refused by name and type. */
START_TEST(test_unsupported_types)
{
    fixture f;
    fixture_open(&f);
    gguf_maker_init(&maker);
    gguf_pairs_of_model(&maker);
    gguf_tensor(&maker, "output.weight", Q2_K, 2, D(256, 1), ones, 84);
    gguf_tensor(&maker, "token_embd.weight", 1234567, 2, D(32, 1), ones, 32);
    unsigned char nan[17] = {255};
    gguf_tensor(&maker, "blk.0.attn_output.weight", MXFP4, 2, D(32, 1), nan, 17);
    shoal_checkpoint *c = NULL;
    ck_assert_msg(write_and_open(&c, &f, 0) == SHOAL_OK, "%s", f.log.error);
    shoal_loader loader;
    ck_assert_int_eq(shoal_loader_open(&loader, c, &f.log), SHOAL_OK);
    static const struct {
        const char *name;
        int32_t n_col;
        const char *text;
    } wanted[] = {{"lm_head.weight", 256, "tensor lm_head.weight has dtype Q2_K, wanted"},
                  {"model.embed_tokens.weight", 32, "has dtype GGML type 567"},
                  {"model.layers.0.self_attn.o_proj.weight", 32, "is 255 (not a number)"}};
    for (int i = 0; i < 3; i++) {
        static uint64_t packed[2048];
        shoal_matrix w = {
            .format = SHOAL_FORMAT_MXFP4, .n_row = 1, .n_col = wanted[i].n_col, .data = packed};
        ck_assert_int_eq(shoal_load_matrix(&w, &loader, shoal_weight_ref_of(wanted[i].name)),
                         SHOAL_BAD_DATA);
        ck_assert_msg(strstr(f.log.error, wanted[i].text) != NULL, "%s", f.log.error);
    }
    shoal_loader_close(&loader);
    shoal_checkpoint_close(c);
    fixture_close(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_unmutated);
    SHOAL_TEST(suite, test_sentencepiece);
    SHOAL_TEST(suite, test_tokenizers_refused);
    SHOAL_TEST(suite, test_quantised);
    SHOAL_TEST(suite, test_quantised_kv_b);
    SHOAL_TEST(suite, test_unsupported_types);
    SHOAL_TEST(suite, test_byte_flips);
    SHOAL_TEST(suite, test_damaged_files);
    TCase *table = tcase_create("refused");
    tcase_set_timeout(table, 0);
    tcase_add_loop_test(table, test_refused, 0, N_CASE);
    suite_add_tcase(suite, table);
}

SHOAL_TEST_MAIN("checkpoint.gguf_malformed", add_tests)
