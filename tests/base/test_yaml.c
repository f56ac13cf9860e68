#include "runtime/base/yaml.h"
#include "tests/support/check_main.h"

#include <string.h>
#include <unistd.h>

typedef struct settings {
    char *name;
    int32_t n_rank;
    double *weight; /* [weight_count] */
    unsigned weight_count;
} settings;

static const cyaml_schema_value_t weight_schema = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double)};
static const cyaml_schema_field_t settings_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, settings, name, 0, CYAML_UNLIMITED),
    CYAML_FIELD_INT("ranks", CYAML_FLAG_DEFAULT, settings, n_rank),
    CYAML_FIELD_SEQUENCE("weights", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, settings, weight,
                         &weight_schema, 0, CYAML_UNLIMITED),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t settings_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, settings, settings_fields)};

static shoal_status read_text(settings **s, const char *text, shoal_log *log)
{
    char path[] = "/tmp/shoal-yaml-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
    close(fd);
    void *data = NULL;
    shoal_status status = shoal_yaml_read_file(&data, path, &settings_schema, log);
    *s = data;
    if (status != SHOAL_OK) {
        ck_assert_ptr_null(data);
        ck_assert_msg(strstr(log->error, path) != NULL, "%s", log->error);
    }
    unlink(path);
    return status;
}

START_TEST(a_file_is_read)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    settings *s;
    ck_assert_int_eq(read_text(&s, "# note\nname: mini\nranks: 3\nweights: [1, 0.5, 0]\n", &log),
                     SHOAL_OK);
    ck_assert_str_eq(s->name, "mini");
    ck_assert_int_eq(s->n_rank, 3);
    ck_assert_uint_eq(s->weight_count, 3);
    ck_assert(s->weight[1] == 0.5);
    shoal_yaml_close(s, &settings_schema);
    shoal_yaml_close(NULL, &settings_schema);
}
END_TEST

START_TEST(bad_files_are_rejected_with_a_place)
{
    static const struct {
        const char *text;
        const char *says;
    } bad[] = {
        {"", ""},
        {"# only a comment\n", ""},
        {"- 1\n- 2\n", ""},
        {"name: x\nranks: three\n", "ranks"},
        {"name: x\nranks: 3\nrank: 4\n", "rank"},
        {"name: x\n", "ranks"},
        {"name: x\nranks: 3\nranks: 4\n", "ranks"},
        {"name: [x\n", ""},
        {"name: \"x\nranks: 1\n", ""},
        {"name: x\nranks: 99999999999999999999\n", "ranks"},
        {"name: x\nranks: 3\nweights: {a: 1}\n", "weights"},
        {"\tname: x\n", ""},
        {"name: \xff\xfe\nranks: 1\n", ""},
        {"name: *gone\nranks: 1\n", ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        shoal_log log;
        shoal_log_init(&log, NULL, 0, "h");
        settings *s;
        ck_assert_msg(read_text(&s, bad[i].text, &log) == SHOAL_BAD_DATA, "%s", bad[i].text);
        ck_assert_msg(strstr(log.error, bad[i].says) != NULL, "%s\n%s", bad[i].text, log.error);
    }
}
END_TEST

START_TEST(a_missing_file)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    void *data = NULL;
    ck_assert_int_eq(shoal_yaml_read_file(&data, "/nowhere/x.yaml", &settings_schema, &log),
                     SHOAL_NO_INPUT);
    ck_assert_ptr_nonnull(strstr(log.error, "/nowhere/x.yaml"));
    ck_assert_ptr_null(data);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, a_file_is_read);
    SHOAL_TEST(suite, bad_files_are_rejected_with_a_place);
    SHOAL_TEST(suite, a_missing_file);
}

SHOAL_TEST_MAIN("base.yaml", add_tests)
