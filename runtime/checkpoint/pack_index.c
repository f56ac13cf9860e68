#include "runtime/checkpoint/pack_index.h"

#include "runtime/base/checksum.h"
#include "runtime/checkpoint/pack_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    UNITS_MAX = 1 << 16,
    PARTS_MAX = 1 << 13,
    SLOTS_BYTES_MAX = 1 << 28, /* of all slots: what a damaged header can make us allocate */
};

uint64_t shoal__pack_align(uint64_t offset, uint64_t align)
{
    return (offset + align - 1) / align * align;
}

static size_t slot_bytes(uint32_t n_part)
{
    return shoal__pack_align(sizeof(shoal__pack_slot) + n_part * sizeof(shoal__pack_entry),
                             SHOAL__PACK_PART_ALIGN);
}

shoal__pack_slot *shoal__pack_index_slot(const shoal__pack_index *index, int32_t unit)
{
    return (void *)(index->slots + (size_t)unit * index->header.slot_bytes);
}

uint64_t shoal__pack_index_slot_offset(const shoal__pack_index *index, int32_t unit)
{
    return sizeof index->header + (uint64_t)unit * index->header.slot_bytes;
}

shoal__pack_entry *shoal__pack_slot_entry(shoal__pack_slot *slot)
{
    return (void *)(slot + 1);
}

uint64_t shoal_pack_file_bytes(int32_t n_unit, int32_t n_part)
{
    return shoal__pack_align(sizeof(shoal__pack_header) +
                                 (uint64_t)n_unit * slot_bytes((uint32_t)n_part),
                             SHOAL__PACK_UNIT_ALIGN);
}

uint64_t shoal_pack_unit_bytes(uint64_t n_bytes)
{
    return shoal__pack_align(n_bytes, SHOAL__PACK_UNIT_ALIGN);
}

static uint64_t slot_checksum(const shoal__pack_slot *slot)
{
    shoal__pack_slot head = *slot;
    head.slot_checksum = 0;
    return shoal_checksum(shoal_checksum(0, &head, sizeof head), slot + 1,
                          slot->n_part * sizeof(shoal__pack_entry));
}

void shoal__pack_slot_seal(shoal__pack_slot *slot)
{
    slot->slot_checksum = slot_checksum(slot);
}

static uint64_t header_checksum(const shoal__pack_header *header)
{
    return shoal_checksum(0, header, offsetof(shoal__pack_header, checksum));
}

static shoal_status allocate(shoal__pack_index *index, const char *path, shoal_log *log)
{
    const size_t n_bytes = (size_t)index->header.n_unit * index->header.slot_bytes;
    index->slots = aligned_alloc(SHOAL__PACK_PART_ALIGN, n_bytes);
    index->there = calloc(index->header.n_unit, sizeof *index->there);
    if (index->slots == NULL || index->there == NULL) {
        shoal__pack_index_close(index);
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for its index of %zu bytes", path,
                          n_bytes);
    }
    memset(index->slots, 0, n_bytes);
    index->end = index->header.data_offset;
    return SHOAL_OK;
}

shoal_status shoal__pack_index_new(shoal__pack_index *index, const shoal__pack_shape *shape,
                                   int32_t n_part, const char *path, shoal_log *log)
{
    shoal__pack_index made = {.header = {.magic = SHOAL__PACK_MAGIC,
                                         .version = SHOAL_PACK_VERSION,
                                         .byte_order = SHOAL__PACK_BYTE_ORDER,
                                         .identity = shape->identity,
                                         .layer = shape->layer,
                                         .n_unit = (uint32_t)shape->n_unit,
                                         .n_part = (uint32_t)n_part,
                                         .slot_bytes = (uint32_t)slot_bytes((uint32_t)n_part)}};
    shoal__pack_header *h = &made.header;
    h->data_offset =
        shoal__pack_align(sizeof *h + (uint64_t)h->n_unit * h->slot_bytes, SHOAL__PACK_UNIT_ALIGN);
    h->checksum = header_checksum(h);
    SHOAL_TRY(allocate(&made, path, log));
    *index = made;
    return SHOAL_OK;
}

void shoal__pack_index_close(shoal__pack_index *index)
{
    free(index->slots);
    free(index->there);
    *index = (shoal__pack_index){0};
}

