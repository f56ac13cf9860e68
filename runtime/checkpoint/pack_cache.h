/* The cache of packed weights (--cache DIR): what a rank has packed once is kept in files and
 * mapped on the next start, by all ranks of the host and under any placement. In DIR, a folder for
 * each identity (a checkpoint in one state, --weights, SHOAL_PACK_VERSION), so that what is stale
 * is never used; in it
 *
 *     about.json                 what it was packed from, for people and to tell what is stale
 *     model.pack                 embedding, last norm, output head
 *     layer-00003.pack           all of a layer but its routed experts
 *     layer-00003-experts.pack   those experts that ranks of this host have needed
 *     lock
 *
 * A unit (pack_file.h) is found by layer and expert. Trouble with the cache never ends a run: what
 * cannot be read is packed again, what cannot be written is not kept, and a warning says so. Only
 * --verify, which asks, fails. Layering: checkpoint; used by model, opened by the launcher. */
#ifndef SHOAL_CHECKPOINT_PACK_CACHE_H
#define SHOAL_CHECKPOINT_PACK_CACHE_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/pack_file.h"

#define SHOAL_PACK_NO_LAYER  (-1) /* what belongs to no layer */
#define SHOAL_PACK_NO_EXPERT (-1) /* all of a layer but its routed experts */

typedef struct shoal_pack_cache shoal_pack_cache;

typedef struct shoal_pack_config {
    const char *dir;     /* made if its parent is there */
    uint64_t identity;   /* shoal_pack_identity */
    const char *weights; /* --weights */
    const char *model;   /* where the checkpoint lies */
    int32_t n_layer;     /* with MTP layers */
    int32_t n_expert;    /* of a layer */
    bool verify;         /* shoal_pack_cache_verify compares checksums */
    bool speaks;         /* says what concerns the host: true on one rank of each */
} shoal_pack_config;

/* Of config.json, all headers, file sizes and modification times, --weights and the version of the
 * packed layout. Hosts with copies of different age have different ones for the same weights. */
uint64_t shoal_pack_identity(const shoal_checkpoint *checkpoint, const char *weights);

/* Makes the folders, says what in DIR is stale. Errors: NO_INPUT, IO (DIR is no folder and cannot
 * be made), NO_MEMORY. */
shoal_status shoal_pack_cache_open(shoal_pack_cache **cache, const shoal_pack_config *config,
                                   shoal_log *log);
void shoal_pack_cache_close(shoal_pack_cache *cache); /* accepts NULL; unmaps */

/* Called during long work (signs of life); may be NULL. */
void shoal_pack_cache_set_poll(shoal_pack_cache *cache, void (*poll)(void *arg), void *arg);

/* What a former start has kept, or NULL. The file is opened at the first call for it: what others
 * add later is not seen. Its matrices are mapped, read-only, and stay until close. */
const shoal_pack_unit *shoal_pack_cache_find(shoal_pack_cache *cache, int32_t layer,
                                             int32_t expert);

/* The part with this key, or NULL. */
const shoal_matrix *shoal_pack_unit_find(const shoal_pack_unit *unit, uint64_t key);

/* Without config.verify: OK. Else read the unit and compare its checksum. Errors: BAD_DATA, naming
 * file, layer, expert, wanted and found. */
shoal_status shoal_pack_cache_verify(const shoal_pack_cache *cache, const shoal_pack_unit *unit,
                                     int32_t layer, int32_t expert);

/* Bring mapped bytes into memory, so that the first tokens do not wait for the disk. Errors: IO. */
shoal_status shoal_pack_cache_populate(const shoal_pack_cache *cache, const void *data,
                                       size_t n_bytes);

/* Keep units of one file: with experts, unit[].id are experts; else it is one unit with id 0. All
 * have as many parts. Cannot fail: after a warning nothing more is kept. */
void shoal_pack_cache_add(shoal_pack_cache *cache, int32_t layer, bool experts,
                          const shoal_pack_unit *unit, int32_t n_unit);

/* The same for who cannot do without: a failure is one, and said. Errors: IO (with errno's text),
 * NO_MEMORY; BAD_DATA never: a file that cannot be used is replaced. */
shoal_status shoal_pack_cache_store(shoal_pack_cache *cache, int32_t layer, bool experts,
                                    const shoal_pack_unit *unit, int32_t n_unit);

/* Bytes of a file that has room for n_unit units of n_part parts, without their weights. */
uint64_t shoal_pack_file_bytes(int32_t n_unit, int32_t n_part);
/* What a unit of n_bytes adds to it. */
uint64_t shoal_pack_unit_bytes(uint64_t n_bytes);

/* The checksum of a unit's weights, as it is kept with them. */
uint64_t shoal_pack_unit_checksum(const shoal_pack_unit *unit, void (*poll)(void *arg),
                                  void *poll_arg);

/* True if DIR has something of that identity. */
bool shoal_pack_cache_has(const char *dir, const char *weights, uint64_t identity);

/* False if nothing will be kept: the folder cannot be written, or the disk was full. */
bool shoal_pack_cache_keeps(const shoal_pack_cache *cache);
const char *shoal_pack_cache_dir(const shoal_pack_cache *cache); /* DIR */

#endif
