#include "runtime/engine/sequence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

shoal_status shoal__sequence_open(shoal_sequence **sequence, const shoal_sequence_request *request,
                                  int64_t id, int64_t now_us, shoal_log *log)
{
    const size_t prompt_bytes = (size_t)request->n_prompt * sizeof(int32_t);
    shoal_sequence *s = calloc(1, sizeof *s + prompt_bytes);
    if (s == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a sequence of %d prompt tokens",
                          request->n_prompt);
    s->id = id;
    s->owner = s->slot = -1;
    s->submitted_us = now_us;
    s->request = *request;
    memcpy(s->prompt, request->prompt, prompt_bytes);
    s->request.prompt = s->prompt;
    *sequence = s;
    return SHOAL_OK;
}

void shoal__sequence_close(shoal_sequence *sequence)
{
    free(sequence);
}

static int32_t n_prompt_row(const shoal_sequence *s)
{
    return s->request.n_prompt - (s->request.want == SHOAL_WANT_SCORES ? 1 : 0);
}

int32_t shoal__sequence_n_prompt_left(const shoal_sequence *sequence)
{
    const int32_t n_row = n_prompt_row(sequence);
    return sequence->n_done < n_row ? n_row - sequence->n_done : 0;
}

static uint32_t chunk_flags(const shoal_sequence *s, int32_t n_row)
{
    switch (s->request.want) {
    case SHOAL_WANT_SCORES:
        return SHOAL_CONTROL_SCORES;
    case SHOAL_WANT_ROWS:
        return SHOAL_CONTROL_ROWS;
    case SHOAL_WANT_TOKENS:
        break;
    }
    const int32_t n_left = shoal__sequence_n_prompt_left(s);
    if (n_left == 0)
        return SHOAL_CONTROL_SAMPLE | SHOAL_CONTROL_DECODE;
    return n_row == n_left && s->request.max_tokens > 0 ? SHOAL_CONTROL_SAMPLE : 0;
}

void shoal__sequence_put_chunk(shoal_control *control, const shoal_sequence *sequence,
                               int32_t n_row)
{
    const shoal_sequence_request *request = &sequence->request;
    const uint32_t flags = chunk_flags(sequence, n_row);
    shoal_control_chunk *chunk = &control->chunk[control->n_chunk++];
    *chunk = (shoal_control_chunk){
        .owner = sequence->owner,
        .slot = sequence->slot,
        .position0 = sequence->n_done,
        .n_row = n_row,
        .flags = flags,
        .token0 = control->n_token,
        .n_token = shoal_control_chunk_n_token(n_row, flags),
    };
    if ((flags & SHOAL_CONTROL_SAMPLE) != 0) {
        chunk->temperature = request->sampling.temperature;
        chunk->top_p = request->sampling.top_p;
        chunk->top_k = request->sampling.top_k;
        chunk->seed = request->sampling.seed;
        chunk->key = request->key;
    }
    int32_t *token = control->token + control->n_token;
    control->n_token += chunk->n_token;
    if ((flags & SHOAL_CONTROL_DECODE) != 0) {
        assert(n_row == 1 && sequence->n_generated > 0);
        token[0] = sequence->last_token;
    } else {
        assert(n_row >= 1 && n_row <= shoal__sequence_n_prompt_left(sequence));
        memcpy(token, sequence->prompt + sequence->n_done,
               (size_t)chunk->n_token * sizeof(int32_t));
    }
}

static bool is_end_token(const shoal_spec *spec, int32_t token)
{
    for (int32_t i = 0; i < spec->n_eos; i++)
        if (spec->eos[i] == token)
            return true;
    return false;
}

static void finish(shoal_sequence *s, shoal_finish how, int64_t now_us)
{
    s->finish = how;
    s->done_us = now_us;
    if (!s->first_sampled)
        s->first_token_us = now_us;
}

bool shoal__sequence_advance(shoal_sequence *sequence, const shoal_control_chunk *chunk,
                             int32_t token, const shoal_spec *spec, int64_t now_us)
{
    sequence->n_done += chunk->n_row;
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) == 0) {
        if (shoal__sequence_n_prompt_left(sequence) == 0)
            finish(sequence, SHOAL_FINISH_LENGTH, now_us);
        return false;
    }
    if (!sequence->first_sampled) {
        sequence->first_sampled = true;
        sequence->first_token_us = now_us;
    }
    if (!sequence->request.ignore_eos && is_end_token(spec, token)) {
        finish(sequence, SHOAL_FINISH_STOP, now_us);
        return false;
    }
    sequence->last_token = token;
    sequence->n_generated++;
    if (sequence->n_generated == sequence->request.max_tokens)
        finish(sequence, SHOAL_FINISH_LENGTH, now_us);
    return true;
}

void shoal__sequence_finish_empty(shoal_sequence *sequence, int64_t now_us)
{
    finish(sequence, SHOAL_FINISH_LENGTH, now_us);
}
