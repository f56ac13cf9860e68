/* The cost model: what a model on a cluster takes and does, before anything is started. A pure
 * function of the architecture (config.json is enough), the options of a run, the cluster, the
 * placement and a source of routing choices. Memory is measured by the carve functions of the run
 * itself; times follow the lockstep of runtime/model: owner-only attention and logits, experts as
 * slow as the slowest rank, two hops per MoE layer, parts in flight where a run would cut.
 * Formulas: docs/PERFORMANCE.md, "Plan". Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PREDICT_H
#define SHOAL_LAUNCHER_PREDICT_H

#include "launcher/cluster/cluster.h"
#include "launcher/predict/routing.h"
#include "runtime/engine/engine.h"
#include "runtime/model/measure.h"

/* A run to be predicted: what options and agreement would fix. */
typedef struct shoal_predict_run {
    const shoal_spec *spec;
    shoal_checkpoint
        *checkpoint; /* its headers say the formats; without weights config.json does */
    bool fast;       /* --math fast */
    shoal_weights_choice weights;
    shoal_combine_kind combine;
    shoal_kv_dtype kv_dtype;
    int32_t n_context;
    int32_t n_sequence; /* at once over all ranks: what memory is sized for, and decode */
    int32_t prefill_chunk;
    int32_t overlap_rows;         /* shoal_model_config */
    int32_t n_prompt;             /* tokens of each sequence that is prefilled */
    int32_t n_gen;                /* tokens that are then generated */
    const shoal_cluster *cluster; /* one rank of the run for each of its ranks */
    const shoal_routing *routing;
} shoal_predict_run;

/* Shares for `--placement weighted`: expert_weight, sequence_weight [n_rank of the cluster], for
 * shoal_placement_open. Experts in proportion to what each rank streams, as far as its memory goes;
 * sequences in proportion to attention speed, on all ranks or, where the model says that this is
 * faster or that nothing else fits, on the fastest few. Pure and deterministic: ranks that hand in
 * the same numbers get the same shares. Where nothing fits the shares are those that overflow least
 * and the status is OK. Errors: NO_MEMORY, and those of the checkpoint. */
shoal_status shoal_predict_weights(double *expert_weight, double *sequence_weight,
                                   const shoal_predict_run *run, shoal_log *log);

/* With the best of such shares, where only memory is looked at. Errors: as above. */
typedef struct shoal_overflow {
    double over_bytes;   /* on all ranks together; 0: it fits */
    double source_bytes; /* that the roomiest rank that holds sequences takes besides experts */
} shoal_overflow;

shoal_status shoal_predict_overflow(shoal_overflow *least, const shoal_predict_run *run,
                                    shoal_log *log);

/* How n_sequence sequences are spread over the ranks of a placement, n [n_rank]: as the scheduler
 * admits them, each to the rank that has least for its weight, ties to the lower. */
void shoal_predict_sequences(int32_t *n, const shoal_placement *placement, int32_t n_sequence);

/* Bytes of one rank by class. */
typedef struct shoal_rank_memory {
    shoal_memory_table model;
    uint64_t engine_bytes;
    /* Of what shoal_cluster_rank.memory_bytes is room for: all of a cpu rank; of a GPU rank what
     * lies in the GPU's memory. And its experts in that. */
    uint64_t total_bytes, expert_bytes;
    uint64_t host_bytes; /* of a GPU rank: the rest, in its host's memory; 0 of a cpu rank */
} shoal_rank_memory;

/* memory: [n_rank], what each rank would print before it loads. measured: of a rank that holds
 * sequences. Errors: NO_MEMORY, USAGE (limits beyond what the engine takes), those of the
 * checkpoint. */
shoal_status shoal_predict_memory(shoal_rank_memory *memory, shoal_model_measured *measured,
                                  const shoal_predict_run *run, const shoal_placement *placement,
                                  shoal_log *log);

/* Bytes that rank r has room for: a cpu rank what the GPU ranks of its host leave to it. */
double shoal_predict_room(const shoal_cluster *cluster, const shoal_rank_memory *memory, int32_t r);

/* Bytes by which what GPU ranks take of a host's memory is over what there is, on a host without a
 * cpu rank to make room: there it is for that rank to notice. */
double shoal_predict_host_over(const shoal_cluster *cluster, const shoal_rank_memory *memory,
                               int32_t host);

/* What a step would gain most from being rid of. */
typedef enum shoal_bound {
    SHOAL_BOUND_MEMORY,    /* it does not fit */
    SHOAL_BOUND_READ,      /* reading weights and cache */
    SHOAL_BOUND_COMPUTE,   /* multiplying */
    SHOAL_BOUND_LATENCY,   /* messages, whatever is in them */
    SHOAL_BOUND_WIRE,      /* their bytes */
    SHOAL_BOUND_PCIE,      /* bytes between GPUs and their hosts */
    SHOAL_BOUND_IMBALANCE, /* experts wait for the fullest rank */
    SHOAL_BOUND_OVERHEAD,  /* fixed costs of layers and steps */
    SHOAL_N_BOUND
} shoal_bound;
const char *shoal_bound_text(shoal_bound bound); /* "memory", "read bandwidth", ... */

typedef struct shoal_step_prediction {
    double step_us;
    /* They add up to it: attention with router, shared experts and dense layers on the slowest
     * source; experts on the average rank; what the slowest rank's take longer; what is left are
     * hops and waits; logits and sampling; control. */
    double attention_us, experts_us, imbalance_us, exchange_us, logits_us, control_us;
    double tokens;              /* rows of all ranks */
    double exchange_bytes;      /* dispatch and combine, all ranks, headers included */
    double exchange_messages;   /* all ranks */
    double gain[SHOAL_N_BOUND]; /* step_us / step_us without it */
    shoal_bound bound;
} shoal_step_prediction;

typedef struct shoal_speed {
    double prefill_tok_per_s, decode_tok_per_s; /* over all sequences */
    shoal_step_prediction prefill, decode;      /* a full step of each */
} shoal_speed;

/* run->n_sequence sequences at once. bounds: whether gain, bound and the
 * full step of a prefill are wanted, and more draws; else it is quick. Whether it fits is not
 * asked. Errors: NO_MEMORY. */
shoal_status shoal_predict_speed(shoal_speed *speed, const shoal_predict_run *run,
                                 const shoal_placement *placement,
                                 const shoal_model_measured *measured, bool bounds, shoal_log *log);

#endif
