/* --trace F: what every rank did when, as one file in the Chrome trace event format, which Perfetto
 * and chrome://tracing open. Each rank records spans in memory (runtime/base/timeline.h). Clocks of
 * machines differ, so each rank's is compared with rank 0's before the first step and behind the
 * last. At the end rank 0 collects the spans, a piece of one rank at a time, and writes them on its
 * own clock. Format and accuracy: docs/CLUSTER.md. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_TRACE_TRACE_H
#define SHOAL_LAUNCHER_TRACE_TRACE_H

#include "comm/comm.h"
#include "launcher/trace/clock.h"

#define SHOAL_TRACE_SPANS (1 << 20) /* of a rank: 40 MiB, of which only what is used is touched */

/* What names the run in the file. */
typedef struct shoal_trace_labels {
    const char *command, *model, *build;
    int32_t n_layer; /* of the model without its MTP layer */
} shoal_trace_labels;

typedef struct shoal_trace {
    const char *path; /* NULL: no trace is wanted */
    shoal_comm *comm;
    shoal_log *log;
    shoal_trace_labels labels;
    shoal_timeline timeline;
    /* Rank 0 */
    char *part_path;            /* written under this name first */
    FILE *file;                 /* NULL: not open, or writing failed */
    shoal_clock_offset *start;  /* [n_rank] */
    shoal_clock_offset *end;    /* [n_rank] */
    bool has_event;             /* one is written */
    int64_t n_span, n_left_out; /* of all ranks, once written */
} shoal_trace;

/* Every rank by itself: memory for n_span spans; on rank 0 the file, which is created so that a
 * path that cannot be written is known before the run. path and labels' texts outlive the trace.
 * Errors: IO, NO_MEMORY. */
shoal_status shoal_trace_open(shoal_trace *trace, const char *path, int64_t n_span,
                              const shoal_trace_labels *labels, shoal_comm *comm);
/* Compare the clocks before the first step. Collective. Errors: as shoal_comm_wait. */
shoal_status shoal_trace_start(shoal_trace *trace);
/* Compare them again, collect, write, rename. Collective; nothing is recorded any more. `wrote`: IO
 * on rank 0 where the file could not be written, which all others do not learn. Errors: as
 * shoal_comm_wait. */
shoal_status shoal_trace_finish(shoal_trace *trace, shoal_status *wrote);
/* Behind a failure of the run, when the other ranks cannot be asked any more: rank 0 writes what it
 * has itself, with `why`. Not collective. */
void shoal_trace_abandon(shoal_trace *trace, const char *why);
void shoal_trace_close(shoal_trace *trace); /* accepts zeroed */

/* write.c: the file. Times in it are ns on rank 0's clock since base_ns. */
typedef struct shoal__trace_rank {
    int64_t n_span, n_left_out;
    int64_t first_us; /* start of its first span, on its clock */
} shoal__trace_rank;

/* The head: everything but the events. rank: [n_rank], or with `why` of rank 0 alone. */
void shoal__trace_write_head(shoal_trace *trace, const shoal__trace_rank *rank, const char *why);
/* A rank's spans come in pieces, in order. */
typedef struct shoal__trace_writer {
    shoal_trace *trace;
    int32_t rank;
    int64_t base_ns;
    shoal_span layer; /* the run of spans of one layer that is going on; n: spans in it */
} shoal__trace_writer;
void shoal__trace_write_rank(shoal__trace_writer *writer, shoal_trace *trace, int32_t rank,
                             int64_t base_ns);
void shoal__trace_write_spans(shoal__trace_writer *writer, const shoal_span *span, int64_t n);
void shoal__trace_write_rank_end(shoal__trace_writer *writer);
void shoal__trace_write_tail(shoal_trace *trace);

#endif
