/* The attention core on the CPU (attend.h). A unit is one tile of pairs over one segment, from a
 * fresh state; the parts of a pair are merged in the order of the segments.
 *
 * Units of different segments run at the same time where there are few pairs (a wave: decoding one
 * sequence fills the threads), one segment after the other where there are many. */
#include "runtime/kernels/device.h"

#include <math.h>
#include <string.h>

enum {
    SEGMENT = SHOAL_ATTEND_SEGMENT,
    TILE_MACS_MIN = 1 << 17, /* a task is not smaller, where taking it would count */
};

typedef struct attend_job {
    const shoal_kernels *kernels;
    const shoal_attend *a;
    int32_t d_k, d_v, n_group;   /* n_group: query heads per kv head */
    int32_t segment0, n_segment; /* the wave */
    int32_t n_unit, units;       /* all, and those of one task */
} attend_job;

/* One tile of pairs over one segment. */
typedef struct unit {
    const shoal_chunk *chunk;
    int32_t kv_head;
    int32_t pair0, n_pair; /* of the chunk's n_row * n_group */
    int32_t segment;
} unit;

/* The first position that the row at `position` sees. */
static int32_t oldest_in(int32_t window, int32_t position)
{
    return window > 0 && position >= window ? position + 1 - window : 0;
}

static int32_t oldest(const attend_job *job, int32_t position)
{
    return oldest_in(job->a->window, position);
}

int32_t shoal_attend_most_segments(const shoal_place *place, int32_t n_row, int32_t window)
{
    int32_t most = 1;
    for (int32_t row = 0; row < n_row; row++) {
        const int32_t last = place[row].position;
        const int32_t n = last / SEGMENT - oldest_in(window, last) / SEGMENT + 1;
        most = n > most ? n : most;
    }
    return most;
}

/* Segments of positions [from, to] that are in the wave: [*s0, *s1). */
static void segments(const attend_job *job, int32_t from, int32_t to, int32_t *s0, int32_t *s1)
{
    int32_t end = job->segment0 + job->n_segment;
    *s0 = from / SEGMENT > job->segment0 ? from / SEGMENT : job->segment0;
    *s1 = to / SEGMENT + 1 < end ? to / SEGMENT + 1 : end;
    *s1 = *s1 < *s0 ? *s0 : *s1;
}

static void chunk_segments(const attend_job *job, const shoal_chunk *chunk, int32_t *s0,
                           int32_t *s1)
{
    segments(job, oldest(job, chunk->position0), chunk->position0 + chunk->n_row - 1, s0, s1);
}

static int32_t n_pair_tile(const attend_job *job, const shoal_chunk *chunk)
{
    return (chunk->n_row * job->n_group + SHOAL_QUERY_TILE - 1) / SHOAL_QUERY_TILE;
}

/* Units in order: chunk, kv head, segment, pairs: those that share keys and values follow each
 * other, and so do those whose keys and values lie behind each other. step.chunk_unit0: the first
 * of each chunk. */
static void lay_out_wave(attend_job *job)
{
    const shoal_attend *a = job->a;
    const int32_t n_kv_head = a->cache->shape.n_head;
    int32_t *unit0 = a->room->chunk_unit0;
    int64_t macs = 1;
    job->n_unit = 0;
    for (int32_t c = 0; c < a->n_chunk; c++) {
        const shoal_chunk *chunk = &a->chunk[c];
        int32_t s0, s1;
        chunk_segments(job, chunk, &s0, &s1);
        unit0[c] = job->n_unit;
        job->n_unit += n_pair_tile(job, chunk) * n_kv_head * (s1 - s0);
        int64_t n_position = chunk->position0 + chunk->n_row;
        n_position = n_position < SEGMENT ? n_position : SEGMENT;
        macs += chunk->n_row * n_position * (s1 - s0) * a->n_head * (job->d_k + job->d_v);
    }
    unit0[a->n_chunk] = job->n_unit;
    int64_t units = (int64_t)job->n_unit * TILE_MACS_MIN / macs;
    job->units = units < 1 ? 1 : units < job->n_unit ? (int32_t)units : job->n_unit;
}

