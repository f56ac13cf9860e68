/* Text to token ids and back: the BPE of a Hugging Face tokenizer.json, byte-level (DeepSeek, Qwen)
 * or SentencePiece style with byte-fallback (Mixtral), id for id what the `tokenizers` library
 * makes of the same file. Encoding goes
 *
 *     text -> added tokens cut out -> normalizer -> pre-tokenizer (words) -> BPE -> ids
 *
 * and decoding is bytes of the tokens one after the other, read as UTF-8. A tokenizer is read once
 * and then only read, except that encoding uses scratch memory of its own: one thread encodes at a
 * time. Text is UTF-8 and may hold zero bytes; ids are int32. What a letter or a space is, is said
 * by the Unicode version of the installed PCRE2 (14 on Debian 12), so characters that are newer
 * than it may be cut in other places than the library does.
 * Layering: text knows base only. */
#ifndef SHOAL_TEXT_TOKENIZER_H
#define SHOAL_TEXT_TOKENIZER_H

#include "runtime/base/json.h"
#include "runtime/base/pulse.h"

#include <stddef.h>

typedef struct shoal_tokenizer shoal_tokenizer;

/* Reads folder/tokenizer.json, and where they exist tokenizer_config.json (bos_token, eos_token,
 * add_bos_token) and generation_config.json, else config.json (eos_token_id). Errors: NO_INPUT (no
 * tokenizer.json), BAD_DATA (malformed or unsupported: names the file, the place, what was found
 * and what is supported), NO_MEMORY, IO. */
shoal_status shoal_tokenizer_open(shoal_tokenizer **tokenizer, const char *folder, shoal_log *log);
/* The same from documents that came from elsewhere (the metadata of a GGUF): tokenizer.json and
 * tokenizer_config.json, which may be NULL. `name` is where from, for messages. Nothing is kept of
 * the arguments. Errors: as above. */
shoal_status shoal_tokenizer_open_documents(shoal_tokenizer **tokenizer, const shoal_json *document,
                                            const shoal_json *config, const char *name,
                                            shoal_log *log);
void shoal_tokenizer_close(shoal_tokenizer *tokenizer); /* accepts NULL */

/* What encoding a long text beats now and then, many times a second; it may end it. */
void shoal_tokenizer_set_pulse(shoal_tokenizer *tokenizer, shoal_pulse pulse);

/* ids of text: *ids is [*n], malloc'ed, the caller's to free (never NULL on success). Added tokens
 * written out in the text become their ids. `special` adds what the post-processor of
 * tokenizer.json adds. Errors: BAD_DATA (text is not UTF-8: names the byte offset; a pattern ran
 * into its match limit), NO_MEMORY, what the pulse gives. */
shoal_status shoal_tokenizer_encode(shoal_tokenizer *tokenizer, int32_t **ids, size_t *n,
                                    const char *text, size_t n_bytes, bool special, shoal_log *log);

/* What a prompt becomes before generation: the ids of text with BOS first where add_bos_token of
 * tokenizer_config.json is true (unless the text begins with it already) and without where it is
 * false; if it says nothing, with what the post-processor adds. Errors as encode. */
shoal_status shoal_tokenizer_encode_prompt(shoal_tokenizer *tokenizer, int32_t **ids, size_t *n,
                                           const char *text, size_t n_bytes, shoal_log *log);

/* Text of ids: *text is [*n_bytes] valid UTF-8 and a zero byte behind it, malloc'ed, the caller's
 * to free. Bytes that are no UTF-8 become U+FFFD as in the `tokenizers` library. Special tokens are
 * left out unless keep_special. Errors: BAD_DATA (id outside [0, n_vocab)), NO_MEMORY. */
shoal_status shoal_tokenizer_decode(const shoal_tokenizer *tokenizer, char **text, size_t *n_bytes,
                                    const int32_t *ids, size_t n, bool keep_special,
                                    shoal_log *log);

/* Largest id + 1, added tokens included; ids between may be unused (they decode to nothing). The
 * model's own vocabulary may be larger (padding rows). */
int32_t shoal_tokenizer_n_vocab(const shoal_tokenizer *tokenizer);

/* Id of bos_token, -1 if there is none. */
int32_t shoal_tokenizer_bos(const shoal_tokenizer *tokenizer);

/* Ids that end a text, [*n], owned by the tokenizer: eos_token of tokenizer_config.json, then
 * eos_token_id (one or a list) of generation_config.json or, if that says nothing, config.json;
 * each once. *n may be 0. */
const int32_t *shoal_tokenizer_eos(const shoal_tokenizer *tokenizer, size_t *n);

/* Whether id is among them. */
bool shoal_tokenizer_is_eos(const shoal_tokenizer *tokenizer, int32_t id);

/* An added token marked special in tokenizer.json. False for any other number. */
bool shoal_tokenizer_is_special(const shoal_tokenizer *tokenizer, int32_t id);

/* Id of a token by its text as it is written in tokenizer.json (for chat templates and stop
 * tokens), -1 if there is none. */
int32_t shoal_tokenizer_find(const shoal_tokenizer *tokenizer, const char *token, size_t n_bytes);

/* Streaming decode: the pieces of all feeds and the flush, one after the other, are what
 * shoal_tokenizer_decode makes of all ids, and every piece is whole UTF-8 characters: the first
 * bytes of a character wait until its last one has come. One decoder per sequence; the tokenizer
 * must outlive it. */
typedef struct shoal_decoder shoal_decoder;

/* Errors: NO_MEMORY. */
shoal_status shoal_decoder_open(shoal_decoder **decoder, const shoal_tokenizer *tokenizer,
                                bool keep_special, shoal_log *log);
void shoal_decoder_close(shoal_decoder *decoder); /* accepts NULL */

/* Next id. *text is [*n_bytes], not zero-terminated, often empty, valid until the next call on the
 * decoder. An id of the model that the tokenizer does not know (a padding row) adds nothing.
 * Errors: BAD_DATA (negative id), NO_MEMORY. */
shoal_status shoal_decoder_feed(shoal_decoder *decoder, const char **text, size_t *n_bytes,
                                int32_t id, shoal_log *log);

/* End of the sequence: what was held back (an unfinished character becomes U+FFFD). The decoder can
 * then begin a new sequence. */
void shoal_decoder_flush(shoal_decoder *decoder, const char **text, size_t *n_bytes);

#endif
