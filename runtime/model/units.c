#include "runtime/model/units.h"

#include "runtime/model/weights_kept.h"

#include <stdlib.h>
#include <sys/mman.h>

struct shoal_units {
    shoal_units_config config;
    shoal_log *log;
    shoal_loader loader;
    shoal_expert_format *format; /* [MoE layers] */
    int32_t n_unit;
    shoal_unit_info *unit; /* [n_unit] */
};

struct shoal_unit_image {
    shoal_units *units;
    int32_t index;
    shoal_weights weights; /* headers; of an expert, expert */
    shoal_expert expert;
    shoal_pack_unit unit;
    shoal_pack_part *part; /* [unit.n_part] */
    unsigned char *memory; /* [n_bytes] */
    size_t n_bytes;
};

static void piece_loaded(void *arg, uint64_t n_bytes)
{
    (void)n_bytes;
    const shoal_units *u = arg;
    if (u->config.poll != NULL)
        u->config.poll(u->config.poll_arg);
}

static shoal_status walk_unit(shoal_walker *w, shoal_unit_image *image)
{
    const shoal_unit_info *info = &image->units->unit[image->index];
    if (info->layer == SHOAL_PACK_NO_LAYER)
        return shoal__walk_model(w, &image->weights);
    if (info->expert == SHOAL_PACK_NO_EXPERT)
        return shoal__walk_layer(w, &image->weights, info->layer);
    return shoal__walk_expert(w, &image->expert, &image->units->format[info->moe_layer], true,
                              info->layer, info->expert);
}

static shoal_weights_source source_of(const shoal_units *u, shoal_loader *loader)
{
    return (shoal_weights_source){.spec = u->config.spec,
                                  .n_mtp = u->config.n_mtp,
                                  .choice = u->config.weights,
                                  .loader = loader,
                                  .expert_format = u->format,
                                  .log = u->log};
}

/* One pass over the unit. The list of parts is the image's. */
static shoal_status walk(shoal_unit_image *image, shoal_pass pass, size_t *image_bytes)
{
    shoal_weights_totals totals = {0};
    const shoal_weights_source source = source_of(image->units, &image->units->loader);
    shoal_walker w = {.pass = pass,
                      .source = &source,
                      .spec = source.spec,
                      .totals = &totals,
                      .collects = true,
                      .image = image->memory};
    const shoal_status status = walk_unit(&w, image);
    if (pass == SHOAL_PASS_CARVE && status == SHOAL_OK) {
        free(image->part);
        image->part = w.unit.part;
        image->unit.part = w.unit.part;
        image->unit.n_part = w.unit.n_part;
        *image_bytes = w.image_bytes;
        w.unit.part = NULL;
    }
    shoal__units_close(&w);
    return status;
}

/* The image without its memory: how large it is, and what it is made of. */
static shoal_status measure(shoal_unit_image *image)
{
    shoal_units *u = image->units;
    const shoal_unit_info *info = &u->unit[image->index];
    const int32_t n_layer = u->config.spec->n_layer + u->config.n_mtp;
    image->weights.layer = calloc((size_t)n_layer, sizeof *image->weights.layer);
    if (image->weights.layer == NULL)
        return shoal_fail(u->log, SHOAL_NO_MEMORY, "no memory for the headers of %d layers",
                          (int)n_layer);
    image->weights.n_layer = n_layer;
    image->weights.has_attention = true;
    image->unit.id = info->expert != SHOAL_PACK_NO_EXPERT ? info->expert : 0;
    SHOAL_TRY(walk(image, SHOAL_PASS_CHECK, &image->n_bytes));
    return walk(image, SHOAL_PASS_CARVE, &image->n_bytes);
}

