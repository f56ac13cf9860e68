/* The placement as bytes: for the wire and for files that programs write. Plain arrays here,
 * protobuf-c behind the door. Equal messages give equal bytes.
 * Layering: proto knows base only; what a placement means is known by experts. */
#ifndef SHOAL_PROTO_PLACEMENT_H
#define SHOAL_PROTO_PLACEMENT_H

#include "runtime/base/log.h"

#include <stddef.h>

typedef struct shoal_placement_message {
    uint32_t version; /* of the format */
    int32_t n_layer, n_expert, n_rank, n_replica;
    int32_t *owner;          /* [n_layer, n_expert, n_replica] */
    double *expert_weight;   /* [n_rank] */
    double *sequence_weight; /* [n_rank] */
} shoal_placement_message;

/* The message is borrowed; bytes are malloc'ed and the caller's to free. Errors: NO_MEMORY. */
shoal_status shoal_placement_message_pack(uint8_t **bytes, size_t *n_bytes,
                                          const shoal_placement_message *message, shoal_log *log);

/* `version` is the format that the caller understands. Owned by the caller:
 * shoal_placement_message_close. What comes out is consistent: counts >= 0, n_rank and n_replica
 * >= 1, arrays of exactly these sizes, owners in [0, n_rank), weights finite and >= 0. Errors:
 * BAD_DATA (not a placement, another version, inconsistent), NO_MEMORY. */
shoal_status shoal_placement_message_unpack(shoal_placement_message *message, const uint8_t *bytes,
                                            size_t n_bytes, uint32_t version, shoal_log *log);
void shoal_placement_message_close(shoal_placement_message *message); /* accepts zeroed */

#endif
