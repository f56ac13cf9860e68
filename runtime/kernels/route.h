/* The router's choice: from logits to the k experts of each token and their weights. One function
 * for every family; the family's rules are data (shoal_router_config). Deterministic: ties go to
 * the lower expert index. Formulas: docs/ARCHITECTURE.md, "Router". Layering: kernels know base
 * only.
 */
#ifndef SHOAL_KERNELS_ROUTE_H
#define SHOAL_KERNELS_ROUTE_H

#include "runtime/kernels/kernels.h"

#define SHOAL_MAX_TOP_K  64
#define SHOAL_MAX_EXPERT 4096

typedef enum shoal_router_score {
    SHOAL_ROUTER_SIGMOID,         /* s = sigmoid(logit) */
    SHOAL_ROUTER_SOFTMAX,         /* s = softmax over all experts */
    SHOAL_ROUTER_SOFTMAX_OF_TOPK, /* choose by logit, then softmax over the chosen */
} shoal_router_score;

typedef enum shoal_group_score {
    SHOAL_GROUP_TOP2_SUM, /* deepseek_v3: sum of the two largest s + bias */
    SHOAL_GROUP_MAX,      /* deepseek_v2: the largest s */
} shoal_group_score;

typedef struct shoal_router_config {
    int32_t n_expert;
    int32_t top_k;
    shoal_router_score score;
    int32_t n_group;    /* 1: no group limit; divides n_expert */
    int32_t topk_group; /* groups kept */
    shoal_group_score group_score;
    float masked_score; /* what experts of other groups get: -INFINITY (v3) or 0 (v2) */
    bool normalize;     /* w /= sum w + 1e-20 */
    float scale;        /* w *= scale */
} shoal_router_config;

/* logits: [n_token, n_expert], overwritten. select_bias: [n_expert] added for selection only, or
 * NULL. Out: expert [n_token, top_k] in the order chosen (largest selection score first), weight
 * [n_token, top_k]. */
void shoal_route(int32_t *expert, float *weight, const shoal_router_config *config,
                 const shoal_kernels *kernels, float *logits, const float *select_bias,
                 int32_t n_token);

#endif
