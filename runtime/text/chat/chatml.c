/* ChatML: <|im_start|>role, a line feed, the message, <|im_end|>. Qwen's templates differ in what
 * stands in front when there is no system message, and in what becomes of earlier reasoning. */
#include "runtime/text/chat/format.h"

#define START "<|im_start|>"
#define END   "<|im_end|>\n"

typedef struct chatml {
    const char *system; /* in front of all if the first message is no system message */
    bool bos;
    bool reasoning;  /* answers behind the last question keep theirs, earlier ones lose it */
    bool needs_user; /* only a message of the user gets an answer */
    const char *begin;
} chatml;

/* The last message of the user that is no answer of a tool; n - 1 if there is none. */
static size_t last_question(const shoal__chat_prompt *p)
{
    for (size_t i = p->n; i > 0; i--) {
        shoal__chat_slice text = shoal__chat_content(&p->message[i - 1]);
        if (shoal__chat_is(&p->message[i - 1], "user") &&
            !(shoal__chat_begins(text, "<tool_response>") &&
              shoal__chat_ends(text, "</tool_response>")))
            return i - 1;
    }
    return p->n - 1;
}

static void write_answer(shoal__chat_prompt *p, size_t at, size_t question)
{
    shoal__chat_slice thought, answer;
    shoal__chat_reasoning(&thought, &answer, &p->message[at]);
    if (at > question && (at == p->n - 1 || thought.n > 0)) {
        shoal__chat_put(p, "<think>\n");
        shoal__chat_put_slice(p, shoal__chat_strip_lines(thought, true, true));
        shoal__chat_put(p, "\n</think>\n\n");
        answer = shoal__chat_strip_lines(answer, true, false);
    }
    shoal__chat_put_slice(p, answer);
}

static void write_turns(shoal__chat_prompt *p, const void *how)
{
    const chatml *c = how;
    if (c->needs_user && shoal__chat_is(&p->message[p->n - 1], "assistant"))
        shoal__chat_need_user_last(p);
    shoal__chat_put(p, c->bos ? p->bos : "");
    if (c->system != NULL && !shoal__chat_is(&p->message[0], "system")) {
        shoal__chat_put(p, START "system\n");
        shoal__chat_put(p, c->system);
        shoal__chat_put(p, END);
    }
    size_t question = last_question(p);
    for (size_t i = 0; i < p->n; i++) {
        shoal__chat_put(p, START);
        shoal__chat_put(p, p->message[i].role);
        shoal__chat_put(p, "\n");
        if (c->reasoning && shoal__chat_is(&p->message[i], "assistant"))
            write_answer(p, i, question);
        else
            shoal__chat_put_content(p, &p->message[i]);
        shoal__chat_put(p, END);
    }
    shoal__chat_put(p, START "assistant\n");
    shoal__chat_put(p, c->begin);
}

#define QWEN1_5_SYSTEM "You are a helpful assistant"
#define QWEN2_SYSTEM   "You are a helpful assistant."
#define QWEN2_5_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

static const chatml plain = {.begin = ""};
static const chatml plain_bos = {.bos = true, .begin = ""};
static const chatml qwen1_5 = {.system = QWEN1_5_SYSTEM, .needs_user = true, .begin = ""};
static const chatml qwen2 = {.system = QWEN2_SYSTEM, .begin = ""};
static const chatml qwen2_bos = {.system = QWEN2_SYSTEM, .bos = true, .begin = ""};
static const chatml qwen2_5 = {.system = QWEN2_5_SYSTEM, .begin = ""};
static const chatml qwen3 = {.reasoning = true, .begin = ""};
static const chatml qwen3_thinking = {.reasoning = true, .begin = "<think>\n"};

#define HAS_TURN      "{{'" START "'+message['role']+'\n'+message['content']+'" END "'}}"
#define HAS_BEGIN     "{{'" START "assistant\n'}}"
#define HAS_SYSTEM    START "system\n"
#define HAS_THINK     "think>"
#define NO_SYSTEM     "messages[0]['role']!='system'%}{{'" START "system\n"
#define GIVEN_SYSTEM  "{{'" START "system\n'+messages[0]['content']+'" END "'}}"
#define LAST_QUESTION "ns.last_query_index"
#define KEEP_THOUGHT                                                                               \
    "'\n<think>\n'+reasoning_content.strip('\n')+'\n</think>\n\n'+content.lstrip('\n')}}"
