/* --placement weighted: shares of experts and sequences from what the ranks can do, measured at the
 * start of the run or read from the file of a probe. Rank 0 decides and tells the others, so that
 * all have the same numbers. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_WEIGHTED_H
#define SHOAL_LAUNCHER_WEIGHTED_H

#include "launcher/session.h"

/* Fill s->placement. The session has its inputs open but for the placement; n_moe_layer: with the
 * MTP layer where it is run. Says the shares chosen and why, on rank 0. Collective. Errors:
 * NO_INPUT, BAD_DATA (--probe F is none, or of other hosts), USAGE (of fewer ranks), PEER_LOST. */
shoal_status shoal_weighted_placement(shoal_session *s, int32_t n_moe_layer);

/* The formats that most of the run's weights will have, 1 << shoal_format each, and the one that
 * most of its experts' will. */
uint32_t shoal_weighted_formats(shoal_format *of_experts, const shoal_checkpoint *checkpoint,
                                shoal_weights_choice weights);

/* "50 % 25 % 25 %" of weights [n]: each share rounded to whole percents, the first 16 of them. */
void shoal_weighted_text(char text[128], const double *weight, int32_t n);

#endif
