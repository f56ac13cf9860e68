/* shoal stage: each node gets the packed weights of its own ranks. The steps; the work is in
 * launcher/stage/. */
#include "launcher/command.h"
#include "launcher/stage/stage.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

void shoal__stage_poll(void *arg)
{
    shoal__stage *s = arg;
    if (s->poll_status == SHOAL_OK)
        s->poll_status = shoal_comm_poll(s->comm);
}

shoal_status shoal__stage_at(shoal__stage *s, int64_t n_done, int32_t unit)
{
    SHOAL_TRY(shoal_comm_at(s->comm, n_done, shoal_units_at(s->units, unit)->layer));
    return s->poll_status;
}

/* Build and options; the model is not open on all ranks. */
static shoal_status agree_on_options(const shoal__stage *s)
{
    const shoal_options *o = s->options;
    shoal_agreement mine;
    memset(&mine, 0, sizeof mine);
    mine.magic = SHOAL_AGREEMENT_MAGIC;
    snprintf(mine.build, sizeof mine.build, "%s", shoal_build_text());
    mine.command = o->command;
    mine.weights = o->weights;
    mine.draft = o->draft;
    return shoal_agreement_check(s->comm, &mine, s->log);
}

static shoal_status transfer(shoal__stage *s)
{
    s->start_us = shoal_clock_us();
    if (!s->leads)
        return SHOAL_OK;
    if (s->shared)
        return shoal__stage_shared(s);
    return s->rank == 0 ? shoal__stage_send(s) : shoal__stage_receive(s);
}

/* What was read is what MODEL is now; else nothing of it may be used. */
static shoal_status check_source(const shoal__stage *s)
{
    return s->source != NULL ? shoal_checkpoint_check_unchanged(s->source) : SHOAL_OK;
}

static shoal_status finish(const shoal__stage *s)
{
    return s->leads ? shoal_staged_finish(s->dir, s->log) : SHOAL_OK;
}

static shoal_status check_and_finish(shoal__stage *s)
{
    s->log->capture = true;
    const shoal_status status =
        shoal_agreement_stage(s->comm, check_source(s), "comparing MODEL with what it was", s->log);
    if (status != SHOAL_OK) {
        shoal_log quiet;
        shoal_log_init(&quiet, NULL, s->rank, "");
        if (s->leads)
            (void)shoal_staged_withdraw(s->dir, &quiet); /* one failure was said */
        return status;
    }
    SHOAL__STAGE_STEP(s, "comparing checksums", shoal__stage_verify(s));
    SHOAL__STAGE_STEP(s, "finishing", finish(s));
    return SHOAL_OK;
}

static shoal_status run(shoal__stage *s, const volatile sig_atomic_t *interrupted)
{
    SHOAL_TRY(shoal_bootstrap_open(&s->bootstrap, s->options, interrupted, s->log));
    s->comm = s->bootstrap.comm;
    s->rank = shoal_comm_rank(s->comm);
    s->n_rank = shoal_comm_n_rank(s->comm);
    SHOAL_TRY(agree_on_options(s));
    SHOAL__STAGE_STEP(s, "opening the model and --to", shoal__stage_open_places(s));
    SHOAL_TRY(shoal__stage_find_nodes(s));
    SHOAL_TRY(shoal__stage_describe(s));
    SHOAL_TRY(shoal__stage_place(s));
    SHOAL__STAGE_STEP(s, "looking at what is there", shoal__stage_survey(s));
    SHOAL_TRY(shoal__stage_gather_missing(s));
    shoal__stage_say_plan(s);
    shoal_status status = transfer(s);
    shoal__stage_undraw(s);
    SHOAL_TRY(status);
    SHOAL_TRY(shoal_comm_agree(s->comm, SHOAL_OK, "staging"));
    SHOAL_TRY(check_and_finish(s));
    shoal__stage_say_done(s);
    return SHOAL_OK;
}

static void close_objects(shoal__stage *s)
{
    shoal_units_close(s->units);
    shoal_pack_cache_close(s->cache);
    shoal_pool_close(s->pool);
    shoal_placement_close(&s->placement);
    shoal_spec_close(&s->spec);
    shoal_checkpoint_close(s->checkpoint);
    shoal_checkpoint_close(s->source);
    for (int32_t n = 0; n < s->n_node; n++)
        free(s->node[n].missing);
    free(s->missing);
    free(s->node);
    free(s->node_of_rank);
    free(s->word_request);
    free(s->word_in);
    free(s->dir);
}

shoal_status shoal_cmd_stage(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                             shoal_log *log)
{
    shoal__stage s = {.options = options, .log = log};
    const shoal_status status = run(&s, interrupted);
    /* After a failure messages may still be under way into buffers: comm goes first. */
    if (status != SHOAL_OK)
        shoal_bootstrap_close(&s.bootstrap, status);
    close_objects(&s);
    if (status == SHOAL_OK)
        shoal_bootstrap_close(&s.bootstrap, SHOAL_OK);
    return status;
}
