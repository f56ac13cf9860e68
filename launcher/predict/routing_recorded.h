/* Choices of a recorded run (`--routes F`) as a source for the cost model. Few tokens of a draw (a
 * decode step) are rows of the record at random, as sequences have nothing to do with each other;
 * many (a prefill) are rows that follow each other in it. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ROUTING_RECORDED_H
#define SHOAL_LAUNCHER_ROUTING_RECORDED_H

#include "launcher/predict/routing.h"

#define SHOAL_ROUTING_CHOICES_MAX (1 << 24) /* that are kept of a record */

typedef struct shoal_routing_recorded {
    const char *path; /* borrowed */
    int32_t n_layer, top_k;
    int64_t n_row;
    uint16_t *expert; /* [n_row, n_layer, top_k] */
} shoal_routing_recorded;

/* The record's first rows. router, n_layer: of the model that it is to stand for. Owns its memory:
 * shoal_routing_recorded_close. Errors: NO_INPUT, BAD_DATA (no trace, of another shape of model, no
 * rows), IO, NO_MEMORY. */
shoal_status shoal_routing_recorded_open(shoal_routing_recorded *recorded, const char *path,
                                         const shoal_router_config *router, int32_t n_layer,
                                         shoal_log *log);
void shoal_routing_recorded_close(shoal_routing_recorded *recorded); /* accepts zeroed */
shoal_routing shoal_routing_of_recorded(shoal_routing_recorded *recorded);

#endif
