#include "runtime/base/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

enum { ARENA_ALIGN = 64 };

/* A red zone: everything from the last byte of a buffer to the start of the next one, at least
 * ARENA_ALIGN bytes. Its last bytes are a `zone_tail`, which chains the zones from the end of the
 * arena to its start, so that the check needs no list. */
enum {
#ifdef SHOAL_RED_ZONES
    ARENA_ZONE_BYTES = ARENA_ALIGN
#else
    ARENA_ZONE_BYTES = 0
#endif
};

_Noreturn static void caller_bug(const shoal_arena *arena, const char *what, size_t n,
                                 size_t elem_bytes)
{
    fprintf(stderr, "shoal: arena %s: %s (buffer %d, %zu elements of %zu bytes, %zu of %zu used)\n",
            arena->name, what, (int)arena->n_buffer, n, elem_bytes, arena->used_bytes,
            arena->size_bytes);
    abort();
}

void shoal_arena_measure(shoal_arena *arena, const char *name)
{
    shoal_arena_measure_in(arena, name, NULL);
}

void shoal_arena_measure_in(shoal_arena *arena, const char *name, const shoal_allocator *allocator)
{
    *arena = (shoal_arena){.name = name, .allocator = allocator};
}

static bool is_host(const shoal_arena *arena)
{
    return arena->allocator == NULL || arena->allocator->is_host;
}

/* What is mapped for an arena of size_bytes. An empty arena maps something too: base tells an
 * opened arena from a measuring one. */
static size_t mapped_bytes(size_t size_bytes)
{
    return size_bytes > 0 ? size_bytes : ARENA_ALIGN;
}

/* n_bytes of the system's memory; NULL: there is not so much. */
static void *map(size_t n_bytes)
{
    void *base = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, n_bytes, MADV_HUGEPAGE); /* advice: weights are streamed, fewer TLB misses */
#if defined(__SANITIZE_ADDRESS__)
    __lsan_register_root_region(base, n_bytes);
#endif
    return base;
}

static void unmap(void *base, size_t n_bytes)
{
#if defined(__SANITIZE_ADDRESS__)
    __lsan_unregister_root_region(base, n_bytes);
#endif
    munmap(base, n_bytes);
}

shoal_status shoal_arena_open(shoal_arena *arena, shoal_log *log)
{
    const shoal_allocator *from = arena->allocator;
    size_t n_bytes = mapped_bytes(arena->used_bytes);
    void *base = from != NULL ? from->take(from->arg, n_bytes) : map(n_bytes);
    if (base == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "memory for %s: %zu bytes (%.2f GiB) in %d buffers could not be "
                          "allocated%s%s; use more ranks or smaller limits",
                          arena->name, n_bytes, (double)n_bytes / (double)(1 << 30),
                          (int)arena->n_buffer, from != NULL ? " in " : "",
                          from != NULL ? from->name : "");
    arena->base = base;
    arena->size_bytes = arena->used_bytes;
    arena->used_bytes = 0;
    arena->n_buffer = 0;
    return SHOAL_OK;
}

#if defined(SHOAL_RED_ZONES) && !defined(__SANITIZE_ADDRESS__)

enum { ZONE_PATTERN = 0xa5 };

typedef struct zone_tail {
    uint64_t buffer_offset; /* where the buffer before this zone starts: the end of another zone */
    uint64_t zone_offset;   /* where this zone starts */
    uint64_t seal;          /* function of both, so that an overwritten tail is noticed */
} zone_tail;

static uint64_t zone_seal(const zone_tail *tail)
{
    return (tail->buffer_offset * 0x9e3779b97f4a7c15ull) ^ tail->zone_offset ^
           0x5ea1ed5ea1ed5ea1ull;
}

static void zone_make(shoal_arena *arena, size_t buffer_offset, size_t zone_offset, size_t zone_end)
{
    zone_tail tail = {buffer_offset, zone_offset, 0};
    tail.seal = zone_seal(&tail);
    memset(arena->base + zone_offset, ZONE_PATTERN, zone_end - zone_offset);
    memcpy(arena->base + zone_end - sizeof tail, &tail, sizeof tail);
}

bool shoal_arena_check(const shoal_arena *arena)
{
    if (arena->base == NULL || !is_host(arena))
        return true;
    size_t end = arena->used_bytes;
    while (end > 0) {
        zone_tail tail;
        memcpy(&tail, arena->base + end - sizeof tail, sizeof tail);
        if (tail.seal != zone_seal(&tail) || tail.zone_offset > end - ARENA_ZONE_BYTES ||
            tail.buffer_offset > tail.zone_offset)
            return false;
        for (size_t i = tail.zone_offset; i < end - sizeof tail; i++)
            if (arena->base[i] != ZONE_PATTERN)
                return false;
        end = tail.buffer_offset;
    }
    return true;
}

#else

static void zone_make(shoal_arena *arena, size_t buffer_offset, size_t zone_offset, size_t zone_end)
{
    (void)buffer_offset;
#if defined(SHOAL_RED_ZONES)
    ASAN_POISON_MEMORY_REGION(arena->base + zone_offset, zone_end - zone_offset);
#else
    (void)arena;
    (void)zone_offset;
    (void)zone_end;
#endif
}

bool shoal_arena_check(const shoal_arena *arena)
{
    (void)arena;
    return true;
}

#endif

void *shoal_arena_take(shoal_arena *arena, size_t n, size_t elem_bytes)
{
    size_t n_bytes, next;
    if (__builtin_mul_overflow(n, elem_bytes, &n_bytes) ||
        __builtin_add_overflow(n_bytes, (size_t)ARENA_ALIGN - 1 + ARENA_ZONE_BYTES, &next) ||
        __builtin_add_overflow(next & ~(size_t)(ARENA_ALIGN - 1), arena->used_bytes, &next))
        caller_bug(arena, "size overflow", n, elem_bytes);
    if (arena->base != NULL && next > arena->size_bytes)
        caller_bug(arena, "more is carved than was measured", n, elem_bytes);
    size_t offset = arena->used_bytes;
    arena->used_bytes = next;
    arena->n_buffer++;
    if (arena->base == NULL)
        return NULL;
    if (is_host(arena))
        zone_make(arena, offset, offset + n_bytes, next);
    return arena->base + offset;
}

void shoal_arena_close(shoal_arena *arena)
{
    const shoal_allocator *from = arena->allocator;
    if (arena->base != NULL) {
        size_t n_bytes = mapped_bytes(arena->size_bytes);
#if defined(__SANITIZE_ADDRESS__)
        if (is_host(arena))
            ASAN_UNPOISON_MEMORY_REGION(arena->base, n_bytes);
#endif
        if (from != NULL)
            from->give_back(from->arg, arena->base);
        else
            unmap(arena->base, n_bytes);
    }
    *arena = (shoal_arena){.name = arena->name, .allocator = from};
}
