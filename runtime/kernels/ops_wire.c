/* Rows between a rank's tensors and its messages, on the CPU. */
#include "runtime/kernels/ops_rows.h"

#include <string.h>

enum { ROWS = 16 }; /* of a tile */

/* A row that goes to several ranks is encoded once. */
static void pack_row(const void *job, const shoal_kernels *kernels, int32_t i, int32_t worker)
{
    (void)worker;
    const shoal_pack *p = job;
    size_t row_bytes = shoal_wire_row_bytes(p->encoding, p->n_col);
    unsigned char *out = p->out + (size_t)i * row_bytes;
    int64_t from = p->index[i];
    if (p->made != NULL && p->made[from] != NULL) {
        memcpy(out, p->made[from], row_bytes);
        return;
    }
    if (p->encoding == SHOAL_WIRE_INT8 && p->x.int8 != NULL)
        shoal_wire_encode_groups(out, p->x.int8 + from * shoal_int8_groups(p->n_col), p->n_col);
    else
        shoal_wire_encode(out, p->encoding, kernels, p->x.f32 + from * p->n_col, p->n_col);
    if (p->made != NULL)
        p->made[from] = out;
}

void shoal_op_pack_rows(const shoal_compute *c, const shoal_pack *pack)
{
    if (c->device != NULL)
        c->device->ops->pack_rows(c->device, pack);
    else
        shoal__for_rows(c, pack_row, pack, pack->n_row, ROWS);
}

static void pack_sum(const void *job, const shoal_kernels *kernels, int32_t i, int32_t worker)
{
    const shoal_pack_sums *p = job;
    float *sum = p->room + (int64_t)worker * p->n_col;
    memset(sum, 0, (size_t)p->n_col * sizeof *sum);
    for (int32_t slot = p->row_slot[i]; slot < p->row_slot[i + 1]; slot++)
        kernels->axpy(sum, p->slot_weight[slot], p->done + (int64_t)p->slot_done[slot] * p->n_col,
                      p->n_col);
    shoal_wire_encode(p->out + (size_t)i * shoal_wire_row_bytes(p->encoding, p->n_col), p->encoding,
                      kernels, sum, p->n_col);
}

void shoal_op_pack_sums(const shoal_compute *c, const shoal_pack_sums *pack)
{
    if (c->device != NULL)
        c->device->ops->pack_sums(c->device, pack);
    else
        shoal__for_rows(c, pack_sum, pack, pack->n_row, ROWS);
}

static void unpack_row(const void *job, const shoal_kernels *kernels, int32_t i, int32_t worker)
{
    (void)worker;
    const shoal_unpack *u = job;
    const unsigned char *row = u->from + (size_t)i * shoal_wire_row_bytes(u->encoding, u->n_col);
    if (u->int8 != NULL)
        shoal_wire_decode_groups(u->int8 + (int64_t)i * shoal_int8_groups(u->n_col), row, u->n_col);
    else
        shoal_wire_decode(u->f32 + (int64_t)i * u->n_col, u->encoding, kernels, row, u->n_col);
}

void shoal_op_unpack_rows(const shoal_compute *c, const shoal_unpack *unpack)
{
    if (c->device != NULL)
        c->device->ops->unpack_rows(c->device, unpack);
    else
        shoal__for_rows(c, unpack_row, unpack, unpack->n_row, ROWS);
}

static const unsigned char *row_home(const shoal_sum *s, int32_t home, size_t row_bytes)
{
    const int32_t own = home - s->own_first;
    return own >= 0 && own < s->n_own ? s->own + (size_t)own * row_bytes
                                      : s->from + (size_t)home * row_bytes;
}

static void sum_row(const void *job, const shoal_kernels *kernels, int32_t i, int32_t worker)
{
    (void)worker;
    const shoal_sum *s = job;
    size_t row_bytes = shoal_wire_row_bytes(s->encoding, s->n_col);
    float *acc = s->acc + (int64_t)i * s->n_col;
    memset(acc, 0, (size_t)s->n_col * sizeof *acc);
    for (int64_t at = (int64_t)i * s->k; at < ((int64_t)i + 1) * s->k; at++)
        if (s->home[at] >= 0)
            shoal_wire_axpy(acc, s->encoding, kernels, s->weight != NULL ? s->weight[at] : 1.0F,
                            row_home(s, s->home[at], row_bytes), s->n_col);
}

void shoal_op_sum_rows(const shoal_compute *c, const shoal_sum *sum)
{
    if (c->device != NULL)
        c->device->ops->sum_rows(c->device, sum);
    else
        shoal__for_rows(c, sum_row, sum, sum->n_row, ROWS);
}
