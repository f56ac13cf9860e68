/* What a routing trace says, as counts: read once, in any order of the sequences, with integers
 * only, so that the same choices give the same counts however many ranks computed them. What is
 * made of the counts is in summary.h; every formula is in docs/PERFORMANCE.md. Layering: launcher.
 */
#ifndef SHOAL_LAUNCHER_ROUTES_STATS_H
#define SHOAL_LAUNCHER_ROUTES_STATS_H

#include "experts/placement.h"
#include "runtime/proto/routes.h"

#define SHOAL_ROUTES_WINDOW                                                                        \
    256 /* positions of a prompt that are taken as one step: default chunk */

enum { SHOAL_ROUTES_PROMPT, SHOAL_ROUTES_DECODE, SHOAL_ROUTES_N_KIND };

/* Under the uniform placement over n_rank ranks. Sums over (row, layer) but for windows: over
 * (window, layer). */
typedef struct shoal_routes_split {
    int32_t n_rank;
    shoal_placement placement;
    int64_t n_visit[SHOAL_ROUTES_N_KIND]; /* ranks that a row goes to */
    int64_t n_most[SHOAL_ROUTES_N_KIND];  /* of one row: slots on its fullest rank */
    int64_t n_window_most;                /* of all rows of a window: slots on the fullest rank */
} shoal_routes_split;

/* The window of a prompt that is going on. */
typedef struct shoal__routes_window {
    int64_t sequence;
    int32_t n_row;
    uint32_t *load; /* [n_layer, n_expert]; NULL: free */
} shoal__routes_window;

typedef struct shoal_routes_stats {
    shoal_routes_header header; /* its layer is owned */
    int64_t n_row[SHOAL_ROUTES_N_KIND];
    int64_t n_sequence; /* that began in the trace */
    int64_t n_window;
    int64_t *load;  /* [n_layer, n_expert] rows that chose the expert */
    uint32_t *pair; /* [n_layer, n_expert, n_expert] a < b: rows that chose both */
    uint32_t *next; /* [n_layer - 1, n_expert, n_expert] a in a layer, b in the next MoE layer */
    shoal_routes_split *split; /* [n_split] */
    int32_t n_split;
    shoal__routes_window *window; /* [n_open] */
    int32_t n_open;
    int32_t *slots; /* [most ranks] scratch */
    shoal_log *log;
} shoal_routes_stats;

/* n_rank: [n_split] rank counts, copied. Errors: NO_MEMORY, USAGE (a rank count that no placement
 * can serve). */
shoal_status shoal_routes_stats_open(shoal_routes_stats *stats, const shoal_routes_header *header,
                                     const int32_t *n_rank, int32_t n_split, shoal_log *log);
/* Errors: NO_MEMORY. */
shoal_status shoal_routes_stats_add(shoal_routes_stats *stats, const shoal_routes_rows *rows);
/* No rows follow: windows that are going on end. */
void shoal_routes_stats_finish(shoal_routes_stats *stats);
void shoal_routes_stats_close(shoal_routes_stats *stats); /* accepts zeroed */

#endif
