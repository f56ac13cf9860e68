/* The life of NCCL's communicator: made by all ranks together, and ended by each. */
#include "comm/nccl/nccl_private.h"

#include "comm/comm_private.h"
#include "runtime/base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What NCCL may take to end a communicator: all have said that they are through, or a failure is
 * known and told. */
#define END_MAX_US   5000000
#define ABORT_MAX_US 2000000

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

/* ---- together ---- */

/* All have the version of rank 0; *good: this one's, and all others', are as wanted. NCCL's own
 * protocol is not the same in all versions. */
static shoal_status compare_versions(bool *good, shoal_nccl *t, shoal_comm *comm)
{
    int32_t n_rank = shoal_comm_n_rank(comm), rank = shoal_comm_rank(comm);
    char text[16];
    int32_t *version = calloc((size_t)n_rank, sizeof *version);
    if (version == NULL)
        return shoal_fail(t->log, SHOAL_NO_MEMORY, "no memory for the versions of NCCL");
    shoal_status status = shoal_comm_gather(comm, version, &t->version, sizeof t->version, 0);
    if (status == SHOAL_OK)
        status = shoal_comm_bcast(comm, version, (size_t)n_rank * sizeof *version, 0);
    *good = true;
    for (int32_t r = 0; r < n_rank && status == SHOAL_OK; r++)
        *good = *good && version[r] == version[0];
    if (status == SHOAL_OK && version[rank] != version[0])
        status = shoal_fail(t->log, SHOAL_UNAVAILABLE,
                            "NCCL is of version %s on this rank and of version %s on rank 0 (%s): "
                            "install one version on all hosts, or use --transport mpi",
                            t->version_text, shoal__nccl_version_text(text, version[0]),
                            shoal_comm_host(comm, 0));
    free(version);
    return status;
}

typedef struct unique_id {
    shoal__nccl_id id;
    int32_t good;
} unique_id;

/* From rank 0; opens a socket there. */
static shoal_status share_id(unique_id *id, shoal_nccl *t, shoal_comm *comm)
{
    char text[256];
    shoal_status status = SHOAL_OK;
    *id = (unique_id){.good = 1};
    if (shoal_comm_rank(comm) == 0) {
        shoal__nccl_result result = t->api.get_unique_id(&id->id);
        if (result != SHOAL__NCCL_SUCCESS) {
            id->good = 0;
            status =
                shoal_fail(t->log, SHOAL_UNAVAILABLE,
                           "NCCL %s does not start: %s; NCCL_SOCKET_IFNAME chooses its network "
                           "interface, NCCL_DEBUG=WARN says more, --transport mpi does without "
                           "it",
                           t->version_text, shoal__nccl_text(text, t, result));
        }
    }
    shoal_status sent = shoal_comm_bcast(comm, id, sizeof *id, 0);
    return status != SHOAL_OK ? status : sent;
}

typedef enum outcome { PENDING, UP, DOWN } outcome;

/* One look at the communicator that is being made. *status: the failure that DOWN is due to. */
static outcome look_at_init(shoal_status *status, shoal_nccl *t, int64_t until_us)
{
    char text[256];
    const shoal__nccl_result result = shoal__nccl_look(t);
    if (result == SHOAL__NCCL_SUCCESS)
        return UP;
    bool in_time = shoal_clock_us() < until_us;
    if (result == SHOAL__NCCL_IN_PROGRESS && in_time)
        return PENDING;
    if (result == SHOAL__NCCL_IN_PROGRESS)
        *status = shoal_fail(t->log, SHOAL_UNAVAILABLE,
                             "NCCL %s has not connected the ranks within %g s; see whether its "
                             "network interface is the right one (NCCL_SOCKET_IFNAME; "
                             "NCCL_DEBUG=INFO says which it takes), give a longer --deadline, or "
                             "use --transport mpi",
                             t->version_text, (double)t->deadline_us / 1e6);
    else
        *status =
            shoal_fail(t->log, SHOAL_UNAVAILABLE,
                       "NCCL %s cannot connect the ranks: %s; two ranks on one GPU need "
                       "distinct NCCL_HOSTID, NCCL_DEBUG=WARN says more, --transport mpi does "
                       "without it",
                       t->version_text, shoal__nccl_text(text, t, result));
    return DOWN;
}

/* Every rank tells rank 0 once how its part went, and rank 0 tells all as soon as one is down. */
typedef struct verdicts {
    shoal_comm *comm;
    shoal_request *request; /* rank 0: from r at r - 1, then to r at n_rank - 2 + r. Else: the
                               verdict, then the own word */
    int32_t *word;          /* [n_rank] outcome of each rank; [0] elsewhere: the verdict */
    int32_t mine, verdict;
    bool said;
} verdicts;

