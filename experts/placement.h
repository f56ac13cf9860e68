/* Placement: which rank owns which expert of which MoE layer. A pure function of numbers, equal on
 * every rank; part of what all ranks agree on before weights load. (layer, expert) maps to a list
 * of ranks: one entry today. The default gives each rank a contiguous range in proportion to its
 * expert weight:
 *   - a rank's exact share of a layer is n_expert * weight / (sum of weights);
 *   - it owns whole router groups, equal in every layer, if for every rank the nearest number of
 *     whole groups is less than one expert away from the exact share (8 groups over 1, 2, 4, 8
 *     equal ranks, or weights 2:1:1; not over 3 equal ranks);
 *   - else it owns its share rounded down or up to experts: who is rounded up in a layer are those
 *     with the largest remainders summed over the layers so far (ties: the lower rank), so that
 *     remainders rotate and no rank is always the fullest.
 * Either way a rank's count is less than one expert away from its exact share, in every layer.
 *
 * People write YAML (docs/CONFIGURATION.md): `ranks: [{experts: 1.0, sequences: 0.0}, ...]`.
 * Layering: experts know proto and base. */
#ifndef SHOAL_EXPERTS_PLACEMENT_H
#define SHOAL_EXPERTS_PLACEMENT_H

#include "runtime/base/log.h"

#define SHOAL_PLACEMENT_VERSION 1
#define SHOAL_MAX_RANK          1024

typedef struct shoal_placement {
    int32_t n_layer;  /* MoE layers, numbered from 0 among themselves */
    int32_t n_expert; /* per layer */
    int32_t n_rank;
    int32_t n_replica;       /* ranks per expert: 1 */
    int32_t *owner;          /* [n_layer, n_expert, n_replica] rank */
    double *expert_weight;   /* [n_rank] >= 0, share of the experts; not all 0 */
    double *sequence_weight; /* [n_rank] >= 0, share of the sequences; not all 0. 0: an expert-only
                                rank */
} shoal_placement;

/* n_layer >= 0, n_expert >= 1, n_group divides n_expert (1: no groups), n_rank in
 * 1 .. SHOAL_MAX_RANK. expert_weight/sequence_weight: [n_rank] or NULL for all 1. Owns its memory:
 * shoal_placement_close. Errors: USAGE (a number out of these ranges; negative, not finite or
 * all-zero weights), NO_MEMORY. */
shoal_status shoal_placement_open(shoal_placement *placement, int32_t n_layer, int32_t n_expert,
                                  int32_t n_group, int32_t n_rank, const double *expert_weight,
                                  const double *sequence_weight, shoal_log *log);
/* From a YAML file; a weight that it leaves out is 1. Errors also: NO_INPUT, BAD_DATA (other rank
 * count than n_rank, unknown key, bad number). */
shoal_status shoal_placement_read_file(shoal_placement *placement, const char *path,
                                       int32_t n_layer, int32_t n_expert, int32_t n_group,
                                       int32_t n_rank, shoal_log *log);
void shoal_placement_close(shoal_placement *placement); /* accepts zeroed */

/* Rank that owns (layer, expert). */
int32_t shoal_placement_owner(const shoal_placement *placement, int32_t layer, int32_t expert);

/* Experts of `layer` owned by `rank`, ascending, into expert [n_expert] (may be NULL); returns the
 * count. */
int32_t shoal_placement_owned(const shoal_placement *placement, int32_t layer, int32_t rank,
                              int32_t *expert);

/* Serialise (shoal.proto Placement): bytes are malloc'ed, the caller frees. Equal placements give
 * equal bytes. */
shoal_status shoal_placement_pack(uint8_t **bytes, size_t *n_bytes,
                                  const shoal_placement *placement, shoal_log *log);
/* Errors: BAD_DATA (not a placement, other version, owner out of range). */
shoal_status shoal_placement_unpack(shoal_placement *placement, const uint8_t *bytes,
                                    size_t n_bytes, shoal_log *log);

#endif
