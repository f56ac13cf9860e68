#include "launcher/probe/probe.h"

#include "launcher/agreement.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HELLO_MAGIC   0x626f7270U /* "prob" */
#define HELLO_VERSION 1

/* The first words, whose form never changes: what follows can be understood if these agree. */
typedef struct hello {
    uint32_t magic, version;
    uint32_t facts_bytes, rank_bytes, link_bytes, pad;
    char build[SHOAL_PROBE_TEXT];
} hello;

static shoal_status say_hello(shoal_comm *comm, shoal_log *log)
{
    hello mine = {.magic = HELLO_MAGIC,
                  .version = HELLO_VERSION,
                  .facts_bytes = sizeof(shoal_probe_facts),
                  .rank_bytes = sizeof(shoal_probe_rank),
                  .link_bytes = sizeof(shoal_probe_link)};
    snprintf(mine.build, sizeof mine.build, "%s", shoal_build_text());
    hello *all = NULL;
    shoal_status status = SHOAL_OK;
    if (shoal_comm_rank(comm) == 0) {
        all = calloc((size_t)shoal_comm_n_rank(comm), sizeof *all);
        if (all == NULL)
            status = shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the records of all ranks");
    }
    if (status == SHOAL_OK)
        status = shoal_comm_gather(comm, all, &mine, sizeof mine, 0);
    for (int32_t r = 1; all != NULL && status == SHOAL_OK && r < shoal_comm_n_rank(comm); r++)
        if (memcmp(&all[r], &mine, offsetof(hello, build)) != 0)
            status = shoal_fail(log, SHOAL_FAILED,
                                "rank %d (%s) is another build: %.63s, rank 0 is %s; install the "
                                "same shoal on all hosts",
                                (int)r, shoal_comm_host(comm, r), all[r].build, mine.build);
    free(all);
    return shoal_comm_agree(comm, status, "comparing builds");
}

/* On all ranks: who is on which host. */
typedef struct world {
    shoal_comm *comm;
    shoal_log *log;
    int32_t rank, n_rank, n_host;
    int32_t *host;            /* [n_rank] */
    shoal_probe_facts *facts; /* [n_rank] on rank 0 */
} world;

static bool is_on_host_of(const shoal_probe_facts *a, const shoal_probe_facts *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->machine, b->machine) == 0;
}

static int32_t number_hosts(int32_t *host, const shoal_probe_facts *facts, int32_t n_rank)
{
    int32_t n = 0;
    for (int32_t r = 0; r < n_rank; r++) {
        host[r] = -1;
        for (int32_t s = 0; s < r && host[r] < 0; s++)
            if (is_on_host_of(&facts[s], &facts[r]))
                host[r] = host[s];
        if (host[r] < 0)
            host[r] = n++;
    }
    return n;
}

static shoal_status open_world(world *w)
{
    w->host = calloc((size_t)w->n_rank, sizeof *w->host);
    w->facts = w->rank == 0 ? calloc((size_t)w->n_rank, sizeof *w->facts) : NULL;
    if (w->host != NULL && (w->rank != 0 || w->facts != NULL))
        return SHOAL_OK;
    return shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory for the facts of %d ranks",
                      (int)w->n_rank);
}

static shoal_status gather_facts(world *w, const shoal_probe_setup *setup)
{
    shoal_probe_facts mine;
    SHOAL_TRY(shoal_comm_agree(w->comm, open_world(w), "preparing to measure"));
    shoal_probe_facts_read(&mine, &setup->cores->topology);
    snprintf(mine.host, sizeof mine.host, "%s", shoal_comm_host(w->comm, w->rank));
    snprintf(mine.build, sizeof mine.build, "%s", shoal_build_text());
    snprintf(mine.mpi, sizeof mine.mpi, "%s", setup->mpi);
    snprintf(mine.kernels, sizeof mine.kernels, "%s", setup->compute->kernels->name);
    mine.n_thread = shoal_pool_n_thread(setup->compute->pool);
    SHOAL_TRY(shoal_comm_gather(w->comm, w->facts, &mine, sizeof mine, 0));
    if (w->rank == 0)
        w->n_host = number_hosts(w->host, w->facts, w->n_rank);
    SHOAL_TRY(shoal_comm_bcast(w->comm, &w->n_host, sizeof w->n_host, 0));
    return shoal_comm_bcast(w->comm, w->host, (size_t)w->n_rank * sizeof *w->host, 0);
}

/* What a rank has measured. */
typedef struct figures {
    shoal_probe_rank rank;
    int64_t n_throttle;
    shoal_probe_link *link; /* [n_rank] */
    shoal_probe_schedule schedule;
    double *nic_gb_per_s, *clock_s, *error_s; /* [n_host] */
} figures;

