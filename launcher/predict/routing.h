/* Where the choices of the router come from when there is no model to ask: a source draws the
 * experts of n tokens of an MoE layer. `uniform` is scores without preference put through the
 * router's own rules, groups included; a recorded trace is another source. From a source and a
 * placement come the expectations that the cost model is made of. Deterministic: a draw depends on
 * nothing but (source, layer, draw). Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ROUTING_H
#define SHOAL_LAUNCHER_ROUTING_H

#include "experts/placement.h"
#include "experts/router.h"

/* Draw number `draw` of the choices of n_token tokens in MoE layer `layer`, distinct ones within a
 * token: expert [n_token, top_k]. Different draws are independent, or other parts of a record. */
typedef struct shoal_routing {
    void *source; /* borrowed */
    void (*draw)(void *source, int32_t *expert, int32_t layer, int64_t draw, int32_t n_token);
    int32_t top_k;
    const char *name; /* "uniform", the file of a record */
} shoal_routing;

/* Scores without preference. Owns its memory: shoal_routing_uniform_close. */
typedef struct shoal_routing_uniform {
    shoal_router_config router;
    const shoal_kernels *kernels;
    float *logits; /* [n_expert] */
    float *weight; /* [top_k] */
} shoal_routing_uniform;

shoal_status shoal_routing_uniform_open(shoal_routing_uniform *uniform,
                                        const shoal_router_config *router, shoal_log *log);
void shoal_routing_uniform_close(shoal_routing_uniform *uniform); /* accepts zeroed */
shoal_routing shoal_routing_of_uniform(shoal_routing_uniform *uniform);

/* Expectations over draws of a step, in which rank r has n_token[r] rows, averaged over the MoE
 * layers of a placement. Arrays are [n_rank] and owned by the caller. */
typedef struct shoal_routing_load {
    double *active;     /* experts of the rank that any row has chosen */
    double *slots;      /* (row, expert) pairs that the rank computes */
    double *row_pairs;  /* [n_rank, n_rank] rows that go from one rank to another; diagonal: own */
    double *slot_pairs; /* [n_rank, n_rank] slots of these rows */
    double *active_pairs; /* [n_rank, n_rank] chance that any row goes from one to another */
    double max_active;    /* of the fullest rank */
    double max_slots;
} shoal_routing_load;

/* n_draw draws, spread over the layers. Errors: NO_MEMORY. */
shoal_status shoal_routing_expect(shoal_routing_load *load, const shoal_routing *routing,
                                  const shoal_placement *placement, const int32_t *n_token,
                                  int32_t n_draw, shoal_log *log);

#endif
