#include "runtime/base/json.h"

#include "runtime/base/file.h"

#include <jansson.h>

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The largest JSON files of checkpoints are tokenizers (10 to 40 MB) and shard indexes. */
static const size_t max_file_bytes = (size_t)512 << 20;

/* -- reading -- */

/* jansson swallows a zero byte behind a number. */
static shoal_status check_no_zero_byte(const char *text, size_t n_bytes, const char *name,
                                       shoal_log *log)
{
    const char *zero = n_bytes > 0 ? memchr(text, '\0', n_bytes) : NULL;
    if (zero == NULL)
        return SHOAL_OK;
    int64_t line = 1;
    for (const char *c = text; c < zero; c++)
        line += *c == '\n';
    return shoal_fail(log, SHOAL_BAD_DATA, "%s: not valid JSON at line %lld: a zero byte", name,
                      (long long)line);
}

static shoal_status finish_parse(shoal_json **doc, json_t *value, const json_error_t *error,
                                 const char *name, shoal_log *log)
{
    if (value == NULL && json_error_code(error) == json_error_out_of_memory)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to parse it", name);
    if (value == NULL)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: not valid JSON at line %d, column %d: %s", name,
                          error->line, error->column, error->text);
    *doc = value;
    return SHOAL_OK;
}

static const size_t parse_flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;

shoal_status shoal_json_parse(shoal_json **doc, const char *text, size_t n_bytes, const char *name,
                              shoal_log *log)
{
    SHOAL_TRY(check_no_zero_byte(text, n_bytes, name, log));
    json_error_t error;
    json_t *value = json_loadb(text, n_bytes, parse_flags, &error);
    return finish_parse(doc, value, &error, name, log);
}

/* Whether the n digits are a number beyond 64 bits; JSON has no leading zeros. */
static bool is_beyond(const char *digits, size_t n, bool negative)
{
    const char *limit = negative ? "9223372036854775808" : "9223372036854775807";
    return n > 19 || (n == 19 && memcmp(digits, limit, 19) > 0);
}

static bool in_number(char c)
{
    return isdigit((unsigned char)c) || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E';
}

/* A copy of the text with ".0" behind integers beyond 64 bits; NULL without memory. */
static char *long_integers_as_reals(size_t *n_copy, const char *text, size_t n_bytes)
{
    char *copy = malloc(n_bytes + n_bytes / 8 + 4); /* at most 2 bytes for each 19 */
    size_t n = 0;
    bool in_string = false;
    for (size_t at = 0; copy != NULL && at < n_bytes;) {
        size_t n_part = 1;
        bool is_long = false;
        if (in_string && text[at] == '\\' && at + 1 < n_bytes) {
            n_part = 2;
        } else if (text[at] == '"') {
            in_string = !in_string;
        } else if (!in_string && (isdigit((unsigned char)text[at]) || text[at] == '-')) {
            while (at + n_part < n_bytes && in_number(text[at + n_part]))
                n_part++;
            size_t sign = text[at] == '-' ? 1 : 0;
            const char *digits = text + at + sign;
            size_t n_digit = 0;
            while (sign + n_digit < n_part && isdigit((unsigned char)digits[n_digit]))
                n_digit++;
            is_long = sign + n_digit == n_part && is_beyond(digits, n_digit, sign == 1);
        }
        memcpy(copy + n, text + at, n_part);
        n += n_part;
        at += n_part;
        if (is_long) {
            copy[n++] = '.';
            copy[n++] = '0';
        }
    }
    *n_copy = n;
    return copy;
}

shoal_status shoal_json_read_file(shoal_json **doc, const char *path, shoal_log *log)
{
    char *text;
    size_t n_bytes;
    SHOAL_TRY(shoal_file_read(&text, &n_bytes, path, max_file_bytes, log));
    shoal_status status = shoal_json_parse(doc, text, n_bytes, path, log);
    free(text);
    return status;
}

static shoal_status parse_loosely(shoal_json **doc, const char *text, size_t n_bytes,
                                  const char *name, shoal_log *log)
{
    SHOAL_TRY(check_no_zero_byte(text, n_bytes, name, log));
    json_error_t error;
    json_t *value = json_loadb(text, n_bytes, parse_flags, &error);
    if (value == NULL && json_error_code(&error) == json_error_numeric_overflow) {
        size_t n_copy;
        char *copy = long_integers_as_reals(&n_copy, text, n_bytes);
        if (copy == NULL)
            return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to parse it", name);
        value = json_loadb(copy, n_copy, parse_flags, &error);
        free(copy);
    }
    return finish_parse(doc, value, &error, name, log);
}

shoal_status shoal_json_read_file_loosely(shoal_json **doc, const char *path, shoal_log *log)
{
    char *text;
    size_t n_bytes;
    SHOAL_TRY(shoal_file_read(&text, &n_bytes, path, max_file_bytes, log));
    shoal_status status = parse_loosely(doc, text, n_bytes, path, log);
    free(text);
    return status;
}

