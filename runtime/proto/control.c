#include "runtime/proto/control.h"

#include "shoal.pb-c.h"

#include <assert.h>
#include <string.h>

#define VARINT32_BYTES   5
#define VARINT64_BYTES   10
#define FIELD_HEAD_BYTES (2 + VARINT32_BYTES) /* tag and length of a packed column */
#define N_COLUMN         12

#define CHUNK_BYTES   (6 * VARINT32_BYTES) /* owner, slot, position0, n_row, flags, n_draft */
#define SAMPLED_BYTES (4 + 4 + VARINT32_BYTES + 8 + 8)

#define SCRATCH_ALIGN 16

/* The columns of a message. The message's own arrays are of these types. */
typedef struct columns {
    int32_t *owner, *slot, *position0, *n_row; /* [n_chunk] */
    uint32_t *flags;                           /* [n_chunk] */
    float *temperature, *top_p;                /* [chunks with SAMPLE] */
    int32_t *top_k;                            /* [chunks with SAMPLE] */
    uint64_t *seed, *key;                      /* [chunks with SAMPLE] */
    int32_t *n_draft;                          /* [chunks with DRAFT] */
} columns;

/* Hands out the scratch front to back; nothing is given back. Serves as protobuf-c's allocator, so
 * that a message too large for the limits fails to unpack. */
typedef struct bump {
    unsigned char *base;
    size_t used, size;
} bump;

