#include "experts/placement.h"

#include "experts/placement_rules.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Shares this close to a whole number are meant to be one: 6 * (1/3) is not 2 in binary. */
#define SNAP 1e-9

bool shoal__placement_weights_ok(const double *weight, int32_t n_rank, int32_t *bad_rank)
{
    bool any = false;
    for (int32_t r = 0; r < n_rank; r++) {
        if (!isfinite(weight[r]) || weight[r] < 0) {
            *bad_rank = r;
            return false;
        }
        any = any || weight[r] > 0;
    }
    *bad_rank = -1;
    return any;
}

shoal_status shoal__placement_check_weights(const double *weight, int32_t n_rank, const char *kind,
                                            const char *where, shoal_status status, shoal_log *log)
{
    int32_t bad;
    if (shoal__placement_weights_ok(weight, n_rank, &bad))
        return SHOAL_OK;
    if (bad >= 0)
        return shoal_fail(log, status, "%s: the %s weight of rank %d is %g, wanted a number >= 0",
                          where, kind, (int)bad, weight[bad]);
    return shoal_fail(log, status,
                      "%s: the %s weights of all %d ranks are 0, at least one must be greater",
                      where, kind, (int)n_rank);
}

shoal_status shoal__placement_alloc(shoal_placement *placement, int32_t n_layer, int32_t n_expert,
                                    int32_t n_rank, shoal_log *log)
{
    shoal_placement p = {
        .n_layer = n_layer, .n_expert = n_expert, .n_rank = n_rank, .n_replica = 1};
    size_t n_owner = (size_t)n_layer * (size_t)n_expert;
    p.owner = calloc(n_owner + 1, sizeof *p.owner);
    p.expert_weight = calloc((size_t)n_rank, sizeof *p.expert_weight);
    p.sequence_weight = calloc((size_t)n_rank, sizeof *p.sequence_weight);
    if (p.owner == NULL || p.expert_weight == NULL || p.sequence_weight == NULL) {
        shoal_placement_close(&p);
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "no memory for the placement of %d layers of %d experts over %d ranks",
                          (int)n_layer, (int)n_expert, (int)n_rank);
    }
    *placement = p;
    return SHOAL_OK;
}

/* share [n_rank]: exact numbers of units (experts or groups), summing to n_unit. */
static void exact_shares(double *share, const double *weight, int32_t n_rank, int32_t n_unit)
{
    double max = 0, sum = 0; /* divided by the largest first, so that no sum overflows */
    for (int32_t r = 0; r < n_rank; r++)
        max = weight[r] > max ? weight[r] : max;
    for (int32_t r = 0; r < n_rank; r++)
        sum += weight[r] / max;
    for (int32_t r = 0; r < n_rank; r++) {
        share[r] = n_unit * (weight[r] / max / sum);
        if (fabs(share[r] - nearbyint(share[r])) < SNAP)
            share[r] = nearbyint(share[r]);
    }
}

/* count [n_rank] in experts, if whole groups are in proportion (the rule is in the header). */
static bool whole_group_counts(int32_t *count, const double *weight, int32_t n_rank,
                               int32_t n_group, int32_t n_per_group)
{
    double share[SHOAL_MAX_RANK];
    exact_shares(share, weight, n_rank, n_group);
    int32_t sum = 0;
    for (int32_t r = 0; r < n_rank; r++) {
        double whole = nearbyint(share[r]);
        if (fabs(whole - share[r]) * n_per_group >= 1.0 - SNAP)
            return false;
        count[r] = (int32_t)whole * n_per_group;
        sum += (int32_t)whole;
    }
    return sum == n_group;
}

/* Shares rounded down or up for one layer. owed [n_rank]: what each rank was rounded down by so
 * far, less what it was rounded up by; it carries the rotation from layer to layer. */
static void rounded_counts(int32_t *count, double *owed, const double *share, int32_t n_rank,
                           int32_t n_expert)
{
    int32_t left = n_expert;
    for (int32_t r = 0; r < n_rank; r++) {
        count[r] = (int32_t)floor(share[r]);
        left -= count[r];
        owed[r] += share[r] - count[r];
    }
    bool up[SHOAL_MAX_RANK] = {false};
    for (; left > 0; left--) {
        int32_t best = -1;
        for (int32_t r = 0; r < n_rank; r++)
            if (!up[r] && share[r] > count[r] && (best < 0 || owed[r] > owed[best] + SNAP))
                best = r;
        assert(best >= 0); /* remainders are below 1 and sum to `left` */
        up[best] = true;
        owed[best] -= 1;
    }
    for (int32_t r = 0; r < n_rank; r++)
        count[r] += up[r];
}

