/* UTF-8 and the few character classes that the tokenizers library takes from Rust, not from a
 * regular expression.
 * Layering: text, internal; the door to utf8proc together with normalize.c. */
#ifndef SHOAL_TEXT_UTF8_H
#define SHOAL_TEXT_UTF8_H

#include "runtime/text/buffer.h"

#define SHOAL__REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Length of the prefix of text[0, n) that is valid UTF-8 (n if all is). */
size_t shoal__utf8_valid(const char *text, size_t n);

/* Code point at text[*at], moving *at behind it. The text must be valid and *at < n. */
int32_t shoal__utf8_next(const char *text, size_t *at);

/* Code point that ends before text[*at], moving *at to its first byte. Valid text, *at > 0. */
int32_t shoal__utf8_previous(const char *text, size_t *at);

/* Bytes of a code point; returns how many (1 to 4). */
size_t shoal__utf8_put(char dst[4], int32_t code_point);

/* Rust's char::is_whitespace and regex \s: the property White_Space. */
bool shoal__is_space(int32_t code_point);

/* Rust's regex \w: Alphabetic, marks, decimal digits, connectors, joiners. */
bool shoal__is_word(int32_t code_point);

/* Rust's char::is_numeric: categories Nd, Nl, No. */
bool shoal__is_numeric(int32_t code_point);

/* Reading bytes that may be no UTF-8 as Rust's String::from_utf8_lossy does: every longest prefix
 * of a character that cannot go on becomes one U+FFFD. It may be fed piece by piece: the start of a
 * character is kept until it is decided. */
typedef struct shoal__utf8_reader {
    unsigned char held[4]; /* first bytes of a character */
    int32_t n_held;
    int32_t n_wanted; /* bytes of that character; 0 when nothing is held */
} shoal__utf8_reader;

/* Appends what is decided after data[0, n) to out: always whole characters. */
shoal_status shoal__utf8_read(shoal__bytes *out, shoal__utf8_reader *reader, const char *data,
                              size_t n, shoal_log *log);

/* The end of the bytes: a character held back becomes U+FFFD. */
shoal_status shoal__utf8_end(shoal__bytes *out, shoal__utf8_reader *reader, shoal_log *log);

#endif
