/* The transport's operations: what is not of the exchange goes straight to the transport inside. */
#include "comm/nccl/nccl_private.h"

#include "comm/comm_private.h"
#include "runtime/base/clock.h"

#include <stdlib.h>

static shoal_nccl *of(shoal_transport *t)
{
    return (shoal_nccl *)t;
}

static const shoal_nccl *of_const(const shoal_transport *t)
{
    return (const shoal_nccl *)t;
}

static shoal_status nccl_start(shoal_transport *transport, shoal_request *r)
{
    shoal_nccl *t = of(transport);
    if (shoal__nccl_takes(t, r))
        return shoal__nccl_message_start(t, r);
    return t->inner->ops->start(t->inner, r);
}

static shoal_status nccl_test(shoal_transport *transport, shoal_request *r)
{
    shoal_nccl *t = of(transport);
    SHOAL_TRY(shoal__nccl_progress(t));
    shoal__nccl_message *m = r->outer;
    if (m == NULL)
        return t->inner->ops->test(t->inner, r);
    if (m->state != SHOAL__NCCL_DONE)
        return SHOAL_OK;
    shoal_idler_reset(&t->idler);
    r->n_bytes = m->n_bytes;
    r->outer = NULL;
    r->done = true;
    shoal__nccl_message_release(t, m);
    return SHOAL_OK;
}

/* Messages of the exchange are never given up but by a failure, which ends all. */
static void nccl_cancel(shoal_transport *transport, shoal_request *r)
{
    shoal_nccl *t = of(transport);
    if (r->outer == NULL)
        t->inner->ops->cancel(t->inner, r);
    r->done = true;
}

static void nccl_idle(shoal_transport *transport, int64_t until_us)
{
    shoal_idler_idle(&of(transport)->idler, until_us);
}

static int64_t nccl_now_us(shoal_transport *transport)
{
    shoal_nccl *t = of(transport);
    return t->inner->ops->now_us(t->inner);
}

static shoal_status nccl_fault(shoal_transport *transport, int32_t kind)
{
    shoal_nccl *t = of(transport);
    if (kind == SHOAL_FAULT_DROP)
        t->mute = true;
    return t->inner->ops->fault(t->inner, kind);
}

static bool nccl_whole(const shoal_transport *transport, const shoal_request *r)
{
    return shoal__nccl_takes(of_const(transport), r);
}

static shoal_status nccl_hop(shoal_transport *transport, shoal_request *send, shoal_request *recv,
                             int32_t n)
{
    shoal_request *const list[2] = {send, recv};
    return shoal__nccl_hop_close(of(transport), list, n);
}

static void nccl_stop(shoal_transport *transport)
{
    shoal_nccl *t = of(transport);
    t->stopped = true;
    shoal__nccl_abort(t);
}

static void nccl_close(shoal_transport *transport, bool failed)
{
    shoal_nccl *t = of(transport);
    if (failed)
        shoal__nccl_abort(t);
    else
        shoal__nccl_destroy(t);
    shoal__nccl_trouble_close(t);
    t->inner->ops->close(t->inner, failed);
    shoal_nccl_close(t);
}

const shoal_transport_ops shoal__nccl_ops = {
    .name = "nccl",
    .start = nccl_start,
    .test = nccl_test,
    .cancel = nccl_cancel,
    .idle = nccl_idle,
    .now_us = nccl_now_us,
    .fault = nccl_fault,
    .close = nccl_close,
    .whole = nccl_whole,
    .hop = nccl_hop,
    .stop = nccl_stop,
};

shoal_status shoal_nccl_open(shoal_nccl **nccl, const shoal_nccl_config *config, shoal_log *log)
{
    shoal_nccl *t = calloc(1, sizeof *t);
    if (t == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the NCCL transport");
    t->log = log;
    t->device = config->device;
    t->deadline_us = (int64_t)(config->deadline_s * 1e6);
    shoal_status status = shoal__nccl_load(t, config->library);
    if (status == SHOAL_OK)
        status = t->device->ops->side_open(&t->stream, t->device);
    if (status != SHOAL_OK) {
        shoal_nccl_close(t);
        return status;
    }
    *nccl = t;
    return SHOAL_OK;
}

shoal_status shoal_nccl_use(shoal_nccl *nccl, shoal_comm *comm, size_t over_bytes)
{
    shoal_transport *inner = comm->transport;
    nccl->inner = inner;
    nccl->over_bytes = over_bytes;
    nccl->base = (shoal_transport){.ops = &shoal__nccl_ops,
                                   .rank = inner->rank,
                                   .n_rank = inner->n_rank,
                                   .n_test = inner->n_test,
                                   .poll_us = inner->poll_us};
    comm->transport = &nccl->base;
    shoal_status status = shoal__nccl_trouble_open(nccl);
    return status == SHOAL_OK ? SHOAL_OK : shoal__transport_failed(comm, SHOAL_ANY_RANK, status);
}

const char *shoal_nccl_version_text(const shoal_nccl *nccl)
{
    return nccl->version_text;
}

void shoal_nccl_close(shoal_nccl *nccl)
{
    if (nccl == NULL)
        return;
    shoal__nccl_abort(nccl);
    free(nccl->message);
    free(nccl->peer);
    free(nccl);
}
