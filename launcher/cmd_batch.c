/* shoal batch: a file of prompts in, a file of answers out. Rank 0 reads ahead of the engine by at
 * most twice what runs at once, so memory does not grow with the input (but for the ids). Neither
 * file is ever waited for without signs of life: they may be pipes. */
#include "launcher/batch_io.h"
#include "launcher/chat_prompt.h"
#include "launcher/command.h"
#include "launcher/progress.h"
#include "launcher/report.h"
#include "launcher/session.h"
#include "runtime/base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEFAULT_SEQUENCES = 16, WARN_BAD_LINES = 10, INPUT_WAIT_MS = 20 };

/* A line that the engine works on. */
typedef struct batch_job {
    int64_t sequence; /* of the engine */
    shoal_json *id;   /* owned; NULL: this job is free */
    shoal_answer answer;
    int32_t n_prompt;
} batch_job;

typedef struct batch {
    shoal_batch_input input;
    int64_t n_line;
    bool at_end;
    shoal_batch_output output;
    shoal_id_set ids;
    shoal_chat *chat; /* opened by the first line with messages */
    batch_job *job;   /* [n_job_max] */
    int32_t n_job, n_job_max;
    int64_t n_answered, n_bad, n_skipped;
    int64_t n_prompt_token, n_generated;
    int64_t start_us, end_us;
    bool said_unknown_key;
    shoal_progress progress;
} batch;

