/* The kernel table: every arithmetic inner loop of a CPU rank. cpu/ holds the readable
 * specification, compiled once per instruction set from the same source (cpu/variant.h): all
 * variants give the same bits, because every sum has one fixed order, every multiply-add is an
 * explicit fma, and exp/silu are our own. The functions here are serial and pure; ops.h spreads
 * them over a pool.
 *
 * Fixed orders (rule 1):
 *   matmul    lane = output row; sequential over columns (FP8, MXFP4: over groups, see matrix.h)
 *   matmul_int8  lane = output row; groups of 32 columns in order, the integers of a group exactly
 *   row sums  (norm, softmax denominators) 16 lanes: lane l adds elements l, l+16, ...; then the
 *             lanes are added in a fixed tree (8 4 2 1)
 *   attention blocks of SHOAL_ATTEND_BLOCK positions, counted from position 0, in order (the
 *             model starts anew every few blocks and merges, also in order)
 *
 * The same bits are promised for numbers; a NaN stays one, but its sign and payload may differ.
 * Layering: kernels know base only. Callers pass plain arrays; nothing is allocated. */
#ifndef SHOAL_KERNELS_KERNELS_H
#define SHOAL_KERNELS_KERNELS_H

#include "runtime/base/log.h"
#include "runtime/kernels/matrix.h"

#define SHOAL_PEAK_SINK    32 /* values that peak_* begin with and end in */
#define SHOAL_ATTEND_BLOCK 64 /* positions per block of the cache; a multiple of 16 */

/* 32 values of a row of activations as integers: x = scale * q. A row of n_col values has
 * ceil(n_col / 32) of them, the last one filled up with zeros. */
typedef struct shoal_int8_group {
    int8_t q[SHOAL_GROUP];
    float scale;
    int32_t minus_8_sum; /* -8 * sum of q: takes back what weights are too large by, if that is 8 */
} shoal_int8_group;

