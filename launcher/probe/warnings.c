#include "launcher/probe/warnings.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define CLOCK_APART_S 0.5
#define GB            1e9

typedef struct view {
    const shoal_probe_message *m;
    const shoal_probe_facts *facts; /* [n_rank] */
    const double *clock_error_s;
    shoal_probe_warning *list;
    int32_t n;
} view;

const char *shoal_probe_warning_name(shoal_probe_warning_kind kind)
{
    static const char *const names[] = {
#define SHOAL_PROBE_WARNING_NAME(name, text) text,
        SHOAL_PROBE_WARNING_MAP(SHOAL_PROBE_WARNING_NAME)
#undef SHOAL_PROBE_WARNING_NAME
    };
    return names[kind];
}

static void warn(view *v, shoal_probe_warning_kind kind, int32_t rank, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void warn(view *v, shoal_probe_warning_kind kind, int32_t rank, const char *format, ...)
{
    shoal_probe_warning *w = &v->list[v->n++];
    w->kind = kind;
    w->rank = rank;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(w->text, sizeof w->text, format, arguments);
    va_end(arguments);
}

/* " (and 3 more)", "" for none. */
typedef struct others {
    char text[32];
} others;

static others and_more(int32_t n_all)
{
    others o = {""};
    if (n_all > 1)
        snprintf(o.text, sizeof o.text, " (and %d more)", (int)n_all - 1);
    return o;
}

/* The first rank that a test holds for, and how many there are. */
typedef bool rank_test(const view *v, int32_t rank);

static int32_t find_ranks(const view *v, rank_test *test, int32_t *first)
{
    int32_t n = 0;
    for (int32_t r = v->m->n_rank - 1; r >= 0; r--) {
        if (!test(v, r))
            continue;
        *first = r;
        n++;
    }
    return n;
}

static bool is_first_of_host(const view *v, int32_t rank)
{
    for (int32_t r = 0; r < rank; r++)
        if (v->m->rank[r].host == v->m->rank[rank].host)
            return false;
    return true;
}

static bool shares_name(const view *v, int32_t rank)
{
    for (int32_t r = 0; r < rank; r++)
        if (strcmp(v->facts[r].host, v->facts[rank].host) == 0 &&
            strcmp(v->facts[r].machine, v->facts[rank].machine) != 0)
            return true;
    return false;
}

static bool has_other_build(const view *v, int32_t rank)
{
    return strcmp(v->facts[rank].build, v->facts[0].build) != 0;
}

static bool has_other_mpi(const view *v, int32_t rank)
{
    return strcmp(v->facts[rank].mpi, v->facts[0].mpi) != 0;
}

static bool has_other_kernels(const view *v, int32_t rank)
{
    return strcmp(v->facts[rank].kernels, v->facts[0].kernels) != 0;
}

static void warn_software(view *v)
{
    int32_t r = 0, n = find_ranks(v, shares_name, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_SAME_NAME, r,
             "two machines are both called %s (rank %d is on the second)%s: their ranks would "
             "divide cores as if they shared one; give each its own name with hostnamectl",
             v->facts[r].host, (int)r, and_more(n).text);
    n = find_ranks(v, has_other_build, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_BUILD, r,
             "rank %d (%s) is shoal %s%s, rank 0 is %s: no model will run; install the same binary "
             "everywhere",
             (int)r, v->facts[r].host, v->facts[r].build, and_more(n).text, v->facts[0].build);
    n = find_ranks(v, has_other_mpi, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_MPI, r,
             "rank %d (%s) runs %s%s, rank 0 %s: mixed versions hang or fail in odd ways; install "
             "the same one",
             (int)r, v->facts[r].host, v->facts[r].mpi, and_more(n).text, v->facts[0].mpi);
    n = find_ranks(v, has_other_kernels, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_KERNELS, r,
             "rank %d (%s) computes with %s%s, rank 0 with %s: the same bits at other speeds; "
             "--placement weighted gives each its share",
             (int)r, v->facts[r].host, v->facts[r].kernels, and_more(n).text, v->facts[0].kernels);
}

static bool has_other_clock(const view *v, int32_t rank)
{
    const int32_t h = v->m->rank[rank].host;
    return is_first_of_host(v, rank) &&
           fabs(v->m->host[h].clock_s) - v->clock_error_s[h] > CLOCK_APART_S;
}

static void warn_clock(view *v)
{
    int32_t r = 0;
    const int32_t n = find_ranks(v, has_other_clock, &r);
    if (n == 0)
        return;
    const double off = v->m->host[v->m->rank[r].host].clock_s;
    warn(v, SHOAL_PROBE_WARNING_CLOCK, r,
         "the clock of %s is %.1f s %s that of %s%s: logs cannot be read side by side and shared "
         "folders look changed; run chrony or systemd-timesyncd",
         v->facts[r].host, fabs(off), off > 0 ? "ahead of" : "behind", v->facts[0].host,
         and_more(n).text);
}

static int32_t ranks_beside(const view *v, int32_t rank)
{
    int32_t n = 1;
    for (int32_t r = 0; r < v->m->n_rank; r++)
        n += r != rank && v->m->rank[r].host == v->m->rank[rank].host;
    return n;
}

/* Fewer cores than its threads, or than its share of the host. */
static bool is_bound(const view *v, int32_t rank)
{
    const shoal_probe_facts *f = &v->facts[rank];
    int32_t wanted = f->n_core_host / ranks_beside(v, rank);
    wanted = wanted > f->n_thread ? wanted : f->n_thread;
    wanted = wanted < f->n_core_host ? wanted : f->n_core_host;
    return f->n_core > 0 && f->n_core < wanted;
}

static bool is_short_of_time(const view *v, int32_t rank)
{
    const shoal_probe_facts *f = &v->facts[rank];
    return f->cpu_quota > 0 && f->cpu_quota + 0.01 < (double)f->n_thread * ranks_beside(v, rank);
}

static bool is_saving_power(const view *v, int32_t rank)
{
    return is_first_of_host(v, rank) && strcmp(v->facts[rank].governor, "powersave") == 0;
}

static bool is_throttled(const view *v, int32_t rank)
{
    return is_first_of_host(v, rank) && v->facts[rank].n_throttle_run > 0;
}

static void warn_cores(view *v)
{
    int32_t r = 0, n = find_ranks(v, is_bound, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_BOUND, r,
             "rank %d (%s) is bound to %d of its host's %d cores%s: mpirun binds each rank to one "
             "core unless told otherwise; pass --bind-to none",
             (int)r, v->facts[r].host, (int)v->facts[r].n_core, (int)v->facts[r].n_core_host,
             and_more(n).text);
    n = find_ranks(v, is_short_of_time, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_QUOTA, r,
             "rank %d (%s) has %d threads, but its cgroup grants the host's ranks %.1f cores' time "
             "in all%s: threads stand still in turn; raise the limit of the container or job, or "
             "pass fewer --threads",
             (int)r, v->facts[r].host, (int)v->facts[r].n_thread, v->facts[r].cpu_quota,
             and_more(n).text);
    n = find_ranks(v, is_saving_power, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_GOVERNOR, r,
             "%s keeps its clock low (governor powersave)%s: cpupower frequency-set -g performance",
             v->facts[r].host, and_more(n).text);
    n = find_ranks(v, is_throttled, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_THROTTLED, r,
             "cores of %s were slowed down by heat %lld times in these seconds%s: long runs will "
             "be slower; look at its cooling and power limits",
             v->facts[r].host, (long long)v->facts[r].n_throttle_run, and_more(n).text);
}

static bool is_short_of_memory(const view *v, int32_t rank)
{
    const shoal_probe_facts *f = &v->facts[rank];
    return is_first_of_host(v, rank) && f->memory_bytes > 0 && f->free_bytes < f->memory_bytes / 2;
}

/* Pages that lie there unused since long ago are no trouble. */
static bool is_swapping(const view *v, int32_t rank)
{
    const shoal_probe_facts *f = &v->facts[rank];
    return is_first_of_host(v, rank) && f->swap_bytes > f->memory_bytes / 20;
}

static void warn_memory(view *v)
{
    int32_t r = 0, n = find_ranks(v, is_short_of_memory, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_MEMORY, r,
             "only %.1f of %.1f GB of %s are free%s: end what else uses it (ps aux --sort -rss)",
             (double)v->facts[r].free_bytes / GB, (double)v->facts[r].memory_bytes / GB,
             v->facts[r].host, and_more(n).text);
    n = find_ranks(v, is_swapping, &r);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_SWAP, r,
             "%s has %.1f GB in swap%s: weights that are swapped out are read at a hundredth of "
             "the speed; end what else runs there, then swapoff -a",
             v->facts[r].host, (double)v->facts[r].swap_bytes / GB, and_more(n).text);
}

