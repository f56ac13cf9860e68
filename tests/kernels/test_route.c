/* The router against a slow oracle in double precision that sorts everything. */
#include "runtime/kernels/route.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

#define MAX_E 256
#define MAX_T 64

static uint64_t state_ = 1;

static double uniform(void) /* [0, 1) */
{
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state_ >> 11) / 9007199254740992.0;
}

static const shoal_kernels *reference(void)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "test");
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "reference", &log), SHOAL_OK);
    return kernels;
}

/* Families as their reference implementations have them. */
static shoal_router_config v3(int32_t n_expert, int32_t top_k, int32_t n_group, int32_t topk_group)
{
    return (shoal_router_config){n_expert,  top_k,      SHOAL_ROUTER_SIGMOID,
                                 n_group,   topk_group, SHOAL_GROUP_TOP2_SUM,
                                 -INFINITY, true,       2.5f};
}

static shoal_router_config v2(int32_t n_expert, int32_t top_k, int32_t n_group, int32_t topk_group)
{
    return (shoal_router_config){n_expert, top_k,      SHOAL_ROUTER_SOFTMAX,
                                 n_group,  topk_group, SHOAL_GROUP_MAX,
                                 0.0f,     false,      16.0f};
}

static shoal_router_config qwen3(int32_t n_expert, int32_t top_k)
{
    return (shoal_router_config){
        n_expert, top_k, SHOAL_ROUTER_SOFTMAX, 1, 1, SHOAL_GROUP_MAX, -INFINITY, true, 1.0f};
}

static shoal_router_config gpt_oss(int32_t n_expert, int32_t top_k)
{
    return (shoal_router_config){n_expert,  top_k, SHOAL_ROUTER_SOFTMAX_OF_TOPK,
                                 1,         1,     SHOAL_GROUP_MAX,
                                 -INFINITY, false, 1.0f};
}

typedef struct scored {
    double score;
    int32_t index;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->index - y->index;
}

