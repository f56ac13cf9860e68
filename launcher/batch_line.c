#include "launcher/batch_io.h"

#include "runtime/base/hash.h"

#include <stdlib.h>
#include <string.h>

typedef struct shoal_id_entry {
    char *key; /* owned; NULL: free */
    int32_t state;
} shoal_id_entry;

static shoal_id_entry *slot_of(const shoal_id_set *set, const char *key)
{
    size_t at = (size_t)shoal_hash(SHOAL_HASH_INIT, key, strlen(key)) & (set->n_max - 1);
    while (set->entry[at].key != NULL && strcmp(set->entry[at].key, key) != 0)
        at = (at + 1) & (set->n_max - 1);
    return &set->entry[at];
}

int32_t shoal_id_set_get(const shoal_id_set *set, const char *key)
{
    return set->n_max > 0 ? slot_of(set, key)->state : 0;
}

static shoal_status grow(shoal_id_set *set, shoal_log *log)
{
    shoal_id_set wider = {.n = set->n, .n_max = set->n_max > 0 ? 2 * set->n_max : 64};
    wider.entry = calloc(wider.n_max, sizeof *wider.entry);
    if (wider.entry == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %zu ids", wider.n_max);
    for (size_t i = 0; i < set->n_max; i++)
        if (set->entry[i].key != NULL)
            *slot_of(&wider, set->entry[i].key) = set->entry[i];
    free(set->entry);
    *set = wider;
    return SHOAL_OK;
}

shoal_status shoal_id_set_add(shoal_id_set *set, const char *key, int32_t state, shoal_log *log)
{
    if (4 * (set->n + 1) > 3 * set->n_max)
        SHOAL_TRY(grow(set, log));
    shoal_id_entry *entry = slot_of(set, key);
    if (entry->key == NULL) {
        entry->key = strdup(key);
        if (entry->key == NULL)
            return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for an id");
        set->n++;
    }
    entry->state |= state;
    return SHOAL_OK;
}

void shoal_id_set_close(shoal_id_set *set)
{
    for (size_t i = 0; i < set->n_max; i++)
        free(set->entry[i].key);
    free(set->entry);
    *set = (shoal_id_set){0};
}

uint64_t shoal_batch_seed(uint64_t seed, const shoal_json *id)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(seed >> (8 * i));
    uint64_t hash = shoal_hash(SHOAL_HASH_INIT, bytes, sizeof bytes);
    char *key = shoal_json_dump(id);
    hash = shoal_hash(hash, key, strlen(key));
    free(key);
    return hash;
}

static shoal_status bad(const shoal_batch_line *line, shoal_log *log, const char *what)
{
    return shoal_fail(log, SHOAL_BAD_DATA, "line %lld: %s", (long long)line->number, what);
}

/* The id, or "line N" where there is none; never fails, so that every line can be answered. */
static bool take_id(shoal_batch_line *line)
{
    const shoal_json *id = shoal_json_get(line->doc, "id");
    bool has_id = shoal_json_is_string(id) || shoal_json_is_integer(id);
    if (has_id) {
        line->id = shoal_json_copy(id);
    } else {
        char text[48];
        int n = snprintf(text, sizeof text, "line %lld", (long long)line->number);
        line->id = shoal_json_new_string(text, (size_t)n);
    }
    line->key = shoal_json_dump(line->id);
    return has_id;
}

static shoal_status take_prompt_ids(shoal_batch_line *line, const shoal_json *ids, shoal_log *log)
{
    size_t n = shoal_json_size(ids);
    if (!shoal_json_is_array(ids) || n == 0)
        return bad(line, log, "prompt_ids is not an array with at least one id");
    line->prompt_ids = malloc(n * sizeof *line->prompt_ids);
    if (line->prompt_ids == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "line %lld: no memory for %zu ids",
                          (long long)line->number, n);
    line->n_prompt_ids = n;
    for (size_t i = 0; i < n; i++) {
        int64_t id = shoal_json_int(shoal_json_at(ids, i), -1);
        if (id < 0 || id > INT32_MAX)
            return bad(line, log, "prompt_ids has an element that is not a token id");
        line->prompt_ids[i] = (int32_t)id;
    }
    return SHOAL_OK;
}

