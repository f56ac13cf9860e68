/* A chat template in one spelling; see format.h. */
#include "runtime/text/chat/format.h"

#include <ctype.h>
#include <string.h>

typedef struct canonical {
    shoal__bytes *out;
    const char *text; /* [n] */
    size_t n;
    size_t at;
    const char *name; /* where it comes from */
    shoal_log *log;
    bool trim_left;    /* the tag before ended with a dash */
    int64_t n_open;    /* blocks without their end so far */
    bool drop_newline; /* the tag before was a block or a comment */
} canonical;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (c & 0x80) != 0;
}

static shoal_status fail(const canonical *c, const char *what, size_t at)
{
    return shoal_fail(c->log, SHOAL_BAD_DATA,
                      "%s: the chat template: %s at byte %zu of %zu has no end", c->name, what, at,
                      c->n);
}

static bool is_tag(const canonical *c, size_t at)
{
    if (at + 1 >= c->n || c->text[at] != '{')
        return false;
    char kind = c->text[at + 1];
    return kind == '{' || kind == '%' || kind == '#';
}

/* The text up to the next tag, without the white space that Jinja drops. */
static shoal_status put_raw(canonical *c)
{
    size_t begin = c->at;
    while (c->at < c->n && !is_tag(c, c->at))
        c->at++;
    size_t end = c->at;
    bool more = end < c->n;
    if (c->drop_newline && begin < end && c->text[begin] == '\n')
        begin++;
    while (c->trim_left && begin < end && is_blank(c->text[begin]))
        begin++;
    bool dash = more && end + 2 < c->n && c->text[end + 2] == '-';
    while (dash && begin < end && is_blank(c->text[end - 1]))
        end--;
    if (more && !dash && c->text[c->at + 1] != '{') {
        size_t line = end;
        while (line > begin && (c->text[line - 1] == ' ' || c->text[line - 1] == '\t'))
            line--;
        if (line == 0 || c->text[line - 1] == '\n')
            end = line;
    }
    return shoal__bytes_append(c->out, c->text + begin, end - begin, c->log);
}

/* The literal at c->at, without its quotes. */
static shoal_status put_literal(canonical *c)
{
    size_t begin = c->at;
    char quote = c->text[c->at++];
    for (; c->at < c->n && c->text[c->at] != quote; c->at++) {
        char byte = c->text[c->at];
        if (byte == '\\' && c->at + 1 < c->n) {
            byte = c->text[++c->at];
            byte = byte == 'n' ? '\n' : byte == 't' ? '\t' : byte == 'r' ? '\r' : byte;
        }
        SHOAL_TRY(shoal__bytes_append(c->out, &byte, 1, c->log));
    }
    if (c->at == c->n)
        return fail(c, "a literal", begin);
    c->at++;
    return SHOAL_OK;
}

/* ".role" and ".content" as ['role'] and ['content']; false if it is neither. */
static bool put_member(canonical *c, shoal_status *status)
{
    static const char *const names[] = {".role", ".content"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(names[i]);
        if (c->n - c->at < n || memcmp(c->text + c->at, names[i], n) != 0 ||
            (c->at + n < c->n && is_word(c->text[c->at + n])))
            continue;
        c->at += n;
        *status = shoal__bytes_append_text(c->out, i == 0 ? "['role']" : "['content']", c->log);
        return true;
    }
    return false;
}

/* What is between the braces of a tag, up to its end, which is %} or }}. */
static shoal_status put_code(canonical *c, char closing)
{
    size_t begin = c->at;
    bool space = false;
    enum { OTHER, LITERAL, PLUS } before = OTHER; /* PLUS: a literal and a plus */
    for (;;) {
        if (c->at + 1 >= c->n)
            return fail(c, "a tag", begin);
        char byte = c->text[c->at];
        size_t dash = byte == '-' || byte == '+' ? 1 : 0;
        if (c->at + dash + 1 < c->n && c->text[c->at + dash] == closing &&
            c->text[c->at + dash + 1] == '}') {
            c->trim_left = byte == '-';
            c->at += dash + 2;
            return SHOAL_OK;
        }
        if (is_blank(byte)) {
            space = true;
            c->at++;
            continue;
        }
        shoal_status status = SHOAL_OK;
        if (byte == '\'' || byte == '"') {
            if (before == PLUS)
                c->out->n -= 2; /* the quote and the plus */
            else
                status = shoal__bytes_append(c->out, "'", 1, c->log);
            SHOAL_TRY(status);
            SHOAL_TRY(put_literal(c));
            status = shoal__bytes_append(c->out, "'", 1, c->log);
            before = LITERAL;
        } else if (byte == '.' && put_member(c, &status)) {
            before = OTHER;
        } else {
            char last = c->out->n > 0 ? c->out->data[c->out->n - 1] : '\0';
            if (space && is_word(byte) && is_word(last))
                SHOAL_TRY(shoal__bytes_append(c->out, " ", 1, c->log));
            status = shoal__bytes_append(c->out, &byte, 1, c->log);
            before = byte == '+' && before == LITERAL ? PLUS : OTHER;
            c->at++;
        }
        SHOAL_TRY(status);
        space = false;
    }
}

static shoal_status skip_comment(canonical *c)
{
    size_t begin = c->at;
    while (c->at + 1 < c->n && (c->text[c->at] != '#' || c->text[c->at + 1] != '}'))
        c->at++;
    if (c->at + 1 >= c->n)
        return fail(c, "a comment", begin);
    c->trim_left = c->text[c->at - 1] == '-';
    c->at += 2;
    return SHOAL_OK;
}

/* Count the block that begins or ends with the tag out[begin, ...). */
static shoal_status count_block(canonical *c, size_t begin)
{
    static const char *const blocks[] = {"{%if", "{%for", "{%macro", "{%call", "{%filter"};
    const char *tag = c->out->data + begin;
    size_t n = c->out->n - begin;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        size_t n_block = strlen(blocks[i]);
        c->n_open += n > n_block && memcmp(tag, blocks[i], n_block) == 0 && !is_word(tag[n_block]);
    }
    c->n_open -= n > 5 && memcmp(tag, "{%end", 5) == 0;
    return c->n_open >= 0
               ? SHOAL_OK
               : shoal_fail(
                     c->log, SHOAL_BAD_DATA,
                     "%s: the chat template: what ends a block at byte %zu of %zu has no block",
                     c->name, c->at, c->n);
}

shoal_status shoal__chat_canonical(shoal__bytes *out, const shoal_chat_source *source,
                                   shoal_log *log)
{
    const char *text = source->template;
    size_t n = source->n_bytes;
    canonical c = {.out = out, .text = text, .n = n, .name = source->name, .log = log};
    for (;;) {
        SHOAL_TRY(put_raw(&c));
        if (c.at == n)
            return c.n_open == 0 ? SHOAL_OK : fail(&c, "a block", n);
        char kind = text[c.at + 1];
        c.at += 2;
        if (c.at < n && (text[c.at] == '-' || text[c.at] == '+') && kind != '#')
            c.at++;
        c.drop_newline = kind != '{';
        if (kind == '#') {
            SHOAL_TRY(skip_comment(&c));
            continue;
        }
        size_t begin = out->n;
        SHOAL_TRY(shoal__bytes_append(out, kind == '{' ? "{{" : "{%", 2, log));
        SHOAL_TRY(put_code(&c, kind == '{' ? '}' : '%'));
        SHOAL_TRY(shoal__bytes_append(out, kind == '{' ? "}}" : "%}", 2, log));
        if (kind == '%')
            SHOAL_TRY(count_block(&c, begin));
    }
}