static shoal_status open_figures(figures *f, const world *w, const shoal_probe_effort *effort)
{
    const size_t n_host = (size_t)w->n_host;
    f->link = calloc((size_t)w->n_rank, sizeof *f->link);
    f->nic_gb_per_s = calloc(n_host, sizeof(double));
    f->clock_s = calloc(n_host, sizeof(double));
    f->error_s = calloc(n_host, sizeof(double));
    if (f->link == NULL || f->nic_gb_per_s == NULL || f->clock_s == NULL || f->error_s == NULL)
        return shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory for the figures of %d ranks",
                          (int)w->n_rank);
    return shoal_probe_schedule_open(&f->schedule, w->host, w->n_rank, w->n_host,
                                     effort->n_slot_max, w->log);
}

static void close_figures(figures *f)
{
    free(f->link);
    free(f->nic_gb_per_s);
    free(f->clock_s);
    free(f->error_s);
    shoal_probe_schedule_close(&f->schedule);
}

static shoal_status measure(figures *f, const world *w, const shoal_probe_setup *setup,
                            shoal_progress *progress)
{
    const shoal_probe_job job = {.comm = w->comm,
                                 .compute = setup->compute,
                                 .effort = &setup->effort,
                                 .host = w->host,
                                 .n_host = w->n_host,
                                 .progress = w->rank == 0 ? progress : NULL,
                                 .log = w->log};
    const int64_t n_throttle = shoal_probe_throttle_count();
    f->rank.gpu = -1;
    SHOAL_TRY(shoal_probe_compute(&f->rank, &job));
    f->n_throttle = shoal_probe_throttle_count() - n_throttle;
    SHOAL_TRY(shoal_probe_links(f->link, &f->schedule, &job));
    if (!setup->effort.host_links)
        return SHOAL_OK;
    SHOAL_TRY(shoal_probe_host_links(f->nic_gb_per_s, f->link, &job));
    return shoal_probe_clocks(f->clock_s, f->error_s, &job);
}

static const shoal_probe_interface *find_interface(const shoal_probe_facts *facts, const char *name)
{
    const size_t n = strcspn(name, "+");
    for (int32_t i = 0; i < facts->n_interface; i++)
        if (strncmp(facts->interface[i].name, name, n) == 0 && facts->interface[i].name[n] == '\0')
            return &facts->interface[i];
    return NULL;
}

/* The address that a host's links to others use, and the speeds that drivers say. */
static void describe_links(shoal_probe_message *m, const shoal_probe_facts *facts)
{
    for (int32_t a = 0; a < m->n_rank; a++) {
        for (int32_t b = 0; b < m->n_rank; b++) {
            shoal_probe_link *link = shoal_probe_message_link(m, a, b);
            if (link->interface[0] == '\0')
                continue;
            const shoal_probe_interface *i = find_interface(&facts[a], link->interface);
            if (i == NULL)
                continue;
            link->mbit_per_s = i->mbit_per_s;
            if (m->rank[a].host != m->rank[b].host)
                memcpy(m->host[m->rank[a].host].address, i->address, sizeof i->address);
        }
    }
}

/* Where it was not measured: the best link out of the host. */
static void describe_hosts(shoal_probe *p, const world *w, const figures *f)
{
    shoal_probe_message *m = &p->message;
    for (int32_t r = w->n_rank - 1; r >= 0; r--) {
        const shoal_probe_facts *facts = &w->facts[r];
        shoal_probe_host *host = &m->host[w->host[r]];
        memcpy(host->name, facts->host, sizeof host->name);
        host->n_core = facts->n_core_host;
        host->n_numa = facts->n_numa;
        host->memory_bytes = facts->memory_bytes;
        host->free_bytes = facts->free_bytes;
    }
    for (int32_t h = 0; h < w->n_host; h++) {
        m->host[h].nic_gb_per_s = f->nic_gb_per_s[h];
        m->host[h].clock_s = f->clock_s[h];
        p->clock_error_s[h] = f->error_s[h];
    }
    for (int32_t a = 0; a < m->n_rank && f->nic_gb_per_s[0] == 0; a++) {
        for (int32_t b = 0; b < m->n_rank; b++) {
            const double speed = (double)shoal_probe_message_link(m, a, b)->gb_per_s;
            double *nic = &m->host[w->host[a]].nic_gb_per_s;
            if (w->host[a] != w->host[b] && speed > *nic)
                *nic = speed;
        }
    }
}

