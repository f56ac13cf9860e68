#include "launcher/trace/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_SPANS = 1024 }; /* of one message */

shoal_status shoal_trace_open(shoal_trace *trace, const char *path, int64_t n_span,
                              const shoal_trace_labels *labels, shoal_comm *comm)
{
    *trace =
        (shoal_trace){.path = path, .comm = comm, .log = shoal_comm_log(comm), .labels = *labels};
    SHOAL_TRY(shoal_timeline_open(&trace->timeline, n_span, trace->log));
    if (shoal_comm_rank(comm) != 0)
        return SHOAL_OK;
    const size_t n_rank = (size_t)shoal_comm_n_rank(comm), n_path = strlen(path) + 6;
    trace->start = calloc(n_rank, sizeof *trace->start);
    trace->end = calloc(n_rank, sizeof *trace->end);
    trace->part_path = malloc(n_path);
    if (trace->start == NULL || trace->end == NULL || trace->part_path == NULL)
        return shoal_fail(trace->log, SHOAL_NO_MEMORY, "%s: no memory for a trace of %zu ranks",
                          path, n_rank);
    snprintf(trace->part_path, n_path, "%s.part", path);
    trace->file = fopen(trace->part_path, "we");
    if (trace->file == NULL)
        return shoal_fail(trace->log, SHOAL_IO, "%s: creating the trace failed: %s",
                          trace->part_path, strerror(errno));
    return SHOAL_OK;
}

shoal_status shoal_trace_start(shoal_trace *trace)
{
    return shoal_clock_compare(trace->start, trace->comm);
}

static shoal__trace_rank own_part(const shoal_trace *trace)
{
    const shoal_timeline *t = &trace->timeline;
    return (shoal__trace_rank){.n_span = t->n,
                               .n_left_out = t->n_left_out,
                               .first_us =
                                   t->n > 0 ? t->span[0].start_us : shoal_comm_now_us(trace->comm)};
}

/* Close and rename. */
static shoal_status put_in_place(shoal_trace *trace)
{
    FILE *file = trace->file;
    trace->file = NULL;
    bool bad = ferror(file) != 0;
    bad = fclose(file) != 0 || bad;
    if (!bad && rename(trace->part_path, trace->path) == 0)
        return SHOAL_OK;
    const int error = errno;
    (void)unlink(trace->part_path);
    return shoal_fail(trace->log, SHOAL_IO, "%s: writing the trace failed: %s", trace->path,
                      strerror(error));
}

/* Rank 0: its own spans, a piece at a time, so that the others hear from it. */
static shoal_status write_own(shoal__trace_writer *writer, const shoal_timeline *t,
                              shoal_comm *comm)
{
    for (int64_t i = 0; i < t->n; i += PIECE_SPANS) {
        const int64_t n_left = t->n - i;
        shoal__trace_write_spans(writer, t->span + i, n_left < PIECE_SPANS ? n_left : PIECE_SPANS);
        if (comm != NULL)
            SHOAL_TRY(shoal_comm_poll(comm));
    }
    return SHOAL_OK;
}

/* Rank 0: the spans of another rank. piece: [PIECE_SPANS]. */
static shoal_status write_other(shoal__trace_writer *writer, shoal_trace *trace, int32_t rank,
                                int64_t n_span, shoal_span *piece)
{
    for (int64_t i = 0; i < n_span; i += PIECE_SPANS) {
        const int64_t n_left = n_span - i, n = n_left < PIECE_SPANS ? n_left : PIECE_SPANS;
        shoal_request request;
        SHOAL_TRY(shoal_comm_recv(trace->comm, &request, rank, SHOAL_TAG_BRINGUP, piece,
                                  (size_t)n * sizeof *piece));
        SHOAL_TRY(shoal_comm_wait(trace->comm, &request, 1, "spans of the trace"));
        shoal__trace_write_spans(writer, piece, n);
    }
    return SHOAL_OK;
}

static shoal_status send_own(const shoal_trace *trace)
{
    const shoal_timeline *t = &trace->timeline;
    for (int64_t i = 0; i < t->n; i += PIECE_SPANS) {
        const int64_t n_left = t->n - i, n = n_left < PIECE_SPANS ? n_left : PIECE_SPANS;
        shoal_request request;
        SHOAL_TRY(shoal_comm_send(trace->comm, &request, 0, SHOAL_TAG_BRINGUP, t->span + i,
                                  (size_t)n * sizeof *t->span));
        SHOAL_TRY(shoal_comm_wait(trace->comm, &request, 1, "spans of the trace"));
    }
    return SHOAL_OK;
}

