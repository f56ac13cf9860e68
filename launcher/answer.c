#include "launcher/answer.h"

#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

shoal_status shoal_answer_open(shoal_answer *a, const shoal_tokenizer *tokenizer,
                               const shoal_text_list *stop, shoal_log *log)
{
    *a = (shoal_answer){.submitted_us = shoal_clock_us()};
    if (tokenizer == NULL)
        return stop->n == 0 ? SHOAL_OK
                            : shoal_fail(log, SHOAL_NO_INPUT,
                                         "stop strings need a tokenizer.json, and there is none");
    SHOAL_TRY(shoal_stop_open(&a->stop, stop->text, stop->n_bytes, stop->n, log));
    return shoal_decoder_open(&a->decoder, tokenizer, false, log);
}

void shoal_answer_close(shoal_answer *a)
{
    shoal_decoder_close(a->decoder);
    shoal_stop_close(a->stop);
    free(a->ids);
    free(a->text);
    *a = (shoal_answer){0};
}

static shoal_status add_id(shoal_answer *a, int32_t id, shoal_log *log)
{
    if (a->n_id == a->n_id_max) {
        int32_t n_max = a->n_id_max < INT32_MAX / 4 ? 2 * a->n_id_max + 64 : INT32_MAX;
        int32_t *grown = realloc(a->ids, (size_t)n_max * sizeof *grown);
        if (grown == NULL)
            return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %d ids", (int)n_max);
        a->ids = grown;
        a->n_id_max = n_max;
    }
    a->ids[a->n_id++] = id;
    return SHOAL_OK;
}

static shoal_status add_text(shoal_answer *a, const char *text, size_t n_bytes, shoal_log *log)
{
    if (n_bytes > a->n_text_max - a->n_text) {
        size_t n_max = 2 * a->n_text_max + n_bytes + 256;
        char *grown = realloc(a->text, n_max);
        if (grown == NULL)
            return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %zu bytes of text", n_max);
        a->text = grown;
        a->n_text_max = n_max;
    }
    if (n_bytes > 0)
        memcpy(a->text + a->n_text, text, n_bytes);
    a->n_text += n_bytes;
    return SHOAL_OK;
}

/* A piece of the decoder. */
static shoal_status take_piece(shoal_answer *a, const char *piece, size_t n_piece, shoal_log *log)
{
    const char *text;
    size_t n_text;
    SHOAL_TRY(shoal_stop_feed(a->stop, &text, &n_text, &a->stopped, piece, n_piece, log));
    return add_text(a, text, n_text, log);
}

shoal_status shoal_answer_take(shoal_answer *a, int32_t token, shoal_log *log)
{
    if (a->first_token_us == 0)
        a->first_token_us = shoal_clock_us();
    SHOAL_TRY(add_id(a, token, log));
    if (a->decoder == NULL)
        return SHOAL_OK;
    const char *piece;
    size_t n_piece;
    SHOAL_TRY(shoal_decoder_feed(a->decoder, &piece, &n_piece, token, log));
    return take_piece(a, piece, n_piece, log);
}

shoal_status shoal_answer_end(shoal_answer *a, shoal_log *log)
{
    if (a->decoder == NULL || a->stopped)
        return SHOAL_OK;
    const char *piece;
    size_t n_piece;
    shoal_decoder_flush(a->decoder, &piece, &n_piece);
    SHOAL_TRY(take_piece(a, piece, n_piece, log));
    shoal_stop_flush(a->stop, &piece, &n_piece);
    return add_text(a, piece, n_piece, log);
}

shoal_event shoal_answer_stop_event(const shoal_answer *a, int32_t n_prompt)
{
    return (shoal_event){.kind = SHOAL_EVENT_DONE,
                         .finish = SHOAL_FINISH_STOP,
                         .submitted_us = a->submitted_us,
                         .first_token_us = a->first_token_us,
                         .done_us = shoal_clock_us(),
                         .n_prompt = n_prompt,
                         .n_generated = a->n_id};
}
