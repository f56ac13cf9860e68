/* Arenas: all memory of one lifetime (model, session, step) is one allocation. The same carve
 * function is run twice: on a measuring arena (it counts), then on an opened one (it hands out
 * memory), so sizes and offsets cannot disagree. Builds with SHOAL_RED_ZONES put a guarded zone
 * behind every buffer (poisoned under AddressSanitizer, a pattern that shoal_arena_check verifies
 * otherwise).
 *
 *     shoal_arena a; shoal_arena_measure(&a, "session"); carve(&s, &a);
 *     SHOAL_TRY(shoal_arena_open(&a, log));              carve(&s, &a);
 *
 * Layering: base. */
#ifndef SHOAL_BASE_ARENA_H
#define SHOAL_BASE_ARENA_H

#include "runtime/base/log.h"

#include <stddef.h>

/* Where an arena's memory comes from, if not from the system. */
typedef struct shoal_allocator {
    const char *name; /* for messages: "VRAM of cuda:0" */
    /* n_bytes > 0, zeroed, aligned to 64 at least; NULL: there is not so much. */
    void *(*take)(void *arg, size_t n_bytes);
    void (*give_back)(void *arg, void *memory);
    void *arg;
    bool is_host; /* this process may touch it; else there are no red zones in it */
} shoal_allocator;

typedef struct shoal_arena {
    const char *name;                 /* constant text, for messages and the memory table */
    const shoal_allocator *allocator; /* NULL: the system */
    unsigned char *base;              /* NULL while measuring */
    size_t size_bytes;                /* 0 while measuring */
    size_t used_bytes;                /* high-water mark of the current run */
    int32_t n_buffer;                 /* buffers handed out in the current run */
} shoal_arena;

/* The two memories of one lifetime: what the host reads and writes, and what only the rank's device
 * does. On a CPU rank both are the same arena. */
typedef struct shoal_arenas {
    shoal_arena *host, *device;
} shoal_arenas;

static inline shoal_arenas shoal_arenas_same(shoal_arena *arena)
{
    shoal_arenas both = {arena, arena};
    return both;
}

/* Begin measuring. `name` must outlive the arena; so must the allocator (NULL: the system). */
void shoal_arena_measure(shoal_arena *arena, const char *name);
void shoal_arena_measure_in(shoal_arena *arena, const char *name, const shoal_allocator *allocator);

/* Allocate what was measured (64-byte aligned, zeroed lazily by the system) and begin carving.
 * Errors: NO_MEMORY, naming the arena and its bytes; the arena is then still in measuring state. */
shoal_status shoal_arena_open(shoal_arena *arena, shoal_log *log);

/* n elements of elem_bytes, 64-byte aligned; NULL while measuring. n may be 0 (then a valid pointer
 * that must not be read, or NULL). Overflow of n * elem_bytes, or carving more than was measured,
 * is a bug of the caller and aborts. Freshly opened arenas read as zero. */
void *shoal_arena_take(shoal_arena *arena, size_t n, size_t elem_bytes);

/* Typed form: `float *x = SHOAL_TAKE(arena, n, float);` */
#define SHOAL_TAKE(arena, n, type) ((type *)shoal_arena_take((arena), (size_t)(n), sizeof(type)))

/* False if a red zone was overwritten (always true without SHOAL_RED_ZONES). */
bool shoal_arena_check(const shoal_arena *arena);

/* Frees; accepts a measuring or zeroed arena. */
void shoal_arena_close(shoal_arena *arena);

#endif
