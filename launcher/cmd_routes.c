/* shoal routes: what a routing trace says. One process; under mpirun rank 0 alone. */
#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/progress.h"
#include "launcher/report.h"
#include "launcher/routes/summary.h"

#include <stdlib.h>

static shoal_status read_all(shoal_routes_stats *stats, shoal_routes_reader *reader,
                             const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    shoal_progress progress;
    shoal_progress_init(&progress, true, log);
    for (;;) {
        shoal_routes_rows rows;
        bool more;
        SHOAL_TRY(shoal_routes_next(&rows, &more, reader));
        if (!more)
            break;
        SHOAL_TRY(shoal_routes_stats_add(stats, &rows));
        if (*interrupted != 0)
            return shoal_fail(log, SHOAL_INTERRUPTED, "interrupted by signal %d",
                              (int)*interrupted);
        shoal_progress_set(&progress, "%lld rows", (long long)reader->n_row);
    }
    shoal_routes_stats_finish(stats);
    shoal_progress_pause(&progress);
    if (!reader->ended)
        shoal_log_warn(log, "%s: the run did not come to its end%s", reader->path,
                       reader->torn ? "; a last record that is cut off is left out" : "");
    return SHOAL_OK;
}

static shoal_status summarise(const shoal_options *o, shoal_routes_reader *reader,
                              const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    int32_t *ranks, n_ranks;
    SHOAL_TRY(shoal_options_ranks(&ranks, &n_ranks, o->ranks, log));
    shoal_routes_stats stats;
    shoal_status status = shoal_routes_stats_open(&stats, &reader->header, ranks, n_ranks, log);
    free(ranks);
    SHOAL_TRY(status);
    status = read_all(&stats, reader, interrupted, log);
    if (status == SHOAL_OK && o->json)
        status = shoal_print_json(shoal_routes_json(&stats, reader->ended), log);
    else if (status == SHOAL_OK)
        shoal_routes_print(stdout, &stats, reader->ended);
    shoal_routes_stats_close(&stats);
    return status;
}

shoal_status shoal_cmd_routes(const shoal_options *options,
                              const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    if (shoal_bootstrap_environment_rank() > 0)
        return SHOAL_OK;
    shoal_routes_reader reader;
    SHOAL_TRY(shoal_routes_reader_open(&reader, options->routes, log));
    const shoal_status status = summarise(options, &reader, interrupted, log);
    shoal_routes_reader_close(&reader);
    return status;
}
