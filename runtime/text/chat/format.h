/* What the chat formats share: how one is described, and how it writes. A family has one file with
 * a table of its formats; templates of several models that render alike are one row.
 * Layering: text, internal. */
#ifndef SHOAL_TEXT_CHAT_FORMAT_H
#define SHOAL_TEXT_CHAT_FORMAT_H

#include "runtime/text/buffer.h"
#include "runtime/text/chat.h"

/* A prompt that is being written. The first failure stays in `status`, and nothing is written
 * behind it; what writes need not be checked one by one. */
typedef struct shoal__chat_prompt {
    shoal__bytes text;
    shoal_status status;
    shoal_log *log;
    const shoal_chat_message *message; /* [n], roles are known ones, n >= 1 */
    size_t n;
    const char *bos, *eos; /* "" where there is none */
    shoal_chat_date date;
} shoal__chat_prompt;

typedef struct shoal__chat_format {
    const char *name;     /* several rows of one family may share it */
    const char *has[7];   /* all of these are in the canonical template; ends with NULL */
    const char *lacks[5]; /* and none of these */
    void (*write)(shoal__chat_prompt *prompt, const void *how);
    const void *how; /* what the rows of a family differ in */
} shoal__chat_format;

/* The families; each table ends with a NULL name. */
extern const shoal__chat_format shoal__chat_deepseek[];
extern const shoal__chat_format shoal__chat_chatml[];
extern const shoal__chat_format shoal__chat_llama[];
extern const shoal__chat_format shoal__chat_harmony[];
extern const shoal__chat_format shoal__chat_glm[];
extern const shoal__chat_format shoal__chat_granite[];

/* The template in one spelling, appended to out: no comments; no white space that Jinja drops
 * (`-`, and trim_blocks and lstrip_blocks as the transformers library sets them); within tags no
 * spaces but between words, literals in single quotes with their escapes resolved, neighbouring
 * literals joined ('a' + 'b' is 'ab'), m.role and m.content as m['role'] and m['content']. The
 * result is for searching only. Errors: BAD_DATA (a tag or literal has no end), NO_MEMORY. */
shoal_status shoal__chat_canonical(shoal__bytes *out, const shoal_chat_source *source,
                                   shoal_log *log);

void shoal__chat_put(shoal__chat_prompt *p, const char *text);
void shoal__chat_put_bytes(shoal__chat_prompt *p, const char *data, size_t n);
/* The content of a message, whole, or without white space (Python's str.strip) around it. */
void shoal__chat_put_content(shoal__chat_prompt *p, const shoal_chat_message *message);
void shoal__chat_put_stripped(shoal__chat_prompt *p, const shoal_chat_message *message);

bool shoal__chat_is(const shoal_chat_message *message, const char *role);

/* BAD_DATA "messages[at]: text", kept as the status. */
void shoal__chat_fail(shoal__chat_prompt *p, size_t at, const char *text);

/* Fails unless messages[first, n) are user, assistant, user, ..., user. */
void shoal__chat_need_turns(shoal__chat_prompt *p, size_t first);

/* Fails unless the last message is the user's: the format has no place for an answer elsewhere. */
void shoal__chat_need_user_last(shoal__chat_prompt *p);

/* Parts of a text. */
typedef struct shoal__chat_slice {
    const char *data;
    size_t n;
} shoal__chat_slice;
shoal__chat_slice shoal__chat_content(const shoal_chat_message *message);
shoal__chat_slice shoal__chat_strip(shoal__chat_slice text);
/* Without line feeds at its begin and its end. */
shoal__chat_slice shoal__chat_strip_lines(shoal__chat_slice text, bool begin, bool end);
/* Cut at the first or the last `mark`; false if there is none. */
bool shoal__chat_cut(shoal__chat_slice *before, shoal__chat_slice *behind, shoal__chat_slice text,
                     const char *mark, bool last);
bool shoal__chat_begins(shoal__chat_slice text, const char *with);
bool shoal__chat_ends(shoal__chat_slice text, const char *with);

/* A message of reasoning models, cut in two: <think>\nreasoning\n</think>\nanswer. Without
 * </think> there is no reasoning. White space: line feeds next to the marks are dropped. */
void shoal__chat_reasoning(shoal__chat_slice *reasoning, shoal__chat_slice *answer,
                           const shoal_chat_message *message);

void shoal__chat_put_slice(shoal__chat_prompt *p, shoal__chat_slice text);

#endif
