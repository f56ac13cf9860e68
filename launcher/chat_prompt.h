/* Messages to the ids of a prompt, by the chat format of MODEL. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_CHAT_PROMPT_H
#define SHOAL_LAUNCHER_CHAT_PROMPT_H

#include "launcher/session.h"
#include "runtime/text/chat.h"

/* The chat format of MODEL, opened into *chat if that is NULL. Errors: as shoal_chat_open, and
 * NO_INPUT (no tokenizer). */
shoal_status shoal_chat_need(shoal_chat **chat, const shoal_session *session);

/* ids of the prompt for messages[0, n): *ids is [*n_ids], malloc'ed. Formats that tell the date are
 * told today's, local time. Errors: as shoal_chat_render and shoal_tokenizer_encode. */
shoal_status shoal_chat_prompt(int32_t **ids, size_t *n_ids, const shoal_session *session,
                               const shoal_chat *chat, const shoal_chat_message *messages,
                               size_t n);

#endif