static void place(shoal_placement *p, int32_t n_group)
{
    int32_t count[SHOAL_MAX_RANK];
    double share[SHOAL_MAX_RANK], owed[SHOAL_MAX_RANK] = {0};
    exact_shares(share, p->expert_weight, p->n_rank, p->n_expert);
    bool whole_groups = n_group > 1 && whole_group_counts(count, p->expert_weight, p->n_rank,
                                                          n_group, p->n_expert / n_group);
    for (int32_t l = 0; l < p->n_layer; l++) {
        if (!whole_groups)
            rounded_counts(count, owed, share, p->n_rank, p->n_expert);
        int32_t *owner = p->owner + (int64_t)l * p->n_expert;
        for (int32_t r = 0; r < p->n_rank; r++)
            for (int32_t i = 0; i < count[r]; i++)
                *owner++ = r;
    }
}

static shoal_status check_shape(int32_t n_layer, int32_t n_expert, int32_t n_group, int32_t n_rank,
                                shoal_log *log)
{
    if (n_rank < 1 || n_rank > SHOAL_MAX_RANK)
        return shoal_fail(log, SHOAL_USAGE, "placement over %d ranks: wanted 1 to %d", (int)n_rank,
                          SHOAL_MAX_RANK);
    if (n_layer < 0 || n_expert < 1 || n_group < 1 || n_expert % n_group != 0)
        return shoal_fail(log, SHOAL_USAGE,
                          "placement of %d layers of %d experts in %d groups: wanted at least one "
                          "expert, and groups that divide the experts",
                          (int)n_layer, (int)n_expert, (int)n_group);
    return SHOAL_OK;
}

shoal_status shoal_placement_open(shoal_placement *placement, int32_t n_layer, int32_t n_expert,
                                  int32_t n_group, int32_t n_rank, const double *expert_weight,
                                  const double *sequence_weight, shoal_log *log)
{
    SHOAL_TRY(check_shape(n_layer, n_expert, n_group, n_rank, log));
    if (expert_weight != NULL)
        SHOAL_TRY(shoal__placement_check_weights(expert_weight, n_rank, "expert", "placement",
                                                 SHOAL_USAGE, log));
    if (sequence_weight != NULL)
        SHOAL_TRY(shoal__placement_check_weights(sequence_weight, n_rank, "sequence", "placement",
                                                 SHOAL_USAGE, log));
    shoal_placement p;
    SHOAL_TRY(shoal__placement_alloc(&p, n_layer, n_expert, n_rank, log));
    for (int32_t r = 0; r < n_rank; r++) {
        p.expert_weight[r] = expert_weight != NULL ? expert_weight[r] : 1.0;
        p.sequence_weight[r] = sequence_weight != NULL ? sequence_weight[r] : 1.0;
    }
    place(&p, n_group);
    *placement = p;
    return SHOAL_OK;
}

void shoal_placement_close(shoal_placement *placement)
{
    free(placement->owner);
    free(placement->expert_weight);
    free(placement->sequence_weight);
    *placement = (shoal_placement){0};
}

int32_t shoal_placement_owner(const shoal_placement *placement, int32_t layer, int32_t expert)
{
    assert(layer >= 0 && layer < placement->n_layer);
    assert(expert >= 0 && expert < placement->n_expert);
    int64_t i = (int64_t)layer * placement->n_expert + expert;
    return placement->owner[i * placement->n_replica];
}

int32_t shoal_placement_owned(const shoal_placement *placement, int32_t layer, int32_t rank,
                              int32_t *expert)
{
    int32_t n = 0;
    for (int32_t e = 0; e < placement->n_expert; e++) {
        if (shoal_placement_owner(placement, layer, e) != rank)
            continue;
        if (expert != NULL)
            expert[n] = e;
        n++;
    }
    return n;
}