static shoal_status open_memory(shoal_unit_image *image)
{
    void *memory =
        mmap(NULL, image->n_bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return shoal_fail(image->units->log, SHOAL_NO_MEMORY,
                          "no memory for a unit of weights: wanted %zu bytes", image->n_bytes);
    madvise(memory, image->n_bytes + 1, MADV_HUGEPAGE);
    image->memory = memory;
    return walk(image, SHOAL_PASS_CARVE, &image->n_bytes);
}

static void close_image(shoal_unit_image *image)
{
    if (image->memory != NULL)
        munmap(image->memory, image->n_bytes + 1);
    shoal_weights_close(&image->weights);
    free(image->part);
    *image = (shoal_unit_image){0};
}

shoal_status shoal_unit_image_open(shoal_unit_image **image, shoal_units *units, int32_t index)
{
    shoal_unit_image *i = calloc(1, sizeof *i);
    if (i == NULL)
        return shoal_fail(units->log, SHOAL_NO_MEMORY, "no memory for a unit of weights");
    i->units = units;
    i->index = index;
    shoal_status status = measure(i);
    if (status == SHOAL_OK)
        status = open_memory(i);
    if (status != SHOAL_OK) {
        shoal_unit_image_close(i);
        return status;
    }
    *image = i;
    return SHOAL_OK;
}

void shoal_unit_image_close(shoal_unit_image *image)
{
    if (image == NULL)
        return;
    close_image(image);
    free(image);
}

shoal_status shoal_unit_image_read(shoal_unit_image *image)
{
    size_t unused;
    return walk(image, SHOAL_PASS_LOAD, &unused);
}

int32_t shoal_unit_image_index(const shoal_unit_image *image)
{
    return image->index;
}

void *shoal_unit_image_data(const shoal_unit_image *image)
{
    return image->memory;
}

size_t shoal_unit_image_bytes(const shoal_unit_image *image)
{
    return image->n_bytes;
}

const shoal_pack_unit *shoal_unit_image_unit(const shoal_unit_image *image)
{
    return &image->unit;
}

/* All units in order, without their sizes. */
static shoal_status list_units(shoal_units *u)
{
    const shoal_spec *s = u->config.spec;
    const int32_t n_layer = s->n_layer + u->config.n_mtp;
    int64_t n = 1 + n_layer;
    int32_t n_moe_layer = 0;
    for (int32_t layer = 0; layer < n_layer; layer++)
        n_moe_layer += s->is_moe[layer] ? 1 : 0;
    n += (int64_t)n_moe_layer * s->router.n_expert;
    u->format = calloc((size_t)n_moe_layer + 1, sizeof *u->format);
    u->unit = n <= INT32_MAX ? calloc((size_t)n, sizeof *u->unit) : NULL;
    if (u->format == NULL || u->unit == NULL)
        return shoal_fail(u->log, SHOAL_NO_MEMORY, "no memory to list %lld units of weights",
                          (long long)n);
    u->unit[u->n_unit++] = (shoal_unit_info){
        .layer = SHOAL_PACK_NO_LAYER, .expert = SHOAL_PACK_NO_EXPERT, .moe_layer = -1};
    int32_t moe_layer = 0;
    for (int32_t layer = 0; layer < n_layer; layer++) {
        u->unit[u->n_unit++] =
            (shoal_unit_info){.layer = layer, .expert = SHOAL_PACK_NO_EXPERT, .moe_layer = -1};
        for (int32_t e = 0; s->is_moe[layer] && e < s->router.n_expert; e++)
            u->unit[u->n_unit++] =
                (shoal_unit_info){.layer = layer, .expert = e, .moe_layer = moe_layer};
        moe_layer += s->is_moe[layer] ? 1 : 0;
    }
    return SHOAL_OK;
}

static shoal_status open_units(shoal_units *u)
{
    SHOAL_TRY(shoal_loader_open(&u->loader, u->config.checkpoint, u->log));
    u->loader.pool = u->config.pool;
    u->loader.progress = piece_loaded;
    u->loader.progress_arg = u;
    SHOAL_TRY(list_units(u));
    for (int32_t i = 0; i < u->n_unit; i++) {
        shoal_unit_image image = {.units = u, .index = i};
        const shoal_status status = measure(&image);
        u->unit[i].n_bytes = image.n_bytes;
        u->unit[i].n_part = image.unit.n_part;
        close_image(&image);
        SHOAL_TRY(status);
        piece_loaded(u, 0);
    }
    return SHOAL_OK;
}

shoal_status shoal_units_open(shoal_units **units, const shoal_units_config *config, shoal_log *log)
{
    shoal_units *u = calloc(1, sizeof *u);
    if (u == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to list the units of weights");
    u->config = *config;
    u->log = log;
    const shoal_status status = open_units(u);
    if (status != SHOAL_OK) {
        shoal_units_close(u);
        return status;
    }
    *units = u;
    return SHOAL_OK;
}

void shoal_units_close(shoal_units *units)
{
    if (units == NULL)
        return;
    shoal_loader_close(&units->loader);
    free(units->format);
    free(units->unit);
    free(units);
}

int32_t shoal_units_count(const shoal_units *units)
{
    return units->n_unit;
}

const shoal_unit_info *shoal_units_at(const shoal_units *units, int32_t index)
{
    return &units->unit[index];
}
