/* How many bytes of a checkpoint belong to which class of tensors, from the headers alone.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_WEIGHT_BYTES_H
#define SHOAL_LAUNCHER_WEIGHT_BYTES_H

#include "experts/placement.h"
#include "runtime/checkpoint/load.h"
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
    uint64_t other;      /* tensors that generating without drafts does not use: MTP layers */
    uint64_t total;      /* of all tensors */
    uint64_t one_expert; /* the largest */
} shoal_weight_bytes;

/* How a checkpoint stores its weights, as config.json announces it. */
typedef enum shoal_storage {
    SHOAL_STORED_PLAIN,
    SHOAL_STORED_FP8,
    SHOAL_STORED_MXFP4
} shoal_storage;
typedef struct shoal_storage_config {
    shoal_storage storage;
    shoal_dtype dtype;           /* of what is not quantised */
    shoal_weights_choice choice; /* what it becomes in memory (--weights) */
} shoal_storage_config;
shoal_storage_config shoal_storage_of(const shoal_json *config);

/* What the weights will take in memory, or as files when there is only a config.json: elements of
 * the announced dtype; FP8: matrices of attention and MLPs a byte per element and an f32 scale per
 * block of 128 x 128; MXFP4: matrices of routed experts 4.25 bits per element. MTP layers count as
 * `other`, with the copies of embedding and head that their files hold. With a choice the matrices
 * of attention, MLPs and head are what it makes of them, a tied head included. */
shoal_weight_bytes shoal_weight_bytes_expected(const shoal_spec *spec,
                                               const shoal_storage_config *storage);

/* Bytes of rank's weights under a placement, n_bytes [n_rank]: its experts, and all other classes
 * but `other` where it holds sequences. */
void shoal_weight_bytes_of_ranks(uint64_t *n_bytes, const shoal_weight_bytes *bytes,
                                 const shoal_placement *placement);

/* Scales of quantised matrices count with their matrix. Tensors that are missing count nothing. */
shoal_weight_bytes shoal_weight_bytes_of(const shoal_checkpoint *checkpoint,
                                         const shoal_spec *spec);

#endif
