/* shoal generate: one sequence, streamed. */
#include "launcher/answer.h"
#include "launcher/chat_prompt.h"
#include "launcher/command.h"
#include "launcher/report.h"
#include "launcher/session.h"
#include "runtime/base/clock.h"
#include "runtime/base/file.h"

#include <stdlib.h>
#include <string.h>

#define PROMPT_FILE_MAX_BYTES ((size_t)64 << 20)

typedef struct generation {
    int32_t *prompt; /* [n_prompt] */
    int32_t n_prompt;
    int32_t n_id_max;
    shoal_chat *chat; /* NULL without --chat */
    shoal_answer answer;
    size_t n_shown; /* bytes of its text */
    shoal_event done;
} generation;

static shoal_status read_prompt(generation *g, shoal_session *s)
{
    const shoal_options *o = &s->options;
    if (o->prompt_ids != NULL)
        return shoal_options_ids(&g->prompt, &g->n_prompt, o->prompt_ids, "prompt-ids", s->log);
    SHOAL_TRY(shoal_session_need_tokenizer(s));
    char *from_file = NULL;
    const char *text = o->prompt;
    size_t n_bytes = text != NULL ? strlen(text) : 0;
    if (text == NULL) {
        SHOAL_TRY(
            shoal_file_read(&from_file, &n_bytes, o->prompt_file, PROMPT_FILE_MAX_BYTES, s->log));
        text = from_file;
    }
    size_t n;
    shoal_status status = SHOAL_OK;
    if (o->chat) {
        const shoal_chat_message message = {"user", text, n_bytes};
        status = shoal_chat_need(&g->chat, s);
        if (status == SHOAL_OK)
            status = shoal_chat_prompt(&g->prompt, &n, s, g->chat, &message, 1);
    } else {
        status = shoal_tokenizer_encode_prompt(s->tokenizer, &g->prompt, &n, text, n_bytes, s->log);
    }
    free(from_file);
    SHOAL_TRY(status);
    if (n > INT32_MAX)
        return shoal_fail(s->log, SHOAL_USAGE, "the prompt has %zu tokens", n);
    g->n_prompt = (int32_t)n;
    return SHOAL_OK;
}

static shoal_status prepare(shoal_session *s, void *arg)
{
    generation *g = arg;
    SHOAL_TRY(read_prompt(g, s));
    const char *what = s->options.prompt_ids != NULL ? "--prompt-ids" : "the prompt";
    SHOAL_TRY(shoal_session_check_ids(s, g->prompt, (size_t)g->n_prompt, 1, what));
    g->n_id_max = shoal_session_max_tokens(s, s->options.max_tokens, g->n_prompt);
    if (s->options.max_tokens > g->n_id_max)
        shoal_log_warn(s->log,
                       "a prompt of %d tokens leaves room for %d of --max-tokens %d in a context "
                       "of %d",
                       (int)g->n_prompt, (int)g->n_id_max, (int)s->options.max_tokens,
                       (int)s->options.n_context);
    return shoal_answer_open(&g->answer, s->tokenizer, &s->options.stop, s->log);
}

/* To stdout as it comes; --json shows it in the end. */
static shoal_status show(generation *g, shoal_session *s)
{
    const shoal_answer *a = &g->answer;
    if (s->options.json || g->n_shown == a->n_text)
        return SHOAL_OK;
    SHOAL_TRY(shoal_session_wait_stdout(s));
    fwrite(a->text + g->n_shown, 1, a->n_text - g->n_shown, stdout);
    g->n_shown = a->n_text;
    return shoal_flush_stdout(s->log);
}

static shoal_status put_token(generation *g, shoal_session *s, int32_t token)
{
    SHOAL_TRY(shoal_answer_take(&g->answer, token, s->log));
    if (g->answer.decoder != NULL || s->options.json)
        return show(g, s);
    SHOAL_TRY(shoal_session_wait_stdout(s));
    printf(g->answer.n_id > 1 ? " %d" : "%d", (int)token);
    return shoal_flush_stdout(s->log);
}

static shoal_status decode_all(generation *g, shoal_session *s, int64_t sequence)
{
    while (g->done.kind != SHOAL_EVENT_DONE) {
        SHOAL_TRY(shoal_session_check(s));
        SHOAL_TRY(shoal_engine_step(s->engine));
        shoal_event event;
        while (g->done.kind != SHOAL_EVENT_DONE && shoal_engine_poll(s->engine, &event)) {
            if (event.kind == SHOAL_EVENT_TOKEN)
                SHOAL_TRY(put_token(g, s, event.token));
            else if (event.kind == SHOAL_EVENT_DONE)
                g->done = event;
            if (g->answer.stopped && g->done.kind != SHOAL_EVENT_DONE) {
                shoal_engine_cancel(s->engine, sequence);
                g->done = shoal_answer_stop_event(&g->answer, g->n_prompt);
            }
        }
    }
    SHOAL_TRY(shoal_answer_end(&g->answer, s->log));
    if (g->answer.stopped)
        g->done.finish = SHOAL_FINISH_STOP;
    return show(g, s);
}

