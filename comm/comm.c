#include "comm/comm_private.h"
#include "comm/plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Frees what open made; the transport is left to the caller. Accepts a half-made comm. */
static void free_comm(shoal_comm *comm)
{
    free(comm->host);
    free(comm->peer);
    free(comm->many);
    free(comm->verdict);
    free(comm);
}

static shoal_comm *new_comm(shoal_transport *transport, const shoal_comm_config *config,
                            shoal_log *log)
{
    shoal_comm *comm = calloc(1, sizeof(*comm));
    if (!comm)
        return NULL;
    size_t n_rank = (size_t)transport->n_rank;
    comm->transport = transport;
    comm->log = log;
    comm->config = *config;
    comm->rank = transport->rank;
    comm->n_rank = transport->n_rank;
    comm->step = -1;
    comm->layer = -1;
    comm->part_bytes = SHOAL__PART_BYTES;
    comm->host = calloc(n_rank, sizeof(*comm->host));
    comm->peer = calloc(n_rank, sizeof(*comm->peer));
    comm->many = calloc(n_rank, sizeof(*comm->many));
    comm->verdict = calloc(n_rank, sizeof(*comm->verdict));
    if (!comm->host || !comm->peer || !comm->many || !comm->verdict) {
        free_comm(comm);
        return NULL;
    }
    return comm;
}

/* Everyone learns everyone's host name. A name that is cut off in between must still end. */
static shoal_status exchange_hosts(shoal_comm *comm)
{
    char mine[SHOAL__HOST_BYTES] = {0};
    memcpy(mine, comm->log->host, strnlen(comm->log->host, sizeof(mine) - 1));
    memcpy(comm->host[comm->rank], mine, sizeof(mine));
    SHOAL_TRY(shoal_comm_gather(comm, comm->host, mine, sizeof(mine), 0));
    SHOAL_TRY(shoal_comm_bcast(comm, comm->host, (size_t)comm->n_rank * sizeof(*comm->host), 0));
    for (int32_t r = 0; r < comm->n_rank; r++)
        comm->host[r][SHOAL__HOST_BYTES - 1] = '\0';
    comm->host_known = true;
    return SHOAL_OK;
}

shoal_status shoal_comm_open(shoal_comm **comm, shoal_transport *transport,
                             const shoal_comm_config *config, shoal_log *log)
{
    assert(config->deadline_s > 0);
    shoal_comm *c = new_comm(transport, config, log);
    if (!c) {
        int32_t n_rank = transport->n_rank;
        transport->ops->close(transport, true);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a communicator of %d ranks", n_rank);
    }
    shoal_status status = shoal__liveness_open(c);
    if (status == SHOAL_OK)
        status = exchange_hosts(c);
    if (status != SHOAL_OK) {
        shoal_comm_close(c, status);
        return status;
    }
    *comm = c;
    return SHOAL_OK;
}

bool shoal_comm_close(shoal_comm *comm, shoal_status failed)
{
    if (!comm)
        return true;
    /* A failure that all agreed on is known to all: they leave together like after a success. */
    bool together = comm->failed == SHOAL_OK && (failed == SHOAL_OK || failed == comm->agreed) &&
                    shoal__barrier(comm, "the end of the run") == SHOAL_OK;
    if (!together && comm->failed == SHOAL_OK) {
        shoal__blame_leave(comm, failed);
        shoal__comm_end(comm, failed);
    }
    shoal__liveness_close(comm);
    comm->transport->ops->close(comm->transport, !together);
    free_comm(comm);
    return together;
}

int32_t shoal_comm_rank(const shoal_comm *comm)
{
    return comm->rank;
}

int32_t shoal_comm_n_rank(const shoal_comm *comm)
{
    return comm->n_rank;
}

const char *shoal_comm_host(const shoal_comm *comm, int32_t rank)
{
    return comm->host_known || rank == comm->rank ? comm->host[rank] : "host not yet known";
}

const char *shoal_comm_transport_name(const shoal_comm *comm)
{
    return comm->transport->ops->name;
}

shoal_log *shoal_comm_log(const shoal_comm *comm)
{
    return comm->log;
}

const shoal_comm_counters *shoal_comm_count(const shoal_comm *comm)
{
    return &comm->count;
}

int64_t shoal_comm_now_us(const shoal_comm *comm)
{
    return comm->transport->ops->now_us(comm->transport);
}

shoal_status shoal__comm_end(shoal_comm *comm, shoal_status status)
{
    comm->failed = status;
    comm->split = NULL; /* its requests belong to callers that are unwinding now */
    comm->wait = NULL;
    if (comm->transport->ops->stop != NULL)
        comm->transport->ops->stop(comm->transport);
    return status;
}

const char *shoal_fault_text(shoal_fault_kind kind)
{
    static const char *const text[] = {"none", "kill", "stop", "exit", "drop", "device"};
    return text[kind];
}

void shoal_comm_set_device_fault(shoal_comm *comm, void (*fail)(void *arg), void *arg)
{
    comm->fail_device = fail;
    comm->fail_device_arg = arg;
}

