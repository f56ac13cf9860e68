/* Inside shoal_simulate: simulate.c (what all ranks share, and the sums) and simulate_rank.c (one
 * virtual rank). Layering: private to launcher/predict. */
#ifndef SHOAL_LAUNCHER_SIMULATE_PRIVATE_H
#define SHOAL_LAUNCHER_SIMULATE_PRIVATE_H

#include "comm/plan.h"
#include "launcher/predict/costs.h"
#include "launcher/predict/simulate.h"

typedef enum shoal__part_time {
    SHOAL__PART_ATTENTION,
    SHOAL__PART_SEND,
    SHOAL__PART_DISPATCH,
    SHOAL__PART_EXPERTS,
    SHOAL__PART_COMBINE,
    SHOAL__N_PART
} shoal__part_time;

/* What one virtual rank counts, without the first layer. */
typedef struct shoal__counts {
    double begun_us, ended_us;
    double part_us[SHOAL__N_PART];
    uint64_t dispatch_bytes, combine_bytes, dispatch_messages, combine_messages, bare_messages;
    uint64_t received_messages;
} shoal__counts;

/* Equal for all ranks but for counts[rank]. */
typedef struct shoal__world {
    const shoal_predict_run *run;
    const shoal_placement *placement;
    const shoal_model_measured *measured;
    shoal__costs costs;
    shoal_log *log;
    const shoal_kernels *kernels;
    int32_t n_rank, n_layer; /* the first is not counted */
    int32_t n_expert, top_k, n_embd;
    int32_t n_token, n_token_max; /* of all ranks; of the rank that has most */
    int32_t *tokens, *first;      /* [n_rank] of each rank, and which is its first */
    int32_t *n_local_max, *host;  /* [n_rank] */
    bool *is_source;              /* [n_rank] */
    bool *is_target;              /* [n_layer, n_rank] owns experts of the layer */
    int32_t *owner, *local;       /* [n_layer, n_expert] */
    int32_t *expert;              /* [n_layer, n_token, top_k] choices */
    float *weight;                /* [n_token_max, top_k] */
    float *row;                   /* [n_token_max, n_embd] what every source sends */
    float *acc;                   /* [n_token_max, n_embd] nobody looks at it */
    shoal__counts *counts;        /* [n_rank] */
} shoal__world;

/* A virtual rank from start to end (shoal_sim_rank_fn); arg is a shoal__world. */
shoal_status shoal__simulate_rank(void *arg, int32_t rank, shoal_transport *transport);

#endif
