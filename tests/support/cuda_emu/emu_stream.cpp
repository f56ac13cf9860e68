/* Streams, events and graphs: what is enqueued waits until somebody must have it, or until the seed
 * says that the device has got to it. */
#include "emu_private.h"

#include <sched.h>

#include <chrono>
#include <deque>
#include <memory>
#include <vector>

struct emu_event {
    uint64_t n_recorded, n_passed; /* records asked for, and done */
    double passed_ms;
};

namespace
{

struct operation {
    std::function<bool()> run; /* false: the launch failed */
    emu_event *wait;           /* not before this many of its records are done */
    uint64_t wait_for;
    std::function<bool()> ready; /* nor before this is true, if it is there */
};

} // namespace

struct emu_graph {
    std::vector<operation> operations;
};

struct emu_stream {
    std::deque<operation> operations;
    std::unique_ptr<emu_graph> capture;
};

namespace
{

struct streams {
    emu_stream legacy; /* the stream of calls without one */
    std::vector<emu_stream *> open;
    std::vector<emu_event *> events; /* destroyed ones too: operations may still name them */

    void clear()
    {
        for (emu_stream *stream : open)
            delete stream;
        for (emu_event *event : events)
            delete event;
        open.clear();
        events.clear();
        legacy.operations.clear();
        legacy.capture.reset();
    }
    ~streams()
    {
        clear();
    }
};
thread_local streams s;

emu_stream *of(cudaStream_t stream)
{
    return stream != nullptr ? stream : &s.legacy;
}

double now_ms()
{
    return std::chrono::duration<double, std::milli>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

bool may_run(const operation &o)
{
    return (o.wait == nullptr || o.wait->n_passed >= o.wait_for) && (!o.ready || o.ready());
}

/* Some stream waits for what happens outside, so that nothing is wrong if nothing happens here. */
bool any_is_held()
{
    for (const emu_stream *stream : s.open)
        if (!stream->operations.empty() && stream->operations.front().ready)
            return true;
    return false;
}

/* The first operation of a stream, if it has one that may run. */
bool advance(emu_stream *stream)
{
    if (stream->operations.empty() || !may_run(stream->operations.front()))
        return false;
    operation o = std::move(stream->operations.front());
    stream->operations.pop_front();
    const emu__device_time works;
    if (o.run && !o.run())
        emu__stick(cudaErrorLaunchFailure);
    return true;
}

emu_stream *any_stream()
{
    const size_t pick = (size_t)(emu__random() % (s.open.size() + 1));
    return pick < s.open.size() ? s.open[pick] : &s.legacy;
}

/* Run until `done`; other streams get on meanwhile as the seed has it. */
template <typename F> cudaError_t run_until(emu_stream *stream, F done)
{
    const emu__device_time works;
    while (!done()) {
        if (emu__random() % 4 == 0)
            advance(any_stream());
        if (advance(stream))
            continue;
        bool any = advance(&s.legacy);
        for (emu_stream *other : s.open)
            any = advance(other) || any;
        if (!any && !done() && any_is_held()) {
            sched_yield();
            continue;
        }
        if (!any && !done()) {
            emu__problem("a stream waits for an event that nothing will ever record");
            emu__stick(cudaErrorLaunchFailure);
            return cudaErrorLaunchFailure;
        }
    }
    return emu__entry();
}

cudaError_t drain_all()
{
    for (size_t i = 0; i <= s.open.size(); i++) {
        emu_stream *stream = i < s.open.size() ? s.open[i] : &s.legacy;
        if (const cudaError_t error =
                run_until(stream, [stream] { return stream->operations.empty(); }))
            return error;
    }
    return emu__entry();
}

cudaError_t enqueue(cudaStream_t stream, operation o)
{
    emu_stream *to = of(stream);
    if (to->capture != nullptr) {
        to->capture->operations.push_back(std::move(o));
        return cudaSuccess;
    }
    to->operations.push_back(std::move(o));
    if (emu__random() % 4 == 0)
        advance(any_stream());
    return cudaSuccess;
}

cudaError_t enqueue_run(cudaStream_t stream, std::function<void()> run)
{
    return enqueue(stream, {[run] {
                                run();
                                return true;
                            },
                            nullptr, 0, nullptr});
}

bool capturing(cudaStream_t stream)
{
    return of(stream)->capture != nullptr;
}

} // namespace

void emu__stream_reset()
{
    s.clear();
}

void emu_stream_hold(void *stream, int (*ready)(void *arg), void *arg)
{
    of(static_cast<cudaStream_t>(stream))->operations.push_back({nullptr, nullptr, 0, [ready, arg] {
                                                                     return ready(arg) != 0;
                                                                 }});
}

void emu_enqueue(emu_launch launch, cudaStream_t stream)
{
    if (emu__entry() != cudaSuccess)
        return;
    const dim3 g = launch.grid, b = launch.block;
    const size_t n_thread = (size_t)b.x * b.y * b.z;
    if (n_thread == 0 || n_thread > 1024 || g.x == 0 || g.y == 0 || g.z == 0 || g.y > 65535 ||
        g.z > 65535 || launch.shared_bytes > emu__shared_allowed(launch.function)) {
        emu__problem(std::string(launch.name) + ": a launch of " + std::to_string(n_thread) +
                     " threads a block with " + std::to_string(launch.shared_bytes) +
                     " bytes of shared memory, more than was allowed, or an empty grid");
        emu__remember(cudaErrorInvalidConfiguration);
        return;
    }
    enqueue(stream, {[launch] { return emu__run_grid(launch); }, nullptr, 0, nullptr});
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (n_bytes == 0)
        return cudaSuccess;
    /* From and to memory that is not pinned a copy has happened when the call returns. */
    const bool pageable = (kind == cudaMemcpyHostToDevice && !emu__is_pinned(from)) ||
                          (kind == cudaMemcpyDeviceToHost && !emu__is_pinned(to));
    if (pageable && capturing(stream))
        return emu__remember(cudaErrorStreamCaptureUnsupported);
    enqueue_run(stream, [=] { memcpy(to, from, n_bytes); });
    return pageable ? cudaStreamSynchronize(stream) : cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t n_bytes, size_t n_row, cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (n_bytes > to_pitch || n_bytes > from_pitch)
        return emu__remember(cudaErrorInvalidValue);
    for (size_t row = 0; row < n_row; row++) {
        const cudaError_t error = cudaMemcpyAsync(
            static_cast<char *>(to) + row * to_pitch,
            static_cast<const char *>(from) + row * from_pitch, n_bytes, kind, stream);
        if (error != cudaSuccess)
            return error;
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, cudaMemcpyKind)
{
    if (const cudaError_t error = drain_all())
        return error;
    const emu__device_time works;
    if (n_bytes > 0)
        memcpy(to, from, n_bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t n_bytes, cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    return enqueue_run(stream, [=] { memset(to, value, n_bytes); });
}

cudaError_t cudaMemset(void *to, int value, size_t n_bytes)
{
    if (const cudaError_t error = drain_all())
        return error;
    const emu__device_time works;
    memset(to, value, n_bytes);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
    const cudaError_t error = drain_all();
    emu__check_red_zones();
    return error;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    if (const cudaError_t error = emu__entry())
        return error;
    *stream = new emu_stream();
    s.open.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const cudaError_t error = cudaStreamSynchronize(stream);
    for (size_t i = 0; i < s.open.size(); i++) {
        if (s.open[i] == stream) {
            s.open.erase(s.open.begin() + (ptrdiff_t)i);
            delete stream;
            return error;
        }
    }
    return emu__remember(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (capturing(stream))
        return emu__remember(cudaErrorStreamCaptureUnsupported);
    emu_stream *which = of(stream);
    return run_until(which, [which] { return which->operations.empty(); });
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (capturing(stream))
        return emu__remember(cudaErrorStreamCaptureUnsupported);
    advance(any_stream());
    advance(of(stream));
    return of(stream)->operations.empty() ? emu__entry() : emu__remember(cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (const cudaError_t error = emu__entry())
        return error;
    return enqueue(stream, {nullptr, event, event->n_recorded, nullptr});
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void *), void *arg)
{
    if (const cudaError_t error = emu__entry())
        return error;
    return enqueue_run(stream, [=] { function(arg); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    if (const cudaError_t error = emu__entry())
        return error;
    *event = new emu_event();
    s.events.push_back(*event);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t)
{
    return emu__entry();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    const uint64_t number = ++event->n_recorded;
    return enqueue_run(stream, [=] {
        event->n_passed = event->n_passed > number ? event->n_passed : number;
        event->passed_ms = now_ms();
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (const cudaError_t error = emu__entry())
        return error;
    advance(any_stream());
    return event->n_passed >= event->n_recorded ? emu__entry() : emu__remember(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (const cudaError_t error = emu__entry())
        return error;
    const uint64_t number = event->n_recorded;
    return run_until(any_stream(), [=] { return event->n_passed >= number; });
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (start->n_passed < start->n_recorded || end->n_passed < end->n_recorded)
        return cudaErrorNotReady;
    *ms = (float)(end->passed_ms - start->passed_ms);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (stream == nullptr || stream->capture != nullptr)
        return emu__remember(cudaErrorStreamCaptureUnsupported);
    stream->capture.reset(new emu_graph());
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (stream == nullptr || stream->capture == nullptr)
        return emu__remember(cudaErrorStreamCaptureInvalidated);
    *graph = stream->capture.release();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    if (const cudaError_t error = emu__entry())
        return error;
    *exec = new emu_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (const cudaError_t error = emu__entry())
        return error;
    for (const operation &o : exec->operations)
        enqueue(stream, o);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return emu__entry();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    const cudaError_t error = drain_all();
    delete exec;
    return error;
}
