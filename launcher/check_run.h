/* The two runs of shoal check: the model whole on rank 0 alone, one prompt after the other, and the
 * model over all ranks, all sequences at once, in another order of rows. Both are fed the same
 * tokens (each prompt and what the reference continues it with greedily), so every row of every
 * layer can be compared. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_CHECK_RUN_H
#define SHOAL_LAUNCHER_CHECK_RUN_H

#include "launcher/check_compare.h"
#include "launcher/session.h"

enum {
    SHOAL_CHECK_CHUNK = 32,      /* prompt rows of one rank in one step */
    SHOAL_CHECK_GENERATE = 8,    /* tokens behind each prompt */
    SHOAL_CHECK_PROMPT_MAX = 64, /* prompts are cut to this; --prompt-ids is not */
    SHOAL_CHECK_N_PROMPT = 6,
};

/* The tokens of one prompt, and what the reference made of them. */
typedef struct shoal_check_prompt {
    int32_t *token; /* [n_prompt + SHOAL_CHECK_GENERATE], owned */
    int32_t n_prompt;
    int32_t n_token;            /* n_prompt + SHOAL_CHECK_GENERATE */
    shoal_check_rows reference; /* of n_token rows; rank 0 */
} shoal_check_prompt;

typedef struct shoal_check {
    shoal_check_prompt prompt[SHOAL_CHECK_N_PROMPT];
    int32_t n_prompt;
    shoal_check_finding finding; /* rank 0 */
    int64_t n_row;               /* rows compared, each in all layers */
    int32_t n_sequence;
} shoal_check;

/* Rank 0, before its own weights are loaded: load the whole model, run it, keep what it made, close
 * it. Memory is said before. Errors: as of loading and running a model. */
shoal_status shoal_check_reference(shoal_check *check, shoal_session *session);

/* Every rank, with the model loaded: share the tokens, run them over all ranks, compare on rank 0.
 * Collective. */
shoal_status shoal_check_all_ranks(shoal_check *check, shoal_session *session);

void shoal_check_close(shoal_check *check);

#endif
