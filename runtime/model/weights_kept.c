#include "runtime/model/weights_kept.h"

#include "runtime/base/hash.h"
#include "runtime/model/weights_device.h"

#include <stdlib.h>
#include <string.h>

/* Units are handed over when they have this much, so that an interrupted start loses little. */
enum { KEEP_BYTES = 256 << 20 };

static uint64_t key_of(const shoal_matrix *m, shoal_weight_ref ref)
{
    const int32_t rows[] = {ref.slice, ref.row0, ref.row_step, (int32_t)m->format};
    return shoal_hash(shoal_hash(SHOAL_HASH_INIT, ref.name, strlen(ref.name)), rows, sizeof rows);
}

static uint64_t matrix_bytes(const shoal_matrix *m)
{
    return shoal_pack_data_bytes(m) + shoal_pack_scale_bytes(m);
}

shoal_status shoal__unit_begin(shoal_walker *w, int32_t layer, int32_t expert, bool own)
{
    shoal_pack_cache *cache = w->source->cache;
    shoal_walker_unit *u = &w->unit;
    u->layer = layer;
    u->expert = expert;
    u->kept = cache != NULL && own ? shoal_pack_cache_find(cache, layer, expert) : NULL;
    u->is_packed = w->collects ? w->pass == SHOAL_PASS_CARVE
                               : cache != NULL && own && u->kept == NULL &&
                                     w->pass == SHOAL_PASS_LOAD && shoal_pack_cache_keeps(cache);
    u->part0 = u->n_part;
    if (u->kept == NULL || w->pass != SHOAL_PASS_LOAD)
        return SHOAL_OK;
    return shoal_pack_cache_verify(cache, u->kept, layer, expert);
}

bool shoal__unit_find(const shoal_walker *w, shoal_matrix *m, shoal_weight_ref ref)
{
    if (w->unit.kept == NULL)
        return false;
    const shoal_matrix *found = shoal_pack_unit_find(w->unit.kept, key_of(m, ref));
    if (found == NULL || found->format != m->format || found->n_row != m->n_row ||
        found->n_col != m->n_col)
        return false;
    *m = *found;
    return true;
}

static void count(shoal_walker *w, const shoal_matrix *m)
{
    w->totals->n_tensor++;
    w->totals->file_bytes += matrix_bytes(m);
}

void shoal__unit_count(shoal_walker *w, const shoal_matrix *m)
{
    count(w, m);
    if (!shoal__to_device(w)) /* else it is only read from there */
        w->totals->mapped_bytes += matrix_bytes(m);
}

shoal_status shoal__unit_fetch(shoal_walker *w, const shoal_matrix *m, const shoal_matrix *kept)
{
    const shoal_pack_cache *cache = w->source->cache;
    SHOAL_TRY(shoal_pack_cache_populate(cache, kept->data, shoal_pack_data_bytes(kept)));
    SHOAL_TRY(shoal_pack_cache_populate(cache, kept->scale, shoal_pack_scale_bytes(kept)));
    if (shoal__to_device(w))
        SHOAL_TRY(shoal__device_copy(w, m, kept));
    count(w, m);
    return w->source->loaded != NULL ? w->source->loaded(w->source->loaded_arg, w->totals)
                                     : SHOAL_OK;
}

/* Room for one more of n elements of n_bytes each. */
static shoal_status grow(void **list, int32_t *n_max, int32_t n, size_t n_bytes, shoal_log *log)
{
    if (n < *n_max)
        return SHOAL_OK;
    const int32_t n_wanted = *n_max > 0 ? 2 * *n_max : 64;
    void *larger = realloc(*list, (size_t)n_wanted * n_bytes);
    if (larger == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to list %d weights to keep", n_wanted);
    *list = larger;
    *n_max = n_wanted;
    return SHOAL_OK;
}

shoal_status shoal__unit_add(shoal_walker *w, const shoal_matrix *m, shoal_weight_ref ref)
{
    shoal_walker_unit *u = &w->unit;
    if (!u->is_packed)
        return SHOAL_OK;
    SHOAL_TRY(grow((void **)&u->part, &u->n_part_max, u->n_part, sizeof *u->part, w->source->log));
    u->part[u->n_part++] = (shoal_pack_part){.key = key_of(m, ref), .matrix = *m};
    u->n_bytes += matrix_bytes(m);
    return SHOAL_OK;
}

shoal_status shoal__unit_hold(shoal_matrix *m, shoal_walker *w)
{
    enum { ALIGN = 64 };
    shoal_walker_unit *u = &w->unit;
    const size_t data_bytes = (shoal_pack_data_bytes(m) + ALIGN - 1) / ALIGN * ALIGN;
    const size_t scale_bytes = shoal_pack_scale_bytes(m);
    SHOAL_TRY(grow((void **)&u->held, &u->n_held_max, u->n_held, sizeof *u->held, w->source->log));
    unsigned char *memory =
        aligned_alloc(ALIGN, data_bytes + (scale_bytes + ALIGN - 1) / ALIGN * ALIGN + ALIGN);
    if (memory == NULL)
        return shoal_fail(w->source->log, SHOAL_NO_MEMORY,
                          "no memory to pack weights for the cache: wanted %zu bytes",
                          data_bytes + scale_bytes);
    u->held[u->n_held++] = memory;
    m->data = memory;
    m->scale = scale_bytes > 0 ? (float *)(void *)(memory + data_bytes) : NULL;
    return SHOAL_OK;
}

shoal_status shoal__unit_end(shoal_walker *w)
{
    shoal_walker_unit *u = &w->unit;
    if (!u->is_packed || u->n_part == u->part0 || w->collects)
        return SHOAL_OK;
    SHOAL_TRY(grow((void **)&u->packed, &u->n_packed_max, u->n_packed, sizeof *u->packed,
                   w->source->log));
    u->packed[u->n_packed++] = (shoal_pack_unit){
        .id = u->expert != SHOAL_PACK_NO_EXPERT ? u->expert : 0, .n_part = u->n_part - u->part0};
    if (u->n_bytes >= KEEP_BYTES)
        shoal__units_keep(w);
    return SHOAL_OK;
}

static void drop_held(shoal_walker_unit *u)
{
    for (int32_t i = 0; i < u->n_held; i++)
        free(u->held[i]);
    u->n_held = 0;
}

void shoal__units_keep(shoal_walker *w)
{
    shoal_walker_unit *u = &w->unit;
    if (u->n_packed == 0)
        return;
    const shoal_pack_part *part = u->part; /* in the order of the units; they stay where they are */
    for (int32_t i = 0; i < u->n_packed; i++) {
        u->packed[i].part = part;
        part += u->packed[i].n_part;
    }
    shoal_pack_cache_add(w->source->cache, u->layer, u->expert != SHOAL_PACK_NO_EXPERT, u->packed,
                         u->n_packed);
    u->n_part = u->n_packed = 0;
    u->n_bytes = 0;
    drop_held(u);
}

void shoal__units_close(shoal_walker *w)
{
    drop_held(&w->unit);
    free(w->unit.held);
    free(w->unit.part);
    free(w->unit.packed);
}
