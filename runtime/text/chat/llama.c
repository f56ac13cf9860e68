/* Llama and what took after it: [INST] of Llama 2 and Mixtral, headers of Llama 3. */
#include "runtime/text/chat/format.h"

/* -- [INST] -- */

typedef enum inst_system {
    SYSTEM_NONE,
    SYSTEM_FIRST, /* in the first message of the user, followed by an empty line */
    SYSTEM_LAST,  /* in the last one */
    SYSTEM_SYS,   /* in the first one, between <<SYS>> and <</SYS>> */
} inst_system;

typedef struct inst {
    inst_system system;
    bool strip;    /* messages without the white space around them */
    bool bos_each; /* in front of every message of the user, not once */
    const char *open, *close, *before_answer, *after_answer; /* eos comes before after_answer */
} inst;

/* A message of the user with the system message in it, stripped as a whole. */
static void write_with_system(shoal__chat_prompt *p, const inst *f, const shoal_chat_message *m)
{
    const shoal_chat_message *system = &p->message[0];
    bool sys = f->system == SYSTEM_SYS;
    shoal__chat_put(p, sys ? "<<SYS>>\n" : "");
    shoal__chat_put_content(p, system);
    shoal__chat_put(p, sys ? "\n<</SYS>>\n\n" : "\n\n");
    if (!f->strip) {
        shoal__chat_put_content(p, m);
        return;
    }
    /* The front is <<SYS>>, so only the end can be white space; all the way to the mark, if the
     * message is blank. */
    shoal__chat_slice text = shoal__chat_strip(shoal__chat_content(m));
    if (text.n > 0) {
        const char *end = text.data + text.n;
        shoal__chat_put_bytes(p, m->content, (size_t)(end - m->content));
    } else if (p->status == SHOAL_OK) {
        p->text.n -= 2;
    }
}

static void write_inst(shoal__chat_prompt *p, const void *how)
{
    const inst *f = how;
    bool has_system = shoal__chat_is(&p->message[0], "system");
    if (has_system && f->system == SYSTEM_NONE)
        shoal__chat_fail(p, 0, "is of the role system, which this format does not have");
    size_t first = has_system ? 1 : 0;
    shoal__chat_need_turns(p, first);
    if (!f->bos_each)
        shoal__chat_put(p, p->bos);
    for (size_t i = first; i < p->n; i++) {
        const shoal_chat_message *m = &p->message[i];
        bool user = (i - first) % 2 == 0;
        bool with_system = has_system && i == (f->system == SYSTEM_LAST ? p->n - 1 : first);
        shoal__chat_put(p, user && f->bos_each ? p->bos : "");
        shoal__chat_put(p, user ? f->open : f->before_answer);
        if (with_system)
            write_with_system(p, f, m);
        else if (f->strip)
            shoal__chat_put_stripped(p, m);
        else
            shoal__chat_put_content(p, m);
        shoal__chat_put(p, user ? f->close : f->after_answer);
        if (!user)
            shoal__chat_put(p, p->eos);
    }
}

/* -- headers -- */

typedef struct headers {
    bool knowledge; /* a system message with dates is always in front */
} headers;

static void write_header(shoal__chat_prompt *p, const char *role)
{
    shoal__chat_put(p, "<|start_header_id|>");
    shoal__chat_put(p, role);
    shoal__chat_put(p, "<|end_header_id|>\n\n");
}

