/* The engine: many sequences at once on one loaded model, in lockstep over all ranks. Rank 0
 * schedules: each step it sends a control message to all (sequences, owners, new tokens, positions,
 * what is wanted), every rank runs its part of the forward pass, each owner samples, the results go
 * to rank 0. Rank 0 does all text; the engine speaks in token ids.
 *
 * On rank 0:   submit ... ; while (pending) { step; while (poll) ...; }  stop
 * Elsewhere:   serve (returns after stop, or with the failure)
 *
 * A sequence stays on its owner, chosen by the sequence weights of the placement. A step mixes
 * prefill chunks and decode rows. Sampling draws from a counter-based generator keyed by (seed,
 * sequence key, position, draw): it does not depend on who owns what, on batch-mates, or on chunk
 * size. Layering: engine knows model, proto, comm, experts, kernels, base; text is the launcher's.
 */
#ifndef SHOAL_ENGINE_ENGINE_H
#define SHOAL_ENGINE_ENGINE_H

#include "runtime/model/model.h"

typedef struct shoal_sampling {
    float temperature; /* 0: greedy (first of equal logits) */
    int32_t top_k;     /* 0: all */
    float top_p;       /* 1: all */
    uint64_t seed;
} shoal_sampling;

typedef enum shoal_want {
    SHOAL_WANT_TOKENS, /* generate */
    SHOAL_WANT_SCORES, /* -log p of each prompt token but the first (perplexity) */
    SHOAL_WANT_ROWS,   /* logits, hidden and routing of every prompt row (shoal logits) */
} shoal_want;

typedef struct shoal_sequence_request {
    const int32_t
        *prompt; /* [n_prompt], copied; 1 <= n_prompt, n_prompt + max_tokens <= n_context */
    int32_t n_prompt;
    int32_t max_tokens; /* generated at most (TOKENS) */
    bool ignore_eos;
    shoal_want want;
    shoal_sampling sampling;
    uint64_t key; /* sequence key of the sampler */
} shoal_sequence_request;

/* Speculative decoding: guesses at the next tokens of a sequence are rows of its next step, which
 * keeps them as far as the model itself would have drawn them. Greedy text is that without guesses;
 * sampled text has the same distribution, but not the same draws. */
typedef enum shoal_draft_kind {
    SHOAL_DRAFT_NONE,
    SHOAL_DRAFT_MTP,  /* by the MTP layer, on the owner; the model has it loaded (n_mtp 1) */
    SHOAL_DRAFT_NGRAM /* by what followed the same tokens earlier (ngram.h), on rank 0 */
} shoal_draft_kind;

#define SHOAL_DRAFT_TOKENS_MAX 16

typedef struct shoal_drafts {
    shoal_draft_kind kind;
    int32_t n_token; /* guesses per sequence and step at most: 1 .. SHOAL_DRAFT_TOKENS_MAX; 0 with
                        NONE */
} shoal_drafts;

typedef enum shoal_finish {
    SHOAL_FINISH_NONE,
    SHOAL_FINISH_STOP,
    SHOAL_FINISH_LENGTH
} shoal_finish; /* stop: end token */

typedef enum shoal_event_kind {
    SHOAL_EVENT_TOKEN,  /* one generated token (never an end token that stops the sequence) */
    SHOAL_EVENT_ROWS,   /* results of prompt rows */
    SHOAL_EVENT_SCORES, /* scores of prompt rows */
    SHOAL_EVENT_DONE,
} shoal_event_kind;

/* Pointers are valid until the next call of shoal_engine_step. */
typedef struct shoal_event {
    shoal_event_kind kind;
    int64_t sequence;    /* id from submit */
    int32_t token;       /* TOKEN */
    shoal_finish finish; /* DONE */
    /* DONE, times on rank 0's clock */
    int64_t submitted_us, first_token_us, done_us;
    int32_t n_prompt, n_generated;
    /* ROWS and SCORES: rows [row0, row0 + n_row) of the prompt */
    int32_t row0, n_row;
    const float *logits;   /* [n_row, n_vocab] */
    const float *hidden;   /* [n_row, n_embd] */
    const int32_t *expert; /* [n_moe_layer, n_row, top_k] */
    const float *weight;   /* [n_moe_layer, n_row, top_k] */
    const double
        *nll; /* [n_row] -ln p(token row0+i+1 | ...); rows without successor are not included */
} shoal_event;

/* Rows of SCORES and ROWS sequences that one rank computes in one step at most: every one of them
 * needs a row of logits, so this bounds logits memory and not speed of generation. */
#define SHOAL_ENGINE_SCORE_ROWS 64

/* Most n_sequence and most prefill_chunk. */
#define SHOAL_ENGINE_ROWS_MAX (1 << 20)

/* What the router chose for the rows of a chunk, on rank 0. */
typedef struct shoal_engine_routes {
    int64_t step, sequence;
    int32_t owner; /* rank */
    int32_t position0, n_row;
    bool decode; /* the first row is a generated token, the others guesses; else rows of a prompt */
    bool last;   /* they end the prompt of a sequence that generates */
    const uint16_t *expert; /* [n_row, n_moe_layer, top_k] in the order chosen */
} shoal_engine_routes;
typedef void shoal_engine_routes_fn(void *arg, const shoal_engine_routes *routes);

