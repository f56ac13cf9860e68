#include "launcher/devices.h"

#include "launcher/agreement.h"
#include "launcher/report.h"

#include <stdlib.h>
#include <string.h>

/* A stage: what a rank alone fails at is said by shoal_agreement_stage, once for all. */
#define STAGE(comm, log, what, call)                                                               \
    do {                                                                                           \
        (log)->capture = true;                                                                     \
        const shoal_status stage_status_ = (call);                                                 \
        SHOAL_TRY(shoal_agreement_stage((comm), stage_status_, (what), (log)));                    \
    } while (0)

/* The kind of devices that --device cuda means; NULL: this build has none. */
static const shoal_device_backend *find_backend(const shoal_options *options)
{
    const shoal_device_backend *const *b = options->backends;
    for (; b != NULL && *b != NULL; b++)
        if (strcmp((*b)->name, "cuda") == 0)
            return *b;
    return NULL;
}

static shoal_status claim_of(shoal_device_claim *claim, const shoal_options *options,
                             const shoal_comm *comm, shoal_log *log)
{
    const shoal_device_backend *backend = find_backend(options);
    memset(claim, 0, sizeof *claim);
    claim->has_backend = backend != NULL;
    SHOAL_TRY(shoal_device_wish_of(&claim->wish, options->device, shoal_comm_rank(comm),
                                   shoal_comm_n_rank(comm), log));
    if (backend == NULL || claim->wish.kind == SHOAL_DEVICE_CPU)
        return SHOAL_OK;
    claim->n_device = backend->count(claim->why, sizeof claim->why);
    if (claim->n_device > SHOAL_DEVICE_HOST_MAX)
        claim->n_device = SHOAL_DEVICE_HOST_MAX;
    for (int32_t i = 0; i < claim->n_device && backend->bus_id != NULL; i++)
        backend->bus_id(claim->bus_id[i], i);
    return SHOAL_OK;
}

/* What the choice is made of, and what comes of it. */
typedef struct choice {
    shoal_device_claim *claim; /* [n_rank] */
    const char **host;         /* [n_rank] */
    int32_t *index;            /* [n_rank] */
} choice;

static shoal_status open_choice(choice *c, int32_t n_rank, shoal_log *log)
{
    const size_t n = (size_t)n_rank;
    *c = (choice){.claim = calloc(n, sizeof *c->claim),
                  .host = calloc(n, sizeof *c->host),
                  .index = calloc(n, sizeof *c->index)};
    if (c->claim != NULL && c->host != NULL && c->index != NULL)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the devices of %d ranks", (int)n_rank);
}

static void close_choice(choice *c)
{
    free(c->claim);
    free(c->host);
    free(c->index);
}

/* GPUs that are there but cannot be used are no reason to fail without a word. */
static void warn_unusable(const choice *c, int32_t n_rank, shoal_log *log)
{
    for (int32_t r = 0; r < n_rank; r++) {
        const shoal_device_claim *claim = &c->claim[r];
        if (claim->wish.kind != SHOAL_DEVICE_AUTO || claim->n_device > 0 || claim->why[0] == '\0')
            continue;
        shoal_log_info(log, "rank %d (%s) computes on its processor: %s", (int)r, c->host[r],
                       claim->why);
        return; /* one speaks for all */
    }
}

/* What this rank has to say, and room for what all have. */
static shoal_status begin(shoal_device_claim *mine, choice *c, shoal_devices *d,
                          const shoal_options *options, const shoal_comm *comm)
{
    const int32_t n_rank = shoal_comm_n_rank(comm);
    SHOAL_TRY(open_choice(c, n_rank, d->log));
    d->rank = calloc((size_t)n_rank, sizeof *d->rank);
    if (d->rank == NULL)
        return shoal_fail(d->log, SHOAL_NO_MEMORY, "no memory for the devices of %d ranks",
                          (int)n_rank);
    d->n_rank = n_rank;
    return claim_of(mine, options, comm, d->log);
}

