/* What a model would take and read on a rank, without a rank: the same checks and the same carve
 * functions as those of a run, on measuring arenas, so that the numbers are those of a run.
 * Layering: model knows checkpoint, comm, experts, kernels, base. */
#ifndef SHOAL_MODEL_MEASURE_H
#define SHOAL_MODEL_MEASURE_H

#include "runtime/model/model.h"

/* What passing through some matrices costs, by format: packed bytes (scales included) at once,
 * multiply-adds for each row. */
typedef struct shoal_pass_work {
    uint64_t n_bytes[SHOAL_N_FORMAT], n_mac[SHOAL_N_FORMAT];
} shoal_pass_work;

typedef struct shoal_model_measured {
    shoal_memory_table memory;
    shoal_wire wire;
    /* Sums over the layers, of a rank that holds sequences; zeros on an expert-only rank. */
    shoal_pass_work attention, router, shared, dense;
    shoal_pass_work head;   /* for each row with logits */
    shoal_pass_work expert; /* the mean of one expert: formats of a model's layers may differ */
    uint64_t kv_row_bytes;  /* of a position, in one layer */
} shoal_model_measured;

/* Whose memory: a rank and the threads of its pool, of a model whose checkpoint has no weights or
 * has them. */
typedef struct shoal_measured_rank {
    int32_t rank, n_thread;
    bool has_device;                        /* with memory of its own */
    const shoal_model_announced *announced; /* NULL if the checkpoint has weights */
} shoal_measured_rank;

/* config: as of a run (n_sequence is this rank's), but comm, compute and progress are not used.
 * Errors: as shoal_model_open. */
shoal_status shoal_model_measure(shoal_model_measured *measured, const shoal_spec *spec,
                                 shoal_checkpoint *checkpoint, const shoal_model_config *config,
                                 const shoal_measured_rank *rank, shoal_log *log);

#endif
