/* The formulas are those of reference implementations (docs/ARCHITECTURE.md, "Router"). A token is
 * done at a time; the order of every sum is written out, as the weights must be the same bits on
 * every rank (rule 1). */
#include "runtime/kernels/route.h"

#include <assert.h>
#include <math.h>

/* The largest of score [n] (ties: the lower index), skipping what is in taken [n_taken]. NaN counts
 * as -infinity: a broken token must still give valid, distinct indices. Needs n_taken < n. */
static int32_t largest(const float *score, int32_t n, const bool *taken)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        if (taken[i])
            continue;
        if (best < 0 || score[i] > score[best] || (isnan(score[best]) && score[i] > -INFINITY))
            best = i;
    }
    return best;
}

/* choice [k]: the k largest of score [n], largest first. taken [n] is scratch. */
static void top_k(int32_t *choice, int32_t k, const float *score, int32_t n, bool *taken)
{
    for (int32_t i = 0; i < n; i++)
        taken[i] = false;
    for (int32_t j = 0; j < k; j++) {
        choice[j] = largest(score, n, taken);
        taken[choice[j]] = true;
    }
}

static float group_score_of(const float *score, int32_t n, shoal_group_score kind)
{
    float first = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (score[i] > first) {
            second = first;
            first = score[i];
        } else if (score[i] > second) {
            second = score[i];
        }
    }
    return kind == SHOAL_GROUP_MAX || n == 1 ? first : first + second;
}

/* Overwrites the scores of all groups but the best topk_group with masked_score. */
static void mask_groups(float *score, const shoal_router_config *config, bool *taken)
{
    int32_t n_per_group = config->n_expert / config->n_group;
    float group[SHOAL_MAX_EXPERT];
    int32_t kept[SHOAL_MAX_EXPERT];
    for (int32_t g = 0; g < config->n_group; g++)
        group[g] =
            group_score_of(score + (int64_t)g * n_per_group, n_per_group, config->group_score);
    top_k(kept, config->topk_group, group, config->n_group, taken);
    for (int32_t g = 0; g < config->n_group; g++) {
        if (taken[g])
            continue;
        for (int32_t i = 0; i < n_per_group; i++)
            score[g * n_per_group + i] = config->masked_score;
    }
}

/* value: [n_expert] unbiased scores, or logits for SOFTMAX_OF_TOPK. */
static void route_token(int32_t *expert, float *weight, const shoal_router_config *config,
                        const shoal_kernels *kernels, const float *value, const float *select_bias)
{
    float select[SHOAL_MAX_EXPERT];
    bool taken[SHOAL_MAX_EXPERT];
    for (int32_t e = 0; e < config->n_expert; e++)
        select[e] = select_bias != NULL ? value[e] + select_bias[e] : value[e];
    if (config->n_group > 1)
        mask_groups(select, config, taken);
    top_k(expert, config->top_k, select, config->n_expert, taken);

    for (int32_t j = 0; j < config->top_k; j++)
        weight[j] = value[expert[j]];
    if (config->score == SHOAL_ROUTER_SOFTMAX_OF_TOPK)
        kernels->softmax(weight, config->top_k);
    if (config->normalize) {
        float sum = 0.0f;
        for (int32_t j = 0; j < config->top_k; j++)
            sum += weight[j];
        sum += 1e-20f;
        for (int32_t j = 0; j < config->top_k; j++)
            weight[j] /= sum;
    }
    for (int32_t j = 0; j < config->top_k; j++)
        weight[j] *= config->scale;
}

void shoal_route(int32_t *expert, float *weight, const shoal_router_config *config,
                 const shoal_kernels *kernels, float *logits, const float *select_bias,
                 int32_t n_token)
{
    assert(config->n_expert >= 1 && config->n_expert <= SHOAL_MAX_EXPERT);
    assert(config->top_k >= 1 && config->top_k <= config->n_expert &&
           config->top_k <= SHOAL_MAX_TOP_K);
    assert(config->n_group >= 1 && config->n_expert % config->n_group == 0);
    assert(config->n_group == 1 ||
           (config->topk_group >= 1 && config->topk_group <= config->n_group));

    for (int32_t t = 0; t < n_token; t++) {
        float *row = logits + (int64_t)t * config->n_expert;
        if (config->score == SHOAL_ROUTER_SIGMOID)
            kernels->sigmoid(row, config->n_expert);
        else if (config->score == SHOAL_ROUTER_SOFTMAX)
            kernels->softmax(row, config->n_expert);
        route_token(expert + (int64_t)t * config->top_k, weight + (int64_t)t * config->top_k,
                    config, kernels, row, select_bias);
    }
}
