#include "runtime/text/chat.h"
#include "tests/text/text_fixture.h"

static const shoal_chat_date today = {2025, 3, 7};

/* -- what Jinja says -- */

enum { MAX_MESSAGE = 8 };

static size_t take_messages(shoal_chat_message *messages, const shoal_json *list)
{
    size_t n = shoal_json_size(list);
    ck_assert_uint_le(n, MAX_MESSAGE);
    for (size_t i = 0; i < n; i++) {
        const shoal_json *one = shoal_json_at(list, i);
        messages[i].role = shoal_json_string(shoal_json_at(one, 0), NULL);
        messages[i].content = shoal_json_string(shoal_json_at(one, 1), &messages[i].n_bytes);
    }
    return n;
}

/* A template of chat_templates, or that of a folder of tests/tokenizers. */
static char *read_template(const char *name)
{
    char path[256];
    if (strstr(name, ".jinja") != NULL) {
        snprintf(path, sizeof path, "tests/text/chat_templates/%s", name);
        return read_source(path);
    }
    snprintf(path, sizeof path, "tests/tokenizers/%s/tokenizer_config.json", name);
    char *text = read_source(path);
    shoal_json *config = parse_json(text);
    free(text);
    text = strdup(shoal_json_string(shoal_json_get(config, "chat_template"), NULL));
    shoal_json_close(config);
    return text;
}

static shoal_status open_template(shoal_chat **chat, const char *template, shoal_log *log)
{
    const shoal_chat_source source = {
        .name = "test", .template = template, .n_bytes = strlen(template), "<s>", "</s>"};
    return shoal_chat_open_text(chat, &source, log);
}

static void check_format(shoal_tokenizer *unused, const shoal_json *line, const char *what)
{
    (void)unused;
    const char *name = shoal_json_string(shoal_json_get(line, "template"), NULL);
    char *template = read_template(name);
    shoal_chat *chat = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(open_template(&chat, template, &log) == SHOAL_OK, "%s: %s", name, log.error);
    ck_assert_str_eq(shoal_chat_name(chat),
                     shoal_json_string(shoal_json_get(line, "format"), NULL));
    free(template);
    const shoal_json *cases = shoal_json_get(line, "cases");
    ck_assert_uint_ge(shoal_json_size(cases), 15);
    for (size_t i = 0; i < shoal_json_size(cases); i++) {
        const shoal_json *one = shoal_json_at(cases, i);
        shoal_chat_message messages[MAX_MESSAGE];
        size_t n = take_messages(messages, shoal_json_get(one, "messages"));
        char *text = NULL;
        size_t n_bytes, n_wanted;
        shoal_status status = shoal_chat_render(&text, &n_bytes, chat, messages, n, today, &log);
        const char *wanted = shoal_json_string(shoal_json_get(one, "text"), &n_wanted);
        if (wanted == NULL) {
            ck_assert_msg(status == SHOAL_BAD_DATA, "%s, %s, case %zu", what, name, i);
            ck_assert_ptr_nonnull(strstr(log.error, "messages["));
            ck_assert_ptr_null(text);
            continue;
        }
        ck_assert_msg(status == SHOAL_OK, "%s, case %zu: %s", name, i, log.error);
        ck_assert_msg(n_bytes == n_wanted && memcmp(text, wanted, n_bytes + 1) == 0,
                      "%s, case %zu: '%s', wanted '%s'", name, i, text, wanted);
        free(text);
    }
    shoal_chat_close(chat);
}

START_TEST(formats_write_what_jinja_renders)
{
    ck_assert_uint_ge(for_each_line("tests/text/cases/chat.jsonl", check_format, NULL), 33);
}
END_TEST

/* -- templates that must not be guessed -- */

#define LOOP(turn, begin)                                                                          \
    "{% for message in messages %}" turn "{% endfor %}{% if add_generation_prompt %}" begin        \
    "{% endif %}"
#define CHATML_TURN                                                                                \
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'}}"
#define CHATML_BEGIN "{{'<|im_start|>assistant\\n'}}"

