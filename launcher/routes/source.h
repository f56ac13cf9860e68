/* A routing trace as a source of routing choices for the cost model (predict/routing.h). A decode
 * step gets decoded rows of the trace at random, as its sequences have nothing to do with each
 * other; a prefill step gets runs of rows that stood together in a prompt. Where the trace has rows
 * of one kind only, they serve for both. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ROUTES_SOURCE_H
#define SHOAL_LAUNCHER_ROUTES_SOURCE_H

#include "launcher/predict/routing.h"
#include "runtime/model/spec.h"
#include "runtime/proto/routes.h"

#define SHOAL_ROUTES_SOURCE_BYTES ((size_t)512 << 20) /* of choices of one kind that are kept */

typedef struct shoal_routes_source {
    const char *path;
    int32_t n_layer, top_k;
    int64_t n_row[2];    /* prompts, decoded */
    uint16_t *expert[2]; /* [n_row, n_layer, top_k] */
} shoal_routes_source;

/* Reads the trace; of one that is larger than is kept, its beginning. path outlives the source.
 * Errors: as shoal_routes_reader_open; BAD_DATA for a trace of another model or without rows. */
shoal_status shoal_routes_source_open(shoal_routes_source *source, const char *path,
                                      const shoal_spec *spec, shoal_log *log);
void shoal_routes_source_close(shoal_routes_source *source); /* accepts zeroed */
shoal_routing shoal_routing_of_routes(shoal_routes_source *source);

#endif
