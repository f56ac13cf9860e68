#include "runtime/base/log.h"

#include <stdarg.h>
#include <string.h>

/* Room for "[rank host] level: " before the text, and the newline behind it. */
enum { LOG_PREFIX_BYTES = 128, LOG_TEXT_BYTES = sizeof(((shoal_log *)0)->error) };

static const char *level_text(shoal_log_level level)
{
    switch (level) {
    case SHOAL_LOG_DEBUG:
        return "debug";
    case SHOAL_LOG_INFO:
        return "info";
    case SHOAL_LOG_WARN:
        return "warning";
    case SHOAL_LOG_ERROR:
        return "error";
    }
    return "error";
}

void shoal_log_init(shoal_log *log, FILE *out, int32_t rank, const char *host)
{
    *log = (shoal_log){.out = out, .level = SHOAL_LOG_INFO, .rank = rank};
    snprintf(log->host, sizeof log->host, "%s", host != NULL ? host : "?");
}

/* Texts quote names and values out of files, which may hold anything: one call stays one line, and
 * no file writes escape sequences to a terminal. */
static void format_text(char text[LOG_TEXT_BYTES], const char *format, va_list args)
{
    int n = vsnprintf(text, LOG_TEXT_BYTES, format, args);
    if (n < 0)
        snprintf(text, LOG_TEXT_BYTES, "(text could not be formatted)");
    else if (n >= LOG_TEXT_BYTES)
        memcpy(text + LOG_TEXT_BYTES - 4, "...", 4);
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

/* One fwrite for the whole line, so that lines of ranks that share a terminal do not interleave. */
static void write_line(shoal_log *log, shoal_log_level level, const char *text)
{
    if (log->out == NULL || level < log->level)
        return;
    char line[LOG_PREFIX_BYTES + LOG_TEXT_BYTES];
    int n = snprintf(line, sizeof line, "[%d %s] %s: %s\n", (int)log->rank, log->host,
                     level_text(level), text);
    if (n > 0) {
        fwrite(line, 1, (size_t)n, log->out);
        fflush(log->out);
    }
}

void shoal_log_line(shoal_log *log, shoal_log_level level, const char *format, ...)
{
    if (log == NULL || log->out == NULL || level < log->level)
        return;
    char text[LOG_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    write_line(log, level, text);
}

shoal_status(shoal_fail)(shoal_log *log, shoal_status status, const char *format, ...)
{
    if (log == NULL)
        return status;
    char text[LOG_TEXT_BYTES]; /* not log->error at once: it may be among the arguments */
    va_list args;
    va_start(args, format);
    format_text(text, format, args);
    va_end(args);
    memcpy(log->error, text, sizeof text);
    if (!log->capture)
        write_line(log, SHOAL_LOG_ERROR, text);
    return status;
}
