/* A placement as bytes, through the door in runtime/proto. Bytes may come from anywhere. */
#include "experts/placement_rules.h"
#include "runtime/proto/placement.h"

#include <string.h>

#define PACKED "packed placement"

shoal_status shoal_placement_pack(uint8_t **bytes, size_t *n_bytes,
                                  const shoal_placement *placement, shoal_log *log)
{
    shoal_placement_message message = {
        .version = SHOAL_PLACEMENT_VERSION,
        .n_layer = placement->n_layer,
        .n_expert = placement->n_expert,
        .n_rank = placement->n_rank,
        .n_replica = placement->n_replica,
        .owner = placement->owner,
        .expert_weight = placement->expert_weight,
        .sequence_weight = placement->sequence_weight,
    };
    return shoal_placement_message_pack(bytes, n_bytes, &message, log);
}

/* What the door does not know: the limits of a placement of this version. */
static shoal_status from_message(shoal_placement *placement, const shoal_placement_message *message,
                                 shoal_log *log)
{
    int32_t n_rank = message->n_rank;
    if (n_rank > SHOAL_MAX_RANK || message->n_replica != 1 || message->n_expert < 1)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          PACKED ": has %d ranks, %d experts and %d ranks per expert, wanted at "
                                 "most %d ranks, at least one expert and one rank per expert",
                          (int)n_rank, (int)message->n_expert, (int)message->n_replica,
                          SHOAL_MAX_RANK);
    SHOAL_TRY(shoal__placement_check_weights(message->expert_weight, n_rank, "expert", PACKED,
                                             SHOAL_BAD_DATA, log));
    SHOAL_TRY(shoal__placement_check_weights(message->sequence_weight, n_rank, "sequence", PACKED,
                                             SHOAL_BAD_DATA, log));
    shoal_placement p;
    SHOAL_TRY(
        shoal__placement_alloc(&p, message->n_layer, message->n_expert, message->n_rank, log));
    memcpy(p.owner, message->owner, (size_t)p.n_layer * (size_t)p.n_expert * sizeof *p.owner);
    memcpy(p.expert_weight, message->expert_weight, (size_t)n_rank * sizeof *p.expert_weight);
    memcpy(p.sequence_weight, message->sequence_weight, (size_t)n_rank * sizeof *p.sequence_weight);
    *placement = p;
    return SHOAL_OK;
}

shoal_status shoal_placement_unpack(shoal_placement *placement, const uint8_t *bytes,
                                    size_t n_bytes, shoal_log *log)
{
    shoal_placement_message message;
    SHOAL_TRY(
        shoal_placement_message_unpack(&message, bytes, n_bytes, SHOAL_PLACEMENT_VERSION, log));
    shoal_status status = from_message(placement, &message, log);
    shoal_placement_message_close(&message);
    return status;
}