typedef struct shoal_engine_config {
    /* For sampling and scores, normally the model's. Zeroed: kernels "auto", which give the same
     * bits as any others, on one thread. The pool outlives the engine. */
    shoal_compute compute;
    int32_t n_context;
    int32_t n_sequence;    /* in total over ranks; more are queued */
    int32_t prefill_chunk; /* prompt rows of one rank in one step, over all its sequences */
    const shoal_placement *placement;
    shoal_drafts drafts; /* equal on all ranks */
    bool want_scores;    /* SCORES requests will come (sizes logits memory of the owners) */
    bool want_rows;      /* ROWS requests will come, and SCORES may (sizes buffers on rank 0 too) */
    /* The owners send the router's choice for all rows of the model's own layers (not the MTP
     * layer's) to rank 0, which gives each chunk to on_routes when the step is computed. n_expert
     * is then at most 65536. */
    bool want_routes;
    shoal_engine_routes_fn *on_routes; /* on rank 0; elsewhere not called */
    void *routes_arg;
} shoal_engine_config;

typedef struct shoal_engine shoal_engine;

/* Bytes of an engine's own buffers on `rank` (with want_rows mostly results on rank 0), for the
 * memory table: before anything is loaded, without model or comm. Errors: as shoal_engine_open. */
shoal_status shoal_engine_measure(uint64_t *n_bytes, const shoal_engine_config *config,
                                  const shoal_spec *spec, int32_t rank, shoal_log *log);

/* Cache slots that rank `rank` gets: n_sequence spread by sequence weight, largest remainder, at
 * least 1 where the weight is > 0. Pure. */
int32_t shoal_engine_slots(const shoal_engine_config *config, int32_t rank);
/* Rows one rank may have in a step (for shoal_model_config.n_token_max): prefill_chunk + the most
 * slots of any rank * (1 + drafts.n_token). Pure. */
int32_t shoal_engine_token_max(const shoal_engine_config *config);
/* Rows with logits one rank may have in a step (for shoal_model_config.n_logit_max): the most slots
 * of any rank * (1 + drafts.n_token), + min(prefill_chunk, SHOAL_ENGINE_SCORE_ROWS) with want_rows
 * or want_scores. Pure. */
int32_t shoal_engine_logit_max(const shoal_engine_config *config);

/* The model is loaded and outlives the engine. Not collective. Errors: USAGE (a placement for
 * another number of ranks, a limit below 1 or absurdly large), NO_MEMORY. */
shoal_status shoal_engine_open(shoal_engine **engine, shoal_model *model, shoal_comm *comm,
                               const shoal_engine_config *config, shoal_log *log);
void shoal_engine_close(shoal_engine *engine); /* accepts NULL */

/* Rank 0 only. Queue a sequence; id out. Errors: USAGE (does not fit n_context, empty prompt, token
 * id out of range), NO_MEMORY. */
shoal_status shoal_engine_submit(shoal_engine *engine, int64_t *sequence,
                                 const shoal_sequence_request *request);
/* Drop a sequence (a stop string was found, say): no more events. */
void shoal_engine_cancel(shoal_engine *engine, int64_t sequence);
int32_t shoal_engine_n_pending(const shoal_engine *engine); /* queued or running */
int32_t shoal_engine_n_free(
    const shoal_engine *engine); /* sequences that could run now beyond those submitted */

/* Rank 0: one step over all ranks; events can be polled afterwards, in the order of submission, and
 * are dropped by the next step. Other ranks wait for the next step no longer than the deadline
 * unless rank 0 gives signs of life meanwhile (shoal_comm_poll). Errors: what comm finds
 * (PEER_LOST, INTERRUPTED, ...); close the comm then, before engine and model: messages may still
 * be on their way into their buffers. */
shoal_status shoal_engine_step(shoal_engine *engine);
bool shoal_engine_poll(shoal_engine *engine, shoal_event *event);

/* Rank 0: tell all others to leave serve. Others: run steps until told to stop. */
shoal_status shoal_engine_stop(shoal_engine *engine);
shoal_status shoal_engine_serve(shoal_engine *engine);

/* From now on record every step, its phases and its waits in `timeline` (runtime/base/timeline.h;
 * kinds: also shoal_model_trace), which outlives the engine. NULL: no more. */
void shoal_engine_trace(shoal_engine *engine, shoal_timeline *timeline);

/* Totals since open on this rank (rows = prompt rows and decode rows computed here; guesses are
 * decode rows, whether they were right or not). */
typedef struct shoal_engine_counters {
    int64_t n_step, n_prompt_row, n_decode_row;
    int64_t n_cut_step;      /* steps worked on in parts */
    int64_t n_exchange;      /* MoE layers run, those of guessing included: two hops each */
    int64_t step_us;         /* in steps, on this rank */
    shoal_phase_times times; /* of the steps: they add up to step_us */
    /* On rank 0, over all sequences and ranks: */
    int64_t n_decode_step;                      /* (sequence, step) past the prompt */
    int64_t n_decode_token;                     /* tokens that these gave, end tokens included */
    int64_t n_draft_proposed, n_draft_accepted; /* guesses among their rows; those that were kept */
} shoal_engine_counters;
const shoal_engine_counters *shoal_engine_count(const shoal_engine *engine);

#endif
