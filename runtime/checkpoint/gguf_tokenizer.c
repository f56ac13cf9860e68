#include "runtime/checkpoint/gguf_tokenizer.h"

#include "runtime/checkpoint/gguf_merges.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERN     5
#define MAX_TOKEN_BYTES 65536

/* -- pre-tokenizers -- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define NUMBERS_OF(n)                                                                              \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" n                                         \
                 "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED(upper, lower)                                                                        \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]" upper                             \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]" lower CONTRACTIONS "?"

/* As the tokenizer.json of the models of that name has them; patterns split one after the other. */
typedef struct pre_tokenizer {
    const char *name; /* tokenizer.ggml.pre */
    const char *pattern[MAX_PATTERN];
    bool byte_level_regex; /* ByteLevel's own pattern (GPT-2's) comes last */
    bool nfc;              /* the normalizer */
    bool ignore_merges;
} pre_tokenizer;

static const pre_tokenizer pre_tokenizers[] = {
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}"
      "\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     false,
     false,
     false},
    /* It finds no stable way to break these characters. */
    /* clang-format off */
    {"deepseek-llm",
     {"[\\r\\n]",
      "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯ"
      "Ա-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-"
      "ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-"
      "ⳮⲲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-"
      "𐳲𑢠-"
      "𑣟𞤀-𞥃]+",
      "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "[一-龥ࠀ-一가-퟿]+", "\\p{N}+"},
     /* clang-format on */
     false,
     false,
     false},
    {"qwen2", {NUMBERS_OF("")}, false, true, false},
    {"llama-bpe", {NUMBERS_OF("{1,3}")}, false, false, true},
    {"glm4", {NUMBERS_OF("{1,3}")}, false, false, false},
    {"chatglm-bpe", {NUMBERS_OF("{1,3}")}, false, false, false},
    {"gpt-4o",
     {CASED("*", "+") "|" CASED("+",
                                "*") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|"
                                     "\\s+(?!\\S)|\\s+"},
     false,
     false,
     true},
    {"olmo", {NULL}, true, true, false},
    {"gpt-2", {NULL}, true, false, false},
    {"refact", {"\\p{N}"}, true, false, false},
};

/* -- metadata -- */

enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

typedef struct builder {
    const shoal__gguf *metadata;
    const char *path;
    shoal_log *log;
    const shoal__gguf_value *tokens, *types;
    shoal_json *doc, *config;
    shoal_json *model, *vocab, *added; /* in doc */
} builder;

static void set_text(shoal_json *object, const char *key, const char *text)
{
    shoal_json_set(object, key, shoal_json_new_string(text, strlen(text)));
}

static void set_bool(shoal_json *object, const char *key, bool value)
{
    shoal_json_set(object, key, shoal_json_new_bool(value));
}

static shoal_json *of_type(const char *type)
{
    shoal_json *object = shoal_json_new_object();
    set_text(object, "type", type);
    return object;
}

/* The list of a Sequence, which goes to key of object. */
static shoal_json *set_sequence(shoal_json *object, const char *key, const char *list)
{
    shoal_json *sequence = of_type("Sequence");
    shoal_json *items = shoal_json_new_array();
    shoal_json_set(sequence, list, items);
    shoal_json_set(object, key, sequence);
    return items;
}

static shoal_json *replace(const char *from, const char *to)
{
    shoal_json *object = of_type("Replace");
    shoal_json *pattern = shoal_json_new_object();
    set_text(pattern, "String", from);
    shoal_json_set(object, "pattern", pattern);
    set_text(object, "content", to);
    return object;
}

static shoal_json *byte_level(bool use_regex)
{
    shoal_json *object = of_type("ByteLevel");
    set_bool(object, "add_prefix_space", false);
    set_bool(object, "trim_offsets", true);
    set_bool(object, "use_regex", use_regex);
    return object;
}

