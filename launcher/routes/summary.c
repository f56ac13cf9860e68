#include "launcher/routes/summary.h"

#include <math.h>
#include <string.h>

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static int64_t n_row_all(const shoal_routes_stats *s)
{
    return s->n_row[SHOAL_ROUTES_PROMPT] + s->n_row[SHOAL_ROUTES_DECODE];
}

/* The n largest (sign 1) or smallest (-1) of load, ties to the lower number. */
static void name_experts(int32_t *named, int32_t n, const int64_t *load, int32_t n_expert,
                         int32_t sign)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t best = -1;
        for (int32_t e = 0; e < n_expert; e++) {
            bool taken = false;
            for (int32_t k = 0; k < i && !taken; k++)
                taken = named[k] == e;
            if (!taken && (best < 0 || sign * load[e] > sign * load[best]))
                best = e;
        }
        named[i] = best;
    }
}

/* Sum of the n largest of n_value counts, which are `value` or `wide`. */
static double sum_of_largest(const uint32_t *value, const int64_t *wide, int32_t n_value, int32_t n)
{
    double sum = 0, limit = INFINITY;
    int32_t n_left = n;
    while (n_left > 0) { /* one value of the order after the other, with all that are equal to it */
        double largest = -1;
        int32_t n_equal = 0;
        for (int32_t i = 0; i < n_value; i++) {
            const double v = value != NULL ? (double)value[i] : (double)wide[i];
            if (v >= limit || v < largest)
                continue;
            n_equal = v > largest ? 1 : n_equal + 1;
            largest = v;
        }
        if (largest <= 0)
            break;
        const int32_t n_take = n_equal < n_left ? n_equal : n_left;
        sum += largest * n_take;
        n_left -= n_take;
        limit = largest;
    }
    return sum;
}

static void set_next(shoal_routes_layer *v, const shoal_routes_stats *s, int32_t layer)
{
    const shoal_routes_header *h = &s->header;
    const size_t n_expert = (size_t)h->n_expert;
    if (layer + 1 == h->n_layer)
        return;
    const uint32_t *next = s->next + (size_t)layer * n_expert * n_expert;
    double hit = 0, all = 0;
    for (size_t a = 0; a < n_expert; a++) {
        for (size_t b = 0; b < n_expert; b++)
            all += next[a * n_expert + b];
        hit += sum_of_largest(next + a * n_expert, NULL, h->n_expert, h->top_k);
    }
    v->next_hit = ratio(hit, all);
    const int64_t *load = s->load + (size_t)(layer + 1) * n_expert;
    v->next_hit_by_load =
        ratio(sum_of_largest(NULL, load, h->n_expert, h->top_k), (double)n_row_all(s) * h->top_k);
}

shoal_routes_layer shoal_routes_layer_of(const shoal_routes_stats *stats, int32_t layer)
{
    const shoal_routes_header *h = &stats->header;
    const int64_t *load = stats->load + (size_t)layer * (size_t)h->n_expert;
    const double n_choice = (double)n_row_all(stats) * h->top_k;
    shoal_routes_layer v = {
        .entropy = 1, .n_named = h->n_expert < SHOAL_ROUTES_TOP ? h->n_expert : SHOAL_ROUTES_TOP};
    name_experts(v.most, v.n_named, load, h->n_expert, 1);
    name_experts(v.least, v.n_named, load, h->n_expert, -1);
    v.max_over_mean = ratio((double)load[v.most[0]] * h->n_expert, n_choice);
    double bits = 0;
    for (int32_t e = 0; e < h->n_expert; e++) {
        const double share = ratio((double)load[e], n_choice);
        bits -= share > 0 ? share * log(share) : 0;
        v.n_unused += load[e] == 0;
    }
    if (h->n_expert > 1)
        v.entropy = bits / log((double)h->n_expert);
    set_next(&v, stats, layer);
    return v;
}

