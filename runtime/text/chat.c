#include "runtime/text/chat.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/text/chat/format.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPLATE_MAX_BYTES ((size_t)4 << 20)

struct shoal_chat {
    const shoal__chat_format *format;
    char *bos, *eos; /* owned; "" where there is none */
};

static const shoal__chat_format *const families[] = {
    shoal__chat_deepseek, shoal__chat_chatml, shoal__chat_llama,
    shoal__chat_harmony,  shoal__chat_glm,    shoal__chat_granite,
};
enum { N_FAMILY = sizeof families / sizeof families[0] };

/* -- recognising -- */

static bool contains(const shoal__bytes *canonical, const char *mark)
{
    return memmem(canonical->data, canonical->n, mark, strlen(mark)) != NULL;
}

static bool fits(const shoal__chat_format *format, const shoal__bytes *canonical)
{
    size_t n_has = sizeof format->has / sizeof format->has[0];
    size_t n_lacks = sizeof format->lacks / sizeof format->lacks[0];
    for (size_t i = 0; i < n_has && format->has[i] != NULL; i++)
        if (!contains(canonical, format->has[i]))
            return false;
    for (size_t i = 0; i < n_lacks && format->lacks[i] != NULL; i++)
        if (contains(canonical, format->lacks[i]))
            return false;
    return true;
}

/* The one format that fits; NULL if none does or more than one: then it is like none. */
static const shoal__chat_format *recognise(const shoal__bytes *canonical)
{
    const shoal__chat_format *found = NULL;
    for (size_t f = 0; f < N_FAMILY; f++)
        for (const shoal__chat_format *format = families[f]; format->name != NULL; format++)
            if (fits(format, canonical)) {
                if (found != NULL)
                    return NULL;
                found = format;
            }
    return found;
}

/* Names of all formats, each once. */
static void list_names(char *text, size_t n_max)
{
    size_t n = 0;
    const char *before = "";
    text[0] = '\0';
    for (size_t f = 0; f < N_FAMILY; f++)
        for (const shoal__chat_format *format = families[f]; format->name != NULL; format++) {
            if (strcmp(before, format->name) == 0)
                continue;
            int added = snprintf(text + n, n_max - n, "%s%s", n > 0 ? ", " : "", format->name);
            if (added < 0 || (size_t)added >= n_max - n)
                return;
            n += (size_t)added;
            before = format->name;
        }
}

static shoal_status fail_unknown(const char *name, const char *what, shoal_log *log)
{
    char names[512];
    list_names(names, sizeof names);
    return shoal_fail(log, SHOAL_BAD_DATA,
                      "%s: %s, so messages cannot be turned into a prompt; supported are the "
                      "templates of %s; or give the whole prompt yourself",
                      name, what, names);
}

shoal_status shoal_chat_open_text(shoal_chat **chat, const shoal_chat_source *source,
                                  shoal_log *log)
{
    if (source->template == NULL)
        return fail_unknown(source->name, "has no chat template", log);
    shoal__bytes canonical = {0};
    shoal_status status = shoal__chat_canonical(&canonical, source, log);
    const shoal__chat_format *format = status == SHOAL_OK ? recognise(&canonical) : NULL;
    free(canonical.data);
    SHOAL_TRY(status);
    if (format == NULL)
        return fail_unknown(source->name, "has a chat template that is not known", log);
    shoal_chat *c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->format = format;
        c->bos = strdup(source->bos != NULL ? source->bos : "");
        c->eos = strdup(source->eos != NULL ? source->eos : "");
    }
    if (c == NULL || c->bos == NULL || c->eos == NULL) {
        shoal_chat_close(c);
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for a chat format", source->name);
    }
    *chat = c;
    return SHOAL_OK;
}

void shoal_chat_close(shoal_chat *chat)
{
    if (chat == NULL)
        return;
    free(chat->bos);
    free(chat->eos);
    free(chat);
}

const char *shoal_chat_name(const shoal_chat *chat)
{
    return chat->format->name;
}

