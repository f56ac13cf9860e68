#include "runtime/proto/probe.h"

#include "shoal.pb-c.h"

#include <stdlib.h>
#include <string.h>

shoal_status shoal_probe_message_open(shoal_probe_message *message, int32_t n_host, int32_t n_rank,
                                      shoal_log *log)
{
    shoal_probe_message m = {.version = SHOAL_PROBE_VERSION, .n_host = n_host, .n_rank = n_rank};
    m.host = calloc((size_t)n_host, sizeof *m.host);
    m.rank = calloc((size_t)n_rank, sizeof *m.rank);
    m.link = calloc((size_t)n_rank * (size_t)n_rank, sizeof *m.link);
    if (m.host == NULL || m.rank == NULL || m.link == NULL) {
        shoal_probe_message_close(&m);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the probe of %d ranks", (int)n_rank);
    }
    for (int32_t r = 0; r < n_rank; r++)
        m.rank[r].gpu = -1;
    *message = m;
    return SHOAL_OK;
}

void shoal_probe_message_close(shoal_probe_message *message)
{
    free(message->host);
    free(message->rank);
    free(message->link);
    *message = (shoal_probe_message){0};
}

shoal_probe_link *shoal_probe_message_link(const shoal_probe_message *message, int32_t from,
                                           int32_t to)
{
    return &message->link[(size_t)from * (size_t)message->n_rank + (size_t)to];
}

/* Everything that the message needs while it is packed. */
typedef struct packing {
    Shoal__Probe probe;
    Shoal__Probe__Host *host;
    Shoal__Probe__Host **hosts;
    Shoal__Probe__Rank *rank;
    Shoal__Probe__Rank **ranks;
    Shoal__Probe__Rate *rate;   /* [n_rank, RATE_MAX] */
    Shoal__Probe__Rate **rates; /* the same */
    float *number;              /* [3, n_link] latency, GB/s, overhead */
    uint32_t *whole;            /* [3, n_link] path, interface, Mbit/s */
    char **interface;           /* [n_link] names that differ, borrowed */
} packing;

static void packing_close(packing *p)
{
    free(p->host);
    free(p->hosts);
    free(p->rank);
    free(p->ranks);
    free(p->rate);
    free(p->rates);
    free(p->number);
    free(p->whole);
    free(p->interface);
}

static bool packing_open(packing *p, const shoal_probe_message *m)
{
    const size_t n_host = (size_t)m->n_host, n_rank = (size_t)m->n_rank, n_link = n_rank * n_rank;
    *p = (packing){.probe = SHOAL__PROBE__INIT};
    p->host = calloc(n_host, sizeof *p->host);
    p->hosts = calloc(n_host, sizeof(void *));
    p->rank = calloc(n_rank, sizeof *p->rank);
    p->ranks = calloc(n_rank, sizeof(void *));
    p->rate = calloc(n_rank * SHOAL_PROBE_RATE_MAX, sizeof *p->rate);
    p->rates = calloc(n_rank * SHOAL_PROBE_RATE_MAX, sizeof(void *));
    p->number = calloc(4 * n_link, sizeof *p->number);
    p->whole = calloc(3 * n_link, sizeof *p->whole);
    p->interface = calloc(n_link, sizeof *p->interface);
    return p->host != NULL && p->hosts != NULL && p->rank != NULL && p->ranks != NULL &&
           p->rate != NULL && p->rates != NULL && p->number != NULL && p->whole != NULL &&
           p->interface != NULL;
}

static void pack_hosts(packing *p, const shoal_probe_message *m)
{
    for (int32_t h = 0; h < m->n_host; h++) {
        shoal_probe_host *from = &m->host[h];
        Shoal__Probe__Host *to = p->hosts[h] = &p->host[h];
        shoal__probe__host__init(to);
        to->name = from->name;
        to->address = from->address;
        to->n_core = from->n_core;
        to->n_numa = from->n_numa;
        to->memory_bytes = from->memory_bytes;
        to->free_bytes = from->free_bytes;
        to->nic_gb_per_s = from->nic_gb_per_s;
        to->clock_s = from->clock_s;
    }
    p->probe.n_host = (size_t)m->n_host;
    p->probe.host = p->hosts;
}

