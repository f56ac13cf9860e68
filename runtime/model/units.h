/* The weights of a model as units (runtime/checkpoint/pack_cache.h), one at a time: for who moves
 * them and does not run them (shoal stage).
 *
 * An image is all of a unit in one piece of memory, its parts 64-byte aligned behind each other in
 * the order in which a start keeps them. Its size and the places in it follow from the headers of
 * the checkpoint and --weights, so one rank can read and pack an image, and another that has the
 * headers only (runtime/checkpoint/staged.h) can receive it. Layering: model. */
#ifndef SHOAL_MODEL_UNITS_H
#define SHOAL_MODEL_UNITS_H

#include "runtime/checkpoint/load.h"
#include "runtime/checkpoint/pack_cache.h"
#include "runtime/model/spec.h"

typedef struct shoal_units shoal_units;

typedef struct shoal_units_config {
    const shoal_spec *spec;       /* outlives the units, as all here */
    shoal_checkpoint *checkpoint; /* may be a staged one; then images cannot be read */
    int32_t n_mtp;                /* MTP layers: 0 or 1 */
    shoal_weights_choice weights;
    shoal_pool *pool; /* packs */
    /* Called during long work; may be NULL. */
    void (*poll)(void *arg);
    void *poll_arg;
} shoal_units_config;

typedef struct shoal_unit_info {
    int32_t layer;     /* or SHOAL_PACK_NO_LAYER */
    int32_t expert;    /* or SHOAL_PACK_NO_EXPERT */
    int32_t moe_layer; /* of an expert's layer, as the placement counts; else -1 */
    int32_t n_part;
    uint64_t n_bytes; /* of its image: what it takes in a file */
} shoal_unit_info;

/* Checks every tensor (headers only) and lists the units: the one of no layer, then by layer all
 * else and the experts. Errors: BAD_DATA, NO_MEMORY. */
shoal_status shoal_units_open(shoal_units **units, const shoal_units_config *config,
                              shoal_log *log);
void shoal_units_close(shoal_units *units); /* accepts NULL */
int32_t shoal_units_count(const shoal_units *units);
const shoal_unit_info *shoal_units_at(const shoal_units *units, int32_t index);

typedef struct shoal_unit_image shoal_unit_image;

/* Memory for a unit. Errors: NO_MEMORY. */
shoal_status shoal_unit_image_open(shoal_unit_image **image, shoal_units *units, int32_t index);
void shoal_unit_image_close(shoal_unit_image *image); /* accepts NULL */

/* Read the unit from the checkpoint and pack it. Errors: IO, BAD_DATA, NO_MEMORY, NO_INPUT. */
shoal_status shoal_unit_image_read(shoal_unit_image *image);

int32_t shoal_unit_image_index(const shoal_unit_image *image);
void *shoal_unit_image_data(const shoal_unit_image *image);
size_t shoal_unit_image_bytes(const shoal_unit_image *image); /* shoal_unit_info.n_bytes */
/* Its parts, which lie in the image. */
const shoal_pack_unit *shoal_unit_image_unit(const shoal_unit_image *image);

#endif
