/* The file: {"displayTimeUnit", "otherData", "traceEvents": [...]}, an event a line. */
#include "launcher/trace/trace.h"
#include "runtime/base/json.h"
#include "runtime/model/work.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { THREAD_PHASES = 0, THREAD_LAYERS = 1 };

static const char *const phase_name[] = {
#define PHASE_NAME(name) #name,
    SHOAL_PHASE_MAP(PHASE_NAME)
#undef PHASE_NAME
};
enum { N_PHASE = sizeof phase_name / sizeof phase_name[0] };

static shoal_json *text_json(const char *text)
{
    return shoal_json_new_string(text, strlen(text));
}

static shoal_json *rank_json(const shoal_trace *trace, int32_t r, const shoal__trace_rank *rank)
{
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "rank", shoal_json_new_int(r));
    shoal_json_set(o, "host", text_json(shoal_comm_host(trace->comm, r)));
    shoal_json_set(o, "spans", shoal_json_new_int(rank->n_span));
    shoal_json_set(o, "left_out", shoal_json_new_int(rank->n_left_out));
    shoal_json_set(o, "clock_offset_start_us", shoal_json_new_int(trace->start[r].offset_us));
    shoal_json_set(o, "clock_error_start_us", shoal_json_new_int(trace->start[r].error_us));
    shoal_json_set(o, "clock_offset_end_us", shoal_json_new_int(trace->end[r].offset_us));
    shoal_json_set(o, "clock_error_end_us", shoal_json_new_int(trace->end[r].error_us));
    return o;
}

void shoal__trace_write_head(shoal_trace *trace, const shoal__trace_rank *rank, const char *why)
{
    const int32_t n_rank = shoal_comm_n_rank(trace->comm);
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "build", text_json(trace->labels.build));
    shoal_json_set(o, "command", text_json(trace->labels.command));
    shoal_json_set(o, "model", text_json(trace->labels.model));
    shoal_json_set(o, "layers", shoal_json_new_int(trace->labels.n_layer));
    shoal_json_set(o, "ranks", shoal_json_new_int(n_rank));
    shoal_json *list = shoal_json_new_array();
    for (int32_t r = 0; r < (why != NULL ? 1 : n_rank); r++)
        shoal_json_append(list, rank_json(trace, r, &rank[r]));
    shoal_json_set(o, "rank", list);
    if (why != NULL)
        shoal_json_set(o, "incomplete", text_json(why));
    char *text = shoal_json_dump(o);
    shoal_json_close(o);
    fprintf(trace->file, "{\"displayTimeUnit\": \"ms\",\n\"otherData\": %s,\n\"traceEvents\": [\n",
            text);
    free(text);
}

void shoal__trace_write_tail(shoal_trace *trace)
{
    fputs("\n]}\n", trace->file);
}

/* What stands between two events. */
static const char *separator(shoal_trace *trace)
{
    const bool first = !trace->has_event;
    trace->has_event = true;
    return first ? "" : ",\n";
}

void shoal__trace_write_rank(shoal__trace_writer *writer, shoal_trace *trace, int32_t rank,
                             int64_t base_ns)
{
    *writer = (shoal__trace_writer){.trace = trace, .rank = rank, .base_ns = base_ns};
    char name[96];
    snprintf(name, sizeof name, "rank %d (%s)", (int)rank, shoal_comm_host(trace->comm, rank));
    shoal_json *value = text_json(name);
    char *text = shoal_json_dump(value);
    shoal_json_close(value);
    fprintf(
        trace->file,
        "%s{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"name\": %s}},\n"
        "{\"name\": \"process_sort_index\", \"ph\": \"M\", \"pid\": %d, \"args\": "
        "{\"sort_index\": %d}},\n"
        "{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"args\": "
        "{\"name\": \"phases\"}},\n"
        "{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"args\": "
        "{\"name\": \"layers\"}}",
        separator(trace), (int)rank, text, (int)rank, (int)rank, (int)rank, THREAD_PHASES,
        (int)rank, THREAD_LAYERS);
    free(text);
}

static int64_t to_ns(const shoal__trace_writer *w, int64_t t_us)
{
    const shoal_trace *trace = w->trace;
    return shoal_clock_to_ns(&trace->start[w->rank], &trace->end[w->rank], t_us) - w->base_ns;
}

