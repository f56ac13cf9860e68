#include "runtime/engine/scheduler.h"

#include <assert.h>
#include <string.h>

#define DROPPED ((int64_t)-1) /* sequence of an event that nobody wants any more */

void shoal__scheduler_carve(shoal_scheduler *s, shoal_arena *arena,
                            const shoal_scheduler_config *config)
{
    *s = (shoal_scheduler){.config = *config};
    const int32_t n_rank = config->n_rank;
    for (int32_t r = 0; r < n_rank; r++)
        s->n_slot_total += config->n_slot[r];
    s->slot0 = SHOAL_TAKE(arena, n_rank + 1, int32_t);
    s->slot_used = SHOAL_TAKE(arena, s->n_slot_total, bool);
    s->n_running_of = SHOAL_TAKE(arena, n_rank, int32_t);
    s->prefill_left = SHOAL_TAKE(arena, n_rank, int32_t);
    s->score_left = SHOAL_TAKE(arena, n_rank, int32_t);
    s->running = SHOAL_TAKE(arena, s->n_slot_total, shoal_sequence *);
    s->of_chunk = SHOAL_TAKE(arena, s->n_slot_total, shoal_sequence *);
    s->n_event_max = (2 + config->drafts.n_token) * s->n_slot_total;
    s->event = SHOAL_TAKE(arena, s->n_event_max, shoal_event);
    if (s->slot0 == NULL)
        return;
    s->slot0[0] = 0;
    for (int32_t r = 0; r < n_rank; r++)
        s->slot0[r + 1] = s->slot0[r] + config->n_slot[r];
}

void shoal__scheduler_fini(shoal_scheduler *s)
{
    while (s->queue_first != NULL) {
        shoal_sequence *next = s->queue_first->next;
        shoal__sequence_close(s->queue_first);
        s->queue_first = next;
    }
    for (int32_t i = 0; i < s->n_running; i++)
        shoal__sequence_close(s->running[i]);
    *s = (shoal_scheduler){0};
}

void shoal__scheduler_enqueue(shoal_scheduler *s, shoal_sequence *sequence)
{
    sequence->next = NULL;
    sequence->drafts = s->config.drafts;
    if (s->queue_last == NULL)
        s->queue_first = sequence;
    else
        s->queue_last->next = sequence;
    s->queue_last = sequence;
    s->n_queued++;
}

static shoal_sequence *dequeue(shoal_scheduler *s)
{
    shoal_sequence *first = s->queue_first;
    s->queue_first = first->next;
    if (s->queue_first == NULL)
        s->queue_last = NULL;
    first->next = NULL;
    s->n_queued--;
    return first;
}

/* Give back the slot of running[i]; the order of the others stays. */
static shoal_sequence *leave(shoal_scheduler *s, int32_t i)
{
    shoal_sequence *sequence = s->running[i];
    s->slot_used[s->slot0[sequence->owner] + sequence->slot] = false;
    s->n_running_of[sequence->owner]--;
    s->n_running--;
    memmove(&s->running[i], &s->running[i + 1], (size_t)(s->n_running - i) * sizeof(s->running[0]));
    return sequence;
}

/* The queued sequence with an id leaves the queue; NULL if there is none. */
static shoal_sequence *unlink_queued(shoal_scheduler *s, int64_t id)
{
    shoal_sequence *before = NULL;
    for (shoal_sequence *q = s->queue_first; q != NULL; before = q, q = q->next) {
        if (q->id != id)
            continue;
        if (before == NULL)
            return dequeue(s);
        before->next = q->next;
        if (s->queue_last == q)
            s->queue_last = before;
        s->n_queued--;
        return q;
    }
    return NULL;
}

void shoal__scheduler_cancel(shoal_scheduler *s, int64_t id)
{
    for (int32_t i = s->next_event; i < s->n_event; i++)
        if (s->event[i].sequence == id)
            s->event[i].sequence = DROPPED;
    for (int32_t i = 0; i < s->n_running; i++) {
        if (s->running[i]->id == id) {
            shoal__sequence_close(leave(s, i));
            return;
        }
    }
    shoal__sequence_close(unlink_queued(s, id));
}

int64_t shoal__scheduler_n_free(const shoal_scheduler *s)
{
    const int64_t n_free = (int64_t)s->n_slot_total - s->n_running - s->n_queued;
    return n_free > 0 ? n_free : 0;
}

/* The rank that the next sequence goes to, -1 if no slot is free. Fractions are compared by
 * products: (n + 1) / weight of each. */
static int32_t choose_owner(const shoal_scheduler *s)
{
    int32_t best = -1;
    for (int32_t r = 0; r < s->config.n_rank; r++) {
        if (s->n_running_of[r] >= s->config.n_slot[r])
            continue;
        if (best < 0 || (s->n_running_of[r] + 1) * s->config.weight[best] <
                            (s->n_running_of[best] + 1) * s->config.weight[r])
            best = r;
    }
    return best;
}

