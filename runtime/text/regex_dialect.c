/* From Oniguruma's dialect to PCRE2's. What differs for the same spelling:
 *
 *   \s \w \b      PCRE2 counts U+180E as space and no marks as word characters
 *   \h \v \O      hexadecimal digit, vertical tab, any character; PCRE2: kinds of space
 *   \p{Han}       the property Script; PCRE2: Script_Extensions
 *   [a[bc]]       nested classes are a union, && is an intersection; PCRE2: neither
 *   {,n} (?m:     {0,n}, and a dot that matches newline; PCRE2: (?s:
 *   ^ $           always at lines; PCRE2: with MULTILINE
 *
 * Everything is either copied, rewritten or refused by name: no construct passes unknown. */
#include "runtime/text/regex.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SPACE_ITEMS "\\t-\\r\\x{85}\\p{Z}"
/* Word characters as in Oniguruma's tables: Alphabetic, marks, decimal digits, connectors. */
#define WORD_ITEMS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* Outside brackets it answers from an older table below U+0100, where six digits are words too. */
#define BARE_WORD_ITEMS WORD_ITEMS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX_ITEMS       "0-9A-Fa-f"

enum { max_depth = 50 }; /* of nested classes */

typedef struct rewriter {
    const char *in;
    size_t n;
    size_t at;
    shoal__bytes *out;
    bool ignores_case;   /* the option i occurred */
    const char *problem; /* NULL while all is well */
    size_t problem_at;
    shoal_log *log;
} rewriter;

static shoal_status refuse(rewriter *r, const char *problem, size_t at)
{
    r->problem = problem;
    r->problem_at = at;
    return SHOAL_OK;
}

static shoal_status put(rewriter *r, const char *text)
{
    return shoal__bytes_append_text(r->out, text, r->log);
}

static shoal_status copy(rewriter *r, size_t n)
{
    size_t at = r->at;
    r->at += n;
    return shoal__bytes_append(r->out, r->in + at, n, r->log);
}

static bool looking_at(const rewriter *r, const char *text)
{
    size_t n = strlen(text);
    return r->at <= r->n && n <= r->n - r->at && memcmp(r->in + r->at, text, n) == 0;
}

/* -- \p{...} -- */

static shoal_status rewrite_property(rewriter *r)
{
    size_t begin = r->at;
    bool negated = r->in[r->at + 1] == 'P';
    r->at += 2;
    if (!looking_at(r, "{"))
        return refuse(r, "\\p without {", begin);
    r->at++;
    if (looking_at(r, "^")) {
        negated = !negated;
        r->at++;
    }
    char name[SHOAL__PROPERTY_BYTES - 8];
    size_t n = 0;
    for (; r->at < r->n && r->in[r->at] != '}'; r->at++) {
        char c = r->in[r->at];
        if (c == ' ' || c == '-' || c == '_')
            continue;
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter || n + 1 >= sizeof name)
            return refuse(r, "a property that is not known", begin);
        name[n++] = c;
    }
    if (r->at == r->n || n == 0)
        return refuse(r, "an unfinished \\p{", begin);
    name[n] = '\0';
    r->at++;
    char property[SHOAL__PROPERTY_BYTES];
    if (!shoal__regex_property(property, name))
        return refuse(r, "a POSIX name as property, which is not supported", begin);
    SHOAL_TRY(put(r, negated ? "\\P{" : "\\p{"));
    SHOAL_TRY(put(r, property));
    return put(r, "}");
}

/* -- escapes -- */

/* Items of a class for \s, \w, \d, \h in lower case; NULL for any other letter. */
static const char *class_items(char letter, bool in_class)
{
    switch (letter) {
    case 's':
        return SPACE_ITEMS;
    case 'w':
        return in_class ? WORD_ITEMS : BARE_WORD_ITEMS;
    case 'd':
        return "\\p{Nd}";
    case 'h':
        return HEX_ITEMS;
    default:
        return NULL;
    }
}

