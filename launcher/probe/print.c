/* A probe for people. */
#include "launcher/probe/probe.h"

#include <stdlib.h>
#include <string.h>

enum { LINKS_SHOWN = 56, RANKS_SHOWN = 64 };

#define GB 1e9

const char *shoal_probe_path_name(int32_t path)
{
    switch (path & ~SHOAL_PROBE_PATH_ALIKE) {
    case SHOAL_PROBE_PATH_MEMORY:
        return "shared memory";
    case SHOAL_PROBE_PATH_TCP:
        return "tcp";
    default:
        return "";
    }
}

static void print_hosts(const shoal_probe *p, FILE *out)
{
    const shoal_probe_message *m = &p->message;
    fprintf(out, "%-16s %5s %4s %16s %11s %16s  %s\n", "host", "cores", "NUMA", "GB free / all",
            "sends GB/s", "clock off by s", "address");
    for (int32_t h = 0; h < m->n_host; h++) {
        const shoal_probe_host *host = &m->host[h];
        char memory[32], clock[32] = "-";
        snprintf(memory, sizeof memory, "%.1f / %.1f", (double)host->free_bytes / GB,
                 (double)host->memory_bytes / GB);
        if (p->clock_error_s[h] > 0)
            snprintf(clock, sizeof clock, "%+.4f", host->clock_s);
        fprintf(out, "%-16s %5d %4d %16s ", host->name, (int)host->n_core, (int)host->n_numa,
                memory);
        if (host->nic_gb_per_s > 0)
            fprintf(out, "%11.3f", host->nic_gb_per_s);
        else
            fprintf(out, "%11s", "-");
        fprintf(out, " %16s  %s\n", clock, host->address[0] != '\0' ? host->address : "-");
    }
}

static void print_ranks(const shoal_probe *p, FILE *out)
{
    const shoal_probe_message *m = &p->message;
    fprintf(out, "\n%4s  %-16s %7s %10s %10s %12s %7s  %s\n", "rank", "host", "threads",
            "GB to fill", "read GB/s", "f32 GFLOP/s", "job us", "kernels or GPU, its name");
    for (int32_t r = 0; r < m->n_rank && r < RANKS_SHOWN; r++) {
        const shoal_probe_rank *rank = &m->rank[r];
        char device[32];
        snprintf(device, sizeof device, "cuda:%d", (int)rank->gpu);
        fprintf(out, "%4d  %-16s %7d %10.1f %10.2f %12.1f %7.2f  %s, %s\n", (int)r,
                m->host[rank->host].name, (int)rank->n_thread, (double)rank->memory_bytes / GB,
                rank->read_gb_per_s, rank->f32_gflop_per_s, rank->job_us,
                rank->gpu >= 0 ? device : p->facts[r].kernels,
                rank->device[0] != '\0' ? rank->device : "?");
    }
    if (m->n_rank > RANKS_SHOWN)
        fprintf(out, "      ... %d more, see --json\n", (int)m->n_rank - RANKS_SHOWN);
}

/* What there is of GPUs beside the figures of every rank. */
static void print_devices(const shoal_probe_message *m, FILE *out)
{
    bool any = false;
    for (int32_t r = 0; r < m->n_rank && r < RANKS_SHOWN; r++) {
        const shoal_probe_rank *rank = &m->rank[r];
        if (rank->gpu < 0)
            continue;
        if (!any)
            fprintf(out, "\n%4s  %-8s %11s %10s %8s\n", "rank", "GPU", "PCIe GB/s", "launch us",
                    "wait us");
        any = true;
        fprintf(out, "%4d  cuda:%-3d %11.2f %10.2f %8.2f\n", (int)r, (int)rank->gpu,
                rank->pcie_gb_per_s, rank->launch_us, rank->wait_us);
    }
}

static void print_rates(const shoal_probe *p, FILE *out)
{
    const shoal_probe_message *m = &p->message;
    print_devices(m, out);
    fprintf(out, "\nproducts: one token, GB/s of weights | many tokens, Gop/s\n%4s", "rank");
    for (int32_t i = 0; i < m->rank[0].n_rate; i++)
        fprintf(out, " %14s", m->rank[0].rate[i].format);
    fputc('\n', out);
    for (int32_t r = 0; r < m->n_rank && r < RANKS_SHOWN; r++) {
        fprintf(out, "%4d", (int)r);
        for (int32_t i = 0; i < m->rank[r].n_rate; i++) {
            char text[32];
            snprintf(text, sizeof text, "%.2f | %.0f", m->rank[r].rate[i].decode_gb_per_s,
                     m->rank[r].rate[i].prefill_gop_per_s);
            fprintf(out, " %14s", text);
        }
        fputc('\n', out);
    }
}

