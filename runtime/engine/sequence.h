/* A sequence: one timeline of tokens on its owner, as rank 0 sees it. It knows what its next rows
 * are and what becomes of their results; when they run and where is the scheduler's choice. Ranks
 * keep nothing about a sequence but its cache slot: every chunk carries all its owner needs.
 * Layering: engine; no comm, no model. */
#ifndef SHOAL_ENGINE_SEQUENCE_H
#define SHOAL_ENGINE_SEQUENCE_H

#include "runtime/engine/engine.h"
#include "runtime/proto/control.h"

typedef struct shoal_sequence {
    struct shoal_sequence *next; /* in the queue */
    int64_t id;
    int32_t owner, slot; /* -1 while queued */
    int32_t n_done;      /* rows computed, which are the positions in its cache */
    int32_t n_generated; /* tokens reported */
    int32_t last_token;  /* the latest of them */
    bool first_sampled;
    shoal_finish finish; /* NONE while it runs */
    int64_t submitted_us, first_token_us, done_us;
    shoal_sequence_request request; /* prompt points to the copy below */
    int32_t prompt[];               /* [request.n_prompt] */
} shoal_sequence;

/* Copies the request, which is valid. Errors: NO_MEMORY. */
shoal_status shoal__sequence_open(shoal_sequence **sequence, const shoal_sequence_request *request,
                                  int64_t id, int64_t now_us, shoal_log *log);
void shoal__sequence_close(shoal_sequence *sequence); /* accepts NULL */

/* Prompt rows still to compute. The last token of a SCORES prompt predicts nothing that is asked
 * for, so it has no row. */
int32_t shoal__sequence_n_prompt_left(const shoal_sequence *sequence);

/* Its next chunk: n_row <= n_prompt_left prompt rows, or with none left the row of its last token
 * (n_row 1). Appends the tokens at control->token and the chunk at control->chunk, where the caller
 * has made sure of room. */
void shoal__sequence_put_chunk(shoal_control *control, const shoal_sequence *sequence,
                               int32_t n_row);

/* The rows of `chunk` are computed; token: what its last row gave, if it has SAMPLE. True if the
 * token is to be reported. Sets finish when this was its last row. */
bool shoal__sequence_advance(shoal_sequence *sequence, const shoal_control_chunk *chunk,
                             int32_t token, const shoal_spec *spec, int64_t now_us);

/* A sequence without rows to compute ends at once. */
void shoal__sequence_finish_empty(shoal_sequence *sequence, int64_t now_us);

#endif
