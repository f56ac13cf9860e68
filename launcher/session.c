#include "launcher/session.h"

#include "launcher/agreement.h"
#include "launcher/exchange.h"
#include "launcher/memory_report.h"
#include "launcher/model_text.h"
#include "launcher/progress.h"
#include "launcher/recording.h"
#include "launcher/report.h"
#include "launcher/session_cache.h"
#include "launcher/weighted.h"
#include "runtime/base/clock.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_CONTEXT_MAX = 4096, DEFAULT_MAX_TOKENS = 256, STDOUT_WAIT_MS = 20 };

shoal_status shoal_session_check(const shoal_session *session)
{
    if (session->interrupted == NULL || *session->interrupted == 0)
        return SHOAL_OK;
    return shoal_fail(session->log, SHOAL_INTERRUPTED, "interrupted by signal %d",
                      (int)*session->interrupted);
}

static shoal_status beat(void *arg)
{
    const shoal_session *session = arg;
    SHOAL_TRY(shoal_session_check(session));
    return shoal_comm_poll(session->comm);
}

shoal_pulse shoal_session_pulse(shoal_session *session)
{
    return (shoal_pulse){beat, session};
}

shoal_status shoal_session_wait_stdout(shoal_session *session)
{
    struct pollfd writable = {.fd = STDOUT_FILENO, .events = POLLOUT};
    while (poll(&writable, 1, STDOUT_WAIT_MS) <= 0)
        SHOAL_TRY(beat(session));
    return SHOAL_OK;
}

shoal_status shoal_session_check_ids(const shoal_session *session, const int32_t *ids, size_t n,
                                     int32_t n_room, const char *what)
{
    if (n == 0)
        return shoal_fail(session->log, SHOAL_USAGE, "%s is empty, wanted at least one token",
                          what);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= session->spec.n_vocab)
            return shoal_fail(session->log, SHOAL_USAGE,
                              "%s: token %zu is %d, wanted an id below the model's vocabulary of "
                              "%d",
                              what, i, (int)ids[i], (int)session->spec.n_vocab);
    }
    if (n > (size_t)(session->options.n_context - n_room))
        return shoal_fail(session->log, SHOAL_USAGE,
                          "%s has %zu tokens, a context of %d has room for %d; give a larger "
                          "--context (this model: at most %d)",
                          what, n, (int)session->options.n_context,
                          (int)(session->options.n_context - n_room),
                          (int)session->spec.n_context_max);
    return SHOAL_OK;
}

shoal_status shoal_session_need_tokenizer(const shoal_session *session)
{
    if (session->tokenizer != NULL)
        return SHOAL_OK;
    return shoal_fail(session->log, SHOAL_NO_INPUT,
                      "%s has no tokenizer.json; text needs one, token ids do not",
                      session->options.model);
}

int32_t shoal_session_max_tokens(const shoal_session *session, int32_t wanted, int32_t n_prompt)
{
    int32_t room = session->options.n_context - n_prompt;
    int32_t n = wanted > 0 ? wanted : DEFAULT_MAX_TOKENS;
    return n < room ? n : room;
}

/* Defaults that need the model or the number of ranks. */
static shoal_status resolve_options(shoal_session *s, const shoal_session_plan *plan)
{
    shoal_options *o = &s->options;
    int32_t n_context_max = s->spec.n_context_max;
    if (o->n_context == 0) {
        o->n_context = plan->n_context > 0 ? plan->n_context : DEFAULT_CONTEXT_MAX;
        bool cap = plan->n_context == 0 || plan->cap_context;
        if (cap && o->n_context > n_context_max)
            o->n_context = n_context_max;
    }
    if (o->n_context > n_context_max)
        return shoal_fail(s->log, SHOAL_USAGE,
                          "a context of %d is wanted, %s has at most %d positions",
                          (int)o->n_context, o->model, (int)n_context_max);
    if (o->n_sequence == 0)
        o->n_sequence = plan->n_sequence > 0 ? plan->n_sequence : s->n_rank;
    if (o->kv == SHOAL_KV_CHOICE_AUTO)
        o->kv = o->math == SHOAL_MATH_FAST ? SHOAL_KV_CHOICE_BF16 : SHOAL_KV_CHOICE_F32;
    s->engine_config = (shoal_engine_config){
        .n_context = o->n_context,
        .n_sequence = o->n_sequence,
        .prefill_chunk = o->prefill_chunk,
        .placement = &s->placement,
        .drafts = shoal_options_drafts(o),
        .want_scores = plan->want_scores,
        .want_rows = plan->want_rows,
        .want_routes = o->routes != NULL,
        .on_routes = shoal_routes_record_put,
        .routes_arg = &s->routes,
    };
    return SHOAL_OK;
}