/* The earliest moment of all, on rank 0's clock: no event is before it. */
static int64_t base_of(const shoal_trace *trace, const shoal__trace_rank *rank, int32_t n_rank)
{
    int64_t base_ns = INT64_MAX;
    for (int32_t r = 0; r < n_rank; r++) {
        const int64_t ns = shoal_clock_to_ns(&trace->start[r], &trace->end[r], rank[r].first_us);
        base_ns = ns < base_ns ? ns : base_ns;
    }
    return base_ns;
}

/* Rank 0: everything. rank: [n_rank]; piece: [PIECE_SPANS]. */
static shoal_status write_all(shoal_trace *trace, const shoal__trace_rank *rank, shoal_span *piece)
{
    const int32_t n_rank = shoal_comm_n_rank(trace->comm);
    const int64_t base_ns = base_of(trace, rank, n_rank);
    shoal__trace_write_head(trace, rank, NULL);
    for (int32_t r = 0; r < n_rank; r++) {
        shoal__trace_writer writer;
        shoal__trace_write_rank(&writer, trace, r, base_ns);
        SHOAL_TRY(r == 0 ? write_own(&writer, &trace->timeline, trace->comm)
                         : write_other(&writer, trace, r, rank[r].n_span, piece));
        shoal__trace_write_rank_end(&writer);
        trace->n_span += rank[r].n_span;
        trace->n_left_out += rank[r].n_left_out;
    }
    shoal__trace_write_tail(trace);
    return SHOAL_OK;
}

static void say_written(const shoal_trace *trace)
{
    shoal_log_info(trace->log, "%s: a trace of %lld spans on %d ranks", trace->path,
                   (long long)trace->n_span, (int)shoal_comm_n_rank(trace->comm));
    if (trace->n_left_out > 0)
        shoal_log_warn(trace->log,
                       "%s: %lld spans at the end of the run are left out, there was room for "
                       "%lld of each rank; trace a shorter run",
                       trace->path, (long long)trace->n_left_out, (long long)trace->timeline.n_max);
}

shoal_status shoal_trace_finish(shoal_trace *trace, shoal_status *wrote)
{
    *wrote = SHOAL_OK;
    const int32_t n_rank = shoal_comm_n_rank(trace->comm);
    shoal_timeline_finish(&trace->timeline, shoal_comm_now_us(trace->comm));
    SHOAL_TRY(shoal_clock_compare(trace->end, trace->comm));
    const shoal__trace_rank mine = own_part(trace);
    if (shoal_comm_rank(trace->comm) != 0) {
        SHOAL_TRY(shoal_comm_gather(trace->comm, NULL, &mine, sizeof mine, 0));
        return send_own(trace);
    }
    shoal__trace_rank *rank = calloc((size_t)n_rank, sizeof *rank);
    shoal_span *piece = malloc(PIECE_SPANS * sizeof *piece);
    shoal_status status =
        rank != NULL && piece != NULL
            ? shoal_comm_gather(trace->comm, rank, &mine, sizeof mine, 0)
            : shoal_fail(trace->log, SHOAL_NO_MEMORY, "%s: no memory to write it", trace->path);
    if (status == SHOAL_OK)
        status = write_all(trace, rank, piece);
    free(rank);
    free(piece);
    SHOAL_TRY(status);
    *wrote = put_in_place(trace);
    if (*wrote == SHOAL_OK)
        say_written(trace);
    return SHOAL_OK;
}

void shoal_trace_abandon(shoal_trace *trace, const char *why)
{
    if (trace->file == NULL || trace->timeline.n == 0)
        return;
    shoal_timeline_finish(&trace->timeline, shoal_comm_now_us(trace->comm));
    const shoal__trace_rank mine = own_part(trace);
    trace->end[0] = trace->start[0];
    shoal__trace_writer writer;
    shoal__trace_write_head(trace, &mine, why);
    shoal__trace_write_rank(&writer, trace, 0, base_of(trace, &mine, 1));
    (void)write_own(&writer, &trace->timeline, NULL);
    shoal__trace_write_rank_end(&writer);
    shoal__trace_write_tail(trace);
    if (put_in_place(trace) == SHOAL_OK)
        shoal_log_warn(trace->log,
                       "%s: the run failed, so the trace has rank 0 alone: the other ranks could "
                       "not be asked for theirs",
                       trace->path);
}

void shoal_trace_close(shoal_trace *trace)
{
    if (trace->file != NULL) { /* nothing was written */
        fclose(trace->file);
        (void)unlink(trace->part_path);
    }
    shoal_timeline_close(&trace->timeline);
    free(trace->part_path);
    free(trace->start);
    free(trace->end);
    *trace = (shoal_trace){0};
}