void shoal_json_close(shoal_json *doc)
{
    json_decref(doc);
}

bool shoal_json_is_object(const shoal_json *value)
{
    return json_is_object(value);
}

bool shoal_json_is_array(const shoal_json *value)
{
    return json_is_array(value);
}

bool shoal_json_is_string(const shoal_json *value)
{
    return json_is_string(value);
}

bool shoal_json_is_number(const shoal_json *value)
{
    return json_is_number(value);
}

bool shoal_json_is_integer(const shoal_json *value)
{
    return json_is_integer(value);
}

bool shoal_json_is_bool(const shoal_json *value)
{
    return json_is_boolean(value);
}

bool shoal_json_is_null(const shoal_json *value)
{
    return json_is_null(value);
}

const shoal_json *shoal_json_get(const shoal_json *object, const char *key)
{
    return json_object_get(object, key);
}

size_t shoal_json_size(const shoal_json *value)
{
    return json_is_array(value) ? json_array_size(value) : json_object_size(value);
}

const shoal_json *shoal_json_at(const shoal_json *array, size_t index)
{
    return json_array_get(array, index);
}

void *shoal_json_next(const shoal_json *object, void *it, const char **key, size_t *n_key_bytes,
                      const shoal_json **value)
{
    json_t *o =
        (json_t *)object; /* jansson's iterators are not const-correct; nothing is changed */
    void *next = it == NULL ? json_object_iter(o) : json_object_iter_next(o, it);
    if (next == NULL)
        return NULL;
    if (key != NULL)
        *key = json_object_iter_key(next);
    if (n_key_bytes != NULL)
        *n_key_bytes = json_object_iter_key_len(next);
    if (value != NULL)
        *value = json_object_iter_value(next);
    return next;
}

int64_t shoal_json_int(const shoal_json *value, int64_t otherwise)
{
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

double shoal_json_number(const shoal_json *value, double otherwise)
{
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

bool shoal_json_bool(const shoal_json *value, bool otherwise)
{
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

const char *shoal_json_string(const shoal_json *value, size_t *n_bytes)
{
    if (!json_is_string(value))
        return NULL;
    if (n_bytes != NULL)
        *n_bytes = json_string_length(value);
    return json_string_value(value);
}

/* -- writing -- */

/* Documents that are built here are small; without memory for them nothing can even be reported. */
static void *need(void *made)
{
    if (made == NULL) {
        fputs("shoal: out of memory while building JSON\n", stderr);
        abort();
    }
    return made;
}

shoal_json *shoal_json_new_object(void)
{
    return need(json_object());
}

shoal_json *shoal_json_new_array(void)
{
    return need(json_array());
}

shoal_json *shoal_json_new_int(int64_t value)
{
    return need(json_integer(value));
}

shoal_json *shoal_json_new_number(double value)
{
    return need(isfinite(value) ? json_real(value) : json_null());
}

shoal_json *shoal_json_new_bool(bool value)
{
    return need(json_boolean(value));
}

/* Bytes of the well-formed UTF-8 character at `s` (Unicode, table 3-7), or 0. */
static size_t utf8_length(const unsigned char *s, size_t n_bytes)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > n_bytes)
        return 0;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;  /* no overlong forms */
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf; /* no surrogates */
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

shoal_json *shoal_json_new_string(const char *text, size_t n_bytes)
{
    if (n_bytes > (SIZE_MAX - 1) / 3)
        return need(NULL);
    char *clean = need(malloc(n_bytes * 3 + 1)); /* each bad byte becomes 3 */
    size_t n_clean = 0;
    for (size_t i = 0; i < n_bytes;) {
        size_t n = utf8_length((const unsigned char *)text + i, n_bytes - i);
        memcpy(clean + n_clean, n > 0 ? text + i : "\xef\xbf\xbd", n > 0 ? n : 3);
        n_clean += n > 0 ? n : 3;
        i += n > 0 ? n : 1;
    }
    shoal_json *value = need(json_stringn(clean, n_clean));
    free(clean);
    return value;
}

shoal_json *shoal_json_new_ints(const int32_t *value, size_t n)
{
    shoal_json *array = shoal_json_new_array();
    for (size_t i = 0; i < n; i++)
        shoal_json_append(array, shoal_json_new_int(value[i]));
    return array;
}

shoal_json *shoal_json_copy(const shoal_json *value)
{
    return need(json_deep_copy(value));
}

void shoal_json_set(shoal_json *object, const char *key, shoal_json *value)
{
    need(json_object_set_new(object, key, value) == 0 ? object : NULL);
}

void shoal_json_append(shoal_json *array, shoal_json *value)
{
    need(json_array_append_new(array, value) == 0 ? array : NULL);
}

char *shoal_json_dump(const shoal_json *doc)
{
    /* 15 digits show every decimal fraction as it is written, and every f32 exactly. */
    return need(json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)));
}
