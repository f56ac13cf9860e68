/* The common way of all commands that run a model:
 *
 *     start -> inputs (checkpoint, spec, tokenizer, prompts, placement) -> agree -> devices,
 *     transport (with --placement weighted: measure, choose, agree) -> sizes, memory table -> agree
 *     -> load -> agree -> rank 0 works while the others serve -> reports -> leave
 *
 * Each stage is done by every rank alone and then agreed upon, so that a failure of one rank is
 * said once and all leave with its status before anything waits for anything. Text is rank 0's
 * alone. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_SESSION_H
#define SHOAL_LAUNCHER_SESSION_H

#include "launcher/bootstrap.h"
#include "launcher/cores.h"
#include "launcher/devices.h"
#include "launcher/options.h"
#include "launcher/routes/record.h"
#include "launcher/trace/trace.h"
#include "runtime/engine/engine.h"
#include "runtime/text/tokenizer.h"

typedef struct shoal_rank_report shoal_rank_report;

typedef struct shoal_session {
    shoal_options options; /* defaults that depend on the model are resolved */
    const volatile sig_atomic_t *interrupted;
    shoal_log *log;
    shoal_bootstrap bootstrap;
    shoal_comm *comm; /* bootstrap's */
    int32_t rank, n_rank;
    shoal_checkpoint *checkpoint;
    shoal_spec spec;
    shoal_tokenizer *tokenizer; /* rank 0; NULL elsewhere and if MODEL has none */
    shoal_cores cores;
    shoal_devices devices;
    shoal_compute compute; /* with this rank's device */
    shoal_placement placement;
    shoal_pack_cache *cache; /* --cache, or NULL */
    shoal_engine_config engine_config;
    shoal_model_config model_config;
    shoal_model *model;
    shoal_engine *engine;
    shoal_trace trace;          /* --trace */
    shoal_routes_record routes; /* --routes, rank 0 */
    shoal_status recorded;      /* how writing them went */
    uint64_t engine_bytes;      /* of its own buffers, known before it is opened */
    int64_t load_us;
} shoal_session;

/* What a command adds to the common way. Functions get `arg`; any may be NULL but work or
 * together. */
typedef struct shoal_session_plan {
    void *arg;
    int32_t n_context;  /* default of --context; 0: the model's, at most 4096 */
    bool cap_context;   /* the default shrinks to what the model has */
    int32_t n_sequence; /* default of --sequences; 0: one per rank */
    bool want_scores, want_rows;
    /* Rank 0, with inputs open, before anything is loaded: read and check what will be worked on.
     */
    shoal_status (*prepare)(shoal_session *session, void *arg);
    /* Every rank, when sizes are agreed and said, before weights are loaded. */
    shoal_status (*before_load)(shoal_session *session, void *arg);
    /* Rank 0, with the engine. */
    shoal_status (*work)(shoal_session *session, void *arg);
    /* Instead of work: every rank, collective; the engine is theirs to run and stop. */
    shoal_status (*together)(shoal_session *session, void *arg);
    /* Rank 0, with everyone's figures [n_rank]. Its status is the command's, and leaves the way
     * out orderly: the work itself is done. */
    shoal_status (*finish)(shoal_session *session, void *arg, const shoal_rank_report *report);
    /* Every rank, always, while the session is still there: close what arg holds. Under MPI a
     * failed process may end before anything behind shoal_session_run happens. */
    void (*release)(void *arg);
} shoal_session_plan;

/* Go the whole way. Collective. Under MPI a failure that not all know of ends the process in here
 * (shoal_bootstrap_close). */
shoal_status shoal_session_run(const shoal_options *options, const shoal_session_plan *plan,
                               const volatile sig_atomic_t *interrupted, shoal_log *log);

/* Signs of life while rank 0 works on something long: polls comm. Good as long as the session. */
shoal_pulse shoal_session_pulse(shoal_session *session);

/* Wait until standard output takes some text (a page of it in a pipe) without blocking, with signs
 * of life: its reader may be slow, or a terminal stopped. Errors: what comm finds, INTERRUPTED. */
shoal_status shoal_session_wait_stdout(shoal_session *session);

/* INTERRUPTED if a signal has come. For loops that do not wait. */
shoal_status shoal_session_check(const shoal_session *session);

/* Check ids against the model's vocabulary and 1 <= n, n + n_room <= n_context. `what` begins the
 * message ("--prompt-ids"). Errors: USAGE. */
shoal_status shoal_session_check_ids(const shoal_session *session, const int32_t *ids, size_t n,
                                     int32_t n_room, const char *what);

/* The tokenizer, or NO_INPUT with a text that says that MODEL has none. */
shoal_status shoal_session_need_tokenizer(const shoal_session *session);

/* What --max-tokens comes to behind a prompt of n_prompt: `wanted` (0: 256) or the room left. */
int32_t shoal_session_max_tokens(const shoal_session *session, int32_t wanted, int32_t n_prompt);

#endif
