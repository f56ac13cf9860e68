/* Rank 0 reads every unit that is missing anywhere once, packs it and sends it to the nodes that
 * lack it; those of its own node it writes. First what several nodes want, in order; then experts,
 * each next one for the node that has the least under way, so that no slow disk holds up another.
 * A unit is read and packed while those before it travel. */
#include "launcher/stage/stage.h"

#include <stdlib.h>

enum {
    AHEAD_MAX = 2,         /* units under way to a node */
    MEMORY_BYTES = 1 << 30 /* of units under way, if there is more than one */
};

typedef struct outgoing {
    shoal__stage_image *image; /* NULL: the place is free */
    shoal__stage_header header;
    shoal_request request[2];
} outgoing;

typedef struct target {
    outgoing out[AHEAD_MAX]; /* unit number i is in place i % AHEAD_MAX */
    int64_t n_sent, n_freed;
    int32_t next; /* where to look for its next expert */
} target;

typedef struct sender {
    shoal__stage *s;
    shoal__stage_store store;
    target *target; /* [n_node]; of node 0 only next is used */
    uint64_t in_memory;
    int64_t n_done;
} sender;

/* Places of units that have arrived become free. */
static shoal_status free_arrived(sender *d)
{
    for (int32_t n = 1; n < d->s->n_node; n++) {
        target *t = &d->target[n];
        for (; t->n_freed < d->s->node[n].word.n_received; t->n_freed++) {
            outgoing *out = &t->out[t->n_freed % AHEAD_MAX];
            SHOAL_TRY(shoal_comm_wait(d->s->comm, out->request, 2, "weights to leave"));
            shoal__stage_image_drop(out->image);
            out->image = NULL;
        }
    }
    return SHOAL_OK;
}

static shoal_status look(sender *d)
{
    SHOAL_TRY(shoal__stage_words_look(d->s));
    return free_arrived(d);
}

static shoal_status wait_for_word(sender *d)
{
    SHOAL_TRY(shoal__stage_words_wait(d->s));
    return free_arrived(d);
}

static bool has_room(const target *t)
{
    return t->n_sent - t->n_freed < AHEAD_MAX;
}

static bool is_under_way(const sender *d)
{
    for (int32_t n = 1; n < d->s->n_node; n++)
        if (d->target[n].n_sent > d->target[n].n_freed)
            return true;
    return false;
}

static shoal_status send_to(sender *d, int32_t node, shoal__stage_image *image)
{
    shoal__stage *s = d->s;
    target *t = &d->target[node];
    while (!has_room(t))
        SHOAL_TRY(wait_for_word(d));
    outgoing *out = &t->out[t->n_sent % AHEAD_MAX];
    out->header = (shoal__stage_header){.unit = shoal_unit_image_index(image->image),
                                        .checksum = image->checksum};
    out->request[0] = out->request[1] = SHOAL_REQUEST_NONE;
    out->image = image;
    image->n_user++;
    t->n_sent++;
    SHOAL_TRY(shoal_comm_send(s->comm, &out->request[0], s->node[node].leader, SHOAL_TAG_STAGE,
                              &out->header, sizeof out->header));
    return shoal_comm_send(s->comm, &out->request[1], s->node[node].leader, SHOAL_TAG_STAGE,
                           shoal_unit_image_data(image->image),
                           shoal_unit_image_bytes(image->image));
}

/* To the nodes [first, last] that lack it; to rank 0's own, into the store. */
static shoal_status deliver(sender *d, shoal__stage_image *image, int32_t index, int32_t first,
                            int32_t last)
{
    shoal__stage *s = d->s;
    for (int32_t n = first > 0 ? first : 1; n <= last; n++)
        if (s->node[n].missing[index])
            SHOAL_TRY(send_to(d, n, image));
    if (first > 0 || !s->missing[index])
        return SHOAL_OK;
    image->n_user++;
    SHOAL_TRY(shoal__stage_store_put(&d->store, image));
    return shoal__stage_word_say(s, &d->store.word, NULL, NULL);
}

