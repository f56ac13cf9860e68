#define PCRE2_CODE_UNIT_WIDTH 8

#include "runtime/text/regex.h"

#include <pcre2.h>

#include <stdlib.h>

#define BEAT_MATCHES 65536

struct shoal__regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *jit_stack;
    char where[256]; /* file and place, for error texts */
    const shoal_pulse *pulse;
};

enum {
    jit_stack_first_bytes = 64 << 10,
    jit_stack_max_bytes = 8 << 20,
    heap_limit_kib = 512 << 10, /* of the interpreter, which takes over when the stack is short */
};

/* A pattern that needs more than this many steps from one position, beyond some for each byte of
 * the text, is one that backtracks without end. */
static const uint64_t match_limit_base = 10000000;
static const uint64_t match_limit_per_byte = 16;

static shoal_status compile(shoal__regex *regex, const char *pattern, size_t n_bytes, bool literal,
                            shoal_log *log)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for the pattern", regex->where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* the default is a build option of PCRE2 */
    uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL
                               : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    int error;
    PCRE2_SIZE offset;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern, n_bytes, options, &error, &offset, context);
    pcre2_compile_context_free(context);
    if (regex->code == NULL) {
        char text[160];
        pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof text);
        return shoal_fail(
            log, SHOAL_BAD_DATA,
            "%s: the pattern is not a regular expression: %s, before its rest '%.80s'",
            regex->where, text, offset < n_bytes ? pattern + offset : "");
    }
    /* Without machine code the interpreter does the same work slower. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    regex->match = pcre2_match_data_create(1, NULL);
    regex->context = pcre2_match_context_create(NULL);
    if (regex->match == NULL || regex->context == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for the pattern", regex->where);
    regex->jit_stack = pcre2_jit_stack_create(jit_stack_first_bytes, jit_stack_max_bytes, NULL);
    if (regex->jit_stack != NULL)
        pcre2_jit_stack_assign(regex->context, NULL, regex->jit_stack);
    pcre2_set_heap_limit(regex->context, heap_limit_kib);
    return SHOAL_OK;
}

shoal_status shoal__regex_open(shoal__regex **out, const char *pattern, size_t n_bytes,
                               bool literal, const char *where, shoal_log *log)
{
    shoal__regex *regex = calloc(1, sizeof *regex);
    if (regex == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for the pattern", where);
    snprintf(regex->where, sizeof regex->where, "%s", where);
    shoal__bytes rewritten = {0};
    const char *problem = NULL;
    size_t at = 0;
    shoal_status status;
    if (literal)
        status = shoal__bytes_append(&rewritten, pattern, n_bytes, log);
    else
        status = shoal__regex_rewrite(&rewritten, &problem, &at, pattern, n_bytes, log);
    if (status == SHOAL_OK && problem != NULL)
        status =
            shoal_fail(log, SHOAL_BAD_DATA, "%s: the pattern has %s at offset %zu, before '%.40s'",
                       where, problem, at, pattern + at);
    if (status == SHOAL_OK)
        status = shoal__bytes_append(&rewritten, "", 1, log); /* ends it for the error text */
    if (status == SHOAL_OK)
        status = compile(regex, rewritten.data, rewritten.n - 1, literal, log);
    free(rewritten.data);
    if (status == SHOAL_OK)
        *out = regex;
    else
        shoal__regex_close(regex);
    return status;
}

void shoal__regex_close(shoal__regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_jit_stack_free(regex->jit_stack);
    pcre2_match_context_free(regex->context);
    pcre2_match_data_free(regex->match);
    pcre2_code_free(regex->code);
    free(regex);
}

void shoal__regex_set_pulse(shoal__regex *regex, const shoal_pulse *pulse)
{
    regex->pulse = pulse;
}

shoal_status shoal__regex_find(bool *found, shoal__span *match, shoal__regex *regex,
                               const char *text, size_t begin, size_t n, shoal_log *log)
{
    uint64_t limit = match_limit_base + match_limit_per_byte * (uint64_t)n;
    pcre2_set_match_limit(regex->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc;
    do {
        rc = pcre2_match(regex->code, (PCRE2_SPTR)text, n, begin, options, regex->match,
                         regex->context);
        options |= PCRE2_NO_JIT;
    } while (rc == PCRE2_ERROR_JIT_STACKLIMIT);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return SHOAL_OK;
    if (rc < 0) {
        char error[160];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)error, sizeof error);
        return shoal_fail(log, rc == PCRE2_ERROR_NOMEMORY ? SHOAL_NO_MEMORY : SHOAL_BAD_DATA,
                          "%s: the pattern cannot be matched against byte %zu of a text of %zu "
                          "bytes: %s",
                          regex->where, begin, n, error);
    }
    const PCRE2_SIZE *offset = pcre2_get_ovector_pointer(regex->match);
    /* \K in a look-around can put the begin behind the end. */
    size_t end = offset[1] > begin ? offset[1] : begin;
    *match = (shoal__span){offset[0] < end ? offset[0] : end, end, true};
    return SHOAL_OK;
}

shoal_status shoal__regex_cut(shoal__spans *spans, shoal__regex *regex, const char *text, size_t n,
                              shoal_log *log)
{
    size_t covered = 0;
    size_t begin = 0;
    bool behind_match = false; /* a match ended at `covered` */
    for (size_t i = 1; begin <= n; i++) {
        if (i % BEAT_MATCHES == 0)
            SHOAL_TRY(shoal_pulse_beat(regex->pulse));
        bool found;
        shoal__span match;
        SHOAL_TRY(shoal__regex_find(&found, &match, regex, text, begin, n, log));
        if (!found)
            break;
        if (match.begin == match.end && behind_match && match.end == covered) {
            begin = match.end + 1;
            while (begin < n && ((unsigned char)text[begin] & 0xc0) == 0x80)
                begin++;
            continue;
        }
        if (covered < match.begin)
            SHOAL_TRY(shoal__spans_append(spans, (shoal__span){covered, match.begin, false}, log));
        SHOAL_TRY(shoal__spans_append(spans, match, log));
        covered = match.end;
        begin = match.end;
        behind_match = true;
    }
    if (covered < n)
        SHOAL_TRY(shoal__spans_append(spans, (shoal__span){covered, n, false}, log));
    return SHOAL_OK;
}
