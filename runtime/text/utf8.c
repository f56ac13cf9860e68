#include "runtime/text/utf8.h"

#include <utf8proc.h>

/* Bytes of the character that begins with `first`, 0 if none does. */
static int32_t character_bytes(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

/* Whether `byte` may be byte number `index` (from 1) of a character that begins with `first`: the
 * second byte excludes overlong forms, surrogates and what lies above U+10FFFF. */
static bool may_follow(unsigned char first, int32_t index, unsigned char byte)
{
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (index == 1) {
        if (first == 0xe0)
            low = 0xa0;
        else if (first == 0xed)
            high = 0x9f;
        else if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4)
            high = 0x8f;
    }
    return byte >= low && byte <= high;
}

size_t shoal__utf8_valid(const char *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        unsigned char first = (unsigned char)text[at];
        int32_t n_bytes = character_bytes(first);
        if (n_bytes == 0 || (size_t)n_bytes > n - at)
            return at;
        for (int32_t i = 1; i < n_bytes; i++)
            if (!may_follow(first, i, (unsigned char)text[at + (size_t)i]))
                return at;
        at += (size_t)n_bytes;
    }
    return n;
}

int32_t shoal__utf8_next(const char *text, size_t *at)
{
    const unsigned char *s = (const unsigned char *)text + *at;
    if (s[0] < 0x80) {
        *at += 1;
        return s[0];
    }
    if (s[0] < 0xe0) {
        *at += 2;
        return (s[0] & 0x1f) << 6 | (s[1] & 0x3f);
    }
    if (s[0] < 0xf0) {
        *at += 3;
        return (s[0] & 0x0f) << 12 | (s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    }
    *at += 4;
    return (s[0] & 0x07) << 18 | (s[1] & 0x3f) << 12 | (s[2] & 0x3f) << 6 | (s[3] & 0x3f);
}

int32_t shoal__utf8_previous(const char *text, size_t *at)
{
    size_t begin = *at - 1;
    while (((unsigned char)text[begin] & 0xc0) == 0x80)
        begin--;
    *at = begin;
    size_t end = begin;
    return shoal__utf8_next(text, &end);
}

size_t shoal__utf8_put(char dst[4], int32_t code_point)
{
    return (size_t)utf8proc_encode_char(code_point, (utf8proc_uint8_t *)dst);
}

bool shoal__is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool shoal__is_numeric(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_NO;
}

bool shoal__is_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    case UTF8PROC_CATEGORY_SO: /* circled and squared letters are Alphabetic, other symbols not */
        return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
               (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
    default:
        return c == 0x200c || c == 0x200d;
    }
}

static shoal_status put_replacement(shoal__bytes *out, shoal__utf8_reader *reader, shoal_log *log)
{
    reader->n_held = 0;
    reader->n_wanted = 0;
    return shoal__bytes_append_text(out, SHOAL__REPLACEMENT, log);
}

shoal_status shoal__utf8_read(shoal__bytes *out, shoal__utf8_reader *reader, const char *data,
                              size_t n, shoal_log *log)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)data[i];
        if (reader->n_held > 0 && !may_follow(reader->held[0], reader->n_held, byte))
            SHOAL_TRY(put_replacement(out, reader, log));
        if (reader->n_held == 0) {
            reader->n_wanted = character_bytes(byte);
            if (reader->n_wanted == 0) {
                SHOAL_TRY(put_replacement(out, reader, log));
                continue;
            }
        }
        reader->held[reader->n_held++] = byte;
        if (reader->n_held == reader->n_wanted) {
            SHOAL_TRY(
                shoal__bytes_append(out, (const char *)reader->held, (size_t)reader->n_held, log));
            reader->n_held = 0;
        }
    }
    return SHOAL_OK;
}

shoal_status shoal__utf8_end(shoal__bytes *out, shoal__utf8_reader *reader, shoal_log *log)
{
    return reader->n_held > 0 ? put_replacement(out, reader, log) : SHOAL_OK;
}
