/* A decode step of many ranks in one process: plan, dispatch and combine are those of a run, over
 * the sim transport with the links and cards of the cluster; attention and experts only take the
 * time that the cost model says. Choices come from a routing source, rows are real bytes of the
 * model's width. So bytes and messages are counted, not computed, and waiting comes of itself.
 * Formulas: docs/PERFORMANCE.md, "Simulation". Layering: launcher. */
#ifndef SHOAL_LAUNCHER_SIMULATE_H
#define SHOAL_LAUNCHER_SIMULATE_H

#include "launcher/predict/predict.h"

#define SHOAL_SIMULATE_LAYERS_MAX 64

/* Per MoE layer, the mean of those that were counted. */
typedef struct shoal_simulation {
    int32_t n_layer;  /* that were counted; one more ran before them */
    int32_t n_token;  /* rows of all ranks */
    int32_t n_source; /* ranks that have some */
    double layer_us;  /* until the last rank was through, virtual time */
    double step_us;   /* layer_us times the model's MoE layers, and the rest of a step */
    double tok_per_s; /* n_token / step_us */
    /* Of the average source; together the time that a layer takes it. */
    double attention_us; /* norm, projections, cache, router, shared experts */
    double send_us;      /* handing messages over: rows, then results for others */
    double dispatch_us;  /* waiting for rows, and taking them */
    double experts_us;   /* its own experts */
    double combine_us;   /* waiting for results, taking and adding them */
    /* Of all ranks together. */
    double dispatch_bytes, combine_bytes;
    double dispatch_messages, combine_messages;
    double header_bytes;  /* of dispatch_bytes: 32 of each message */
    double bare_messages; /* of dispatch_messages: those without rows */
    double most_messages; /* that one rank sends and receives, the rank that has most */
    double imbalance;     /* slots of the fullest rank / of the average rank with experts */
    double elapsed_s;     /* real time of the simulation */
} shoal_simulation;

/* run->n_sequence rows over the ranks of run->cluster, n_layer layers (1 ..
 * SHOAL_SIMULATE_LAYERS_MAX, at most those that the placement has). measured: of a rank that holds
 * sequences. The result depends on nothing but the arguments, but for elapsed_s. Errors: NO_MEMORY,
 * FAILED (too few threads, or ranks that disagree: a bug). */
shoal_status shoal_simulate(shoal_simulation *simulation, const shoal_predict_run *run,
                            const shoal_placement *placement, const shoal_model_measured *measured,
                            int32_t n_layer, shoal_log *log);

#endif
