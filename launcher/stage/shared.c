/* Every node reads MODEL itself. What all of them want is begun at different places, so that they
 * do not all ask for the same bytes at once. */
#include "launcher/stage/stage.h"

typedef struct own {
    shoal__stage *s;
    shoal__stage_store store;
    shoal_request word_request;
    shoal__stage_word word_sent;
} own;

static shoal_status say(own *o)
{
    SHOAL_TRY(shoal__stage_word_say(o->s, &o->store.word, &o->word_request, &o->word_sent));
    return o->s->rank == 0 ? shoal__stage_words_look(o->s) : SHOAL_OK;
}

static shoal_status read_all(own *o)
{
    shoal__stage *s = o->s;
    const int32_t first = (int32_t)((int64_t)s->n_unit * s->mine / s->n_node);
    for (int32_t i = 0; i < s->n_unit; i++) {
        const int32_t index = (first + i) % s->n_unit;
        if (!s->missing[index])
            continue;
        SHOAL_TRY(shoal__stage_at(s, o->store.word.n_received, index));
        shoal__stage_image *image;
        SHOAL_TRY(shoal__stage_image_read(&image, s, index, NULL));
        SHOAL_TRY(shoal__stage_store_put(&o->store, image));
        SHOAL_TRY(say(o));
    }
    SHOAL_TRY(shoal__stage_store_flush(&o->store));
    if (s->n_missing > 0)
        SHOAL_TRY(say(o));
    return shoal_comm_wait(s->comm, &o->word_request, 1, "word of this node to leave");
}

shoal_status shoal__stage_shared(shoal__stage *s)
{
    own o = {.s = s, .word_request = SHOAL_REQUEST_NONE};
    shoal__stage_store_open(&o.store, s);
    shoal_status status = s->rank == 0 ? shoal__stage_words_open(s) : SHOAL_OK;
    if (status == SHOAL_OK)
        status = read_all(&o);
    if (status == SHOAL_OK && s->rank == 0)
        status = shoal__stage_words_finish(s);
    if (status != SHOAL_OK) /* no message goes into or out of what is freed */
        shoal_bootstrap_close(&s->bootstrap, status);
    shoal__stage_store_close(&o.store);
    return status;
}