static bool drafts_by_mtp(const shoal_session *s)
{
    return s->engine_config.drafts.kind == SHOAL_DRAFT_MTP;
}

static shoal_status check_drafts(const shoal_session *s)
{
    if (!drafts_by_mtp(s) || shoal_model_has_mtp(&s->spec, s->checkpoint))
        return SHOAL_OK;
    return shoal_fail(s->log, SHOAL_BAD_DATA,
                      "%s: --draft mtp, but this checkpoint has no MTP layer; --draft ngram needs "
                      "none",
                      s->options.model);
}

static int32_t moe_layers(const shoal_session *s)
{
    return s->spec.n_moe_layer + (drafts_by_mtp(s) ? 1 : 0);
}

static bool is_weighted(const shoal_session *s)
{
    return s->options.placement != NULL && strcmp(s->options.placement, "weighted") == 0;
}

/* By a rank alone; a weighted placement needs all of them. */
static shoal_status open_placement(shoal_session *s)
{
    const shoal_spec *spec = &s->spec;
    const int32_t n_moe_layer = moe_layers(s);
    const char *file = s->options.placement;
    if (is_weighted(s))
        return SHOAL_OK;
    if (file == NULL || strcmp(file, "uniform") == 0)
        return shoal_placement_open(&s->placement, n_moe_layer, spec->router.n_expert,
                                    spec->router.n_group, s->n_rank, NULL, NULL, s->log);
    return shoal_placement_read_file(&s->placement, file, n_moe_layer, spec->router.n_expert,
                                     spec->router.n_group, s->n_rank, s->log);
}

/* Everything that can be opened and checked without looking at a weight. */
static shoal_status open_inputs(shoal_session *s, const shoal_session_plan *plan)
{
    SHOAL_TRY(
        shoal_checkpoint_open(&s->checkpoint, shoal__session_model(&s->options), true, s->log));
    SHOAL_TRY(shoal_comm_poll(s->comm));
    SHOAL_TRY(shoal_spec_open(&s->spec, s->checkpoint, s->log));
    SHOAL_TRY(resolve_options(s, plan));
    SHOAL_TRY(check_drafts(s));
    SHOAL_TRY(shoal_kernels_select(&s->compute.kernels, s->options.kernels, s->log));
    SHOAL_TRY(shoal_cores_open(&s->cores, &s->compute.pool, s->options.n_thread, s->comm, s->log));
    SHOAL_TRY(open_placement(s));
    SHOAL_TRY(shoal__session_open_cache(s, drafts_by_mtp(s) ? 1 : 0));
    SHOAL_TRY(shoal_comm_poll(s->comm));
    if (s->rank != 0)
        return SHOAL_OK;
    SHOAL_TRY(shoal_model_text_tokenizer(&s->tokenizer, s->checkpoint, s->log));
    if (s->tokenizer != NULL)
        shoal_tokenizer_set_pulse(s->tokenizer, shoal_session_pulse(s));
    SHOAL_TRY(shoal_comm_poll(s->comm));
    return plan->prepare != NULL ? plan->prepare(s, plan->arg) : SHOAL_OK;
}