shoal_status shoal_comm_at(shoal_comm *comm, int64_t step, int32_t layer)
{
    comm->step = step;
    comm->layer = layer;
    shoal_fault *fault = &comm->config.fault;
    bool strikes = fault->kind != SHOAL_FAULT_NONE && fault->rank == comm->rank &&
                   fault->step == step && fault->layer == layer;
    if (!strikes || comm->failed != SHOAL_OK)
        return comm->failed;
    shoal_fault_kind kind = fault->kind;
    fault->kind = SHOAL_FAULT_NONE;
    shoal_log_warn(comm->log, "injected fault: %s in step %lld, layer %d", shoal_fault_text(kind),
                   (long long)step, layer);
    if (kind == SHOAL_FAULT_DEVICE) {
        if (comm->fail_device != NULL)
            comm->fail_device(comm->fail_device_arg);
        return SHOAL_OK;
    }
    shoal_status status = comm->transport->ops->fault(comm->transport, (int32_t)kind);
    if (status == SHOAL_OK)
        return SHOAL_OK;
    comm->struck = true;
    return shoal__comm_end(comm, status);
}

/* What a probe sends is no work. */
static bool is_counted(int32_t tag)
{
    return tag != SHOAL_TAG_PROBE && tag != SHOAL_TAG_PROBE_DATA;
}

void shoal__request_finished(shoal_comm *comm, const shoal_request *request)
{
    if (request->is_recv) {
        shoal__liveness_hear(comm, request->peer);
        if (!is_counted(request->tag))
            return;
        comm->count.received_bytes += request->n_bytes;
        comm->count.received_messages++;
    }
}

shoal_status shoal__transport_failed(shoal_comm *comm, int32_t peer, shoal_status status)
{
    const shoal_loss *loss = &comm->transport->loss;
    if (status == SHOAL_PEER_LOST && loss->known)
        return loss->rank == comm->rank ? shoal__blame_self(comm, loss->reason)
                                        : shoal__blame(comm, loss->rank, loss->reason);
    if (status == SHOAL_PEER_LOST)
        return shoal__blame(comm, peer, "the connection to it broke");
    if (!comm->struck)
        shoal__blame_leave(comm, status);
    return shoal__comm_end(comm, status);
}

shoal_status shoal__request_start(shoal_comm *comm, shoal_request *request)
{
    if (shoal__split_needed(comm, request))
        return shoal__split_add(comm, request);
    shoal_status status = comm->transport->ops->start(comm->transport, request);
    if (status != SHOAL_OK)
        return shoal__transport_failed(comm, request->peer, status);
    if (request->done)
        shoal__request_finished(comm, request);
    return SHOAL_OK;
}

shoal_status shoal__request_test(shoal_comm *comm, shoal_request *request)
{
    if (request->done || request->split)
        return SHOAL_OK;
    shoal_status status = comm->transport->ops->test(comm->transport, request);
    if (status != SHOAL_OK)
        return shoal__transport_failed(comm, request->peer, status);
    if (request->done)
        shoal__request_finished(comm, request);
    return SHOAL_OK;
}

/* After a failure nothing starts, and the request is done so that no one waits for it. */
static shoal_status start(shoal_comm *comm, shoal_request *request, shoal_request wanted)
{
    assert(wanted.peer >= 0 && wanted.peer < comm->n_rank && wanted.peer != comm->rank);
    *request = SHOAL_REQUEST_NONE;
    if (comm->failed != SHOAL_OK)
        return comm->failed;
    *request = wanted;
    return shoal__request_start(comm, request);
}

shoal_status shoal_comm_send(shoal_comm *comm, shoal_request *request, int32_t peer, shoal_tag tag,
                             const void *data, size_t n_bytes)
{
    if (is_counted((int32_t)tag)) {
        comm->count.sent_bytes += n_bytes;
        comm->count.sent_messages++;
    }
    shoal_request wanted = {.exact = true, .peer = peer, .tag = (int32_t)tag, .n_bytes = n_bytes};
    memcpy(&wanted.data, &data, sizeof(data)); /* only read; the struct serves both directions */
    return start(comm, request, wanted);
}

shoal_status shoal_comm_recv(shoal_comm *comm, shoal_request *request, int32_t peer, shoal_tag tag,
                             void *data, size_t n_bytes)
{
    return start(comm, request,
                 (shoal_request){.is_recv = true,
                                 .exact = true,
                                 .peer = peer,
                                 .tag = (int32_t)tag,
                                 .n_bytes = n_bytes,
                                 .data = data});
}

shoal_status shoal_comm_recv_upto(shoal_comm *comm, shoal_request *request, int32_t peer,
                                  shoal_tag tag, void *data, size_t n_bytes)
{
    assert(tag == SHOAL_TAG_CONTROL || tag == SHOAL_TAG_DISPATCH);
    assert(n_bytes <= SHOAL_MESSAGE_MAX_BYTES);
    return start(
        comm, request,
        (shoal_request){
            .is_recv = true, .peer = peer, .tag = (int32_t)tag, .n_bytes = n_bytes, .data = data});
}

