/* From steps to tokens per second, and what a step is bound by. */
#include "launcher/predict/predict.h"

#include "launcher/predict/costs.h"

#include <stdlib.h>
#include <string.h>

const char *shoal_bound_text(shoal_bound bound)
{
    static const char *const text[] = {
        [SHOAL_BOUND_MEMORY] = "memory",   [SHOAL_BOUND_READ] = "read bandwidth",
        [SHOAL_BOUND_COMPUTE] = "compute", [SHOAL_BOUND_LATENCY] = "latency",
        [SHOAL_BOUND_WIRE] = "wire bytes", [SHOAL_BOUND_IMBALANCE] = "imbalance",
        [SHOAL_BOUND_PCIE] = "PCIe bytes", [SHOAL_BOUND_OVERHEAD] = "fixed costs",
    };
    return text[bound];
}

void shoal_predict_sequences(int32_t *n, const shoal_placement *placement, int32_t n_sequence)
{
    const double *weight = placement->sequence_weight;
    memset(n, 0, (size_t)placement->n_rank * sizeof *n);
    for (int32_t i = 0; i < n_sequence; i++) {
        int32_t best = -1;
        for (int32_t r = 0; r < placement->n_rank; r++)
            if (weight[r] > 0 &&
                (best < 0 || (n[r] + 1) / weight[r] < (n[best] + 1) / weight[best]))
                best = r;
        n[best]++;
    }
}

/* Everything of one prediction of speed. Arrays are [n_rank]. */
typedef struct speed_of {
    shoal__costs costs;
    shoal_log *log;
    bool bounds;
    int32_t n_rank, n_sequence;
    int32_t *sequences; /* of each rank */
    int32_t *n_row, *n_chunk, *n_logit;
} speed_of;

static shoal_status step_of(shoal_step_prediction *out, const speed_of *s)
{
    const shoal__step step = {.n_row = s->n_row,
                              .n_chunk = s->n_chunk,
                              .n_logit = s->n_logit,
                              .n_sequence = s->n_sequence};
    return shoal__lockstep(out, &s->costs, &step, s->log);
}

static bool has_gpu(const shoal_cluster *cluster)
{
    for (int32_t r = 0; r < cluster->n_rank; r++)
        if (cluster->rank[r].gpu >= 0)
            return true;
    return false;
}

/* What would be gained by each ideal; the largest gain is the bound. */
static shoal_status find_bound(shoal_step_prediction *step, speed_of *s)
{
    const double all = step->step_us;
    step->gain[SHOAL_BOUND_MEMORY] = 1;
    step->bound = SHOAL_BOUND_OVERHEAD;
    double left = 1, best = 1.02;
    for (shoal_bound b = SHOAL_BOUND_READ; b <= SHOAL_BOUND_IMBALANCE; b++) {
        shoal_step_prediction without;
        step->gain[b] = 1;
        if (b == SHOAL_BOUND_PCIE && !has_gpu(s->costs.run->cluster))
            continue;
        s->costs.ideal = (shoal__ideal){.read = b == SHOAL_BOUND_READ,
                                        .compute = b == SHOAL_BOUND_COMPUTE,
                                        .latency = b == SHOAL_BOUND_LATENCY,
                                        .wire = b == SHOAL_BOUND_WIRE,
                                        .pcie = b == SHOAL_BOUND_PCIE,
                                        .balance = b == SHOAL_BOUND_IMBALANCE};
        SHOAL_TRY(step_of(&without, s));
        step->gain[b] = all / without.step_us;
        left -= 1 - without.step_us / all;
        if (step->gain[b] > best) {
            best = step->gain[b];
            step->bound = b;
        }
    }
    s->costs.ideal = (shoal__ideal){0};
    step->gain[SHOAL_BOUND_OVERHEAD] = left > 0.01 && left < 1 ? 1 / (1 - left) : 1;
    if (left > 0 && step->gain[SHOAL_BOUND_OVERHEAD] > best)
        step->bound = SHOAL_BOUND_OVERHEAD;
    return SHOAL_OK;
}

static shoal_status predict_decode(shoal_speed *speed, speed_of *s)
{
    for (int32_t r = 0; r < s->n_rank; r++)
        s->n_row[r] = s->n_chunk[r] = s->n_logit[r] = s->sequences[r];
    s->costs.position = s->costs.run->n_prompt + s->costs.run->n_gen / 2.0;
    SHOAL_TRY(step_of(&speed->decode, s));
    speed->decode_tok_per_s = s->n_sequence * 1e6 / speed->decode.step_us;
    return s->bounds ? find_bound(&speed->decode, s) : SHOAL_OK;
}

