#include "comm/comm.h"
#include "runtime/base/clock.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* One rank has no peer, so a message is a bug of the caller. */
static shoal_status self_message(shoal_transport *t, shoal_request *r)
{
    (void)t;
    (void)r;
    return SHOAL_FAILED;
}

static void self_cancel(shoal_transport *t, shoal_request *r)
{
    (void)t;
    r->done = true;
}

static void self_idle(shoal_transport *t, int64_t until_us)
{
    (void)t;
    (void)until_us;
}

static int64_t self_now_us(shoal_transport *t)
{
    (void)t;
    return shoal_clock_us();
}

static shoal_status self_fault(shoal_transport *t, int32_t kind)
{
    (void)t;
    if (kind == SHOAL_FAULT_KILL)
        raise(SIGKILL);
    if (kind == SHOAL_FAULT_STOP)
        raise(SIGSTOP);
    if (kind == SHOAL_FAULT_EXIT)
        _exit(1);
    return SHOAL_OK;
}

static void self_close(shoal_transport *t, bool failed)
{
    (void)failed;
    free(t);
}

static const shoal_transport_ops self_ops = {
    .name = "self",
    .start = self_message,
    .test = self_message,
    .cancel = self_cancel,
    .idle = self_idle,
    .now_us = self_now_us,
    .fault = self_fault,
    .close = self_close,
};

shoal_status shoal_transport_open_self(shoal_transport **transport)
{
    shoal_transport *t = calloc(1, sizeof(*t));
    if (!t)
        return SHOAL_NO_MEMORY;
    t->ops = &self_ops;
    t->rank = 0;
    t->n_rank = 1;
    t->n_test = 1;
    *transport = t;
    return SHOAL_OK;
}