shoal_status shoal_comm_hop(shoal_comm *comm, shoal_request *send, shoal_request *recv, int32_t n)
{
    const shoal_transport_ops *ops = comm->transport->ops;
    if (comm->failed != SHOAL_OK || ops->hop == NULL)
        return comm->failed;
    shoal_status status = ops->hop(comm->transport, send, recv, n);
    return status == SHOAL_OK ? SHOAL_OK : shoal__transport_failed(comm, SHOAL_ANY_RANK, status);
}

size_t shoal_comm_slot_bytes(const shoal_comm *comm)
{
    const bool in_one = comm != NULL && comm->transport->ops->hop != NULL;
    return in_one ? SHOAL_MESSAGE_MAX_BYTES : SHOAL_DISPATCH_SLOT_BYTES;
}

static int32_t count_open(const shoal_request *request, int32_t n)
{
    int32_t n_open = 0;
    for (int32_t i = 0; i < n; i++)
        n_open += request[i].done ? 0 : 1;
    return n_open;
}

static shoal_status advance_any(shoal_comm *comm, shoal__wait *wait)
{
    for (int32_t i = wait->n - 1; i >= 0; i--) {
        if (wait->request[i].done)
            continue;
        SHOAL_TRY(shoal__request_test(comm, &wait->request[i]));
        wait->first = i; /* whom it waits for, if it waits */
        wait->last_peer = wait->request[i].peer;
    }
    if (count_open(wait->request, wait->n) < wait->n_any)
        wait->first = wait->n;
    return SHOAL_OK;
}

/* Only the first open request is tested: the transport moves the others meanwhile, and a long list
 * costs nothing. Parts of split messages have to be started by us, wherever they stand. */
static shoal_status advance(shoal_comm *comm, shoal__wait *wait)
{
    if (comm->split)
        SHOAL_TRY(shoal__split_advance(comm));
    if (wait->n_any > 0)
        return advance_any(comm, wait);
    for (; wait->first < wait->n; wait->first++) {
        shoal_request *request = &wait->request[wait->first];
        SHOAL_TRY(shoal__request_test(comm, request));
        if (!request->done) {
            wait->last_peer = request->peer;
            break;
        }
    }
    return SHOAL_OK;
}

/* What has not come at once. The clock, notices and signals are looked at between runs of tests. */
static shoal_status wait_long(shoal_comm *comm, shoal__wait *wait)
{
    const shoal_transport *transport = comm->transport;
    for (;;) {
        for (int32_t i = 0; i < transport->n_test; i++) {
            SHOAL_TRY(advance(comm, wait));
            if (wait->first == wait->n)
                return SHOAL_OK;
        }
        SHOAL_TRY(shoal__liveness_tick(comm));
        transport->ops->idle(comm->transport, comm->next_check_us);
        comm->now_us = shoal_comm_now_us(comm);
    }
}

static shoal_status wait_for(shoal_comm *comm, shoal__wait wait)
{
    if (comm->failed != SHOAL_OK)
        return comm->failed;
    comm->wait = &wait;
    shoal_status status = advance(comm, &wait);
    if (status == SHOAL_OK && wait.first < wait.n) {
        wait.start_us = comm->now_us = shoal_comm_now_us(comm);
        const int64_t span = shoal_timeline_begin(comm->timeline, SHOAL_SPAN_WAIT, wait.start_us);
        status = wait_long(comm, &wait);
        const int64_t now_us = shoal_comm_now_us(comm);
        comm->count.wait_us += now_us - wait.start_us;
        shoal_timeline_end(
            comm->timeline, span,
            &(shoal_span){.end_us = now_us, .kind = SHOAL_SPAN_WAIT, .n = wait.last_peer});
    }
    comm->wait = NULL;
    return status;
}

shoal_status shoal_comm_wait(shoal_comm *comm, shoal_request *request, int32_t n, const char *what)
{
    return wait_for(comm, (shoal__wait){.request = request, .n = n, .what = what});
}

shoal_status shoal_comm_wait_any(shoal_comm *comm, shoal_request *request, int32_t n,
                                 const char *what)
{
    const int32_t n_open = count_open(request, n);
    return wait_for(
        comm,
        (shoal__wait){.request = request, .n = n_open > 0 ? n : 0, .n_any = n_open, .what = what});
}

shoal_status shoal_comm_look(shoal_comm *comm, shoal_request *request, int32_t n)
{
    SHOAL_TRY(shoal_comm_poll(comm));
    for (int32_t i = 0; i < n; i++)
        if (!request[i].done)
            SHOAL_TRY(shoal__request_test(comm, &request[i]));
    return SHOAL_OK;
}

void shoal_comm_trace(shoal_comm *comm, shoal_timeline *timeline)
{
    comm->timeline = timeline;
}

shoal_status shoal_comm_poll(shoal_comm *comm)
{
    if (comm->failed != SHOAL_OK)
        return comm->failed;
    comm->now_us = shoal_comm_now_us(comm);
    if (comm->now_us < comm->tick_us + comm->transport->poll_us)
        return SHOAL_OK;
    if (comm->split)
        SHOAL_TRY(shoal__split_advance(comm));
    return shoal__liveness_tick(comm);
}