static shoal_status choose(choice *c, shoal_devices *d, const shoal_options *options,
                           shoal_comm *comm)
{
    shoal_device_claim mine;
    STAGE(comm, d->log, "choosing the devices", begin(&mine, c, d, options, comm));
    SHOAL_TRY(shoal_comm_gather(comm, c->claim, &mine, sizeof mine, 0));
    SHOAL_TRY(shoal_comm_bcast(comm, c->claim, (size_t)d->n_rank * sizeof *c->claim, 0));
    for (int32_t r = 0; r < d->n_rank; r++) {
        c->claim[r].why[sizeof c->claim[r].why - 1] = '\0';
        c->host[r] = shoal_comm_host(comm, r);
    }
    STAGE(comm, d->log, "choosing the devices",
          shoal_device_assign(c->index, c->claim, c->host, d->n_rank, d->log));
    if (shoal_comm_rank(comm) == 0)
        warn_unusable(c, d->n_rank, d->log);
    return SHOAL_OK;
}

/* -- --fault do=device -- */

static shoal_status struck(shoal_device *device)
{
    (void)device;
    return SHOAL_UNAVAILABLE; /* said when it was struck */
}

static shoal_status struck_wait(shoal_device *device, int32_t i)
{
    (void)i;
    return struck(device);
}

/* What a GPU that has fallen off its bus looks like from above: whatever is waited for fails. */
static void strike(void *arg)
{
    shoal_devices *d = arg;
    if (d->own == NULL) {
        shoal_log_warn(d->log, "this rank has no device: nothing happens");
        return;
    }
    d->struck_ops.sync = struck;
    d->struck_ops.wait = struck_wait;
    (void)shoal_fail(d->log, SHOAL_UNAVAILABLE, "%s (%s) has failed: an injected fault",
                     d->own->info.id, d->own->info.name);
}

static void prepare_strike(shoal_devices *d, const shoal_options *options, shoal_comm *comm)
{
    if (options->fault.kind != SHOAL_FAULT_DEVICE)
        return;
    if (d->own != NULL) {
        d->real_ops = d->own->ops;
        d->struck_ops = *d->real_ops;
        d->own->ops = &d->struck_ops;
    }
    shoal_comm_set_device_fault(comm, strike, d);
}

/* -- opening -- */

static shoal_status open_own(shoal_devices *d, const shoal_options *options, int32_t index,
                             const shoal_devices_use *use)
{
    if (index < 0)
        return SHOAL_OK;
    enum { DEADLINES = 4, LEAST_S = 60 }; /* a layer of a long prompt takes a GPU seconds */
    const double patience_s = DEADLINES * options->deadline_s;
    const shoal_device_config config = {
        .precise = use->precise,
        .n_item = use->n_item,
        .pool = use->pool,
        .patience_us = (int64_t)((patience_s > LEAST_S ? patience_s : LEAST_S) * 1e6)};
    return find_backend(options)->open(&d->own, index, &config, d->log);
}

static bool share(const shoal_devices *d, const shoal_comm *comm, int32_t r, int32_t s)
{
    const shoal_device_info *a = &d->rank[r].info, *b = &d->rank[s].info;
    return a->id[0] != '\0' && b->id[0] != '\0' && a->bus_id[0] != '\0' &&
           strcmp(a->bus_id, b->bus_id) == 0 &&
           strcmp(shoal_comm_host(comm, r), shoal_comm_host(comm, s)) == 0;
}