static const shoal__gguf_value *find_strings(const builder *b, const char *key)
{
    const shoal__gguf_value *value = shoal__gguf_find(b->metadata, key);
    bool ok = value != NULL && value->is_array && value->type == SHOAL__GGUF_STRING;
    return ok ? value : NULL;
}

static int64_t type_of(const builder *b, uint64_t id)
{
    int64_t type = TOKEN_NORMAL;
    (void)shoal__gguf_int_at(&type, b->types, id);
    return type;
}

/* -- vocabulary -- */

static void add_special(const builder *b, const char *content, int64_t id, bool special)
{
    shoal_json *token = shoal_json_new_object();
    shoal_json_set(token, "id", shoal_json_new_int(id));
    set_text(token, "content", content);
    set_bool(token, "single_word", false);
    set_bool(token, "lstrip", false);
    set_bool(token, "rstrip", false);
    set_bool(token, "normalized", false);
    set_bool(token, "special", special);
    shoal_json_append(b->added, token);
}

/* Byte-level vocabularies leave out what is an added token; SentencePiece's have everything. */
static shoal_status add_tokens(const builder *b, bool with_added)
{
    const unsigned char *at = b->tokens->at;
    for (uint64_t id = 0; id < b->tokens->n; id++) {
        size_t n = 0;
        const char *found = shoal__gguf_next_string(&at, &n);
        int64_t type = type_of(b, id);
        if (type == TOKEN_UNUSED)
            continue;
        shoal_json *text = n <= MAX_TOKEN_BYTES ? shoal_json_new_string(found, n) : NULL;
        const char *content = text != NULL ? shoal_json_string(text, NULL) : NULL;
        /* Bytes that are no UTF-8 have been replaced. */
        bool good =
            content != NULL && n > 0 && strlen(content) == n && memcmp(content, found, n) == 0;
        if (good) {
            bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
            bool added = special || type == TOKEN_USER;
            if (added)
                add_special(b, content, (int64_t)id, special);
            if ((with_added || !added) && shoal_json_get(b->vocab, content) == NULL)
                shoal_json_set(b->vocab, content, shoal_json_new_int((int64_t)id));
        }
        shoal_json_close(text);
        if (!good)
            return shoal_fail(b->log, SHOAL_BAD_DATA,
                              "%s: tokenizer.ggml.tokens[%" PRIu64
                              "] has %zu bytes or is no UTF-8, wanted 1 to %d bytes of text",
                              b->path, id, n, MAX_TOKEN_BYTES);
    }
    return SHOAL_OK;
}

static void set_model(const builder *b, bool byte_fallback, bool ignore_merges)
{
    set_text(b->model, "type", "BPE");
    set_bool(b->model, "fuse_unk", byte_fallback);
    set_bool(b->model, "byte_fallback", byte_fallback);
    set_bool(b->model, "ignore_merges", ignore_merges);
}

/* -- byte-level BPE -- */

static shoal_status find_pre(const pre_tokenizer **pre, const builder *b)
{
    size_t n = 0;
    const char *name = shoal__gguf_string(shoal__gguf_find(b->metadata, "tokenizer.ggml.pre"), &n);
    for (size_t i = 0; name != NULL && i < sizeof pre_tokenizers / sizeof pre_tokenizers[0]; i++)
        if (strlen(pre_tokenizers[i].name) == n && memcmp(pre_tokenizers[i].name, name, n) == 0) {
            *pre = &pre_tokenizers[i];
            return SHOAL_OK;
        }
    char list[256] = "";
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof pre_tokenizers[0]; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), " %s", pre_tokenizers[i].name);
    return shoal_fail(b->log, SHOAL_BAD_DATA,
                      "%s: tokenizer.ggml.pre is \"%.*s\"; supported pre-tokenizers are%s", b->path,
                      name == NULL ? 9
                      : n > 40     ? 40
                                   : (int)n,
                      name == NULL ? "(missing)" : name, list);
}

