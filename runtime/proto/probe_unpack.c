#include "runtime/proto/probe.h"

#include "shoal.pb-c.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where an error is: the file's name, and its logger. */
typedef struct place {
    const char *name;
    shoal_log *log;
} place;

static shoal_status bad(const place *at, const char *what)
{
    return shoal_fail(at->log, SHOAL_BAD_DATA,
                      "%s is no probe that can be used: %s; make it anew with shoal probe --output",
                      at->name, what);
}

static bool is_amount(double x)
{
    return isfinite(x) && x >= 0;
}

/* Texts of people end up in lines of a log. */
static bool is_name(const char *text, size_t n_max)
{
    const size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e)
            return false;
    return n < n_max;
}

static shoal_status check_hosts(const Shoal__Probe *p, const place *at)
{
    for (size_t h = 0; h < p->n_host; h++) {
        const Shoal__Probe__Host *host = p->host[h];
        if (!is_name(host->name, SHOAL_PROBE_NAME) || !is_name(host->address, SHOAL_PROBE_NAME))
            return bad(at, "a host has a name or an address that is none");
        if (host->n_core < 0 || host->n_numa < 0 || !is_amount(host->nic_gb_per_s) ||
            !isfinite(host->clock_s))
            return bad(at, "a host has a number that is negative or not finite");
    }
    return SHOAL_OK;
}

static shoal_status check_rank(const Shoal__Probe__Rank *rank, size_t n_host, const place *at)
{
    if (rank->host < 0 || (size_t)rank->host >= n_host)
        return bad(at, "a rank is on a host that is not there");
    if (rank->gpu < -1 || rank->n_thread < 0 || rank->n_core < 0 ||
        !is_amount(rank->read_gb_per_s) || !is_amount(rank->f32_gflop_per_s) ||
        !is_amount(rank->job_us) || !is_amount(rank->pcie_gb_per_s) ||
        !is_amount(rank->launch_us) || !is_amount(rank->wait_us))
        return bad(at, "a rank has a number that is negative or not finite");
    if (!is_name(rank->device, SHOAL_PROBE_NAME))
        return bad(at, "a rank has a device whose name is none");
    if (rank->n_rate > SHOAL_PROBE_RATE_MAX)
        return bad(at, "a rank has too many weight formats");
    for (size_t i = 0; i < rank->n_rate; i++) {
        const Shoal__Probe__Rate *rate = rank->rate[i];
        if (!is_name(rate->format, sizeof(((shoal_probe_rate *)0)->format)) ||
            !is_amount(rate->decode_gb_per_s) || !is_amount(rate->prefill_gop_per_s))
            return bad(at, "the rates of a weight format are negative, not finite or without name");
    }
    return SHOAL_OK;
}

static shoal_status check_ranks(const Shoal__Probe *p, const place *at)
{
    bool used[SHOAL_PROBE_RANK_MAX] = {false};
    for (size_t r = 0; r < p->n_rank; r++) {
        SHOAL_TRY(check_rank(p->rank[r], p->n_host, at));
        used[p->rank[r]->host] = true;
    }
    for (size_t h = 0; h < p->n_host; h++)
        if (!used[h])
            return bad(at, "a host has no rank");
    return SHOAL_OK;
}

static bool is_path(uint32_t path)
{
    return path <= SHOAL_PROBE_PATH_TCP ||
           path == (SHOAL_PROBE_PATH_MEMORY | SHOAL_PROBE_PATH_ALIKE) ||
           path == (SHOAL_PROBE_PATH_TCP | SHOAL_PROBE_PATH_ALIKE);
}

static shoal_status check_links(const Shoal__Probe *p, const place *at)
{
    const size_t n = p->n_rank * p->n_rank;
    if (p->n_latency_us != n || p->n_gb_per_s != n || p->n_overhead_us != n || p->n_path != n ||
        p->n_interface != n || p->n_mbit_per_s != n || p->n_burst_bytes != n)
        return bad(at, "its links are not as many as its pairs of ranks");
    for (size_t i = 0; i < n; i++) {
        if (!is_amount(p->latency_us[i]) || !is_amount(p->gb_per_s[i]) ||
            !is_amount(p->overhead_us[i]) || !is_amount(p->burst_bytes[i]) ||
            p->mbit_per_s[i] > INT32_MAX)
            return bad(at, "a link has a number that is negative, not finite or too large");
        if (!is_path(p->path[i]) || p->interface[i] > p->n_interface_name)
            return bad(at, "a link has a path or an interface that is unknown");
    }
    for (size_t i = 0; i < p->n_interface_name; i++)
        if (!is_name(p->interface_name[i], sizeof(((shoal_probe_link *)0)->interface)))
            return bad(at, "an interface has a name that is none");
    return SHOAL_OK;
}

