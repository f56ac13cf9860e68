/* plan --simulate: decode steps of every rank count and number of sequences, run in this process.
 */
#include "launcher/plan/plan.h"
#include "launcher/predict/simulate.h"
#include "launcher/progress.h"
#include "launcher/report.h"

#include <stdlib.h>
#include <string.h>

static void print_head(const shoal__plan *plan, int32_t n_layer)
{
    printf(
        "simulated: %s on %s, choices %s, combine %s, prompts of %d; means of %d MoE layers of %d\n"
        "us of the average source; bytes and messages of all ranks together, per MoE layer\n\n"
        "ranks seqs  layer us attention   send dispatch experts combine  dispatch kB combine kB"
        " messages bare busiest uneven  step ms     tok/s\n",
        plan->options->model, plan->cluster.name, plan->routing.name,
        plan->run.combine == SHOAL_COMBINE_EXACT ? "exact" : "reduced", (int)plan->run.n_prompt,
        (int)n_layer, (int)plan->spec.n_moe_layer);
}

static void print_row(int32_t n_rank, const shoal_simulation *s)
{
    const double n_message = s->dispatch_messages + s->combine_messages;
    printf("%5d %4d %9.0f %9.0f %6.0f %8.0f %7.0f %7.0f %12.1f %10.1f %8.0f %3.0f%% %7.0f %6.2f "
           "%8.2f %9.1f\n",
           (int)n_rank, (int)s->n_token, s->layer_us, s->attention_us, s->send_us, s->dispatch_us,
           s->experts_us, s->combine_us, s->dispatch_bytes / 1e3, s->combine_bytes / 1e3, n_message,
           n_message > 0 ? 100 * s->bare_messages / n_message : 0, s->most_messages, s->imbalance,
           s->step_us / 1e3, s->tok_per_s);
}

static void set(shoal_json *o, const char *key, double value)
{
    shoal_json_set(o, key, shoal_json_new_number(value));
}

static shoal_json *row_json(int32_t n_rank, const shoal_simulation *s)
{
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "ranks", shoal_json_new_int(n_rank));
    shoal_json_set(o, "sequences", shoal_json_new_int(s->n_token));
    shoal_json_set(o, "sources", shoal_json_new_int(s->n_source));
    shoal_json_set(o, "layers", shoal_json_new_int(s->n_layer));
    set(o, "layer_us", s->layer_us);
    set(o, "attention_us", s->attention_us);
    set(o, "send_us", s->send_us);
    set(o, "dispatch_us", s->dispatch_us);
    set(o, "experts_us", s->experts_us);
    set(o, "combine_us", s->combine_us);
    set(o, "dispatch_bytes", s->dispatch_bytes);
    set(o, "header_bytes", s->header_bytes);
    set(o, "combine_bytes", s->combine_bytes);
    set(o, "dispatch_messages", s->dispatch_messages);
    set(o, "bare_messages", s->bare_messages);
    set(o, "combine_messages", s->combine_messages);
    set(o, "most_messages", s->most_messages);
    set(o, "imbalance", s->imbalance);
    set(o, "step_us", s->step_us);
    set(o, "decode_tok_per_s", s->tok_per_s);
    return o;
}

/* The first n_rank ranks, with every number of sequences. */
static shoal_status simulate_count(shoal_json *list, const shoal__plan *plan, int32_t n_rank,
                                   int32_t n_layer, shoal_progress *progress)
{
    shoal_predict_run run = plan->run;
    shoal_cluster cluster;
    shoal_placement placement = {0};
    shoal_model_measured measured;
    shoal_rank_memory *memory = calloc((size_t)n_rank, sizeof *memory);
    if (memory == NULL)
        return shoal_fail(plan->log, SHOAL_NO_MEMORY, "no memory to simulate %d ranks",
                          (int)n_rank);
    shoal_status status = shoal_cluster_first(&cluster, &plan->cluster, n_rank, plan->log);
    if (status != SHOAL_OK) {
        free(memory);
        return status;
    }
    run.cluster = &cluster;
    status =
        shoal__plan_place(&placement, plan, &cluster,
                          plan->options->placement != NULL ? plan->options->placement : "uniform");
    if (status == SHOAL_OK)
        status = shoal_predict_memory(memory, &measured, &run, &placement, plan->log);
    for (int32_t i = 0; status == SHOAL_OK && i < plan->n_sequences; i++) {
        shoal_simulation s;
        run.n_sequence = plan->sequences[i];
        shoal_progress_set(progress, "%d ranks, %d sequences", (int)n_rank, (int)run.n_sequence);
        measured.wire.kind = run.combine;
        status = shoal_simulate(&s, &run, &placement, &measured, n_layer, plan->log);
        shoal_progress_pause(progress);
        if (status == SHOAL_OK && plan->options->json)
            shoal_json_append(list, row_json(n_rank, &s));
        else if (status == SHOAL_OK)
            print_row(n_rank, &s);
    }
    shoal_placement_close(&placement);
    shoal_cluster_close(&cluster);
    free(memory);
    return status;
}

shoal_status shoal__plan_simulate(shoal__plan *plan)
{
    int32_t *ranks = NULL, n = 0;
    const int32_t n_layer = plan->options->n_simulated < plan->spec.n_moe_layer
                                ? plan->options->n_simulated
                                : plan->spec.n_moe_layer;
    if (n_layer == 0)
        return shoal_fail(plan->log, SHOAL_USAGE, "%s has no MoE layers to simulate",
                          plan->options->model);
    SHOAL_TRY(shoal__plan_ranks(&ranks, &n, plan));
    shoal_progress progress;
    shoal_progress_init(&progress, true, plan->log);
    shoal_json *list = shoal_json_new_array();
    if (!plan->options->json)
        print_head(plan, n_layer);
    shoal_status status = SHOAL_OK;
    for (int32_t i = 0; status == SHOAL_OK && i < n; i++)
        status = simulate_count(list, plan, ranks[i], n_layer, &progress);
    free(ranks);
    if (status == SHOAL_OK && plan->options->json)
        return shoal_print_json(list, plan->log);
    shoal_json_close(list);
    return status == SHOAL_OK ? shoal_flush_stdout(plan->log) : status;
}