/* Rows of step `index` of a prefill: each rank takes its sequences one behind the other. */
static int64_t prefill_rows(speed_of *s, int64_t index)
{
    const int64_t n_prompt = s->costs.run->n_prompt, chunk = s->costs.run->prefill_chunk;
    int64_t n_token = 0;
    double position = 0;
    for (int32_t r = 0; r < s->n_rank; r++) {
        const int64_t all = s->sequences[r] * n_prompt, first = index * chunk;
        const int64_t end = first + chunk < all ? first + chunk : all;
        const int64_t n = end > first ? end - first : 0;
        s->n_row[r] = (int32_t)n;
        s->n_chunk[r] = n > 0 ? (int32_t)((end - 1) / n_prompt - first / n_prompt + 1) : 0;
        s->n_logit[r] = n > 0 ? (int32_t)(end / n_prompt - first / n_prompt) : 0;
        n_token += n;
        /* Where the rows stand in their sequences, each on its own. */
        for (int64_t at = first; at < end;) {
            const int64_t begin = at % n_prompt;
            const int64_t n_here = n_prompt - begin < end - at ? n_prompt - begin : end - at;
            position += (double)n_here * ((double)begin + (double)(n_here + 1) / 2);
            at += n_here;
        }
    }
    s->costs.position = n_token > 0 ? position / (double)n_token : 0;
    return n_token;
}

/* The steps of a prefill, or of a long one some that lie evenly in it. */
static shoal_status predict_prefill(shoal_speed *speed, speed_of *s)
{
    enum { STEPS_MAX = 6, STEPS_MAX_ROUGHLY = 2 };
    const int64_t n_most = s->bounds ? STEPS_MAX : STEPS_MAX_ROUGHLY;
    const int64_t n_prompt = s->costs.run->n_prompt, chunk = s->costs.run->prefill_chunk;
    int64_t most = 0;
    for (int32_t r = 0; r < s->n_rank; r++)
        most = s->sequences[r] > most ? s->sequences[r] : most;
    const int64_t n_step = (most * n_prompt + chunk - 1) / chunk;
    const int64_t n = n_step < n_most ? n_step : n_most;
    double sum_us = 0;
    for (int64_t i = 0; i < n; i++) {
        shoal_step_prediction step;
        (void)prefill_rows(s, n == n_step ? i : (2 * i + 1) * n_step / (2 * n));
        SHOAL_TRY(step_of(&step, s));
        sum_us += step.step_us;
    }
    speed->prefill_tok_per_s =
        (double)n_prompt * s->n_sequence * 1e6 / (sum_us / (double)n * (double)n_step);
    if (!s->bounds)
        return SHOAL_OK;
    (void)prefill_rows(s, n_step / 2 < n_step - 1 ? n_step / 2 : 0);
    SHOAL_TRY(step_of(&speed->prefill, s));
    return find_bound(&speed->prefill, s);
}

shoal_status shoal_predict_speed(shoal_speed *speed, const shoal_predict_run *run,
                                 const shoal_placement *placement,
                                 const shoal_model_measured *measured, bool bounds, shoal_log *log)
{
    const size_t n_rank = (size_t)placement->n_rank;
    enum { N_WORK = 1000000, N_WORK_ROUGHLY = 200000 };
    speed_of s = {.log = log,
                  .bounds = bounds,
                  .n_rank = placement->n_rank,
                  .n_sequence = run->n_sequence,
                  .costs = shoal__costs_of(run, placement, measured)};
    s.costs.n_work = bounds ? N_WORK : N_WORK_ROUGHLY;
    s.sequences = calloc(4 * n_rank, sizeof *s.sequences);
    if (s.sequences == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %zu ranks", n_rank);
    s.n_row = s.sequences + n_rank;
    s.n_chunk = s.n_row + n_rank;
    s.n_logit = s.n_chunk + n_rank;
    *speed = (shoal_speed){0};
    shoal_predict_sequences(s.sequences, placement, run->n_sequence);
    shoal_status status = predict_decode(speed, &s);
    if (status == SHOAL_OK)
        status = predict_prefill(speed, &s);
    free(s.sequences);
    return status;
}
