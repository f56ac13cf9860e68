#include "runtime/checkpoint/pack_file.h"

#include "runtime/base/checksum.h"
#include "runtime/checkpoint/pack_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

size_t shoal_pack_data_bytes(const shoal_matrix *m)
{
    return m->n_col == 0 ? (size_t)m->n_row * sizeof(float)
                         : shoal_matrix_data_bytes(m->format, m->n_row, m->n_col);
}

size_t shoal_pack_scale_bytes(const shoal_matrix *m)
{
    return m->n_col == 0 ? 0 : shoal_matrix_scale_bytes(m->format, m->n_row, m->n_col);
}

/* In pieces, so that other ranks hear from this one; each is the seed of the next, so their size is
 * part of the format. */
static uint64_t checksum_bytes(uint64_t sum, const unsigned char *data, size_t n_bytes,
                               void (*poll)(void *), void *poll_arg)
{
    enum { PIECE = 16 << 20 };
    for (size_t at = 0; at < n_bytes; at += PIECE) {
        sum = shoal_checksum(sum, data + at, n_bytes - at < PIECE ? n_bytes - at : PIECE);
        if (poll != NULL)
            poll(poll_arg);
    }
    return sum;
}

uint64_t shoal__pack_checksum(const shoal_pack_unit *unit, void (*poll)(void *arg), void *poll_arg)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < unit->n_part; i++) {
        const shoal_matrix *m = &unit->part[i].matrix;
        sum = checksum_bytes(sum, m->data, shoal_pack_data_bytes(m), poll, poll_arg);
        sum = checksum_bytes(sum, (const unsigned char *)m->scale, shoal_pack_scale_bytes(m), poll,
                             poll_arg);
    }
    return sum;
}

/* The units of the index, as addresses in the mapping. */
static void place_units(shoal__pack_file *file, const shoal__pack_index *index)
{
    shoal_pack_part *to = file->part;
    for (int32_t u = 0; u < file->n_unit; u++) {
        file->unit[u] = (shoal_pack_unit){.id = u};
        if (!index->there[u])
            continue;
        shoal__pack_slot *slot = shoal__pack_index_slot(index, u);
        const shoal__pack_entry *entry = shoal__pack_slot_entry(slot);
        file->unit[u].n_part = (int32_t)slot->n_part;
        file->unit[u].part = to;
        file->unit[u].checksum = slot->checksum;
        for (uint32_t i = 0; i < slot->n_part; i++) {
            const shoal__pack_entry *e = &entry[i];
            *to++ = (shoal_pack_part){
                .key = e->key,
                .matrix = {.format = (shoal_format)e->format,
                           .n_row = (int32_t)e->n_row,
                           .n_col = (int32_t)e->n_col,
                           .data = file->base + e->data_offset,
                           .scale = e->scale_offset > 0 ? (void *)(file->base + e->scale_offset)
                                                        : NULL}};
        }
    }
}

static shoal_status map_units(shoal__pack_file *file, const shoal__pack_index *index, int fd,
                              const char *path, shoal_log *log)
{
    size_t n_part = 0;
    for (int32_t u = 0; u < file->n_unit; u++)
        n_part += index->there[u] ? shoal__pack_index_slot(index, u)->n_part : 0;
    file->unit = calloc(index->header.n_unit, sizeof *file->unit);
    file->part = calloc(n_part + 1, sizeof *file->part);
    if (file->unit == NULL || file->part == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for the list of %zu weights", path,
                          n_part);
    if (n_part > 0) {
        void *base = mmap(NULL, index->end, PROT_READ, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
            return shoal_fail(log, SHOAL_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        madvise(base, index->end, MADV_HUGEPAGE); /* advice, as of the arena for weights */
        file->base = base;
        file->n_bytes = index->end;
    }
    place_units(file, index);
    return SHOAL_OK;
}

shoal_status shoal__pack_open(shoal__pack_file **file, const char *path,
                              const shoal__pack_shape *shape, shoal_log *log)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        *file = NULL;
        return SHOAL_OK;
    }
    if (fd < 0)
        return shoal_fail(log, SHOAL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    shoal__pack_index index = {0};
    shoal_status status = shoal__pack_index_read(&index, fd, path, shape, log);
    shoal__pack_file *f = NULL;
    if (status == SHOAL_OK) {
        f = calloc(1, sizeof *f);
        if (f == NULL)
            status = shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to open it", path);
    }
    if (status == SHOAL_OK) {
        f->n_unit = shape->n_unit;
        f->n_damaged = index.n_damaged;
        status = map_units(f, &index, fd, path, log);
    }
    shoal__pack_index_close(&index);
    close(fd); /* the mapping stays */
    if (status != SHOAL_OK) {
        shoal__pack_close(f);
        return status;
    }
    *file = f;
    return SHOAL_OK;
}

void shoal__pack_close(shoal__pack_file *file)
{
    if (file == NULL)
        return;
    if (file->base != NULL)
        munmap(file->base, file->n_bytes);
    free(file->part);
    free(file->unit);
    free(file);
}
