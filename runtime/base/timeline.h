/* A recorder of what a rank does when: spans of time in a buffer that is allocated once. Whoever
 * does something begins a span before it and ends it after it; a span begun inside another one ends
 * before it does. So the buffer holds spans in the order of their beginning, parents first, and
 * recording is two stores without allocation. When the buffer is full nothing more is recorded, and
 * what was left out is counted.
 *
 * What kinds there are is known by those who record: comm its waits, model the phases of a step,
 * engine the step. All functions accept NULL for "no recorder" and do nothing then. One recorder
 * per rank, of its main thread. Layering: base. */
#ifndef SHOAL_BASE_TIMELINE_H
#define SHOAL_BASE_TIMELINE_H

#include "runtime/base/log.h"

enum {
    SHOAL_SPAN_OPEN,  /* not known yet what it will be; dropped if it never ends */
    SHOAL_SPAN_STEP,  /* n: rows of this rank */
    SHOAL_SPAN_WAIT,  /* n: the rank that was waited for last */
    SHOAL_SPAN_PHASE, /* + the number of the phase; n: its rows */
};

#define SHOAL_SPAN_UNENDED INT64_MIN

typedef struct shoal_span {
    int64_t start_us, end_us; /* on the clock of the recording rank; end: or UNENDED */
    int64_t step;             /* -1: before the first */
    uint64_t sent_bytes;      /* handed to the transport meanwhile */
    int32_t n;                /* as the kind says */
    int16_t layer;            /* -1: outside the layers */
    int8_t part;              /* 1 .. of a step that is worked on in parts; 0: of the whole */
    uint8_t kind;
} shoal_span;

_Static_assert(sizeof(shoal_span) == 40, "spans travel as they are");

typedef struct shoal_timeline {
    shoal_span *span; /* [n_max] */
    int64_t n, n_max;
    int64_t n_left_out; /* begun when it was full */
    /* Where the rank is; set by whoever knows, and copied into every span at its end. */
    int64_t step;
    int32_t layer, part;
} shoal_timeline;

/* Room for n_max spans. Errors: NO_MEMORY. */
shoal_status shoal_timeline_open(shoal_timeline *timeline, int64_t n_max, shoal_log *log);
void shoal_timeline_close(shoal_timeline *timeline); /* accepts zeroed */

/* Begin a span of `kind`; returns its number, -1 if it is not recorded. */
int64_t shoal_timeline_begin(shoal_timeline *timeline, int32_t kind, int64_t now_us);

/* End span `number` with what is known at its end: span's end_us, kind, n and sent_bytes. The
 * rest is the timeline's. Numbers below 0 are ignored. */
void shoal_timeline_end(shoal_timeline *timeline, int64_t number, const shoal_span *span);

/* Forget a span that has nothing in it. */
void shoal_timeline_drop(shoal_timeline *timeline, int64_t number);

/* For the time behind a failure: spans that never ended end now; those of no known kind go. */
void shoal_timeline_finish(shoal_timeline *timeline, int64_t now_us);

#endif