static void write_headers(shoal__chat_prompt *p, const void *how)
{
    const headers *f = how;
    shoal__chat_put(p, p->bos);
    size_t first = 0;
    if (f->knowledge) {
        write_header(p, "system");
        shoal__chat_put(p, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (shoal__chat_is(&p->message[0], "system"))
            shoal__chat_put_stripped(p, &p->message[first++]);
        shoal__chat_put(p, "<|eot_id|>");
    }
    for (size_t i = first; i < p->n; i++) {
        write_header(p, p->message[i].role);
        shoal__chat_put_stripped(p, &p->message[i]);
        shoal__chat_put(p, "<|eot_id|>");
    }
    write_header(p, "assistant");
}

static const inst mixtral_first = {
    .open = "[INST] ", .close = " [/INST]", .before_answer = "", .after_answer = ""};
static const inst mixtral = {.system = SYSTEM_FIRST,
                             .open = " [INST] ",
                             .close = " [/INST]",
                             .before_answer = " ",
                             .after_answer = ""};
static const inst mixtral_8x22b = {.system = SYSTEM_LAST,
                                   .open = "[INST] ",
                                   .close = "[/INST]",
                                   .before_answer = " ",
                                   .after_answer = ""};
static const inst llama2 = {.system = SYSTEM_SYS,
                            .strip = true,
                            .bos_each = true,
                            .open = "[INST] ",
                            .close = " [/INST]",
                            .before_answer = " ",
                            .after_answer = " "};
static const headers llama3 = {.knowledge = false};
static const headers llama3_1 = {.knowledge = true};

#define ALTERNATE   "(message['role']=='user')!=(loop.index0%2==0)"
#define HAS_HEADER  "'<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'"
#define HAS_TRIMMED HAS_HEADER "+message['content']|trim+'<|eot_id|>'"
#define HAS_BEGIN   "{{'<|start_header_id|>assistant<|end_header_id|>\n\n'}}"

const shoal__chat_format shoal__chat_llama[] = {
    {
        .name = "Mixtral",
        .has = {"{{bos_token}}", ALTERNATE, "{{'[INST] '+message['content']+' [/INST]'}}",
                "{{message['content']+eos_token}}"},
        .lacks = {"system", "<<SYS>>"},
        .write = write_inst,
        .how = &mixtral_first,
    },
    {
        .name = "Mixtral",
        .has = {"{{bos_token}}", ALTERNATE, "loop.first and system_message is defined",
                "{{' [INST] '+system_message+'\n\n'+message['content']+' [/INST]'}}",
                "{{' [INST] '+message['content']+' [/INST]'}}",
                "{{' '+message['content']+eos_token}}"},
        .lacks = {"<<SYS>>"},
        .write = write_inst,
        .how = &mixtral,
    },
    {
        .name = "Mixtral-8x22B",
        .has = {"{{bos_token}}", ALTERNATE, "loop.last and system_message is defined",
                "{{'[INST] '+system_message+'\n\n'+message['content']+'[/INST]'}}",
                "{{'[INST] '+message['content']+'[/INST]'}}",
                "{{' '+message['content']+eos_token}}"},
        .lacks = {"<<SYS>>", "[AVAILABLE_TOOLS]"},
        .write = write_inst,
        .how = &mixtral_8x22b,
    },
    {
        .name = "Llama-2",
        .has = {ALTERNATE, "loop.index0==0 and system_message!=false",
                "'<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message['content']",
                "{{bos_token+'[INST] '+content.strip()+' [/INST]'}}",
                "{{' '+content.strip()+' '+eos_token}}", "{%set system_message=false%}"},
        .lacks = {"You are"},
        .write = write_inst,
        .how = &llama2,
    },
    {
        .name = "Llama-3",
        .has = {HAS_TRIMMED, "{%if loop.index0==0%}{%set content=bos_token+content%}", HAS_BEGIN},
        .lacks = {"Knowledge Date", "You are"},
        .write = write_headers,
        .how = &llama3,
    },
    {
        .name = "Llama-3.1",
        .has = {"{{bos_token}}", "Cutting Knowledge Date: December 2023\n",
                "{{'Today Date: '+date_string+'\n\n'}}", "{%set date_string='26 Jul 2024'%}",
                "{%set system_message=messages[0]['content']|trim%}", (HAS_TRIMMED), HAS_BEGIN},
        .lacks = {"strftime_now"},
        .write = write_headers,
        .how = &llama3_1,
    },
    {.name = NULL},
};