/* Reading what one writes would never end. */
static shoal_status check_two_files(const batch *b, const shoal_session *s)
{
    struct stat in, out;
    if (fstat(b->input.fd, &in) == 0 && stat(s->options.output, &out) == 0 && S_ISREG(in.st_mode) &&
        in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return shoal_fail(s->log, SHOAL_USAGE, "--input and --output are the same file: %s",
                          s->options.output);
    return SHOAL_OK;
}

static shoal_status prepare(shoal_session *s, void *arg)
{
    batch *b = arg;
    SHOAL_TRY(shoal_batch_input_open(&b->input, s->options.input, s->log));
    SHOAL_TRY(check_two_files(b, s));
    SHOAL_TRY(
        shoal_batch_output_open(&b->output, &b->ids, s->options.output, s->options.resume, s->log));
    b->output.pulse = shoal_session_pulse(s);
    int64_t n_slot = 0;
    for (int32_t r = 0; r < s->n_rank; r++)
        n_slot += shoal_engine_slots(&s->engine_config, r);
    b->n_job_max = n_slot < 1 ? 2 : n_slot < INT32_MAX / 2 ? 2 * (int32_t)n_slot : INT32_MAX;
    b->job = calloc((size_t)b->n_job_max, sizeof *b->job);
    if (b->job == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d lines at once",
                          (int)b->n_job_max);
    return SHOAL_OK;
}

static shoal_status submit(batch *b, shoal_session *s, const shoal_batch_line *line,
                           const int32_t *prompt, size_t n_prompt)
{
    SHOAL_TRY(shoal_session_check_ids(s, prompt, n_prompt, 1, "the prompt"));
    shoal_sequence_request request = {
        .prompt = prompt,
        .n_prompt = (int32_t)n_prompt,
        .max_tokens = shoal_session_max_tokens(s, line->max_tokens, (int32_t)n_prompt),
        .ignore_eos = line->ignore_eos,
        .want = SHOAL_WANT_TOKENS,
        .sampling = line->sampling,
    };
    batch_job *job = b->job;
    while (job->id != NULL)
        job++;
    shoal_status status = shoal_answer_open(&job->answer, s->tokenizer, &line->stop, s->log);
    if (status == SHOAL_OK)
        status = shoal_engine_submit(s->engine, &job->sequence, &request);
    if (status != SHOAL_OK) {
        shoal_answer_close(&job->answer);
        return status;
    }
    job->id = shoal_json_copy(line->id);
    job->n_prompt = (int32_t)n_prompt;
    b->n_job++;
    return SHOAL_OK;
}

/* Encode and submit. Errors that are the line's: BAD_DATA, USAGE, NO_INPUT (no tokenizer). */
static shoal_status submit_line(batch *b, shoal_session *s, const shoal_batch_line *line)
{
    if (line->prompt_ids != NULL)
        return submit(b, s, line, line->prompt_ids, line->n_prompt_ids);
    SHOAL_TRY(shoal_session_need_tokenizer(s));
    int32_t *ids;
    size_t n;
    if (line->messages != NULL) {
        SHOAL_TRY(shoal_chat_need(&b->chat, s));
        SHOAL_TRY(shoal_chat_prompt(&ids, &n, s, b->chat, line->messages, line->n_message));
    } else {
        SHOAL_TRY(shoal_tokenizer_encode_prompt(s->tokenizer, &ids, &n, line->prompt,
                                                line->n_prompt_bytes, s->log));
    }
    shoal_status status = submit(b, s, line, ids, n);
    free(ids);
    return status;
}

static void warn_bad(batch *b, const shoal_session *s, const shoal_batch_line *line,
                     const char *text)
{
    b->n_bad++;
    shoal_progress_pause(&b->progress);
    if (b->n_bad <= WARN_BAD_LINES)
        shoal_log_warn(s->log, "%s: line %lld, id %.80s: %s", s->options.input,
                       (long long)line->number, line->key, text);
    if (b->n_bad == WARN_BAD_LINES)
        shoal_log_warn(s->log, "further bad lines are only counted");
}

static shoal_status answer_error(batch *b, shoal_session *s, const shoal_batch_line *line)
{
    char text[sizeof s->log->error];
    memcpy(text, s->log->error, sizeof text);
    warn_bad(b, s, line, text);
    shoal_json *answer = shoal_json_new_object();
    shoal_json_set(answer, "id", shoal_json_copy(line->id));
    shoal_json_set(answer, "error", shoal_json_new_string(text, strlen(text)));
    return shoal_batch_output_put(&b->output, answer);
}

static shoal_status take_line(batch *b, shoal_session *s, const shoal_batch_line *line,
                              shoal_status parsed)
{
    int32_t state = shoal_id_set_get(&b->ids, line->key);
    if (state & SHOAL_ID_SEEN) {
        warn_bad(b, s, line, "the id came before; this line gets no answer");
        return SHOAL_OK;
    }
    SHOAL_TRY(shoal_id_set_add(&b->ids, line->key, SHOAL_ID_SEEN, s->log));
    if (state & SHOAL_ID_ANSWERED) {
        b->n_skipped++;
        return SHOAL_OK;
    }
    if (line->unknown_key != NULL && !b->said_unknown_key) {
        b->said_unknown_key = true;
        shoal_progress_pause(&b->progress);
        shoal_log_warn(s->log,
                       "%s: line %lld: the key '%.80s' is not known and means nothing "
                       "(said once)",
                       s->options.input, (long long)line->number, line->unknown_key);
    }
    shoal_status status = parsed;
    if (status == SHOAL_OK) {
        s->log->capture = true;
        status = submit_line(b, s, line);
        s->log->capture = false;
    }
    if (status == SHOAL_BAD_DATA || status == SHOAL_USAGE || status == SHOAL_NO_INPUT)
        return answer_error(b, s, line);
    if (status != SHOAL_OK)
        return shoal_fail(s->log, status, "%s", s->log->error);
    return SHOAL_OK;
}

static bool is_blank(const char *text, size_t n)
{
    return strspn(text, " \t\r\n") >= n;
}

/* Read until enough is under way, or what is there of a pipe. */
static shoal_status read_ahead(batch *b, shoal_session *s)
{
    const shoal_options *o = &s->options;
    const shoal_batch_defaults defaults = {
        .max_tokens = o->max_tokens,
        .sampling = {.temperature = (float)o->temperature,
                     .top_k = o->top_k,
                     .top_p = (float)o->top_p,
                     .seed = o->seed},
        .ignore_eos = o->ignore_eos,
        .stop = o->stop,
    };
    while (!b->at_end && b->n_job < b->n_job_max) {
        SHOAL_TRY(shoal_session_check(s));
        SHOAL_TRY(shoal_batch_output_sync_due(&b->output));
        shoal_line_state state;
        const char *text;
        size_t n;
        SHOAL_TRY(
            shoal_batch_input_next(&b->input, &state, &text, &n, b->n_job > 0 ? 0 : INPUT_WAIT_MS));
        SHOAL_TRY(shoal_comm_poll(s->comm));
        b->at_end = state == SHOAL_LINE_END;
        if (b->at_end || (state == SHOAL_LINE_NOT_YET && b->n_job > 0))
            break;
        if (state == SHOAL_LINE_NOT_YET)
            continue;
        b->n_line++;
        if (is_blank(text, n))
            continue;
        shoal_batch_line line;
        s->log->capture = true;
        shoal_status parsed = shoal_batch_line_parse(&line, text, n, b->n_line, &defaults, s->log);
        s->log->capture = false;
        shoal_status status = take_line(b, s, &line, parsed);
        shoal_batch_line_close(&line);
        SHOAL_TRY(status);
    }
    return SHOAL_OK;
}

static batch_job *find_job(batch *b, int64_t sequence)
{
    for (int32_t i = 0; i < b->n_job_max; i++)
        if (b->job[i].id != NULL && b->job[i].sequence == sequence)
            return &b->job[i];
    return NULL;
}

static shoal_json *timing_json(const shoal_event *done)
{
    shoal_speeds speeds = shoal_speeds_of(done);
    shoal_json *timing = shoal_json_new_object();
    shoal_json_set(timing, "prompt_tokens", shoal_json_new_int(done->n_prompt));
    shoal_json_set(timing, "generated_tokens", shoal_json_new_int(done->n_generated));
    shoal_json_set(timing, "prefill_s", shoal_json_new_number((double)speeds.prefill_us / 1e6));
    shoal_json_set(timing, "decode_s", shoal_json_new_number((double)speeds.decode_us / 1e6));
    return timing;
}

static shoal_status answer(batch *b, shoal_session *s, batch_job *job, const shoal_event *done)
{
    shoal_answer *a = &job->answer;
    SHOAL_TRY(shoal_answer_end(a, s->log));
    const char *reason = done->finish == SHOAL_FINISH_STOP || a->stopped ? "stop" : "length";
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "id", job->id);
    shoal_json_set(o, "text", shoal_json_new_string(a->n_text > 0 ? a->text : "", a->n_text));
    shoal_json_set(o, "ids", shoal_json_new_ints(a->ids, (size_t)a->n_id));
    shoal_json_set(o, "finish_reason", shoal_json_new_string(reason, strlen(reason)));
    shoal_json_set(o, "timing", timing_json(done));
    b->n_prompt_token += done->n_prompt;
    b->n_generated += a->n_id;
    job->id = NULL;
    shoal_answer_close(a);
    b->n_job--;
    b->n_answered++;
    return shoal_batch_output_put(&b->output, o);
}