START_TEST(unknown_templates_are_refused)
{
    static const char *const unknown[] = {
        "",
        "{{ messages[0].content }}",
        "plain text",
        LOOP("{{ '<|user|>' + message['content'] }}", "{{ '<|assistant|>' }}"),
        /* nearly one that is known */
        LOOP("{{'<|im_start|>' + message['role'] + ' \\n' + message['content'] + '<|im_end|>\\n'}}",
             CHATML_BEGIN),
        LOOP("{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'}}",
             CHATML_BEGIN),
        LOOP(CHATML_TURN, "{{'<|im_start|>assistant'}}"),
        LOOP(CHATML_TURN, "{{'<|im_start|>assistant\\n<think>\\n'}}"),
        "{{'<|im_start|>system\\nYou are a pirate.<|im_end|>\\n'}}" LOOP(CHATML_TURN, CHATML_BEGIN),
        LOOP("{{'User: ' + message['content'] + '\\n'}}", "{{'Assistant:'}}"),
        /* two at once */
        LOOP(CHATML_TURN, CHATML_BEGIN)
            LOOP("{{ '<|start_of_role|>system<|end_of_role|>' + message['content'] + "
                 "'<|end_of_text|>\\n' }}{{ '<|start_of_role|>user<|end_of_role|>' + "
                 "message['content'] + '<|end_of_text|>\\n' }}"
                 "{{ '<|start_of_role|>assistant<|end_of_role|>' + message['content'] + "
                 "'<|end_of_text|>\\n' }}",
                 "{{ '<|start_of_role|>assistant<|end_of_role|>' }}"),
        /* in a comment it is not the template's */
        "{#" LOOP(CHATML_TURN, CHATML_BEGIN) "#}",
    };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        shoal_chat *chat = NULL;
        shoal_log log = quiet_log();
        ck_assert_msg(open_template(&chat, unknown[i], &log) == SHOAL_BAD_DATA, "%s", unknown[i]);
        ck_assert_ptr_null(chat);
        ck_assert_msg(strstr(log.error, "test: has a chat template that is not known") != NULL,
                      "%s", log.error);
        ck_assert_ptr_nonnull(strstr(log.error, "DeepSeek-V2, "));
        ck_assert_ptr_nonnull(strstr(log.error, "GLM-4.5"));
    }
    shoal_chat *chat = NULL;
    shoal_log log = quiet_log();
    ck_assert_int_eq(open_template(&chat, LOOP(CHATML_TURN, CHATML_BEGIN), &log), SHOAL_OK);
    shoal_chat_close(chat);
}
END_TEST

START_TEST(templates_without_an_end)
{
    static const struct {
        const char *template;
        const char *said;
    } bad[] = {
        {"{{", "tag at byte 2"},
        {"a{%- if", "tag at byte 4"},
        {"{{ 'x }}", "literal at byte"},
        {"{{ \"x' }}", "literal at byte"},
        {"{# x", "comment"},
        {"{{ x }", "tag"},
        {"{{ 'x' + ", "tag"},
        {"{#", "comment"},
        {"{{ 'x\\", "literal"},
        {"{% if x %}", "block"},
        {"{% endif %}{% if x %}", "block"},
        {"{% x }}", "tag"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        shoal_chat *chat = NULL;
        shoal_log log = quiet_log();
        ck_assert_int_eq(open_template(&chat, bad[i].template, &log), SHOAL_BAD_DATA);
        ck_assert_msg(strstr(log.error, bad[i].said) != NULL, "%s: %s", bad[i].template, log.error);
    }
}
END_TEST

/* Every prefix, and every template with one byte less, is another template or none: no crash. */
START_TEST(damaged_templates)
{
    char *template = read_template("qwen3");
    size_t n = strlen(template);
    for (size_t i = 0; i < n; i += 7) {
        shoal_log log = quiet_log();
        shoal_chat *chat = NULL;
        shoal_chat_source source = {.name = "test", .template = template, .n_bytes = i};
        ck_assert_int_eq(shoal_chat_open_text(&chat, &source, &log), SHOAL_BAD_DATA);
        char *less = strdup(template);
        ck_assert_ptr_nonnull(less);
        memmove(less + i, less + i + 1, n - i);
        if (open_template(&chat, less, &log) == SHOAL_OK)
            shoal_chat_close(chat);
        free(less);
    }
    free(template);
}
END_TEST

/* -- messages -- */

START_TEST(messages_that_are_none)
{
    shoal_chat *chat = NULL;
    shoal_log log = quiet_log();
    ck_assert_int_eq(open_template(&chat, LOOP(CHATML_TURN, CHATML_BEGIN), &log), SHOAL_OK);
    char *text = NULL;
    size_t n_bytes;
    ck_assert_int_eq(shoal_chat_render(&text, &n_bytes, chat, NULL, 0, today, &log),
                     SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log.error, "no messages"));
    const shoal_chat_message messages[] = {{"user", "x", 1}, {"tool", "y", 1}};
    ck_assert_int_eq(shoal_chat_render(&text, &n_bytes, chat, messages, 2, today, &log),
                     SHOAL_BAD_DATA);
    ck_assert_ptr_nonnull(strstr(log.error, "messages[1]: the role is 'tool'"));
    ck_assert_ptr_null(text);
    shoal_chat_close(chat);
    shoal_chat_close(NULL);
}
END_TEST