static shoal_status verdicts_open(verdicts *v, shoal_comm *comm)
{
    int32_t n_rank = comm->n_rank;
    *v = (verdicts){.comm = comm,
                    .request = calloc(2 * (size_t)n_rank, sizeof(shoal_request)),
                    .word = calloc((size_t)n_rank, sizeof(int32_t))};
    if (v->request == NULL || v->word == NULL)
        return shoal_fail(comm->log, SHOAL_NO_MEMORY, "no memory to start NCCL");
    for (int32_t i = 0; i < 2 * n_rank; i++)
        v->request[i] = SHOAL_REQUEST_NONE;
    if (comm->rank != 0)
        return shoal_comm_recv(comm, &v->request[0], 0, SHOAL_TAG_BRINGUP, &v->word[0],
                               sizeof v->word[0]);
    for (int32_t r = 1; r < n_rank; r++)
        SHOAL_TRY(shoal_comm_recv(comm, &v->request[r - 1], r, SHOAL_TAG_BRINGUP, &v->word[r],
                                  sizeof v->word[r]));
    return SHOAL_OK;
}

static void verdicts_close(verdicts *v)
{
    free(v->request);
    free(v->word);
}

/* What this rank knows by now; rank 0 says it to all when it is no longer PENDING. */
static shoal_status look_at_verdict(verdicts *v)
{
    shoal_comm *comm = v->comm;
    if (v->verdict != PENDING)
        return SHOAL_OK;
    if (comm->rank != 0) {
        if (v->request[0].done)
            v->verdict = v->word[0];
        return SHOAL_OK;
    }
    bool all_up = v->mine == UP, any_down = v->mine == DOWN;
    for (int32_t r = 1; r < comm->n_rank; r++) {
        bool known = v->request[r - 1].done;
        all_up = all_up && known && v->word[r] == UP;
        any_down = any_down || (known && v->word[r] == DOWN);
    }
    if (!all_up && !any_down)
        return SHOAL_OK;
    v->verdict = any_down ? DOWN : UP;
    for (int32_t r = 1; r < comm->n_rank; r++)
        SHOAL_TRY(shoal_comm_send(comm, &v->request[comm->n_rank - 2 + r], r, SHOAL_TAG_BRINGUP,
                                  &v->verdict, sizeof v->verdict));
    return SHOAL_OK;
}

static shoal_status say_mine(verdicts *v)
{
    v->said = true;
    if (v->comm->rank == 0)
        return SHOAL_OK;
    return shoal_comm_send(v->comm, &v->request[1], 0, SHOAL_TAG_BRINGUP, &v->mine, sizeof v->mine);
}

/* Until all ranks are up, or one is down: then the others need not wait for it. *status: the own
 * failure. */
static shoal_status connect_all(shoal_status *status, shoal_nccl *t, verdicts *v)
{
    shoal_comm *comm = v->comm;
    int64_t until_us = shoal_clock_us() + t->deadline_us;
    int32_t n = 2 * comm->n_rank;
    while (v->verdict == PENDING && !v->said) {
        if (v->mine == PENDING)
            v->mine = (int32_t)look_at_init(status, t, until_us);
        SHOAL_TRY(shoal_comm_look(comm, v->request, n));
        if (v->mine != PENDING)
            SHOAL_TRY(say_mine(v));
        SHOAL_TRY(look_at_verdict(v));
        nap();
    }
    if (!v->said) { /* another one is down */
        v->mine = DOWN;
        SHOAL_TRY(say_mine(v));
    }
    while (v->verdict == PENDING) {
        SHOAL_TRY(shoal_comm_wait_any(comm, v->request, n, "NCCL to start"));
        SHOAL_TRY(look_at_verdict(v));
    }
    return shoal_comm_wait(comm, v->request, n, "NCCL to start");
}

