/* What is made of the counts of a routing trace (stats.h), as a table and as JSON. Every formula is
 * in docs/PERFORMANCE.md, "Routing traces". Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ROUTES_SUMMARY_H
#define SHOAL_LAUNCHER_ROUTES_SUMMARY_H

#include "launcher/routes/stats.h"
#include "runtime/base/json.h"

enum { SHOAL_ROUTES_TOP = 4 }; /* experts of a layer that are named, most used and least used */

/* How the rows of one MoE layer spread over its experts. */
typedef struct shoal_routes_layer {
    double max_over_mean;
    double entropy; /* 1: all alike, 0: all rows choose the same; of 1 expert 1 */
    int32_t n_unused;
    int32_t n_named; /* SHOAL_ROUTES_TOP, or all where there are fewer */
    int32_t most[SHOAL_ROUTES_TOP], least[SHOAL_ROUTES_TOP]; /* most: falling, least: rising */
    /* Of the choices in the next MoE layer: the part that the top_k likeliest behind each expert of
     * this one make up, and the part that the top_k most used make up for all alike. 0 in the last.
     */
    double next_hit, next_hit_by_load;
} shoal_routes_layer;
shoal_routes_layer shoal_routes_layer_of(const shoal_routes_stats *stats, int32_t layer);

/* The uniform placement over n_rank ranks. 0 where there is nothing to divide. */
typedef struct shoal_routes_balance {
    double load_max_over_mean;                     /* of the whole trace */
    double ranks_per_row[SHOAL_ROUTES_N_KIND];     /* mean over rows and layers */
    double row_max_over_mean[SHOAL_ROUTES_N_KIND]; /* of a step of one row */
    double window_max_over_mean;                   /* of a step of a window of a prompt */
    double uniform_ranks_per_row; /* if any top_k experts were as likely as any others */
} shoal_routes_balance;
shoal_routes_balance shoal_routes_balance_of(const shoal_routes_stats *stats,
                                             const shoal_routes_split *split);

/* Two experts: of one layer, or the second of the next MoE layer. */
typedef struct shoal_routes_pair {
    int32_t layer, a, b;
    int64_t n_row; /* that chose both */
    double excess; /* n_row less what independent choices would give */
    double lift;   /* n_row over that */
} shoal_routes_pair;
/* The pairs with the largest excess, falling, at most n of them; returns how many. next: of
 * neighbouring layers. */
int32_t shoal_routes_top_pairs(shoal_routes_pair *pair, int32_t n, const shoal_routes_stats *stats,
                               bool next);

/* complete: the run came to its end. New document. */
shoal_json *shoal_routes_json(const shoal_routes_stats *stats, bool complete);
void shoal_routes_print(FILE *out, const shoal_routes_stats *stats, bool complete);

#endif
