/* shoal generate: one sequence, streamed. */
#include "launcher/command.h"
#include "launcher/report.h"
#include "launcher/session.h"
#include "runtime/base/file.h"

#include <stdlib.h>
#include <string.h>

#define PROMPT_FILE_MAX_BYTES ((size_t)64 << 20)

typedef struct generation {
    int32_t *prompt; /* [n_prompt] */
    int32_t n_prompt;
    int32_t *ids; /* [n_id_max] generated */
    int32_t n_id, n_id_max;
    char *text; /* [n_text] what was decoded, for --json */
    size_t n_text, n_text_max;
    shoal_decoder *decoder; /* NULL: MODEL has no tokenizer */
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
    shoal_status status =
        shoal_tokenizer_encode_prompt(s->tokenizer, &g->prompt, &n, text, n_bytes, s->log);
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
    g->ids = malloc((size_t)g->n_id_max * sizeof *g->ids);
    if (g->ids == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d ids", (int)g->n_id_max);
    if (s->tokenizer == NULL)
        return SHOAL_OK;
    return shoal_decoder_open(&g->decoder, s->tokenizer, false, s->log);
}

/* To stdout as it comes, or kept for the JSON object. */
static shoal_status put_text(generation *g, shoal_session *s, const char *text, size_t n_bytes)
{
    if (!s->options.json) {
        fwrite(text, 1, n_bytes, stdout);
        return shoal_flush_stdout(s->log);
    }
    if (n_bytes > g->n_text_max - g->n_text) {
        size_t n_max = 2 * g->n_text_max + n_bytes + 256;
        char *grown = realloc(g->text, n_max);
        if (grown == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %zu bytes of text", n_max);
        g->text = grown;
        g->n_text_max = n_max;
    }
    if (n_bytes > 0)
        memcpy(g->text + g->n_text, text, n_bytes);
    g->n_text += n_bytes;
    return SHOAL_OK;
}

static shoal_status put_token(generation *g, shoal_session *s, int32_t token)
{
    if (g->n_id < g->n_id_max)
        g->ids[g->n_id++] = token;
    if (g->decoder == NULL) {
        if (s->options.json)
            return SHOAL_OK;
        printf(g->n_id > 1 ? " %d" : "%d", (int)token);
        return shoal_flush_stdout(s->log);
    }
    const char *text;
    size_t n_bytes;
    SHOAL_TRY(shoal_decoder_feed(g->decoder, &text, &n_bytes, token, s->log));
    return put_text(g, s, text, n_bytes);
}

static shoal_status decode_all(generation *g, shoal_session *s)
{
    while (g->done.kind != SHOAL_EVENT_DONE) {
        SHOAL_TRY(shoal_session_check(s));
        SHOAL_TRY(shoal_engine_step(s->engine));
        shoal_event event;
        while (shoal_engine_poll(s->engine, &event)) {
            if (event.kind == SHOAL_EVENT_TOKEN)
                SHOAL_TRY(put_token(g, s, event.token));
            else if (event.kind == SHOAL_EVENT_DONE)
                g->done = event;
        }
    }
    return SHOAL_OK;
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
    shoal_status status = decode_all(g, s);
    if (g->decoder != NULL) {
        const char *text;
        size_t n_bytes;
        shoal_decoder_flush(g->decoder, &text, &n_bytes);
        if (status == SHOAL_OK)
            status = put_text(g, s, text, n_bytes);
    }
    /* Also after a failure the line that was begun is ended. */
    if (!s->options.json && (status == SHOAL_OK || g->n_id > 0)) {
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
    shoal_speeds speeds = shoal_speeds_of(&g->done);
    const shoal_draft_report drafts = shoal_draft_report_of(&report[0].count, g->n_id, s->n_rank);
    char sent[SHOAL_BYTES_TEXT], draft_text[SHOAL_DRAFT_TEXT];
    shoal_log_info(s->log,
                   "%d prompt tokens at %.1f tok/s, %d generated at %.1f tok/s, %d rank%s, %s "
                   "sent%s",
                   (int)g->n_prompt, speeds.prefill_tok_per_s, (int)g->n_id,
                   speeds.decode_tok_per_s, (int)s->n_rank, s->n_rank == 1 ? "" : "s",
                   shoal_bytes_text(sent, shoal_report_sent_bytes(report, s->n_rank)),
                   shoal_draft_report_text(draft_text, &drafts, s));
    if (!s->options.json)
        return SHOAL_OK;
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "prompt_ids", shoal_json_new_ints(g->prompt, (size_t)g->n_prompt));
    shoal_json_set(o, "ids", shoal_json_new_ints(g->ids, (size_t)g->n_id));
    shoal_json_set(o, "text", shoal_json_new_string(g->n_text > 0 ? g->text : "", g->n_text));
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
    shoal_decoder_close(g->decoder);
    free(g->prompt);
    free(g->ids);
    free(g->text);
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