static shoal_status check(const Shoal__Probe *p, const place *at)
{
    if (p->version != SHOAL_PROBE_VERSION)
        return shoal_fail(at->log, SHOAL_BAD_DATA,
                          "%s has version %u of a probe, this build reads version %u; make it anew "
                          "with shoal probe --output",
                          at->name, (unsigned)p->version, SHOAL_PROBE_VERSION);
    if (p->n_rank < 1 || p->n_rank > SHOAL_PROBE_RANK_MAX || p->n_host < 1 || p->n_host > p->n_rank)
        return bad(at, "it has no ranks, too many, or more hosts than ranks");
    if (!is_name(p->build, SHOAL_PROBE_NAME))
        return bad(at, "the build that made it has no name");
    SHOAL_TRY(check_hosts(p, at));
    SHOAL_TRY(check_ranks(p, at));
    return check_links(p, at);
}

/* Lengths were checked. */
static void copy_text(char *to, const char *from)
{
    memcpy(to, from, strlen(from) + 1);
}

static void copy_rank(shoal_probe_rank *to, const Shoal__Probe__Rank *from)
{
    to->host = from->host;
    to->gpu = from->gpu;
    copy_text(to->device, from->device);
    to->n_thread = from->n_thread;
    to->n_core = from->n_core;
    to->memory_bytes = from->memory_bytes;
    to->read_gb_per_s = from->read_gb_per_s;
    to->f32_gflop_per_s = from->f32_gflop_per_s;
    to->job_us = from->job_us;
    to->pcie_gb_per_s = from->pcie_gb_per_s;
    to->launch_us = from->launch_us;
    to->wait_us = from->wait_us;
    to->n_rate = (int32_t)from->n_rate;
    for (size_t i = 0; i < from->n_rate; i++) {
        copy_text(to->rate[i].format, from->rate[i]->format);
        to->rate[i].decode_gb_per_s = from->rate[i]->decode_gb_per_s;
        to->rate[i].prefill_gop_per_s = from->rate[i]->prefill_gop_per_s;
    }
}

static void copy_out(shoal_probe_message *m, const Shoal__Probe *p)
{
    m->unix_s = p->unix_s;
    copy_text(m->build, p->build);
    for (size_t h = 0; h < p->n_host; h++) {
        const Shoal__Probe__Host *from = p->host[h];
        shoal_probe_host *to = &m->host[h];
        copy_text(to->name, from->name);
        copy_text(to->address, from->address);
        to->n_core = from->n_core;
        to->n_numa = from->n_numa;
        to->memory_bytes = from->memory_bytes;
        to->free_bytes = from->free_bytes;
        to->nic_gb_per_s = from->nic_gb_per_s;
        to->clock_s = from->clock_s;
    }
    for (size_t r = 0; r < p->n_rank; r++)
        copy_rank(&m->rank[r], p->rank[r]);
    for (size_t i = 0; i < p->n_rank * p->n_rank; i++) {
        shoal_probe_link *to = &m->link[i];
        to->latency_us = p->latency_us[i];
        to->gb_per_s = p->gb_per_s[i];
        to->overhead_us = p->overhead_us[i];
        to->burst_bytes = p->burst_bytes[i];
        to->path = (int32_t)p->path[i];
        to->mbit_per_s = (int32_t)p->mbit_per_s[i];
        if (p->interface[i] > 0)
            copy_text(to->interface, p->interface_name[p->interface[i] - 1]);
    }
}

shoal_status shoal_probe_message_unpack(shoal_probe_message *message, const uint8_t *bytes,
                                        size_t n_bytes, const char *name, shoal_log *log)
{
    const place at = {.name = name, .log = log};
    Shoal__Probe *p = shoal__probe__unpack(NULL, n_bytes, bytes);
    if (p == NULL)
        return bad(&at, "it does not parse");
    shoal_status status = check(p, &at);
    if (status == SHOAL_OK)
        status = shoal_probe_message_open(message, (int32_t)p->n_host, (int32_t)p->n_rank, log);
    if (status == SHOAL_OK)
        copy_out(message, p);
    shoal__probe__free_unpacked(p, NULL);
    return status;
}
