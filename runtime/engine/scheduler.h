/* The scheduler: which sequences have a cache slot, on which rank, and who runs in this step. On
 * rank 0 only; pure bookkeeping, no messages, no model, no allocation after open but the sequences'
 * own.
 *
 * Admission: in the order of submission, each to the rank with a free slot that has the least
 * sequences / sequence weight once it is there (ties: the lower rank). A sequence stays there.
 * A step: every sequence past its prompt has one row and those of its guesses, always, so that what
 * it does depends on itself alone. Sequences in their prompt share
 * their rank's prefill_chunk rows in order of admission, the earlier takes all it can; chunks of
 * SCORES and ROWS sequences share score_rows of them. So the oldest prompt of every rank advances
 * in every step, and none starves. Layering: engine; no comm, no model. */
#ifndef SHOAL_ENGINE_SCHEDULER_H
#define SHOAL_ENGINE_SCHEDULER_H

#include "runtime/engine/sequence.h"

typedef struct shoal_scheduler_config {
    int32_t n_rank;
    const int32_t *n_slot; /* [n_rank], borrowed */
    const double *weight;  /* [n_rank] > 0 where n_slot > 0, borrowed */
    int32_t prefill_chunk; /* per rank and step */
    int32_t score_rows;    /* per rank and step, <= prefill_chunk; 0: no SCORES, no ROWS */
    shoal_drafts drafts;
    const shoal_spec *spec; /* end tokens; borrowed */
} shoal_scheduler_config;

typedef struct shoal_scheduler {
    shoal_scheduler_config config;
    int32_t n_slot_total;
    int32_t *slot0;              /* [n_rank + 1] first of each rank's slots in slot_used */
    bool *slot_used;             /* [n_slot_total] */
    int32_t *n_running_of;       /* [n_rank] */
    int32_t *prefill_left;       /* [n_rank] in this step */
    int32_t *score_left;         /* [n_rank] in this step */
    shoal_sequence *queue_first; /* list through next, oldest first */
    shoal_sequence *queue_last;  /* NULL if the queue is empty */
    int64_t n_queued;
    shoal_sequence **running; /* [n_slot_total] in order of admission */
    int32_t n_running;
    shoal_sequence **of_chunk; /* [n_slot_total] whose chunk each is, in this step */
    shoal_event *event;        /* [n_event_max]: of each slot its tokens and DONE */
    int32_t n_event_max, n_event, next_event;
    shoal_engine_counters count; /* those of rank 0 alone */
} shoal_scheduler;

/* Measure or carve. */
void shoal__scheduler_carve(shoal_scheduler *s, shoal_arena *arena,
                            const shoal_scheduler_config *config);
/* Frees the sequences. Accepts a scheduler that was only measured or zeroed. */
void shoal__scheduler_fini(shoal_scheduler *s);

/* Takes ownership. */
void shoal__scheduler_enqueue(shoal_scheduler *s, shoal_sequence *sequence);
/* Drop a sequence, and its events that are not polled yet. Unknown ids are ignored. */
void shoal__scheduler_cancel(shoal_scheduler *s, int64_t id);
int64_t shoal__scheduler_n_free(const shoal_scheduler *s); /* slots beyond those the queue needs */

/* Admit, and fill control's chunks and tokens for one step. Drops old events. n_chunk may be 0 when
 * only sequences without rows are left. */
void shoal__scheduler_plan(shoal_scheduler *s, shoal_control *control);
/* The planned step is computed: results in, events out, ended sequences leave. result:
 * [control->n_chunk], must live as long as the events. */
void shoal__scheduler_complete(shoal_scheduler *s, const shoal_control *control,
                               const shoal_chunk_result *result, int64_t now_us);
bool shoal__scheduler_poll(shoal_scheduler *s, shoal_event *event);

#endif
