/* GLM-4.5 and 4.6: [gMASK]<sop>, then <|role|>, a line feed and the message, without an end.
 * Answers behind the last message of the user keep their reasoning, earlier ones have it emptied.
 */
#include "runtime/text/chat/format.h"

static void write_answer(shoal__chat_prompt *p, size_t at, bool behind_user)
{
    shoal__chat_slice thought, answer;
    shoal__chat_reasoning(&thought, &answer, &p->message[at]);
    shoal__chat_put(p, "<|assistant|>\n<think>");
    if (behind_user)
        shoal__chat_put_slice(p, shoal__chat_strip(thought));
    shoal__chat_put(p, "</think>");
    answer = shoal__chat_strip(answer);
    shoal__chat_put(p, answer.n > 0 ? "\n" : "");
    shoal__chat_put_slice(p, answer);
}

static void write_glm(shoal__chat_prompt *p, const void *how)
{
    (void)how;
    size_t n_user = 0; /* messages up to the last of the user */
    for (size_t i = 0; i < p->n; i++)
        if (shoal__chat_is(&p->message[i], "user"))
            n_user = i + 1;
    shoal__chat_put(p, "[gMASK]<sop>");
    for (size_t i = 0; i < p->n; i++) {
        if (shoal__chat_is(&p->message[i], "assistant")) {
            write_answer(p, i, i >= n_user);
            continue;
        }
        shoal__chat_put(p, shoal__chat_is(&p->message[i], "user") ? "<|user|>\n" : "<|system|>\n");
        shoal__chat_put_content(p, &p->message[i]);
    }
    shoal__chat_put(p, "<|assistant|>");
}

const shoal__chat_format shoal__chat_glm[] = {
    {
        .name = "GLM-4.5",
        .has = {"[gMASK]<sop>", "<|user|>\n{{visible_text(m['content'])}}",
                "<|system|>\n{{visible_text(m['content'])}}",
                "loop.index0>ns.last_user_index and reasoning_content",
                "{{'\n<think>'+reasoning_content.strip()+'</think>'}}", "{{'\n<think></think>'}}",
                "<|assistant|>{{'\n<think></think>'if("},
        .write = write_glm,
    },
    {.name = NULL},
};
