/* Formulas of docs/PERFORMANCE.md, "Plan". The constants are of the kernels and messages of this
 * build, measured where those of docs/PERFORMANCE.md were. */
#include "launcher/predict/costs.h"

/* ns of a value of a row, on one thread. */
#define ATTENTION_VALUE_NS 16.0 /* norms, integers, rotations, cache, residual */
#define ROUTE_VALUE_NS     3.0  /* norm, integers, a message's row */
#define COPY_VALUE_NS      0.7  /* a row again, into or out of a message */
#define RESULT_VALUE_NS    0.55 /* a result, encoded or added */
#define HIDDEN_VALUE_NS    1.1  /* activation, integers */
#define CHOICE_NS          6.0  /* of an expert, for each place of the top-k */
#define SCORE_NS           3.0  /* of a position that a head of a row sees, beside multiplying */
#define LOGIT_NS           0.4  /* sampling */

enum { TILE_ROWS = 8 };

/* Jobs of a layer on a CPU, and what each takes beside its work and its barrier: the first lines of
 * its weights, and with several threads the last tile, for which the others wait. */
enum { LAYER_JOBS = 12 };
#define JOB_BEGIN_US 0.8
#define JOB_TAIL_US  2.7

/* Of the layer's fixed cost: the source's part, and that of experts. */
#define SOURCE_SHARE 0.6

shoal__costs shoal__costs_of(const shoal_predict_run *run, const shoal_placement *placement,
                             const shoal_model_measured *measured)
{
    const int32_t n_embd = run->spec->n_embd;
    shoal__costs costs = {
        .run = run,
        .placement = placement,
        .measured = measured,
        .dispatch_row_bytes = shoal_wire_row_bytes(measured->wire.dispatch, n_embd),
        .combine_row_bytes = shoal_wire_row_bytes(measured->wire.combine, n_embd),
    };
    for (int32_t r = 0; r < placement->n_rank; r++) {
        costs.n_target += placement->expert_weight[r] > 0;
        costs.n_source += placement->sequence_weight[r] > 0;
    }
    if (costs.n_source > run->n_sequence)
        costs.n_source = run->n_sequence;
    return costs;
}

static double positive(double x)
{
    return x > 0 ? x : 0;
}

/* us of `values` values at ns each, in tiles of rows over the threads of a rank. */
static double values_us(const shoal_cluster_rank *rank, double n_row, double n_value, double ns)
{
    double n_thread = rank->n_thread;
    const double n_tile = (n_row + TILE_ROWS - 1) / TILE_ROWS;
    if (n_tile < n_thread)
        n_thread = n_tile > 1 ? n_tile : 1;
    return n_row * n_value * ns * 1e-3 / n_thread;
}

static double layer_us(const shoal_cluster_rank *rank)
{
    const double job = JOB_BEGIN_US + (rank->n_thread > 1 ? JOB_TAIL_US : 0);
    return rank->layer_us + LAYER_JOBS * job;
}

static const shoal_cluster_rank *rank_of(const shoal__costs *c, int32_t rank)
{
    return &c->run->cluster->rank[rank];
}

double shoal__read_gb_per_s(const shoal_cluster_rank *rank, shoal_format format)
{
    const double read = rank->read_gb_per_s > 0 ? rank->read_gb_per_s : 10;
    return rank->decode_gb_per_s[format] > 0 ? rank->decode_gb_per_s[format] : read;
}

double shoal__compute_gop_per_s(const shoal_cluster_rank *rank, shoal_format format)
{
    const double f32 = rank->f32_gflop_per_s > 0 ? rank->f32_gflop_per_s : 50;
    return rank->prefill_gop_per_s[format] > 0 ? rank->prefill_gop_per_s[format] : f32;
}

