#include "launcher/routes/stats.h"

#include <stdlib.h>
#include <string.h>

static size_t n_load(const shoal_routes_header *h)
{
    return (size_t)h->n_layer * (size_t)h->n_expert;
}

static shoal_status open_splits(shoal_routes_stats *s, const int32_t *n_rank, int32_t n_split)
{
    int32_t n_most = 1;
    s->split = calloc((size_t)n_split, sizeof *s->split);
    if (s->split == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d rank counts", (int)n_split);
    for (s->n_split = 0; s->n_split < n_split; s->n_split++) {
        shoal_routes_split *split = &s->split[s->n_split];
        split->n_rank = n_rank[s->n_split];
        n_most = split->n_rank > n_most ? split->n_rank : n_most;
        SHOAL_TRY(shoal_placement_open(&split->placement, s->header.n_layer, s->header.n_expert,
                                       s->header.n_group, split->n_rank, NULL, NULL, s->log));
    }
    s->slots = calloc((size_t)n_most, sizeof *s->slots);
    return s->slots != NULL
               ? SHOAL_OK
               : shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d ranks", (int)n_most);
}

static shoal_status open_counts(shoal_routes_stats *s, const shoal_routes_header *header)
{
    const size_t n = n_load(header), n_expert = (size_t)header->n_expert;
    s->header.layer = malloc((size_t)header->n_layer * sizeof *s->header.layer);
    s->load = calloc(n, sizeof *s->load);
    s->pair = calloc(n * n_expert, sizeof *s->pair);
    s->next = calloc(n * n_expert, sizeof *s->next);
    if (s->header.layer == NULL || s->load == NULL || s->pair == NULL || s->next == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY,
                          "no memory to count pairs of %d experts in %d layers",
                          (int)header->n_expert, (int)header->n_layer);
    memcpy(s->header.layer, header->layer, (size_t)header->n_layer * sizeof *s->header.layer);
    return SHOAL_OK;
}

shoal_status shoal_routes_stats_open(shoal_routes_stats *stats, const shoal_routes_header *header,
                                     const int32_t *n_rank, int32_t n_split, shoal_log *log)
{
    *stats = (shoal_routes_stats){.header = *header, .log = log};
    stats->header.layer = NULL;
    shoal_status status = open_counts(stats, header);
    if (status == SHOAL_OK)
        status = open_splits(stats, n_rank, n_split);
    if (status != SHOAL_OK)
        shoal_routes_stats_close(stats);
    return status;
}

void shoal_routes_stats_close(shoal_routes_stats *stats)
{
    for (int32_t i = 0; i < stats->n_split; i++)
        shoal_placement_close(&stats->split[i].placement);
    for (int32_t i = 0; i < stats->n_open; i++)
        free(stats->window[i].load);
    free(stats->window);
    free(stats->split);
    free(stats->slots);
    free(stats->header.layer);
    free(stats->load);
    free(stats->pair);
    free(stats->next);
    *stats = (shoal_routes_stats){0};
}

/* Slots on the fullest rank, of a layer whose experts have `load` rows each. */
static int64_t fullest(const shoal_routes_split *split, int32_t layer, const uint32_t *load,
                       int32_t n_expert)
{
    int64_t most = 0, slots[SHOAL_MAX_RANK];
    memset(slots, 0, (size_t)split->n_rank * sizeof slots[0]);
    for (int32_t e = 0; e < n_expert; e++) {
        int64_t *of_rank = &slots[shoal_placement_owner(&split->placement, layer, e)];
        *of_rank += load[e];
        most = *of_rank > most ? *of_rank : most;
    }
    return most;
}

static void end_window(shoal_routes_stats *s, shoal__routes_window *w)
{
    const int32_t n_expert = s->header.n_expert;
    for (int32_t i = 0; i < s->n_split; i++)
        for (int32_t layer = 0; layer < s->header.n_layer; layer++)
            s->split[i].n_window_most +=
                fullest(&s->split[i], layer, w->load + (size_t)layer * (size_t)n_expert, n_expert);
    s->n_window++;
    free(w->load);
    *w = (shoal__routes_window){.sequence = -1};
}

static shoal__routes_window *find_window(shoal_routes_stats *s, int64_t sequence)
{
    for (int32_t i = 0; i < s->n_open; i++)
        if (s->window[i].sequence == sequence && s->window[i].load != NULL)
            return &s->window[i];
    return NULL;
}

static shoal_status new_window(shoal__routes_window **window, shoal_routes_stats *s,
                               int64_t sequence)
{
    shoal__routes_window *free_one = NULL;
    for (int32_t i = 0; i < s->n_open && free_one == NULL; i++)
        if (s->window[i].load == NULL)
            free_one = &s->window[i];
    if (free_one == NULL) {
        shoal__routes_window *more =
            realloc(s->window, ((size_t)s->n_open + 1) * sizeof *s->window);
        if (more == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d prompts at once",
                              (int)s->n_open + 1);
        s->window = more;
        free_one = &more[s->n_open++];
    }
    *free_one = (shoal__routes_window){.sequence = sequence};
    free_one->load = calloc(n_load(&s->header), sizeof *free_one->load);
    if (free_one->load == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d prompts at once",
                          (int)s->n_open);
    *window = free_one;
    return SHOAL_OK;
}

/* A row of a prompt joins the window of its position. */
static shoal_status add_to_window(shoal_routes_stats *s, int64_t sequence, int32_t position,
                                  const uint16_t *expert)
{
    shoal__routes_window *w = find_window(s, sequence);
    if (w != NULL && position % SHOAL_ROUTES_WINDOW == 0) {
        end_window(s, w);
        w = NULL;
    }
    if (w == NULL)
        SHOAL_TRY(new_window(&w, s, sequence));
    w->n_row++;
    const size_t n_expert = (size_t)s->header.n_expert, top_k = (size_t)s->header.top_k;
    for (size_t layer = 0; layer < (size_t)s->header.n_layer; layer++)
        for (size_t j = 0; j < top_k; j++)
            w->load[layer * n_expert + expert[layer * top_k + j]]++;
    return SHOAL_OK;
}

/* Ranks that a row goes to in a layer, and its slots on the fullest. */
static void add_split(shoal_routes_stats *s, shoal_routes_split *split, int32_t kind, int32_t layer,
                      const uint16_t *expert)
{
    int32_t most = 0;
    for (int32_t j = 0; j < s->header.top_k; j++) {
        int32_t *slots = &s->slots[shoal_placement_owner(&split->placement, layer, expert[j])];
        split->n_visit[kind] += *slots == 0;
        (*slots)++;
        most = *slots > most ? *slots : most;
    }
    split->n_most[kind] += most;
    for (int32_t j = 0; j < s->header.top_k; j++)
        s->slots[shoal_placement_owner(&split->placement, layer, expert[j])] = 0;
}

static void add_row(shoal_routes_stats *s, int32_t kind, const uint16_t *expert)
{
    const size_t n_expert = (size_t)s->header.n_expert, top_k = (size_t)s->header.top_k;
    const size_t n_layer = (size_t)s->header.n_layer;
    for (size_t layer = 0; layer < n_layer; layer++) {
        const uint16_t *chosen = expert + layer * top_k;
        const uint16_t *behind = layer + 1 < n_layer ? chosen + top_k : NULL;
        for (size_t j = 0; j < top_k; j++) {
            const size_t at = layer * n_expert + chosen[j];
            s->load[at]++;
            for (size_t i = 0; i < top_k; i++) {
                if (chosen[i] > chosen[j])
                    s->pair[at * n_expert + chosen[i]]++;
                if (behind != NULL)
                    s->next[at * n_expert + behind[i]]++;
            }
        }
        for (int32_t i = 0; i < s->n_split; i++)
            add_split(s, &s->split[i], kind, (int32_t)layer, chosen);
    }
    s->n_row[kind]++;
}

shoal_status shoal_routes_stats_add(shoal_routes_stats *stats, const shoal_routes_rows *rows)
{
    const size_t per_row = (size_t)stats->header.n_layer * (size_t)stats->header.top_k;
    const int32_t kind = rows->decode ? SHOAL_ROUTES_DECODE : SHOAL_ROUTES_PROMPT;
    stats->n_sequence += !rows->decode && rows->position0 == 0;
    for (int32_t row = 0; row < rows->n_row; row++) {
        const uint16_t *expert = rows->expert + (size_t)row * per_row;
        add_row(stats, kind, expert);
        if (!rows->decode)
            SHOAL_TRY(add_to_window(stats, rows->sequence, rows->position0 + row, expert));
    }
    shoal__routes_window *window = rows->last ? find_window(stats, rows->sequence) : NULL;
    if (window != NULL)
        end_window(stats, window);
    return SHOAL_OK;
}

void shoal_routes_stats_finish(shoal_routes_stats *stats)
{
    for (int32_t i = 0; i < stats->n_open; i++)
        if (stats->window[i].load != NULL)
            end_window(stats, &stats->window[i]);
}
