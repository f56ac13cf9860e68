/* Weights that a former start has packed (--cache), in the walk over the tensors. Tensors are kept
 * in units (runtime/checkpoint/pack_cache.h): what belongs to no layer, all of a layer but its
 * experts, an expert. Every pass asks for each tensor whether its unit has it: check points to it,
 * carve leaves it out, load brings it into memory in place of reading the checkpoint. Load also
 * collects the units that it had to pack and hands them over to be kept. Without a cache all this
 * does nothing. Layering: inside model. */
#ifndef SHOAL_MODEL_WEIGHTS_KEPT_H
#define SHOAL_MODEL_WEIGHTS_KEPT_H

#include "runtime/model/weights_walk.h"

/* Between begin and end all tensors belong to this unit. own: this rank keeps its tensors. Errors:
 * in the load pass what --verify finds (BAD_DATA), NO_MEMORY. */
shoal_status shoal__unit_begin(shoal_walker *w, int32_t layer, int32_t expert, bool own);
shoal_status shoal__unit_end(shoal_walker *w);
/* Behind the last unit of a file: those that were packed are kept. */
void shoal__units_keep(shoal_walker *w);
void shoal__units_close(shoal_walker *w); /* also after a failure */

/* True if the unit has the matrix that ref names in m's format and shape (n_col 0: a vector of
 * f32); m then points to it. */
bool shoal__unit_find(const shoal_walker *w, shoal_matrix *m, shoal_weight_ref ref);
/* Check: count what was found. */
void shoal__unit_count(shoal_walker *w, const shoal_matrix *m);
/* Load: bring what was found, `kept`, into memory, m's on a rank with a device; counts and reports
 * progress like shoal__walk_loaded. */
shoal_status shoal__unit_fetch(shoal_walker *w, const shoal_matrix *m, const shoal_matrix *kept);
/* Load: a matrix of this unit was packed; it is to be kept. Carve for units.h: it is part of it. */
shoal_status shoal__unit_add(shoal_walker *w, const shoal_matrix *m, shoal_weight_ref ref);
/* Load, where m's memory is a device's: give m memory of the host until its unit is kept. Errors:
 * NO_MEMORY. */
shoal_status shoal__unit_hold(shoal_matrix *m, shoal_walker *w);

#endif
