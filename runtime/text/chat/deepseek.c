/* DeepSeek. V2: plain words in front of the turns. Since V2.5: <｜User｜> and <｜Assistant｜>, all
 * system messages in front; the reasoning models drop what was thought in earlier answers. */
#include "runtime/text/chat/format.h"

#define USER      "<｜User｜>"
#define ASSISTANT "<｜Assistant｜>"
#define END       "<｜end▁of▁sentence｜>"

/* -- V2 -- */

static void write_v2(shoal__chat_prompt *p, const void *how)
{
    (void)how;
    shoal__chat_put(p, p->bos);
    for (size_t i = 0; i < p->n; i++) {
        const shoal_chat_message *m = &p->message[i];
        bool answer = shoal__chat_is(m, "assistant");
        shoal__chat_put(p, answer ? "Assistant: " : shoal__chat_is(m, "user") ? "User: " : "");
        shoal__chat_put_content(p, m);
        shoal__chat_put(p, answer ? p->eos : "\n\n");
    }
    shoal__chat_put(p, "Assistant:");
}

/* -- V2.5 and later -- */

typedef enum deepseek_thought {
    THOUGHT_KEPT,
    THOUGHT_BEFORE_LAST,  /* what stands before the last </think> is dropped */
    THOUGHT_BEFORE_FIRST, /* before the first */
} deepseek_thought;

typedef enum deepseek_mark {
    MARK_ANSWERS, /* <｜Assistant｜> begins each answer, and the prompt ends with one */
    MARK_USERS,   /* it ends each message of the user, and a prompt that does not end so */
    MARK_FIRST,   /* with </think>, in front of the first answer to each user */
} deepseek_mark;

typedef struct deepseek {
    bool all_systems;   /* joined by empty lines; else the last one counts */
    const char *indent; /* V2.5 leaves this in front, once for each system message */
    deepseek_thought thought;
    deepseek_mark mark;
    const char *begin; /* of the answer */
} deepseek;

static void write_systems(shoal__chat_prompt *p, const deepseek *d)
{
    const shoal_chat_message *last = NULL;
    for (size_t i = 0; i < p->n; i++)
        if (shoal__chat_is(&p->message[i], "system")) {
            shoal__chat_put(p, d->indent);
            last = &p->message[i];
        }
    shoal__chat_put(p, p->bos);
    if (!d->all_systems && last != NULL)
        shoal__chat_put_content(p, last);
    bool first = true;
    for (size_t i = 0; i < p->n && d->all_systems; i++) {
        if (!shoal__chat_is(&p->message[i], "system"))
            continue;
        shoal__chat_put(p, first ? "" : "\n\n");
        shoal__chat_put_content(p, &p->message[i]);
        first = false;
    }
}

static void write_answer(shoal__chat_prompt *p, const deepseek *d, const shoal_chat_message *m)
{
    shoal__chat_slice text = shoal__chat_content(m);
    shoal__chat_slice before;
    if (d->thought != THOUGHT_KEPT)
        (void)shoal__chat_cut(&before, &text, text, "</think>", d->thought == THOUGHT_BEFORE_LAST);
    shoal__chat_put_slice(p, text);
    shoal__chat_put(p, END);
}

static void write_turns(shoal__chat_prompt *p, const void *how)
{
    const deepseek *d = how;
    if (d->mark == MARK_FIRST)
        shoal__chat_need_user_last(p);
    write_systems(p, d);
    bool after_user = false;
    for (size_t i = 0; i < p->n; i++) {
        const shoal_chat_message *m = &p->message[i];
        if (shoal__chat_is(m, "user")) {
            shoal__chat_put(p, USER);
            shoal__chat_put_content(p, m);
            shoal__chat_put(p, d->mark == MARK_USERS ? ASSISTANT : "");
            after_user = true;
        } else if (shoal__chat_is(m, "assistant")) {
            if (d->mark == MARK_ANSWERS)
                shoal__chat_put(p, ASSISTANT);
            else if (d->mark == MARK_FIRST && after_user)
                shoal__chat_put(p, ASSISTANT "</think>");
            write_answer(p, d, m);
            after_user = false;
        }
    }
    if (d->mark != MARK_USERS || !after_user)
        shoal__chat_put(p, ASSISTANT);
    shoal__chat_put(p, d->begin);
}

static const deepseek v25 = {.indent = "        ", .begin = ""};
static const deepseek v3_first = {.indent = "", .begin = ""};
static const deepseek v3 = {.all_systems = true, .indent = "", .begin = ""};
static const deepseek r1_last_plain = {.indent = "", .thought = THOUGHT_BEFORE_LAST, .begin = ""};
static const deepseek r1_last = {
    .indent = "", .thought = THOUGHT_BEFORE_LAST, .begin = "<think>\n"};
static const deepseek r1_all_plain = {
    .all_systems = true, .indent = "", .thought = THOUGHT_BEFORE_LAST, .begin = ""};
