/* shoal bench: throughput of prefill and decode; the formulas are in --help (main.c). */
#include "launcher/bandwidth.h"
#include "launcher/command.h"
#include "launcher/progress.h"
#include "launcher/report.h"
#include "launcher/session.h"
#include "launcher/weight_bytes.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

typedef struct bench {
    int32_t n_sequence, n_prompt, n_gen, n_repeat;
    int32_t *prompt;                 /* [n_sequence, n_prompt] */
    int64_t *sequence;               /* [n_sequence] of the engine */
    bool *has_first;                 /* [n_sequence] */
    double *prefill;                 /* [n_repeat] tok/s */
    double *decode;                  /* [n_repeat] tok/s */
    shoal_phase_times before, after; /* of rank 0, around the timed runs */
    shoal_engine_counters counted;   /* of rank 0, in the timed decode steps */
} bench;

/* Tokens that a sequence may get in a step. */
static int64_t step_tokens(const shoal_options *o)
{
    return 1 + shoal_options_drafts(o).n_token;
}

/* Steps in which some sequences decode while others are still prefilled, at most: prefill takes
 * one rank's chunk a step even if that rank holds all. */
static int64_t skew_steps(const bench *b, const shoal_options *o)
{
    return ((int64_t)b->n_sequence * b->n_prompt + o->prefill_chunk - 1) / o->prefill_chunk +
           b->n_sequence;
}

/* Fixed pseudo-random ids (splitmix64), the same in every run and on every machine. */
static int32_t random_id(uint64_t *state, int32_t n_vocab)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (int32_t)(z % (uint64_t)n_vocab);
}