/* -- a folder -- */

/* A token given as "text" or {"content": "text"}; NULL if it is neither. */
static const char *token_text(const shoal_json *config, const char *key)
{
    const shoal_json *value = shoal_json_get(config, key);
    if (shoal_json_is_object(value))
        value = shoal_json_get(value, "content");
    return shoal_json_string(value, NULL);
}

/* chat_template: a text, or a list of {name, template}. Leaves source->template NULL if absent. */
static shoal_status read_template(shoal_chat_source *source, const shoal_json *config,
                                  const char *path, shoal_log *log)
{
    const shoal_json *value = shoal_json_get(config, "chat_template");
    if (value == NULL || shoal_json_is_null(value))
        return SHOAL_OK;
    source->template = shoal_json_string(value, &source->n_bytes);
    for (size_t i = 0; i < shoal_json_size(value) && shoal_json_is_array(value); i++) {
        const shoal_json *one = shoal_json_at(value, i);
        const char *name = shoal_json_string(shoal_json_get(one, "name"), NULL);
        if (name != NULL && strcmp(name, "default") == 0)
            source->template = shoal_json_string(shoal_json_get(one, "template"), &source->n_bytes);
    }
    if (source->template != NULL)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_BAD_DATA,
                      "%s: chat_template is neither a text nor a list of {name, template} with "
                      "one named \"default\"",
                      path);
}

/* Whether folder/name is there. */
static bool file_in(char path[PATH_MAX], const char *folder, const char *name)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX && access(path, F_OK) == 0;
}

static shoal_status open_with(shoal_chat **chat, const char *folder, const shoal_json *config,
                              shoal_log *log)
{
    char path[PATH_MAX];
    char *text = NULL;
    shoal_chat_source source = {.name = folder,
                                .bos = token_text(config, "bos_token"),
                                .eos = token_text(config, "eos_token")};
    if (file_in(path, folder, "chat_template.jinja")) {
        SHOAL_TRY(shoal_file_read(&text, &source.n_bytes, path, TEMPLATE_MAX_BYTES, log));
        source.template = text;
    } else {
        snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
        SHOAL_TRY(read_template(&source, config, path, log));
    }
    shoal_status status = shoal_chat_open_text(chat, &source, log);
    free(text);
    return status;
}

shoal_status shoal_chat_open(shoal_chat **chat, const char *folder, shoal_log *log)
{
    char path[PATH_MAX];
    shoal_json *config = NULL;
    if (file_in(path, folder, "tokenizer_config.json"))
        SHOAL_TRY(shoal_json_read_file_loosely(&config, path, log));
    shoal_status status = open_with(chat, folder, config, log);
    shoal_json_close(config);
    return status;
}

/* -- rendering -- */

static shoal_status check_messages(const shoal_chat_message *messages, size_t n, shoal_log *log)
{
    if (n == 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "there are no messages, wanted at least one");
    for (size_t i = 0; i < n; i++) {
        const char *role = messages[i].role;
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
            strcmp(role, "assistant") != 0)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "messages[%zu]: the role is '%.40s', wanted system, user or "
                              "assistant",
                              i, role);
    }
    return SHOAL_OK;
}

shoal_status shoal_chat_render(char **text, size_t *n_bytes, const shoal_chat *chat,
                               const shoal_chat_message *messages, size_t n, shoal_chat_date date,
                               shoal_log *log)
{
    SHOAL_TRY(check_messages(messages, n, log));
    shoal__chat_prompt prompt = {
        .log = log, .message = messages, .n = n, .bos = chat->bos, .eos = chat->eos, .date = date};
    chat->format->write(&prompt, chat->format->how);
    shoal__chat_put_bytes(&prompt, "", 1); /* the zero byte behind */
    if (prompt.status != SHOAL_OK) {
        free(prompt.text.data);
        return prompt.status;
    }
    *text = prompt.text.data;
    *n_bytes = prompt.text.n - 1;
    return SHOAL_OK;
}