/* The interface of a rank's host by its name; "eth0+eth1" is eth0. NULL if it is not known. */
static const shoal_probe_interface *interface_of(const view *v, int32_t rank, const char *name)
{
    const shoal_probe_facts *f = &v->facts[rank];
    const size_t n = strcspn(name, "+");
    for (int32_t i = 0; i < f->n_interface; i++)
        if (strncmp(f->interface[i].name, name, n) == 0 && f->interface[i].name[n] == '\0')
            return &f->interface[i];
    return NULL;
}

/* The fastest card of a rank's host other than `used`; NULL if there is none. */
static const shoal_probe_interface *best_card(const view *v, int32_t rank,
                                              const shoal_probe_interface *used)
{
    const shoal_probe_facts *f = &v->facts[rank];
    const shoal_probe_interface *best = NULL;
    for (int32_t i = 0; i < f->n_interface; i++) {
        const shoal_probe_interface *card = &f->interface[i];
        if (card == used || card->kind != SHOAL_PROBE_INTERFACE_WIRE)
            continue;
        if (best == NULL || card->mbit_per_s > best->mbit_per_s)
            best = card;
    }
    return best;
}

typedef bool link_test(const view *v, int32_t from, int32_t to);

static int32_t find_links(const view *v, link_test *test, int32_t *from, int32_t *to)
{
    int32_t n = 0;
    for (int32_t a = v->m->n_rank - 1; a >= 0; a--) {
        for (int32_t b = v->m->n_rank - 1; b >= 0; b--) {
            const int32_t path = shoal_probe_message_link(v->m, a, b)->path;
            if (path != SHOAL_PROBE_PATH_TCP || !test(v, a, b))
                continue;
            *from = a;
            *to = b;
            n++;
        }
    }
    return n;
}

