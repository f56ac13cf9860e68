/* Statuses. Every function that can fail returns one; the place that first knows makes the text and
 * logs it once (shoal_fail in log.h), callers only propagate (SHOAL_TRY). Outputs are set only on
 * success. The number is the exit code that launcher/main.c ends the process with (DESIGN section
 * 5). Layering: base includes nothing of Shoal. */
#ifndef SHOAL_BASE_STATUS_H
#define SHOAL_BASE_STATUS_H

/* X(name, exit code, text) */
#define SHOAL_STATUS_MAP(X)                                                                        \
    X(OK, 0, "ok")                                                                                 \
    X(FAILED, 1, "run failed")                                                                     \
    X(NO_MEMORY, 1, "out of memory")                                                               \
    X(IO, 1, "input/output error")                                                                 \
    X(USAGE, 2, "bad usage")                                                                       \
    X(BAD_DATA, 65, "bad input data")                                                              \
    X(NO_INPUT, 66, "missing input")                                                               \
    X(UNAVAILABLE, 69, "a peer or device is unavailable")                                          \
    X(PEER_LOST, 75, "a rank was lost, try again")                                                 \
    X(INTERRUPTED, 75, "interrupted by a signal, try again")

typedef enum shoal_status {
#define SHOAL_STATUS_ENUM(name, code, text) SHOAL_##name,
    SHOAL_STATUS_MAP(SHOAL_STATUS_ENUM)
#undef SHOAL_STATUS_ENUM
} shoal_status;

/* The process exit code of a status. */
int shoal_status_exit_code(shoal_status status);

/* A short constant text such as "bad input data". */
const char *shoal_status_text(shoal_status status);

/* Propagate a failure. Nothing is logged here: the first place has done so. */
#define SHOAL_TRY(call)                                                                            \
    do {                                                                                           \
        shoal_status shoal_try_status_ = (call);                                                   \
        if (shoal_try_status_ != SHOAL_OK)                                                         \
            return shoal_try_status_;                                                              \
    } while (0)

#endif
