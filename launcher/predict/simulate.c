#include "launcher/predict/simulate.h"

#include "comm/sim/sim.h"
#include "launcher/predict/simulate_private.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <sys/prctl.h>

enum { HEADER_BYTES = 32 }; /* of a dispatch message */

static void link_of(void *arg, int32_t from, int32_t to, shoal_sim_link *link)
{
    const shoal__world *w = arg;
    const shoal_cluster *cluster = w->run->cluster;
    const shoal_cluster_link *l = shoal_cluster_link_at(cluster, from, to);
    const int32_t a = w->host[from], b = w->host[to];
    double rate = l->gb_per_s;
    for (int i = 0; a != b && i < 2; i++) {
        const double card = cluster->host[i == 0 ? a : b].nic_gb_per_s;
        if (card > 0 && (rate <= 0 || card < rate))
            rate = card;
    }
    *link = (shoal_sim_link){.latency_us = l->latency_us,
                             .gb_per_s = rate,
                             .overhead_us = l->overhead_us,
                             .byte_ns = SHOAL__WIRE_BYTE_NS};
}

/* Which experts are whose, numbered within their owner, and who takes part. */
static void fill_owners(shoal__world *w)
{
    for (int32_t l = 0; l < w->n_layer; l++) {
        int32_t n_local[SHOAL_MAX_RANK] = {0};
        for (int32_t e = 0; e < w->n_expert; e++) {
            const size_t i = (size_t)l * (size_t)w->n_expert + (size_t)e;
            const int32_t of = l % w->placement->n_layer;
            w->owner[i] = shoal_placement_owner(w->placement, of, e);
            w->local[i] = n_local[w->owner[i]]++;
        }
        for (int32_t r = 0; r < w->n_rank; r++) {
            w->is_target[(size_t)l * (size_t)w->n_rank + (size_t)r] = n_local[r] > 0;
            w->n_local_max[r] = n_local[r] > w->n_local_max[r] ? n_local[r] : w->n_local_max[r];
        }
    }
}

static void fill_world(shoal__world *w)
{
    const shoal_routing *routing = w->run->routing;
    shoal_predict_sequences(w->tokens, w->placement, w->run->n_sequence);
    for (int32_t r = 0; r < w->n_rank; r++) {
        w->host[r] = w->run->cluster->rank[r].host;
        w->first[r] = w->n_token;
        w->n_token += w->tokens[r];
        w->is_source[r] = w->tokens[r] > 0;
    }
    fill_owners(w);
    for (int32_t l = 0; l < w->n_layer; l++)
        routing->draw(routing->source,
                      w->expert + (size_t)l * (size_t)w->n_token * (size_t)w->top_k,
                      l % w->placement->n_layer, l, w->n_token);
    for (int32_t i = 0; i < w->n_token_max * w->top_k; i++)
        w->weight[i] = 1.0F / (float)w->top_k;
    for (int64_t i = 0; i < (int64_t)w->n_token_max * w->n_embd; i++)
        w->row[i] = (float)(i % 97) / 97.0F - 0.5F;
}

static void close_world(shoal__world *w)
{
    free(w->tokens);
    free(w->is_source);
    free(w->owner);
    free(w->expert);
    free(w->weight);
    free(w->counts);
}

static shoal_status open_world(shoal__world *w)
{
    const size_t n_rank = (size_t)w->n_rank, n_layer = (size_t)w->n_layer;
    const size_t n_expert = (size_t)w->n_expert, top_k = (size_t)w->top_k;
    const size_t n_all = (size_t)w->run->n_sequence, n_max = (size_t)w->n_token_max;
    w->tokens = calloc(4 * n_rank, sizeof *w->tokens);
    w->is_source = calloc((1 + n_layer) * n_rank, sizeof *w->is_source);
    w->owner = calloc(2 * n_layer * n_expert, sizeof *w->owner);
    w->expert = calloc(n_layer * n_all * top_k, sizeof *w->expert);
    w->weight = calloc(n_max * (top_k + 2 * (size_t)w->n_embd), sizeof *w->weight);
    w->counts = calloc(n_rank, sizeof *w->counts);
    if (w->tokens == NULL || w->is_source == NULL || w->owner == NULL || w->expert == NULL ||
        w->weight == NULL || w->counts == NULL)
        return shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory to simulate %zu ranks", n_rank);
    w->first = w->tokens + n_rank;
    w->n_local_max = w->tokens + 2 * n_rank;
    w->host = w->tokens + 3 * n_rank;
    w->is_target = w->is_source + n_rank;
    w->local = w->owner + n_layer * n_expert;
    w->row = w->weight + n_max * top_k;
    w->acc = w->row + n_max * (size_t)w->n_embd;
    fill_world(w);
    return SHOAL_OK;
}

/* Slots of the fullest rank over those of the average one with experts, mean over layers. */
static double imbalance_of(const shoal__world *w)
{
    double sum = 0;
    const int32_t n = w->n_token * w->top_k;
    for (int32_t l = 1; l < w->n_layer; l++) {
        int32_t n_slot[SHOAL_MAX_RANK] = {0}, most = 0, n_target = 0;
        for (int32_t r = 0; r < w->n_rank; r++)
            n_target += w->is_target[(size_t)l * (size_t)w->n_rank + (size_t)r];
        const int32_t *expert = w->expert + (size_t)l * (size_t)n;
        for (int32_t i = 0; i < n; i++) {
            const int32_t owner = w->owner[(size_t)l * (size_t)w->n_expert + (size_t)expert[i]];
            n_slot[owner]++;
            most = n_slot[owner] > most ? n_slot[owner] : most;
        }
        sum += (double)most * n_target / n;
    }
    return sum / (w->n_layer - 1);
}

