#include "runtime/checkpoint/pack_append.h"

#include "runtime/checkpoint/pack_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    /* What is written at once, and aligned in the file: the size of a huge page, so that Linux
     * keeps the file in such and can map it so (docs/PERFORMANCE.md, "Start"). */
    PIECE_BYTES = 2 << 20,
    COMMIT_BYTES = 64 << 20 /* between two syncs: what a kill can cost */
};

typedef struct appender {
    const shoal__pack_writer *writer;
    const char *path;
    int fd;
    shoal__pack_index index;
    unsigned char *piece; /* [PIECE_BYTES] what is written next; owned */
    uint64_t end;         /* of what was appended, with n_piece bytes that are not written yet */
    size_t n_piece;
    uint64_t committed; /* behind the last unit that a slot may refer to */
} appender;

static shoal_status flush(appender *a)
{
    SHOAL_TRY(
        shoal__pack_pwrite(a->writer, a->fd, a->path, a->end - a->n_piece, a->piece, a->n_piece));
    a->n_piece = 0;
    shoal__pack_poll(a->writer);
    return SHOAL_OK;
}

/* Bytes behind the end; NULL: zeros. */
static shoal_status append_bytes(appender *a, const void *data, size_t n_bytes)
{
    const unsigned char *from = data;
    while (n_bytes > 0) {
        const size_t room = PIECE_BYTES - (size_t)(a->end % PIECE_BYTES);
        const size_t n = n_bytes < room ? n_bytes : room;
        if (from != NULL)
            memcpy(a->piece + a->n_piece, from, n);
        else
            memset(a->piece + a->n_piece, 0, n);
        from = from != NULL ? from + n : NULL;
        n_bytes -= n;
        a->end += n;
        a->n_piece += n;
        if (n == room)
            SHOAL_TRY(flush(a));
    }
    return SHOAL_OK;
}

static shoal_status append_padding(appender *a, uint64_t align)
{
    return append_bytes(a, NULL, (size_t)(shoal__pack_align(a->end, align) - a->end));
}

/* A unit's weights behind the end, and its slot in memory. */
static shoal_status append_unit(appender *a, const shoal_pack_unit *unit)
{
    SHOAL_TRY(append_padding(a, SHOAL__PACK_UNIT_ALIGN));
    shoal__pack_slot *slot = shoal__pack_index_slot(&a->index, unit->id);
    memset(slot, 0, a->index.header.slot_bytes);
    *slot = (shoal__pack_slot){
        .unit = (uint32_t)unit->id, .n_part = (uint32_t)unit->n_part, .offset = a->end};
    for (int32_t i = 0; i < unit->n_part; i++) {
        const shoal_matrix *m = &unit->part[i].matrix;
        const size_t scale_bytes = shoal_pack_scale_bytes(m);
        shoal__pack_entry *entry = &shoal__pack_slot_entry(slot)[i];
        *entry = (shoal__pack_entry){.key = unit->part[i].key,
                                     .format = (uint32_t)m->format,
                                     .n_row = (uint32_t)m->n_row,
                                     .n_col = (uint32_t)m->n_col,
                                     .data_offset = a->end};
        SHOAL_TRY(append_bytes(a, m->data, shoal_pack_data_bytes(m)));
        SHOAL_TRY(append_padding(a, SHOAL__PACK_PART_ALIGN));
        if (scale_bytes == 0)
            continue;
        entry->scale_offset = a->end;
        SHOAL_TRY(append_bytes(a, m->scale, scale_bytes));
        SHOAL_TRY(append_padding(a, SHOAL__PACK_PART_ALIGN));
    }
    slot->n_bytes = a->end - slot->offset;
    slot->checksum = shoal__pack_checksum(unit, a->writer->poll, a->writer->poll_arg);
    shoal__pack_slot_seal(slot);
    return SHOAL_OK;
}

static shoal_status sync_file(const appender *a)
{
    shoal__pack_poll(a->writer);
    const int failed = fdatasync(a->fd);
    return failed == 0 ? SHOAL_OK : shoal__pack_failed(a->writer, a->path, "synced");
}

