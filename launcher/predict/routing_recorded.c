#include "launcher/predict/routing_recorded.h"

#include "runtime/proto/routes.h"

#include <stdlib.h>
#include <string.h>

/* Up to here the tokens of a draw are taken for one each of many sequences. */
enum { INDEPENDENT_MAX = 64 };

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static shoal_status check_shape(const shoal_routes_header *h, const char *path,
                                const shoal_router_config *router, int32_t n_layer, shoal_log *log)
{
    if (h->n_layer == n_layer && h->n_expert == router->n_expert && h->top_k == router->top_k)
        return SHOAL_OK;
    return shoal_fail(
        log, SHOAL_BAD_DATA,
        "%s: is of a model (%s) with %d MoE layers, %d of %d experts per token; wanted "
        "%d layers, %d of %d, as MODEL has",
        path, h->model, (int)h->n_layer, (int)h->top_k, (int)h->n_expert, (int)n_layer,
        (int)router->top_k, (int)router->n_expert);
}

/* Rows are kept as they come, until there is room for no more. */
static shoal_status read_rows(shoal_routing_recorded *r, shoal_routes_reader *reader)
{
    const size_t n_choice = (size_t)r->n_layer * (size_t)r->top_k;
    const int64_t n_max = SHOAL_ROUTING_CHOICES_MAX / (int64_t)n_choice;
    for (;;) {
        shoal_routes_rows rows;
        bool more;
        SHOAL_TRY(shoal_routes_next(&rows, &more, reader));
        if (!more || r->n_row == n_max)
            return SHOAL_OK;
        const int64_t left = n_max - r->n_row, n = rows.n_row < left ? rows.n_row : left;
        memcpy(r->expert + (size_t)r->n_row * n_choice, rows.expert,
               (size_t)n * n_choice * sizeof *r->expert);
        r->n_row += n;
    }
}

shoal_status shoal_routing_recorded_open(shoal_routing_recorded *recorded, const char *path,
                                         const shoal_router_config *router, int32_t n_layer,
                                         shoal_log *log)
{
    shoal_routes_reader reader;
    SHOAL_TRY(shoal_routes_reader_open(&reader, path, log));
    shoal_routing_recorded r = {.path = path, .n_layer = n_layer, .top_k = router->top_k};
    shoal_status status = check_shape(&reader.header, path, router, n_layer, log);
    if (status == SHOAL_OK) {
        r.expert = malloc(SHOAL_ROUTING_CHOICES_MAX * sizeof *r.expert);
        status = r.expert != NULL
                     ? read_rows(&r, &reader)
                     : shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to read it", path);
    }
    shoal_routes_reader_close(&reader);
    if (status == SHOAL_OK && r.n_row == 0)
        status = shoal_fail(log, SHOAL_BAD_DATA, "%s: has no rows", path);
    if (status != SHOAL_OK) {
        shoal_routing_recorded_close(&r);
        return status;
    }
    *recorded = r;
    return SHOAL_OK;
}

void shoal_routing_recorded_close(shoal_routing_recorded *recorded)
{
    free(recorded->expert);
    *recorded = (shoal_routing_recorded){0};
}

static void draw_recorded(void *source, int32_t *expert, int32_t layer, int64_t draw,
                          int32_t n_token)
{
    const shoal_routing_recorded *r = source;
    const uint64_t seed = mix((uint64_t)draw), n_row = (uint64_t)r->n_row;
    for (int32_t t = 0; t < n_token; t++) {
        const uint64_t row =
            (n_token <= INDEPENDENT_MAX ? mix(seed + (uint64_t)t) : seed + (uint64_t)t) % n_row;
        const uint16_t *from =
            r->expert + ((size_t)row * (size_t)r->n_layer + (size_t)layer) * (size_t)r->top_k;
        for (int32_t j = 0; j < r->top_k; j++)
            *expert++ = from[j];
    }
}

shoal_routing shoal_routing_of_recorded(shoal_routing_recorded *recorded)
{
    return (shoal_routing){.source = recorded,
                           .draw = draw_recorded,
                           .top_k = recorded->top_k,
                           .name = recorded->path};
}
