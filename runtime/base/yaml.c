#include "runtime/base/yaml.h"

#include "runtime/base/file.h"

#include <stdlib.h>
#include <string.h>

static const size_t max_file_bytes = (size_t)64 << 20;

/* cyaml reports a failure in several lines (what, then a backtrace of places): joined into one. */
typedef struct yaml_report {
    char text[512];
    size_t n;
} yaml_report;

__attribute__((format(printf, 3, 0))) static void collect(cyaml_log_t level, void *ctx,
                                                          const char *format, va_list args)
{
    yaml_report *report = ctx;
    if (level < CYAML_LOG_ERROR)
        return;
    char line[256];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    const char *text = line;
    if (strncmp(text, "Load: ", 6) == 0)
        text += 6;
    text += strspn(text, " ");
    if (strcmp(text, "Backtrace:") == 0)
        return;
    int n = snprintf(report->text + report->n, sizeof report->text - report->n, "%s%s",
                     report->n > 0 ? "; " : "", text);
    if (n > 0)
        report->n += (size_t)n < sizeof report->text - report->n ? (size_t)n : 0;
}

static cyaml_config_t config_for(yaml_report *report)
{
    return (cyaml_config_t){
        .log_fn = report != NULL ? collect : NULL,
        .log_ctx = report,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
    };
}

static shoal_status fail_load(cyaml_err_t error, const yaml_report *report, const char *path,
                              shoal_log *log)
{
    if (error == CYAML_ERR_OOM)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to read it", path);
    return shoal_fail(log, SHOAL_BAD_DATA, "%s: not as expected: %s%s%s", path,
                      cyaml_strerror(error), report->n > 0 ? ": " : "", report->text);
}

shoal_status shoal_yaml_read_file(void **data, const char *path, const cyaml_schema_value_t *schema,
                                  shoal_log *log)
{
    char *text;
    size_t n_bytes;
    SHOAL_TRY(shoal_file_read(&text, &n_bytes, path, max_file_bytes, log));
    yaml_report report = {.n = 0};
    cyaml_config_t config = config_for(&report);
    cyaml_data_t *loaded = NULL;
    cyaml_err_t error =
        cyaml_load_data((const uint8_t *)text, n_bytes, &config, schema, &loaded, NULL);
    free(text);
    if (error != CYAML_OK)
        return fail_load(error, &report, path, log);
    if (loaded == NULL)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: is empty, a mapping is expected", path);
    *data = loaded;
    return SHOAL_OK;
}

void shoal_yaml_close(void *data, const cyaml_schema_value_t *schema)
{
    if (data == NULL)
        return;
    cyaml_config_t config = config_for(NULL);
    cyaml_free(&config, schema, data, 0);
}
