#include "runtime/engine/sequence.h"

#include "runtime/engine/ngram.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

shoal_status shoal__sequence_open(shoal_sequence **sequence, const shoal_sequence_request *request,
                                  int64_t id, int64_t now_us, shoal_log *log)
{
    const size_t prompt_bytes = (size_t)request->n_prompt * sizeof(int32_t);
    const bool generates = request->want == SHOAL_WANT_TOKENS;
    const size_t room_bytes = generates ? (size_t)request->max_tokens * sizeof(int32_t) : 0;
    shoal_sequence *s = calloc(1, sizeof *s + prompt_bytes + room_bytes);
    if (s == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY,
                          "no memory for a sequence of %d prompt tokens and %d to generate",
                          request->n_prompt, generates ? request->max_tokens : 0);
    s->id = id;
    s->owner = s->slot = -1;
    s->submitted_us = now_us;
    s->request = *request;
    memcpy(s->token, request->prompt, prompt_bytes);
    s->request.prompt = s->token;
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

static int32_t min_int(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Guesses that can be of use after a step that gives n_token tokens at least: what is still to be
 * generated then, but for the token that the step draws anyway. */
static int32_t n_draft_useful(const shoal_sequence *s, int32_t n_token)
{
    const int32_t n_left = s->request.max_tokens - s->n_generated - n_token - 1;
    return n_left > 0 ? min_int(n_left, s->drafts.n_token) : 0;
}

/* Of the next chunk. Once no guess is of use any more, none ever is, so the MTP layer's cache is
 * complete as long as it is read. */
static int32_t n_draft_wanted(const shoal_sequence *s)
{
    return s->drafts.kind == SHOAL_DRAFT_MTP ? n_draft_useful(s, 1) : 0;
}

static uint32_t sample_flags(const shoal_sequence *s, int32_t n_row)
{
    const int32_t n_left = shoal__sequence_n_prompt_left(s);
    if (n_left == 0)
        return SHOAL_CONTROL_SAMPLE | SHOAL_CONTROL_DECODE;
    return n_row == n_left && s->request.max_tokens > 0 ? SHOAL_CONTROL_SAMPLE : 0;
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
    return sample_flags(s, n_row) | (n_draft_wanted(s) > 0 ? SHOAL_CONTROL_DRAFT : 0);
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
        chunk->n_draft = n_draft_wanted(sequence);
    }
    int32_t *token = control->token + control->n_token;
    control->n_token += chunk->n_token;
    if ((flags & SHOAL_CONTROL_DECODE) != 0) {
        assert(n_row == 1 + sequence->n_draft && sequence->n_generated > 0);
        token[0] = sequence->token[request->n_prompt + sequence->n_generated - 1];
        memcpy(token + 1, sequence->draft, (size_t)sequence->n_draft * sizeof(int32_t));
    } else {
        assert(n_row >= 1 && n_row <= shoal__sequence_n_prompt_left(sequence));
        memcpy(token, sequence->token + sequence->n_done, (size_t)chunk->n_token * sizeof(int32_t));
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

/* Tokens of a step, the first n of token [n_max] that are none of -1, up to the last that the
 * sequence takes. Returns how many it took, an end token included. */
static int32_t take_tokens(shoal_sequence *s, const int32_t *token, int32_t n_max,
                           const shoal_spec *spec, int64_t now_us)
{
    int32_t n = 0;
    while (n < n_max && token[n] >= 0 && s->finish == SHOAL_FINISH_NONE) {
        const int32_t next = token[n++];
        if (!s->request.ignore_eos && is_end_token(spec, next)) {
            finish(s, SHOAL_FINISH_STOP, now_us);
            break;
        }
        s->token[s->request.n_prompt + s->n_generated++] = next;
        if (s->n_generated == s->request.max_tokens)
            finish(s, SHOAL_FINISH_LENGTH, now_us);
    }
    return n;
}

/* Guesses for the next step. */
static void take_drafts(shoal_sequence *s, const shoal_control_chunk *chunk, const int32_t *draft)
{
    const int32_t n_useful = n_draft_useful(s, 0);
    s->n_draft = 0;
    if (s->drafts.kind == SHOAL_DRAFT_NGRAM)
        s->n_draft =
            shoal_ngram_guess(s->draft, n_useful, s->token, s->request.n_prompt + s->n_generated);
    const int32_t n = draft != NULL ? min_int(n_useful, chunk->n_draft) : 0;
    while (s->n_draft < n && draft[s->n_draft] >= 0) {
        s->draft[s->n_draft] = draft[s->n_draft];
        s->n_draft++;
    }
}

static void count_tokens(shoal_engine_counters *count, const shoal_control_chunk *chunk,
                         const shoal_chunk_result *result, int32_t n_taken)
{
    if ((chunk->flags & SHOAL_CONTROL_DECODE) == 0)
        return;
    int32_t n_right = 0;
    while (n_right < chunk->n_row - 1 && result->token[n_right + 1] >= 0)
        n_right++;
    count->n_decode_step++;
    count->n_decode_token += n_taken;
    count->n_draft_proposed += chunk->n_row - 1;
    count->n_draft_accepted += min_int(n_right, n_taken);
}

int32_t shoal__sequence_advance(shoal_sequence *sequence, const shoal_control_chunk *chunk,
                                const shoal_chunk_result *result, const shoal_spec *spec,
                                shoal_engine_counters *count, int64_t now_us)
{
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) == 0) {
        sequence->n_done += chunk->n_row;
        if (shoal__sequence_n_prompt_left(sequence) == 0)
            finish(sequence, SHOAL_FINISH_LENGTH, now_us);
        return 0;
    }
    if (!sequence->first_sampled) {
        sequence->first_sampled = true;
        sequence->first_token_us = now_us;
    }
    const bool decode = (chunk->flags & SHOAL_CONTROL_DECODE) != 0;
    const int32_t n_before = sequence->n_generated;
    const int32_t n_taken =
        take_tokens(sequence, result->token, decode ? chunk->n_row : 1, spec, now_us);
    /* Rows of guesses that were wrong do not count: their positions are computed again. */
    sequence->n_done += decode ? n_taken : chunk->n_row;
    count_tokens(count, chunk, result, n_taken);
    if (sequence->finish == SHOAL_FINISH_NONE)
        take_drafts(sequence, chunk, result->draft);
    return sequence->n_generated - n_before;
}

void shoal__sequence_finish_empty(shoal_sequence *sequence, int64_t now_us)
{
    finish(sequence, SHOAL_FINISH_LENGTH, now_us);
}
