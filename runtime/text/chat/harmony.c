/* Harmony, the format of gpt-oss: <|start|>role<|message|>text<|end|>. What the caller calls system
 * is the developer's message here; the system message itself is always the same but for the date.
 * Answers go to the channel "final"; the model chooses the channel of its next message itself. */
#include "runtime/text/chat/format.h"

static void write_harmony(shoal__chat_prompt *p, const void *how)
{
    (void)how;
    char date[48];
    snprintf(date, sizeof date, "%04d-%02d-%02d", (int)p->date.year, (int)p->date.month,
             (int)p->date.day);
    shoal__chat_put(p, "<|start|>system<|message|>"
                       "You are ChatGPT, a large language model trained by OpenAI.\n"
                       "Knowledge cutoff: 2024-06\n"
                       "Current date: ");
    shoal__chat_put(p, date);
    shoal__chat_put(p, "\n\nReasoning: medium\n\n"
                       "# Valid channels: analysis, commentary, final. "
                       "Channel must be included for every message.<|end|>");
    size_t first = shoal__chat_is(&p->message[0], "system") ? 1 : 0;
    if (first == 1 && p->message[0].n_bytes > 0) {
        shoal__chat_put(p, "<|start|>developer<|message|># Instructions\n\n");
        shoal__chat_put_content(p, &p->message[0]);
        shoal__chat_put(p, "\n\n<|end|>");
    }
    for (size_t i = first; i < p->n; i++) {
        const shoal_chat_message *m = &p->message[i];
        shoal__chat_slice text = shoal__chat_content(m), before, behind;
        bool answer = shoal__chat_is(m, "assistant");
        if (shoal__chat_is(m, "system"))
            shoal__chat_fail(p, i, "is of the role system, which only the first one can be here");
        if (answer &&
            (shoal__chat_cut(&before, &behind, text, "<|channel|>analysis<|message|>", false) ||
             shoal__chat_cut(&before, &behind, text, "<|channel|>final<|message|>", false)))
            shoal__chat_fail(p, i,
                             "has <|channel|> tags in its content; give the text of the "
                             "final channel alone");
        shoal__chat_put(p, answer ? "<|start|>assistant<|channel|>final<|message|>"
                                  : "<|start|>user<|message|>");
        shoal__chat_put_slice(p, text);
        shoal__chat_put(p, "<|end|>");
    }
    shoal__chat_put(p, "<|start|>assistant");
}

const shoal__chat_format shoal__chat_harmony[] = {
    {
        .name = "gpt-oss (harmony)",
        .has = {"{{'<|start|>system<|message|>'}}",
                "'You are ChatGPT, a large language model trained by OpenAI.'",
                "{{'Current date: '+strftime_now('%Y-%m-%d')+'\n\n'}}",
                "{%set reasoning_effort='medium'%}", "{{'# Instructions\n\n'}}",
                "'<|start|>assistant<|channel|>final<|message|>'+message['content']+'<|end|>'",
                "{{'<|start|>user<|message|>'+message['content']+'<|end|>'}}"},
        .write = write_harmony,
    },
    {.name = NULL},
};
