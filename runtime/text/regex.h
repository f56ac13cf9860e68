/* Regular expressions of tokenizer.json. They are written in the dialect of Oniguruma, which the
 * tokenizers library uses; regex_dialect.c rewrites them for PCRE2 so that they match the same
 * text, or refuses what cannot be rewritten. Matching runs in UTF mode with Unicode properties,
 * compiled to machine code where PCRE2 can.
 * Layering: text, internal; regex.c is the door to PCRE2. */
#ifndef SHOAL_TEXT_REGEX_H
#define SHOAL_TEXT_REGEX_H

#include "runtime/base/pulse.h"
#include "runtime/text/buffer.h"

typedef struct shoal__regex shoal__regex;

/* `where` names the file and the place for error texts. literal: the pattern is plain text.
 * Errors: BAD_DATA (names the place and the offset in the pattern), NO_MEMORY. */
shoal_status shoal__regex_open(shoal__regex **regex, const char *pattern, size_t n_bytes,
                               bool literal, const char *where, shoal_log *log);
void shoal__regex_close(shoal__regex *regex); /* accepts NULL */

/* First match in text[begin, n) (valid UTF-8; what lies before `begin` can be looked behind at).
 * *found is false if there is none. Errors: BAD_DATA (a match limit), NO_MEMORY. */
shoal_status shoal__regex_find(bool *found, shoal__span *match, shoal__regex *regex,
                               const char *text, size_t begin, size_t n, shoal_log *log);

/* What cut beats now and then; borrowed, NULL for nothing. */
void shoal__regex_set_pulse(shoal__regex *regex, const shoal_pulse *pulse);

/* Appends the spans that cover text[0, n): matches and what lies between them, in order. Empty
 * matches count (they cut the text), except directly behind another match. Errors: as find; what
 * the pulse gives.
 */
shoal_status shoal__regex_cut(shoal__spans *spans, shoal__regex *regex, const char *text, size_t n,
                              shoal_log *log);

/* Appends the pattern as PCRE2 (with UTF, UCP and MULTILINE) would have it. On a pattern that
 * cannot be rewritten *problem is a text and *at the offset in the pattern; *problem is NULL
 * otherwise. Errors: NO_MEMORY. */
shoal_status shoal__regex_rewrite(shoal__bytes *out, const char **problem, size_t *at,
                                  const char *pattern, size_t n_bytes, shoal_log *log);

/* PCRE2's name of a property, given Oniguruma's in lower case without spaces, hyphens and
 * underscores. False for a name that means other things to the two. */
enum { SHOAL__PROPERTY_BYTES = 64 };
bool shoal__regex_property(char out[SHOAL__PROPERTY_BYTES], const char *name);

#endif
