/* The tokenizer as a whole, and who reads which part of it from disk.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_TOKENIZER_INTERNAL_H
#define SHOAL_TEXT_TOKENIZER_INTERNAL_H

#include "runtime/base/json.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/detokenize.h"
#include "runtime/text/normalize.h"
#include "runtime/text/pretokenize.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocab.h"

/* The place of the sequence itself in a template. */
#define SHOAL__TEMPLATE_SEQUENCE (-1)

typedef enum shoal__bos_rule {
    SHOAL__BOS_UNSTATED, /* tokenizer_config.json says nothing */
    SHOAL__BOS_ADD,
    SHOAL__BOS_NEVER,
} shoal__bos_rule;

struct shoal_tokenizer {
    shoal__vocab vocab;
    shoal__bpe bpe;
    shoal__added_set raw;        /* added tokens matched in the raw text */
    shoal__added_set normalized; /* and in the normalized text */
    shoal__normalizer normalizer;
    shoal__pretokenizer pretokenizer;
    shoal__detokenizer detokenizer;
    shoal__ids template; /* post-processor: ids and SHOAL__TEMPLATE_SEQUENCE */
    int32_t bos_id;      /* -1: none */
    shoal__bos_rule bos_rule;
    shoal__ids eos;
    shoal_pulse pulse;
    shoal__cutter cutter; /* working memory of encode, as are the following */
    shoal__bytes normal;
    shoal__bytes normal_scratch;
    shoal__bpe_scratch scratch;
};

/* A file that is being read, for error texts. */
typedef struct shoal__reader {
    const char *path;
    shoal_log *log;
} shoal__reader;

/* BAD_DATA "path: place: text". */
shoal_status shoal__reader_fail(const shoal__reader *reader, const char *place, const char *format,
                                ...) __attribute__((format(printf, 3, 4)));

/* Each reads its part of tokenizer.json into a zeroed part of t. The vocabulary comes first, then
 * the normalizer, the added tokens, the rest in any order. Errors: BAD_DATA, NO_MEMORY. */
shoal_status shoal__read_model(shoal_tokenizer *t, const shoal_json *doc, const shoal__reader *r);
shoal_status shoal__read_added_tokens(shoal_tokenizer *t, const shoal_json *doc,
                                      const shoal__reader *r);
shoal_status shoal__read_normalizer(shoal_tokenizer *t, const shoal_json *doc,
                                    const shoal__reader *r);
shoal_status shoal__read_pretokenizer(shoal_tokenizer *t, const shoal_json *doc,
                                      const shoal__reader *r);
shoal_status shoal__read_decoder(shoal_tokenizer *t, const shoal_json *doc, const shoal__reader *r);
shoal_status shoal__read_post_processor(shoal_tokenizer *t, const shoal_json *doc,
                                        const shoal__reader *r);

/* What lies beside tokenizer.json: bos, eos and whether prompts begin with BOS. */
shoal_status shoal__read_special_ids(shoal_tokenizer *t, const char *folder, shoal_log *log);

/* bos_token, eos_token and add_bos_token of a tokenizer_config.json document. */
shoal_status shoal__read_tokenizer_config(shoal_tokenizer *t, const shoal_json *config,
                                          const char *name, shoal_log *log);

/* A member that may be absent or null (then `otherwise`) but not of another type. */
shoal_status shoal__read_bool(bool *value, const shoal_json *object, const char *key,
                              bool otherwise, const char *place, const shoal__reader *r);

/* A member that must be a string; borrowed from the document. */
shoal_status shoal__read_string(const char **text, size_t *n_bytes, const shoal_json *object,
                                const char *key, const char *place, const shoal__reader *r);

/* {"String": "..."} or {"Regex": "..."} at object.pattern. */
shoal_status shoal__read_pattern(shoal__regex **regex, const shoal_json *object, const char *place,
                                 const shoal__reader *r);

#endif