/* An event with its time in us to the ns, up to its arguments. */
static void put_event(const shoal__trace_writer *w, const shoal_span *span, int32_t thread,
                      const char *name, const char *kind)
{
    const int64_t start_ns = to_ns(w, span->start_us), n_ns = to_ns(w, span->end_us) - start_ns;
    fprintf(w->trace->file,
            "%s{\"name\": \"%s\", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": %d, \"tid\": %d, "
            "\"ts\": %" PRId64 ".%03d, \"dur\": %" PRId64 ".%03d, \"args\": {\"step\": %" PRId64,
            separator(w->trace), name, kind, (int)w->rank, (int)thread, start_ns / 1000,
            (int)(start_ns % 1000), n_ns / 1000, (int)(n_ns % 1000), span->step);
    if (span->layer >= 0)
        fprintf(w->trace->file, ", \"layer\": %d", (int)span->layer);
    if (span->part > 0)
        fprintf(w->trace->file, ", \"part\": %d", (int)span->part);
}

static void put_count(const shoal__trace_writer *w, const char *name, const char *unit,
                      int64_t t_us, int64_t value)
{
    const int64_t ns = to_ns(w, t_us);
    fprintf(w->trace->file,
            "%s{\"name\": \"%s\", \"ph\": \"C\", \"pid\": %d, \"ts\": %" PRId64 ".%03d, \"args\": "
            "{\"%s\": %" PRId64 "}}",
            separator(w->trace), name, (int)w->rank, ns / 1000, (int)(ns % 1000), unit, value);
}

/* Rows and bytes hold from the beginning of a step to its end. */
static void put_step(const shoal__trace_writer *w, const shoal_span *span)
{
    char name[32];
    snprintf(name, sizeof name, "step %" PRId64, span->step);
    put_event(w, span, THREAD_PHASES, name, "step");
    fprintf(w->trace->file, ", \"rows\": %d, \"sent_bytes\": %" PRIu64 "}}", (int)span->n,
            span->sent_bytes);
    put_count(w, "rows of the step", "rows", span->start_us, span->n);
    put_count(w, "rows of the step", "rows", span->end_us, 0);
    put_count(w, "bytes sent in the step", "bytes", span->start_us, (int64_t)span->sent_bytes);
    put_count(w, "bytes sent in the step", "bytes", span->end_us, 0);
}

static void put_layer(shoal__trace_writer *w)
{
    const shoal_span *layer = &w->layer;
    if (layer->n == 0)
        return;
    const char *what = layer->layer >= w->trace->labels.n_layer ? "MTP layer" : "layer";
    char name[48];
    if (layer->part > 0)
        snprintf(name, sizeof name, "%s %d, part %d", what, (int)layer->layer, (int)layer->part);
    else
        snprintf(name, sizeof name, "%s %d", what, (int)layer->layer);
    put_event(w, layer, THREAD_LAYERS, name, "layer");
    fputs("}}", w->trace->file);
    w->layer.n = 0;
}

/* The layers' row: phases of one layer that follow each other are one span. */
static void follow_layer(shoal__trace_writer *w, const shoal_span *span)
{
    shoal_span *layer = &w->layer;
    if (layer->n > 0 &&
        (layer->layer != span->layer || layer->part != span->part || layer->step != span->step))
        put_layer(w);
    if (span->layer < 0)
        return;
    if (layer->n == 0)
        *layer = *span;
    layer->n = 1;
    layer->end_us = span->end_us;
}

static void put_span(shoal__trace_writer *w, const shoal_span *span)
{
    if (span->kind == SHOAL_SPAN_STEP) {
        put_layer(w);
        put_step(w, span);
        return;
    }
    if (span->kind == SHOAL_SPAN_WAIT) {
        put_event(w, span, THREAD_PHASES, "wait", "wait");
        fprintf(w->trace->file, ", \"for_rank\": %d}}", (int)span->n);
        return;
    }
    const int32_t phase = span->kind - SHOAL_SPAN_PHASE;
    if (phase < 0 || phase >= N_PHASE)
        return;
    follow_layer(w, span);
    put_event(w, span, THREAD_PHASES, phase_name[phase], "phase");
    fprintf(w->trace->file, ", \"rows\": %d, \"sent_bytes\": %" PRIu64 "}}", (int)span->n,
            span->sent_bytes);
}

void shoal__trace_write_spans(shoal__trace_writer *writer, const shoal_span *span, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        put_span(writer, &span[i]);
}

void shoal__trace_write_rank_end(shoal__trace_writer *writer)
{
    put_layer(writer);
}
