/* A cluster from the file that people write. Hosts are counted first, then ranks are laid out host
 * by host, then links between all pairs. */
#include "launcher/cluster/cluster_file.h"

#include "launcher/cluster/cluster_hosts.h"
#include "launcher/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Between two ranks of a host: messages through shared memory (docs/PERFORMANCE.md, "Plan"). */
static const shoal_cluster_link shared_memory = {
    .latency_us = 2, .gb_per_s = 5, .overhead_us = 1.5};

/* text is `base` with the number at its end counted on by `index`, or with index + 1 behind it if
 * it has none; of one host it is `base` itself. False if that is too long. */
static bool numbered(char text[SHOAL_CLUSTER_NAME], const char *base, int32_t index, bool one)
{
    size_t n = strlen(base), n_digit = 0;
    while (n_digit < n && n_digit < 9 && isdigit((unsigned char)base[n - n_digit - 1]))
        n_digit++;
    int n_written;
    if (one)
        n_written = snprintf(text, SHOAL_CLUSTER_NAME, "%s", base);
    else if (n_digit == 0)
        n_written = snprintf(text, SHOAL_CLUSTER_NAME, "%s%d", base, (int)index + 1);
    else
        n_written = snprintf(text, SHOAL_CLUSTER_NAME, "%.*s%0*ld", (int)(n - n_digit), base,
                             (int)n_digit, strtol(base + n - n_digit, NULL, 10) + index);
    return n_written > 0 && n_written < SHOAL_CLUSTER_NAME;
}

/* The IPv4 address `index` hosts behind base; another text only serves for one host. */
static bool address_at(char text[SHOAL_CLUSTER_NAME], const char *base, int32_t index)
{
    unsigned part[4];
    int n_read = 0;
    if (sscanf(base, "%3u.%3u.%3u.%3u%n", &part[0], &part[1], &part[2], &part[3], &n_read) != 4 ||
        base[n_read] != '\0')
        return false;
    uint32_t address = 0;
    for (int i = 0; i < 4; i++) {
        if (part[i] > 255)
            return false;
        address = address << 8 | part[i];
    }
    address += (uint32_t)index;
    snprintf(text, SHOAL_CLUSTER_NAME, "%u.%u.%u.%u", address >> 24, address >> 16 & 255,
             address >> 8 & 255, address & 255);
    return true;
}

static shoal_status name_host(shoal_cluster_host *host, const shoal__host_kind *kind, int32_t index,
                              const shoal__cluster_reader *r)
{
    const shoal__yaml_host *y = kind->yaml;
    if (!numbered(host->name, y->name, index, kind->count == 1))
        return shoal_fail(r->log, SHOAL_BAD_DATA,
                          "%s: host %.80s: a name has from 1 to %d characters, its number included",
                          r->path, y->name, SHOAL_CLUSTER_NAME - 1);
    if (y->address == NULL || address_at(host->address, y->address, index))
        return SHOAL_OK;
    const size_t n = strlen(y->address);
    if (kind->count > 1 || n == 0 || n >= SHOAL_CLUSTER_NAME)
        return shoal_fail(r->log, SHOAL_BAD_DATA,
                          "%s: host %s: address is \"%.80s\", wanted an IPv4 address%s", r->path,
                          y->name, y->address,
                          kind->count > 1 ? ", from which those of all its hosts are counted on"
                                          : " or a name of at most 63 characters");
    memcpy(host->address, y->address, n + 1);
    return SHOAL_OK;
}

typedef struct network {
    double gbit_per_s, latency_us, overhead_us;
} network;

static shoal_status read_network(network *net, const shoal__yaml_network *y, const char *path,
                                 shoal_log *log)
{
    const shoal__cluster_reader r = {.path = path, .log = log};
    *net = (network){.gbit_per_s = 1, .latency_us = 30, .overhead_us = 6};
    if (y == NULL)
        return SHOAL_OK;
    SHOAL_TRY(shoal__cluster_number(&net->gbit_per_s, &r, "network: gbit_per_s", y->gbit_per_s));
    SHOAL_TRY(shoal__cluster_number(&net->latency_us, &r, "network: latency_us", y->latency_us));
    SHOAL_TRY(shoal__cluster_number(&net->overhead_us, &r, "network: overhead_us", y->overhead_us));
    if (net->gbit_per_s > 0)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_BAD_DATA, "%s: network: gbit_per_s is 0, wanted more", path);
}

/* Between the memories of two hosts, at the slower of their cards. How rows get from a GPU into its
 * host's memory is the rank's matter. */
