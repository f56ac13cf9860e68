#include "launcher/plan/plan.h"

#include "launcher/cluster/cluster_file.h"
#include "launcher/cluster/cluster_probe.h"

#include <stdlib.h>
#include <string.h>

enum { EACH_COUNT_MAX = 16 };

shoal_status shoal__plan_ranks(int32_t **ranks, int32_t *n, const shoal__plan *plan)
{
    const int32_t n_rank = plan->cluster.n_rank;
    char text[64] = "";
    if (plan->options->ranks != NULL) {
        SHOAL_TRY(shoal_options_ranks(ranks, n, plan->options->ranks, plan->log));
        for (int32_t i = 0; i < *n; i++) {
            if ((*ranks)[i] <= n_rank && (i == 0 || (*ranks)[i] > (*ranks)[i - 1]))
                continue;
            return shoal_fail(
                plan->log, SHOAL_USAGE,
                "--ranks: found %d, wanted ascending numbers up to the %d ranks of %s",
                (int)(*ranks)[i], (int)n_rank, plan->cluster.name);
        }
        return SHOAL_OK;
    }
    if (n_rank <= EACH_COUNT_MAX) {
        snprintf(text, sizeof text, "1..%d", (int)n_rank);
    } else {
        size_t at = 0;
        for (int32_t r = 1; r < n_rank; r *= 2)
            at += (size_t)snprintf(text + at, sizeof text - at, "%d,", (int)r);
        snprintf(text + at, sizeof text - at, "%d", (int)n_rank);
    }
    return shoal_options_ranks(ranks, n, text, plan->log);
}

static shoal_status read_cluster(shoal__plan *plan)
{
    const shoal_options *o = plan->options;
    if ((o->cluster == NULL) == (o->probe == NULL))
        return shoal_fail(
            plan->log, SHOAL_USAGE,
            "plan needs one of --cluster F (a YAML file, as in configs/) and --probe F "
            "(what shoal probe --output wrote)");
    if (o->cluster != NULL)
        SHOAL_TRY(shoal_cluster_read_file(&plan->cluster, o->cluster, plan->log));
    else
        SHOAL_TRY(shoal_cluster_read_probe(&plan->cluster, o->probe, plan->log));
    plan->cluster.n_shared_core = o->shared_cores;
    for (int32_t r = 0; r < plan->cluster.n_rank; r++)
        plan->has_gpu = plan->has_gpu || plan->cluster.rank[r].gpu >= 0;
    return SHOAL_OK;
}

/* What is to be predicted, but for the cluster. */
static shoal_status describe_run(shoal__plan *plan)
{
    const shoal_options *o = plan->options;
    const int32_t n_max = plan->spec.n_context_max;
    int32_t *prompts, n_prompts, most = 0;
    SHOAL_TRY(shoal_options_counts(&prompts, &n_prompts, o->prompt_tokens, "prompt-tokens",
                                   SHOAL_ENGINE_ROWS_MAX, plan->log));
    const int32_t n_prompt = prompts[0];
    free(prompts);
    if (n_prompts != 1)
        return shoal_fail(plan->log, SHOAL_USAGE, "--prompt-tokens: found '%s', wanted one number",
                          o->prompt_tokens);
    SHOAL_TRY(shoal_options_counts(&plan->sequences, &plan->n_sequences, o->sequences, "sequences",
                                   SHOAL_ENGINE_ROWS_MAX, plan->log));
    for (int32_t i = 0; i < plan->n_sequences; i++)
        most = plan->sequences[i] > most ? plan->sequences[i] : most;
    const int64_t needed = (int64_t)n_prompt + o->gen_tokens;
    const int64_t n_context = o->n_context > 0 ? o->n_context : needed;
    if (n_context < needed || n_context > n_max)
        return shoal_fail(
            plan->log, SHOAL_USAGE,
            "%d prompt and %d generated tokens in a context of %lld: %s has at most %d "
            "positions",
            (int)n_prompt, (int)o->gen_tokens, (long long)n_context, o->model, (int)n_max);
    const bool f32 = o->kv == SHOAL_KV_CHOICE_F32 ||
                     (o->kv == SHOAL_KV_CHOICE_AUTO && o->math == SHOAL_MATH_F32);
    plan->run = (shoal_predict_run){
        .spec = &plan->spec,
        .checkpoint = plan->checkpoint,
        .fast = o->math == SHOAL_MATH_FAST,
        .weights = (shoal_weights_choice)o->weights,
        .combine = (shoal_combine_kind)o->combine,
        .kv_dtype = f32 ? SHOAL_KV_F32 : SHOAL_KV_BF16,
        .n_context = (int32_t)n_context,
        .n_sequence = most,
        .prefill_chunk = o->prefill_chunk,
        .overlap_rows = o->overlap == SHOAL_OVERLAP_OFF ? 0 : SHOAL_OVERLAP_ROWS,
        .n_prompt = n_prompt,
        .n_gen = o->gen_tokens,
        .routing = &plan->routing,
    };
    return SHOAL_OK;
}