static shoal_status work(shoal_session *s, void *arg)
{
    generation *g = arg;
    shoal_sequence_request request = {
        .prompt = g->prompt,
        .n_prompt = g->n_prompt,
        .max_tokens = g->n_id_max,
        .ignore_eos = s->options.ignore_eos,
        .want = SHOAL_WANT_TOKENS,
        .sampling = {.temperature = (float)s->options.temperature,
                     .top_k = s->options.top_k,
                     .top_p = (float)s->options.top_p,
                     .seed = s->options.seed},
    };
    int64_t sequence;
    SHOAL_TRY(shoal_engine_submit(s->engine, &sequence, &request));
    g->answer.submitted_us = shoal_clock_us();
    shoal_status status = decode_all(g, s, sequence);
    /* Also after a failure the line that was begun is ended. */
    if (!s->options.json && (status == SHOAL_OK || g->answer.n_id > 0)) {
        fputc('\n', stdout);
        shoal_status flushed = status == SHOAL_OK ? shoal_flush_stdout(s->log) : SHOAL_OK;
        status = status == SHOAL_OK ? flushed : status;
    }
    return status;
}

static shoal_json *timing_json(const shoal_session *s, const shoal_speeds *speeds)
{
    shoal_json *timing = shoal_json_new_object();
    shoal_json_set(timing, "load_s", shoal_json_new_number((double)s->load_us / 1e6));
    shoal_json_set(timing, "prefill_s", shoal_json_new_number((double)speeds->prefill_us / 1e6));
    shoal_json_set(timing, "decode_s", shoal_json_new_number((double)speeds->decode_us / 1e6));
    shoal_json_set(timing, "prefill_tok_per_s", shoal_json_new_number(speeds->prefill_tok_per_s));
    shoal_json_set(timing, "decode_tok_per_s", shoal_json_new_number(speeds->decode_tok_per_s));
    return timing;
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    const generation *g = arg;
    const shoal_answer *a = &g->answer;
    shoal_speeds speeds = shoal_speeds_of(&g->done);
    const shoal_draft_report drafts = shoal_draft_report_of(&report[0].count, a->n_id, s->n_rank);
    char sent[SHOAL_BYTES_TEXT], draft_text[SHOAL_DRAFT_TEXT];
    shoal_log_info(s->log,
                   "%d prompt tokens at %.1f tok/s, %d generated at %.1f tok/s, %d rank%s, %s "
                   "sent%s",
                   (int)g->n_prompt, speeds.prefill_tok_per_s, (int)a->n_id,
                   speeds.decode_tok_per_s, (int)s->n_rank, s->n_rank == 1 ? "" : "s",
                   shoal_bytes_text(sent, shoal_report_sent_bytes(report, s->n_rank)),
                   shoal_draft_report_text(draft_text, &drafts, s));
    if (!s->options.json)
        return SHOAL_OK;
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "prompt_ids", shoal_json_new_ints(g->prompt, (size_t)g->n_prompt));
    shoal_json_set(o, "ids", shoal_json_new_ints(a->ids, (size_t)a->n_id));
    shoal_json_set(o, "text", shoal_json_new_string(a->n_text > 0 ? a->text : "", a->n_text));
    const char *reason = g->done.finish == SHOAL_FINISH_STOP ? "stop" : "length";
    shoal_json_set(o, "finish_reason", shoal_json_new_string(reason, strlen(reason)));
    shoal_json_set(o, "timing", timing_json(s, &speeds));
    shoal_json_set(o, "ranks", shoal_report_ranks_json(s, report));
    shoal_json_set(o, "draft", shoal_draft_report_json(&drafts));
    return shoal_print_json(o, s->log);
}

static void release(void *arg)
{
    generation *g = arg;
    shoal_answer_close(&g->answer);
    shoal_chat_close(g->chat);
    free(g->prompt);
}

shoal_status shoal_cmd_generate(const shoal_options *options,
                                const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    int32_t n_prompt =
        (options->prompt != NULL) + (options->prompt_file != NULL) + (options->prompt_ids != NULL);
    if (n_prompt != 1)
        return shoal_fail(log, SHOAL_USAGE,
                          "found %d prompts, wanted exactly one of --prompt T, --prompt-file F, "
                          "--prompt-ids 1,2,3",
                          (int)n_prompt);
    if (options->chat && options->prompt_ids != NULL)
        return shoal_fail(log, SHOAL_USAGE,
                          "--chat makes a prompt out of text, and --prompt-ids is none; give "
                          "--prompt T or --prompt-file F");
    generation g = {0};
    shoal_session_plan plan = {
        .arg = &g,
        .n_sequence = 1,
        .prepare = prepare,
        .work = work,
        .finish = finish,
        .release = release,
    };
    return shoal_session_run(options, &plan, interrupted, log);
}