static void lay_links(shoal_cluster *cluster, const network *net)
{
    const double wire = net->gbit_per_s / 8 * SHOAL_NIC_PAYLOAD;
    for (int32_t from = 0; from < cluster->n_rank; from++) {
        for (int32_t to = 0; to < cluster->n_rank; to++) {
            if (from == to)
                continue;
            const int32_t a = cluster->rank[from].host, b = cluster->rank[to].host;
            shoal_cluster_link link = shared_memory;
            if (a != b)
                link = (shoal_cluster_link){.latency_us = net->latency_us,
                                            .gb_per_s = wire,
                                            .overhead_us = net->overhead_us};
            const double card[] = {cluster->host[a].nic_gb_per_s, cluster->host[b].nic_gb_per_s};
            for (int i = 0; a != b && i < 2; i++)
                if (card[i] > 0 && card[i] < link.gb_per_s)
                    link.gb_per_s = card[i];
            *shoal_cluster_link_at(cluster, from, to) = link;
        }
    }
}

/* What build needs while it runs. */
typedef struct builder {
    const char *path;
    shoal_log *log;
    network net;
    shoal__host_kind *kind; /* [n_kind] */
    int32_t n_kind;
} builder;

static shoal_status count_hosts(builder *b, const shoal__yaml_cluster *y, int32_t *n_host,
                                int32_t *n_rank)
{
    int64_t hosts = 0, ranks = 0;
    for (int32_t k = 0; k < b->n_kind; k++) {
        SHOAL_TRY(shoal__host_read(&b->kind[k], &y->hosts[k], b->path, b->net.gbit_per_s, b->log));
        hosts += b->kind[k].count;
        ranks += (int64_t)b->kind[k].count * b->kind[k].n_rank;
    }
    if (ranks < 1 || ranks > SHOAL_MAX_RANK)
        return shoal_fail(b->log, SHOAL_BAD_DATA, "%s: its hosts have %lld ranks, wanted 1 to %d",
                          b->path, (long long)ranks, SHOAL_MAX_RANK);
    *n_host = (int32_t)hosts;
    *n_rank = (int32_t)ranks;
    return SHOAL_OK;
}

static shoal_status check_names(const shoal_cluster *cluster, const builder *b)
{
    for (int32_t i = 0; i < cluster->n_host; i++)
        for (int32_t j = 0; j < i; j++)
            if (strcmp(cluster->host[i].name, cluster->host[j].name) == 0)
                return shoal_fail(b->log, SHOAL_BAD_DATA,
                                  "%s: two hosts are called %s: names of hosts differ", b->path,
                                  cluster->host[i].name);
    return SHOAL_OK;
}

static shoal_status lay_hosts(shoal_cluster *cluster, builder *b)
{
    int32_t host = 0, rank = 0;
    for (int32_t k = 0; k < b->n_kind; k++) {
        const shoal__host_kind *kind = &b->kind[k];
        const shoal__cluster_reader r = {.path = b->path, .host = kind->yaml->name, .log = b->log};
        for (int32_t i = 0; i < kind->count; i++, host++) {
            cluster->host[host] = kind->host;
            SHOAL_TRY(name_host(&cluster->host[host], kind, i, &r));
            SHOAL_TRY(shoal__host_ranks(&cluster->rank[rank], kind, &r));
            for (int32_t j = 0; j < kind->n_rank; j++)
                cluster->rank[rank++].host = host;
        }
    }
    SHOAL_TRY(check_names(cluster, b));
    lay_links(cluster, &b->net);
    return SHOAL_OK;
}

static shoal_status build(shoal_cluster *cluster, builder *b, const shoal__yaml_cluster *y)
{
    int32_t n_host, n_rank;
    SHOAL_TRY(read_network(&b->net, y->network, b->path, b->log));
    SHOAL_TRY(count_hosts(b, y, &n_host, &n_rank));
    shoal_cluster c;
    SHOAL_TRY(shoal_cluster_open(&c, n_host, n_rank, b->log));
    const char *slash = strrchr(b->path, '/');
    snprintf(c.name, sizeof c.name, "%.63s",
             y->name != NULL ? y->name
             : slash != NULL ? slash + 1
                             : b->path);
    shoal_status status = lay_hosts(&c, b);
    if (status != SHOAL_OK) {
        shoal_cluster_close(&c);
        return status;
    }
    *cluster = c;
    return SHOAL_OK;
}

shoal_status shoal_cluster_read_file(shoal_cluster *cluster, const char *path, shoal_log *log)
{
    shoal__yaml_cluster *yaml;
    SHOAL_TRY(shoal__cluster_yaml_read(&yaml, path, log));
    builder b = {.path = path, .log = log, .n_kind = (int32_t)yaml->hosts_count};
    b.kind = calloc((size_t)b.n_kind + 1, sizeof *b.kind);
    shoal_status status = b.kind != NULL ? build(cluster, &b, yaml)
                                         : shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory", path);
    free(b.kind);
    shoal__cluster_yaml_close(yaml);
    return status;
}