/* Slots on the fullest rank, of all layers and the whole trace. */
static double whole_load(const shoal_routes_stats *s, const shoal_routes_split *split)
{
    const shoal_routes_header *h = &s->header;
    double sum = 0;
    for (int32_t layer = 0; layer < h->n_layer; layer++) {
        int64_t most = 0, slots[SHOAL_MAX_RANK];
        memset(slots, 0, (size_t)split->n_rank * sizeof slots[0]);
        for (int32_t e = 0; e < h->n_expert; e++) {
            int64_t *of_rank = &slots[shoal_placement_owner(&split->placement, layer, e)];
            *of_rank += s->load[(size_t)layer * (size_t)h->n_expert + (size_t)e];
            most = *of_rank > most ? *of_rank : most;
        }
        sum += (double)most;
    }
    return sum;
}

/* Of one row with equally likely choices, in one layer: expected ranks that it goes to. A rank with
 * m of E experts is missed with the chance C(E - m, k) / C(E, k). */
static double uniform_visits(const shoal_routes_header *h, const shoal_routes_split *split,
                             int32_t layer)
{
    double visits = 0;
    for (int32_t r = 0; r < split->n_rank; r++) {
        const int32_t m = shoal_placement_owned(&split->placement, layer, r, NULL);
        double missed = 1;
        for (int32_t j = 0; j < h->top_k; j++) {
            const int32_t left = h->n_expert - m - j;
            missed *= left > 0 ? (double)left / (h->n_expert - j) : 0;
        }
        visits += 1 - missed;
    }
    return visits;
}

shoal_routes_balance shoal_routes_balance_of(const shoal_routes_stats *stats,
                                             const shoal_routes_split *split)
{
    const shoal_routes_header *h = &stats->header;
    shoal_routes_balance v = {0};
    const double n_layer = h->n_layer, ranks = split->n_rank, top_k = h->top_k;
    v.load_max_over_mean =
        ratio(whole_load(stats, split) * ranks, (double)n_row_all(stats) * n_layer * top_k);
    for (int32_t kind = 0; kind < SHOAL_ROUTES_N_KIND; kind++) {
        const double n_row_layer = (double)stats->n_row[kind] * n_layer;
        v.ranks_per_row[kind] = ratio((double)split->n_visit[kind], n_row_layer);
        v.row_max_over_mean[kind] = ratio((double)split->n_most[kind] * ranks, n_row_layer * top_k);
    }
    v.window_max_over_mean = ratio((double)split->n_window_most * ranks,
                                   (double)stats->n_row[SHOAL_ROUTES_PROMPT] * n_layer * top_k);
    for (int32_t layer = 0; layer < h->n_layer; layer++)
        v.uniform_ranks_per_row += uniform_visits(h, split, layer) / n_layer;
    return v;
}

static void keep_pair(shoal_routes_pair *pair, int32_t *n, int32_t n_max,
                      const shoal_routes_pair *found)
{
    int32_t at = *n;
    while (at > 0 && pair[at - 1].excess < found->excess)
        at--;
    if (at == n_max)
        return;
    if (*n < n_max)
        (*n)++;
    memmove(&pair[at + 1], &pair[at], (size_t)(*n - 1 - at) * sizeof *pair);
    pair[at] = *found;
}

int32_t shoal_routes_top_pairs(shoal_routes_pair *pair, int32_t n, const shoal_routes_stats *stats,
                               bool next)
{
    const shoal_routes_header *h = &stats->header;
    const size_t n_expert = (size_t)h->n_expert;
    const double n_row = (double)n_row_all(stats);
    const uint32_t *count = next ? stats->next : stats->pair;
    int32_t n_found = 0;
    for (int32_t layer = 0; layer < h->n_layer - (next ? 1 : 0); layer++) {
        const int64_t *load_a = stats->load + (size_t)layer * n_expert;
        const int64_t *load_b = next ? load_a + n_expert : load_a;
        for (int32_t a = 0; a < h->n_expert; a++) {
            for (int32_t b = next ? 0 : a + 1; b < h->n_expert; b++) {
                const uint32_t both =
                    count[((size_t)layer * n_expert + (size_t)a) * n_expert + (size_t)b];
                if (both == 0)
                    continue;
                const double apart = (double)load_a[a] * (double)load_b[b] / n_row;
                const shoal_routes_pair found = {.layer = layer,
                                                 .a = a,
                                                 .b = b,
                                                 .n_row = both,
                                                 .excess = both - apart,
                                                 .lift = both / apart};
                if (found.excess > 0)
                    keep_pair(pair, &n_found, n, &found);
            }
        }
    }
    return n_found;
}