/* Who has named a GPU by its number may share it. */
static shoal_status compare(const shoal_devices *d, const shoal_comm *comm)
{
    for (int32_t r = 0; r < d->n_rank; r++) {
        for (int32_t s = 0; s < r; s++) {
            if (!share(d, comm, s, r) || (d->rank[r].is_named != 0 && d->rank[s].is_named != 0))
                continue;
            const shoal_device_info *info = &d->rank[r].info;
            return shoal_fail(
                d->log, SHOAL_UNAVAILABLE,
                "rank %d and rank %d (%s) have the same GPU, %s (%s): they would take "
                "turns on it and share its memory. Give each its own, or if that is "
                "meant name it for both: --device %s",
                (int)s, (int)r, shoal_comm_host(comm, r), info->bus_id, info->name, info->id);
        }
    }
    return SHOAL_OK;
}

static void say(const shoal_devices *d, const shoal_comm *comm)
{
    enum { EACH_RANK_MAX = 16 };
    for (int32_t r = 0; r < d->n_rank && d->n_device > 0 && d->n_rank <= EACH_RANK_MAX; r++) {
        const shoal_device_info *info = &d->rank[r].info;
        char all[SHOAL_BYTES_TEXT], left[SHOAL_BYTES_TEXT];
        if (info->id[0] == '\0')
            continue;
        shoal_log_info(d->log, "rank %d (%s) computes on %s, %s (sm_%d), %s of %s are free", (int)r,
                       shoal_comm_host(comm, r), info->id, info->name, (int)info->version,
                       shoal_bytes_text(left, info->free_bytes),
                       shoal_bytes_text(all, info->memory_bytes));
    }
    if (d->n_rank > EACH_RANK_MAX && d->n_device > 0)
        shoal_log_info(d->log, "%d of %d ranks compute on a GPU", (int)d->n_device, (int)d->n_rank);
}

/* Everyone learns what everyone has. */
static shoal_status tell(shoal_devices *d, bool is_named, shoal_comm *comm)
{
    shoal_rank_device mine = {.is_named = is_named};
    if (d->own != NULL)
        mine.info = d->own->info;
    SHOAL_TRY(shoal_comm_gather(comm, d->rank, &mine, sizeof mine, 0));
    SHOAL_TRY(shoal_comm_bcast(comm, d->rank, (size_t)d->n_rank * sizeof *d->rank, 0));
    for (int32_t r = 0; r < d->n_rank; r++)
        d->n_device += d->rank[r].info.id[0] != '\0';
    STAGE(comm, d->log, "comparing the devices", compare(d, comm));
    if (shoal_comm_rank(comm) == 0)
        say(d, comm);
    return SHOAL_OK;
}

static bool all_are_cpus(const choice *c, int32_t n_rank)
{
    for (int32_t r = 0; r < n_rank; r++)
        if (c->index[r] >= 0)
            return false;
    return true;
}

static shoal_status open_chosen(shoal_devices *d, const choice *c, const shoal_options *options,
                                const shoal_devices_use *use, shoal_comm *comm)
{
    const int32_t rank = shoal_comm_rank(comm);
    if (!all_are_cpus(c, d->n_rank)) {
        STAGE(comm, d->log, "opening the devices", open_own(d, options, c->index[rank], use));
        SHOAL_TRY(tell(d, c->claim[rank].wish.index >= 0, comm));
    }
    prepare_strike(d, options, comm);
    return SHOAL_OK;
}

shoal_status shoal_devices_open(shoal_devices *devices, const shoal_options *options,
                                const shoal_devices_use *use, shoal_comm *comm, shoal_log *log)
{
    choice c = {0};
    *devices = (shoal_devices){.log = log};
    shoal_status status = choose(&c, devices, options, comm);
    if (status == SHOAL_OK)
        status = open_chosen(devices, &c, options, use, comm);
    close_choice(&c);
    return status;
}

void shoal_devices_close(shoal_devices *devices)
{
    if (devices->real_ops != NULL)
        devices->own->ops = devices->real_ops;
    shoal_device_close(devices->own);
    free(devices->rank);
    *devices = (shoal_devices){0};
}

const char *shoal_devices_id(const shoal_devices *devices, int32_t rank)
{
    const char *id = devices->rank[rank].info.id;
    return id[0] != '\0' ? id : "cpu";
}
