#include "launcher/progress.h"

#include "launcher/report.h"
#include "runtime/base/clock.h"

#include <stdarg.h>
#include <unistd.h>

enum { DRAW_INTERVAL_US = 100000 };

void shoal_progress_init(shoal_progress *progress, bool shown, shoal_log *log)
{
    bool visible = shown && log->out != NULL && log->level <= SHOAL_LOG_INFO;
    *progress = (shoal_progress){
        .log = visible ? log : NULL,
        .terminal = visible && isatty(fileno(log->out)) == 1,
        .start_us = shoal_clock_us(),
    };
}

void shoal_progress_set(shoal_progress *progress, const char *format, ...)
{
    if (progress->log == NULL)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(progress->text, sizeof progress->text, format, args);
    va_end(args);
    int64_t now_us = shoal_clock_us();
    if (!progress->terminal || now_us - progress->drawn_us < DRAW_INTERVAL_US)
        return;
    fprintf(progress->log->out, "\r\033[K%s", progress->text);
    fflush(progress->log->out);
    progress->drawn = true;
    progress->drawn_us = now_us;
}

void shoal_progress_load(void *arg, int64_t n_tensor, int64_t n_tensor_total, uint64_t n_bytes,
                         uint64_t n_bytes_total)
{
    shoal_progress *progress = arg;
    if (progress->log == NULL)
        return;
    int64_t passed_us = shoal_clock_us() - progress->start_us;
    double gb_per_s = (double)n_bytes / 1e3 / (double)(passed_us > 0 ? passed_us : 1);
    char read[SHOAL_BYTES_TEXT], total[SHOAL_BYTES_TEXT];
    shoal_progress_set(progress, "%lld of %lld tensors, %s of %s, %.2f GB/s", (long long)n_tensor,
                       (long long)n_tensor_total, shoal_bytes_text(read, n_bytes),
                       shoal_bytes_text(total, n_bytes_total), gb_per_s);
}

void shoal_progress_pause(shoal_progress *progress)
{
    if (!progress->drawn)
        return;
    fputs("\r\033[K", progress->log->out);
    fflush(progress->log->out);
    progress->drawn = false;
}

void shoal_progress_finish(shoal_progress *progress, const char *what)
{
    shoal_progress_pause(progress);
    if (progress->log != NULL && progress->text[0] != '\0')
        shoal_log_info(progress->log, "%s: %s", what, progress->text);
    progress->text[0] = '\0';
}
