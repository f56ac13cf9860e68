/* Units that rank 0 sends, in the order of the list of what is missing: common ones, then experts.
 * One is received while the one before is checked and written. */
#include "launcher/stage/stage.h"

#include <inttypes.h>

typedef struct incoming {
    shoal__stage_image *image; /* NULL: there is none */
    shoal__stage_header header;
    shoal_request request[2];
} incoming;

typedef struct receiver {
    shoal__stage *s;
    shoal__stage_store store;
    incoming in[2];
    int32_t next; /* unit to ask for, in the order of sending */
    bool experts; /* it is an expert */
    shoal_request word_request;
    shoal__stage_word word_sent;
} receiver;

/* The next missing unit, n_unit behind the last. */
static int32_t find_next(receiver *r)
{
    const shoal__stage *s = r->s;
    for (;; r->next++) {
        if (r->next == s->n_unit && r->experts)
            return s->n_unit;
        if (r->next == s->n_unit) {
            r->experts = true;
            r->next = 0;
        }
        const bool is_expert = shoal_units_at(s->units, r->next)->expert != SHOAL_PACK_NO_EXPERT;
        if (s->missing[r->next] && is_expert == r->experts)
            return r->next++;
    }
}

static shoal_status listen(receiver *r, incoming *in)
{
    shoal__stage *s = r->s;
    const int32_t index = find_next(r);
    if (index == s->n_unit)
        return SHOAL_OK;
    SHOAL_TRY(shoal__stage_image_open(&in->image, s, index, NULL));
    SHOAL_TRY(shoal_comm_recv(s->comm, &in->request[0], 0, SHOAL_TAG_STAGE, &in->header,
                              sizeof in->header));
    return shoal_comm_recv(s->comm, &in->request[1], 0, SHOAL_TAG_STAGE,
                           shoal_unit_image_data(in->image->image),
                           shoal_unit_image_bytes(in->image->image));
}

/* End to end: what rank 0 packed is what is here. */
static shoal_status check(const receiver *r, const incoming *in)
{
    shoal__stage *s = r->s;
    const int32_t index = shoal_unit_image_index(in->image->image);
    const shoal_unit_info *u = shoal_units_at(s->units, index);
    const uint64_t found =
        shoal_pack_unit_checksum(shoal_unit_image_unit(in->image->image), shoal__stage_poll, s);
    if (in->header.unit == index && in->header.checksum == found)
        return s->poll_status;
    return shoal_fail(s->log, SHOAL_FAILED,
                      "unit %d (layer %d, expert %d) arrived damaged: its checksum is %016" PRIx64
                      ", rank 0 (%s) sent unit %" PRId64 " with %016" PRIx64
                      "; memory or a network card is at fault. Nothing of it is kept: run shoal "
                      "stage again",
                      (int)index, (int)u->layer, (int)u->expert, found, shoal_comm_host(s->comm, 0),
                      in->header.unit, in->header.checksum);
}

static shoal_status say(receiver *r)
{
    return shoal__stage_word_say(r->s, &r->store.word, &r->word_request, &r->word_sent);
}

static shoal_status receive_all(receiver *r)
{
    shoal__stage *s = r->s;
    SHOAL_TRY(listen(r, &r->in[0]));
    for (int64_t i = 0; i < s->n_missing; i++) {
        incoming *in = &r->in[i % 2];
        SHOAL_TRY(shoal__stage_at(s, i, shoal_unit_image_index(in->image->image)));
        SHOAL_TRY(shoal_comm_wait(s->comm, in->request, 2, "weights from rank 0"));
        SHOAL_TRY(listen(r, &r->in[(i + 1) % 2]));
        SHOAL_TRY(check(r, in));
        shoal__stage_image *image = in->image;
        in->image = NULL;
        SHOAL_TRY(shoal__stage_store_put(&r->store, image));
        SHOAL_TRY(say(r));
    }
    SHOAL_TRY(shoal__stage_store_flush(&r->store));
    SHOAL_TRY(say(r));
    return shoal_comm_wait(s->comm, &r->word_request, 1, "word of this node to leave");
}

shoal_status shoal__stage_receive(shoal__stage *s)
{
    if (s->n_missing == 0)
        return SHOAL_OK;
    receiver r = {.s = s, .word_request = SHOAL_REQUEST_NONE};
    shoal__stage_store_open(&r.store, s);
    const shoal_status status = receive_all(&r);
    /* Nothing moves any more into what is freed: a failed call has ended the communicator, or does
     * now. */
    if (status != SHOAL_OK)
        shoal_bootstrap_close(&s->bootstrap, status);
    for (int i = 0; i < 2; i++)
        shoal__stage_image_drop(r.in[i].image);
    shoal__stage_store_close(&r.store);
    return status;
}
