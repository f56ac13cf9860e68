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
    int32_t n_sequence; /* at once over all ranks */
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

#endif
