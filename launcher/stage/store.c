#include "launcher/stage/stage.h"

#include <stdlib.h>

/* What is written and synced at once: what an interruption can cost a node. */
enum { BATCH_BYTES = 256 << 20 };

shoal_status shoal__stage_image_open(shoal__stage_image **image, shoal__stage *s, int32_t index,
                                     uint64_t *in_memory)
{
    shoal__stage_image *i = calloc(1, sizeof *i);
    if (i == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for a unit of weights");
    const shoal_status status = shoal_unit_image_open(&i->image, s->units, index);
    if (status != SHOAL_OK) {
        free(i);
        return status;
    }
    i->n_user = 1;
    i->in_memory = in_memory;
    if (in_memory != NULL)
        *in_memory += shoal_units_at(s->units, index)->n_bytes;
    *image = i;
    return SHOAL_OK;
}

shoal_status shoal__stage_image_read(shoal__stage_image **image, shoal__stage *s, int32_t index,
                                     uint64_t *in_memory)
{
    shoal__stage_image *i;
    SHOAL_TRY(shoal__stage_image_open(&i, s, index, in_memory));
    shoal_status status = shoal_unit_image_read(i->image);
    if (status == SHOAL_OK)
        i->checksum =
            shoal_pack_unit_checksum(shoal_unit_image_unit(i->image), shoal__stage_poll, s);
    if (status == SHOAL_OK)
        status = s->poll_status;
    if (status != SHOAL_OK) {
        shoal__stage_image_drop(i);
        return status;
    }
    *image = i;
    return SHOAL_OK;
}

void shoal__stage_image_drop(shoal__stage_image *image)
{
    if (image == NULL || --image->n_user > 0)
        return;
    if (image->in_memory != NULL)
        *image->in_memory -= shoal_unit_image_bytes(image->image);
    shoal_unit_image_close(image->image);
    free(image);
}

void shoal__stage_store_open(shoal__stage_store *store, shoal__stage *s)
{
    *store = (shoal__stage_store){.s = s};
}

static void drop_held(shoal__stage_store *store)
{
    for (int32_t i = 0; i < store->n_held; i++)
        shoal__stage_image_drop(store->held[i]);
    store->n_held = 0;
    store->held_bytes = 0;
}

void shoal__stage_store_close(shoal__stage_store *store)
{
    drop_held(store);
    free(store->held);
    free(store->unit);
    *store = (shoal__stage_store){0};
}

static const shoal_unit_info *info_of(const shoal__stage_store *store,
                                      const shoal__stage_image *image)
{
    return shoal_units_at(store->s->units, shoal_unit_image_index(image->image));
}

static shoal_status grow(shoal__stage_store *store)
{
    if (store->n_held < store->n_max)
        return SHOAL_OK;
    const int32_t n = store->n_max > 0 ? 2 * store->n_max : 16;
    void *held = realloc(store->held, (size_t)n * sizeof *store->held);
    if (held != NULL)
        store->held = held;
    void *unit = realloc(store->unit, (size_t)n * sizeof *store->unit);
    if (unit != NULL)
        store->unit = unit;
    if (held == NULL || unit == NULL)
        return shoal_fail(store->s->log, SHOAL_NO_MEMORY, "no memory to list %d units", (int)n);
    store->n_max = n;
    return SHOAL_OK;
}

shoal_status shoal__stage_store_flush(shoal__stage_store *store)
{
    if (store->n_held == 0)
        return SHOAL_OK;
    const shoal_unit_info *first = info_of(store, store->held[0]);
    for (int32_t i = 0; i < store->n_held; i++)
        store->unit[i] = *shoal_unit_image_unit(store->held[i]->image);
    SHOAL_TRY(shoal_pack_cache_store(store->s->cache, first->layer,
                                     first->expert != SHOAL_PACK_NO_EXPERT, store->unit,
                                     store->n_held));
    store->word.n_stored += store->n_held;
    store->word.stored_bytes += store->held_bytes;
    drop_held(store);
    return store->s->poll_status;
}

shoal_status shoal__stage_store_put(shoal__stage_store *store, shoal__stage_image *image)
{
    const shoal_unit_info *info = info_of(store, image);
    shoal_status status = SHOAL_OK;
    if (store->n_held > 0) {
        const shoal_unit_info *first = info_of(store, store->held[0]);
        const bool same_file =
            first->layer == info->layer &&
            (first->expert == SHOAL_PACK_NO_EXPERT) == (info->expert == SHOAL_PACK_NO_EXPERT);
        if (!same_file)
            status = shoal__stage_store_flush(store);
    }
    if (status == SHOAL_OK)
        status = grow(store);
    if (status != SHOAL_OK) {
        shoal__stage_image_drop(image);
        return status;
    }
    store->held[store->n_held++] = image;
    store->held_bytes += info->n_bytes;
    store->word.n_received++;
    return store->held_bytes >= BATCH_BYTES ? shoal__stage_store_flush(store) : SHOAL_OK;
}
