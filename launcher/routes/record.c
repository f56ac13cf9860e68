#include "launcher/routes/record.h"

#include <stdlib.h>
#include <string.h>

shoal_status shoal_routes_record_open(shoal_routes_record *record, const char *path,
                                      const shoal_spec *spec, uint64_t identity, int32_t n_rank,
                                      shoal_log *log)
{
    if (spec->n_moe_layer < 1)
        return shoal_fail(log, SHOAL_USAGE, "--routes: this model has no router to look at");
    const shoal_router_config *router = &spec->router;
    shoal_routes_header header = {.identity = identity,
                                  .n_layer = spec->n_moe_layer,
                                  .n_expert = router->n_expert,
                                  .top_k = router->top_k,
                                  .n_group = router->n_group > 1 ? router->n_group : 1,
                                  .top_group = router->n_group > 1 ? router->topk_group : 1,
                                  .n_rank = n_rank};
    snprintf(header.model, sizeof header.model, "%s", spec->family->model_type);
    header.layer = calloc((size_t)spec->n_moe_layer, sizeof *header.layer);
    if (header.layer == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to write it", path);
    for (int32_t layer = 0, n = 0; layer < spec->n_layer; layer++)
        if (spec->is_moe[layer])
            header.layer[n++] = layer;
    record->status = SHOAL_OK;
    const shoal_status status = shoal_routes_writer_open(&record->writer, path, &header, log);
    free(header.layer);
    return status;
}

void shoal_routes_record_put(void *arg, const shoal_engine_routes *routes)
{
    shoal_routes_record *record = arg;
    const shoal_routes_rows rows = {.step = routes->step,
                                    .sequence = routes->sequence,
                                    .owner = routes->owner,
                                    .position0 = routes->position0,
                                    .n_row = routes->n_row,
                                    .decode = routes->decode,
                                    .last = routes->last,
                                    .expert = routes->expert};
    const shoal_status status = shoal_routes_write(&record->writer, &rows);
    if (record->status == SHOAL_OK)
        record->status = status;
}

void shoal_routes_record_put_layers(shoal_routes_record *record, const shoal_engine_routes *routes,
                                    const int32_t *expert, int32_t row0, int32_t n_row_all)
{
    const shoal_routes_header *h = &record->writer.header;
    const size_t n_layer = (size_t)h->n_layer, top_k = (size_t)h->top_k;
    uint16_t *row = malloc(n_layer * top_k * sizeof *row);
    if (row == NULL) {
        record->status = shoal_fail(record->writer.log, SHOAL_NO_MEMORY, "%s: no memory for a row",
                                    record->writer.path);
        return;
    }
    for (int32_t i = 0; i < routes->n_row; i++) {
        for (size_t layer = 0; layer < n_layer; layer++) {
            const size_t from = (layer * (size_t)n_row_all + (size_t)(row0 + i)) * top_k;
            for (size_t j = 0; j < top_k; j++)
                row[layer * top_k + j] = (uint16_t)expert[from + j];
        }
        shoal_engine_routes one = *routes;
        one.position0 += i;
        one.n_row = 1;
        one.last = routes->last && i == routes->n_row - 1;
        one.expert = row;
        shoal_routes_record_put(record, &one);
    }
    free(row);
}

shoal_status shoal_routes_record_close(shoal_routes_record *record, bool ended)
{
    shoal_routes_writer *w = &record->writer;
    const bool open = w->file != NULL;
    const shoal_status status = shoal_routes_writer_close(w, ended);
    if (record->status == SHOAL_OK)
        record->status = status;
    if (open && ended && record->status == SHOAL_OK)
        shoal_log_info(w->log, "%s: the router's choices for %lld rows in %d layers", w->path,
                       (long long)w->n_row, (int)w->header.n_layer);
    return record->status;
}