static shoal_status build_byte_level(const builder *b)
{
    const pre_tokenizer *pre = NULL;
    SHOAL_TRY(find_pre(&pre, b));
    const shoal__gguf_value *merges = find_strings(b, "tokenizer.ggml.merges");
    if (merges == NULL)
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: tokenizer.ggml.merges is missing or no array of strings", b->path);
    if (pre->nfc)
        shoal_json_set(b->doc, "normalizer", of_type("NFC"));
    shoal_json *steps = set_sequence(b->doc, "pre_tokenizer", "pretokenizers");
    for (int i = 0; i < MAX_PATTERN && pre->pattern[i] != NULL; i++) {
        shoal_json *split = of_type("Split");
        shoal_json *pattern = shoal_json_new_object();
        set_text(pattern, "Regex", pre->pattern[i]);
        shoal_json_set(split, "pattern", pattern);
        set_text(split, "behavior", "Isolated");
        set_bool(split, "invert", false);
        shoal_json_append(steps, split);
    }
    shoal_json_append(steps, byte_level(pre->byte_level_regex));
    shoal_json_set(b->doc, "decoder", byte_level(true));
    set_model(b, false, pre->ignore_merges);
    SHOAL_TRY(add_tokens(b, false));
    shoal_json *list = shoal_json_new_array();
    const unsigned char *at = merges->at;
    for (uint64_t i = 0; i < merges->n; i++) {
        size_t n = 0;
        const char *text = shoal__gguf_next_string(&at, &n);
        shoal_json_append(list, shoal_json_new_string(text, n));
    }
    shoal_json_set(b->model, "merges", list);
    if (strcmp(pre->name, "llama-bpe") == 0)
        set_bool(b->config, "add_bos_token", true); /* unless the metadata says otherwise */
    return SHOAL_OK;
}

/* -- SentencePiece -- */

static shoal_status build_sentencepiece(const builder *b)
{
    static const char space[] = "\xe2\x96\x81"; /* U+2581 */
    int64_t prefix = 1;
    (void)shoal__gguf_int_at(&prefix,
                             shoal__gguf_find(b->metadata, "tokenizer.ggml.add_space_prefix"), 0);
    shoal_json *steps = set_sequence(b->doc, "normalizer", "normalizers");
    if (prefix != 0) {
        shoal_json *prepend = of_type("Prepend");
        set_text(prepend, "prepend", space);
        shoal_json_append(steps, prepend);
    }
    shoal_json_append(steps, replace(" ", space));
    shoal_json *decoders = set_sequence(b->doc, "decoder", "decoders");
    shoal_json_append(decoders, replace(space, " "));
    shoal_json_append(decoders, of_type("ByteFallback"));
    shoal_json_append(decoders, of_type("Fuse"));
    if (prefix != 0) {
        shoal_json *strip = of_type("Strip");
        set_text(strip, "content", " ");
        shoal_json_set(strip, "start", shoal_json_new_int(1));
        shoal_json_set(strip, "stop", shoal_json_new_int(0));
        shoal_json_append(decoders, strip);
    }
    set_model(b, true, false);
    set_bool(b->config, "add_bos_token", true); /* unless the metadata says otherwise */
    SHOAL_TRY(add_tokens(b, true));

    const unsigned char *at = b->tokens->at;
    for (uint64_t id = 0; id < b->tokens->n; id++) {
        size_t n = 0;
        const char *text = shoal__gguf_next_string(&at, &n);
        if (type_of(b, id) == TOKEN_UNKNOWN)
            shoal_json_set(b->model, "unk_token", shoal_json_new_string(text, n));
    }
    shoal_json *merges = NULL;
    SHOAL_TRY(shoal__gguf_merges(&merges, b->tokens, b->types,
                                 shoal__gguf_find(b->metadata, "tokenizer.ggml.scores"), b->path,
                                 b->log));
    shoal_json_set(b->model, "merges", merges);
    return SHOAL_OK;
}

/* -- tokenizer_config.json -- */

