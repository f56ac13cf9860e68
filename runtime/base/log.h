/* The logger: lines "[rank host] level: text" on one stream, normally stderr (stdout carries
 * results only). It also keeps the text of the last failure, so that a caller that turns a failure
 * into data (a bad line of a batch) can use it. One logger per rank; a plain struct, no global.
 * Used from a rank's main thread only.
 * Layering: base. */
#ifndef SHOAL_BASE_LOG_H
#define SHOAL_BASE_LOG_H

#include "runtime/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum shoal_log_level {
    SHOAL_LOG_DEBUG,
    SHOAL_LOG_INFO,
    SHOAL_LOG_WARN,
    SHOAL_LOG_ERROR,
} shoal_log_level;

typedef struct shoal_log {
    FILE *out;             /* borrowed; NULL discards everything but `error` */
    shoal_log_level level; /* lines below it are not written */
    int32_t rank;          /* communicator rank, 0 until known */
    bool capture;          /* failures are kept in `error` but not written */
    char host[64];
    char error[1024]; /* text of the last shoal_fail, "" if none */
} shoal_log;

/* host is copied (truncated to 63 bytes). */
void shoal_log_init(shoal_log *log, FILE *out, int32_t rank, const char *host);

void shoal_log_line(shoal_log *log, shoal_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define shoal_log_debug(log, ...) shoal_log_line((log), SHOAL_LOG_DEBUG, __VA_ARGS__)
#define shoal_log_info(log, ...)  shoal_log_line((log), SHOAL_LOG_INFO, __VA_ARGS__)
#define shoal_log_warn(log, ...)  shoal_log_line((log), SHOAL_LOG_WARN, __VA_ARGS__)

/* Make and log the text of a failure, once, where it is first known: what happened, where (file,
 * tensor, rank, host), what was wanted, what to do. Returns `status` so that one can write
 * `return shoal_fail(log, SHOAL_BAD_DATA, "...")`. */
shoal_status shoal_fail(shoal_log *log, shoal_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The call as a macro, so that the compiler sees that the result is `status`: else it would warn of
 * outputs that may be unset behind SHOAL_TRY. `status` is evaluated twice. */
static inline shoal_status shoal_fail_result(shoal_status failed, shoal_status status)
{
    (void)failed;
    return status;
}
#define shoal_fail(log, status, ...)                                                               \
    shoal_fail_result((shoal_fail)((log), (status), __VA_ARGS__), (status))

#endif