static shoal_status take_event(batch *b, shoal_session *s, const shoal_event *event)
{
    batch_job *job = find_job(b, event->sequence);
    if (job == NULL)
        return SHOAL_OK;
    if (event->kind == SHOAL_EVENT_DONE)
        return answer(b, s, job, event);
    if (event->kind != SHOAL_EVENT_TOKEN)
        return SHOAL_OK;
    SHOAL_TRY(shoal_answer_take(&job->answer, event->token, s->log));
    if (!job->answer.stopped)
        return SHOAL_OK;
    shoal_engine_cancel(s->engine, job->sequence);
    const shoal_event done = shoal_answer_stop_event(&job->answer, job->n_prompt);
    return answer(b, s, job, &done);
}

static double seconds(const batch *b)
{
    return (double)(shoal_clock_us() - b->start_us + 1) / 1e6;
}

static shoal_status work(shoal_session *s, void *arg)
{
    batch *b = arg;
    b->start_us = shoal_clock_us();
    shoal_progress_init(&b->progress, true, s->log);
    while (!b->at_end || b->n_job > 0) {
        SHOAL_TRY(read_ahead(b, s));
        if (b->n_job == 0)
            continue;
        SHOAL_TRY(shoal_session_check(s));
        SHOAL_TRY(shoal_engine_step(s->engine));
        shoal_event event;
        while (shoal_engine_poll(s->engine, &event))
            SHOAL_TRY(take_event(b, s, &event));
        SHOAL_TRY(shoal_batch_output_sync_due(&b->output));
        shoal_progress_set(&b->progress, "%lld answered, %d under way, %.1f tok/s generated",
                           (long long)b->n_answered, (int)b->n_job,
                           (double)b->n_generated / seconds(b));
    }
    b->end_us = shoal_clock_us();
    return shoal_batch_output_close(&b->output);
}

