/* A whole Shoal on virtual ranks: every rank of a sim opens checkpoint, spec, placement, comm,
 * model and engine; rank 0 runs the test's function, the others serve. Nothing here asserts, so
 * that a failing test fails on its main thread: statuses and error texts come back per rank.
 *
 *     shoal_sim_engine_config config = SHOAL_SIM_ENGINE_DEFAULT("tests/golden/qwen3_moe", 3);
 *     shoal_sim_engine_result result;
 *     ck_assert_int_eq(shoal_sim_engine_run(&result, &config, fn, arg), SHOAL_OK);
 *
 * Layering: tests. */
#ifndef SHOAL_TESTS_SUPPORT_SIM_ENGINE_H
#define SHOAL_TESTS_SUPPORT_SIM_ENGINE_H

#include "comm/comm.h"
#include "runtime/engine/engine.h"

#define SHOAL_SIM_ENGINE_RANK_MAX 64

typedef struct shoal_sim_engine_config {
    const char *model;                             /* folder, from the root of the repository */
    int32_t n_rank;                                /* <= SHOAL_SIM_ENGINE_RANK_MAX */
    const double *expert_weight, *sequence_weight; /* [n_rank], or NULL for all 1 */
    int32_t n_context, n_sequence, prefill_chunk;
    bool want_scores, want_rows;
    shoal_engine_routes_fn *on_routes; /* with want_routes, called on rank 0's thread; or NULL */
    void *routes_arg;
    shoal_timeline *timeline; /* [n_rank] opened, one for each rank to record in; or NULL */
    shoal_drafts drafts;
    bool fast;
    shoal_combine_kind combine;
    int32_t overlap_rows; /* 0: no parts */
    const char *kernels;
    int32_t n_thread; /* of each rank's pool */
    double deadline_s;
    shoal_fault fault;
    FILE *log; /* where the ranks' logs go; NULL: nowhere */
} shoal_sim_engine_config;

#define SHOAL_SIM_ENGINE_DEFAULT(model_, n_rank_)                                                  \
    {                                                                                              \
        .model = (model_), .n_rank = (n_rank_), .n_context = 128, .n_sequence = (n_rank_),         \
        .prefill_chunk = 16, .kernels = "auto", .n_thread = 1, .deadline_s = 5.0                   \
    }

typedef struct shoal_sim_engine_result {
    shoal_status status[SHOAL_SIM_ENGINE_RANK_MAX]; /* what each rank ended with */
    char error[SHOAL_SIM_ENGINE_RANK_MAX][1024];    /* text of its last failure, "" if none */
    shoal_engine_counters count[SHOAL_SIM_ENGINE_RANK_MAX];
} shoal_sim_engine_result;

/* What rank 0 does between open and stop. */
typedef shoal_status shoal_sim_engine_fn(void *arg, shoal_engine *engine, const shoal_spec *spec);

/* OK if the run could be made; how the ranks fared is in result. */
shoal_status shoal_sim_engine_run(shoal_sim_engine_result *result,
                                  const shoal_sim_engine_config *config, shoal_sim_engine_fn *fn,
                                  void *arg);

/* Everything that came out of one sequence. Arrays are malloc'ed: shoal_answer_close. */
typedef struct shoal_answer {
    int64_t sequence;
    shoal_event done; /* its DONE event; finish is NONE if none came */
    int32_t n_token, n_row, n_nll;
    int32_t n_vocab, n_embd, n_choice; /* n_choice: n_moe_layer * top_k */
    int32_t *token;                    /* [n_token] */
    double *nll;                       /* [n_nll] */
    float *logits;                     /* [n_row, n_vocab] */
    float *hidden;                     /* [n_row, n_embd] */
    int32_t *expert; /* [n_row, n_moe_layer, top_k], row by row unlike the event's */
    float *weight;   /* [n_row, n_moe_layer, top_k] */
} shoal_answer;
void shoal_answer_close(shoal_answer *answer); /* accepts zeroed */

/* For shoal_sim_engine_run: submit all, step until none is pending, keep what comes. Fails if
 * events are not as engine.h says (an unknown sequence, rows out of order, two DONE). */
typedef struct shoal_answer_all {
    const shoal_sequence_request *request; /* [n] */
    shoal_answer *answer;                  /* [n] zeroed */
    int32_t n;
    int32_t n_cancel_after; /* > 0: cancel each sequence once it has that many tokens */
} shoal_answer_all;
shoal_status shoal_answer_all_run(void *arg, shoal_engine *engine, const shoal_spec *spec);

/* prompt_ids and greedy_ids of a golden folder's expected.json. */
typedef struct shoal_golden {
    int32_t prompt[128], greedy[64];
    int32_t n_prompt, n_greedy;
} shoal_golden;
shoal_status shoal_golden_read(shoal_golden *golden, const char *model);

#endif