/* n_mac: of each row. */
static double format_us(const shoal__costs *c, int32_t rank, shoal_format format, double n_bytes,
                        double n_mac, double n_row)
{
    const shoal_cluster_rank *r = rank_of(c, rank);
    if (r->gpu >= 0)
        return shoal__device_format_us(c, rank, format, n_bytes, n_mac, n_row);
    const double read = c->ideal.read ? 0 : n_bytes / shoal__read_gb_per_s(r, format) * 1e-3;
    const double compute =
        c->ideal.compute ? 0 : 2 * n_mac * n_row / shoal__compute_gop_per_s(r, format) * 1e-3;
    return read > compute ? read : compute;
}

double shoal__pass_us(const shoal__costs *c, int32_t rank, const shoal_pass_work *work,
                      double n_row, int32_t n_layer)
{
    double us = 0;
    if (n_row <= 0 || n_layer == 0)
        return 0;
    for (shoal_format f = 0; f < SHOAL_N_FORMAT; f++)
        if (work->n_bytes[f] > 0)
            us += format_us(c, rank, f, (double)work->n_bytes[f], (double)work->n_mac[f], n_row);
    return us / n_layer;
}

/* Positions that a row sees, averaged over the layers' windows. */
static double seen(const shoal__costs *c)
{
    const shoal_spec *s = c->run->spec;
    double sum = 0;
    for (int32_t l = 0; l < s->n_layer; l++) {
        const double window = s->attention.window[l];
        sum += window > 0 && window < c->position ? window : c->position;
    }
    return sum / s->n_layer;
}

/* Scores and sums over the cache: the rows of a sequence share its reading. */
static double cache_us(const shoal__costs *c, int32_t rank, double n_row, double n_chunk)
{
    const shoal_spec *s = c->run->spec;
    const shoal_cluster_rank *r = rank_of(c, rank);
    const shoal_attention_config *a = &s->attention;
    const bool mla = a->kind == SHOAL_ATTENTION_MLA;
    const double d_k = mla ? a->kv_lora_rank + a->rope.n_rot : a->head_dim;
    const double d_v = mla ? a->kv_lora_rank : a->head_dim;
    const double n_seen = seen(c);
    const double flop = 2 * n_row * n_seen * a->n_head * (d_k + d_v);
    const double n_bytes = n_chunk * n_seen * (double)c->measured->kv_row_bytes;
    const double gb_per_s = r->read_gb_per_s > 0 ? r->read_gb_per_s : 10;
    const double gflop = 0.8 * (r->f32_gflop_per_s > 0 ? r->f32_gflop_per_s : 50);
    const double read = c->ideal.read ? 0 : n_bytes / gb_per_s * 1e-3;
    const double compute = c->ideal.compute ? 0 : flop / gflop * 1e-3;
    const double scores = c->ideal.compute || r->gpu >= 0
                              ? 0
                              : n_row * n_seen * a->n_head * SCORE_NS * 1e-3 / r->n_thread;
    return (read > compute ? read : compute) + scores;
}

double shoal__attention_us(const shoal__costs *c, int32_t rank, double n_row, double n_chunk)
{
    const shoal_spec *s = c->run->spec;
    const shoal_cluster_rank *r = rank_of(c, rank);
    if (n_row <= 0)
        return 0;
    const double us = shoal__pass_us(c, rank, &c->measured->attention, n_row, s->n_layer) +
                      cache_us(c, rank, n_row, n_chunk);
    if (r->gpu >= 0)
        return us + shoal__device_attention_us(c, rank, n_row);
    return us + values_us(r, n_row, s->n_embd, c->ideal.compute ? 0 : ATTENTION_VALUE_NS) +
           SOURCE_SHARE * layer_us(r);
}

double shoal__route_us(const shoal__costs *c, int32_t rank, double n_row, double n_away)
{
    const shoal_spec *s = c->run->spec;
    const shoal_cluster_rank *r = rank_of(c, rank);
    const double ns = ROUTE_VALUE_NS + COPY_VALUE_NS * n_away;
    if (n_row <= 0)
        return 0;
    const double us = shoal__pass_us(c, rank, &c->measured->router, n_row, s->n_moe_layer);
    if (r->gpu >= 0)
        return us + shoal__device_route_us(c, rank, n_row, n_away);
    return us + values_us(r, n_row, s->n_embd, c->ideal.compute ? 0 : ns) +
           values_us(r, n_row, (double)s->router.n_expert * s->router.top_k,
                     c->ideal.compute ? 0 : CHOICE_NS);
}

