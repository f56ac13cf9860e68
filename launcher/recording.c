#include "launcher/recording.h"

#include "launcher/agreement.h"

shoal_status shoal_recording_open(shoal_session *session)
{
    shoal_session *s = session;
    if (s->options.routes != NULL && s->rank == 0)
        SHOAL_TRY(shoal_routes_record_open(&s->routes, s->options.routes, &s->spec,
                                           shoal_checkpoint_identity(s->checkpoint), s->n_rank,
                                           s->log));
    if (s->options.trace == NULL)
        return SHOAL_OK;
    const shoal_trace_labels labels = {.command = s->options.command_name,
                                       .model = s->options.model,
                                       .build = shoal_build_text(),
                                       .n_layer = s->spec.n_layer};
    return shoal_trace_open(&s->trace, s->options.trace, SHOAL_TRACE_SPANS, &labels, s->comm);
}

shoal_status shoal_recording_start(shoal_session *session)
{
    if (session->options.trace == NULL)
        return SHOAL_OK;
    SHOAL_TRY(shoal_trace_start(&session->trace));
    shoal_engine_trace(session->engine, &session->trace.timeline);
    return SHOAL_OK;
}

shoal_status shoal_recording_finish(shoal_session *session)
{
    session->recorded = shoal_routes_record_close(&session->routes, true);
    if (session->options.trace == NULL)
        return SHOAL_OK;
    shoal_status wrote;
    shoal_engine_trace(session->engine, NULL);
    SHOAL_TRY(shoal_trace_finish(&session->trace, &wrote));
    if (session->recorded == SHOAL_OK)
        session->recorded = wrote;
    return SHOAL_OK;
}

shoal_status shoal_recording_close(shoal_session *session, shoal_status status)
{
    shoal_session *s = session;
    (void)shoal_routes_record_close(&s->routes, false);
    if (status != SHOAL_OK && s->engine != NULL) {
        shoal_engine_trace(s->engine, NULL);
        shoal_trace_abandon(&s->trace,
                            s->log->error[0] != '\0' ? s->log->error : shoal_status_text(status));
    }
    shoal_trace_close(&s->trace);
    return s->recorded;
}
