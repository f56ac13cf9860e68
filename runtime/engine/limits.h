/* The limits of an engine: every size of its buffers and every bound of its messages, computed on
 * each rank from the same configuration. Layering: engine. */
#ifndef SHOAL_ENGINE_LIMITS_H
#define SHOAL_ENGINE_LIMITS_H

#include "runtime/engine/engine.h"

typedef struct shoal_limits {
    int32_t n_rank;
    const int32_t *n_slot; /* [n_rank] borrowed */
    int32_t n_slot_total;  /* chunks of a step at most */
    int32_t prefill_chunk; /* per rank */
    int32_t score_rows;    /* of SCORES and ROWS chunks, per rank; 0: neither is allowed */
    bool want_rows;
    bool want_routes;    /* results hold the router's choice for every row */
    bool mtp;            /* guesses are made by the MTP layer */
    int32_t n_draft;     /* guesses per sequence and step */
    int32_t n_token_max; /* rows of a rank */
    int32_t n_logit_max; /* rows with logits of a rank */
    int32_t n_context;
    int32_t n_vocab, n_embd, n_moe_layer, n_expert, top_k;
} shoal_limits;

/* Errors: USAGE (a number of the config that makes no sense, or more than memory can hold). */
shoal_status shoal__limits_check(const shoal_engine_config *config, int32_t n_rank, shoal_log *log);

/* The config is checked. n_slot: [n_rank], filled here, kept by limits. */
void shoal__limits_init(shoal_limits *limits, int32_t *n_slot, const shoal_engine_config *config,
                        const shoal_spec *spec);

/* Tokens in one control message at most. */
int32_t shoal__limits_n_control_token(const shoal_limits *limits);

#endif