static unit unit_of(const attend_job *job, int32_t i)
{
    const int32_t *unit0 = job->a->room->chunk_unit0;
    int32_t c = 0, end = job->a->n_chunk;
    while (end - c > 1) {
        int32_t middle = c + (end - c) / 2;
        if (unit0[middle] <= i)
            c = middle;
        else
            end = middle;
    }
    unit u = {.chunk = &job->a->chunk[c]};
    int32_t s0, s1, n_tile = n_pair_tile(job, u.chunk);
    chunk_segments(job, u.chunk, &s0, &s1);
    int32_t n_segment = s1 > s0 ? s1 - s0 : 1; /* a chunk with a unit has one */
    i -= unit0[c];
    u.kv_head = i / (n_tile * n_segment);
    u.segment = s0 + i / n_tile % n_segment;
    u.pair0 = i % n_tile * SHOAL_QUERY_TILE;
    int32_t n_pair = u.chunk->n_row * job->n_group - u.pair0;
    u.n_pair = n_pair < SHOAL_QUERY_TILE ? n_pair : SHOAL_QUERY_TILE;
    return u;
}

static int32_t row_of(const attend_job *job, const unit *u, int32_t pair)
{
    return u->chunk->row0 + (u->pair0 + pair) / job->n_group;
}

static int32_t head_of(const attend_job *job, const unit *u, int32_t pair)
{
    return u->kv_head * job->n_group + (u->pair0 + pair) % job->n_group;
}

static size_t pair_at(const attend_job *job, int32_t row, int32_t head)
{
    return (size_t)row * (size_t)job->a->n_head + (size_t)head;
}

/* The unit's queries [n_pair, d_k], in place where they lie behind each other. */
static const float *gather(const attend_job *job, const unit *u, float *room)
{
    size_t d_k = (size_t)job->d_k;
    if (job->n_group == job->a->n_head || u->pair0 % job->n_group + u->n_pair <= job->n_group)
        return job->a->query + pair_at(job, row_of(job, u, 0), head_of(job, u, 0)) * d_k;
    for (int32_t i = 0; i < u->n_pair; i++)
        memcpy(room + (size_t)i * d_k,
               job->a->query + pair_at(job, row_of(job, u, i), head_of(job, u, i)) * d_k,
               d_k * sizeof(float));
    return room;
}

static int32_t within(int32_t position, int32_t end)
{
    return position < 0 ? 0 : position > end ? end : position;
}

/* What a pair has seen in one segment joins what it saw in those before; behind its last one it is
 * complete. */
static void join(const attend_job *job, int32_t row, int32_t head, int32_t segment,
                 const float *part, const shoal_attend_state *part_state)
{
    const shoal_kernels *k = job->kernels;
    const shoal_attend *a = job->a;
    size_t pair = pair_at(job, row, head);
    float *out = a->out + pair * (size_t)job->d_v;
    shoal_attend_state *state = &a->room->attend_state[pair];
    int32_t position = a->place[row].position;
    if (segment == oldest(job, position) / SEGMENT) {
        memcpy(out, part, (size_t)job->d_v * sizeof(float));
        *state = *part_state;
    } else {
        k->attend_merge(out, state, part, part_state, job->d_v);
    }
    if (segment == position / SEGMENT) {
        if (a->sinks != NULL)
            k->attend_sink(out, state, a->sinks[head], job->d_v);
        k->attend_finish(out, state, job->d_v);
    }
}

/* Where the part of a pair waits for join: [pair, segment of the wave]. */
static size_t partial_at(const attend_job *job, int32_t row, int32_t head, int32_t segment)
{
    return pair_at(job, row, head) * (size_t)job->n_segment + (size_t)(segment - job->segment0);
}

