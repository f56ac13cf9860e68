/* shoal bench: throughput of prefill and decode; the formulas are in --help (main.c). */
#include "launcher/bench.h"
#include "launcher/command.h"
#include "launcher/progress.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Tokens that a sequence may get in a step. */
static int64_t step_tokens(const shoal_options *o)
{
    return 1 + shoal_options_drafts(o).n_token;
}

/* Steps in which some sequences decode while others are still prefilled, at most: prefill takes
 * one rank's chunk a step even if that rank holds all. */
static int64_t skew_steps(const shoal__bench_case *c, const shoal_options *o)
{
    return ((int64_t)c->n_sequence * c->n_prompt + o->prefill_chunk - 1) / o->prefill_chunk +
           c->n_sequence;
}

/* Positions that a sequence of the case may come to need. */
static int64_t positions(const shoal__bench *b, const shoal__bench_case *c, const shoal_options *o)
{
    return c->n_prompt + (b->n_gen + skew_steps(c, o)) * step_tokens(o);
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

static shoal_status check_context(const shoal__bench *b, const shoal_session *s)
{
    for (int32_t i = 0; i < b->n_case; i++) {
        const shoal__bench_case *c = &b->cases[i];
        if (positions(b, c, &s->options) > s->options.n_context)
            return shoal_fail(s->log, SHOAL_USAGE,
                              "%d prompt tokens, %d steps and %lld steps of overlap of %lld tokens "
                              "at most do not fit a context of %d (this model: at most %d); give "
                              "fewer of them or a larger --context",
                              (int)c->n_prompt, (int)b->n_gen,
                              (long long)skew_steps(c, &s->options),
                              (long long)step_tokens(&s->options), (int)s->options.n_context,
                              (int)s->spec.n_context_max);
    }
    return SHOAL_OK;
}

static shoal_status prepare(shoal_session *s, void *arg)
{
    shoal__bench *b = arg;
    SHOAL_TRY(check_context(b, s));
    size_t n_sequence = 0, n_prompt = 0;
    bool whole = true;
    for (int32_t i = 0; i < b->n_case; i++) {
        shoal__bench_case *c = &b->cases[i];
        n_sequence = (size_t)c->n_sequence > n_sequence ? (size_t)c->n_sequence : n_sequence;
        n_prompt = (size_t)c->n_prompt > n_prompt ? (size_t)c->n_prompt : n_prompt;
        c->prefill = calloc((size_t)b->n_repeat, sizeof *c->prefill);
        c->decode = calloc((size_t)b->n_repeat, sizeof *c->decode);
        c->read = calloc((size_t)b->n_repeat, sizeof *c->read);
        c->rank = calloc((size_t)s->n_rank, sizeof *c->rank);
        whole =
            whole && c->prefill != NULL && c->decode != NULL && c->read != NULL && c->rank != NULL;
    }
    const size_t n_id = n_sequence * n_prompt;
    b->prompt = malloc(n_id * sizeof *b->prompt);
    b->sequence = malloc(n_sequence * sizeof *b->sequence);
    b->has_first = malloc(n_sequence * sizeof *b->has_first);
    if (!whole || b->prompt == NULL || b->sequence == NULL || b->has_first == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %zu prompt tokens", n_id);
    uint64_t state = 1;
    for (size_t i = 0; i < n_id; i++)
        b->prompt[i] = random_id(&state, s->spec.n_vocab);
    return SHOAL_OK;
}

static shoal_status submit_all(shoal__bench *b, shoal_session *s, const shoal__bench_case *c)
{
    for (int32_t i = 0; i < c->n_sequence; i++) {
        shoal_sequence_request request = {
            .prompt = b->prompt + (size_t)i * (size_t)c->n_prompt,
            .n_prompt = c->n_prompt,
            .max_tokens = s->options.n_context - c->n_prompt,
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
static shoal_status step(shoal__bench *b, shoal_session *s, int32_t n_sequence, int64_t *n_token,
                         int32_t *n_first)
{
    SHOAL_TRY(shoal_session_check(s));
    SHOAL_TRY(shoal_engine_step(s->engine));
    shoal_event event;
    while (shoal_engine_poll(s->engine, &event)) {
        if (event.kind != SHOAL_EVENT_TOKEN)
            continue;
        (*n_token)++;
        for (int32_t i = 0; i < n_sequence; i++) {
            if (b->sequence[i] == event.sequence && !b->has_first[i]) {
                b->has_first[i] = true;
                (*n_first)++;
            }
        }
    }
    return SHOAL_OK;
}

/* Until every sequence has its first token. */
static shoal_status prefill(shoal__bench *b, shoal_session *s, const shoal__bench_case *c)
{
    int64_t n_token = 0;
    int32_t n_first = 0;
    SHOAL_TRY(submit_all(b, s, c));
    while (n_first < c->n_sequence)
        SHOAL_TRY(step(b, s, c->n_sequence, &n_token, &n_first));
    return SHOAL_OK;
}

static shoal_status decode(shoal__bench *b, shoal_session *s, const shoal__bench_case *c,
                           int32_t n_step, int64_t *n_token)
{
    int32_t n_first = 0;
    for (int32_t i = 0; i < n_step; i++)
        SHOAL_TRY(step(b, s, c->n_sequence, n_token, &n_first));
    return SHOAL_OK;
}

static void cancel_all(shoal__bench *b, shoal_session *s, const shoal__bench_case *c)
{
    for (int32_t i = 0; i < c->n_sequence; i++)
        shoal_engine_cancel(s->engine, b->sequence[i]);
}

shoal_status shoal__bench_warm_up(shoal__bench *b, shoal_session *s, shoal__bench_case *c)
{
    enum { N_STEP = 2 }; /* pages, caches and clocks warm up */
    int64_t n_token = 0;
    SHOAL_TRY(prefill(b, s, c));
    SHOAL_TRY(decode(b, s, c, b->n_gen < N_STEP ? b->n_gen : N_STEP, &n_token));
    cancel_all(b, s, c);
    return SHOAL_OK;
}

shoal_status shoal__bench_prefill(shoal__bench *b, shoal_session *s, shoal__bench_case *c)
{
    const int64_t start_us = shoal_clock_us();
    SHOAL_TRY(prefill(b, s, c));
    c->wall_us[SHOAL__BENCH_PREFILL] += shoal_clock_us() - start_us;
    c->n_token[SHOAL__BENCH_PREFILL] += (int64_t)c->n_sequence * c->n_prompt;
    return SHOAL_OK;
}

shoal_status shoal__bench_decode(shoal__bench *b, shoal_session *s, shoal__bench_case *c)
{
    const int64_t start_us = shoal_clock_us();
    SHOAL_TRY(decode(b, s, c, b->n_gen, &c->n_token[SHOAL__BENCH_DECODE]));
    c->wall_us[SHOAL__BENCH_DECODE] += shoal_clock_us() - start_us;
    cancel_all(b, s, c);
    return SHOAL_OK;
}

/* One part of the case; *speed: its tok/s. */
static shoal_status run_part(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                             shoal__bench_part_kind part, double *speed)
{
    const int64_t before_us = c->wall_us[part], before = c->n_token[part];
    SHOAL_TRY(shoal__bench_do(
        b, s, c, (shoal__bench_order){.kind = SHOAL__BENCH_RUN, .part = (int32_t)part}));
    *speed = (double)(c->n_token[part] - before) * 1e6 / (double)(c->wall_us[part] - before_us + 1);
    return SHOAL_OK;
}

static shoal_status run_case(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                             shoal_progress *progress)
{
    SHOAL_TRY(shoal__bench_do(b, s, c, (shoal__bench_order){.kind = SHOAL__BENCH_WARM_UP}));
    for (int32_t i = 0; i < b->n_repeat; i++) {
        SHOAL_TRY(
            shoal__bench_do(b, s, c, (shoal__bench_order){.kind = SHOAL__BENCH_READ, .run = i}));
        SHOAL_TRY(run_part(b, s, c, SHOAL__BENCH_PREFILL, &c->prefill[i]));
        SHOAL_TRY(run_part(b, s, c, SHOAL__BENCH_DECODE, &c->decode[i]));
        shoal_progress_set(progress,
                           "prompt %d, %d sequences: run %d of %d, prefill %.1f tok/s, decode "
                           "%.1f tok/s",
                           (int)c->n_prompt, (int)c->n_sequence, (int)i + 1, (int)b->n_repeat,
                           c->prefill[i], c->decode[i]);
    }
    return shoal__bench_do(b, s, c, (shoal__bench_order){.kind = SHOAL__BENCH_GATHER});
}

/* What every rank measures with. Slots: as many exchanges as fit rank 0's memory for all ranks. */
static shoal_status open_measures(shoal__bench *b, shoal_session *s)
{
    enum { SLOTS_ALL_RANKS = 1 << 22, SLOTS_MAX = 1 << 18 };
    const int64_t share = SLOTS_ALL_RANKS / s->n_rank;
    for (int32_t part = 0; part < SHOAL__BENCH_N_PART; part++) {
        b->slots[part].n_max = share < SLOTS_MAX ? share : SLOTS_MAX;
        b->slots[part].n_slot = calloc((size_t)b->slots[part].n_max, sizeof(int32_t));
        if (b->slots[part].n_slot == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory to count slots");
    }
    if (s->devices.own != NULL) /* reads its weights, where they are */
        return SHOAL_OK;
    return shoal_yardstick_open(&b->yardstick, &s->compute, shoal_cores_ranks_on_host(s->comm),
                                s->log);
}

static shoal_status together(shoal_session *s, void *arg)
{
    shoal__bench *b = arg;
    SHOAL_TRY(shoal_comm_agree(s->comm, open_measures(b, s), "preparing to measure"));
    if (s->rank != 0)
        return shoal__bench_follow(b, s);
    shoal_progress progress;
    shoal_progress_init(&progress, true, s->log);
    SHOAL_TRY(shoal__bench_do(b, s, NULL, (shoal__bench_order){.kind = SHOAL__BENCH_PEAKS}));
    for (int32_t i = 0; i < b->n_case; i++)
        SHOAL_TRY(run_case(b, s, &b->cases[i], &progress));
    shoal_progress_pause(&progress);
    return shoal__bench_do(b, s, NULL, (shoal__bench_order){.kind = SHOAL__BENCH_END});
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    return shoal__bench_print(arg, s, report);
}

static void release(void *arg)
{
    shoal__bench *b = arg;
    for (int32_t i = 0; i < b->n_case; i++) {
        free(b->cases[i].prefill);
        free(b->cases[i].decode);
        free(b->cases[i].read);
        free(b->cases[i].rank);
    }
    free(b->cases);
    free(b->prompt);
    free(b->sequence);
    free(b->has_first);
    shoal_yardstick_close(&b->yardstick);
    for (int32_t part = 0; part < SHOAL__BENCH_N_PART; part++)
        free(b->slots[part].n_slot);
}

/* Every prompt length with every number of sequences. */
static shoal_status list_cases(shoal__bench *b, const shoal_options *o, shoal_log *log)
{
    int32_t *prompts = NULL, *sequences = NULL, n_prompts = 0, n_sequences = 0;
    shoal_status status = shoal_options_counts(&prompts, &n_prompts, o->prompt_tokens,
                                               "prompt-tokens", INT32_MAX, log);
    if (status == SHOAL_OK)
        status = shoal_options_counts(&sequences, &n_sequences, o->sequences, "sequences",
                                      SHOAL_ENGINE_ROWS_MAX, log);
    if (status == SHOAL_OK) {
        b->cases = calloc((size_t)n_prompts * (size_t)n_sequences, sizeof *b->cases);
        if (b->cases == NULL)
            status = shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %d cases",
                                (int)n_prompts * (int)n_sequences);
    }
    for (int32_t i = 0; status == SHOAL_OK && i < n_prompts; i++)
        for (int32_t j = 0; j < n_sequences; j++)
            b->cases[b->n_case++] =
                (shoal__bench_case){.n_prompt = prompts[i], .n_sequence = sequences[j]};
    free(prompts);
    free(sequences);
    return status;
}

shoal_status shoal_cmd_bench(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                             shoal_log *log)
{
    shoal__bench b = {.n_gen = options->gen_tokens, .n_repeat = options->repeat};
    SHOAL_TRY(list_cases(&b, options, log));
    int64_t n_context = 1;
    int32_t n_sequence = 1;
    for (int32_t i = 0; i < b.n_case; i++) {
        const shoal__bench_case *c = &b.cases[i];
        const int64_t n_position = positions(&b, c, options);
        n_context = n_position > n_context ? n_position : n_context;
        n_sequence = c->n_sequence > n_sequence ? c->n_sequence : n_sequence;
    }
    if (n_context > INT32_MAX) {
        release(&b);
        return shoal_fail(log, SHOAL_USAGE, "%lld positions per sequence are too many",
                          (long long)n_context);
    }
    shoal_session_plan plan = {
        .arg = &b,
        .n_context = (int32_t)n_context,
        .n_sequence = n_sequence,
        .prepare = prepare,
        .together = together,
        .finish = finish,
        .release = release,
    };
    return shoal_session_run(options, &plan, interrupted, log);
}
