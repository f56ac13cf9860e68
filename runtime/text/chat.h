/* Chat: a conversation becomes the prompt that a model was trained on. Checkpoints carry a Jinja
 * template for this (`chat_template` of tokenizer_config.json, or the file chat_template.jinja
 * beside it). It is not run: it is recognised, by expressions that only the templates of one format
 * have, and the format is written in C (chat/). A template that is not recognised is refused, as a
 * prompt that is nearly right makes answers that are quietly worse.
 *
 *     chat_template --recognised--> format;   format(messages, date) --> text --> token ids
 *
 * The text begins with BOS where the format has one and ends where the answer begins. It is to be
 * encoded by shoal_tokenizer_encode without `special`, not as an ordinary prompt. Special tokens
 * that a message itself writes out are recognised then, as by the `transformers` library.
 * Layering: text. */
#ifndef SHOAL_TEXT_CHAT_H
#define SHOAL_TEXT_CHAT_H

#include "runtime/base/log.h"

#include <stddef.h>

typedef struct shoal_chat shoal_chat;

typedef struct shoal_chat_message {
    const char *role;    /* "system", "user" or "assistant" */
    const char *content; /* [n_bytes] UTF-8, may hold zero bytes */
    size_t n_bytes;
} shoal_chat_message;

/* Some formats tell the model the day: 1 <= month <= 12, 1 <= day <= 31. */
typedef struct shoal_chat_date {
    int32_t year, month, day;
} shoal_chat_date;

/* Recognises the template of a folder: its chat_template.jinja, else `chat_template` of its
 * tokenizer_config.json, which is a text or a list of {name, template} with one named "default".
 * bos_token and eos_token are read there too. Errors: BAD_DATA (no template, or one that is not
 * recognised: names the folder and lists what is; a malformed file), NO_INPUT (a file cannot be
 * read), NO_MEMORY, IO. */
shoal_status shoal_chat_open(shoal_chat **chat, const char *folder, shoal_log *log);

/* The same from texts that came from elsewhere. `name` is where from, for messages; a NULL template
 * is none; bos and eos are the texts of these tokens, NULL where there is none. Nothing is kept of
 * the arguments. Errors: BAD_DATA, NO_MEMORY. */
typedef struct shoal_chat_source {
    const char *name;
    const char *template; /* [n_bytes] */
    size_t n_bytes;
    const char *bos, *eos;
} shoal_chat_source;
shoal_status shoal_chat_open_text(shoal_chat **chat, const shoal_chat_source *source,
                                  shoal_log *log);

void shoal_chat_close(shoal_chat *chat); /* accepts NULL */

/* What the format is called ("DeepSeek-V3.1"); constant text. */
const char *shoal_chat_name(const shoal_chat *chat);

/* The prompt for the answer to messages[0, n): *text is [*n_bytes] and a zero byte behind it,
 * malloc'ed, the caller's to free. Errors: BAD_DATA (no messages, an unknown role, an order of
 * roles that the format has no way to write: names the message), NO_MEMORY. */
shoal_status shoal_chat_render(char **text, size_t *n_bytes, const shoal_chat *chat,
                               const shoal_chat_message *messages, size_t n, shoal_chat_date date,
                               shoal_log *log);

#endif