shoal_status shoal__plan_place(shoal_placement *placement, const shoal__plan *plan,
                               const shoal_cluster *cluster, const char *choice)
{
    const shoal_spec *s = &plan->spec;
    const int32_t n_rank = cluster->n_rank;
    const bool weighted = strcmp(choice, "weighted") == 0;
    double expert_weight[SHOAL_MAX_RANK], sequence_weight[SHOAL_MAX_RANK];
    if (!weighted && strcmp(choice, "uniform") != 0)
        return shoal_placement_read_file(placement, choice, s->n_moe_layer, s->router.n_expert,
                                         s->router.n_group, n_rank, plan->log);
    if (weighted) {
        shoal_predict_run run = plan->run;
        run.cluster = cluster;
        SHOAL_TRY(shoal_predict_weights(expert_weight, sequence_weight, &run, plan->log));
    }
    return shoal_placement_open(placement, s->n_moe_layer, s->router.n_expert, s->router.n_group,
                                n_rank, weighted ? expert_weight : NULL,
                                weighted ? sequence_weight : NULL, plan->log);
}

/* Hosts' figures, known if every host has them. */
static void add_costs(shoal__plan_count *c)
{
    bool watts = true, price = true;
    for (int32_t h = 0; h < c->cluster.n_host; h++) {
        const shoal_cluster_host *host = &c->cluster.host[h];
        watts = watts && host->watts > 0;
        price = price && host->price_per_hour > 0;
        c->watts += host->watts;
        c->price_per_hour += host->price_per_hour;
    }
    c->watts = watts ? c->watts : 0;
    c->price_per_hour = price ? c->price_per_hour : 0;
}

static void look_at_memory(shoal__plan_count *c, const shoal_placement *placement)
{
    double least = 0;
    c->fits = true;
    for (int32_t h = 0; h < c->cluster.n_host; h++)
        c->fits = c->fits && shoal_predict_host_over(&c->cluster, c->memory, h) <= 0;
    for (int32_t r = 0; r < c->n_rank; r++) {
        const double left =
            shoal_predict_room(&c->cluster, c->memory, r) - (double)c->memory[r].total_bytes;
        c->fits = c->fits && left >= 0;
        c->n_source += placement->sequence_weight[r] > 0;
        c->expert_weight[r] = placement->expert_weight[r];
        c->sequence_weight[r] = placement->sequence_weight[r];
        if (r == 0 || left < least) {
            least = left;
            c->fullest = r;
        }
    }
}

/* Tokens of a decode step on each rank, as the cost model spreads them. */
static shoal_status look_at_routing(shoal_routing_means *means, const shoal__plan *plan,
                                    const shoal_placement *placement, int32_t n_sequence)
{
    int32_t n_token[SHOAL_MAX_RANK];
    shoal_predict_sequences(n_token, placement, n_sequence);
    const int32_t n_draw = n_sequence <= 64 ? 2000 : 100;
    return shoal_routing_expect(means, &plan->routing, placement, n_token, n_draw, plan->log);
}

static shoal_status predict_cases(shoal__plan_count *c, const shoal__plan *plan,
                                  const shoal_placement *placement)
{
    shoal_predict_run run = plan->run;
    run.cluster = &c->cluster;
    SHOAL_TRY(shoal_predict_memory(c->memory, &c->measured, &run, placement, plan->log));
    look_at_memory(c, placement);
    for (int32_t i = 0; i < plan->n_case; i++) {
        shoal__plan_case *one = &c->cases[i];
        *one =
            (shoal__plan_case){.n_sequence = plan->sequences[i / 2],
                               .combine = i % 2 == 0 ? SHOAL_COMBINE_EXACT : SHOAL_COMBINE_REDUCED};
        run.n_sequence = one->n_sequence;
        run.combine = one->combine;
        shoal_model_measured measured = c->measured;
        measured.wire.kind = one->combine;
        SHOAL_TRY(shoal_predict_speed(&one->speed, &run, placement, &measured, true, plan->log));
    }
    for (int32_t i = 0; i < plan->n_sequences; i++)
        SHOAL_TRY(look_at_routing(&c->routed[i], plan, placement, plan->sequences[i]));
    return SHOAL_OK;
}