/* Ranks of a host divide what is free, but for those on GPUs, which say it themselves. */
static void describe_ranks(shoal_probe *p, const world *w)
{
    shoal_probe_message *m = &p->message;
    for (int32_t r = 0; r < w->n_rank; r++) {
        int32_t n_beside = 0;
        for (int32_t s = 0; s < w->n_rank; s++)
            n_beside += w->host[s] == w->host[r] && m->rank[s].gpu < 0;
        shoal_probe_rank *rank = &m->rank[r];
        rank->host = w->host[r];
        rank->n_thread = w->facts[r].n_thread;
        rank->n_core = w->facts[r].n_core;
        if (rank->gpu >= 0)
            continue;
        rank->memory_bytes = m->host[w->host[r]].free_bytes / (uint64_t)n_beside;
        memcpy(rank->device, w->facts[r].device, sizeof rank->device);
    }
}

static shoal_status open_probe(shoal_probe *p, const world *w)
{
    if (w->rank != 0)
        return SHOAL_OK;
    SHOAL_TRY(shoal_probe_message_open(&p->message, w->n_host, w->n_rank, w->log));
    p->clock_error_s = calloc((size_t)w->n_host, sizeof *p->clock_error_s);
    if (p->clock_error_s == NULL)
        return shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory for the clocks of hosts");
    return SHOAL_OK;
}

/* Everyone's figures to rank 0. */
static shoal_status gather_figures(shoal_probe *p, world *w, const figures *f)
{
    shoal_probe_message *m = &p->message;
    const size_t n_rank = (size_t)w->n_rank;
    int64_t *n_throttle = NULL;
    shoal_status status = SHOAL_OK;
    if (w->rank == 0 && (n_throttle = calloc(n_rank, sizeof *n_throttle)) == NULL)
        status = shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory for figures of %zu ranks", n_rank);
    if (status == SHOAL_OK)
        status = shoal_comm_gather(w->comm, m->rank, &f->rank, sizeof f->rank, 0);
    if (status == SHOAL_OK)
        status = shoal_comm_gather(w->comm, m->link, f->link, n_rank * sizeof *f->link, 0);
    if (status == SHOAL_OK)
        status = shoal_comm_gather(w->comm, n_throttle, &f->n_throttle, sizeof f->n_throttle, 0);
    for (size_t r = 0; status == SHOAL_OK && n_throttle != NULL && r < n_rank; r++)
        w->facts[r].n_throttle_run = n_throttle[r];
    free(n_throttle);
    return status;
}

static shoal_status conclude(shoal_probe *p, world *w, const figures *f)
{
    shoal_probe_message *m = &p->message;
    snprintf(m->build, sizeof m->build, "%s", shoal_build_text());
    m->unix_s = (int64_t)time(NULL);
    p->n_pair = f->schedule.n_pair;
    p->n_pair_measured = f->schedule.n_match;
    describe_hosts(p, w, f);
    describe_ranks(p, w);
    describe_links(m, w->facts);
    SHOAL_TRY(shoal_probe_fill_links(m, w->log));
    p->facts = w->facts;
    w->facts = NULL;
    p->n_warning = shoal_probe_warnings(p->warning, m, p->facts, p->clock_error_s);
    return SHOAL_OK;
}

static shoal_status run(shoal_probe *p, world *w, figures *f, const shoal_probe_setup *setup)
{
    shoal_progress progress;
    const int64_t start_us = shoal_clock_us();
    SHOAL_TRY(say_hello(w->comm, w->log));
    SHOAL_TRY(gather_facts(w, setup));
    shoal_status status = open_figures(f, w, &setup->effort);
    if (status == SHOAL_OK)
        status = open_probe(p, w);
    SHOAL_TRY(shoal_comm_agree(w->comm, status, "preparing to measure"));
    shoal_progress_init(&progress, w->rank == 0 && setup->shows_progress, w->log);
    status = measure(f, w, setup, &progress);
    shoal_progress_pause(&progress);
    SHOAL_TRY(status);
    SHOAL_TRY(gather_figures(p, w, f));
    if (w->rank == 0)
        status = conclude(p, w, f);
    p->time_s = (double)(shoal_clock_us() - start_us) * 1e-6;
    return shoal_comm_agree(w->comm, status, "putting the figures together");
}

shoal_status shoal_probe_run(shoal_probe *probe, const shoal_probe_setup *setup, shoal_log *log)
{
    world w = {.comm = setup->comm,
               .log = log,
               .rank = shoal_comm_rank(setup->comm),
               .n_rank = shoal_comm_n_rank(setup->comm)};
    figures f = {0};
    shoal_probe p = {0};
    const shoal_status status = run(&p, &w, &f, setup);
    close_figures(&f);
    free(w.host);
    free(w.facts);
    if (status != SHOAL_OK) {
        shoal_probe_close(&p);
        return status;
    }
    *probe = p;
    return SHOAL_OK;
}

void shoal_probe_close(shoal_probe *probe)
{
    shoal_probe_message_close(&probe->message);
    free(probe->facts);
    free(probe->clock_error_s);
    *probe = (shoal_probe){0};
}