static void set_token(const builder *b, const char *hf, const char *key)
{
    int64_t wanted = -1;
    if (!shoal__gguf_int_at(&wanted, shoal__gguf_find(b->metadata, key), 0) || wanted < 0 ||
        (uint64_t)wanted >= b->tokens->n)
        return;
    const unsigned char *at = b->tokens->at;
    for (int64_t id = 0; id <= wanted; id++) {
        size_t n = 0;
        const char *text = shoal__gguf_next_string(&at, &n);
        if (id == wanted)
            shoal_json_set(b->config, hf, shoal_json_new_string(text, n));
    }
}

static void build_config(const builder *b)
{
    static const char *const flags[] = {"add_bos_token", "add_eos_token"};
    set_token(b, "bos_token", "tokenizer.ggml.bos_token_id");
    set_token(b, "eos_token", "tokenizer.ggml.eos_token_id");
    for (int i = 0; i < 2; i++) {
        char key[64];
        int64_t value = 0;
        snprintf(key, sizeof key, "tokenizer.ggml.%s", flags[i]);
        if (shoal__gguf_int_at(&value, shoal__gguf_find(b->metadata, key), 0))
            set_bool(b->config, flags[i], value != 0);
    }
    size_t n = 0;
    const char *template =
        shoal__gguf_string(shoal__gguf_find(b->metadata, "tokenizer.chat_template"), &n);
    if (template != NULL)
        shoal_json_set(b->config, "chat_template", shoal_json_new_string(template, n));
}

static shoal_status build(builder *b)
{
    size_t n = 0;
    const char *model =
        shoal__gguf_string(shoal__gguf_find(b->metadata, "tokenizer.ggml.model"), &n);
    b->tokens = find_strings(b, "tokenizer.ggml.tokens");
    b->types = shoal__gguf_find(b->metadata, "tokenizer.ggml.token_type");
    bool byte = model != NULL && n == 4 && memcmp(model, "gpt2", n) == 0;
    bool sentence = model != NULL && n == 5 && memcmp(model, "llama", n) == 0;
    if (!byte && !sentence)
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: tokenizer.ggml.model is \"%.*s\"; supported are gpt2 and llama",
                          b->path,
                          model == NULL ? 9
                          : n > 40      ? 40
                                        : (int)n,
                          model == NULL ? "(missing)" : model);
    if (b->tokens == NULL || b->tokens->n > INT32_MAX)
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: tokenizer.ggml.tokens is missing or no array of strings", b->path);
    if (b->types != NULL && b->types->n != b->tokens->n)
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: tokenizer.ggml.token_type has %" PRIu64 " elements, wanted %" PRIu64
                          " as of tokenizer.ggml.tokens",
                          b->path, b->types->n, b->tokens->n);
    SHOAL_TRY(byte ? build_byte_level(b) : build_sentencepiece(b));
    build_config(b);
    return SHOAL_OK;
}

shoal_status shoal__gguf_tokenizer(shoal_json **tokenizer, shoal_json **config,
                                   const shoal__gguf *metadata, const char *path, shoal_log *log)
{
    *tokenizer = *config = NULL;
    if (shoal__gguf_find(metadata, "tokenizer.ggml.model") == NULL)
        return SHOAL_OK;
    builder b = {.metadata = metadata,
                 .path = path,
                 .log = log,
                 .doc = shoal_json_new_object(),
                 .config = shoal_json_new_object(),
                 .model = shoal_json_new_object(),
                 .vocab = shoal_json_new_object(),
                 .added = shoal_json_new_array()};
    set_text(b.doc, "version", "1.0");
    shoal_json_set(b.doc, "added_tokens", b.added);
    shoal_json_set(b.doc, "model", b.model);
    shoal_json_set(b.model, "vocab", b.vocab);
    shoal_status status = build(&b);
    if (status != SHOAL_OK) {
        shoal_json_close(b.doc);
        shoal_json_close(b.config);
        return status;
    }
    *tokenizer = b.doc;
    *config = b.config;
    return SHOAL_OK;
}