/* What resuming found in the output that this input cannot have led to. */
static void warn_of_changes(const batch *b, const shoal_session *s)
{
    const shoal_batch_output *out = &b->output;
    if (out->n_again > 0)
        shoal_log_warn(s->log, "%s: %lld of its lines have an id that came before", out->path,
                       (long long)out->n_again);
    int64_t n_other = out->n_skipped - out->n_again - b->n_skipped;
    if (n_other > 0)
        shoal_log_warn(s->log,
                       "%s: %lld of its answers have ids that are not in %s; if that was changed "
                       "after the first run, give another --output",
                       out->path, (long long)n_other, s->options.input);
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    batch *b = arg;
    shoal_progress_pause(&b->progress);
    double passed_s = (double)(b->end_us - b->start_us + 1) / 1e6;
    const shoal_draft_report drafts =
        shoal_draft_report_of(&report[0].count, b->n_generated, s->n_rank);
    char sent[SHOAL_BYTES_TEXT], draft_text[SHOAL_DRAFT_TEXT];
    shoal_log_info(s->log,
                   "%lld answered, %lld bad, %lld answered before; %lld prompt and %lld generated "
                   "tokens in %.2f s (%.1f generated tok/s), %d rank%s, %s sent%s",
                   (long long)b->n_answered, (long long)b->n_bad, (long long)b->n_skipped,
                   (long long)b->n_prompt_token, (long long)b->n_generated, passed_s,
                   (double)b->n_generated / passed_s, (int)s->n_rank, s->n_rank == 1 ? "" : "s",
                   shoal_bytes_text(sent, shoal_report_sent_bytes(report, s->n_rank)),
                   shoal_draft_report_text(draft_text, &drafts, s));
    warn_of_changes(b, s);
    /* A job that was resumed ends as it would have ended in one go. */
    int64_t n_bad = b->n_bad + b->output.n_error;
    if (n_bad == 0)
        return SHOAL_OK;
    return shoal_fail(s->log, SHOAL_BAD_DATA, "%lld bad line%s in %s; the others are answered",
                      (long long)n_bad, n_bad == 1 ? "" : "s", s->options.input);
}

static void release(void *arg)
{
    batch *b = arg;
    shoal_progress_pause(&b->progress);
    (void)shoal_batch_output_close(&b->output);
    shoal_batch_input_close(&b->input);
    shoal_id_set_close(&b->ids);
    shoal_chat_close(b->chat);
    for (int32_t i = 0; i < b->n_job_max && b->job != NULL; i++) {
        shoal_json_close(b->job[i].id);
        shoal_answer_close(&b->job[i].answer);
    }
    free(b->job);
}

shoal_status shoal_cmd_batch(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                             shoal_log *log)
{
    batch b = {.input = {.fd = -1}, .output = {.fd = -1}};
    shoal_session_plan plan = {
        .arg = &b,
        .n_sequence = DEFAULT_SEQUENCES,
        .prepare = prepare,
        .work = work,
        .finish = finish,
        .release = release,
    };
    return shoal_session_run(options, &plan, interrupted, log);
}