/* Groups of a row. */
static inline int32_t shoal_int8_groups(int32_t n_col)
{
    return (n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
}

/* Rows of activations without gaps: as f32, as integers, or both of the same rows. */
typedef struct shoal_rows {
    const float *f32;             /* [n_row, n_col] or NULL */
    const shoal_int8_group *int8; /* [n_row, groups of n_col] or NULL */
} shoal_rows;

/* Storage of the KV cache. */
typedef enum shoal_kv_dtype { SHOAL_KV_F32, SHOAL_KV_BF16 } shoal_kv_dtype;

/* Running state of one (query row, head) over the blocks of its cache. */
typedef struct shoal_attend_state {
    float max;   /* largest score so far; -INFINITY before the first block */
    float denom; /* sum of exp(score - max) */
} shoal_attend_state;

/* One kv head over one block of the cache, in the cache's type, 64-byte aligned. */
typedef struct shoal_attend_kv {
    const void *key;   /* [SHOAL_ATTEND_BLOCK / 16][d_k][16], 16 positions interleaved */
    const void *value; /* [SHOAL_ATTEND_BLOCK][d_v] */
    shoal_kv_dtype dtype;
    int32_t d_k, d_v;
    const void
        *next; /* the key of the block that follows, to be fetched ahead; any address will do */
} shoal_attend_kv;

typedef struct shoal_kernels {
    const char *name; /* as for shoal_kernels_select */

    /* y[t, r] = sum_c w[r, c] * x[t, c] for the rows of bands [band0, band1) and all t < n_token.
     * x: [n_token, ld_x] f32; y: [n_token, ld_y] f32, only columns of those rows are written.
     * Padding rows are not written. */
    void (*matmul)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                   const float *x, int64_t ld_x, int32_t n_token);

    /* The same for a quantised w with int8 activations x [n_token, ld_x] (ld_x in groups): per
     * output, over the groups g in order from acc = 0,
     *     S   = sum over the group's columns of qw * qx, exact in int32
     *     acc = fma((float)S, scale_w * scale_x, acc)          the product of scales rounded to f32
     * qw is q of Q8 and Q4, and twice the e2m1 value for MXFP4, whose scale_w is 2^(e - 128). */
    void (*matmul_int8)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                        const shoal_int8_group *x, int64_t ld_x, int32_t n_token);

    /* One row of n_col values to int8 groups; q and scale as to_int8 below. */
    void (*to_groups)(shoal_int8_group *y, const float *x, int32_t n_col);

    /* One row: y[c] = weight[c] * (x[c] * (1 / sqrt(mean(x^2) + eps))). y may be x. weight [n_col]
     * f32. */
    void (*rms_norm)(float *y, const float *x, const float *weight, int32_t n_col, float eps);

    /* Rotate one head's n_rot values in place. cos, sin: [n_rot / 2]. half: pairs (i, i + n_rot/2);
     * interleaved: pairs (2i, 2i + 1). */
    void (*rope_half)(float *x, const float *cos, const float *sin, int32_t n_rot);
    void (*rope_interleaved)(float *x, const float *cos, const float *sin, int32_t n_rot);

    /* y[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z)). y may be gate or up. */
    void (*silu_mul)(float *y, const float *gate, const float *up, int64_t n);

    /* gpt-oss: g = min(gate[i], limit), u = up[i] within [-limit, limit],
     * y[i] = (u + 1) * (g / (1 + exp(-alpha * g))). y may be gate or up. */
    void (*swiglu_clamped)(float *y, const float *gate, const float *up, int64_t n, float alpha,
                           float limit);

    /* y[i] += x[i]; y[i] = fma(a, x[i], y[i]). y and x do not overlap. */
    void (*add)(float *y, const float *x, int64_t n);
    void (*axpy)(float *y, float a, const float *x, int64_t n);
    /* axpy of the values that from_bf16 gives. */
    void (*axpy_bf16)(float *y, float a, const uint16_t *x, int64_t n);
    /* y[i] *= a. */
    void (*scale)(float *y, float a, int64_t n);

    /* In place over one row: x -> softmax(x) (max subtracted; sum in the fixed lane order). */
    void (*softmax)(float *x, int32_t n);
    /* In place: x -> 1 / (1 + exp(-x)). */
    void (*sigmoid)(float *x, int64_t n);
    /* log(sum exp(x)) of a row, for perplexity; in double from the f32 terms, fixed order. */
    double (*log_sum_exp)(const float *x, int32_t n);

    /* Attention over one block of the cache, one kv head, n_query (row, head) pairs that share it.
     *
     * attend_block: for query i: score_p = scale * (q_i . k_p), sequential over d_k in lane p;
     * positions p < first[i] or >= last[i] are masked (first/last relative to the block; an empty
     * range changes nothing); then the online softmax update of state[i] and out[i] ([d_v],
     * unnormalised; zero before the first block). Masked positions may hold anything. q: [n_query,
     * ld_q], out: [n_query, ld_out].
     * attend_values: where values are the first d_v elements of the keys (MLA): the value rows
     * [n_position rounded up to 16][d_v] of a block out of its keys, in the cache's type.
     * attend_merge: out and state of some positions, then those (part) of the positions behind
     * them: with m the larger maximum, out = fma(part, exp(part max - m), out * exp(max - m)).
     * attend_sink, before attend_finish in models that have sinks: one query's state and out as if
     * a position with this score and a value of 0 were merged after the last block.
     * attend_finish: out = out / denom, one query. */
    void (*attend_block)(float *out, int64_t ld_out, shoal_attend_state *state, const float *q,
                         int64_t ld_q, int32_t n_query, const int32_t *first, const int32_t *last,
                         float scale, const shoal_attend_kv *kv);
    void (*attend_values)(void *value, const void *key, shoal_kv_dtype dtype, int32_t n_position,
                          int32_t d_k, int32_t d_v);
    void (*attend_merge)(float *out, shoal_attend_state *state, const float *part,
                         const shoal_attend_state *part_state, int32_t d_v);
    void (*attend_sink)(float *out, shoal_attend_state *state, float sink, int32_t d_v);
    void (*attend_finish)(float *out, const shoal_attend_state *state, int32_t d_v);

    /* Wire encodings (rule 2). bf16: round to nearest even. int8: groups of 32 (the last may be
     * short), f32 scale = amax / 127 per group, q = round-half-even(x / scale), all-zero group:
     * scale 0. */
    void (*to_bf16)(uint16_t *y, const float *x, int64_t n);
    void (*from_bf16)(float *y, const uint16_t *x, int64_t n);
    void (*to_int8)(int8_t *q, float *scale, const float *x, int64_t n);
    void (*from_int8)(float *y, const int8_t *q, const float *scale, int64_t n);

    /* Yardsticks for shoal bench, on one thread. peak_f32, peak_int8: n_round rounds of nothing but
     * the multiply-adds that matmul and matmul_int8 consist of, on registers; return their number.
     * sink: any values, overwritten. peak_read: loads n_bytes (a multiple of 4096); returns a value
     * that depends on them all. */
    uint64_t (*peak_f32)(float sink[SHOAL_PEAK_SINK], int64_t n_round);
    uint64_t (*peak_int8)(int32_t sink[SHOAL_PEAK_SINK], int64_t n_round);
    uint64_t (*peak_read)(const void *from, size_t n_bytes);
} shoal_kernels;

/* name: "auto" (the widest of one family of bits that this CPU has) or that of a variant. Errors:
 * USAGE (unknown name, with the list), UNAVAILABLE (with the instructions that this CPU lacks). The
 * result is static and immutable. */
shoal_status shoal_kernels_select(const shoal_kernels **kernels, const char *name, shoal_log *log);

/* Kernels of the same number give the same bits, and all CPU ranks must have the same. 0: rule 1's,
 * also for "auto" and unknown names. avx512-bf16 has a number of its own: it rounds the
 * activations of a matmul over BF16 or FP8_BLOCK to bf16 and adds pairs of columns, in an order
 * that depends on tokens and bands as little as rule 1's. */
int32_t shoal_kernels_bits(const char *name);

/* What this build and CPU can run of number 0, for tests: returns the count, at most n_max
 * written; the reference is the first. */
int32_t shoal_kernels_list(const shoal_kernels **kernels, int32_t n_max);

#endif