/* check cuts every step that can be cut, so that it sees both ways. */
static int32_t overlap_rows(const shoal_options *o)
{
    if (o->overlap == SHOAL_OVERLAP_OFF)
        return 0;
    return o->command == SHOAL_COMMAND_CHECK ? 1 : SHOAL_OVERLAP_ROWS;
}

static shoal_status open_model(shoal_session *s, shoal_progress *progress)
{
    const shoal_options *o = &s->options;
    shoal_model_config config = {
        .n_mtp = drafts_by_mtp(s) ? 1 : 0,
        .fast = o->math == SHOAL_MATH_FAST,
        .weights = (shoal_weights_choice)o->weights,
        .packed = s->cache,
        .combine = (shoal_combine_kind)o->combine,
        .kv_dtype = o->kv == SHOAL_KV_CHOICE_F32 ? SHOAL_KV_F32 : SHOAL_KV_BF16,
        .n_context = o->n_context,
        .n_sequence = shoal_engine_slots(&s->engine_config, s->rank),
        .n_token_max = shoal_engine_token_max(&s->engine_config),
        .n_logit_max = shoal_engine_logit_max(&s->engine_config),
        .overlap_rows = overlap_rows(o),
        .placement = &s->placement,
        .compute = s->compute,
        .comm = s->comm,
        .progress = shoal_progress_load,
        .progress_arg = progress,
    };
    SHOAL_TRY(shoal_engine_measure(&s->engine_bytes, &s->engine_config, &s->spec, s->rank, s->log));
    s->model_config = config;
    return shoal_model_open(&s->model, &s->spec, s->checkpoint, &config, s->log);
}

/* A stage: `call` with failures kept for shoal_agreement_stage to say. */
#define STAGE(session, what, call)                                                                 \
    do {                                                                                           \
        (session)->log->capture = true;                                                            \
        shoal_status stage_status_ = (call);                                                       \
        SHOAL_TRY(shoal_agreement_stage((session)->comm, stage_status_, (what), (session)->log));  \
    } while (0)

/* What every rank says of itself, compared. */
static shoal_status agree(shoal_session *s)
{
    shoal_agreement mine;
    STAGE(s, "describing this rank",
          shoal_agreement_fill(&mine, s->checkpoint, &s->spec, &s->placement, &s->options, s->log));
    return shoal_agreement_check(s->comm, &mine, s->log);
}

/* Each rank's device. The most products at once are gate and up of all experts of a layer, or the
 * heads of MLA. */
static shoal_status open_devices(shoal_session *s)
{
    const int32_t n_expert = 2 * s->spec.router.n_expert, n_head = s->spec.attention.n_head;
    const shoal_devices_use use = {.precise = s->options.math == SHOAL_MATH_F32,
                                   .n_item = n_expert > n_head ? n_expert : n_head,
                                   .pool = s->compute.pool};
    SHOAL_TRY(shoal_devices_open(&s->devices, &s->options, &use, s->comm, s->log));
    s->compute.device = s->devices.own;
    s->engine_config.compute = s->compute;
    return SHOAL_OK;
}

/* Measured where the threads will run. All have agreed to measure, and agree about what comes out.
 */
static shoal_status weigh(shoal_session *s)
{
    SHOAL_TRY(shoal_weighted_placement(s, moe_layers(s)));
    return agree(s);
}

