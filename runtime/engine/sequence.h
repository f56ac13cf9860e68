/* A sequence: one timeline of tokens on its owner, as rank 0 sees it. It knows what its next rows
 * are and what becomes of their results; when they run and where is the scheduler's choice. Ranks
 * keep nothing about a sequence but its cache slot: every chunk carries all its owner needs.
 * Layering: engine; no comm, no model. */
#ifndef SHOAL_ENGINE_SEQUENCE_H
#define SHOAL_ENGINE_SEQUENCE_H

#include "runtime/engine/engine.h"
#include "runtime/proto/control.h"

/* What came back for one chunk; NULL where the chunk has none. Shapes as in shoal_event. */
typedef struct shoal_chunk_result {
    int32_t *token; /* [shoal__chunk_n_sample], at least one, -1 behind the last */
    int32_t *draft; /* [n_draft], -1 behind the last */
    double *nll;
    float *logits, *hidden;
    int32_t *expert;
    float *weight;
    uint16_t *route; /* [n_row, n_moe_layer, top_k], with want_routes */
} shoal_chunk_result;

typedef struct shoal_sequence {
    struct shoal_sequence *next; /* in the queue */
    int64_t id;
    int32_t owner, slot; /* -1 while queued */
    int32_t n_done;      /* rows computed, which are the positions in its cache */
    int32_t n_generated; /* tokens reported */
    shoal_drafts drafts; /* set by the scheduler */
    int32_t n_draft;     /* guesses at what follows, rows of the next chunk */
    int32_t draft[SHOAL_DRAFT_TOKENS_MAX];
    bool first_sampled;
    shoal_finish finish; /* NONE while it runs */
    int64_t submitted_us, first_token_us, done_us;
    shoal_sequence_request request; /* prompt points to the copy below */
    int32_t token[];                /* [n_prompt + n_generated], has room for max_tokens */
} shoal_sequence;

/* Copies the request, which is valid. Errors: NO_MEMORY. */
shoal_status shoal__sequence_open(shoal_sequence **sequence, const shoal_sequence_request *request,
                                  int64_t id, int64_t now_us, shoal_log *log);
void shoal__sequence_close(shoal_sequence *sequence); /* accepts NULL */

/* Prompt rows still to compute. The last token of a SCORES prompt predicts nothing that is asked
 * for, so it has no row. */
int32_t shoal__sequence_n_prompt_left(const shoal_sequence *sequence);

/* Its next chunk: n_row <= n_prompt_left prompt rows, or with none left the rows of its last token
 * and its guesses (n_row 1 + n_draft). Appends the tokens at control->token and the chunk at
 * control->chunk, where the caller has made sure of room. */
void shoal__sequence_put_chunk(shoal_control *control, const shoal_sequence *sequence,
                               int32_t n_row);

/* The rows of `chunk` are computed, as part of a step that gave `result`. Returns how many tokens
 * are to be reported: the last so many of n_generated. Sets finish when these were its last rows,
 * else the guesses for the next. Adds to count. */
int32_t shoal__sequence_advance(shoal_sequence *sequence, const shoal_control_chunk *chunk,
                                const shoal_chunk_result *result, const shoal_spec *spec,
                                shoal_engine_counters *count, int64_t now_us);

/* A sequence without rows to compute ends at once. */
void shoal__sequence_finish_empty(shoal_sequence *sequence, int64_t now_us);

#endif