static void pack_ranks(packing *p, const shoal_probe_message *m)
{
    for (int32_t r = 0; r < m->n_rank; r++) {
        shoal_probe_rank *from = &m->rank[r];
        Shoal__Probe__Rank *to = p->ranks[r] = &p->rank[r];
        Shoal__Probe__Rate *rate = p->rate + (size_t)r * SHOAL_PROBE_RATE_MAX;
        Shoal__Probe__Rate **rates = p->rates + (size_t)r * SHOAL_PROBE_RATE_MAX;
        shoal__probe__rank__init(to);
        to->host = from->host;
        to->gpu = from->gpu;
        to->device = from->device;
        to->n_thread = from->n_thread;
        to->n_core = from->n_core;
        to->memory_bytes = from->memory_bytes;
        to->read_gb_per_s = from->read_gb_per_s;
        to->f32_gflop_per_s = from->f32_gflop_per_s;
        to->job_us = from->job_us;
        to->pcie_gb_per_s = from->pcie_gb_per_s;
        to->launch_us = from->launch_us;
        to->wait_us = from->wait_us;
        to->n_rate = (size_t)from->n_rate;
        to->rate = rates;
        for (int32_t i = 0; i < from->n_rate; i++) {
            rates[i] = &rate[i];
            shoal__probe__rate__init(&rate[i]);
            rate[i].format = from->rate[i].format;
            rate[i].decode_gb_per_s = from->rate[i].decode_gb_per_s;
            rate[i].prefill_gop_per_s = from->rate[i].prefill_gop_per_s;
        }
    }
    p->probe.n_rank = (size_t)m->n_rank;
    p->probe.rank = p->ranks;
}

/* Its number from 1 on; the list gets it if it is new. Hosts have few interfaces. */
static uint32_t interface_number(packing *p, char *name)
{
    if (name[0] == '\0')
        return 0;
    size_t i = 0;
    while (i < p->probe.n_interface_name && strcmp(p->interface[i], name) != 0)
        i++;
    if (i == p->probe.n_interface_name)
        p->interface[p->probe.n_interface_name++] = name;
    return (uint32_t)i + 1;
}

static void pack_links(packing *p, const shoal_probe_message *m)
{
    const size_t n = (size_t)m->n_rank * (size_t)m->n_rank;
    Shoal__Probe *probe = &p->probe;
    probe->n_latency_us = probe->n_gb_per_s = probe->n_overhead_us = probe->n_burst_bytes = n;
    probe->n_path = probe->n_interface = probe->n_mbit_per_s = n;
    probe->latency_us = p->number;
    probe->gb_per_s = p->number + n;
    probe->overhead_us = p->number + 2 * n;
    probe->burst_bytes = p->number + 3 * n;
    probe->path = p->whole;
    probe->interface = p->whole + n;
    probe->mbit_per_s = p->whole + 2 * n;
    probe->interface_name = p->interface;
    for (size_t i = 0; i < n; i++) {
        probe->latency_us[i] = m->link[i].latency_us;
        probe->gb_per_s[i] = m->link[i].gb_per_s;
        probe->overhead_us[i] = m->link[i].overhead_us;
        probe->burst_bytes[i] = m->link[i].burst_bytes;
        probe->path[i] = (uint32_t)m->link[i].path;
        probe->interface[i] = interface_number(p, m->link[i].interface);
        probe->mbit_per_s[i] = (uint32_t)m->link[i].mbit_per_s;
    }
}

shoal_status shoal_probe_message_pack(uint8_t **bytes, size_t *n_bytes,
                                      const shoal_probe_message *message, shoal_log *log)
{
    packing p;
    uint8_t *packed = NULL;
    size_t n = 0;
    char build[SHOAL_PROBE_NAME];
    if (packing_open(&p, message)) {
        memcpy(build, message->build, sizeof build);
        p.probe.version = message->version;
        p.probe.build = build;
        p.probe.unix_s = message->unix_s;
        pack_hosts(&p, message);
        pack_ranks(&p, message);
        pack_links(&p, message);
        n = shoal__probe__get_packed_size(&p.probe);
        packed = malloc(n + 1);
        if (packed != NULL)
            shoal__probe__pack(&p.probe, packed);
    }
    packing_close(&p);
    if (packed == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to pack the probe of %d ranks",
                          (int)message->n_rank);
    *bytes = packed;
    *n_bytes = n;
    return SHOAL_OK;
}