/* One of `messages`: role and content are texts, and there is nothing else that says something. */
static shoal_status take_message(shoal_chat_message *message, const shoal_batch_line *line,
                                 size_t at, const shoal_json *one, shoal_log *log)
{
    const char *key;
    const shoal_json *value;
    for (void *it = shoal_json_next(one, NULL, &key, NULL, &value); it != NULL;
         it = shoal_json_next(one, it, &key, NULL, &value))
        if (strcmp(key, "role") != 0 && strcmp(key, "content") != 0 && !shoal_json_is_null(value))
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "line %lld: messages[%zu]: the key '%.80s' is not known, wanted role "
                              "and content",
                              (long long)line->number, at, key);
    message->role = shoal_json_string(shoal_json_get(one, "role"), NULL);
    message->content = shoal_json_string(shoal_json_get(one, "content"), &message->n_bytes);
    if (message->role == NULL || message->content == NULL)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "line %lld: messages[%zu] is no object with the texts role and content",
                          (long long)line->number, at);
    return SHOAL_OK;
}

static shoal_status take_messages(shoal_batch_line *line, const shoal_json *messages,
                                  shoal_log *log)
{
    size_t n = shoal_json_size(messages);
    if (!shoal_json_is_array(messages) || n == 0)
        return bad(line, log, "messages is not an array with at least one message");
    line->messages = calloc(n, sizeof *line->messages);
    if (line->messages == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "line %lld: no memory for %zu messages",
                          (long long)line->number, n);
    line->n_message = n;
    for (size_t i = 0; i < n; i++)
        SHOAL_TRY(take_message(&line->messages[i], line, i, shoal_json_at(messages, i), log));
    return SHOAL_OK;
}

/* stop: a text or a list of texts, none of them empty; absent or null: the default. */
static shoal_status take_stop(shoal_batch_line *line, const shoal_text_list *otherwise,
                              shoal_log *log)
{
    const shoal_json *stop = shoal_json_get(line->doc, "stop");
    line->stop = *otherwise;
    if (stop == NULL || shoal_json_is_null(stop))
        return SHOAL_OK;
    bool is_list = shoal_json_is_array(stop);
    size_t n = is_list ? shoal_json_size(stop) : 1;
    if (n > SHOAL_TEXT_LIST_MAX)
        return bad(line, log, "stop has too many texts, wanted at most 16");
    line->stop.n = n;
    for (size_t i = 0; i < n; i++) {
        line->stop.text[i] =
            shoal_json_string(is_list ? shoal_json_at(stop, i) : stop, &line->stop.n_bytes[i]);
        if (line->stop.text[i] == NULL || line->stop.n_bytes[i] == 0)
            return bad(line, log, "stop is not a text or a list of texts that are not empty");
    }
    return SHOAL_OK;
}

static shoal_status take_prompt(shoal_batch_line *line, shoal_log *log)
{
    const shoal_json *prompt = shoal_json_get(line->doc, "prompt");
    const shoal_json *ids = shoal_json_get(line->doc, "prompt_ids");
    const shoal_json *messages = shoal_json_get(line->doc, "messages");
    if ((prompt != NULL) + (ids != NULL) + (messages != NULL) != 1)
        return bad(line, log, "wanted exactly one of prompt, prompt_ids and messages");
    if (messages != NULL)
        return take_messages(line, messages, log);
    if (ids != NULL)
        return take_prompt_ids(line, ids, log);
    const char *text = shoal_json_string(prompt, &line->n_prompt_bytes);
    if (text == NULL)
        return bad(line, log, "prompt is not a string");
    line->prompt = malloc(line->n_prompt_bytes + 1);
    if (line->prompt == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "line %lld: no memory for its prompt",
                          (long long)line->number);
    memcpy(line->prompt, text, line->n_prompt_bytes);
    line->prompt[line->n_prompt_bytes] = '\0';
    return SHOAL_OK;
}

/* A whole number in [min, max]; absent or null: unchanged. */
static shoal_status take_int(int64_t *value, const shoal_batch_line *line, const char *key,
                             int64_t min, int64_t max, shoal_log *log)
{
    const shoal_json *member = shoal_json_get(line->doc, key);
    if (member == NULL || shoal_json_is_null(member))
        return SHOAL_OK;
    int64_t found = shoal_json_int(member, INT64_MIN);
    if (found < min || found > max)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "line %lld: %s is not a whole number from %lld to "
                          "%lld",
                          (long long)line->number, key, (long long)min, (long long)max);
    *value = found;
    return SHOAL_OK;
}

