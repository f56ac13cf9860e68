#include "launcher/probe/schedule.h"

#include <stdlib.h>
#include <string.h>

/* Ranks by host: those of host h are rank[first[h] .. first[h + 1]). */
typedef struct hosts {
    int32_t n_host;
    int32_t *rank;  /* [n_rank] */
    int32_t *first; /* [n_host + 1] */
} hosts;

static void hosts_close(hosts *h)
{
    free(h->rank);
    free(h->first);
}

static bool hosts_open(hosts *h, const int32_t *host, int32_t n_rank, int32_t n_host)
{
    *h = (hosts){.n_host = n_host};
    h->rank = calloc((size_t)n_rank, sizeof *h->rank);
    h->first = calloc((size_t)n_host + 1, sizeof *h->first);
    if (h->rank == NULL || h->first == NULL)
        return false;
    int32_t n = 0;
    for (int32_t i = 0; i < n_host; i++) {
        h->first[i] = n;
        for (int32_t r = 0; r < n_rank; r++)
            if (host[r] == i)
                h->rank[n++] = r;
    }
    h->first[n_host] = n;
    return true;
}

static int32_t n_rank_of(const hosts *h, int32_t host)
{
    return h->first[host + 1] - h->first[host];
}

static int32_t n_round(int32_t n)
{
    return n < 2 ? 0 : n - (n % 2 == 0);
}

int32_t shoal_probe_opponent(int32_t n, int32_t round, int32_t player)
{
    /* The circle method: in round k those meet whose numbers add up to k, modulo the odd number of
     * players; of an even number the last one stands outside and meets who would meet itself. */
    const int32_t m = n - (n % 2 == 0);
    if (n < 2)
        return -1;
    if (player == m) { /* outside: 2x = round modulo the odd m */
        const int32_t half = round % 2 == 0 ? round / 2 : (round + m) / 2;
        return half % m;
    }
    const int32_t other = (round - player + m) % m;
    if (other != player)
        return other;
    return n > m ? m : -1;
}

static void add(shoal_probe_schedule *s, int32_t slot, int32_t a, int32_t b)
{
    s->match[s->n_match++] = (shoal_probe_match){.slot = slot, .a = a, .b = b};
}

/* One pair at a time on every host; all hosts at once. */
static void add_within(shoal_probe_schedule *s, const hosts *h, int32_t n_slot_max)
{
    int32_t most = 0;
    for (int32_t i = 0; i < h->n_host; i++) {
        const int32_t n = n_rank_of(h, i);
        const int32_t *rank = h->rank + h->first[i];
        int32_t slot = 0;
        for (int32_t round = 0; round < n_round(n); round++) {
            for (int32_t a = 0; a < n && slot < n_slot_max; a++) {
                const int32_t b = shoal_probe_opponent(n, round, a);
                if (b > a)
                    add(s, slot++, rank[a], rank[b]);
            }
        }
        most = slot > most ? slot : most;
    }
    s->n_slot = most;
}

/* Pair number i of the n_a * n_b of two hosts: first each rank of the larger with another one. */
static void pair_of(int32_t *a, int32_t *b, int32_t n_a, int32_t n_b, int32_t i)
{
    if (n_a >= n_b) {
        *a = i % n_a;
        *b = (i % n_a + i / n_a) % n_b;
    } else {
        *b = i % n_b;
        *a = (i % n_b + i / n_b) % n_a;
    }
}

static void add_round(shoal_probe_schedule *s, const hosts *h, int32_t round, int32_t n_turn)
{
    for (int32_t turn = 0; turn < n_turn; turn++) {
        bool any = false;
        for (int32_t i = 0; i < h->n_host; i++) {
            const int32_t j = shoal_probe_opponent(h->n_host, round, i);
            if (j < i || turn >= n_rank_of(h, i) * n_rank_of(h, j))
                continue;
            int32_t a, b;
            pair_of(&a, &b, n_rank_of(h, i), n_rank_of(h, j), turn);
            add(s, s->n_slot, h->rank[h->first[i] + a], h->rank[h->first[j] + b]);
            any = true;
        }
        s->n_slot += any;
    }
}

static void add_between(shoal_probe_schedule *s, const hosts *h, int32_t n_slot_max)
{
    const int32_t n = n_round(h->n_host);
    if (n == 0)
        return;
    const int32_t budget = n_slot_max - s->n_slot;
    const int32_t n_done = n < budget ? n : budget;
    for (int32_t i = 0; i < n_done; i++)
        add_round(s, h, (int32_t)((int64_t)i * n / n_done), budget / n_done);
}

/* Matches by slot, so that one is found by halving. */
static int by_slot(const void *a, const void *b)
{
    const shoal_probe_match *x = a, *y = b;
    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return (x->a > y->a) - (x->a < y->a);
}

shoal_status shoal_probe_schedule_open(shoal_probe_schedule *schedule, const int32_t *host,
                                       int32_t n_rank, int32_t n_host, int32_t n_slot_max,
                                       shoal_log *log)
{
    shoal_probe_schedule s = {.n_pair = (size_t)n_rank * (size_t)(n_rank - 1) / 2};
    /* A slot has at most one pair on every host. */
    const size_t n_most = (size_t)n_slot_max * (size_t)n_host;
    s.match = calloc((n_most < s.n_pair ? n_most : s.n_pair) + 1, sizeof *s.match);
    hosts h;
    if (!hosts_open(&h, host, n_rank, n_host) || s.match == NULL) {
        hosts_close(&h);
        free(s.match);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the pairs of %d ranks", (int)n_rank);
    }
    add_within(&s, &h, n_host == 1 ? n_slot_max : (n_slot_max + 2) / 3);
    add_between(&s, &h, n_slot_max);
    hosts_close(&h);
    qsort(s.match, s.n_match, sizeof *s.match, by_slot);
    *schedule = s;
    return SHOAL_OK;
}

void shoal_probe_schedule_close(shoal_probe_schedule *schedule)
{
    free(schedule->match);
    *schedule = (shoal_probe_schedule){0};
}

const shoal_probe_match *shoal_probe_schedule_find(const shoal_probe_schedule *schedule,
                                                   int32_t slot, int32_t rank)
{
    size_t low = 0, high = schedule->n_match;
    while (low < high) { /* the first of the slot */
        const size_t middle = (low + high) / 2;
        if (schedule->match[middle].slot < slot)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i < schedule->n_match && schedule->match[i].slot == slot; i++)
        if (schedule->match[i].a == rank || schedule->match[i].b == rank)
            return &schedule->match[i];
    return NULL;
}