static shoal_status make_communicator(shoal_nccl *t, shoal_comm *comm, const unique_id *id)
{
    char text[256];
    shoal__nccl_config config = {.size = sizeof config,
                                 .magic = SHOAL__NCCL_CONFIG_MAGIC,
                                 .version = SHOAL__NCCL_VERSION_MIN,
                                 .blocking = 0,
                                 .cga_cluster_size = SHOAL__NCCL_UNDEFINED,
                                 .min_ctas = SHOAL__NCCL_UNDEFINED,
                                 .max_ctas = SHOAL__NCCL_UNDEFINED,
                                 .split_share = SHOAL__NCCL_UNDEFINED};
    shoal_status mine = SHOAL_OK;
    verdicts v;
    shoal_status status = verdicts_open(&v, comm);
    if (status == SHOAL_OK) {
        shoal__nccl_result result =
            t->api.init(&t->comm, comm->n_rank, id->id, comm->rank, &config);
        if (result != SHOAL__NCCL_SUCCESS && result != SHOAL__NCCL_IN_PROGRESS) {
            v.mine = DOWN;
            t->comm = NULL;
            mine = shoal_fail(t->log, SHOAL_UNAVAILABLE,
                              "NCCL %s makes no communicator: %s; NCCL_DEBUG=WARN says more, "
                              "--transport mpi does without it",
                              t->version_text, shoal__nccl_text(text, t, result));
        }
        status = connect_all(&mine, t, &v);
    }
    if (status != SHOAL_OK || v.verdict != UP)
        shoal__nccl_abort(t);
    verdicts_close(&v);
    return mine != SHOAL_OK ? mine : status;
}

/* Messages of the exchange that may be open at once: four parts of a step, and two more for MTP and
 * what is measured, with three messages each way to every rank. */
static shoal_status take_room(shoal_nccl *t, int32_t n_rank)
{
    t->n_message = 6 * 6 * n_rank;
    t->message = calloc((size_t)t->n_message, sizeof *t->message);
    t->peer = calloc((size_t)n_rank, sizeof *t->peer);
    if (t->message == NULL || t->peer == NULL)
        return shoal_fail(t->log, SHOAL_NO_MEMORY, "no memory for the NCCL transport");
    for (int32_t i = t->n_message - 1; i >= 0; i--) {
        t->message[i].next = t->free;
        t->free = &t->message[i];
    }
    t->live_end = &t->live;
    return SHOAL_OK;
}

shoal_status shoal_nccl_join(shoal_nccl *nccl, shoal_comm *comm)
{
    unique_id id;
    bool good;
    SHOAL_TRY(compare_versions(&good, nccl, comm));
    if (!good)
        return SHOAL_OK; /* the rank that deviates says so */
    SHOAL_TRY(take_room(nccl, shoal_comm_n_rank(comm)));
    SHOAL_TRY(share_id(&id, nccl, comm));
    return id.good ? make_communicator(nccl, comm, &id) : SHOAL_OK;
}

/* ---- alone ---- */

/* An abort that may hang, on a thread of its own. Both hold the job; the last frees it. */
typedef struct abort_job {
    shoal__nccl_result (*give_up)(shoal__nccl_comm *comm);
    shoal__nccl_comm *comm;
    atomic_bool done;
    atomic_int n_holder;
} abort_job;

static void release(abort_job *job)
{
    if (atomic_fetch_sub(&job->n_holder, 1) == 1)
        free(job);
}

static void *run_abort(void *arg)
{
    abort_job *job = arg;
    job->give_up(job->comm);
    atomic_store(&job->done, true);
    release(job);
    return NULL;
}

void shoal__nccl_abort(shoal_nccl *t)
{
    if (t->comm == NULL)
        return;
    shoal__nccl_comm *comm = t->comm;
    t->comm = NULL;
    pthread_t thread;
    abort_job *job = malloc(sizeof *job);
    if (job == NULL)
        return; /* the process ends soon, and NCCL with it */
    job->give_up = t->api.comm_abort;
    job->comm = comm;
    atomic_init(&job->done, false);
    atomic_init(&job->n_holder, 2);
    if (pthread_create(&thread, NULL, run_abort, job) != 0) {
        free(job);
        return;
    }
    pthread_detach(thread);
    int64_t until_us = shoal_clock_us() + ABORT_MAX_US;
    while (!atomic_load(&job->done) && shoal_clock_us() < until_us)
        nap();
    if (!atomic_load(&job->done))
        shoal_log_warn(t->log, "NCCL has not given up its messages within %d s: leaving without",
                       ABORT_MAX_US / 1000000);
    release(job);
}

void shoal__nccl_destroy(shoal_nccl *t)
{
    if (t->comm == NULL)
        return;
    int64_t until_us = shoal_clock_us() + END_MAX_US;
    shoal__nccl_result state = t->api.finalize(t->comm);
    while (state == SHOAL__NCCL_IN_PROGRESS && shoal_clock_us() < until_us) {
        nap();
        state = shoal__nccl_look(t);
    }
    if (state != SHOAL__NCCL_SUCCESS) {
        shoal__nccl_abort(t);
        return;
    }
    t->api.destroy(t->comm);
    t->comm = NULL;
}