static shoal_status open_session(shoal_session *s, const shoal_session_plan *plan)
{
    SHOAL_TRY(shoal_bootstrap_open(&s->bootstrap, &s->options, s->interrupted, s->log));
    s->comm = s->bootstrap.comm;
    s->rank = shoal_comm_rank(s->comm);
    s->n_rank = shoal_comm_n_rank(s->comm);
    shoal_progress progress;

    STAGE(s, "opening the model", open_inputs(s, plan));
    SHOAL_TRY(agree(s));
    SHOAL_TRY(shoal_cores_share(&s->cores, s->compute.pool, s->comm, s->log));
    SHOAL_TRY(open_devices(s));
    SHOAL_TRY(shoal_exchange_choose(s));
    if (is_weighted(s))
        SHOAL_TRY(weigh(s));
    STAGE(s, "checking the weights", open_model(s, &progress));
    STAGE(s, "opening the records of the run", shoal_recording_open(s));
    SHOAL_TRY(shoal_memory_report(s));
    if (plan->before_load != NULL)
        STAGE(s, "running the model on one rank", plan->before_load(s, plan->arg));

    shoal_progress_init(&progress, s->rank == 0, s->log);
    STAGE(s, "loading the weights", shoal_model_load(s->model));
    s->load_us = shoal_clock_us() - progress.start_us;
    shoal_progress_finish(&progress, s->n_rank > 1 ? "loaded by rank 0" : "loaded");
    STAGE(s, "opening the engine",
          shoal_engine_open(&s->engine, s->model, s->comm, &s->engine_config, s->log));
    return shoal_recording_start(s);
}

/* Everyone's figures on rank 0, *report [n_rank], NULL elsewhere. Collective. */
static shoal_status gather_reports(shoal_rank_report **report, const shoal_session *s)
{
    shoal_rank_report mine;
    shoal_rank_report_fill(&mine, s);
    shoal_rank_report *all = NULL;
    if (s->rank == 0) {
        all = calloc((size_t)s->n_rank, sizeof *all);
        if (all == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for the report of %d ranks",
                              (int)s->n_rank);
    }
    shoal_status status = shoal_comm_gather(s->comm, all, &mine, sizeof mine, 0);
    if (status != SHOAL_OK) {
        free(all);
        return status;
    }
    *report = all;
    return SHOAL_OK;
}

static shoal_status run(shoal_rank_report **report, shoal_session *s,
                        const shoal_session_plan *plan)
{
    SHOAL_TRY(open_session(s, plan));
    if (plan->together != NULL) {
        SHOAL_TRY(plan->together(s, plan->arg));
    } else if (s->rank == 0) {
        SHOAL_TRY(plan->work(s, plan->arg));
        SHOAL_TRY(shoal_engine_stop(s->engine));
    } else {
        SHOAL_TRY(shoal_engine_serve(s->engine));
    }
    SHOAL_TRY(shoal_recording_finish(s));
    return gather_reports(report, s);
}

static void close_objects(shoal_session *s)
{
    shoal_engine_close(s->engine);
    shoal_model_close(s->model);
    shoal_pack_cache_close(s->cache);
    shoal_placement_close(&s->placement);
    shoal_tokenizer_close(s->tokenizer);
    shoal_spec_close(&s->spec);
    shoal_checkpoint_close(s->checkpoint);
}

shoal_status shoal_session_run(const shoal_options *options, const shoal_session_plan *plan,
                               const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    shoal_session s = {.options = *options, .interrupted = interrupted, .log = log};
    shoal_rank_report *report = NULL;
    shoal_status status = run(&report, &s, plan);
    shoal_status finished = SHOAL_OK;
    if (status == SHOAL_OK && report != NULL && plan->finish != NULL)
        finished = plan->finish(&s, plan->arg, report);
    free(report);
    const shoal_status recorded = shoal_recording_close(&s, status);
    if (finished == SHOAL_OK)
        finished = recorded;
    if (plan->release != NULL)
        plan->release(plan->arg);
    /* After a failure messages may still be under way into the model's buffers: comm goes first. */
    if (status != SHOAL_OK)
        shoal_bootstrap_close(&s.bootstrap, status);
    close_objects(&s);
    if (status == SHOAL_OK)
        shoal_bootstrap_close(&s.bootstrap, SHOAL_OK);
    shoal_devices_close(&s.devices); /* NCCL, which comm has ended, is on them */
    shoal_pool_close(s.compute.pool);
    return status != SHOAL_OK ? status : finished;
}
