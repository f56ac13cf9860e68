#include "runtime/checkpoint/pack_cache.h"

#include "runtime/base/hash.h"
#include "runtime/checkpoint/checkpoint_private.h"
#include "runtime/checkpoint/pack_folder.h"
#include "runtime/checkpoint/pack_write.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct cached_file {
    bool looked; /* for it, once */
    shoal__pack_file *file;
} cached_file;

struct shoal_pack_cache {
    shoal_pack_config config;
    shoal_log *log;
    char *dir;
    char *folder; /* of the identity, in dir */
    bool keeps;
    cached_file
        *file; /* [2 * (n_layer + 1)]: of each layer, NO_LAYER first, all else and experts */
    void (*poll)(void *arg);
    void *poll_arg;
};

uint64_t shoal_pack_identity(const shoal_checkpoint *checkpoint, const char *weights)
{
    const uint64_t of[] = {SHOAL_PACK_VERSION, shoal_checkpoint_identity(checkpoint),
                           (uint64_t)checkpoint->n_file};
    uint64_t hash = shoal_hash(SHOAL_HASH_INIT, of, sizeof of);
    for (int32_t i = 0; i < checkpoint->n_file; i++)
        hash = shoal_hash(hash, &checkpoint->file[i].modified_ns, sizeof(int64_t));
    return shoal_hash(hash, weights, strlen(weights));
}

shoal_status shoal_pack_cache_open(shoal_pack_cache **cache, const shoal_pack_config *config,
                                   shoal_log *log)
{
    shoal_pack_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "--cache %s: no memory to open it", config->dir);
    c->config = *config;
    c->log = log;
    c->dir = strdup(config->dir);
    c->file = calloc(2 * ((size_t)config->n_layer + 1), sizeof *c->file);
    shoal_status status = SHOAL_OK;
    if (c->dir == NULL || c->file == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "--cache %s: no memory to open it", config->dir);
    if (status == SHOAL_OK)
        status = shoal__pack_folder_open(&c->folder, &c->keeps, config, log);
    if (status != SHOAL_OK) {
        shoal_pack_cache_close(c);
        return status;
    }
    *cache = c;
    return SHOAL_OK;
}

void shoal_pack_cache_close(shoal_pack_cache *cache)
{
    if (cache == NULL)
        return;
    for (int32_t i = 0; cache->file != NULL && i < 2 * (cache->config.n_layer + 1); i++)
        shoal__pack_close(cache->file[i].file);
    free(cache->file);
    free(cache->folder);
    free(cache->dir);
    free(cache);
}

void shoal_pack_cache_set_poll(shoal_pack_cache *cache, void (*poll)(void *arg), void *arg)
{
    cache->poll = poll;
    cache->poll_arg = arg;
}

typedef struct place {
    char name[64];
    shoal__pack_shape shape;
    cached_file *file;
} place;

static place place_of(const shoal_pack_cache *cache, int32_t layer, bool experts)
{
    assert(layer >= SHOAL_PACK_NO_LAYER && layer < cache->config.n_layer);
    place p = {.shape = {.identity = cache->config.identity,
                         .layer = layer,
                         .n_unit = experts ? cache->config.n_expert : 1},
               .file = &cache->file[2 * (layer + 1) + (experts ? 1 : 0)]};
    if (layer == SHOAL_PACK_NO_LAYER)
        snprintf(p.name, sizeof p.name, "model.pack");
    else
        snprintf(p.name, sizeof p.name, "layer-%05d%s.pack", (int)layer, experts ? "-experts" : "");
    return p;
}

/* Map the file, if it can be; a text of why not goes to the log once per host. */
static void look(shoal_pack_cache *cache, const place *p)
{
    p->file->looked = true;
    char *path = shoal__path_join(cache->folder, p->name);
    if (path == NULL)
        return;
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, cache->log->rank, "");
    if (shoal__pack_open(&p->file->file, path, &p->shape, &quiet) != SHOAL_OK) {
        if (cache->config.speaks)
            shoal_log_warn(cache->log, "cache: %s; it is not used, its weights are packed again",
                           quiet.error);
    } else if (p->file->file != NULL && p->file->file->n_damaged > 0 && cache->config.speaks) {
        shoal_log_warn(cache->log,
                       "cache: %s: %d of %d entries are damaged or cut off; they are not used, "
                       "their weights are packed again",
                       path, (int)p->file->file->n_damaged, (int)p->shape.n_unit);
    }
    free(path);
}