/* -- folders -- */

static shoal_status open_folder(shoal_chat **chat, char folder[64], const char *config,
                                const char *jinja, shoal_log *log)
{
    make_folder(folder);
    if (config != NULL)
        write_file(folder, "tokenizer_config.json", config, strlen(config));
    if (jinja != NULL)
        write_file(folder, "chat_template.jinja", jinja, strlen(jinja));
    shoal_status status = shoal_chat_open(chat, folder, log);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/chat_template.jinja", folder);
    unlink(path);
    remove_folder(folder);
    return status;
}

/* The config of a ChatML template with BOS; `value` is the chat_template. */
static char *config_with(const char *value)
{
    char *text = malloc(4096);
    ck_assert_ptr_nonnull(text);
    snprintf(text, 4096, "{\"bos_token\": {\"content\": \"<b>\"}, \"chat_template\": %s}", value);
    return text;
}

#define JSON_TEMPLATE                                                                              \
    "\"{{bos_token}}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "    \
    "message['content'] + '<|im_end|>\\n'}}{% endfor %}{{'<|im_start|>assistant\\n'}}\""

static void check_folder(const char *config, const char *jinja, const char *wanted)
{
    char folder[64];
    shoal_chat *chat = NULL;
    shoal_log log = quiet_log();
    ck_assert_msg(open_folder(&chat, folder, config, jinja, &log) == SHOAL_OK, "%s", log.error);
    const shoal_chat_message message = {"user", "x", 1};
    char *text = NULL;
    size_t n;
    ck_assert_int_eq(shoal_chat_render(&text, &n, chat, &message, 1, today, &log), SHOAL_OK);
    ck_assert_str_eq(text, wanted);
    free(text);
    shoal_chat_close(chat);
}

START_TEST(where_a_template_is_found)
{
    const char *chatml = "<b><|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n";
    char *config = config_with(JSON_TEMPLATE);
    check_folder(config, NULL, chatml);
    /* the file counts more, and needs no config */
    check_folder(config, LOOP(CHATML_TURN, CHATML_BEGIN), chatml + 3);
    check_folder(NULL, LOOP(CHATML_TURN, CHATML_BEGIN), chatml + 3);
    free(config);
    config = config_with("[{\"name\": \"tool_use\", \"template\": \"x\"}, "
                         "{\"name\": \"default\", \"template\": " JSON_TEMPLATE "}]");
    check_folder(config, NULL, chatml);
    free(config);
}
END_TEST

START_TEST(folders_without_a_template)
{
    static const struct {
        const char *config;
        const char *said;
    } bad[] = {
        {NULL, "has no chat template"},
        {"{}", "has no chat template"},
        {"{\"chat_template\": null}", "has no chat template"},
        {"{\"chat_template\": 7}", "chat_template is neither"},
        {"{\"chat_template\": []}", "chat_template is neither"},
        {"{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}]}", "default"},
        {"{\"chat_template\": [{\"name\": \"default\", \"template\": 1}]}", "default"},
        {"{\"chat_template\": [1, {\"name\": 2}]}", "default"},
        {"{\"chat_template\": \"{{ x }}\"}", "a chat template that is not known"},
        {"{\"chat_template\": \"{{ x\"}", "has no end"},
        {"[]", "has no chat template"},
        {"{", "tokenizer_config.json"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char folder[64];
        shoal_chat *chat = NULL;
        shoal_log log = quiet_log();
        ck_assert_int_eq(open_folder(&chat, folder, bad[i].config, NULL, &log), SHOAL_BAD_DATA);
        ck_assert_ptr_null(chat);
        ck_assert_msg(strstr(log.error, bad[i].said) != NULL, "case %zu: %s", i, log.error);
        ck_assert_msg(strstr(log.error, folder) != NULL, "case %zu: %s", i, log.error);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, formats_write_what_jinja_renders);
    SHOAL_TEST(suite, unknown_templates_are_refused);
    SHOAL_TEST(suite, templates_without_an_end);
    SHOAL_TEST(suite, damaged_templates);
    SHOAL_TEST(suite, messages_that_are_none);
    SHOAL_TEST(suite, where_a_template_is_found);
    SHOAL_TEST(suite, folders_without_a_template);
}

SHOAL_TEST_MAIN("text.chat", add_tests)
