#include "runtime/text/chat/format.h"

#include "runtime/text/utf8.h"

#include <string.h>

void shoal__chat_put_bytes(shoal__chat_prompt *p, const char *data, size_t n)
{
    if (p->status == SHOAL_OK)
        p->status = shoal__bytes_append(&p->text, data, n, p->log);
}

void shoal__chat_put(shoal__chat_prompt *p, const char *text)
{
    shoal__chat_put_bytes(p, text, strlen(text));
}

void shoal__chat_put_slice(shoal__chat_prompt *p, shoal__chat_slice text)
{
    shoal__chat_put_bytes(p, text.data, text.n);
}

void shoal__chat_put_content(shoal__chat_prompt *p, const shoal_chat_message *message)
{
    shoal__chat_put_bytes(p, message->content, message->n_bytes);
}

void shoal__chat_put_stripped(shoal__chat_prompt *p, const shoal_chat_message *message)
{
    shoal__chat_put_slice(p, shoal__chat_strip(shoal__chat_content(message)));
}

bool shoal__chat_is(const shoal_chat_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

void shoal__chat_fail(shoal__chat_prompt *p, size_t at, const char *text)
{
    if (p->status == SHOAL_OK)
        p->status = shoal_fail(p->log, SHOAL_BAD_DATA, "messages[%zu]: %s", at, text);
}

void shoal__chat_need_turns(shoal__chat_prompt *p, size_t first)
{
    if (first >= p->n)
        shoal__chat_fail(p, p->n - 1, "is the last one, wanted a turn of the user behind it");
    for (size_t i = first; i < p->n; i++) {
        const char *wanted = (i - first) % 2 == 0 ? "user" : "assistant";
        if (!shoal__chat_is(&p->message[i], wanted)) {
            char text[160];
            snprintf(text, sizeof text,
                     "is of the role %s, wanted %s: in this format user and assistant alternate "
                     "behind an optional system message",
                     p->message[i].role, wanted);
            shoal__chat_fail(p, i, text);
            return;
        }
    }
    shoal__chat_need_user_last(p);
}

void shoal__chat_need_user_last(shoal__chat_prompt *p)
{
    if (!shoal__chat_is(&p->message[p->n - 1], "user"))
        shoal__chat_fail(p, p->n - 1,
                         "is the last one and not the user's; in this format there is nothing to "
                         "answer then");
}

shoal__chat_slice shoal__chat_content(const shoal_chat_message *message)
{
    return (shoal__chat_slice){message->content, message->n_bytes};
}

/* Python's str.isspace: White_Space and the four separators of ASCII. */
static bool is_python_space(int32_t code_point)
{
    return shoal__is_space(code_point) || (code_point >= 0x1c && code_point <= 0x1f);
}

shoal__chat_slice shoal__chat_strip(shoal__chat_slice text)
{
    /* What is no UTF-8 is left alone; encoding will name the place. */
    if (text.n == 0 || shoal__utf8_valid(text.data, text.n) < text.n)
        return text;
    size_t begin = 0;
    for (size_t at = 0; begin < text.n; begin = at)
        if (!is_python_space(shoal__utf8_next(text.data, &at)))
            break;
    size_t end = text.n;
    for (size_t at = end; end > begin; end = at)
        if (!is_python_space(shoal__utf8_previous(text.data, &at)))
            break;
    return (shoal__chat_slice){text.data + begin, end - begin};
}

shoal__chat_slice shoal__chat_strip_lines(shoal__chat_slice text, bool begin, bool end)
{
    while (begin && text.n > 0 && text.data[0] == '\n') {
        text.data++;
        text.n--;
    }
    while (end && text.n > 0 && text.data[text.n - 1] == '\n')
        text.n--;
    return text;
}

bool shoal__chat_cut(shoal__chat_slice *before, shoal__chat_slice *behind, shoal__chat_slice text,
                     const char *mark, bool last)
{
    size_t n_mark = strlen(mark);
    const char *found = NULL;
    for (size_t at = 0; at + n_mark <= text.n && (last || found == NULL); at++)
        if (memcmp(text.data + at, mark, n_mark) == 0)
            found = text.data + at;
    if (found == NULL)
        return false;
    size_t n_before = (size_t)(found - text.data);
    *before = (shoal__chat_slice){text.data, n_before};
    *behind = (shoal__chat_slice){found + n_mark, text.n - n_before - n_mark};
    return true;
}

bool shoal__chat_begins(shoal__chat_slice text, const char *with)
{
    size_t n = strlen(with);
    return n <= text.n && memcmp(text.data, with, n) == 0;
}

bool shoal__chat_ends(shoal__chat_slice text, const char *with)
{
    size_t n = strlen(with);
    return n <= text.n && memcmp(text.data + text.n - n, with, n) == 0;
}

void shoal__chat_reasoning(shoal__chat_slice *reasoning, shoal__chat_slice *answer,
                           const shoal_chat_message *message)
{
    shoal__chat_slice text = shoal__chat_content(message);
    shoal__chat_slice thought, rest;
    *reasoning = (shoal__chat_slice){"", 0};
    *answer = text;
    if (!shoal__chat_cut(&thought, &rest, text, "</think>", true))
        return;
    *answer = shoal__chat_strip_lines(rest, true, false);
    (void)shoal__chat_cut(&thought, &rest, text, "</think>", false);
    thought = shoal__chat_strip_lines(thought, false, true);
    (void)shoal__chat_cut(&rest, &thought, thought, "<think>", true);
    *reasoning = shoal__chat_strip_lines(thought, true, false);
}
