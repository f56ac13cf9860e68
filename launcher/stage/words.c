#include "launcher/stage/stage.h"

#include "runtime/base/clock.h"

/* Rank 0 notes how far a node is. */
static void note(shoal__stage *s, int32_t n, const shoal__stage_word *word)
{
    shoal__stage_node *node = &s->node[n];
    node->word = *word;
    if (word->n_stored < node->n_missing || node->done_us > 0)
        return;
    const int64_t passed_us = shoal_clock_us() - s->start_us;
    node->done_us = passed_us > 0 ? passed_us : 1;
}

static shoal_status listen(shoal__stage *s, int32_t n)
{
    if (s->node[n].word.n_stored == s->node[n].n_missing)
        return SHOAL_OK;
    return shoal_comm_recv(s->comm, &s->word_request[n], s->node[n].leader, SHOAL_TAG_STAGED,
                           &s->word_in[n], sizeof s->word_in[n]);
}

shoal_status shoal__stage_words_open(shoal__stage *s)
{
    static const shoal__stage_word nothing = {0};
    for (int32_t n = 0; n < s->n_node; n++) {
        note(s, n, &nothing);
        if (n > 0)
            SHOAL_TRY(listen(s, n));
    }
    return SHOAL_OK;
}

/* Take what has come, and listen on. */
static shoal_status take(shoal__stage *s)
{
    for (int32_t n = 1; n < s->n_node; n++) {
        shoal_request *request = &s->word_request[n];
        if (!request->done || request->peer == SHOAL_ANY_RANK)
            continue;
        *request = SHOAL_REQUEST_NONE;
        note(s, n, &s->word_in[n]);
        SHOAL_TRY(listen(s, n));
    }
    shoal__stage_draw(s);
    return SHOAL_OK;
}

shoal_status shoal__stage_words_look(shoal__stage *s)
{
    SHOAL_TRY(shoal_comm_look(s->comm, s->word_request, s->n_node));
    return take(s);
}

shoal_status shoal__stage_words_wait(shoal__stage *s)
{
    SHOAL_TRY(shoal_comm_wait_any(s->comm, s->word_request, s->n_node, "word of the nodes"));
    return take(s);
}

static bool all_done(const shoal__stage *s)
{
    for (int32_t n = 1; n < s->n_node; n++)
        if (s->node[n].word.n_stored < s->node[n].n_missing)
            return false;
    return true;
}

shoal_status shoal__stage_words_finish(shoal__stage *s)
{
    while (!all_done(s))
        SHOAL_TRY(shoal__stage_words_wait(s));
    return SHOAL_OK;
}

shoal_status shoal__stage_word_say(shoal__stage *s, const shoal__stage_word *word,
                                   shoal_request *request, shoal__stage_word *sent)
{
    if (s->rank == 0) {
        note(s, 0, word);
        shoal__stage_draw(s);
        return SHOAL_OK;
    }
    SHOAL_TRY(shoal_comm_wait(s->comm, request, 1, "word of this node to leave"));
    *sent = *word;
    return shoal_comm_send(s->comm, request, 0, SHOAL_TAG_STAGED, sent, sizeof *sent);
}
