/* What `shoal plan` finds before it prints: a prediction for every rank count, with sequences and
 * kinds of combine side by side. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PLAN_H
#define SHOAL_LAUNCHER_PLAN_H

#include "launcher/options.h"
#include "launcher/predict/predict.h"
#include "launcher/routes/source.h"

/* One number of sequences with one kind of combine. */
typedef struct shoal__plan_case {
    int32_t n_sequence;
    shoal_combine_kind combine;
    shoal_speed speed;
} shoal__plan_case;

/* The first n_rank ranks of the cluster. Arrays are [n_rank] and its own. */
typedef struct shoal__plan_count {
    shoal_cluster cluster;
    int32_t n_rank;
    bool fits;
    double *expert_weight, *sequence_weight;
    shoal_rank_memory *memory; /* for the most sequences, combine exact */
    shoal_model_measured measured;
    int32_t fullest;              /* the rank that has least room left, or is furthest over */
    int32_t n_source;             /* ranks that hold sequences */
    double watts, price_per_hour; /* of its hosts; 0: not known of all */
    shoal__plan_case *cases;      /* [n_case] sequences by combine */
    shoal_routing_means *routed;  /* [n_sequences] of a decode step */
} shoal__plan_count;

/* Another choice that would fit. */
typedef struct shoal__plan_advice {
    shoal_weights_choice weights;
    int32_t n_rank;      /* as many ranks like the last; 0: none up to SHOAL_MAX_RANK */
    double source_bytes; /* of a rank that holds sequences, besides experts */
    bool here;           /* it would fit the ranks that there are */
} shoal__plan_advice;

#define SHOAL__PLAN_WEIGHTS 4

typedef struct shoal__plan {
    const shoal_options *options;
    shoal_log *log;
    shoal_checkpoint *checkpoint;
    shoal_spec spec;
    shoal_cluster cluster;
    bool has_gpu;
    shoal_routing_uniform uniform;
    shoal_routes_source routes; /* with --routes */
    shoal_routing routing;
    shoal_predict_run run; /* for the most sequences; cluster is a count's */
    int32_t *sequences, n_sequences;
    int32_t n_case;           /* of each count */
    shoal__plan_count *count; /* [n_count] ascending */
    int32_t n_count;
    int32_t best; /* index; -1: nothing fits */
    /* Where the largest count does not fit. */
    shoal__plan_advice advice[SHOAL__PLAN_WEIGHTS];
    bool has_advice;
} shoal__plan;

/* What options, MODEL and the cluster's file say, with nothing predicted yet. Errors: USAGE,
 * NO_INPUT, BAD_DATA, NO_MEMORY. After an error, too: shoal__plan_close. */
shoal_status shoal__plan_open(shoal__plan *plan, const shoal_options *options, shoal_log *log);
/* --ranks, or every count of a small cluster and powers of two, and all, of a large one: ranks
 * [n] is the caller's to free. */
shoal_status shoal__plan_ranks(int32_t **ranks, int32_t *n, const shoal__plan *plan);
/* The placement that `choice` (as --placement) names, on a cluster. */
shoal_status shoal__plan_place(shoal_placement *placement, const shoal__plan *plan,
                               const shoal_cluster *cluster, const char *choice);

/* Opened, and everything predicted. Errors as those of open. */
shoal_status shoal__plan_make(shoal__plan *plan, const shoal_options *options, shoal_log *log);
void shoal__plan_close(shoal__plan *plan);

/* Of what is asked first: the first number of sequences with --combine. */
const shoal__plan_case *shoal__plan_main_case(const shoal__plan *plan, const shoal__plan_count *c);

/* plan_simulate.c: the table or the list of --simulate, to stdout. plan is opened, not made. */
shoal_status shoal__plan_simulate(shoal__plan *plan);

/* plan_advice.c */
shoal_status shoal__plan_advise(shoal__plan *plan);

/* The text for people, to stdout; the list of DESIGN section 5. */
void shoal__plan_print(const shoal__plan *plan);
shoal_json *shoal__plan_json(const shoal__plan *plan);

#endif