static shoal_status make_count(shoal__plan_count *c, const shoal__plan *plan, int32_t n_rank)
{
    c->n_rank = n_rank;
    c->expert_weight = calloc((size_t)n_rank, sizeof *c->expert_weight);
    c->sequence_weight = calloc((size_t)n_rank, sizeof *c->sequence_weight);
    c->memory = calloc((size_t)n_rank, sizeof *c->memory);
    c->cases = calloc((size_t)plan->n_case, sizeof *c->cases);
    c->routed = calloc((size_t)plan->n_sequences, sizeof *c->routed);
    if (c->expert_weight == NULL || c->sequence_weight == NULL || c->memory == NULL ||
        c->cases == NULL || c->routed == NULL)
        return shoal_fail(plan->log, SHOAL_NO_MEMORY, "no memory to plan %d ranks", (int)n_rank);
    SHOAL_TRY(shoal_cluster_first(&c->cluster, &plan->cluster, n_rank, plan->log));
    shoal_placement placement;
    const char *choice = plan->options->placement;
    SHOAL_TRY(
        shoal__plan_place(&placement, plan, &c->cluster, choice != NULL ? choice : "weighted"));
    const shoal_status status = predict_cases(c, plan, &placement);
    shoal_placement_close(&placement);
    add_costs(c);
    return status;
}

const shoal__plan_case *shoal__plan_main_case(const shoal__plan *plan, const shoal__plan_count *c)
{
    return &c->cases[plan->run.combine == SHOAL_COMBINE_EXACT ? 0 : 1];
}

/* Time of a request of each sequence, in seconds: prompt and generated tokens. */
static double request_s(const shoal__plan *plan, const shoal__plan_case *c)
{
    return plan->run.n_prompt * c->n_sequence / c->speed.prefill_tok_per_s +
           plan->run.n_gen * c->n_sequence / c->speed.decode_tok_per_s;
}

/* The fastest that fits, or a smaller one that is within 3 % of it. */
static void find_best(shoal__plan *plan)
{
    double best_s = 0;
    plan->best = -1;
    for (int32_t i = 0; i < plan->n_count; i++) {
        const shoal__plan_count *c = &plan->count[i];
        const double s = request_s(plan, shoal__plan_main_case(plan, c));
        if (!c->fits || (plan->best >= 0 && s > 0.97 * best_s))
            continue;
        plan->best = i;
        best_s = s;
    }
}

static shoal_status make_counts(shoal__plan *plan, const int32_t *ranks)
{
    for (int32_t i = 0; i < plan->n_count; i++)
        SHOAL_TRY(make_count(&plan->count[i], plan, ranks[i]));
    find_best(plan);
    return plan->count[plan->n_count - 1].fits ? SHOAL_OK : shoal__plan_advise(plan);
}

static shoal_status open_routing(shoal__plan *plan)
{
    if (plan->options->routes != NULL) {
        SHOAL_TRY(
            shoal_routes_source_open(&plan->routes, plan->options->routes, &plan->spec, plan->log));
        plan->routing = shoal_routing_of_routes(&plan->routes);
        return SHOAL_OK;
    }
    SHOAL_TRY(shoal_routing_uniform_open(&plan->uniform, &plan->spec.router, plan->log));
    plan->routing = shoal_routing_of_uniform(&plan->uniform);
    return SHOAL_OK;
}

shoal_status shoal__plan_open(shoal__plan *plan, const shoal_options *options, shoal_log *log)
{
    *plan = (shoal__plan){.options = options, .log = log, .best = -1};
    SHOAL_TRY(read_cluster(plan));
    SHOAL_TRY(shoal_checkpoint_open(&plan->checkpoint, options->model, true, log));
    SHOAL_TRY(shoal_spec_open(&plan->spec, plan->checkpoint, log));
    SHOAL_TRY(open_routing(plan));
    return describe_run(plan);
}

shoal_status shoal__plan_make(shoal__plan *plan, const shoal_options *options, shoal_log *log)
{
    int32_t *ranks = NULL, n_count = 0;
    SHOAL_TRY(shoal__plan_open(plan, options, log));
    SHOAL_TRY(shoal__plan_ranks(&ranks, &n_count, plan));
    plan->n_case = 2 * plan->n_sequences;
    plan->count = calloc((size_t)n_count, sizeof *plan->count);
    plan->n_count = plan->count != NULL ? n_count : 0;
    const shoal_status status = plan->count != NULL
                                    ? make_counts(plan, ranks)
                                    : shoal_fail(log, SHOAL_NO_MEMORY, "no memory to plan");
    free(ranks);
    return status;
}

void shoal__plan_close(shoal__plan *plan)
{
    for (int32_t i = 0; i < plan->n_count; i++) {
        shoal__plan_count *c = &plan->count[i];
        shoal_cluster_close(&c->cluster);
        free(c->expert_weight);
        free(c->sequence_weight);
        free(c->memory);
        free(c->cases);
        free(c->routed);
    }
    free(plan->count);
    free(plan->sequences);
    shoal_routing_uniform_close(&plan->uniform);
    shoal_routes_source_close(&plan->routes);
    shoal_cluster_close(&plan->cluster);
    shoal_spec_close(&plan->spec);
    shoal_checkpoint_close(plan->checkpoint);
}
