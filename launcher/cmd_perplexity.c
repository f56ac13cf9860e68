/* shoal perplexity: mean negative log-likelihood of a text, window by window. */
#include "launcher/command.h"
#include "launcher/progress.h"
#include "launcher/report.h"
#include "launcher/session.h"
#include "runtime/base/file.h"

#include <math.h>
#include <stdlib.h>

#define TEXT_FILE_MAX_BYTES ((size_t)4 << 30)

typedef struct scoring {
    int32_t *ids; /* [n] of the whole text */
    size_t n;
    size_t window; /* ids of a window; the last may be shorter */
    size_t n_window;
    size_t n_submitted;
    size_t n_done;
    int64_t *sequence; /* [n_window] id of each window's sequence */
    double *sum_nll;   /* [n_window] */
    int64_t *n_scored; /* [n_window] */
} scoring;

static shoal_status prepare(shoal_session *s, void *arg)
{
    scoring *p = arg;
    SHOAL_TRY(shoal_session_need_tokenizer(s));
    char *text;
    size_t n_bytes;
    const shoal_pulse pulse = shoal_session_pulse(s);
    SHOAL_TRY(shoal_file_read_long(&text, &n_bytes, s->options.file, TEXT_FILE_MAX_BYTES, &pulse,
                                   s->log));
    shoal_status status =
        shoal_tokenizer_encode(s->tokenizer, &p->ids, &p->n, text, n_bytes, false, s->log);
    free(text);
    SHOAL_TRY(status);
    p->window = (size_t)s->options.n_context;
    if (p->window < 2)
        return shoal_fail(s->log, SHOAL_USAGE,
                          "--context 1 has nothing to score: the first token of a window has no "
                          "probability");
    if (p->n < 2)
        return shoal_fail(s->log, SHOAL_BAD_DATA,
                          "%s: %zu tokens, wanted at least two to have one to score",
                          s->options.file, p->n);
    p->n_window = (p->n + p->window - 1) / p->window;
    p->sequence = calloc(p->n_window, sizeof *p->sequence);
    p->sum_nll = calloc(p->n_window, sizeof *p->sum_nll);
    p->n_scored = calloc(p->n_window, sizeof *p->n_scored);
    if (p->sequence == NULL || p->sum_nll == NULL || p->n_scored == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %zu windows", p->n_window);
    for (size_t i = 0; i < p->n; i++)
        if (p->ids[i] >= s->spec.n_vocab)
            return shoal_fail(s->log, SHOAL_BAD_DATA,
                              "the tokenizer gives id %d, the model's vocabulary ends at %d",
                              (int)p->ids[i], (int)s->spec.n_vocab);
    return SHOAL_OK;
}

/* Keep the engine fed, without copying the whole text into its queue. */
static shoal_status submit_windows(scoring *p, shoal_session *s)
{
    while (p->n_submitted < p->n_window && shoal_engine_n_free(s->engine) > 0) {
        size_t first = p->n_submitted * p->window;
        size_t n = p->n - first < p->window ? p->n - first : p->window;
        if (n < 2) { /* a last window of one token has nothing to score */
            p->sequence[p->n_submitted++] = -1;
            p->n_done++;
            continue;
        }
        shoal_sequence_request request = {
            .prompt = p->ids + first,
            .n_prompt = (int32_t)n,
            .want = SHOAL_WANT_SCORES,
            .sampling = {.top_p = 1},
        };
        SHOAL_TRY(shoal_engine_submit(s->engine, &p->sequence[p->n_submitted], &request));
        p->n_submitted++;
    }
    return SHOAL_OK;
}

/* Rows of a window come in order, so its sum does not depend on the other windows. */
static void take_scores(scoring *p, const shoal_event *event)
{
    size_t window = p->n_submitted;
    while (window > 0 && p->sequence[window - 1] != event->sequence)
        window--;
    if (window == 0)
        return;
    for (int32_t i = 0; i < event->n_row; i++)
        p->sum_nll[window - 1] += event->nll[i];
    p->n_scored[window - 1] += event->n_row;
}

static shoal_status work(shoal_session *s, void *arg)
{
    scoring *p = arg;
    shoal_progress progress;
    shoal_progress_init(&progress, true, s->log);
    while (p->n_done < p->n_window) {
        SHOAL_TRY(shoal_session_check(s));
        SHOAL_TRY(submit_windows(p, s));
        if (p->n_done == p->n_window)
            break;
        SHOAL_TRY(shoal_engine_step(s->engine));
        shoal_event event;
        while (shoal_engine_poll(s->engine, &event)) {
            if (event.kind == SHOAL_EVENT_SCORES)
                take_scores(p, &event);
            p->n_done += event.kind == SHOAL_EVENT_DONE;
        }
        shoal_progress_set(&progress, "%zu of %zu windows", p->n_done, p->n_window);
    }
    shoal_progress_finish(&progress, "scored");
    return SHOAL_OK;
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    const scoring *p = arg;
    (void)report;
    double sum = 0;
    int64_t n = 0;
    for (size_t w = 0; w < p->n_window; w++) {
        sum += p->sum_nll[w];
        n += p->n_scored[w];
    }
    double mean = sum / (double)n;
    if (!s->options.json) {
        printf("mean_nll %.6f  perplexity %.4f  tokens_scored %lld\n", mean, exp(mean),
               (long long)n);
        return shoal_flush_stdout(s->log);
    }
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "mean_nll", shoal_json_new_number(mean));
    shoal_json_set(o, "perplexity", shoal_json_new_number(exp(mean)));
    shoal_json_set(o, "tokens_scored", shoal_json_new_int(n));
    return shoal_print_json(o, s->log);
}

static void release(void *arg)
{
    scoring *p = arg;
    free(p->ids);
    free(p->sequence);
    free(p->sum_nll);
    free(p->n_scored);
}

shoal_status shoal_cmd_perplexity(const shoal_options *options,
                                  const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    enum { DEFAULT_WINDOW = 1024 };
    scoring p = {0};
    shoal_session_plan plan = {
        .arg = &p,
        .n_context = DEFAULT_WINDOW,
        .cap_context = true,
        .want_scores = true,
        .prepare = prepare,
        .work = work,
        .finish = finish,
        .release = release,
    };
    return shoal_session_run(options, &plan, interrupted, log);
}