static shoal_status take_number(float *value, const shoal_batch_line *line, const char *key,
                                double max, shoal_log *log)
{
    const shoal_json *member = shoal_json_get(line->doc, key);
    if (member == NULL || shoal_json_is_null(member))
        return SHOAL_OK;
    double found = shoal_json_number(member, -1);
    if (!(found >= 0 && found <= max))
        return shoal_fail(log, SHOAL_BAD_DATA, "line %lld: %s is not a number from 0 to %g",
                          (long long)line->number, key, max);
    *value = (float)found;
    return SHOAL_OK;
}

static shoal_status take_sampling(shoal_batch_line *line, const shoal_batch_defaults *defaults,
                                  shoal_log *log)
{
    line->sampling = defaults->sampling;
    int64_t max_tokens = defaults->max_tokens;
    int64_t top_k = defaults->sampling.top_k;
    int64_t seed = -1;
    SHOAL_TRY(take_int(&max_tokens, line, "max_tokens", 1, INT32_MAX, log));
    SHOAL_TRY(take_int(&top_k, line, "top_k", 0, INT32_MAX, log));
    SHOAL_TRY(take_int(&seed, line, "seed", 0, INT64_MAX, log));
    SHOAL_TRY(take_number(&line->sampling.temperature, line, "temperature", 1000, log));
    SHOAL_TRY(take_number(&line->sampling.top_p, line, "top_p", 1, log));
    line->max_tokens = (int32_t)max_tokens;
    line->sampling.top_k = (int32_t)top_k;
    line->sampling.seed =
        seed >= 0 ? (uint64_t)seed : shoal_batch_seed(defaults->sampling.seed, line->id);
    const shoal_json *ignore_eos = shoal_json_get(line->doc, "ignore_eos");
    line->ignore_eos = shoal_json_bool(ignore_eos, defaults->ignore_eos);
    if (ignore_eos != NULL && !shoal_json_is_null(ignore_eos) && !shoal_json_is_bool(ignore_eos))
        return bad(line, log, "ignore_eos is neither true nor false");
    return SHOAL_OK;
}

static const char *find_unknown_key(const shoal_json *doc)
{
    static const char *const known[] = {"id",    "prompt",     "prompt_ids",  "messages",
                                        "stop",  "max_tokens", "temperature", "top_k",
                                        "top_p", "seed",       "ignore_eos"};
    const char *key;
    size_t n_key;
    const shoal_json *value;
    for (void *it = shoal_json_next(doc, NULL, &key, &n_key, &value); it != NULL;
         it = shoal_json_next(doc, it, &key, &n_key, &value)) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            is_known = is_known || strcmp(key, known[i]) == 0;
        if (!is_known)
            return key;
    }
    return NULL;
}

shoal_status shoal_batch_line_parse(shoal_batch_line *line, const char *text, size_t n_bytes,
                                    int64_t number, const shoal_batch_defaults *defaults,
                                    shoal_log *log)
{
    *line = (shoal_batch_line){.number = number};
    char name[48];
    snprintf(name, sizeof name, "line %lld", (long long)number);
    shoal_status status = shoal_json_parse(&line->doc, text, n_bytes, name, log);
    bool has_id = take_id(line);
    SHOAL_TRY(status);
    if (!shoal_json_is_object(line->doc))
        return bad(line, log, "not a JSON object");
    if (!has_id)
        return bad(line, log, "no id, wanted a string or a whole number");
    SHOAL_TRY(take_prompt(line, log));
    SHOAL_TRY(take_stop(line, &defaults->stop, log));
    SHOAL_TRY(take_sampling(line, defaults, log));
    line->unknown_key = find_unknown_key(line->doc);
    return SHOAL_OK;
}

void shoal_batch_line_close(shoal_batch_line *line)
{
    shoal_json_close(line->id);
    free(line->key);
    free(line->prompt);
    free(line->prompt_ids);
    free(line->messages);
    shoal_json_close(line->doc);
    *line = (shoal_batch_line){0};
}