static shoal_status write_slot(const appender *a, int32_t unit)
{
    return shoal__pack_pwrite(a->writer, a->fd, a->path,
                              shoal__pack_index_slot_offset(&a->index, unit),
                              shoal__pack_index_slot(&a->index, unit), a->index.header.slot_bytes);
}

/* Weights to disk, then the slots of the n units that were appended since. */
static shoal_status commit(appender *a, const shoal_pack_unit *const *unit, int32_t n)
{
    SHOAL_TRY(flush(a));
    SHOAL_TRY(sync_file(a));
    a->committed = a->end; /* from here on slots may refer to it */
    for (int32_t i = 0; i < n; i++)
        SHOAL_TRY(write_slot(a, unit[i]->id));
    return sync_file(a);
}

/* A damaged slot must be gone before the file grows: with the file's end moved it could come to
 * refer to another unit's bytes. */
static shoal_status clear_damaged(const appender *a)
{
    if (a->index.n_damaged == 0)
        return SHOAL_OK;
    for (int32_t u = 0; u < (int32_t)a->index.header.n_unit; u++) {
        if (a->index.there[u])
            continue;
        memset(shoal__pack_index_slot(&a->index, u), 0, a->index.header.slot_bytes);
        SHOAL_TRY(write_slot(a, u));
    }
    return sync_file(a);
}

/* missing: [n_unit] scratch. */
static shoal_status append_units(appender *a, const shoal_pack_unit **missing,
                                 const shoal_pack_unit *unit, int32_t n_unit)
{
    int32_t n = 0;
    for (int32_t i = 0; i < n_unit; i++) {
        assert(unit[i].id >= 0 && unit[i].id < (int32_t)a->index.header.n_unit &&
               unit[i].n_part > 0 && unit[i].n_part == unit[0].n_part);
        if (a->index.there[unit[i].id])
            continue;
        SHOAL_TRY(append_unit(a, &unit[i]));
        missing[n++] = &unit[i];
        if (a->end - a->committed < COMMIT_BYTES)
            continue;
        SHOAL_TRY(commit(a, missing, n));
        n = 0;
    }
    return n > 0 ? commit(a, missing, n) : SHOAL_OK;
}

static shoal_status append(appender *a, const shoal_pack_unit *unit, int32_t n_unit)
{
    shoal_log *log = a->writer->log;
    if (a->index.header.n_part < (uint32_t)unit[0].n_part)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: has room for %u weights in a unit, wanted %d",
                          a->path, a->index.header.n_part, unit[0].n_part);
    SHOAL_TRY(clear_damaged(a));
    const shoal_pack_unit **missing = calloc((size_t)n_unit + 1, sizeof *missing);
    a->piece = malloc(PIECE_BYTES);
    shoal_status status = SHOAL_OK;
    if (missing == NULL || a->piece == NULL)
        status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to add %d units", a->path, n_unit);
    else
        status = append_units(a, missing, unit, n_unit);
    free(missing);
    free(a->piece);
    return status;
}

shoal_status shoal__pack_append(uint64_t *n_bytes_added, const shoal__pack_writer *writer, int fd,
                                const char *path, const shoal__pack_shape *shape,
                                const shoal_pack_unit *unit, int32_t n_unit)
{
    appender a = {.writer = writer, .path = path, .fd = fd};
    SHOAL_TRY(shoal__pack_index_read(&a.index, fd, path, shape, writer->log));
    const uint64_t before = a.index.end;
    a.end = a.committed = before;
    const shoal_status status = append(&a, unit, n_unit);
    *n_bytes_added = a.committed - before;
    /* A full disk gets back what is of no use; if that fails too, the next writes over it. */
    if (status != SHOAL_OK && ftruncate(fd, (off_t)a.committed) != 0)
        shoal_log_debug(writer->log, "%s: cannot be cut", path);
    shoal__pack_index_close(&a.index);
    return status;
}