double shoal__collect_us(const shoal__costs *c, int32_t rank, double n_row, double n_slot,
                         double n_home)
{
    const double n_value = n_row > 0 ? (n_slot + n_row) / n_row * c->run->spec->n_embd : 0;
    if (rank_of(c, rank)->gpu >= 0)
        return n_row > 0 ? shoal__device_collect_us(c, rank, n_row, n_home) : 0;
    return values_us(rank_of(c, rank), n_row, n_value, c->ideal.compute ? 0 : RESULT_VALUE_NS);
}

double shoal__expert_us(const shoal__costs *c, int32_t rank, double n_slot)
{
    return shoal__pass_us(c, rank, &c->measured->expert, n_slot, 1);
}

double shoal__slots_us(const shoal__costs *c, int32_t rank, double n_row, double n_slot,
                       double n_in, double n_out)
{
    const shoal_spec *s = c->run->spec;
    const shoal_cluster_rank *r = rank_of(c, rank);
    if (n_slot <= 0)
        return 0;
    if (r->gpu >= 0)
        return shoal__device_slots_us(c, rank, n_row, n_slot,
                                      n_in * (double)c->dispatch_row_bytes +
                                          n_out * (double)c->combine_row_bytes);
    const double off = c->ideal.compute ? 0 : 1;
    return (1 - SOURCE_SHARE) * layer_us(r) + values_us(r, n_row, s->n_embd, off * COPY_VALUE_NS) +
           values_us(r, n_slot, s->n_embd, off * RESULT_VALUE_NS) +
           values_us(r, n_slot, s->n_ff_expert, off * HIDDEN_VALUE_NS);
}

static double mlp_us(const shoal__costs *c, int32_t rank, double n_row, int32_t n_ff)
{
    return rank_of(c, rank)->gpu >= 0 && n_row > 0 && n_ff > 0
               ? shoal__device_mlp_us(c, rank, n_row, n_ff)
               : 0;
}

double shoal__shared_us(const shoal__costs *c, int32_t rank, double n_row)
{
    const shoal_spec *s = c->run->spec;
    return shoal__pass_us(c, rank, &c->measured->shared, n_row, s->n_moe_layer) +
           mlp_us(c, rank, n_row, s->n_ff_shared);
}

double shoal__dense_us(const shoal__costs *c, int32_t rank, double n_row)
{
    const shoal_spec *s = c->run->spec;
    return shoal__pass_us(c, rank, &c->measured->dense, n_row, s->n_layer - s->n_moe_layer) +
           mlp_us(c, rank, n_row, s->n_ff_dense);
}

double shoal__logits_us(const shoal__costs *c, int32_t rank, double n_row, double n_logit)
{
    const double us = shoal__pass_us(c, rank, &c->measured->head, n_logit, 1);
    if (rank_of(c, rank)->gpu >= 0)
        return us + shoal__device_ends_us(c, rank, n_row, n_logit);
    return us + (c->ideal.compute ? 0 : n_logit * c->run->spec->n_vocab * LOGIT_NS * 1e-3);
}

double shoal__control_us(const shoal__costs *c, double n_sequence)
{
    (void)c;
    return 15 + 0.5 * n_sequence;
}

double shoal__dispatch_message_bytes(const shoal__costs *c, int32_t n_row, int32_t n_slot)
{
    const int32_t count_bytes = (2 * n_row + 3) / 4 * 4;
    return 32 + (double)n_row * (double)c->dispatch_row_bytes + count_bytes + 8.0 * n_slot;
}

double shoal__combine_message_bytes(const shoal__costs *c, int32_t n_row, int32_t n_slot)
{
    const bool exact = c->measured->wire.kind == SHOAL_COMBINE_EXACT;
    return positive(exact ? n_slot : n_row) * (double)c->combine_row_bytes;
}