static shoal_status read_all(int fd, uint64_t offset, void *dst, size_t n_bytes, const char *path,
                             shoal_log *log)
{
    size_t n_done = 0;
    while (n_done < n_bytes) {
        ssize_t n = pread(fd, (char *)dst + n_done, n_bytes - n_done, (off_t)(offset + n_done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return shoal_fail(log, SHOAL_IO, "%s: cannot be read: %s", path, strerror(errno));
        if (n == 0)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: ends at byte %" PRIu64 ", wanted %zu bytes at %" PRIu64, path,
                              offset + n_done, n_bytes, offset);
        n_done += (size_t)n;
    }
    return SHOAL_OK;
}

static shoal_status check_header(const shoal__pack_header *h, const shoal__pack_shape *shape,
                                 uint64_t n_file_bytes, const char *path, shoal_log *log)
{
    if (memcmp(h->magic, SHOAL__PACK_MAGIC, sizeof h->magic) != 0)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: is no pack file: it does not begin with %s",
                          path, SHOAL__PACK_MAGIC);
    if (h->checksum != header_checksum(h) || h->byte_order != SHOAL__PACK_BYTE_ORDER)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: its header is damaged", path);
    if (h->version != SHOAL_PACK_VERSION || h->identity != shape->identity ||
        h->layer != shape->layer || h->n_unit != (uint32_t)shape->n_unit)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: is of version %u, identity %016" PRIx64 ", layer %d, %u units; "
                          "wanted version %d, identity %016" PRIx64 ", layer %d, %d units",
                          path, h->version, h->identity, h->layer, h->n_unit, SHOAL_PACK_VERSION,
                          shape->identity, shape->layer, shape->n_unit);
    if (h->n_unit > UNITS_MAX || h->n_part > PARTS_MAX || h->slot_bytes != slot_bytes(h->n_part) ||
        (uint64_t)h->n_unit * h->slot_bytes > SLOTS_BYTES_MAX ||
        h->data_offset != shoal__pack_align(sizeof *h + (uint64_t)h->n_unit * h->slot_bytes,
                                            SHOAL__PACK_UNIT_ALIGN))
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: its header has %u units of %u parts, %u bytes a slot and data at "
                          "%" PRIu64 ", which do not fit together",
                          path, h->n_unit, h->n_part, h->slot_bytes, h->data_offset);
    if (h->data_offset > n_file_bytes)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: has %" PRIu64 " bytes, its index alone %" PRIu64, path, n_file_bytes,
                          h->data_offset);
    return SHOAL_OK;
}

/* [offset, offset + n_bytes) lies in the slot's unit, aligned as a part. */
static bool lies_in(const shoal__pack_slot *slot, uint64_t offset, uint64_t n_bytes)
{
    return offset % SHOAL__PACK_PART_ALIGN == 0 && offset >= slot->offset &&
           offset - slot->offset <= slot->n_bytes &&
           n_bytes <= slot->n_bytes - (offset - slot->offset);
}

static bool entry_is_good(const shoal__pack_entry *e, const shoal__pack_slot *slot)
{
    if (e->format >= SHOAL_N_FORMAT || e->n_row == 0 || e->n_row > INT32_MAX ||
        e->n_col > INT32_MAX)
        return false;
    if (e->n_col == 0)
        return e->format == SHOAL_FORMAT_F32 && e->scale_offset == 0 &&
               lies_in(slot, e->data_offset, (uint64_t)e->n_row * sizeof(float));
    /* No format has less than a quarter of a byte per element: what the sizes are computed of
     * cannot overflow. */
    if ((uint64_t)e->n_row * e->n_col / 4 > slot->n_bytes)
        return false;
    const shoal_format format = (shoal_format)e->format;
    const int32_t n_row = (int32_t)e->n_row, n_col = (int32_t)e->n_col;
    const size_t scale_bytes = shoal_matrix_scale_bytes(format, n_row, n_col);
    return lies_in(slot, e->data_offset, shoal_matrix_data_bytes(format, n_row, n_col)) &&
           (scale_bytes == 0 ? e->scale_offset == 0 : lies_in(slot, e->scale_offset, scale_bytes));
}

static bool slot_is_good(const shoal__pack_index *index, int32_t unit, uint64_t n_file_bytes)
{
    shoal__pack_slot *slot = shoal__pack_index_slot(index, unit);
    if (slot->unit != (uint32_t)unit || slot->n_part == 0 || slot->n_part > index->header.n_part ||
        slot->slot_checksum != slot_checksum(slot))
        return false;
    if (slot->offset % SHOAL__PACK_UNIT_ALIGN != 0 || slot->offset < index->header.data_offset ||
        slot->offset > n_file_bytes || slot->n_bytes > n_file_bytes - slot->offset)
        return false;
    for (uint32_t i = 0; i < slot->n_part; i++)
        if (!entry_is_good(&shoal__pack_slot_entry(slot)[i], slot))
            return false;
    return true;
}

static bool is_empty(const shoal__pack_slot *slot)
{
    static const shoal__pack_slot empty = {0};
    return memcmp(slot, &empty, sizeof empty) == 0;
}

shoal_status shoal__pack_index_read(shoal__pack_index *index, int fd, const char *path,
                                    const shoal__pack_shape *shape, shoal_log *log)
{
    struct stat entry;
    if (fstat(fd, &entry) != 0)
        return shoal_fail(log, SHOAL_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (!S_ISREG(entry.st_mode))
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: is no regular file", path);
    const uint64_t n_file_bytes = (uint64_t)entry.st_size;
    shoal__pack_index read = {0};
    SHOAL_TRY(read_all(fd, 0, &read.header, sizeof read.header, path, log));
    SHOAL_TRY(check_header(&read.header, shape, n_file_bytes, path, log));
    SHOAL_TRY(allocate(&read, path, log));
    const size_t n_bytes = (size_t)read.header.n_unit * read.header.slot_bytes;
    const shoal_status status = read_all(fd, sizeof read.header, read.slots, n_bytes, path, log);
    if (status != SHOAL_OK) {
        shoal__pack_index_close(&read);
        return status;
    }
    for (int32_t u = 0; u < shape->n_unit; u++) {
        const shoal__pack_slot *slot = shoal__pack_index_slot(&read, u);
        read.there[u] = slot_is_good(&read, u, n_file_bytes);
        if (read.there[u] && slot->offset + slot->n_bytes > read.end)
            read.end = slot->offset + slot->n_bytes;
        else if (!read.there[u] && !is_empty(slot))
            read.n_damaged++;
    }
    *index = read;
    return SHOAL_OK;
}
