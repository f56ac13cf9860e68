/* What lies beside tokenizer.json: which tokens begin and end a text. */
#include "runtime/text/tokenizer_internal.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

/* *doc stays NULL if the file is not there. */
static shoal_status read_optional(shoal_json **doc, char path[PATH_MAX], const char *folder,
                                  const char *name, shoal_log *log)
{
    *doc = NULL;
    int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    if (n < 0 || n >= PATH_MAX || access(path, F_OK) != 0)
        return SHOAL_OK;
    SHOAL_TRY(shoal_json_read_file_loosely(doc, path, log));
    if (shoal_json_is_object(*doc))
        return SHOAL_OK;
    shoal_json_close(*doc);
    *doc = NULL;
    return shoal_fail(log, SHOAL_BAD_DATA, "%s: holds no JSON object", path);
}

/* Id of a token given as "text" or {"content": "text"}; -1 if null, absent or not in the
 * vocabulary. */
static shoal_status find_token(int32_t *id, const shoal_tokenizer *t, const shoal_json *config,
                               const char *key, const shoal__reader *r)
{
    *id = -1;
    const shoal_json *value = shoal_json_get(config, key);
    if (value == NULL || shoal_json_is_null(value))
        return SHOAL_OK;
    size_t n_bytes;
    const char *text = shoal_json_string(
        shoal_json_is_object(value) ? shoal_json_get(value, "content") : value, &n_bytes);
    if (text == NULL)
        return shoal__reader_fail(r, key, "must be null, a string, or an object with content");
    *id = shoal_tokenizer_find(t, text, n_bytes);
    if (*id < 0 && n_bytes > 0)
        shoal_log_warn(r->log, "%s: %s '%.60s' is not in tokenizer.json and is not used", r->path,
                       key, text);
    return SHOAL_OK;
}

static shoal_status append_eos(shoal_tokenizer *t, int32_t id, shoal_log *log)
{
    return shoal_tokenizer_is_eos(t, id) ? SHOAL_OK : shoal__ids_append(&t->eos, id, log);
}

static shoal_status read_tokenizer_config(shoal_tokenizer *t, const shoal_json *config,
                                          const shoal__reader *r)
{
    int32_t eos;
    SHOAL_TRY(find_token(&t->bos_id, t, config, "bos_token", r));
    SHOAL_TRY(find_token(&eos, t, config, "eos_token", r));
    if (eos >= 0)
        SHOAL_TRY(append_eos(t, eos, r->log));
    const shoal_json *rule = shoal_json_get(config, "add_bos_token");
    if (rule == NULL || shoal_json_is_null(rule))
        return SHOAL_OK;
    bool add;
    SHOAL_TRY(shoal__read_bool(&add, config, "add_bos_token", false, "the file", r));
    t->bos_rule = add ? SHOAL__BOS_ADD : SHOAL__BOS_NEVER;
    if (add && t->bos_id < 0)
        return shoal__reader_fail(r, "add_bos_token",
                                  "is true, but bos_token names no token of tokenizer.json");
    return SHOAL_OK;
}

shoal_status shoal__read_tokenizer_config(shoal_tokenizer *t, const shoal_json *config,
                                          const char *name, shoal_log *log)
{
    shoal__reader reader = {name, log};
    return read_tokenizer_config(t, config, &reader);
}

/* eos_token_id: one id or a list. */
static shoal_status read_eos_ids(bool *found, shoal_tokenizer *t, const shoal_json *config,
                                 const shoal__reader *r)
{
    const shoal_json *value = shoal_json_get(config, "eos_token_id");
    *found = value != NULL && !shoal_json_is_null(value);
    if (!*found)
        return SHOAL_OK;
    bool is_list = shoal_json_is_array(value);
    size_t n = is_list ? shoal_json_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        int64_t id = shoal_json_int(is_list ? shoal_json_at(value, i) : value, -1);
        if (id < 0 || id > INT32_MAX)
            return shoal__reader_fail(r, "eos_token_id", "must be an id or a list of ids");
        SHOAL_TRY(append_eos(t, (int32_t)id, r->log));
    }
    return SHOAL_OK;
}

shoal_status shoal__read_special_ids(shoal_tokenizer *t, const char *folder, shoal_log *log)
{
    char path[PATH_MAX];
    shoal__reader reader = {path, log};
    shoal_json *doc;
    SHOAL_TRY(read_optional(&doc, path, folder, "tokenizer_config.json", log));
    shoal_status status = doc != NULL ? read_tokenizer_config(t, doc, &reader) : SHOAL_OK;
    shoal_json_close(doc);
    static const char *const names[] = {"generation_config.json", "config.json"};
    bool found = false;
    for (size_t i = 0; status == SHOAL_OK && !found && i < 2; i++) {
        SHOAL_TRY(read_optional(&doc, path, folder, names[i], log));
        if (doc != NULL)
            status = read_eos_ids(&found, t, doc, &reader);
        shoal_json_close(doc);
    }
    return status;
}
