/* How far it is, on stderr: on a terminal one line that is redrawn, otherwise nothing until one
 * final line. Only rank 0 shows anything. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PROGRESS_H
#define SHOAL_LAUNCHER_PROGRESS_H

#include "runtime/base/log.h"

typedef struct shoal_progress {
    shoal_log *log; /* NULL: show nothing */
    bool terminal;  /* log's stream is one */
    bool drawn;     /* an unfinished line stands on the terminal */
    int64_t start_us;
    int64_t drawn_us;
    char text[128]; /* of the latest state */
} shoal_progress;

/* shown: false for ranks that do not speak. */
void shoal_progress_init(shoal_progress *progress, bool shown, shoal_log *log);

/* Set the state; draws at most ten times a second. */
void shoal_progress_set(shoal_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The form that shoal_model_config.progress has: tensors, bytes, GB/s (bytes read / time / 10^9).
 * arg is a shoal_progress. */
void shoal_progress_load(void *arg, int64_t n_tensor, int64_t n_tensor_total, uint64_t n_bytes,
                         uint64_t n_bytes_total);

/* Clear the drawn line, so that other lines can follow. */
void shoal_progress_pause(shoal_progress *progress);

/* The last state as an ordinary line of the log, behind `what`. Nothing if none was ever set. */
void shoal_progress_finish(shoal_progress *progress, const char *what);

#endif
