#include "runtime/base/timeline.h"

#include <stdlib.h>

shoal_status shoal_timeline_open(shoal_timeline *timeline, int64_t n_max, shoal_log *log)
{
    shoal_span *span = calloc((size_t)n_max, sizeof *span);
    if (span == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a timeline of %lld spans",
                          (long long)n_max);
    *timeline = (shoal_timeline){.span = span, .n_max = n_max, .step = -1, .layer = -1};
    return SHOAL_OK;
}

void shoal_timeline_close(shoal_timeline *timeline)
{
    free(timeline->span);
    *timeline = (shoal_timeline){0};
}

int64_t shoal_timeline_begin(shoal_timeline *timeline, int32_t kind, int64_t now_us)
{
    if (timeline == NULL)
        return -1;
    if (timeline->n == timeline->n_max) {
        timeline->n_left_out++;
        return -1;
    }
    shoal_span *span = &timeline->span[timeline->n];
    span->start_us = now_us;
    span->end_us = SHOAL_SPAN_UNENDED;
    span->step = timeline->step;
    span->layer = (int16_t)timeline->layer;
    span->part = (int8_t)timeline->part;
    span->kind = (uint8_t)kind;
    return timeline->n++;
}

void shoal_timeline_end(shoal_timeline *timeline, int64_t number, const shoal_span *span)
{
    if (timeline == NULL || number < 0)
        return;
    shoal_span *kept = &timeline->span[number];
    const int64_t start_us = kept->start_us;
    *kept = *span;
    kept->start_us = start_us;
    kept->step = timeline->step;
    kept->layer = (int16_t)timeline->layer;
    kept->part = (int8_t)timeline->part;
}

void shoal_timeline_drop(shoal_timeline *timeline, int64_t number)
{
    if (timeline == NULL || number < 0)
        return;
    timeline->span[number].kind = SHOAL_SPAN_OPEN;
    if (number == timeline->n - 1)
        timeline->n--;
}

void shoal_timeline_finish(shoal_timeline *timeline, int64_t now_us)
{
    int64_t n = 0;
    for (int64_t i = 0; i < timeline->n; i++) {
        shoal_span span = timeline->span[i];
        if (span.kind == SHOAL_SPAN_OPEN)
            continue;
        if (span.end_us == SHOAL_SPAN_UNENDED) {
            span.end_us = now_us;
            span.step = timeline->step;
        }
        timeline->span[n++] = span;
    }
    timeline->n = n;
}
