/* One rank's part of a step: from the control message to the forward pass, and from its rows of
 * logits to tokens, scores and copies in the result message. The same on rank 0 and elsewhere; it
 * remembers nothing from step to step. Layering: engine; knows the model, not comm. */
#ifndef SHOAL_ENGINE_RANK_STEP_H
#define SHOAL_ENGINE_RANK_STEP_H

#include "runtime/engine/control.h"
#include "runtime/engine/sampler.h"

/* What becomes of one row of logits, or of the rows of a token and its guesses. One of token, nll,
 * logits is set. */
typedef struct shoal_row_job {
    int32_t logit;  /* its first row of logits */
    int32_t target; /* SCORES: the token after it */
    shoal_sampling sampling;
    shoal_guesses guesses; /* at the tokens after each row but the last */
    int32_t *token;        /* [guesses.n + 1] */
    double *nll;
    float *logits, *hidden;
} shoal_row_job;

/* The last row of a chunk in a pass of the MTP layer, which gives the chunk's next guess. */
typedef struct shoal_guess_row {
    int32_t chunk; /* of the control message */
    int32_t position;
} shoal_guess_row;

typedef struct shoal_rank_step {
    const shoal_limits *limits;
    shoal_compute compute; /* pool may be NULL */
    int32_t rank;
    /* shoal_forward_input of this rank */
    int32_t *token;     /* [n_token_max] */
    shoal_chunk *chunk; /* [slots of this rank] */
    bool *is_source;    /* [n_rank] */
    int64_t n_row_all;  /* rows of all ranks */
    int32_t *logit_row; /* [n_logit_max] */
    shoal_row_job *job; /* [n_logit_max] */
    int32_t n_token, n_chunk, n_logit, n_job;
    int32_t n_largest;      /* shoal_forward_input's, of the pass just run */
    float *mtp_hidden;      /* [n_token_max, n_embd] with MTP: what its rows come from */
    shoal_guess_row *guess; /* [slots of this rank] with MTP, one for each logit row */
    int32_t n_guess;
    shoal_route_capture capture; /* [n_moe_layer, n_token_max, top_k] with want_rows */
    bool capturing;              /* in this step */
    shoal_sampler *sampler;      /* [threads of the pool] */
    shoal_forward_output out;
    int64_t sample_us;        /* in shoal__rank_step_finish, summed */
    shoal_timeline *timeline; /* or NULL */
} shoal_rank_step;

/* Measure or carve. */
void shoal__rank_step_carve(shoal_rank_step *s, shoal_arena *arena, const shoal_limits *limits,
                            int32_t rank, const shoal_compute *compute);

/* Run this rank's part of a checked control message. place: [control->n_chunk] places for the
 * results of its chunks (shoal__result_place). Collective over the model's comm. Errors: those of
 * shoal_forward. */
shoal_status shoal__rank_step_run(shoal_rank_step *s, shoal_model *model,
                                  const shoal_control *control, const shoal_chunk_result *place);

/* shoal_forward_input.n_largest for the jobs: 0 unless the rank has a device, from which logits
 * would have to travel, and the largest will do. */
int32_t shoal__rank_step_n_largest(const shoal_rank_step *s);

/* The logit rows of the forward pass just run become what the jobs want. */
void shoal__rank_step_finish(shoal_rank_step *s);

/* The MTP layer over the rows that the step has kept, and guesses at the next tokens
 * (draft_step.c): after the step's results are in place, before s->out is gone. Nothing without
 * DRAFT chunks. Collective. Errors: those of shoal_forward_mtp. */
shoal_status shoal__rank_step_draft(shoal_rank_step *s, shoal_model *model,
                                    const shoal_control *control, const shoal_chunk_result *place);

#endif