#define BEGIN_THOUGHT "{{'" START "assistant\n<think>\n'}}"
#define ANY_TURN      "{{'" START "'+message['role']+'\n'+"

const shoal__chat_format shoal__chat_chatml[] = {
    {
        .name = "ChatML",
        .has = {HAS_TURN, HAS_BEGIN},
        .lacks = {(HAS_SYSTEM), HAS_THINK, "bos_token", "You are", "<tool"},
        .write = write_turns,
        .how = &plain,
    },
    {
        .name = "ChatML",
        .has = {"{{bos_token}}", HAS_TURN, HAS_BEGIN},
        .lacks = {(HAS_SYSTEM), HAS_THINK, "You are", "<tool"},
        .write = write_turns,
        .how = &plain_bos,
    },
    {
        .name = "ChatML",
        .has = {"{{'" START "system\n'+message['content']+'" END "'}}",
                "{{'" START "user\n'+message['content']+'" END "'}}",
                "{{'" START "assistant\n'+message['content']+'" END "'}}", HAS_BEGIN},
        .lacks = {HAS_THINK, "bos_token", "You are", "<tool", "trim"},
        .write = write_turns,
        .how = &plain,
    },
    {
        .name = "Qwen1.5",
        .has = {NO_SYSTEM QWEN1_5_SYSTEM END "'}}",
                "{{'" START "'+message['role']+'\n'+message['content']}}", "{{'" END "'}}",
                "(loop.last and add_generation_prompt)or not loop.last",
                "messages[-1]['role']!='assistant'%}" HAS_BEGIN},
        .lacks = {HAS_THINK, "bos_token"},
        .write = write_turns,
        .how = &qwen1_5,
    },
    {
        .name = "Qwen2",
        .has = {NO_SYSTEM QWEN2_SYSTEM END "'}}", HAS_TURN, HAS_BEGIN},
        .lacks = {HAS_THINK, "bos_token"},
        .write = write_turns,
        .how = &qwen2,
    },
    {
        .name = "Qwen2",
        .has = {"{{bos_token}}", NO_SYSTEM QWEN2_SYSTEM END "'}}", HAS_TURN, HAS_BEGIN},
        .lacks = {HAS_THINK},
        .write = write_turns,
        .how = &qwen2_bos,
    },
    {
        .name = "Qwen2.5",
        .has = {GIVEN_SYSTEM "{%else%}{{'" START "system\n" QWEN2_5_SYSTEM END "'}}", HAS_TURN,
                HAS_BEGIN},
        .lacks = {HAS_THINK, "bos_token"},
        .write = write_turns,
        .how = &qwen2_5,
    },
    {
        .name = "Qwen3",
        .has = {GIVEN_SYSTEM, LAST_QUESTION, ANY_TURN, KEEP_THOUGHT,
                HAS_BEGIN "{%if enable_thinking is defined and enable_thinking is false%}"},
        .lacks = {"bos_token", "You are a helpful", BEGIN_THOUGHT},
        .write = write_turns,
        .how = &qwen3,
    },
    {
        .name = "Qwen3-Thinking",
        .has = {GIVEN_SYSTEM, LAST_QUESTION, ANY_TURN, KEEP_THOUGHT, BEGIN_THOUGHT},
        .lacks = {"bos_token", "You are a helpful", "enable_thinking"},
        .write = write_turns,
        .how = &qwen3_thinking,
    },
    {
        .name = "Qwen3-Instruct",
        .has = {GIVEN_SYSTEM, "{{'" START "'+message['role']+'\n'+content+'" END "'}}",
                "{{'" START "'+message['role']+'\n'+content}}", "{{'" END "'}}", HAS_BEGIN},
        .lacks = {HAS_THINK, "bos_token", "You are a helpful", LAST_QUESTION},
        .write = write_turns,
        .how = &plain,
    },
    {
        .name = "Qwen3-Coder",
        .has = {"{{'" START "system\n'+system_message}}", "{%if system_message is defined%}",
                "message['role']=='assistant'%}" HAS_TURN, HAS_BEGIN},
        .lacks = {HAS_THINK, "bos_token", LAST_QUESTION},
        .write = write_turns,
        .how = &plain,
    },
    {.name = NULL},
};
