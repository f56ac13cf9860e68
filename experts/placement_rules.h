/* What the files of a placement share: allocation and the check of weights, which come from
 * arguments, from people's YAML and from bytes of other ranks. Layering: private to experts. */
#ifndef SHOAL_EXPERTS_PLACEMENT_RULES_H
#define SHOAL_EXPERTS_PLACEMENT_RULES_H

#include "experts/placement.h"

/* True if all weights are finite and >= 0 and one is > 0; else *bad_rank is the first bad one, or
 * -1 if all are 0. */
bool shoal__placement_weights_ok(const double *weight, int32_t n_rank, int32_t *bad_rank);

/* The same as a failure with `status`; kind: "expert" or "sequence"; where begins the text. */
shoal_status shoal__placement_check_weights(const double *weight, int32_t n_rank, const char *kind,
                                            const char *where, shoal_status status, shoal_log *log);

/* A placement of this shape, zeroed. */
shoal_status shoal__placement_alloc(shoal_placement *placement, int32_t n_layer, int32_t n_expert,
                                    int32_t n_rank, shoal_log *log);

#endif