static void softmax(double *x, int32_t n)
{
    double max = x[0], sum = 0;
    for (int32_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int32_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - max);
    for (int32_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* gap: set to the smallest difference between neighbours that mattered and were not equal. */
static void rank_all(scored *s, int32_t n, int32_t k, double *gap)
{
    qsort(s, (size_t)n, sizeof *s, by_score);
    for (int32_t i = 0; i < k && i + 1 < n; i++) {
        double d = s[i].score - s[i + 1].score;
        if (d > 0 && d < *gap)
            *gap = d;
    }
}

static double oracle(int32_t *expert, double *weight, const shoal_router_config *c,
                     const float *logit, const float *bias)
{
    double s[MAX_E], gap = INFINITY;
    scored choice[MAX_E], group[MAX_E];
    for (int32_t e = 0; e < c->n_expert; e++)
        s[e] = c->score == SHOAL_ROUTER_SIGMOID ? 1 / (1 + exp(-(double)logit[e])) : logit[e];
    if (c->score == SHOAL_ROUTER_SOFTMAX)
        softmax(s, c->n_expert);
    for (int32_t e = 0; e < c->n_expert; e++)
        choice[e] = (scored){s[e] + (bias != NULL ? bias[e] : 0.0), e};
    if (c->n_group > 1) {
        int32_t size = c->n_expert / c->n_group;
        for (int32_t g = 0; g < c->n_group; g++) {
            scored member[MAX_E];
            memcpy(member, choice + g * size, (size_t)size * sizeof *member);
            qsort(member, (size_t)size, sizeof *member, by_score);
            group[g] = (scored){member[0].score, g};
            if (c->group_score == SHOAL_GROUP_TOP2_SUM && size > 1)
                group[g].score += member[1].score;
        }
        rank_all(group, c->n_group, c->topk_group, &gap);
        for (int32_t i = c->topk_group; i < c->n_group; i++)
            for (int32_t j = 0; j < size; j++)
                choice[group[i].index * size + j].score = (double)c->masked_score;
    }
    rank_all(choice, c->n_expert, c->top_k, &gap);
    double sum = 0;
    for (int32_t j = 0; j < c->top_k; j++) {
        expert[j] = choice[j].index;
        weight[j] = s[expert[j]];
    }
    if (c->score == SHOAL_ROUTER_SOFTMAX_OF_TOPK)
        softmax(weight, c->top_k);
    for (int32_t j = 0; j < c->top_k; j++)
        sum += weight[j];
    for (int32_t j = 0; j < c->top_k; j++)
        weight[j] = (c->normalize ? weight[j] / (sum + 1e-20) : weight[j]) * (double)c->scale;
    return gap;
}

/* levels > 0: logits from that many values, so that ties abound. Returns tokens compared. */
static int32_t compare(const shoal_router_config *c, int32_t n_token, int32_t levels, bool biased)
{
    static float logit[MAX_T * MAX_E], used[MAX_T * MAX_E], bias[MAX_E];
    static int32_t expert[MAX_T * SHOAL_MAX_TOP_K];
    static float weight[MAX_T * SHOAL_MAX_TOP_K];
    for (int32_t i = 0; i < n_token * c->n_expert; i++)
        logit[i] = levels > 0 ? (float)(int)(uniform() * levels) : (float)(uniform() * 6 - 3);
    for (int32_t e = 0; e < c->n_expert; e++)
        bias[e] = (float)(uniform() * 2 - 1.2);
    memcpy(used, logit, sizeof logit);
    shoal_route(expert, weight, c, reference(), used, biased ? bias : NULL, n_token);
    int32_t n_compared = 0;
    for (int32_t t = 0; t < n_token; t++) {
        int32_t want[SHOAL_MAX_TOP_K];
        double want_weight[SHOAL_MAX_TOP_K];
        if (oracle(want, want_weight, c, logit + t * c->n_expert, biased ? bias : NULL) < 1e-6)
            continue; /* too close for f32 to tell */
        n_compared++;
        for (int32_t j = 0; j < c->top_k; j++) {
            ck_assert_int_eq(expert[t * c->top_k + j], want[j]);
            ck_assert_double_eq_tol(weight[t * c->top_k + j], want_weight[j],
                                    2e-6 * fabs(want_weight[j]) + 1e-9);
        }
    }
    return n_compared;
}

START_TEST(test_families_against_oracle)
{
    shoal_router_config config[] = {
        v3(256, 8, 8, 4), v3(16, 4, 4, 2),  v3(8, 2, 1, 1),  v3(4, 4, 4, 4),
        v3(12, 3, 12, 6), v2(160, 6, 8, 3), v2(64, 6, 1, 1), v2(16, 4, 4, 2),
        qwen3(128, 8),    qwen3(5, 5),      gpt_oss(32, 4),  qwen3(1, 1),
    };
    for (size_t i = 0; i < sizeof config / sizeof config[0]; i++) {
        for (int biased = 0; biased < 2; biased++) {
            int32_t n = 0;
            for (int repeat = 0; repeat < 4; repeat++)
                n += compare(&config[i], MAX_T, 0, biased != 0);
            ck_assert_msg(n > 3 * MAX_T, "config %zu: only %d of %d tokens told apart", i, (int)n,
                          4 * MAX_T);
        }
    }
}
END_TEST

START_TEST(test_ties_go_to_the_lower_index)
{
    shoal_router_config config[] = {v3(256, 8, 8, 4), v3(16, 4, 4, 2), v2(160, 6, 8, 3),
                                    qwen3(128, 8), gpt_oss(32, 4)};
    for (size_t i = 0; i < sizeof config / sizeof config[0]; i++)
        for (int32_t levels = 1; levels <= 3; levels++)
            ck_assert_int_eq(compare(&config[i], MAX_T, levels, false), MAX_T);
}
END_TEST

/* The difference between -inf and 0 for other groups' experts: with negative biased scores, 0 would
 * let masked experts win. */
START_TEST(test_masked_groups_cannot_win_in_v3)
{
    float logit[4] = {0, 0, -1, -1}, bias[4] = {-2, -2, -3, -3}, used[4];
    int32_t expert[2];
    float weight[2];
    shoal_router_config c = v3(4, 2, 2, 1);
    memcpy(used, logit, sizeof logit);
    shoal_route(expert, weight, &c, reference(), used, bias, 1);
    ck_assert_int_eq(expert[0], 0);
    ck_assert_int_eq(expert[1], 1);
    ck_assert_float_eq(weight[0], 1.25f); /* unbiased, normalised, scaled */

    c.masked_score = 0.0f;
    memcpy(used, logit, sizeof logit);
    shoal_route(expert, weight, &c, reference(), used, bias, 1);
    ck_assert_int_eq(expert[0], 2);
    ck_assert_int_eq(expert[1], 3);
}
END_TEST

START_TEST(test_bad_logits_still_give_distinct_experts)
{
    shoal_router_config config[] = {v3(16, 4, 4, 2), v2(16, 4, 4, 2), qwen3(16, 4), gpt_oss(16, 4),
                                    v3(16, 4, 16, 2)};
    float bad[] = {NAN, -INFINITY, INFINITY};
    for (size_t i = 0; i < sizeof config / sizeof config[0]; i++) {
        for (size_t b = 0; b < 3; b++) {
            for (int32_t n_bad = 1; n_bad <= 16; n_bad += 5) {
                float logit[16] = {0}, weight[4];
                int32_t expert[4];
                for (int32_t e = 0; e < n_bad; e++)
                    logit[e] = bad[b];
                shoal_route(expert, weight, &config[i], reference(), logit, NULL, 1);
                for (int32_t j = 0; j < 4; j++) {
                    ck_assert(expert[j] >= 0 && expert[j] < 16);
                    for (int32_t k = 0; k < j; k++)
                        ck_assert_int_ne(expert[j], expert[k]);
                }
            }
        }
    }
}
END_TEST

START_TEST(test_token_does_not_depend_on_its_batch)
{
    static float logit[MAX_T * 64], used[MAX_T * 64], weight[MAX_T * 6];
    static int32_t expert[MAX_T * 6];
    shoal_router_config c = v3(64, 6, 8, 3);
    for (int32_t i = 0; i < MAX_T * 64; i++)
        logit[i] = (float)(uniform() * 6 - 3);
    memcpy(used, logit, sizeof logit);
    shoal_route(expert, weight, &c, reference(), used, NULL, MAX_T);
    for (int32_t t = 0; t < MAX_T; t++) {
        float one[64], one_weight[6];
        int32_t one_expert[6];
        memcpy(one, logit + t * 64, sizeof one);
        shoal_route(one_expert, one_weight, &c, reference(), one, NULL, 1);
        ck_assert_mem_eq(one_expert, expert + t * 6, sizeof one_expert);
        ck_assert_mem_eq(one_weight, weight + t * 6, sizeof one_weight);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_families_against_oracle);
    SHOAL_TEST(suite, test_ties_go_to_the_lower_index);
    SHOAL_TEST(suite, test_masked_groups_cannot_win_in_v3);
    SHOAL_TEST(suite, test_bad_logits_still_give_distinct_experts);
    SHOAL_TEST(suite, test_token_does_not_depend_on_its_batch);
}

SHOAL_TEST_MAIN("experts.router", add_tests)
