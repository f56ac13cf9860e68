#include "tests/checkpoint/pack_units.h"

#include "tests/checkpoint/fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void *random_bytes(size_t n_bytes, uint64_t *state)
{
    unsigned char *bytes = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (unsigned char)fixture_random(state);
    return bytes;
}

void pack_units_open(pack_units *u, int32_t n_unit, int32_t n_row)
{
    static const shoal_format format[PACK_UNITS_N_PART] = {SHOAL_FORMAT_Q4, SHOAL_FORMAT_Q8,
                                                           SHOAL_FORMAT_FP8_BLOCK,
                                                           SHOAL_FORMAT_BF16, SHOAL_FORMAT_F32};
    u->n_unit = n_unit;
    u->unit = calloc((size_t)n_unit, sizeof *u->unit);
    u->part = calloc((size_t)n_unit * PACK_UNITS_N_PART, sizeof *u->part);
    ck_assert(u->unit != NULL && u->part != NULL);
    uint64_t state = 7;
    for (int32_t i = 0; i < n_unit; i++) {
        shoal_pack_part *part = &u->part[i * PACK_UNITS_N_PART];
        for (int32_t k = 0; k < PACK_UNITS_N_PART; k++) {
            bool vector = k == PACK_UNITS_N_PART - 1;
            part[k] = (shoal_pack_part){
                .key = (uint64_t)(100 + k),
                .matrix = {.format = format[k], .n_row = n_row + k, .n_col = vector ? 0 : 64}};
            shoal_matrix *m = &part[k].matrix;
            m->data = random_bytes(shoal_pack_data_bytes(m), &state);
            if (shoal_pack_scale_bytes(m) > 0)
                m->scale = random_bytes(shoal_pack_scale_bytes(m), &state);
        }
        u->unit[i] = (shoal_pack_unit){.id = i, .n_part = PACK_UNITS_N_PART, .part = part};
    }
}

void pack_units_close(pack_units *u)
{
    for (int32_t i = 0; i < u->n_unit * PACK_UNITS_N_PART; i++) {
        free(u->part[i].matrix.data);
        free(u->part[i].matrix.scale);
    }
    free(u->part);
    free(u->unit);
}

bool pack_units_equal(const shoal_pack_unit *found, const shoal_pack_unit *wanted)
{
    bool equal = found != NULL && found->id == wanted->id && found->n_part == wanted->n_part;
    for (int32_t i = 0; equal && i < wanted->n_part; i++) {
        const shoal_pack_part *a = &found->part[i], *b = &wanted->part[i];
        equal = a->key == b->key && a->matrix.format == b->matrix.format &&
                a->matrix.n_row == b->matrix.n_row && a->matrix.n_col == b->matrix.n_col &&
                (uintptr_t)a->matrix.data % 64 == 0 && (uintptr_t)a->matrix.scale % 64 == 0 &&
                memcmp(a->matrix.data, b->matrix.data, shoal_pack_data_bytes(&b->matrix)) == 0 &&
                (shoal_pack_scale_bytes(&b->matrix) == 0 ||
                 memcmp(a->matrix.scale, b->matrix.scale, shoal_pack_scale_bytes(&b->matrix)) == 0);
    }
    return equal && shoal__pack_checksum(found, NULL, NULL) == found->checksum;
}