static void *bump_take(void *arg, size_t n_bytes)
{
    bump *b = arg;
    if (n_bytes > b->size - b->used)
        return NULL;
    unsigned char *taken = b->base + b->used;
    const size_t rounded = (n_bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
    b->used = rounded > b->size - b->used ? b->size : b->used + rounded;
    return taken;
}

static void bump_drop(void *arg, void *data)
{
    (void)arg;
    (void)data;
}

int32_t shoal_control_chunk_n_token(int32_t n_row, uint32_t flags)
{
    const uint32_t draft = flags & (SHOAL_CONTROL_DRAFT | SHOAL_CONTROL_SAMPLE);
    const bool one_more = (flags & SHOAL_CONTROL_SCORES) != 0 || draft == SHOAL_CONTROL_DRAFT;
    return n_row + (one_more ? 1 : 0);
}

void shoal_control_codec_carve(shoal_control_codec *codec, shoal_arena *arena, int32_t n_chunk_max,
                               int32_t n_token_max)
{
    const size_t n_chunk = (size_t)n_chunk_max, n_token = (size_t)n_token_max;
    codec->n_chunk_max = n_chunk_max;
    codec->n_token_max = n_token_max;
    codec->message_bytes_max = (2 + VARINT64_BYTES) + 2 + N_COLUMN * FIELD_HEAD_BYTES +
                               n_chunk * (CHUNK_BYTES + SAMPLED_BYTES) + n_token * VARINT32_BYTES;
    const size_t element_bytes =
        n_chunk * (9 * sizeof(int32_t) + 2 * sizeof(uint64_t)) + n_token * sizeof(int32_t);
    codec->scratch_bytes = sizeof(Shoal__Control) + element_bytes + (N_COLUMN + 1) * SCRATCH_ALIGN;
    codec->scratch = shoal_arena_take(arena, codec->scratch_bytes, 1);
}

void shoal_control_carve(shoal_control *control, shoal_arena *arena, int32_t n_chunk_max,
                         int32_t n_token_max)
{
    *control = (shoal_control){0};
    control->chunk = SHOAL_TAKE(arena, n_chunk_max, shoal_control_chunk);
    control->token = SHOAL_TAKE(arena, n_token_max, int32_t);
}

static void take_columns(columns *c, bump *scratch, size_t n)
{
    c->owner = bump_take(scratch, n * sizeof(int32_t));
    c->slot = bump_take(scratch, n * sizeof(int32_t));
    c->position0 = bump_take(scratch, n * sizeof(int32_t));
    c->n_row = bump_take(scratch, n * sizeof(int32_t));
    c->flags = bump_take(scratch, n * sizeof(uint32_t));
    c->temperature = bump_take(scratch, n * sizeof(float));
    c->top_p = bump_take(scratch, n * sizeof(float));
    c->top_k = bump_take(scratch, n * sizeof(int32_t));
    c->seed = bump_take(scratch, n * sizeof(uint64_t));
    c->key = bump_take(scratch, n * sizeof(uint64_t));
    c->n_draft = bump_take(scratch, n * sizeof(int32_t));
    assert(c->n_draft != NULL);
}

size_t shoal_control_pack(uint8_t *bytes, shoal_control_codec *codec, const shoal_control *control)
{
    assert(control->n_chunk <= codec->n_chunk_max && control->n_token <= codec->n_token_max);
    bump scratch = {.base = codec->scratch, .size = codec->scratch_bytes};
    columns c;
    take_columns(&c, &scratch, (size_t)control->n_chunk);

    size_t n_sampled = 0, n_drafting = 0;
    for (int32_t i = 0; i < control->n_chunk; i++) {
        const shoal_control_chunk *chunk = &control->chunk[i];
        if ((chunk->flags & SHOAL_CONTROL_DRAFT) != 0)
            c.n_draft[n_drafting++] = chunk->n_draft;
        c.owner[i] = chunk->owner;
        c.slot[i] = chunk->slot;
        c.position0[i] = chunk->position0;
        c.n_row[i] = chunk->n_row;
        c.flags[i] = chunk->flags;
        if ((chunk->flags & SHOAL_CONTROL_SAMPLE) == 0)
            continue;
        c.temperature[n_sampled] = chunk->temperature;
        c.top_p[n_sampled] = chunk->top_p;
        c.top_k[n_sampled] = chunk->top_k;
        c.seed[n_sampled] = chunk->seed;
        c.key[n_sampled] = chunk->key;
        n_sampled++;
    }

    const size_t n_chunk = (size_t)control->n_chunk;
    Shoal__Control message = SHOAL__CONTROL__INIT;
    message.step = control->step;
    message.stop = control->stop;
    message.n_owner = message.n_slot = message.n_position0 = message.n_n_row = n_chunk;
    message.n_flags = n_chunk;
    message.owner = c.owner;
    message.slot = c.slot;
    message.position0 = c.position0;
    message.n_row = c.n_row;
    message.flags = c.flags;
    message.n_temperature = message.n_top_p = message.n_top_k = n_sampled;
    message.n_seed = message.n_key = n_sampled;
    message.temperature = c.temperature;
    message.top_p = c.top_p;
    message.top_k = c.top_k;
    message.seed = c.seed;
    message.key = c.key;
    message.n_token = (size_t)control->n_token;
    message.token = control->token;
    message.n_n_draft = n_drafting;
    message.n_draft = c.n_draft;
    const size_t n_bytes = shoal__control__pack(&message, bytes);
    assert(n_bytes <= codec->message_bytes_max);
    return n_bytes;
}

static shoal_status malformed(shoal_log *log, const char *what)
{
    return shoal_fail(
        log, SHOAL_FAILED,
        "control message of rank 0 is malformed: %s; all ranks must run the same build "
        "with the same options",
        what);
}

/* The chunks of a parsed message; says what is wrong, or NULL. */
static const char *read_chunks(shoal_control *control, const Shoal__Control *m)
{
    size_t n_sampled = 0, n_drafting = 0, n_token = 0;
    for (size_t i = 0; i < m->n_owner; i++) {
        shoal_control_chunk *chunk = &control->chunk[i];
        *chunk = (shoal_control_chunk){.owner = m->owner[i],
                                       .slot = m->slot[i],
                                       .position0 = m->position0[i],
                                       .n_row = m->n_row[i],
                                       .flags = m->flags[i],
                                       .token0 = (int32_t)n_token};
        if ((chunk->flags & ~(uint32_t)SHOAL_CONTROL_ALL_FLAGS) != 0)
            return "unknown flags of a chunk";
        if (chunk->n_row < 1 || (size_t)chunk->n_row > m->n_token)
            return "row count of a chunk";
        chunk->n_token = shoal_control_chunk_n_token(chunk->n_row, chunk->flags);
        n_token += (size_t)chunk->n_token;
        if (n_token > m->n_token)
            return "fewer tokens than its chunks need";
        if ((chunk->flags & SHOAL_CONTROL_DRAFT) != 0) {
            if (n_drafting == m->n_n_draft)
                return "fewer counts of guesses than its chunks need";
            chunk->n_draft = m->n_draft[n_drafting++];
        }
        if ((chunk->flags & SHOAL_CONTROL_SAMPLE) == 0)
            continue;
        if (n_sampled == m->n_temperature)
            return "fewer sampling parameters than its chunks need";
        chunk->temperature = m->temperature[n_sampled];
        chunk->top_p = m->top_p[n_sampled];
        chunk->top_k = m->top_k[n_sampled];
        chunk->seed = m->seed[n_sampled];
        chunk->key = m->key[n_sampled];
        n_sampled++;
    }
    if (n_token != m->n_token || n_sampled != m->n_temperature || n_drafting != m->n_n_draft)
        return "more tokens, sampling parameters or counts of guesses than its chunks need";
    return NULL;
}

shoal_status shoal_control_unpack(shoal_control *control, shoal_control_codec *codec,
                                  const uint8_t *bytes, size_t n_bytes, shoal_log *log)
{
    bump scratch = {.base = codec->scratch, .size = codec->scratch_bytes};
    ProtobufCAllocator allocator = {
        .alloc = bump_take, .free = bump_drop, .allocator_data = &scratch};
    const Shoal__Control *m = shoal__control__unpack(&allocator, n_bytes, bytes);
    if (m == NULL)
        return malformed(log, "it does not parse within the agreed limits");
    if (m->n_owner > (size_t)codec->n_chunk_max || m->n_token > (size_t)codec->n_token_max)
        return malformed(log, "more chunks or tokens than the agreed limits");
    if (m->n_slot != m->n_owner || m->n_position0 != m->n_owner || m->n_n_row != m->n_owner ||
        m->n_flags != m->n_owner)
        return malformed(log, "columns of its chunks differ in length");
    if (m->n_top_p != m->n_temperature || m->n_top_k != m->n_temperature ||
        m->n_seed != m->n_temperature || m->n_key != m->n_temperature)
        return malformed(log, "columns of its sampling parameters differ in length");

    control->step = m->step;
    control->stop = m->stop != 0;
    control->n_chunk = (int32_t)m->n_owner;
    control->n_token = (int32_t)m->n_token;
    const char *wrong = read_chunks(control, m);
    if (wrong != NULL)
        return malformed(log, wrong);
    if (m->n_token > 0)
        memcpy(control->token, m->token, m->n_token * sizeof(int32_t));
    return SHOAL_OK;
}