const shoal_pack_unit *shoal_pack_cache_find(shoal_pack_cache *cache, int32_t layer, int32_t expert)
{
    const place p = place_of(cache, layer, expert != SHOAL_PACK_NO_EXPERT);
    assert(expert < p.shape.n_unit);
    if (!p.file->looked)
        look(cache, &p);
    if (p.file->file == NULL)
        return NULL;
    const shoal_pack_unit *unit = &p.file->file->unit[expert != SHOAL_PACK_NO_EXPERT ? expert : 0];
    return unit->n_part > 0 ? unit : NULL;
}

const shoal_matrix *shoal_pack_unit_find(const shoal_pack_unit *unit, uint64_t key)
{
    for (int32_t i = 0; i < unit->n_part; i++)
        if (unit->part[i].key == key)
            return &unit->part[i].matrix;
    return NULL;
}

shoal_status shoal_pack_cache_verify(const shoal_pack_cache *cache, const shoal_pack_unit *unit,
                                     int32_t layer, int32_t expert)
{
    if (!cache->config.verify)
        return SHOAL_OK;
    const uint64_t found = shoal__pack_checksum(unit, cache->poll, cache->poll_arg);
    if (found == unit->checksum)
        return SHOAL_OK;
    const place p = place_of(cache, layer, expert != SHOAL_PACK_NO_EXPERT);
    char what[64] = "";
    if (layer != SHOAL_PACK_NO_LAYER)
        snprintf(what, sizeof what, " of layer %d", (int)layer);
    if (expert != SHOAL_PACK_NO_EXPERT)
        snprintf(what, sizeof what, " of layer %d, expert %d", (int)layer, (int)expert);
    return shoal_fail(cache->log, SHOAL_BAD_DATA,
                      "--verify: %s/%s: the packed weights%s have checksum %016" PRIx64
                      ", wanted %016" PRIx64 ", as they were written; remove the file, the next "
                      "start packs it again",
                      cache->folder, p.name, what, found, unit->checksum);
}

/* Page by page, where the kernel has no MADV_POPULATE_READ (before 5.14). */
static void touch(const unsigned char *first, const unsigned char *end, size_t page_bytes)
{
    for (const unsigned char *at = first; at < end; at += page_bytes)
        (void)*(const volatile unsigned char *)at;
}

shoal_status shoal_pack_cache_populate(const shoal_pack_cache *cache, const void *data,
                                       size_t n_bytes)
{
    enum { PIECE_BYTES = 16 << 20 };
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    const unsigned char *at = (const unsigned char *)data - (uintptr_t)data % page_bytes;
    const unsigned char *end = (const unsigned char *)data + n_bytes;
    while (at < end) {
        const size_t left = (size_t)(end - at);
        const size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
        if (madvise((void *)(uintptr_t)at, n, MADV_POPULATE_READ) != 0) {
            if (errno == EFAULT || errno == EHWPOISON)
                return shoal_fail(cache->log, SHOAL_IO,
                                  "cache %s: a file in it cannot be read: the disk has an error, "
                                  "or the file was cut while it was open",
                                  cache->folder);
            touch(at, at + n, page_bytes);
        }
        if (cache->poll != NULL)
            cache->poll(cache->poll_arg);
        at += n;
    }
    return SHOAL_OK;
}

static shoal_status store(const shoal_pack_cache *cache, int32_t layer, bool experts,
                          const shoal_pack_unit *unit, int32_t n_unit, shoal_log *log)
{
    const place p = place_of(cache, layer, experts);
    const shoal__pack_writer writer = {
        .folder = cache->folder, .poll = cache->poll, .poll_arg = cache->poll_arg, .log = log};
    uint64_t n_bytes_added;
    return shoal__pack_add(&n_bytes_added, &writer, p.name, &p.shape, unit, n_unit);
}

void shoal_pack_cache_add(shoal_pack_cache *cache, int32_t layer, bool experts,
                          const shoal_pack_unit *unit, int32_t n_unit)
{
    if (!cache->keeps)
        return;
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, cache->log->rank, "");
    if (store(cache, layer, experts, unit, n_unit, &quiet) == SHOAL_OK)
        return;
    cache->keeps = false;
    shoal_log_warn(cache->log,
                   "cache: %s; the run goes on, but what is packed from here on is not kept",
                   quiet.error);
}

shoal_status shoal_pack_cache_store(shoal_pack_cache *cache, int32_t layer, bool experts,
                                    const shoal_pack_unit *unit, int32_t n_unit)
{
    return store(cache, layer, experts, unit, n_unit, cache->log);
}

uint64_t shoal_pack_unit_checksum(const shoal_pack_unit *unit, void (*poll)(void *arg),
                                  void *poll_arg)
{
    return shoal__pack_checksum(unit, poll, poll_arg);
}

bool shoal_pack_cache_keeps(const shoal_pack_cache *cache)
{
    return cache->keeps;
}

const char *shoal_pack_cache_dir(const shoal_pack_cache *cache)
{
    return cache->dir;
}
