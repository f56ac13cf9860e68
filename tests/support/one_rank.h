/* A loaded model on one rank, with all it stands on, for tests of the model without an engine.
 * Opening asserts.
 *
 *     shoal_one_rank r;
 *     shoal_one_rank_config config = SHOAL_ONE_RANK_DEFAULT("tests/golden/qwen3_moe");
 *     shoal_one_rank_open(&r, &config);
 *
 * Layering: tests. */
#ifndef SHOAL_TESTS_SUPPORT_ONE_RANK_H
#define SHOAL_TESTS_SUPPORT_ONE_RANK_H

#include "runtime/model/model.h"

typedef struct shoal_one_rank_config {
    const char *model; /* folder, from the root of the repository */
    const char *kernels;
    int32_t n_thread;
    int32_t n_mtp; /* MTP layers: 0 or 1 */
    bool fast;
    shoal_weights_choice weights;
    shoal_kv_dtype kv_dtype;
    int32_t n_context, n_sequence;
    int32_t n_row_max;        /* rows of a step, all with logits */
    shoal_device *device;     /* or NULL; outlives the rank */
    shoal_pack_cache *packed; /* likewise */
    shoal_status *loaded;     /* what loading ended with, which else must be OK; or NULL */
} shoal_one_rank_config;

#define SHOAL_ONE_RANK_DEFAULT(model_)                                                             \
    {                                                                                              \
        .model = (model_), .kernels = "auto", .n_thread = 2, .kv_dtype = SHOAL_KV_F32,             \
        .n_context = 128, .n_sequence = 1, .n_row_max = 64                                         \
    }

typedef struct shoal_one_rank {
    shoal_log log;
    shoal_checkpoint *checkpoint;
    shoal_spec spec;
    shoal_placement placement;
    shoal_comm *comm;
    shoal_compute compute;
    shoal_model *model;
} shoal_one_rank;

void shoal_one_rank_open(shoal_one_rank *r, const shoal_one_rank_config *config);
void shoal_one_rank_close(shoal_one_rank *r);

#endif
