/* Links that were not measured. */
#include "launcher/probe/schedule.h"

#include <stdlib.h>
#include <string.h>

/* Sums over links of one kind. */
typedef struct sum {
    int64_t n;
    double latency_us, gb_per_s, overhead_us, burst_bytes;
    const shoal_probe_link *like; /* one of them */
} sum;

static void add(sum *s, const shoal_probe_link *link)
{
    s->n++;
    s->latency_us += (double)link->latency_us;
    s->gb_per_s += (double)link->gb_per_s;
    s->overhead_us += (double)link->overhead_us;
    s->burst_bytes += (double)link->burst_bytes;
    s->like = link;
}

static void set_mean(shoal_probe_link *link, const sum *s)
{
    const double n = (double)s->n;
    *link = *s->like;
    link->latency_us = (float)(s->latency_us / n);
    link->gb_per_s = (float)(s->gb_per_s / n);
    link->overhead_us = (float)(s->overhead_us / n);
    link->burst_bytes = (float)(s->burst_bytes / n);
    link->path |= SHOAL_PROBE_PATH_ALIKE;
}

typedef struct sums {
    sum *pair;   /* [n_host, n_host] from, to; the diagonal: within */
    sum *out;    /* [n_host] from it to another */
    sum *in;     /* [n_host] */
    sum within;  /* any host */
    sum between; /* any two */
} sums;

static bool is_measured(const shoal_probe_link *link)
{
    return link->path != SHOAL_PROBE_PATH_SELF;
}

static void collect(sums *s, const shoal_probe_message *m)
{
    for (int32_t a = 0; a < m->n_rank; a++) {
        for (int32_t b = 0; b < m->n_rank; b++) {
            const shoal_probe_link *link = shoal_probe_message_link(m, a, b);
            const int32_t from = m->rank[a].host, to = m->rank[b].host;
            if (!is_measured(link))
                continue;
            add(&s->pair[(size_t)from * (size_t)m->n_host + (size_t)to], link);
            add(from == to ? &s->within : &s->between, link);
            if (from != to) {
                add(&s->out[from], link);
                add(&s->in[to], link);
            }
        }
    }
}

/* The slower of what the two hosts have shown. */
static void set_worse(shoal_probe_link *link, const sum *out, const sum *in)
{
    shoal_probe_link other;
    set_mean(link, out);
    set_mean(&other, in);
    if (other.latency_us > link->latency_us)
        link->latency_us = other.latency_us;
    if (other.gb_per_s < link->gb_per_s)
        link->gb_per_s = other.gb_per_s;
    if (other.overhead_us > link->overhead_us)
        link->overhead_us = other.overhead_us;
    if (other.burst_bytes < link->burst_bytes)
        link->burst_bytes = other.burst_bytes;
}

static void fill(shoal_probe_link *link, const sums *s, const shoal_probe_message *m, int32_t from,
                 int32_t to)
{
    const sum *pair = &s->pair[(size_t)from * (size_t)m->n_host + (size_t)to];
    if (pair->n > 0)
        set_mean(link, pair);
    else if (from == to && s->within.n > 0)
        set_mean(link, &s->within);
    else if (from != to && s->out[from].n > 0 && s->in[to].n > 0)
        set_worse(link, &s->out[from], &s->in[to]);
    else if (from != to && s->between.n > 0)
        set_mean(link, &s->between);
}

shoal_status shoal_probe_fill_links(shoal_probe_message *message, shoal_log *log)
{
    const size_t n_host = (size_t)message->n_host;
    sums s = {.pair = calloc(n_host * n_host, sizeof *s.pair),
              .out = calloc(n_host, sizeof *s.out),
              .in = calloc(n_host, sizeof *s.in)};
    shoal_status status = SHOAL_OK;
    if (s.pair == NULL || s.out == NULL || s.in == NULL) {
        status = shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the links of %d hosts",
                            (int)message->n_host);
    } else {
        collect(&s, message);
        for (int32_t a = 0; a < message->n_rank; a++) {
            for (int32_t b = 0; b < message->n_rank; b++) {
                shoal_probe_link *link = shoal_probe_message_link(message, a, b);
                if (a != b && !is_measured(link))
                    fill(link, &s, message, message->rank[a].host, message->rank[b].host);
            }
        }
    }
    free(s.pair);
    free(s.out);
    free(s.in);
    return status;
}
