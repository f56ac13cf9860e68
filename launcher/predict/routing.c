#include "launcher/predict/routing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64: a draw is a function of its numbers alone. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Normally distributed, nearly: the sum of twelve uniform numbers less 6. */
static float normal(uint64_t *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        *state = mix(*state);
        sum += (double)(*state >> 11) * 0x1p-53;
    }
    return (float)sum;
}

/* Logits of one token [n_expert]. */
static void draw_logits(float *logits, const shoal_router_config *router, uint64_t *state)
{
    enum { FAR_BELOW = 40 };
    const int32_t n_per_group = router->n_expert / router->n_group;
    int32_t n_keep = router->topk_group;
    for (int32_t e = 0; e < router->n_expert; e++)
        logits[e] = normal(state);
    for (int32_t g = 0; g < router->n_group && router->n_group > 1; g++) {
        *state = mix(*state);
        if (*state % (uint64_t)(router->n_group - g) < (uint64_t)n_keep) {
            n_keep--;
            continue;
        }
        for (int32_t i = 0; i < n_per_group; i++)
            logits[g * n_per_group + i] -= FAR_BELOW;
    }
}

shoal_status shoal_routing_uniform_open(shoal_routing_uniform *uniform,
                                        const shoal_router_config *router, shoal_log *log)
{
    const size_t n_expert = (size_t)router->n_expert, top_k = (size_t)router->top_k;
    const shoal_kernels *kernels;
    SHOAL_TRY(shoal_kernels_select(&kernels, "reference", log));
    int32_t *expert = malloc(SHOAL_ROUTING_TOKENS * top_k * sizeof *expert);
    float *logits = malloc(n_expert * sizeof *logits), *weight = malloc(top_k * sizeof *weight);
    if (expert == NULL || logits == NULL || weight == NULL) {
        free(expert);
        free(logits);
        free(weight);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the choices of %d experts",
                          (int)router->n_expert);
    }
    uint64_t state = 1;
    for (size_t t = 0; t < SHOAL_ROUTING_TOKENS; t++) {
        draw_logits(logits, router, &state);
        shoal_route(expert + t * top_k, weight, router, kernels, logits, NULL, 1);
    }
    free(logits);
    free(weight);
    *uniform = (shoal_routing_uniform){.top_k = router->top_k, .expert = expert};
    return SHOAL_OK;
}

void shoal_routing_uniform_close(shoal_routing_uniform *uniform)
{
    free(uniform->expert);
    *uniform = (shoal_routing_uniform){0};
}

static void draw_uniform(void *source, int32_t *expert, int32_t layer, int64_t draw,
                         int32_t n_token)
{
    const shoal_routing_uniform *u = source;
    const size_t top_k = (size_t)u->top_k;
    const uint64_t seed = mix((uint64_t)draw) ^ mix(~(uint64_t)layer);
    for (size_t t = 0; t < (size_t)n_token; t++) {
        const size_t from = mix(seed + t) % SHOAL_ROUTING_TOKENS;
        memcpy(expert + t * top_k, u->expert + from * top_k, top_k * sizeof *expert);
    }
}

shoal_routing shoal_routing_of_uniform(shoal_routing_uniform *uniform)
{
    return (shoal_routing){
        .source = uniform, .draw = draw_uniform, .top_k = uniform->top_k, .name = "uniform"};
}

shoal_status shoal_routing_step_open(shoal_routing_step *step, const shoal_placement *placement,
                                     shoal_log *log)
{
    const size_t n_rank = (size_t)placement->n_rank;
    shoal_routing_step s = {.n_rank = placement->n_rank};
    s.rows = calloc(n_rank * n_rank, sizeof *s.rows);
    s.slots = calloc(n_rank * n_rank, sizeof *s.slots);
    s.chosen = calloc((size_t)placement->n_expert, sizeof *s.chosen);
    if (s.rows == NULL || s.slots == NULL || s.chosen == NULL) {
        shoal_routing_step_close(&s);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a step of %zu ranks", n_rank);
    }
    *step = s;
    return SHOAL_OK;
}

