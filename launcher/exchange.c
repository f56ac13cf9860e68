#include "launcher/exchange.h"

#include "comm/nccl/nccl.h"
#include "launcher/agreement.h"

#include <stdlib.h>
#include <string.h>

/* A stage: what a rank alone fails at is said by shoal_agreement_stage, once for all. */
#define STAGE(s, what, call)                                                                       \
    do {                                                                                           \
        (s)->log->capture = true;                                                                  \
        const shoal_status stage_status_ = (call);                                                 \
        SHOAL_TRY(shoal_agreement_stage((s)->comm, stage_status_, (what), (s)->log));              \
    } while (0)

static bool all_are_gpus(const shoal_session *s)
{
    return s->devices.n_device == s->n_rank;
}

static shoal_status check_gpus(const shoal_session *s)
{
    int32_t cpu = 0;
    if (all_are_gpus(s))
        return SHOAL_OK;
    while (cpu < s->n_rank - 1 && s->devices.n_device > 0 &&
           s->devices.rank[cpu].info.id[0] != '\0')
        cpu++;
    return shoal_fail(s->log, SHOAL_USAGE,
                      "--transport nccl is for jobs whose ranks all compute on GPUs, but rank %d "
                      "(%s) computes on its processor; use --transport mpi, which takes both, or "
                      "--device cuda to see why it has no GPU",
                      (int)cpu, shoal_comm_host(s->comm, cpu));
}

static shoal_status load(shoal_nccl **nccl, const shoal_session *s)
{
    const shoal_nccl_config config = {.library = s->options.nccl_library,
                                      .device = s->devices.own,
                                      .deadline_s = s->options.deadline_s};
    return shoal_nccl_open(nccl, &config, s->log);
}

static shoal_status demand(shoal_nccl **nccl, shoal_session *s)
{
    STAGE(s, "choosing the transport", check_gpus(s));
    if (s->n_rank == 1)
        return SHOAL_OK; /* nothing travels */
    STAGE(s, "loading NCCL", load(nccl, s));
    STAGE(s, "starting NCCL", shoal_nccl_join(*nccl, s->comm));
    shoal_nccl *used = *nccl;
    *nccl = NULL;
    SHOAL_TRY(shoal_nccl_use(used, s->comm, 0));
    if (s->rank == 0)
        shoal_log_info(s->log, "rows travel by NCCL %s", shoal_nccl_version_text(used));
    return SHOAL_OK;
}

typedef struct attempt {
    int32_t status;
    char text[sizeof(((shoal_log *)0)->error)];
} attempt;

/* Whether what all have tried has worked for all; rank 0 says why not. Ends the capturing. */
static shoal_status settle(bool *good, shoal_session *s, shoal_status mine)
{
    attempt tried = {.status = (int32_t)mine};
    attempt *all = NULL;
    s->log->capture = false;
    if (mine != SHOAL_OK)
        memcpy(tried.text, s->log->error, sizeof tried.text);
    if (mine == SHOAL_PEER_LOST || mine == SHOAL_INTERRUPTED)
        return shoal_fail(s->log, mine, "%s", tried.text);
    if (s->rank == 0) {
        all = calloc((size_t)s->n_rank, sizeof *all);
        if (all == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory to choose the transport");
    }
    shoal_status status = shoal_comm_gather(s->comm, all, &tried, sizeof tried, 0);
    int32_t bad = 0;
    if (status == SHOAL_OK && s->rank == 0) {
        while (bad < s->n_rank && all[bad].status == SHOAL_OK)
            bad++;
        if (bad < s->n_rank)
            shoal_log_info(s->log, "rows travel by MPI; rank %d (%s): %.*s", (int)bad,
                           shoal_comm_host(s->comm, bad), (int)sizeof tried.text - 1,
                           all[bad].text);
    }
    free(all);
    SHOAL_TRY(status);
    SHOAL_TRY(shoal_comm_bcast(s->comm, &bad, sizeof bad, 0));
    *good = bad == s->n_rank;
    return SHOAL_OK;
}

static shoal_status use_if_faster(shoal_nccl **nccl, shoal_session *s)
{
    bool good;
    size_t over_bytes;
    s->log->capture = true;
    SHOAL_TRY(settle(&good, s, load(nccl, s)));
    if (!good)
        return SHOAL_OK;
    s->log->capture = true;
    SHOAL_TRY(settle(&good, s, shoal_nccl_join(*nccl, s->comm)));
    if (!good)
        return SHOAL_OK;
    char text[16];
    snprintf(text, sizeof text, "%s", shoal_nccl_version_text(*nccl));
    shoal_nccl *used = *nccl;
    *nccl = NULL;
    SHOAL_TRY(shoal_nccl_use_if_faster(&over_bytes, used, s->comm));
    if (s->rank == 0 && over_bytes == SIZE_MAX)
        shoal_log_info(s->log, "rows travel by MPI: NCCL %s was measured to be slower", text);
    else if (s->rank == 0)
        shoal_log_info(s->log,
                       "rows travel by NCCL %s in messages of more than %zu bytes, else by MPI, as "
                       "measured",
                       text, over_bytes);
    return SHOAL_OK;
}

shoal_status shoal_exchange_choose(shoal_session *session)
{
    shoal_session *s = session;
    shoal_nccl *nccl = NULL;
    shoal_status status = SHOAL_OK;
    if (s->options.transport == SHOAL_TRANSPORT_NCCL)
        status = demand(&nccl, s);
    else if (s->options.transport == SHOAL_TRANSPORT_AUTO && s->n_rank > 1 && all_are_gpus(s))
        status = use_if_faster(&nccl, s);
    shoal_nccl_close(nccl);
    return status;
}
