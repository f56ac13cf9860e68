/* A probe as one JSON object. */
#include "launcher/probe/probe.h"
#include "runtime/base/json.h"

#include <stdlib.h>
#include <string.h>

enum { LINKS_ALL_RANKS = 64 }; /* with more ranks only what was measured itself is listed */

static void set(shoal_json *o, const char *key, double value)
{
    shoal_json_set(o, key, shoal_json_new_number(value));
}

static void set_int(shoal_json *o, const char *key, int64_t value)
{
    shoal_json_set(o, key, shoal_json_new_int(value));
}

static void set_text(shoal_json *o, const char *key, const char *text)
{
    shoal_json_set(o, key, shoal_json_new_string(text, strlen(text)));
}

static shoal_json *interfaces_json(const shoal_probe_facts *facts)
{
    static const char *const kinds[] = {"card", "virtual", "loopback"};
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < facts->n_interface; i++) {
        const shoal_probe_interface *interface = &facts->interface[i];
        shoal_json *o = shoal_json_new_object();
        set_text(o, "name", interface->name);
        set_text(o, "address", interface->address);
        set_int(o, "prefix", interface->n_prefix);
        set_text(o, "driver", interface->driver);
        set_text(o, "kind", kinds[interface->kind]);
        set_int(o, "mbit_per_s", interface->mbit_per_s);
        shoal_json_append(list, o);
    }
    return list;
}

static int32_t first_rank_of(const shoal_probe_message *m, int32_t host)
{
    int32_t r = 0;
    while (m->rank[r].host != host)
        r++;
    return r;
}

static shoal_json *hosts_json(const shoal_probe *p)
{
    const shoal_probe_message *m = &p->message;
    shoal_json *list = shoal_json_new_array();
    for (int32_t h = 0; h < m->n_host; h++) {
        const shoal_probe_host *host = &m->host[h];
        const shoal_probe_facts *facts = &p->facts[first_rank_of(m, h)];
        shoal_json *o = shoal_json_new_object();
        set_text(o, "name", host->name);
        set_text(o, "address", host->address);
        set_int(o, "cores", host->n_core);
        set_int(o, "numa_nodes", host->n_numa);
        set_int(o, "memory_bytes", (int64_t)host->memory_bytes);
        set_int(o, "free_bytes", (int64_t)host->free_bytes);
        set_int(o, "swap_used_bytes", (int64_t)facts->swap_bytes);
        set(o, "nic_gb_per_s", host->nic_gb_per_s);
        set(o, "clock_offset_s", host->clock_s);
        set(o, "clock_error_s", p->clock_error_s[h]);
        set_text(o, "governor", facts->governor);
        set(o, "cpu_quota", facts->cpu_quota);
        shoal_json_set(o, "interfaces", interfaces_json(facts));
        shoal_json_append(list, o);
    }
    return list;
}

static shoal_json *rates_json(const shoal_probe_rank *rank)
{
    shoal_json *all = shoal_json_new_object();
    for (int32_t i = 0; i < rank->n_rate; i++) {
        shoal_json *o = shoal_json_new_object();
        set(o, "decode_gb_per_s", rank->rate[i].decode_gb_per_s);
        set(o, "prefill_gop_per_s", rank->rate[i].prefill_gop_per_s);
        shoal_json_set(all, rank->rate[i].format, o);
    }
    return all;
}

static shoal_json *ranks_json(const shoal_probe *p)
{
    const shoal_probe_message *m = &p->message;
    shoal_json *list = shoal_json_new_array();
    for (int32_t r = 0; r < m->n_rank; r++) {
        const shoal_probe_rank *rank = &m->rank[r];
        shoal_json *o = shoal_json_new_object();
        set_int(o, "rank", r);
        set_text(o, "host", m->host[rank->host].name);
        set_int(o, "host_index", rank->host);
        set_text(o, "device", rank->device);
        if (rank->gpu >= 0)
            set_int(o, "cuda", rank->gpu);
        set_text(o, "kernels", p->facts[r].kernels);
        set_text(o, "build", p->facts[r].build);
        set_int(o, "threads", rank->n_thread);
        set_int(o, "cores", rank->n_core);
        set_int(o, "memory_bytes", (int64_t)rank->memory_bytes);
        set(o, "read_gb_per_s", rank->read_gb_per_s);
        set(o, "f32_gflop_per_s", rank->f32_gflop_per_s);
        set(o, "job_us", rank->job_us);
        set_int(o, "gpu", rank->gpu);
        if (rank->gpu >= 0) {
            set(o, "pcie_gb_per_s", rank->pcie_gb_per_s);
            set(o, "launch_us", rank->launch_us);
            set(o, "wait_us", rank->wait_us);
        }
        shoal_json_set(o, "formats", rates_json(rank));
        shoal_json_append(list, o);
    }
    return list;
}

static shoal_json *links_json(const shoal_probe_message *m)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t a = 0; a < m->n_rank; a++) {
        for (int32_t b = 0; b < m->n_rank; b++) {
            const shoal_probe_link *link = shoal_probe_message_link(m, a, b);
            const bool measured = (link->path & SHOAL_PROBE_PATH_ALIKE) == 0;
            if (a == b || (!measured && m->n_rank > LINKS_ALL_RANKS))
                continue;
            shoal_json *o = shoal_json_new_object();
            set_int(o, "from", a);
            set_int(o, "to", b);
            set(o, "latency_us", (double)link->latency_us);
            set(o, "gb_per_s", (double)link->gb_per_s);
            set(o, "overhead_us", (double)link->overhead_us);
            set(o, "burst_bytes", (double)link->burst_bytes);
            set_text(o, "transport", shoal_probe_path_name(link->path));
            set_text(o, "interface", link->interface);
            set_int(o, "mbit_per_s", link->mbit_per_s);
            shoal_json_set(o, "measured", shoal_json_new_bool(measured));
            shoal_json_append(list, o);
        }
    }
    return list;
}

static shoal_json *warnings_json(const shoal_probe *p)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < p->n_warning; i++) {
        const shoal_probe_warning *w = &p->warning[i];
        shoal_json *o = shoal_json_new_object();
        set_text(o, "kind", shoal_probe_warning_name(w->kind));
        set_int(o, "rank", w->rank);
        set_text(o, "text", w->text);
        shoal_json_append(list, o);
    }
    return list;
}

void shoal_probe_print_json(const shoal_probe *probe, FILE *out)
{
    const shoal_probe_message *m = &probe->message;
    shoal_json *o = shoal_json_new_object();
    set_text(o, "build", m->build);
    set_int(o, "unix_s", m->unix_s);
    set(o, "time_s", probe->time_s);
    shoal_json_set(o, "hosts", hosts_json(probe));
    shoal_json_set(o, "ranks", ranks_json(probe));
    set_int(o, "pairs", (int64_t)probe->n_pair);
    set_int(o, "pairs_measured", (int64_t)probe->n_pair_measured);
    shoal_json_set(o, "links", links_json(m));
    shoal_json_set(o, "warnings", warnings_json(probe));
    char *text = shoal_json_dump(o);
    fprintf(out, "%s\n", text);
    free(text);
    shoal_json_close(o);
}