static void run_unit(const attend_job *job, const unit *u, int32_t worker)
{
    const shoal_kernels *k = job->kernels;
    const shoal_attend *a = job->a;
    const shoal_attend_room *room = a->room;
    size_t d_v = (size_t)job->d_v;
    float *out = room->out_tile + (size_t)worker * SHOAL_QUERY_TILE * d_v;
    float *value = room->value_tile + (size_t)worker * SHOAL_ATTEND_BLOCK * d_v;
    const float *query =
        gather(job, u, room->query_tile + (size_t)worker * SHOAL_QUERY_TILE * (size_t)job->d_k);
    shoal_attend_state state[SHOAL_QUERY_TILE];
    int32_t first[SHOAL_QUERY_TILE], last[SHOAL_QUERY_TILE];
    for (int32_t i = 0; i < u->n_pair; i++)
        state[i] = (shoal_attend_state){.max = -INFINITY, .denom = 0.0F};
    memset(out, 0, (size_t)u->n_pair * d_v * sizeof(float));

    int32_t newest = a->place[row_of(job, u, u->n_pair - 1)].position;
    int32_t from = within(oldest(job, a->place[row_of(job, u, 0)].position), newest);
    int32_t p0 = from > u->segment * SEGMENT ? from : u->segment * SEGMENT;
    for (p0 -= p0 % SHOAL_ATTEND_BLOCK; p0 <= newest && p0 < (u->segment + 1) * SEGMENT;
         p0 += SHOAL_ATTEND_BLOCK) {
        shoal_attend_kv kv = shoal_kv_cache_block(a->cache, a->layer, u->chunk->slot, u->kv_head,
                                                  p0 / SHOAL_ATTEND_BLOCK);
        if (kv.value == NULL) {
            k->attend_values(value, kv.key, kv.dtype, within(newest + 1 - p0, SHOAL_ATTEND_BLOCK),
                             kv.d_k, kv.d_v);
            kv.value = value;
        }
        for (int32_t i = 0; i < u->n_pair; i++) {
            int32_t position = a->place[row_of(job, u, i)].position;
            first[i] = within(oldest(job, position) - p0, SHOAL_ATTEND_BLOCK);
            last[i] = within(position + 1 - p0, SHOAL_ATTEND_BLOCK);
        }
        k->attend_block(out, job->d_v, state, query, job->d_k, u->n_pair, first, last, a->scale,
                        &kv);
    }

    for (int32_t i = 0; i < u->n_pair; i++) {
        int32_t row = row_of(job, u, i), head = head_of(job, u, i);
        int32_t position = a->place[row].position;
        if (u->segment < oldest(job, position) / SEGMENT || u->segment > position / SEGMENT)
            continue; /* nothing to see here for this row of the tile */
        if (job->n_segment == 1) {
            join(job, row, head, u->segment, out + (size_t)i * d_v, &state[i]);
            continue;
        }
        size_t at = partial_at(job, row, head, u->segment);
        memcpy(room->partial + at * d_v, out + (size_t)i * d_v, d_v * sizeof(float));
        room->partial_state[at] = state[i];
    }
}

static void run_units(void *arg, int32_t tile, int32_t worker)
{
    const attend_job *job = arg;
    int32_t i0 = tile * job->units;
    int32_t i1 = job->n_unit - i0 < job->units ? job->n_unit : i0 + job->units;
    for (int32_t i = i0; i < i1; i++) {
        unit u = unit_of(job, i);
        run_unit(job, &u, worker);
    }
}

enum { JOIN_PAIRS = 8 }; /* of one task */

