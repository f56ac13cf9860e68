/* The bytes of a dispatch message (plan.h has the format) and where its parts lie. Layering:
 * private to comm. */
#ifndef SHOAL_COMM_MESSAGE_H
#define SHOAL_COMM_MESSAGE_H

#include "comm/plan.h"

#define SHOAL__DISPATCH_MAGIC 0x314c4853u /* "SHL1" */
#define SHOAL__MESSAGE_ALIGN  64          /* of each message in send_memory */

typedef struct shoal__dispatch_header {
    uint32_t magic;
    uint32_t n_row;
    uint32_t n_slot;
    uint32_t step_low;
    int32_t layer;
    uint32_t pad;
    uint64_t more_bytes;
} shoal__dispatch_header;

typedef struct shoal__dispatch_slot {
    uint32_t local_expert;
    float weight;
} shoal__dispatch_slot;

_Static_assert(sizeof(shoal__dispatch_header) == 32, "the header is 32 bytes on the wire");
_Static_assert(sizeof(shoal__dispatch_slot) == 8, "a slot is 8 bytes on the wire");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are written in place");

/* The parts of a whole message; pointers into it. */
typedef struct shoal__dispatch_parts {
    shoal__dispatch_header *header;
    unsigned char *row;         /* [n_row] of row_bytes each */
    uint16_t *n_slot_of_row;    /* [n_row] */
    shoal__dispatch_slot *slot; /* [n_slot] */
} shoal__dispatch_parts;

/* Bytes of a whole message. */
size_t shoal__dispatch_bytes(size_t row_bytes, size_t n_row, size_t n_slot);

/* message is aligned to 8 bytes, row_bytes a multiple of 4. */
shoal__dispatch_parts shoal__dispatch_parts_of(unsigned char *message, size_t row_bytes,
                                               size_t n_row);

/* Post the receives of results, at their exact sizes and places. */
shoal_status shoal__combine_post(shoal_exchange *x, shoal_comm *comm);

/* int8 groups of one row. */
size_t shoal__row_groups(const shoal_exchange_config *config);

/* Most slots of one row on a rank: as many as it may have experts, at most top_k. */
int32_t shoal__row_slots_max(const shoal_exchange_config *config, int32_t rank);

#endif