static int32_t take_slot(shoal_scheduler *s, int32_t owner)
{
    bool *used = s->slot_used + s->slot0[owner];
    int32_t slot = 0;
    while (used[slot])
        slot++;
    assert(slot < s->config.n_slot[owner]);
    used[slot] = true;
    return slot;
}

static void admit(shoal_scheduler *s)
{
    while (s->queue_first != NULL) {
        const int32_t owner = choose_owner(s);
        if (owner < 0)
            return;
        shoal_sequence *sequence = dequeue(s);
        sequence->owner = owner;
        sequence->slot = take_slot(s, owner);
        s->n_running_of[owner]++;
        s->running[s->n_running++] = sequence;
    }
}

static int32_t min_int(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Prompt rows of a sequence in this step, out of what its rank has left. */
static int32_t share_prompt_rows(shoal_scheduler *s, const shoal_sequence *sequence)
{
    const int32_t owner = sequence->owner;
    int32_t n_row = min_int(shoal__sequence_n_prompt_left(sequence), s->prefill_left[owner]);
    if (sequence->request.want != SHOAL_WANT_TOKENS) {
        n_row = min_int(n_row, s->score_left[owner]);
        s->score_left[owner] -= n_row;
    }
    s->prefill_left[owner] -= n_row;
    return n_row;
}

void shoal__scheduler_plan(shoal_scheduler *s, shoal_control *control)
{
    s->n_event = s->next_event = 0;
    admit(s);
    control->n_chunk = control->n_token = 0;
    for (int32_t r = 0; r < s->config.n_rank; r++) {
        s->prefill_left[r] = s->config.prefill_chunk;
        s->score_left[r] = s->config.score_rows;
    }
    for (int32_t i = 0; i < s->n_running; i++) {
        shoal_sequence *sequence = s->running[i];
        int32_t n_row = 1 + sequence->n_draft;
        if (sequence->n_generated == 0)
            n_row = share_prompt_rows(s, sequence);
        if (n_row == 0)
            continue;
        s->of_chunk[control->n_chunk] = sequence;
        shoal__sequence_put_chunk(control, sequence, n_row);
    }
}

static void put_event(shoal_scheduler *s, const shoal_event *event)
{
    assert(s->n_event < s->n_event_max);
    s->event[s->n_event++] = *event;
}

static void put_done(shoal_scheduler *s, const shoal_sequence *sequence)
{
    put_event(s, &(shoal_event){.kind = SHOAL_EVENT_DONE,
                                .sequence = sequence->id,
                                .finish = sequence->finish,
                                .submitted_us = sequence->submitted_us,
                                .first_token_us = sequence->first_token_us,
                                .done_us = sequence->done_us,
                                .n_prompt = sequence->request.n_prompt,
                                .n_generated = sequence->n_generated});
}

static void complete_chunk(shoal_scheduler *s, shoal_sequence *sequence,
                           const shoal_control_chunk *chunk, const shoal_chunk_result *result,
                           int64_t now_us)
{
    const int32_t n_token =
        shoal__sequence_advance(sequence, chunk, result, s->config.spec, &s->count, now_us);
    for (int32_t i = 0; i < n_token; i++)
        put_event(s, &(shoal_event){.kind = SHOAL_EVENT_TOKEN,
                                    .sequence = sequence->id,
                                    .token = result->token[i],
                                    .row0 = chunk->position0,
                                    .n_row = chunk->n_row});
    shoal_event event = {.sequence = sequence->id,
                         .row0 = chunk->position0,
                         .n_row = chunk->n_row,
                         .logits = result->logits,
                         .hidden = result->hidden,
                         .expert = result->expert,
                         .weight = result->weight,
                         .nll = result->nll};
    if ((chunk->flags & SHOAL_CONTROL_SCORES) != 0)
        event.kind = SHOAL_EVENT_SCORES;
    else if ((chunk->flags & SHOAL_CONTROL_ROWS) != 0)
        event.kind = SHOAL_EVENT_ROWS;
    else
        return;
    put_event(s, &event);
}

void shoal__scheduler_complete(shoal_scheduler *s, const shoal_control *control,
                               const shoal_chunk_result *result, int64_t now_us)
{
    int32_t chunk = 0;
    for (int32_t i = 0; i < s->n_running; i++) {
        shoal_sequence *sequence = s->running[i];
        if (chunk < control->n_chunk && s->of_chunk[chunk] == sequence) {
            complete_chunk(s, sequence, &control->chunk[chunk], &result[chunk], now_us);
            chunk++;
        } else if (sequence->n_generated == 0 && shoal__sequence_n_prompt_left(sequence) == 0)
            shoal__sequence_finish_empty(sequence, now_us);
        if (sequence->finish == SHOAL_FINISH_NONE)
            continue;
        put_done(s, sequence);
        shoal__sequence_close(leave(s, i));
        i--;
    }
    assert(chunk == control->n_chunk);
}

bool shoal__scheduler_poll(shoal_scheduler *s, shoal_event *event)
{
    while (s->next_event < s->n_event) {
        const shoal_event *next = &s->event[s->next_event++];
        if (next->sequence == DROPPED)
            continue;
        *event = *next;
        return true;
    }
    return false;
}