static shoal_status prepare(shoal_session *s, void *arg)
{
    bench *b = arg;
    int64_t n_step = b->n_gen + skew_steps(b, &s->options);
    if (b->n_prompt + n_step * step_tokens(&s->options) > s->options.n_context)
        return shoal_fail(s->log, SHOAL_USAGE,
                          "%d prompt tokens, %d steps and %lld steps of overlap of %lld tokens at "
                          "most do not fit a context of %d (this model: at most %d); give fewer of "
                          "them or a larger --context",
                          (int)b->n_prompt, (int)b->n_gen, (long long)skew_steps(b, &s->options),
                          (long long)step_tokens(&s->options), (int)s->options.n_context,
                          (int)s->spec.n_context_max);
    size_t n_sequence = (size_t)b->n_sequence;
    size_t n_id = n_sequence * (size_t)b->n_prompt;
    b->prompt = malloc(n_id * sizeof *b->prompt);
    b->sequence = malloc(n_sequence * sizeof *b->sequence);
    b->has_first = malloc(n_sequence * sizeof *b->has_first);
    b->prefill = malloc((size_t)b->n_repeat * sizeof *b->prefill);
    b->decode = malloc((size_t)b->n_repeat * sizeof *b->decode);
    if (b->prompt == NULL || b->sequence == NULL || b->has_first == NULL || b->prefill == NULL ||
        b->decode == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %zu prompt tokens", n_id);
    uint64_t state = 1;
    for (size_t i = 0; i < n_id; i++)
        b->prompt[i] = random_id(&state, s->spec.n_vocab);
    return SHOAL_OK;
}

static int32_t ranks_on_host(const shoal_session *s)
{
    int32_t n = 0;
    const char *host = shoal_comm_host(s->comm, s->rank);
    for (int32_t r = 0; r < s->n_rank; r++)
        n += strcmp(shoal_comm_host(s->comm, r), host) == 0;
    return n;
}

/* All ranks come from the same agreement, so they read at the same time. */
static shoal_status measure(shoal_session *s, void *arg)
{
    (void)arg;
    size_t buffer_bytes;
    SHOAL_TRY(shoal_bandwidth_measure(&s->read_bandwidth_gb_per_s, &buffer_bytes, s->compute.pool,
                                      ranks_on_host(s), s->log));
    char text[SHOAL_BYTES_TEXT];
    if (s->rank == 0)
        shoal_log_info(s->log, "read bandwidth of rank 0: %.2f GB/s over a buffer of %s",
                       s->read_bandwidth_gb_per_s, shoal_bytes_text(text, buffer_bytes));
    return SHOAL_OK;
}

static shoal_status submit_all(bench *b, shoal_session *s)
{
    for (int32_t i = 0; i < b->n_sequence; i++) {
        shoal_sequence_request request = {
            .prompt = b->prompt + (size_t)i * (size_t)b->n_prompt,
            .n_prompt = b->n_prompt,
            .max_tokens = s->options.n_context - b->n_prompt,
            .ignore_eos = true,
            .want = SHOAL_WANT_TOKENS,
            .sampling = {.top_p = 1},
        };
        b->has_first[i] = false;
        SHOAL_TRY(shoal_engine_submit(s->engine, &b->sequence[i], &request));
    }
    return SHOAL_OK;
}

/* One step; counts its tokens, and in *n_first the sequences that got their first one. */
static shoal_status step(bench *b, shoal_session *s, int64_t *n_token, int32_t *n_first)
{
    SHOAL_TRY(shoal_session_check(s));
    SHOAL_TRY(shoal_engine_step(s->engine));
    shoal_event event;
    while (shoal_engine_poll(s->engine, &event)) {
        if (event.kind != SHOAL_EVENT_TOKEN)
            continue;
        (*n_token)++;
        for (int32_t i = 0; i < b->n_sequence; i++) {
            if (b->sequence[i] == event.sequence && !b->has_first[i]) {
                b->has_first[i] = true;
                (*n_first)++;
            }
        }
    }
    return SHOAL_OK;
}

static void add_difference(shoal_engine_counters *sum, const shoal_engine_counters *before,
                           const shoal_engine_counters *after)
{
    sum->n_exchange += after->n_exchange - before->n_exchange;
    sum->n_decode_step += after->n_decode_step - before->n_decode_step;
    sum->n_decode_token += after->n_decode_token - before->n_decode_token;
    sum->n_draft_proposed += after->n_draft_proposed - before->n_draft_proposed;
    sum->n_draft_accepted += after->n_draft_accepted - before->n_draft_accepted;
}

static shoal_status run_once(bench *b, shoal_session *s, int32_t n_gen, double *prefill,
                             double *decode)
{
    int64_t start_us = shoal_clock_us();
    SHOAL_TRY(submit_all(b, s));
    int64_t n_token = 0;
    int32_t n_first = 0;
    while (n_first < b->n_sequence)
        SHOAL_TRY(step(b, s, &n_token, &n_first));
    int64_t prefilled_us = shoal_clock_us();
    const shoal_engine_counters prefilled = *shoal_engine_count(s->engine);
    n_token = 0;
    for (int32_t i = 0; i < n_gen; i++)
        SHOAL_TRY(step(b, s, &n_token, &n_first));
    int64_t end_us = shoal_clock_us();
    add_difference(&b->counted, &prefilled, shoal_engine_count(s->engine));
    for (int32_t i = 0; i < b->n_sequence; i++)
        shoal_engine_cancel(s->engine, b->sequence[i]);
    *prefill = (double)b->n_sequence * b->n_prompt * 1e6 / (double)(prefilled_us - start_us + 1);
    *decode = (double)n_token * 1e6 / (double)(end_us - prefilled_us + 1);
    return SHOAL_OK;
}

static shoal_status work(shoal_session *s, void *arg)
{
    bench *b = arg;
    shoal_progress progress;
    shoal_progress_init(&progress, true, s->log);
    double unused[2];
    SHOAL_TRY(run_once(b, s, 2, &unused[0], &unused[1])); /* pages, caches and clocks warm up */
    b->before = *shoal_model_times(s->model);
    b->counted = (shoal_engine_counters){0};
    for (int32_t i = 0; i < b->n_repeat; i++) {
        SHOAL_TRY(run_once(b, s, b->n_gen, &b->prefill[i], &b->decode[i]));
        shoal_progress_set(&progress, "%d of %d runs, prefill %.1f tok/s, decode %.1f tok/s",
                           (int)i + 1, (int)b->n_repeat, b->prefill[i], b->decode[i]);
    }
    b->after = *shoal_model_times(s->model);
    shoal_progress_pause(&progress);
    return SHOAL_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *value, int32_t n)
{
    qsort(value, (size_t)n, sizeof *value, compare_numbers);
    return n % 2 == 1 ? value[n / 2] : (value[n / 2 - 1] + value[n / 2]) / 2;
}

/* Name and time of each phase on rank 0, over the timed runs. */
typedef struct phase {
    const char *name;
    int64_t us;
} phase;

enum { N_PHASE = 9 };

static void list_phases(phase list[N_PHASE], const bench *b)
{
    const shoal_phase_times *t0 = &b->before;
    const shoal_phase_times *t1 = &b->after;
    const phase all[N_PHASE] = {
        {"attention_us", t1->attention_us - t0->attention_us},
        {"router_us", t1->router_us - t0->router_us},
        {"dispatch_us", t1->dispatch_us - t0->dispatch_us},
        {"experts_us", t1->experts_us - t0->experts_us},
        {"combine_us", t1->combine_us - t0->combine_us},
        {"shared_us", t1->shared_us - t0->shared_us},
        {"dense_us", t1->dense_us - t0->dense_us},
        {"logits_us", t1->logits_us - t0->logits_us},
        {"other_us", t1->other_us - t0->other_us},
    };
    memcpy(list, all, sizeof all);
}

typedef struct result {
    double prefill, decode, bandwidth, fraction, step_bytes;
    shoal_draft_report drafts;
} result;

static shoal_status print_result(const shoal_session *s, const bench *b, const result *r,
                                 const shoal_rank_report *report)
{
    phase phases[N_PHASE];
    list_phases(phases, b);
    if (!s->options.json) {
        printf("prefill_tok_per_s %.1f\ndecode_tok_per_s %.1f\n", r->prefill, r->decode);
        printf("read_bandwidth_gb_per_s %.2f\nread_bandwidth_fraction %.3f\n", r->bandwidth,
               r->fraction);
        if (s->engine_config.drafts.kind != SHOAL_DRAFT_NONE)
            printf("accepted_fraction %.3f\ntokens_per_step %.3f\nhops_per_token %.2f\n",
                   r->drafts.accepted_fraction, r->drafts.tokens_per_step,
                   r->drafts.hops_per_token);
        printf("phases of rank 0 over %d runs:\n", (int)b->n_repeat);
        for (int32_t i = 0; i < N_PHASE; i++)
            printf("  %-14s%lld\n", phases[i].name, (long long)phases[i].us);
        return shoal_flush_stdout(s->log);
    }
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "prompt_tokens", shoal_json_new_int(b->n_prompt));
    shoal_json_set(o, "gen_tokens", shoal_json_new_int(b->n_gen));
    shoal_json_set(o, "sequences", shoal_json_new_int(b->n_sequence));
    shoal_json_set(o, "repeat", shoal_json_new_int(b->n_repeat));
    shoal_json_set(o, "prefill_tok_per_s", shoal_json_new_number(r->prefill));
    shoal_json_set(o, "decode_tok_per_s", shoal_json_new_number(r->decode));
    shoal_json_set(o, "read_bandwidth_gb_per_s", shoal_json_new_number(r->bandwidth));
    shoal_json_set(o, "read_bandwidth_fraction", shoal_json_new_number(r->fraction));
    shoal_json_set(o, "weight_bytes_per_step", shoal_json_new_number(r->step_bytes));
    shoal_json *times = shoal_json_new_object();
    for (int32_t i = 0; i < N_PHASE; i++)
        shoal_json_set(times, phases[i].name, shoal_json_new_int(phases[i].us));
    shoal_json_set(o, "phases", times);
    shoal_json_set(o, "draft", shoal_draft_report_json(&r->drafts));
    shoal_json_set(o, "ranks", shoal_report_ranks_json(s, report));
    return shoal_print_json(o, s->log);
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    bench *b = arg;
    int32_t n_source = 0;
    result r = {.prefill = median(b->prefill, b->n_repeat),
                .decode = median(b->decode, b->n_repeat)};
    for (int32_t rank = 0; rank < s->n_rank; rank++) {
        r.bandwidth += report[rank].read_bandwidth_gb_per_s;
        n_source += shoal_engine_slots(&s->engine_config, rank) > 0;
    }
    if (n_source > b->n_sequence)
        n_source = b->n_sequence;
    shoal_weight_bytes bytes = shoal_weight_bytes_of(s->checkpoint, &s->spec);
    r.step_bytes = shoal_weight_bytes_per_step(&bytes, &s->spec, b->n_sequence, n_source);
    r.drafts = shoal_draft_report_of(&b->counted, b->counted.n_decode_token, s->n_rank);
    const double tokens = b->n_sequence * r.drafts.tokens_per_step;
    r.fraction = r.step_bytes / tokens * r.decode / 1e9 / r.bandwidth;
    return print_result(s, b, &r, report);
}

static void release(void *arg)
{
    bench *b = arg;
    free(b->prompt);
    free(b->sequence);
    free(b->has_first);
    free(b->prefill);
    free(b->decode);
}

shoal_status shoal_cmd_bench(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                             shoal_log *log)
{
    bench b = {
        .n_sequence = options->n_sequence > 0 ? options->n_sequence : 1,
        .n_prompt = options->prompt_tokens,
        .n_gen = options->gen_tokens,
        .n_repeat = options->repeat,
    };
    int64_t n_context = b.n_prompt + (b.n_gen + skew_steps(&b, options)) * step_tokens(options);
    if (n_context > INT32_MAX)
        return shoal_fail(log, SHOAL_USAGE, "%lld positions per sequence are too many",
                          (long long)n_context);
    shoal_session_plan plan = {
        .arg = &b,
        .n_context = (int32_t)n_context,
        .n_sequence = 1,
        .prepare = prepare,
        .measure = measure,
        .work = work,
        .finish = finish,
        .release = release,
    };
    return shoal_session_run(options, &plan, interrupted, log);
}
