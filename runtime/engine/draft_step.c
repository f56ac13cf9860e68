/* The end of a step with guesses by the MTP layer. Its first pass takes every row that the step has
 * kept, so that the layer's cache is as long as the main one: pair (hidden state of the row, the
 * token after it). Its last row of a sequence guesses at the token after next. Each further pass
 * takes that guess and the layer's own hidden state as one more row, whose place in the cache the
 * next step overwrites with what is known by then. How many passes there are and who has rows
 * follows from the control message, so every rank takes part in the same exchanges. */
#include "runtime/engine/rank_step.h"

#include <string.h>

static void find_sources(shoal_rank_step *s, const shoal_control *control, int32_t pass)
{
    memset(s->is_source, 0, (size_t)s->limits->n_rank * sizeof(bool));
    for (int32_t i = 0; i < control->n_chunk; i++)
        if (shoal__chunk_in_draft_pass(&control->chunk[i], pass))
            s->is_source[control->chunk[i].owner] = true;
}

/* The last row so far becomes one that guesses for chunk i. */
static void add_guess(shoal_rank_step *s, int32_t i, int32_t position)
{
    s->logit_row[s->n_guess] = s->n_token - 1;
    s->guess[s->n_guess++] = (shoal_guess_row){.chunk = i, .position = position};
}

/* Rows that count: all of a prompt, and of a token and its guesses as many as gave a token. */
static int32_t n_row_kept(const shoal_control_chunk *chunk, const shoal_chunk_result *place)
{
    if ((chunk->flags & SHOAL_CONTROL_DECODE) == 0)
        return chunk->n_row;
    int32_t n = 0;
    while (n < chunk->n_row && place->token[n] >= 0)
        n++;
    return n;
}

static int32_t token_after(const shoal_control *control, const shoal_control_chunk *chunk,
                           const shoal_chunk_result *place, int32_t row)
{
    if ((chunk->flags & SHOAL_CONTROL_DECODE) != 0)
        return place->token[row];
    return row + 1 < chunk->n_token ? control->token[chunk->token0 + row + 1] : place->token[0];
}

/* Rows of the first pass, from those of the step: chunks and rows move to the front at most, so
 * that they are read before they are overwritten. */
static void first_pass(shoal_rank_step *s, const shoal_control *control,
                       const shoal_chunk_result *place)
{
    const size_t n_embd = (size_t)s->limits->n_embd;
    int32_t mine = 0;
    s->n_token = s->n_chunk = s->n_guess = 0;
    for (int32_t i = 0; i < control->n_chunk; i++) {
        const shoal_control_chunk *chunk = &control->chunk[i];
        if (chunk->owner != s->rank)
            continue;
        const int32_t row0 = s->chunk[mine++].row0;
        if ((chunk->flags & SHOAL_CONTROL_DRAFT) == 0)
            continue;
        const int32_t n_row = n_row_kept(chunk, &place[i]);
        s->chunk[s->n_chunk++] = (shoal_chunk){
            .slot = chunk->slot, .position0 = chunk->position0, .row0 = s->n_token, .n_row = n_row};
        memcpy(s->mtp_hidden + (size_t)s->n_token * n_embd,
               s->out.all_hidden + (size_t)row0 * n_embd, (size_t)n_row * n_embd * sizeof(float));
        for (int32_t r = 0; r < n_row; r++)
            s->token[s->n_token++] = token_after(control, chunk, &place[i], r);
        for (int32_t d = 0; d < chunk->n_draft; d++)
            place[i].draft[d] = -1;
        if (chunk->n_draft > 0)
            add_guess(s, i, chunk->position0 + n_row - 1);
    }
}

/* Rows of a further pass: one behind each guess of the pass before, where one more is wanted. */
static void next_pass(shoal_rank_step *s, const shoal_control *control,
                      const shoal_chunk_result *place, int32_t pass)
{
    const size_t n_embd = (size_t)s->limits->n_embd;
    const int32_t n_before = s->n_guess;
    s->n_token = s->n_chunk = s->n_guess = 0;
    for (int32_t g = 0; g < n_before; g++) {
        const shoal_guess_row before = s->guess[g];
        const shoal_control_chunk *chunk = &control->chunk[before.chunk];
        const int32_t position = before.position + 1;
        if (chunk->n_draft < pass || position >= s->limits->n_context)
            continue;
        s->chunk[s->n_chunk++] = (shoal_chunk){
            .slot = chunk->slot, .position0 = position, .row0 = s->n_token, .n_row = 1};
        memcpy(s->mtp_hidden + (size_t)s->n_token * n_embd, s->out.hidden + (size_t)g * n_embd,
               n_embd * sizeof(float));
        s->token[s->n_token++] = place[before.chunk].draft[pass - 2];
        add_guess(s, before.chunk, position);
    }
}

/* Run the layer over the rows; the likeliest token of each guessing row is the chunk's next guess.
 */
static shoal_status run_pass(shoal_rank_step *s, shoal_model *model, const shoal_control *control,
                             const shoal_chunk_result *place, int32_t pass)
{
    for (int32_t g = 0; g < s->n_guess; g++)
        s->job[g] = (shoal_row_job){.logit = g, .token = &place[s->guess[g].chunk].draft[pass - 1]};
    s->n_job = s->n_guess;
    s->n_largest = shoal__rank_step_n_largest(s);
    const shoal_forward_input in = {
        .step = control->step,
        .token = s->token,
        .n_token = s->n_token,
        .chunk = s->chunk,
        .n_chunk = s->n_chunk,
        .is_source = s->is_source,
        .logit_row = s->logit_row,
        .n_logit = s->n_guess,
        .n_largest = s->n_largest,
    };
    SHOAL_TRY(shoal_forward_mtp(&s->out, model, &in, s->mtp_hidden));
    shoal__rank_step_finish(s);
    return SHOAL_OK;
}

shoal_status shoal__rank_step_draft(shoal_rank_step *s, shoal_model *model,
                                    const shoal_control *control, const shoal_chunk_result *place)
{
    const int32_t n_pass = shoal__control_n_draft_pass(control);
    for (int32_t pass = 1; pass <= n_pass; pass++) {
        find_sources(s, control, pass);
        if (pass == 1)
            first_pass(s, control, place);
        else
            next_pass(s, control, place, pass);
        SHOAL_TRY(run_pass(s, model, control, place, pass));
    }
    return SHOAL_OK;
}
