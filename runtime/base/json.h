/* The door to jansson: reading and writing JSON with error texts that name the file and the place.
 * A shoal_json is an immutable value borrowed from the document it belongs to; documents are owned
 * (shoal_json_close). Objects with duplicate keys, and numbers or nesting beyond the library's
 * limits, are rejected when parsing. Strings may hold \u0000. Layering: base. */
#ifndef SHOAL_BASE_JSON_H
#define SHOAL_BASE_JSON_H

#include "runtime/base/log.h"

#include <stddef.h>

typedef struct json_t shoal_json; /* jansson's value; opaque outside json.c */

/* Parse. `name` (a file name, "line 12 of in.jsonl") goes into error texts. The document is owned
 * by the caller: shoal_json_close. Errors: BAD_DATA with line and column; NO_INPUT, IO for files.
 */
shoal_status shoal_json_parse(shoal_json **doc, const char *text, size_t n_bytes, const char *name,
                              shoal_log *log);
shoal_status shoal_json_read_file(shoal_json **doc, const char *path, shoal_log *log);
/* The same, but integers beyond 64 bits are numbers that are no integers: Python writes them into
 * tokenizer_config.json (model_max_length 10^30: no limit). */
shoal_status shoal_json_read_file_loosely(shoal_json **doc, const char *path, shoal_log *log);
void shoal_json_close(shoal_json *doc); /* accepts NULL */

/* Types. All accept NULL (absent) and answer false. */
bool shoal_json_is_object(const shoal_json *value);
bool shoal_json_is_array(const shoal_json *value);
bool shoal_json_is_string(const shoal_json *value);
bool shoal_json_is_number(const shoal_json *value);
bool shoal_json_is_integer(const shoal_json *value);
bool shoal_json_is_bool(const shoal_json *value);
bool shoal_json_is_null(const shoal_json *value); /* JSON null; false for NULL */

/* Members and elements; NULL if absent or of another type. A JSON null member is returned as such.
 */
const shoal_json *shoal_json_get(const shoal_json *object, const char *key);
size_t shoal_json_size(const shoal_json *value); /* array or object, else 0 */
const shoal_json *shoal_json_at(const shoal_json *array, size_t index);

/* Iterate an object in file order: it = NULL to begin; returns NULL at the end. */
void *shoal_json_next(const shoal_json *object, void *it, const char **key, size_t *n_key_bytes,
                      const shoal_json **value);

/* Values; the default is returned if value is NULL or of another type. */
int64_t shoal_json_int(const shoal_json *value, int64_t otherwise);
double shoal_json_number(const shoal_json *value, double otherwise);
bool shoal_json_bool(const shoal_json *value, bool otherwise);
/* UTF-8, zero-terminated, may hold zero bytes; n_bytes may be NULL. NULL if not a string. */
const char *shoal_json_string(const shoal_json *value, size_t *n_bytes);

/* Building documents. Each constructor returns a new owned value, or aborts when memory is out (as
 * these are small); set/append take ownership of `value`. */
shoal_json *shoal_json_new_object(void);
shoal_json *shoal_json_new_array(void);
shoal_json *shoal_json_new_int(int64_t value);
shoal_json *shoal_json_new_number(double value); /* not finite: null */
shoal_json *shoal_json_new_bool(bool value);
shoal_json *shoal_json_new_string(const char *text,
                                  size_t n_bytes); /* invalid UTF-8 is replaced by U+FFFD */
shoal_json *shoal_json_new_ints(const int32_t *value, size_t n);
shoal_json *shoal_json_copy(const shoal_json *value); /* deep */
void shoal_json_set(shoal_json *object, const char *key, shoal_json *value);
void shoal_json_append(shoal_json *array, shoal_json *value);

/* One line without trailing newline, keys in insertion order, numbers with up to 15 digits; free()
 * it. Never NULL. */
char *shoal_json_dump(const shoal_json *doc);

#endif
