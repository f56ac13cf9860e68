/* Where the choices of the router come from when there is no model to ask: a source draws the
 * experts of n tokens of an MoE layer. `uniform` is scores without preference put through the
 * router's own rules, groups included; a recorded trace is another source. From a source and a
 * placement come the expectations that the cost model is made of. Deterministic: a draw depends on
 * nothing but (source, layer, draw). Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ROUTING_H
#define SHOAL_LAUNCHER_ROUTING_H

#include "experts/placement.h"
#include "runtime/kernels/route.h"

/* Draw number `draw` of the choices of n_token tokens in MoE layer `layer`, distinct ones within a
 * token: expert [n_token, top_k]. Different draws are independent, or other parts of a record. */
typedef struct shoal_routing {
    void *source; /* borrowed */
    void (*draw)(void *source, int32_t *expert, int32_t layer, int64_t draw, int32_t n_token);
    /* The same for tokens of prompts, which are more alike where a record says so; NULL: draw. */
    void (*draw_prompt)(void *source, int32_t *expert, int32_t layer, int64_t draw,
                        int32_t n_token);
    int32_t top_k;
    const char *name; /* "uniform", the file of a record */
} shoal_routing;

/* Without preference: SHOAL_ROUTING_TOKENS tokens with normally distributed logits go through
 * shoal_route once; a draw takes tokens of these at random. Where there are groups those that are
 * kept are drawn first, and the others' logits lie far below: independent scores alone would favour
 * groups with two high ones, which spreads a token more evenly than groups that mean something. */
#define SHOAL_ROUTING_TOKENS 4096

typedef struct shoal_routing_uniform {
    int32_t top_k;
    int32_t *expert; /* [SHOAL_ROUTING_TOKENS, top_k] */
} shoal_routing_uniform;

/* Errors: NO_MEMORY. Owns its memory: shoal_routing_uniform_close. */
shoal_status shoal_routing_uniform_open(shoal_routing_uniform *uniform,
                                        const shoal_router_config *router, shoal_log *log);
void shoal_routing_uniform_close(shoal_routing_uniform *uniform); /* accepts zeroed */
shoal_routing shoal_routing_of_uniform(shoal_routing_uniform *uniform);

/* One layer step under a placement: who sends how much to whom. Arrays are the caller's. */
typedef struct shoal_routing_step {
    int32_t n_rank;
    int32_t *rows;   /* [n_rank, n_rank] rows from a source to a rank, own ones included */
    int32_t *slots;  /* [n_rank, n_rank] (row, expert) pairs of these */
    int32_t *chosen; /* [n_expert] slots of each expert */
} shoal_routing_step;

shoal_status shoal_routing_step_open(shoal_routing_step *step, const shoal_placement *placement,
                                     shoal_log *log);
void shoal_routing_step_close(shoal_routing_step *step); /* accepts zeroed */

/* Fill the step from the choices expert [sum of n_token, top_k] of the tokens of rank 0, 1, ...
 * n_token: [n_rank]. */
void shoal_routing_step_fill(shoal_routing_step *step, const shoal_placement *placement,
                             int32_t layer, const int32_t *expert, int32_t top_k,
                             const int32_t *n_token);

/* Means over n_draw layer steps, spread over the layers of the placement, in which rank r has
 * n_token[r] tokens: what balance is judged by. */
typedef struct shoal_routing_means {
    double max_active;  /* experts that any token chose, on the rank that has most of them */
    double mean_active; /* on the average rank */
    double max_slots;   /* (row, expert) pairs of the rank that has most */
    double mean_slots;
    double remote_rows; /* per token: ranks but its own that it goes to */
} shoal_routing_means;

shoal_status shoal_routing_expect(shoal_routing_means *means, const shoal_routing *routing,
                                  const shoal_placement *placement, const int32_t *n_token,
                                  int32_t n_draw, shoal_log *log);

#endif