static shoal_status read_and_deliver(sender *d, int32_t index, int32_t first, int32_t last)
{
    shoal__stage *s = d->s;
    SHOAL_TRY(shoal__stage_at(s, d->n_done++, index));
    if (d->in_memory > MEMORY_BYTES)
        SHOAL_TRY(shoal__stage_store_flush(&d->store));
    while (d->in_memory > MEMORY_BYTES && is_under_way(d))
        SHOAL_TRY(wait_for_word(d));
    shoal__stage_image *image;
    SHOAL_TRY(shoal__stage_image_read(&image, s, index, &d->in_memory));
    const shoal_status status = deliver(d, image, index, first, last);
    shoal__stage_image_drop(image);
    SHOAL_TRY(status);
    return look(d);
}

static bool is_expert(const shoal__stage *s, int32_t index)
{
    return shoal_units_at(s->units, index)->expert != SHOAL_PACK_NO_EXPERT;
}

static shoal_status send_common(sender *d)
{
    shoal__stage *s = d->s;
    for (int32_t i = 0; i < s->n_unit; i++) {
        bool lacking = false;
        for (int32_t n = 0; n < s->n_node; n++)
            lacking = lacking || s->node[n].missing[i];
        if (lacking && !is_expert(s, i))
            SHOAL_TRY(read_and_deliver(d, i, 0, s->n_node - 1));
    }
    return SHOAL_OK;
}

/* The node's next missing expert; n_unit: it has none. */
static int32_t next_expert(const sender *d, int32_t node)
{
    const shoal__stage *s = d->s;
    int32_t *next = &d->target[node].next;
    while (*next < s->n_unit && !(s->node[node].missing[*next] && is_expert(s, *next)))
        (*next)++;
    return *next;
}

/* The node to read for: of those that lack experts and have room the one with the least under way;
 * rank 0's own when all others are busy. n_node: all are busy; -1: nothing is missing. */
static int32_t choose_node(const sender *d)
{
    const shoal__stage *s = d->s;
    int32_t best = -1;
    bool busy = false;
    int64_t least = AHEAD_MAX;
    for (int32_t n = 1; n < s->n_node; n++) {
        const target *t = &d->target[n];
        if (next_expert(d, n) == s->n_unit)
            continue;
        busy = true;
        if (t->n_sent - t->n_freed < least) {
            least = t->n_sent - t->n_freed;
            best = n;
        }
    }
    if (best >= 0)
        return best;
    if (next_expert(d, 0) < s->n_unit)
        return 0;
    return busy ? s->n_node : -1;
}

static shoal_status send_experts(sender *d)
{
    shoal__stage *s = d->s;
    for (int32_t node; (node = choose_node(d)) >= 0;) {
        if (node == s->n_node) {
            SHOAL_TRY(wait_for_word(d));
            continue;
        }
        const int32_t index = next_expert(d, node);
        d->target[node].next++;
        SHOAL_TRY(read_and_deliver(d, index, node, node));
    }
    return SHOAL_OK;
}

static shoal_status send_all(sender *d)
{
    SHOAL_TRY(shoal__stage_words_open(d->s));
    SHOAL_TRY(send_common(d));
    SHOAL_TRY(send_experts(d));
    SHOAL_TRY(shoal__stage_store_flush(&d->store));
    SHOAL_TRY(shoal__stage_word_say(d->s, &d->store.word, NULL, NULL));
    SHOAL_TRY(shoal__stage_words_finish(d->s));
    return free_arrived(d);
}

shoal_status shoal__stage_send(shoal__stage *s)
{
    sender d = {.s = s, .target = calloc((size_t)s->n_node, sizeof *d.target)};
    shoal__stage_store_open(&d.store, s);
    shoal_status status = SHOAL_OK;
    if (d.target == NULL)
        status = shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d nodes", (int)s->n_node);
    if (status == SHOAL_OK)
        status = send_all(&d);
    if (status != SHOAL_OK) /* no message goes into or out of what is freed */
        shoal_bootstrap_close(&s->bootstrap, status);
    for (int32_t n = 0; d.target != NULL && n < s->n_node; n++)
        for (int32_t i = 0; i < AHEAD_MAX; i++)
            shoal__stage_image_drop(d.target[n].out[i].image);
    free(d.target);
    shoal__stage_store_close(&d.store);
    return status;
}