void shoal_routing_step_close(shoal_routing_step *step)
{
    free(step->rows);
    free(step->slots);
    free(step->chosen);
    *step = (shoal_routing_step){0};
}

void shoal_routing_step_fill(shoal_routing_step *step, const shoal_placement *placement,
                             int32_t layer, const int32_t *expert, int32_t top_k,
                             const int32_t *n_token)
{
    const size_t n_rank = (size_t)step->n_rank;
    memset(step->rows, 0, n_rank * n_rank * sizeof *step->rows);
    memset(step->slots, 0, n_rank * n_rank * sizeof *step->slots);
    memset(step->chosen, 0, (size_t)placement->n_expert * sizeof *step->chosen);
    for (size_t s = 0; s < n_rank; s++) {
        for (int32_t t = 0; t < n_token[s]; t++, expert += top_k) {
            int32_t owner[SHOAL_MAX_TOP_K];
            for (int32_t j = 0; j < top_k; j++) {
                owner[j] = shoal_placement_owner(placement, layer, expert[j]);
                step->chosen[expert[j]]++;
                step->slots[s * n_rank + (size_t)owner[j]]++;
                bool first = true;
                for (int32_t i = 0; i < j; i++)
                    first = first && owner[i] != owner[j];
                if (first)
                    step->rows[s * n_rank + (size_t)owner[j]]++;
            }
        }
    }
}

/* What the means add up from one step. */
static void add_step(shoal_routing_means *means, const shoal_routing_step *step,
                     const shoal_placement *placement, int32_t layer)
{
    int32_t active[SHOAL_MAX_RANK] = {0}, slots[SHOAL_MAX_RANK] = {0};
    const size_t n_rank = (size_t)step->n_rank;
    for (int32_t e = 0; e < placement->n_expert; e++) {
        const int32_t owner = shoal_placement_owner(placement, layer, e);
        active[owner] += step->chosen[e] > 0;
        slots[owner] += step->chosen[e];
    }
    int32_t max_active = 0, max_slots = 0;
    for (size_t r = 0; r < n_rank; r++) {
        max_active = active[r] > max_active ? active[r] : max_active;
        max_slots = slots[r] > max_slots ? slots[r] : max_slots;
        means->mean_active += (double)active[r] / (double)n_rank;
        means->mean_slots += (double)slots[r] / (double)n_rank;
        for (size_t d = 0; d < n_rank; d++)
            means->remote_rows += d != r ? step->rows[r * n_rank + d] : 0;
    }
    means->max_active += max_active;
    means->max_slots += max_slots;
}

shoal_status shoal_routing_expect(shoal_routing_means *means, const shoal_routing *routing,
                                  const shoal_placement *placement, const int32_t *n_token,
                                  int32_t n_draw, shoal_log *log)
{
    int64_t n = 0;
    for (int32_t r = 0; r < placement->n_rank; r++)
        n += n_token[r];
    shoal_routing_step step;
    SHOAL_TRY(shoal_routing_step_open(&step, placement, log));
    int32_t *expert = malloc(((size_t)n * (size_t)routing->top_k + 1) * sizeof *expert);
    if (expert == NULL) {
        shoal_routing_step_close(&step);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the choices of %lld tokens",
                          (long long)n);
    }
    shoal_routing_means sum = {0};
    for (int32_t i = 0; i < n_draw; i++) {
        const int32_t layer = (int32_t)((int64_t)i * placement->n_layer / n_draw);
        routing->draw(routing->source, expert, layer, i, (int32_t)n);
        shoal_routing_step_fill(&step, placement, layer, expert, routing->top_k, n_token);
        add_step(&sum, &step, placement, layer);
    }
    free(expert);
    shoal_routing_step_close(&step);
    *means = (shoal_routing_means){.max_active = sum.max_active / n_draw,
                                   .mean_active = sum.mean_active / n_draw,
                                   .max_slots = sum.max_slots / n_draw,
                                   .mean_slots = sum.mean_slots / n_draw,
                                   .remote_rows = n > 0 ? sum.remote_rows / n_draw / (double)n : 0};
    return SHOAL_OK;
}
