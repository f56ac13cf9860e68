#include "launcher/chat_prompt.h"

#include "launcher/model_text.h"

#include <stdlib.h>
#include <time.h>

shoal_status shoal_chat_need(shoal_chat **chat, const shoal_session *s)
{
    SHOAL_TRY(shoal_session_need_tokenizer(s));
    return *chat != NULL ? SHOAL_OK : shoal_model_text_chat(chat, s->checkpoint, s->log);
}

static shoal_chat_date today(void)
{
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local) == NULL)
        return (shoal_chat_date){1970, 1, 1};
    return (shoal_chat_date){1900 + local.tm_year, 1 + local.tm_mon, local.tm_mday};
}

shoal_status shoal_chat_prompt(int32_t **ids, size_t *n_ids, const shoal_session *s,
                               const shoal_chat *chat, const shoal_chat_message *messages, size_t n)
{
    char *text;
    size_t n_bytes;
    SHOAL_TRY(shoal_chat_render(&text, &n_bytes, chat, messages, n, today(), s->log));
    shoal_status status =
        shoal_tokenizer_encode(s->tokenizer, ids, n_ids, text, n_bytes, false, s->log);
    free(text);
    return status;
}