static void print_link(const shoal_probe_message *m, int32_t a, int32_t b, FILE *out)
{
    const shoal_probe_link *link = shoal_probe_message_link(m, a, b);
    fprintf(out, "%4d -> %-4d %10.2f %9.3f %13.2f  %s", (int)a, (int)b, (double)link->latency_us,
            (double)link->gb_per_s, (double)link->overhead_us, shoal_probe_path_name(link->path));
    if (link->interface[0] != '\0')
        fprintf(out, " %s", link->interface);
    if (link->mbit_per_s > 0)
        fprintf(out, " (%d Mbit/s)", (int)link->mbit_per_s);
    fputs((link->path & SHOAL_PROBE_PATH_ALIKE) != 0 ? "  as links like it\n" : "\n", out);
}

static int compare_numbers(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Least, middle and largest of the measured links within hosts, or between them. */
static void print_summary(const shoal_probe_message *m, bool within, FILE *out)
{
    const size_t n_most = (size_t)m->n_rank * (size_t)m->n_rank;
    float *latency = malloc(n_most * sizeof *latency), *speed = malloc(n_most * sizeof *speed);
    size_t n = 0;
    int32_t worst_a = 0, worst_b = 0;
    float worst = 0;
    for (int32_t a = 0; latency != NULL && speed != NULL && a < m->n_rank; a++) {
        for (int32_t b = 0; b < m->n_rank; b++) {
            const shoal_probe_link *link = shoal_probe_message_link(m, a, b);
            if (link->path != SHOAL_PROBE_PATH_MEMORY && link->path != SHOAL_PROBE_PATH_TCP)
                continue;
            if ((m->rank[a].host == m->rank[b].host) != within)
                continue;
            latency[n] = link->latency_us;
            speed[n] = link->gb_per_s;
            if (n == 0 || speed[n] < worst) {
                worst = speed[n];
                worst_a = a;
                worst_b = b;
            }
            n++;
        }
    }
    if (n > 0) {
        qsort(latency, n, sizeof *latency, compare_numbers);
        qsort(speed, n, sizeof *speed, compare_numbers);
        fprintf(out,
                "  %s hosts: latency %.2f us (%.2f .. %.2f), %.3f GB/s (%.3f .. %.3f), the slowest "
                "is %d -> %d\n",
                within ? "within" : "between", (double)latency[n / 2], (double)latency[0],
                (double)latency[n - 1], (double)speed[n / 2], (double)speed[0],
                (double)speed[n - 1], (int)worst_a, (int)worst_b);
    }
    free(latency);
    free(speed);
}

static void print_links(const shoal_probe *p, FILE *out)
{
    const shoal_probe_message *m = &p->message;
    if (m->n_rank == 1)
        return;
    const bool all = m->n_rank * (m->n_rank - 1) <= LINKS_SHOWN;
    fprintf(out, "\nlinks: %zu of %zu pairs measured%s\n", p->n_pair_measured, p->n_pair,
            p->n_pair_measured < p->n_pair ? ", a sample; the others are taken to be like them"
                                           : "");
    if (!all) {
        print_summary(m, true, out);
        print_summary(m, false, out);
        return;
    }
    fprintf(out, "%4s -> %-4s %10s %9s %13s  %s\n", "from", "to", "latency us", "GB/s",
            "us a message", "over");
    for (int32_t a = 0; a < m->n_rank; a++)
        for (int32_t b = 0; b < m->n_rank; b++)
            if (a != b)
                print_link(m, a, b, out);
}

void shoal_probe_print(const shoal_probe *probe, FILE *out)
{
    const shoal_probe_message *m = &probe->message;
    fprintf(out, "shoal %s: %d rank%s on %d host%s, measured in %.1f s\n\n", m->build,
            (int)m->n_rank, m->n_rank == 1 ? "" : "s", (int)m->n_host, m->n_host == 1 ? "" : "s",
            probe->time_s);
    print_hosts(probe, out);
    print_ranks(probe, out);
    print_rates(probe, out);
    print_links(probe, out);
    fputs(probe->n_warning > 0 ? "\nwarnings\n" : "\nno warnings\n", out);
    for (int32_t i = 0; i < probe->n_warning; i++)
        fprintf(out, "  %s\n", probe->warning[i].text);
}
