/* How many bytes of a checkpoint belong to which class of tensors, from the headers alone.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_WEIGHT_BYTES_H
#define SHOAL_LAUNCHER_WEIGHT_BYTES_H

#include "runtime/model/spec.h"

/* X(name): in the order of shoal_parameter_count. */
#define SHOAL_WEIGHT_CLASS_MAP(X)                                                                  \
    X(embed)                                                                                       \
    X(lm_head)                                                                                     \
    X(attention)                                                                                   \
    X(router)                                                                                      \
    X(dense_mlp)                                                                                   \
    X(shared_experts)                                                                              \
    X(experts)                                                                                     \
    X(norms)

typedef struct shoal_weight_bytes {
#define SHOAL_WEIGHT_CLASS_FIELD(name) uint64_t name;
    SHOAL_WEIGHT_CLASS_MAP(SHOAL_WEIGHT_CLASS_FIELD)
#undef SHOAL_WEIGHT_CLASS_FIELD
    uint64_t other;      /* tensors that the model does not use: MTP layers and the like */
    uint64_t total;      /* of all tensors */
    uint64_t one_expert; /* the largest */
} shoal_weight_bytes;

/* Scales of quantised matrices count with their matrix. Tensors that are missing count nothing. */
shoal_weight_bytes shoal_weight_bytes_of(const shoal_checkpoint *checkpoint,
                                         const shoal_spec *spec);

/* Bytes of weights that one decode step of n_sequence sequences reads over all ranks, n_source of
 * which hold sequences: replicated weights once per such rank, and of the experts the expected
 * share, all * (1 - (1 - k/E)^n_sequence). The embedding is not read but for a row. */
double shoal_weight_bytes_per_step(const shoal_weight_bytes *bytes, const shoal_spec *spec,
                                   int32_t n_sequence, int32_t n_source);

#endif
