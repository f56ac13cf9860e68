/* Header and slots of a pack file, as they lie on disk: read and checked as one. A slot whose
 * checksum does not fit is a unit that is not there. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_PACK_INDEX_H
#define SHOAL_CHECKPOINT_PACK_INDEX_H

#include "runtime/checkpoint/pack_file.h"

#define SHOAL__PACK_MAGIC      "shoalpak"
#define SHOAL__PACK_BYTE_ORDER 0x01020304u
#define SHOAL__PACK_UNIT_ALIGN 4096u
#define SHOAL__PACK_PART_ALIGN 64u

typedef struct shoal__pack_header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order; /* SHOAL__PACK_BYTE_ORDER */
    uint64_t identity;
    int32_t layer;
    uint32_t n_unit;
    uint32_t n_part;      /* room for them in each slot */
    uint32_t slot_bytes;  /* slot, entries, padding to 64 */
    uint64_t data_offset; /* of the first unit */
    uint64_t reserved;    /* 0 */
    uint64_t checksum;    /* of the bytes before */
} shoal__pack_header;

/* Followed by n_part entries. */
typedef struct shoal__pack_slot {
    uint32_t unit;
    uint32_t n_part;
    uint64_t offset, n_bytes; /* of the unit in the file */
    uint64_t checksum;        /* of its weights */
    uint64_t slot_checksum;   /* of the slot with 0 here, and of its entries */
} shoal__pack_slot;

typedef struct shoal__pack_entry {
    uint64_t key;
    uint32_t format;
    uint32_t n_row, n_col;
    uint32_t pad;
    uint64_t data_offset, scale_offset; /* in the file; scale_offset 0: it has none */
} shoal__pack_entry;

_Static_assert(sizeof(shoal__pack_header) == 64, "part of the format");
_Static_assert(sizeof(shoal__pack_slot) == 40, "part of the format");
_Static_assert(sizeof(shoal__pack_entry) == 40, "part of the format");

typedef struct shoal__pack_index {
    shoal__pack_header header;
    unsigned char *slots; /* [n_unit * slot_bytes], 64-byte aligned, owned */
    bool *there;          /* [n_unit] the slot is good; owned */
    int32_t n_damaged;    /* neither good nor empty */
    uint64_t end;         /* of the last unit, or of the slots: behind it nothing is of use */
} shoal__pack_index;

/* An empty index. Errors: NO_MEMORY. */
shoal_status shoal__pack_index_new(shoal__pack_index *index, const shoal__pack_shape *shape,
                                   int32_t n_part, const char *path, shoal_log *log);
/* The index of fd. Errors: BAD_DATA, IO, NO_MEMORY. */
shoal_status shoal__pack_index_read(shoal__pack_index *index, int fd, const char *path,
                                    const shoal__pack_shape *shape, shoal_log *log);
void shoal__pack_index_close(shoal__pack_index *index); /* accepts a zeroed one */

shoal__pack_slot *shoal__pack_index_slot(const shoal__pack_index *index, int32_t unit);
uint64_t shoal__pack_index_slot_offset(const shoal__pack_index *index, int32_t unit);
shoal__pack_entry *shoal__pack_slot_entry(shoal__pack_slot *slot);
void shoal__pack_slot_seal(shoal__pack_slot *slot);

uint64_t shoal__pack_align(uint64_t offset, uint64_t align);

#endif