static bool is_within_host(const view *v, int32_t from, int32_t to)
{
    return v->m->rank[from].host == v->m->rank[to].host;
}

static const shoal_probe_interface *link_interface(const view *v, int32_t from, int32_t to)
{
    return interface_of(v, from, shoal_probe_message_link(v->m, from, to)->interface);
}

static bool is_virtual(const view *v, int32_t from, int32_t to)
{
    const shoal_probe_interface *used = link_interface(v, from, to);
    return used != NULL && !is_within_host(v, from, to) &&
           used->kind == SHOAL_PROBE_INTERFACE_VIRTUAL && best_card(v, from, used) != NULL;
}

static bool is_slow(const view *v, int32_t from, int32_t to)
{
    const shoal_probe_interface *used = link_interface(v, from, to);
    if (used == NULL || used->kind != SHOAL_PROBE_INTERFACE_WIRE || used->mbit_per_s == 0)
        return false;
    const shoal_probe_interface *card = best_card(v, from, used);
    return card != NULL && card->mbit_per_s > used->mbit_per_s;
}

static bool is_below_speed(const view *v, int32_t from, int32_t to)
{
    const shoal_probe_interface *used = link_interface(v, from, to);
    const double gb_per_s = (double)shoal_probe_message_link(v->m, from, to)->gb_per_s;
    return used != NULL && used->kind == SHOAL_PROBE_INTERFACE_WIRE && used->mbit_per_s > 0 &&
           gb_per_s < 0.5 * used->mbit_per_s / 8e3;
}

static void warn_links(view *v)
{
    int32_t a = 0, b = 0, n = find_links(v, is_virtual, &a, &b);
    if (n > 0) {
        const shoal_probe_interface *used = link_interface(v, a, b);
        const shoal_probe_interface *card = best_card(v, a, used);
        warn(v, SHOAL_PROBE_WARNING_VIRTUAL_LINK, a,
             "rank %d (%s) reaches rank %d over %s, which is no card but a bridge or tunnel%s; "
             "%s is there: mpirun --mca btl_tcp_if_include %s/%d",
             (int)a, v->facts[a].host, (int)b, used->name, and_more(n).text, card->name,
             card->address, (int)card->n_prefix);
    }
    n = find_links(v, is_slow, &a, &b);
    if (n > 0) {
        const shoal_probe_interface *used = link_interface(v, a, b);
        const shoal_probe_interface *card = best_card(v, a, used);
        warn(v, SHOAL_PROBE_WARNING_SLOW_LINK, a,
             "rank %d (%s) reaches rank %d over %s with %d Mbit/s%s, but has %s with %d Mbit/s: "
             "mpirun --mca btl_tcp_if_include %s/%d",
             (int)a, v->facts[a].host, (int)b, used->name, (int)used->mbit_per_s, and_more(n).text,
             card->name, (int)card->mbit_per_s, card->address, (int)card->n_prefix);
    }
    n = find_links(v, is_below_speed, &a, &b);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_BELOW_SPEED, a,
             "rank %d (%s) sends to rank %d at %.2f Gbit/s over %s, which says %d Mbit/s%s: other "
             "traffic, a slower switch or cable in between, or a processor at its limit",
             (int)a, v->facts[a].host, (int)b,
             8 * (double)shoal_probe_message_link(v->m, a, b)->gb_per_s,
             link_interface(v, a, b)->name, (int)link_interface(v, a, b)->mbit_per_s,
             and_more(n).text);
    n = find_links(v, is_within_host, &a, &b);
    if (n > 0)
        warn(v, SHOAL_PROBE_WARNING_LOOP_LINK, a,
             "ranks %d and %d of %s reach each other over TCP (%s)%s, not shared memory: add vader "
             "to the list of --mca btl",
             (int)a, (int)b, v->facts[a].host, shoal_probe_message_link(v->m, a, b)->interface,
             and_more(n).text);
}

int32_t shoal_probe_warnings(shoal_probe_warning *warning, const shoal_probe_message *message,
                             const shoal_probe_facts *facts, const double *clock_error_s)
{
    view v = {.m = message, .facts = facts, .clock_error_s = clock_error_s, .list = warning};
    warn_software(&v);
    warn_clock(&v);
    warn_cores(&v);
    warn_memory(&v);
    warn_links(&v);
    return v.n;
}
