#include "launcher/routes/source.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_ROWS = 256 }; /* rows of a prompt that stay together: the default chunk */

static size_t per_row(const shoal_routes_source *s)
{
    return (size_t)s->n_layer * (size_t)s->top_k;
}

static shoal_status check_model(const shoal_routes_header *h, const char *path,
                                const shoal_spec *spec, shoal_log *log)
{
    if (h->n_layer == spec->n_moe_layer && h->n_expert == spec->router.n_expert &&
        h->top_k == spec->router.top_k)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_BAD_DATA,
                      "%s is a routing trace of another model: %d MoE layers, %d experts, top %d; "
                      "this one has %d, %d, %d",
                      path, (int)h->n_layer, (int)h->n_expert, (int)h->top_k,
                      (int)spec->n_moe_layer, (int)spec->router.n_expert, (int)spec->router.top_k);
}

/* More room by doubling. */
static shoal_status make_room(shoal_routes_source *s, int32_t kind, int64_t *n_max, int64_t n,
                              shoal_log *log)
{
    if (n <= *n_max)
        return SHOAL_OK;
    const int64_t wanted = n > 2 * *n_max ? n : 2 * *n_max;
    uint16_t *more =
        realloc(s->expert[kind], (size_t)wanted * per_row(s) * sizeof *s->expert[kind]);
    if (more == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for the choices of %lld rows",
                          s->path, (long long)wanted);
    s->expert[kind] = more;
    *n_max = wanted;
    return SHOAL_OK;
}

static shoal_status read_rows(shoal_routes_source *s, shoal_routes_reader *reader, shoal_log *log)
{
    const size_t row_bytes = per_row(s) * sizeof(uint16_t);
    int64_t n_max[2] = {0, 0}, n_left_out = 0;
    for (;;) {
        shoal_routes_rows rows;
        bool more;
        SHOAL_TRY(shoal_routes_next(&rows, &more, reader));
        if (!more)
            break;
        const int32_t kind = rows.decode ? 1 : 0;
        const int64_t n = s->n_row[kind] + rows.n_row;
        if ((size_t)n * row_bytes > SHOAL_ROUTES_SOURCE_BYTES) {
            n_left_out += rows.n_row;
            continue;
        }
        SHOAL_TRY(make_room(s, kind, &n_max[kind], n, log));
        memcpy(s->expert[kind] + (size_t)s->n_row[kind] * per_row(s), rows.expert,
               (size_t)rows.n_row * row_bytes);
        s->n_row[kind] = n;
    }
    if (n_left_out > 0)
        shoal_log_warn(log, "%s: the last %lld of %lld rows are left out", s->path,
                       (long long)n_left_out, (long long)reader->n_row);
    if (s->n_row[0] + s->n_row[1] == 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s has no rows to plan with", s->path);
    return SHOAL_OK;
}

shoal_status shoal_routes_source_open(shoal_routes_source *source, const char *path,
                                      const shoal_spec *spec, shoal_log *log)
{
    shoal_routes_reader reader;
    SHOAL_TRY(shoal_routes_reader_open(&reader, path, log));
    shoal_routes_source s = {
        .path = path, .n_layer = reader.header.n_layer, .top_k = reader.header.top_k};
    shoal_status status = check_model(&reader.header, path, spec, log);
    if (status == SHOAL_OK)
        status = read_rows(&s, &reader, log);
    shoal_routes_reader_close(&reader);
    if (status == SHOAL_OK)
        *source = s;
    else
        shoal_routes_source_close(&s);
    return status;
}

void shoal_routes_source_close(shoal_routes_source *source)
{
    free(source->expert[0]);
    free(source->expert[1]);
    *source = (shoal_routes_source){0};
}

/* SplitMix64. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Runs of n_run rows, from places that follow from the numbers of the draw. All layers of a draw
 * get the same rows. */
static void take(const shoal_routes_source *s, int32_t kind, int32_t n_run, int32_t *expert,
                 int32_t layer, int64_t draw, int32_t n_token)
{
    if (s->n_row[kind] == 0)
        kind = 1 - kind;
    const uint64_t n_row = (uint64_t)s->n_row[kind], seed = mix((uint64_t)draw);
    const size_t top_k = (size_t)s->top_k;
    for (size_t t = 0; t < (size_t)n_token; t++) {
        const size_t run = t / (size_t)n_run, in_run = t % (size_t)n_run;
        const size_t row = (mix(seed + run) % n_row + in_run) % n_row;
        const uint16_t *from =
            s->expert[kind] + row * per_row(s) + (size_t)(layer % s->n_layer) * top_k;
        for (size_t j = 0; j < top_k; j++)
            expert[t * top_k + j] = from[j];
    }
}

static void draw_decoded(void *source, int32_t *expert, int32_t layer, int64_t draw,
                         int32_t n_token)
{
    take(source, 1, 1, expert, layer, draw, n_token);
}

static void draw_prompt(void *source, int32_t *expert, int32_t layer, int64_t draw, int32_t n_token)
{
    take(source, 0, RUN_ROWS, expert, layer, draw, n_token);
}

shoal_routing shoal_routing_of_routes(shoal_routes_source *source)
{
    return (shoal_routing){.source = source,
                           .draw = draw_decoded,
                           .draw_prompt = draw_prompt,
                           .top_k = source->top_k,
                           .name = source->path};
}
