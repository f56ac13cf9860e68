#include "comm/plan.h"

#include <assert.h>
#include <string.h>

/* Count rows and slots of each destination d into offset[d + 1], then make them offsets. */
static void count_sends(shoal_plan *plan, const int32_t *topk_expert, int32_t n_rank,
                        const int32_t *expert_owner)
{
    int32_t *row_offset = plan->send_row_offset, *slot_offset = plan->send_slot_offset;
    memset(row_offset, 0, ((size_t)n_rank + 1) * sizeof *row_offset);
    memset(slot_offset, 0, ((size_t)n_rank + 1) * sizeof *slot_offset);
    for (int32_t t = 0; t < plan->n_token; t++) {
        int32_t *row_of = plan->row_of + (int64_t)t * n_rank;
        for (int32_t d = 0; d < n_rank; d++)
            row_of[d] = -1;
        for (int32_t j = 0; j < plan->top_k; j++) {
            int32_t d = expert_owner[topk_expert[(int64_t)t * plan->top_k + j]];
            assert(d >= 0 && d < n_rank && plan->is_target[d]);
            slot_offset[d + 1]++;
            if (row_of[d] < 0) {
                row_of[d] = 0; /* its index is known once the offsets are */
                row_offset[d + 1]++;
            }
        }
    }
    for (int32_t d = 0; d < n_rank; d++) {
        row_offset[d + 1] += row_offset[d];
        slot_offset[d + 1] += slot_offset[d];
    }
}

/* offset[d] was advanced to the end of d, which is the beginning of d + 1. */
static void rewind_offsets(int32_t *offset, int32_t n_rank)
{
    for (int32_t d = n_rank; d > 0; d--)
        offset[d] = offset[d - 1];
    offset[0] = 0;
}

/* Tokens in order, so a destination's rows are in token order, and its slots row by row. */
static void fill_sends(shoal_plan *plan, const int32_t *topk_expert, int32_t n_rank,
                       const int32_t *expert_owner, const int32_t *expert_local)
{
    for (int32_t t = 0; t < plan->n_token; t++) {
        int32_t *row_of = plan->row_of + (int64_t)t * n_rank;
        for (int32_t d = 0; d < n_rank; d++) {
            if (row_of[d] < 0)
                continue;
            row_of[d] = plan->send_row_offset[d]++;
            plan->send_row_token[row_of[d]] = t;
            plan->send_row_n_slot[row_of[d]] = 0;
        }
        for (int32_t j = 0; j < plan->top_k; j++) {
            int64_t i = (int64_t)t * plan->top_k + j;
            int32_t expert = topk_expert[i], d = expert_owner[expert];
            int32_t slot = plan->send_slot_offset[d]++;
            plan->send_row_n_slot[row_of[d]]++;
            plan->send_slot_local[slot] = expert_local[expert];
            plan->send_slot_weight[slot] = plan->topk_weight[i];
            plan->slot_of[i] = slot;
        }
    }
    rewind_offsets(plan->send_row_offset, n_rank);
    rewind_offsets(plan->send_slot_offset, n_rank);
}

void shoal_plan_build(shoal_exchange *x, const int32_t *topk_expert, const float *topk_weight,
                      int32_t n_token, const int32_t *expert_owner, const int32_t *expert_local,
                      const bool *is_source, const bool *is_target)
{
    shoal_plan *plan = &x->plan;
    int32_t n_rank = x->config.n_rank;
    assert(n_token >= 0 && n_token <= x->config.n_token_max);
    assert(n_token == 0 || is_source[x->config.rank]);
    for (int32_t r = 0; r < n_rank; r++) {
        assert(!is_source[r] || x->config.may_source[r]);
        assert(!is_target[r] || x->config.n_local_max[r] > 0);
        plan->is_source[r] = is_source[r];
        plan->is_target[r] = is_target[r];
    }
    plan->n_token = n_token;
    plan->topk_weight = topk_weight;
    count_sends(plan, topk_expert, n_rank, expert_owner);
    fill_sends(plan, topk_expert, n_rank, expert_owner, expert_local);
}