static void join_pairs(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const attend_job *job = arg;
    const shoal_attend *a = job->a;
    const shoal_attend_room *room = a->room;
    int32_t n_pair = job->a->n_token * job->a->n_head;
    int32_t pair1 = (tile + 1) * JOIN_PAIRS < n_pair ? (tile + 1) * JOIN_PAIRS : n_pair;
    for (int32_t pair = tile * JOIN_PAIRS; pair < pair1; pair++) {
        int32_t row = pair / job->a->n_head, head = pair % job->a->n_head, s0, s1;
        int32_t position = a->place[row].position;
        segments(job, oldest(job, position), position, &s0, &s1);
        for (int32_t s = s0; s < s1; s++) {
            size_t at = partial_at(job, row, head, s);
            join(job, row, head, s, room->partial + at * (size_t)job->d_v,
                 &room->partial_state[at]);
        }
    }
}

void shoal_op_attend(const shoal_compute *c, const shoal_attend *a)
{
    if (c->device != NULL) {
        c->device->ops->attend(c->device, a);
        return;
    }
    const shoal_kv_shape *shape = &a->cache->shape;
    attend_job job = {.kernels = c->kernels,
                      .a = a,
                      .d_k = shape->d_k,
                      .d_v = shape->d_v,
                      .n_group = a->n_head / shape->n_head};
    int32_t s0 = INT32_MAX, s1 = 0;
    for (int32_t i = 0; i < a->n_chunk; i++) {
        const shoal_chunk *chunk = &a->chunk[i];
        int32_t from = oldest(&job, chunk->position0) / SEGMENT;
        int32_t to = (chunk->position0 + chunk->n_row - 1) / SEGMENT + 1;
        s0 = from < s0 ? from : s0;
        s1 = to > s1 ? to : s1;
    }
    int32_t n_pair = a->n_token * a->n_head, wave = a->room->n_partial / n_pair;
    wave = wave < 1 ? 1 : wave < s1 - s0 ? wave : s1 - s0;
    for (int32_t s = s0; s < s1; s += wave) {
        job.segment0 = s;
        job.n_segment = wave;
        lay_out_wave(&job);
        shoal_pool_run(c->pool, run_units, &job, (job.n_unit + job.units - 1) / job.units);
        if (wave > 1)
            shoal_pool_run(c->pool, join_pairs, &job, (n_pair + JOIN_PAIRS - 1) / JOIN_PAIRS);
    }
}

void shoal_attend_room_carve(shoal_attend_room *room, shoal_arenas arenas,
                             const shoal_attend_limits *l)
{
    size_t n = (size_t)l->n_token_max, n_head = (size_t)l->n_head, d_k = (size_t)l->d_k,
           d_v = (size_t)l->d_v, n_worker = n > 0 ? (size_t)l->n_thread : 0;
    *room = (shoal_attend_room){.n_partial = n > 0 ? l->n_head * SHOAL_ATTEND_WAVE : 0};
    if (arenas.host != arenas.device) { /* as many parts as the host has, or one row's */
        size_t n_segment = (size_t)l->n_context / SEGMENT + 1, n_part = (size_t)room->n_partial;
        n_part = n > 0 && n_part < n_head * n_segment ? n_head * n_segment : n_part;
        room->n_part = n_part * (d_v + 2);
        room->part = SHOAL_TAKE(arenas.device, room->n_part, float);
        return;
    }
    shoal_arena *arena = arenas.host;
    room->chunk_unit0 = SHOAL_TAKE(arena, n + 1, int32_t);
    room->attend_state = SHOAL_TAKE(arena, n * n_head, shoal_attend_state);
    room->partial = SHOAL_TAKE(arena, (size_t)room->n_partial * d_v, float);
    room->partial_state = SHOAL_TAKE(arena, room->n_partial, shoal_attend_state);
    room->query_tile = SHOAL_TAKE(arena, n_worker * SHOAL_QUERY_TILE * d_k, float);
    room->out_tile = SHOAL_TAKE(arena, n_worker * SHOAL_QUERY_TILE * d_v, float);
    room->value_tile =
        SHOAL_TAKE(arena, l->latent ? n_worker * SHOAL_ATTEND_BLOCK * d_v : 0, float);
}
