/* --routes F: what the engine gives on rank 0 (engine.h, on_routes) goes into a routing trace
 * (runtime/proto/routes.h). A run does not fail because its trace cannot be written: what is wrong
 * is said once, and is the command's status at its end. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ROUTES_RECORD_H
#define SHOAL_LAUNCHER_ROUTES_RECORD_H

#include "runtime/engine/engine.h"
#include "runtime/proto/routes.h"

typedef struct shoal_routes_record {
    shoal_routes_writer writer;
    shoal_status status; /* of writing so far */
} shoal_routes_record;

/* Rank 0. path outlives the record. Errors: IO, NO_MEMORY; USAGE for a model without MoE layers or
 * with more experts than a trace can name. */
shoal_status shoal_routes_record_open(shoal_routes_record *record, const char *path,
                                      const shoal_spec *spec, uint64_t identity, int32_t n_rank,
                                      shoal_log *log);
/* shoal_engine_routes_fn; arg: a shoal_routes_record. */
void shoal_routes_record_put(void *arg, const shoal_engine_routes *routes);
/* The same for rows [row0, row0 + routes->n_row) of choices by layer: expert [n_layer, n_row_all,
 * top_k]; routes->expert is not used. */
void shoal_routes_record_put_layers(shoal_routes_record *record, const shoal_engine_routes *routes,
                                    const int32_t *expert, int32_t row0, int32_t n_row_all);
/* With `ended` says what was written. Accepts zeroed and closed. Errors: the first of writing. */
shoal_status shoal_routes_record_close(shoal_routes_record *record, bool ended);

#endif