static shoal_status rewrite_negated_class(rewriter *r, char letter, bool in_class)
{
    size_t begin = r->at;
    r->at += 2;
    if (!in_class) {
        SHOAL_TRY(put(r, "[^"));
        SHOAL_TRY(put(r, class_items(letter, false)));
        return put(r, "]");
    }
    if (letter == 'd')
        return put(r, "\\P{Nd}");
    if (letter == 's') /* PCRE2's \S lacks only this one */
        return put(r, "\\S\\x{180e}");
    return refuse(r, "\\W or \\H in a character class, which is not supported", begin);
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \xHH, \x{H...}, \uHHHH. */
static shoal_status rewrite_code_point(rewriter *r)
{
    size_t begin = r->at;
    bool wide = r->in[r->at + 1] == 'u';
    r->at += 2;
    bool braces = !wide && looking_at(r, "{");
    r->at += braces;
    size_t n_max = braces ? 8 : wide ? 4 : 2;
    char code[16] = "\\x{";
    size_t n = 0;
    for (; n < n_max && r->at < r->n && is_hex(r->in[r->at]); n++)
        code[3 + n] = r->in[r->at++];
    bool complete = n > 0 && (!wide || n == 4) && (!braces || looking_at(r, "}"));
    r->at += braces;
    /* \xHH above 7f is a single byte there, which no UTF-8 text can hold alone. */
    if (!complete || (!braces && !wide && n == 2 && code[3] >= '8'))
        return refuse(r, "a code point that is not complete", begin);
    code[3 + n] = '}';
    return put(r, code);
}

static shoal_status rewrite_escape(rewriter *r, bool in_class)
{
    size_t begin = r->at;
    if (r->at + 1 >= r->n)
        return refuse(r, "a backslash at its end", begin);
    char c = r->in[r->at + 1];
    const char *items = class_items(c, in_class);
    if (items != NULL) {
        r->at += 2;
        SHOAL_TRY(put(r, in_class ? "" : "["));
        SHOAL_TRY(put(r, items));
        return put(r, in_class ? "" : "]");
    }
    if (c == 'S' || c == 'W' || c == 'D' || c == 'H')
        return rewrite_negated_class(r, (char)(c - 'A' + 'a'), in_class);
    if (c == 'p' || c == 'P')
        return rewrite_property(r);
    if (c == 'x' || c == 'u')
        return rewrite_code_point(r);
    if (c == 'v') {
        r->at += 2;
        return put(r, "\\x{0b}");
    }
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (c == '0' || (letter && strchr("ntrfae", c) != NULL) || (c == 'b' && in_class))
        return copy(r, 2);
    if ((unsigned char)c >= 0x80) { /* an escaped character beyond ASCII is itself */
        r->at++;
        return SHOAL_OK;
    }
    if (!letter && (c < '0' || c > '9'))
        return copy(r, 2);
    if (in_class)
        return refuse(r, "an escape in a character class that is not supported", begin);
    if (c == 'b' || c == 'B') {
        r->at += 2;
        return put(r, c == 'b' ? "(?:(?<=[" BARE_WORD_ITEMS "])(?![" BARE_WORD_ITEMS
                                 "])|(?<![" BARE_WORD_ITEMS "])(?=[" BARE_WORD_ITEMS "]))"
                               : "(?:(?<=[" BARE_WORD_ITEMS "])(?=[" BARE_WORD_ITEMS
                                 "])|(?<![" BARE_WORD_ITEMS "])(?![" BARE_WORD_ITEMS "]))");
    }
    if (c == 'O') {
        r->at += 2;
        return put(r, "(?s:.)");
    }
    if (strchr("AzZGRNK", c) != NULL)
        return copy(r, 2);
    return refuse(r, "an escape or back-reference that is not supported", begin);
}

/* -- character classes -- */

static shoal_status rewrite_class(rewriter *r, int32_t depth);

/* Items up to "]" or "&&" as alternatives that match one character each: "(?:[items]|nested|...)",
 * or "[items]" alone. *plain says whether it is the latter, and then negation is done here. */
static shoal_status rewrite_operand(rewriter *r, bool negated, bool first, bool *plain,
                                    int32_t depth)
{
    shoal__bytes *out = r->out;
    shoal__bytes items = {0};
    shoal__bytes nested = {0};
    shoal_status status = SHOAL_OK;
    bool at_begin = first;
    while (status == SHOAL_OK && r->problem == NULL && r->at < r->n && !looking_at(r, "&&") &&
           (r->in[r->at] != ']' || at_begin)) {
        r->out = &items;
        if (looking_at(r, "[:")) {
            status = refuse(r, "a POSIX bracket, which is not supported", r->at);
        } else if (r->in[r->at] == '[') {
            r->out = &nested;
            status = put(r, "|");
            if (status == SHOAL_OK)
                status = rewrite_class(r, depth + 1);
        } else if (r->in[r->at] == '\\') {
            status = rewrite_escape(r, true);
        } else {
            status = copy(r, 1);
        }
        at_begin = false;
    }
    r->out = out;
    *plain = nested.n == 0 && items.n > 0;
    if (status == SHOAL_OK && !*plain)
        status = put(r, "(?:");
    if (status == SHOAL_OK && items.n > 0)
        status = put(r, *plain && negated ? "[^" : "[");
    if (status == SHOAL_OK)
        status = shoal__bytes_append(out, items.data, items.n, r->log);
    if (status == SHOAL_OK)
        status = put(r, items.n > 0 ? "]" : "(?!)");
    if (status == SHOAL_OK)
        status = shoal__bytes_append(out, nested.data, nested.n, r->log);
    if (status == SHOAL_OK && !*plain)
        status = put(r, ")");
    free(items.data);
    free(nested.data);
    return status;
}

/* At "[". A && B && C becomes (?:(?=A)(?=B)C); a negated class that is more than a list becomes
 * (?:(?!class)(?s:.)). */
static shoal_status rewrite_class(rewriter *r, int32_t depth)
{
    size_t begin = r->at;
    if (depth > max_depth)
        return refuse(r, "classes nested too deeply", begin);
    r->at++;
    bool negated = looking_at(r, "^");
    r->at += negated;
    size_t first_at = r->at;
    shoal__bytes *out = r->out;
    shoal__bytes operand = {0};
    shoal__bytes before = {0}; /* look-aheads of all operands but the last */
    bool plain = false;
    shoal_status status = SHOAL_OK;
    for (;;) {
        r->out = &operand;
        operand.n = 0;
        bool alone = before.n == 0;
        status = rewrite_operand(r, negated && alone, r->at == first_at, &plain, depth);
        if (status != SHOAL_OK || r->problem != NULL || !looking_at(r, "&&"))
            break;
        if (alone && negated && plain) { /* it was not alone: again, not negated */
            r->at = first_at;
            operand.n = 0;
            status = rewrite_operand(r, false, true, &plain, depth);
        }
        r->at += 2;
        r->out = &before;
        if (status == SHOAL_OK)
            status = put(r, "(?=");
        if (status == SHOAL_OK)
            status = shoal__bytes_append(&before, operand.data, operand.n, r->log);
        if (status == SHOAL_OK)
            status = put(r, ")");
        if (status != SHOAL_OK)
            break;
    }
    r->out = out;
    bool simple = plain && before.n == 0;
    if (status == SHOAL_OK && r->problem == NULL && r->at >= r->n)
        status = refuse(r, "a character class without end", begin);
    if (status == SHOAL_OK && !simple)
        status = put(r, negated ? "(?:(?!" : "(?:");
    if (status == SHOAL_OK)
        status = shoal__bytes_append(out, before.data, before.n, r->log);
    if (status == SHOAL_OK)
        status = shoal__bytes_append(out, operand.data, operand.n, r->log);
    if (status == SHOAL_OK && !simple)
        status = put(r, negated ? ")(?s:.))" : ")");
    free(operand.data);
    free(before.data);
    r->at++; /* the closing bracket */
    return status;
}

/* -- groups and repeats -- */

/* At "(". */
static shoal_status rewrite_group(rewriter *r)
{
    size_t begin = r->at;
    if (looking_at(r, "(*"))
        return refuse(r, "(*, which is not supported", begin);
    if (!looking_at(r, "(?"))
        return copy(r, 1);
    static const char *const same[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (looking_at(r, same[i]))
            return copy(r, strlen(same[i]));
    if (looking_at(r, "(?<"))
        return copy(r, 3);
    /* Options: i as in PCRE2, m is PCRE2's s. Without a colon they hold to the end of the enclosing
     * group, in a way that only agrees at the very begin. */
    r->at += 2;
    SHOAL_TRY(put(r, "(?"));
    for (size_t i = r->at; i < r->n && strchr("im-", r->in[i]) != NULL; i++)
        r->ignores_case |= r->in[i] == 'i';
    for (; r->at < r->n && strchr("im-", r->in[r->at]) != NULL; r->at++)
        SHOAL_TRY(
            shoal__bytes_append(r->out, r->in[r->at] == 'm' ? "s" : r->in + r->at, 1, r->log));
    if (looking_at(r, ":") || (looking_at(r, ")") && begin == 0))
        return copy(r, 1);
    return refuse(r, "a (? group or option that is not supported", begin);
}

/* At "{". */
static shoal_status rewrite_interval(rewriter *r)
{
    size_t begin = r->at;
    size_t at = r->at + 1;
    size_t n_digit[2] = {0, 0};
    int32_t part = 0;
    for (; at < r->n && r->in[at] != '}'; at++) {
        bool digit = r->in[at] >= '0' && r->in[at] <= '9';
        if (!digit && (r->in[at] != ',' || part == 1))
            break;
        part += !digit;
        n_digit[part] += digit;
    }
    if (at >= r->n || r->in[at] != '}' || n_digit[0] + n_digit[1] == 0) {
        r->at++; /* a brace like any other character */
        return put(r, "\\{");
    }
    char next = at + 1 < r->n ? r->in[at + 1] : '\0';
    if (next == '+' || (next == '?' && part == 0))
        return refuse(r, "a repeat behind {n,m}, which is not supported", begin);
    if (n_digit[0] > 0)
        return copy(r, at + 1 - r->at);
    SHOAL_TRY(put(r, "{0"));
    r->at++;
    return copy(r, at + 1 - r->at);
}

/* Without case Oniguruma also matches one character with several, such as sharp s with ss, which
 * PCRE2 does not. Offset of a place where that may be, n if there is none. */
static size_t find_folding(const rewriter *r)
{
    static const char *const pairs[] = {"ss", "st", "ff", "fi", "fl"};
    for (size_t at = 0; at < r->n; at++) {
        if ((unsigned char)r->in[at] >= 0x80)
            return at;
        for (size_t i = 0; at + 1 < r->n && i < sizeof pairs / sizeof pairs[0]; i++)
            if (strncasecmp(r->in + at, pairs[i], 2) == 0)
                return at;
    }
    return r->n;
}

shoal_status shoal__regex_rewrite(shoal__bytes *out, const char **problem, size_t *at,
                                  const char *pattern, size_t n_bytes, shoal_log *log)
{
    rewriter r = {.in = pattern, .n = n_bytes, .out = out, .log = log};
    while (r.at < r.n && r.problem == NULL) {
        switch (r.in[r.at]) {
        case '\\':
            SHOAL_TRY(rewrite_escape(&r, false));
            break;
        case '[':
            SHOAL_TRY(rewrite_class(&r, 0));
            break;
        case '(':
            SHOAL_TRY(rewrite_group(&r));
            break;
        case '{':
            SHOAL_TRY(rewrite_interval(&r));
            break;
        default:
            SHOAL_TRY(copy(&r, 1));
        }
    }
    size_t folding = r.ignores_case && r.problem == NULL ? find_folding(&r) : r.n;
    if (folding < r.n)
        SHOAL_TRY(refuse(&r, "letters under (?i) that match other numbers of letters", folding));
    *problem = r.problem;
    *at = r.problem_at;
    return SHOAL_OK;
}
