/* The costs of a rank on a GPU, by the formulas of docs/PERFORMANCE.md, "plan": a layer is some
 * tens of kernels whose launches cost the host time whatever they do, and a few places where the
 * host waits for the device; rows of other
 * ranks, and for them, pass through the host's memory, over PCIe. Counted from the line
 * as it is (runtime/model, runtime/kernels/cuda). */
#include "launcher/predict/costs.h"

#include <math.h>

enum {
    FEW = 8,      /* rows that are multiplied without tensor cores */
    TILE = 64,    /* rows that a block of the tensor-core form takes at once */
    CARRIED = 8,  /* products that travel with their launch; a longer list is copied ahead of it */
    RECORDED = 64 /* rows of a step, at most, whose operations are recorded */
};

#define IN_GRAPH 0.4 /* of a launch: what a recorded kernel takes besides its work */

static const shoal_cluster_rank *rank_of(const shoal__costs *c, int32_t rank)
{
    return &c->run->cluster->rank[rank];
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* Whether the rows of these matrices become integers. */
static bool takes_int8(const shoal__costs *c, const shoal_pass_work *work)
{
    bool any = false;
    for (shoal_format f = 0; f < SHOAL_N_FORMAT; f++)
        any = any || (work->n_bytes[f] > 0 && shoal_format_is_quantised(f));
    return any && c->run->fast;
}

static double calls_us(const shoal__costs *c, int32_t rank, double n_launch, double n_wait)
{
    const shoal_cluster_rank *r = rank_of(c, rank);
    return n_launch * r->launch_us + n_wait * r->wait_us;
}

/* What a layer enqueues alike at every token is recorded while steps have few rows: one launch, and
 * its kernels follow each other faster than the host could launch them. */
static double recorded_us(const shoal__costs *c, int32_t rank, double n_row, double n_launch)
{
    return calls_us(c, rank, n_row <= RECORDED ? 1 + IN_GRAPH * n_launch : n_launch, 0);
}

/* Rows of f32 that are read and written n_pass times. */
static double values_us(const shoal__costs *c, int32_t rank, double n_value, double n_pass)
{
    const double gb_per_s = shoal__read_gb_per_s(rank_of(c, rank), SHOAL_FORMAT_F32);
    return c->ideal.read ? 0 : n_value * n_pass * 8 / gb_per_s * 1e-3;
}

static double pcie_us(const shoal__costs *c, int32_t rank, double n_bytes)
{
    const double gb_per_s = rank_of(c, rank)->pcie_gb_per_s;
    return c->ideal.pcie || gb_per_s <= 0 ? 0 : n_bytes / gb_per_s * 1e-3;
}

double shoal__device_format_us(const shoal__costs *c, int32_t rank, shoal_format format,
                               double n_bytes, double n_mac, double n_row)
{
    const shoal_cluster_rank *r = rank_of(c, rank);
    const bool int8 = c->run->fast && shoal_format_is_quantised(format);
    const bool tensor =
        c->run->fast && (int8 || format == SHOAL_FORMAT_BF16 || format == SHOAL_FORMAT_FP8_BLOCK);
    const bool few = n_row <= FEW || !tensor;
    const double n_pass = few ? ceil(n_row / FEW) : 1;
    const double n_done = few ? n_row : TILE * ceil(n_row / TILE);
    const double gop_per_s =
        few ? shoal__compute_gop_per_s(r, SHOAL_FORMAT_F32) : shoal__compute_gop_per_s(r, format);
    const double read =
        c->ideal.read ? 0 : n_pass * n_bytes / shoal__read_gb_per_s(r, format) * 1e-3;
    const double compute = c->ideal.compute ? 0 : 2 * n_mac * n_done / gop_per_s * 1e-3;
    return larger(read, compute);
}

/* Launches of attention with its norm, projections and residual. */
static double attention_launches(const shoal__costs *c)
{
    const shoal_spec *s = c->run->spec;
    const shoal_attention_config *a = &s->attention;
    const double int8 = takes_int8(c, &c->measured->attention) ? 1 : 0;
    /* norm, integers; o with its integers; the core and its merging; the residual */
    const double both = 1 + int8 + 1 + int8 + 2 + 1;
    if (a->kind != SHOAL_ATTENTION_MLA) /* q, k, v; heads placed */
        return both + 2 + (a->qk_norm == SHOAL_QK_NORM_WHOLE ? 2 : 0);
    const double heads = a->n_head > CARRIED ? 2 : 1; /* a product for each head */
    const double low_rank = a->q_lora_rank > 0 ? 2 + int8 : 0;
    return both + 2 + low_rank + 2 * heads; /* kv_a with q_a; latents placed */
}

double shoal__device_attention_us(const shoal__costs *c, int32_t rank, double n_row)
{
    enum { PASSES = 6 }; /* norms, integers, rotations, residual */
    return values_us(c, rank, n_row * c->run->spec->n_embd, PASSES) +
           recorded_us(c, rank, n_row, attention_launches(c));
}

double shoal__device_route_us(const shoal__costs *c, int32_t rank, double n_row, double n_away)
{
    const shoal_spec *s = c->run->spec;
    const double int8 = c->measured->wire.dispatch == SHOAL_WIRE_INT8 ? 1 : 0;
    /* norm, integers, logits, choice; a kernel for each message. The choice is waited for, and
     * where there are others the first message. */
    return values_us(c, rank, n_row * s->n_embd, 2) + recorded_us(c, rank, n_row, 3 + int8) +
           calls_us(c, rank, c->n_target, c->placement->n_rank > 1 ? 2 : 1) +
           pcie_us(c, rank, n_row * n_away * (double)c->dispatch_row_bytes);
}

double shoal__device_slots_us(const shoal__costs *c, int32_t rank, double n_row, double n_slot,
                              double n_wire_bytes)
{
    const shoal_spec *s = c->run->spec;
    /* Products are launched by the rows that experts have: one, two, up to four, eight, more. */
    const double n_kind = n_row <= 1 ? 1 : n_row <= FEW ? 2 : 3;
    const double n_item = n_slot / n_kind; /* experts of a kind, at most */
    const double n_list = (2 * n_item > CARRIED ? 1 : 0) + (n_item > CARRIED ? 1 : 0);
    const double n_gather = n_row > 1 ? 1 : 0; /* a single row is read where it lies */
    /* messages taken, rows brought together, gate and up, activation, down, results packed */
    const double n_launch = 2.0 * c->n_source + n_gather + 2 * n_kind + n_list + 1;
    return values_us(c, rank, n_row * s->n_embd, 1) + values_us(c, rank, n_slot * s->n_embd, 1) +
           values_us(c, rank, n_slot * s->n_ff_expert, 2) +
           calls_us(c, rank, n_launch, c->placement->n_rank > 1 ? 1 : 0) +
           pcie_us(c, rank, n_wire_bytes);
}

double shoal__device_collect_us(const shoal__costs *c, int32_t rank, double n_row, double n_home)
{
    return values_us(c, rank, n_row * c->run->spec->n_embd, 2) + calls_us(c, rank, 2, 0) +
           pcie_us(c, rank, n_home * (double)c->combine_row_bytes);
}

double shoal__device_mlp_us(const shoal__costs *c, int32_t rank, double n_row, int32_t n_ff)
{
    /* gate and up, activation, down; the gate of shared experts, or norm, integers and residual of
     * a dense layer */
    return values_us(c, rank, n_row * n_ff, 2) + recorded_us(c, rank, n_row, 5);
}

enum { LARGEST_BYTES = SHOAL_LARGEST_MAX * 8 };

double shoal__device_ends_us(const shoal__costs *c, int32_t rank, double n_row, double n_logit)
{
    const shoal_spec *s = c->run->spec;
    const double up = n_row * 4 * ((double)s->n_embd + s->attention.rope.n_rot);
    const double down = n_logit * (4.0 * s->n_embd + LARGEST_BYTES);
    /* three uploads; norm, rows brought together, integers, logits, the largest of them, which is
     * all that is drawn from; a download */
    return values_us(c, rank, n_logit * s->n_vocab, 0.5) + calls_us(c, rank, 9, 1) +
           pcie_us(c, rank, up + down);
}
