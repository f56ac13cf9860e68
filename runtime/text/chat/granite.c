/* Granite 3: <|start_of_role|>role<|end_of_role|>text<|end_of_text|>. Since 3.1 there is always a
 * system message; the one that stands in for a missing one tells the date. */
#include "runtime/text/chat/format.h"

typedef struct granite {
    const char *cutoff; /* the standing-in system message, in front of the date; NULL: none */
    const char *behind; /* and behind it */
} granite;

static void write_granite(shoal__chat_prompt *p, const void *how)
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    const granite *g = how;
    if (g->cutoff != NULL && p->n == 1 && shoal__chat_is(&p->message[0], "system"))
        shoal__chat_fail(p, 0, "is of the role system, and nothing is behind it to answer");
    if (g->cutoff != NULL && !shoal__chat_is(&p->message[0], "system")) {
        char date[64];
        snprintf(date, sizeof date, "%s %02d, %04d", months[p->date.month - 1], (int)p->date.day,
                 (int)p->date.year);
        shoal__chat_put(p, "<|start_of_role|>system<|end_of_role|>");
        shoal__chat_put(p, g->cutoff);
        shoal__chat_put(p, date);
        shoal__chat_put(p, g->behind);
        shoal__chat_put(p, "<|end_of_text|>\n");
    }
    for (size_t i = 0; i < p->n; i++) {
        shoal__chat_put(p, "<|start_of_role|>");
        shoal__chat_put(p, p->message[i].role);
        shoal__chat_put(p, "<|end_of_role|>");
        shoal__chat_put_content(p, &p->message[i]);
        shoal__chat_put(p, "<|end_of_text|>\n");
    }
    shoal__chat_put(p, "<|start_of_role|>assistant<|end_of_role|>");
}

#define CUTOFF    "Knowledge Cutoff Date: April 2024."
#define TODAY     "Today's Date: "
#define DEVELOPED "You are Granite, developed by IBM."
#define ASSISTANT " You are a helpful AI assistant."

static const granite v3_0 = {.cutoff = NULL};
static const granite v3_1 = {.cutoff = CUTOFF "\n" TODAY, .behind = ".\n" DEVELOPED ASSISTANT};
static const granite v3_3 = {.cutoff = CUTOFF " " TODAY, .behind = ". " DEVELOPED ASSISTANT};
static const granite v3_3_lines = {.cutoff = " " CUTOFF "\n " TODAY,
                                   .behind = ". " DEVELOPED ASSISTANT};

#define TURN(role)                                                                                 \
    "{{'<|start_of_role|>" role "<|end_of_role|>'+message['content']+'<|end_of_text|>\n'}}"
#define ANY_TURN                                                                                   \
    "{{'<|start_of_role|>'+message['role']+'<|end_of_role|>'+message['content']+"                  \
    "'<|end_of_text|>\n'}}"
#define GIVEN_SYSTEM                                                                               \
    "{{'<|start_of_role|>system<|end_of_role|>'+system_message+'<|end_of_text|>\n'}}"
#define ELSE_ASSISTANT "{%else%}{%set system_message=system_message+'" ASSISTANT "'%}"
#define HAS_BEGIN      "{{'<|start_of_role|>assistant'}}"
#define DATE           "'+strftime_now('%B %d, %Y')+'"

const shoal__chat_format shoal__chat_granite[] = {
    {
        .name = "Granite-3.0",
        .has = {TURN("system"), TURN("user"), TURN("assistant"),
                "{{'<|start_of_role|>assistant<|end_of_role|>'}}"},
        .lacks = {"Knowledge Cutoff", "strftime_now", "system_message"},
        .write = write_granite,
        .how = &v3_0,
    },
    {
        .name = "Granite-3.1",
        .has = {"{%set system_message='" CUTOFF "\n" TODAY DATE ".\n" DEVELOPED "'%}",
                ELSE_ASSISTANT, GIVEN_SYSTEM, ANY_TURN, HAS_BEGIN},
        .write = write_granite,
        .how = &v3_1,
    },
    {
        .name = "Granite-3.3",
        .has = {"{%set system_message='" CUTOFF " " TODAY DATE ". " DEVELOPED "'%}", ELSE_ASSISTANT,
                GIVEN_SYSTEM, ANY_TURN, HAS_BEGIN},
        .write = write_granite,
        .how = &v3_3,
    },
    {
        .name = "Granite-3.3",
        .has = {"{%set system_message=' " CUTOFF "\n " TODAY DATE ". " DEVELOPED "'%}",
                ELSE_ASSISTANT, GIVEN_SYSTEM, ANY_TURN, HAS_BEGIN},
        .write = write_granite,
        .how = &v3_3_lines,
    },
    {.name = NULL},
};
