/* What the tests of runtime/text share: a temporary folder, tokenizers made of JSON, and comparing
 * with cases of the tokenizers library. */
#ifndef SHOAL_TESTS_TEXT_FIXTURE_H
#define SHOAL_TESTS_TEXT_FIXTURE_H

#include "runtime/base/file.h"
#include "runtime/text/tokenizer_internal.h"
#include "runtime/text/utf8.h"
#include "tests/support/check_main.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline shoal_log quiet_log(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    return log;
}

/* A path below the repository root. */
static inline void source_path(char path[PATH_MAX], const char *name)
{
    const char *root = getenv("SHOAL_SOURCE_DIR");
    ck_assert_ptr_nonnull(root);
    snprintf(path, PATH_MAX, "%s/%s", root, name);
}

static inline char *read_source(const char *name)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t n;
    shoal_log log = quiet_log();
    source_path(path, name);
    ck_assert_msg(shoal_file_read(&text, &n, path, (size_t)64 << 20, &log) == SHOAL_OK, "%s",
                  log.error);
    return text;
}

/* -- a temporary folder with the files of a tokenizer -- */

static inline void make_folder(char folder[64])
{
    snprintf(folder, 64, "/tmp/shoal-text-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static inline void write_file(const char *folder, const char *name, const char *data, size_t n)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, n, file), n);
    ck_assert_int_eq(fclose(file), 0);
}

static inline void remove_folder(const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    ck_assert_int_eq(rmdir(folder), 0);
}

static inline shoal_status open_json(shoal_tokenizer **t, const shoal_json *doc, shoal_log *log)
{
    char folder[64];
    make_folder(folder);
    char *text = shoal_json_dump(doc);
    write_file(folder, "tokenizer.json", text, strlen(text));
    free(text);
    shoal_status status = shoal_tokenizer_open(t, folder, log);
    remove_folder(folder);
    return status;
}

static inline shoal_json *parse_json(const char *text)
{
    shoal_json *doc = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(shoal_json_parse(&doc, text, strlen(text), "test", &log) == SHOAL_OK, "%s: %s",
                  log.error, text);
    return doc;
}

/* One of the two small models of tests/text/cases. */
static inline shoal_json *base_model(const char *kind)
{
    char *text = read_source("tests/text/cases/models.json");
    shoal_json *both = parse_json(text);
    free(text);
    shoal_json *model = shoal_json_copy(shoal_json_get(both, kind));
    shoal_json_close(both);
    return model;
}

/* A byte-level tokenizer.json that works. */
static inline shoal_json *base_tokenizer(void)
{
    shoal_json *doc = parse_json("{\"version\": \"1.0\", \"added_tokens\": [], "
                                 "\"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                                 "\"add_prefix_space\": false}, "
                                 "\"decoder\": {\"type\": \"ByteLevel\"}}");
    shoal_json_set(doc, "model", base_model("byte"));
    return doc;
}

/* -- comparing -- */

static inline void check_ids(const int32_t *ids, size_t n, const shoal_json *wanted,
                             const char *what)
{
    ck_assert_msg(n == shoal_json_size(wanted), "%s: %zu ids, wanted %zu", what, n,
                  shoal_json_size(wanted));
    for (size_t i = 0; i < n; i++) {
        int64_t id = shoal_json_int(shoal_json_at(wanted, i), -1);
        ck_assert_msg(ids[i] == id, "%s: id %zu is %d, wanted %lld", what, i, (int)ids[i],
                      (long long)id);
    }
}

static inline void check_encode(shoal_tokenizer *t, const shoal_json *text,
                                const shoal_json *wanted, bool special, const char *what)
{
    size_t n_bytes;
    const char *bytes = shoal_json_string(text, &n_bytes);
    int32_t *ids = NULL;
    size_t n;
    shoal_log log = quiet_log();
    shoal_status status = shoal_tokenizer_encode(t, &ids, &n, bytes, n_bytes, special, &log);
    ck_assert_msg(status == SHOAL_OK, "%s: %s", what, log.error);
    check_ids(ids, n, wanted, what);
    free(ids);
}

/* Decodes at once and piece by piece; every piece must be whole characters. */
static inline void check_decode(const shoal_tokenizer *t, const int32_t *ids, size_t n_id,
                                const shoal_json *wanted, bool keep_special, const char *what)
{
    size_t n_wanted;
    const char *bytes = shoal_json_string(wanted, &n_wanted);
    char *text = NULL;
    size_t n;
    shoal_log log = quiet_log();
    ck_assert_msg(shoal_tokenizer_decode(t, &text, &n, ids, n_id, keep_special, &log) == SHOAL_OK,
                  "%s: %s", what, log.error);
    ck_assert_msg(n == n_wanted && memcmp(text, bytes, n) == 0, "%s: decoded '%s', wanted '%s'",
                  what, text, bytes);
    shoal_decoder *decoder = NULL;
    ck_assert_int_eq(shoal_decoder_open(&decoder, t, keep_special, &log), SHOAL_OK);
    size_t at = 0;
    for (size_t i = 0; i <= n_id; i++) {
        const char *piece = NULL;
        size_t n_piece = 0;
        if (i < n_id)
            ck_assert_int_eq(shoal_decoder_feed(decoder, &piece, &n_piece, ids[i], &log), SHOAL_OK);
        else
            shoal_decoder_flush(decoder, &piece, &n_piece);
        ck_assert_msg(shoal__utf8_valid(piece, n_piece) == n_piece, "%s: half a character", what);
        ck_assert_msg(at + n_piece <= n && memcmp(text + at, piece, n_piece) == 0,
                      "%s: piece %zu of a stream differs", what, i);
        at += n_piece;
    }
    ck_assert_msg(at == n, "%s: a stream gave %zu of %zu bytes", what, at, n);
    shoal_decoder_close(decoder);
    free(text);
}

static inline int32_t *ids_of(const shoal_json *array)
{
    size_t n = shoal_json_size(array);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    ck_assert_ptr_nonnull(ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)shoal_json_int(shoal_json_at(array, i), -1);
    return ids;
}

static inline const shoal_json *member_or(const shoal_json *object, const char *key,
                                          const shoal_json *otherwise)
{
    const shoal_json *value = shoal_json_get(object, key);
    return value != NULL ? value : otherwise;
}

/* A case as tests/tokenizers/README.md describes it. */
static inline void check_case(shoal_tokenizer *t, const shoal_json *one, const char *what)
{
    const shoal_json *text = shoal_json_get(one, "text");
    const shoal_json *wanted = shoal_json_get(one, "ids");
    check_encode(t, text, wanted, false, what);
    check_encode(t, text, member_or(one, "ids_with_special", wanted), true, what);
    int32_t *ids = ids_of(wanted);
    check_decode(t, ids, shoal_json_size(wanted), member_or(one, "decoded", text), true, what);
    free(ids);
}

/* A case as make_cases.py describes it: the same, or "decode" only, and without special tokens. */
static inline void check_own_case(shoal_tokenizer *t, const shoal_json *one, const char *what)
{
    const shoal_json *decode = shoal_json_get(one, "decode");
    const shoal_json *wanted = member_or(one, "ids", decode);
    const shoal_json *decoded = member_or(one, "decoded", shoal_json_get(one, "text"));
    int32_t *ids = ids_of(wanted);
    size_t n = shoal_json_size(wanted);
    if (decode == NULL)
        check_case(t, one, what);
    else
        check_decode(t, ids, n, decoded, true, what);
    check_decode(t, ids, n, member_or(one, "decoded_skip", decoded), false, what);
    free(ids);
}

/* Calls check(t, line) for each line of a file of JSON lines; returns how many. */
static inline size_t for_each_line(const char *name,
                                   void (*check)(shoal_tokenizer *t, const shoal_json *line,
                                                 const char *what),
                                   shoal_tokenizer *t)
{
    char *text = read_source(name);
    size_t n = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char what[PATH_MAX];
        snprintf(what, sizeof what, "%s line %zu", name, ++n);
        shoal_json *doc = parse_json(line);
        check(t, doc, what);
        shoal_json_close(doc);
    }
    free(text);
    return n;
}

#endif