/* What a step takes besides its MoE layers: those of the slowest source. */
static double rest_us(const shoal__world *w)
{
    const shoal_spec *s = w->run->spec;
    const int32_t n_dense = s->n_layer - s->n_moe_layer;
    double most = 0;
    for (int32_t r = 0; r < w->n_rank; r++) {
        const int32_t n = w->tokens[r];
        if (n == 0)
            continue;
        const double us = n_dense * shoal__attention_us(&w->costs, r, n, n) +
                          n_dense * shoal__dense_us(&w->costs, r, n) +
                          shoal__logits_us(&w->costs, r, n, n);
        most = us > most ? us : most;
    }
    return most + shoal__control_us(&w->costs, w->run->n_sequence);
}

static void sum_up(shoal_simulation *out, const shoal__world *w)
{
    const double n_layer = w->n_layer - 1;
    double begun_us = 0, ended_us = 0, part_us[SHOAL__N_PART] = {0};
    *out = (shoal_simulation){.n_layer = w->n_layer - 1, .n_token = w->n_token};
    for (int32_t r = 0; r < w->n_rank; r++) {
        const shoal__counts *c = &w->counts[r];
        begun_us = c->begun_us > begun_us ? c->begun_us : begun_us;
        ended_us = c->ended_us > ended_us ? c->ended_us : ended_us;
        out->n_source += w->is_source[r];
        for (int p = 0; w->is_source[r] && p < SHOAL__N_PART; p++)
            part_us[p] += c->part_us[p];
        out->dispatch_bytes += (double)c->dispatch_bytes / n_layer;
        out->combine_bytes += (double)c->combine_bytes / n_layer;
        out->dispatch_messages += (double)c->dispatch_messages / n_layer;
        out->combine_messages += (double)c->combine_messages / n_layer;
        out->bare_messages += (double)c->bare_messages / n_layer;
        const double n =
            (double)(c->dispatch_messages + c->combine_messages) + (double)c->received_messages;
        out->most_messages = n / n_layer > out->most_messages ? n / n_layer : out->most_messages;
    }
    out->header_bytes = out->dispatch_messages * HEADER_BYTES;
    out->layer_us = (ended_us - begun_us) / n_layer;
    out->step_us = out->layer_us * w->run->spec->n_moe_layer + rest_us(w);
    out->tok_per_s = out->n_token * 1e6 / out->step_us;
    const double n = out->n_source * n_layer;
    out->attention_us = part_us[SHOAL__PART_ATTENTION] / n;
    out->send_us = part_us[SHOAL__PART_SEND] / n;
    out->dispatch_us = part_us[SHOAL__PART_DISPATCH] / n;
    out->experts_us = part_us[SHOAL__PART_EXPERTS] / n;
    out->combine_us = part_us[SHOAL__PART_COMBINE] / n;
    out->imbalance = imbalance_of(w);
}

static shoal_status run_world(shoal__world *w)
{
    shoal_status *status = calloc((size_t)w->n_rank, sizeof *status);
    if (status == NULL)
        return shoal_fail(w->log, SHOAL_NO_MEMORY, "no memory to simulate %d ranks",
                          (int)w->n_rank);
    const shoal_sim_network network = {.link = link_of, .arg = w, .host = w->host};
    /* A rank has a small buffer for each other rank and touches the first bytes of most: with large
     * pages a thousand ranks would take twenty times the memory. */
    const int huge_pages_off = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    shoal_status worst =
        shoal_sim_run(&(shoal_sim_config){.n_rank = w->n_rank, .network = &network},
                      shoal__simulate_rank, w, status, w->log);
    prctl(PR_SET_THP_DISABLE, huge_pages_off > 0, 0, 0, 0);
    for (int32_t r = 0; r < w->n_rank; r++)
        worst = status[r] > worst ? status[r] : worst;
    free(status);
    return worst;
}

shoal_status shoal_simulate(shoal_simulation *simulation, const shoal_predict_run *run,
                            const shoal_placement *placement, const shoal_model_measured *measured,
                            int32_t n_layer, shoal_log *log)
{
    const shoal_spec *spec = run->spec;
    const int64_t start_us = shoal_clock_us();
    int32_t tokens[SHOAL_MAX_RANK];
    shoal__world w = {.run = run,
                      .placement = placement,
                      .measured = measured,
                      .log = log,
                      .n_rank = placement->n_rank,
                      .n_layer = n_layer + 1,
                      .n_expert = placement->n_expert,
                      .top_k = run->routing->top_k,
                      .n_embd = spec->n_embd};
    w.costs = shoal__costs_of(run, placement, measured);
    w.costs.position = run->n_prompt + run->n_gen / 2.0;
    shoal_predict_sequences(tokens, placement, run->n_sequence);
    for (int32_t r = 0; r < w.n_rank; r++)
        w.n_token_max = tokens[r] > w.n_token_max ? tokens[r] : w.n_token_max;
    SHOAL_TRY(shoal_kernels_select(&w.kernels, "auto", log));
    shoal_status status = open_world(&w);
    if (status == SHOAL_OK)
        status = run_world(&w);
    if (status == SHOAL_OK) {
        sum_up(simulation, &w);
        simulation->elapsed_s = (double)(shoal_clock_us() - start_us) / 1e6;
    }
    close_world(&w);
    return status;
}