static const deepseek r1_all = {
    .all_systems = true, .indent = "", .thought = THOUGHT_BEFORE_LAST, .begin = "<think>\n"};
static const deepseek r1_0528 = {.all_systems = true,
                                 .indent = "",
                                 .thought = THOUGHT_BEFORE_LAST,
                                 .mark = MARK_USERS,
                                 .begin = ""};
static const deepseek v31 = {.all_systems = true,
                             .indent = "",
                             .thought = THOUGHT_BEFORE_FIRST,
                             .mark = MARK_FIRST,
                             .begin = "</think>"};

#define HAS_USER    "{{'" USER "'+message['content']}}"
#define HAS_ANSWER  "{{'" ASSISTANT "'+message['content']+'" END "'}}"
#define HAS_CONTENT "{{'" ASSISTANT "'+content+'" END "'}}"
#define HAS_PLAIN   "{{'" ASSISTANT "'}}{%endif%}"
#define HAS_THINK   "{{'" ASSISTANT "<think>\n'}}{%endif%}"
#define LAST_SYSTEM "{%set ns.system_prompt=message['content']%}"
#define ALL_SYSTEMS "{%set ns.system_prompt=ns.system_prompt+'\n\n'+message['content']%}"
#define SYSTEM_HERE "{{bos_token}}{{ns.system_prompt}}"
#define CUT_LAST    "content.split('</think>')[-1]"
#define CUT_FIRST   "content.split('</think>',1)[1]"

const shoal__chat_format shoal__chat_deepseek[] = {
    {
        .name = "DeepSeek-V2",
        .has = {"{{bos_token}}", "{{'User: '+message['content']+'\n\n'}}",
                "{{'Assistant: '+message['content']+eos_token}}", "{{message['content']+'\n\n'}}",
                "{{'Assistant:'}}"},
        .lacks = {USER},
        .write = write_v2,
    },
    {
        .name = "DeepSeek-V2.5",
        .has = {"        " LAST_SYSTEM, SYSTEM_HERE, HAS_USER, HAS_ANSWER, HAS_PLAIN},
        .lacks = {"think>", ALL_SYSTEMS},
        .write = write_turns,
        .how = &v25,
    },
    {
        .name = "DeepSeek-V3",
        .has = {LAST_SYSTEM, SYSTEM_HERE, HAS_USER, HAS_ANSWER, HAS_PLAIN},
        .lacks = {"think>", ALL_SYSTEMS, " " LAST_SYSTEM},
        .write = write_turns,
        .how = &v3_first,
    },
    {
        .name = "DeepSeek-V3",
        .has = {ALL_SYSTEMS, SYSTEM_HERE, HAS_USER, HAS_ANSWER, HAS_PLAIN},
        .lacks = {"think>", LAST_SYSTEM},
        .write = write_turns,
        .how = &v3,
    },
    {
        .name = "DeepSeek-R1",
        .has = {LAST_SYSTEM, SYSTEM_HERE, HAS_USER, CUT_LAST, HAS_CONTENT, HAS_PLAIN},
        .lacks = {HAS_THINK, ALL_SYSTEMS},
        .write = write_turns,
        .how = &r1_last_plain,
    },
    {
        .name = "DeepSeek-R1",
        .has = {LAST_SYSTEM, SYSTEM_HERE, HAS_USER, CUT_LAST, HAS_CONTENT, HAS_THINK},
        .lacks = {ALL_SYSTEMS},
        .write = write_turns,
        .how = &r1_last,
    },
    {
        .name = "DeepSeek-R1",
        .has = {ALL_SYSTEMS, SYSTEM_HERE, HAS_USER, CUT_LAST, HAS_CONTENT, HAS_PLAIN},
        .lacks = {HAS_THINK, LAST_SYSTEM},
        .write = write_turns,
        .how = &r1_all_plain,
    },
    {
        .name = "DeepSeek-R1",
        .has = {ALL_SYSTEMS, SYSTEM_HERE, HAS_USER, CUT_LAST, HAS_CONTENT, HAS_THINK},
        .lacks = {LAST_SYSTEM},
        .write = write_turns,
        .how = &r1_all,
    },
    {
        .name = "DeepSeek-R1-0528",
        .has = {ALL_SYSTEMS, SYSTEM_HERE, "{{'" USER "'+content+'" ASSISTANT "'}}", CUT_LAST,
                "{{content+'" END "'}}", "not ns.is_last_user", HAS_PLAIN},
        .lacks = {"<think>", LAST_SYSTEM},
        .write = write_turns,
        .how = &r1_0528,
    },
    {
        .name = "DeepSeek-V3.1",
        .has = {ALL_SYSTEMS, SYSTEM_HERE, HAS_USER, CUT_FIRST, "{{content+'" END "'}}",
                "{%set thinking=false%}",
                "{{'" ASSISTANT "'}}{%if not thinking%}{{'</think>'}}{%else%}{{'<think>'}}"},
        .lacks = {LAST_SYSTEM},
        .write = write_turns,
        .how = &v31,
    },
    {.name = NULL},
};
