#include "launcher/bench.h"

#include <stdlib.h>
#include <string.h>

enum { RANKS_SHOWN = 8 }; /* in the table; --json has all */

static const char *const part_names[SHOAL__BENCH_N_PART] = {"prefill", "decode"};

static int compare_numbers(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of sorted values. */
static double median(const double *value, int32_t n)
{
    return n % 2 == 1 ? value[n / 2] : (value[n / 2 - 1] + value[n / 2]) / 2;
}

/* What is derived from a case. */
typedef struct figures {
    double prefill, decode, bandwidth; /* medians */
    double weight_bytes_per_step;      /* of decode */
    double bandwidth_fraction;
    double weight_bytes, cache_bytes, sent_bytes; /* per token of decode */
    double dot_peak;                              /* 1e9 operations per second */
    double prefill_peak_fraction, decode_peak_fraction;
    shoal_draft_report drafts;
} figures;

/* All ranks together. */
static shoal__bench_part sum_of(const shoal__bench_case *c, int32_t kind, int32_t n_rank)
{
    shoal__bench_part sum = {0};
    for (int32_t r = 0; r < n_rank; r++) {
        const shoal__bench_part *p = &c->rank[r].part[kind];
        sum.work.weight_bytes += p->work.weight_bytes;
        sum.work.cache_bytes += p->work.cache_bytes;
        sum.work.n_mac += p->work.n_mac;
        sum.sent_bytes += p->sent_bytes;
    }
    return sum;
}

static bool multiplies_integers(const shoal_session *s)
{
    return shoal_model_wire(s->model)->dispatch == SHOAL_WIRE_INT8;
}

/* A GPU's peak is not measured here, so there is none of all ranks together. */
static bool has_peaks(const shoal_session *s)
{
    return s->devices.n_device == 0;
}

static double per(double value, int64_t n)
{
    return n > 0 ? value / (double)n : 0;
}

static figures figures_of(shoal__bench *b, shoal__bench_case *c, const shoal_session *s)
{
    const size_t n = (size_t)b->n_repeat;
    qsort(c->prefill, n, sizeof *c->prefill, compare_numbers);
    qsort(c->decode, n, sizeof *c->decode, compare_numbers);
    qsort(c->read, n, sizeof *c->read, compare_numbers);
    const shoal__bench_part prefill = sum_of(c, SHOAL__BENCH_PREFILL, s->n_rank);
    const shoal__bench_part decode = sum_of(c, SHOAL__BENCH_DECODE, s->n_rank);
    const int64_t n_step = c->rank[0].part[SHOAL__BENCH_DECODE].n_step;
    const int64_t n_token = c->n_token[SHOAL__BENCH_DECODE];
    const int64_t n_prompt = c->n_token[SHOAL__BENCH_PREFILL];
    figures f = {
        .prefill = median(c->prefill, b->n_repeat),
        .decode = median(c->decode, b->n_repeat),
        .bandwidth = median(c->read, b->n_repeat),
        .weight_bytes_per_step = per((double)decode.work.weight_bytes, n_step),
        .weight_bytes = per((double)decode.work.weight_bytes, n_token),
        .cache_bytes = per((double)decode.work.cache_bytes, n_token),
        .sent_bytes = per((double)decode.sent_bytes, n_token),
        .dot_peak = multiplies_integers(s) ? b->peaks.int8_gop_per_s : b->peaks.f32_gflop_per_s,
        .drafts = shoal_draft_report_of(&c->drafted, c->drafted.n_decode_token, s->n_rank),
    };
    const double tokens = c->n_sequence * f.drafts.tokens_per_step;
    f.bandwidth_fraction = f.weight_bytes_per_step / tokens * f.decode / 1e9 / f.bandwidth;
    const double peak = f.dot_peak * 1e9 / 2;
    if (!has_peaks(s))
        return f;
    f.prefill_peak_fraction = per((double)prefill.work.n_mac, n_prompt) * f.prefill / peak;
    f.decode_peak_fraction = per((double)decode.work.n_mac, n_token) * f.decode / peak;
    return f;
}

static void set(shoal_json *o, const char *key, double value)
{
    shoal_json_set(o, key, shoal_json_new_number(value));
}

static void set_int(shoal_json *o, const char *key, int64_t value)
{
    shoal_json_set(o, key, shoal_json_new_int(value));
}

/* Between its steps a rank waits for rank 0's next; rank 0 hands tokens out. */
static int64_t idle_us(const shoal__bench_case *c, int32_t kind, int32_t rank)
{
    const int64_t idle = c->wall_us[kind] - c->rank[rank].part[kind].step_us;
    return idle > 0 ? idle : 0;
}

static shoal_json *part_json(const shoal__bench_case *c, int32_t kind, int32_t n_rank)
{
    shoal_json *o = shoal_json_new_object();
    set_int(o, "time_us", c->wall_us[kind]);
    set_int(o, "steps", c->rank[0].part[kind].n_step);
    set_int(o, "tokens", c->n_token[kind]);
    set(o, "expert_imbalance", c->imbalance[kind]);
    shoal_json *ranks = shoal_json_new_array();
    for (int32_t r = 0; r < n_rank; r++) {
        const shoal__bench_part *p = &c->rank[r].part[kind];
        shoal_json *rank = shoal_json_new_object();
        set_int(rank, "rank", r);
        set_int(rank, "step_us", p->step_us);
        set_int(rank, "idle_us", idle_us(c, kind, r));
        shoal_json_set(rank, "phases", shoal_report_phases_json(&p->times));
        set_int(rank, "expert_slots", (int64_t)p->work.n_slot);
        set_int(rank, "weight_bytes", (int64_t)p->work.weight_bytes);
        set_int(rank, "cache_bytes", (int64_t)p->work.cache_bytes);
        set_int(rank, "multiply_adds", (int64_t)p->work.n_mac);
        set_int(rank, "sent_bytes", (int64_t)p->sent_bytes);
        shoal_json_append(ranks, rank);
    }
    shoal_json_set(o, "ranks", ranks);
    return o;
}

static void set_case(shoal_json *o, shoal__bench *b, shoal__bench_case *c, const shoal_session *s)
{
    const figures f = figures_of(b, c, s);
    set_int(o, "prompt_tokens", c->n_prompt);
    set_int(o, "gen_tokens", b->n_gen);
    set_int(o, "sequences", c->n_sequence);
    set_int(o, "repeat", b->n_repeat);
    set(o, "prefill_tok_per_s", f.prefill);
    set(o, "prefill_tok_per_s_min", c->prefill[0]);
    set(o, "prefill_tok_per_s_max", c->prefill[b->n_repeat - 1]);
    set(o, "decode_tok_per_s", f.decode);
    set(o, "decode_tok_per_s_min", c->decode[0]);
    set(o, "decode_tok_per_s_max", c->decode[b->n_repeat - 1]);
    set(o, "read_bandwidth_gb_per_s", f.bandwidth);
    set(o, "read_bandwidth_fraction", f.bandwidth_fraction);
    set(o, "weight_bytes_per_step", f.weight_bytes_per_step);
    set(o, "weight_bytes_per_token", f.weight_bytes);
    set(o, "cache_bytes_per_token", f.cache_bytes);
    set(o, "sent_bytes_per_token", f.sent_bytes);
    if (has_peaks(s)) {
        set(o, "prefill_dot_peak_fraction", f.prefill_peak_fraction);
        set(o, "decode_dot_peak_fraction", f.decode_peak_fraction);
    }
    shoal_phase_times both = {0};
    for (int32_t kind = 0; kind < SHOAL__BENCH_N_PART; kind++) {
        shoal_json_set(o, part_names[kind], part_json(c, kind, s->n_rank));
        shoal_phase_times_add(&both, &c->rank[0].part[kind].times, 1);
    }
    shoal_json_set(o, "phases", shoal_report_phases_json(&both));
    shoal_json_set(o, "draft", shoal_draft_report_json(&f.drafts));
}

/* What rank 0 reads. */
static size_t read_bytes(const shoal__bench *b, const shoal_session *s)
{
    size_t n_bytes = b->yardstick.n_bytes;
    if (s->devices.own != NULL)
        (void)shoal_model_device_weights(s->model, &n_bytes);
    return n_bytes;
}

/* With one case its figures are the document's own, with several they are in `cases`. */
static shoal_status print_json(shoal__bench *b, const shoal_session *s,
                               const shoal_rank_report *report)
{
    shoal_json *o = shoal_json_new_object();
    if (b->n_case == 1)
        set_case(o, b, &b->cases[0], s);
    shoal_json *cases = shoal_json_new_array();
    for (int32_t i = 0; i < b->n_case && b->n_case > 1; i++) {
        shoal_json *entry = shoal_json_new_object();
        set_case(entry, b, &b->cases[i], s);
        shoal_json_append(cases, entry);
    }
    if (b->n_case > 1)
        shoal_json_set(o, "cases", cases);
    else
        shoal_json_close(cases);
    const char *peak = multiplies_integers(s) ? "int8" : "f32";
    if (has_peaks(s)) {
        shoal_json_set(o, "dot_peak", shoal_json_new_string(peak, strlen(peak)));
        set(o, "int8_peak_gop_per_s", b->peaks.int8_gop_per_s);
        set(o, "f32_peak_gflop_per_s", b->peaks.f32_gflop_per_s);
        set(o, "pool_job_us", b->peaks.pool_job_us);
    }
    set_int(o, "read_buffer_bytes", (int64_t)read_bytes(b, s));
    shoal_json_set(o, "ranks", shoal_report_ranks_json(s, report));
    return shoal_print_json(o, s->log);
}

/* One line of the table: us per step on each rank shown. */
static void print_line(const char *name, const shoal__bench_case *c, int32_t kind, int32_t n_shown,
                       int64_t (*value)(const shoal__bench_case *, int32_t, int32_t))
{
    printf("  %-10s", name);
    for (int32_t r = 0; r < n_shown; r++)
        printf(" %10.1f", per((double)value(c, kind, r), c->rank[0].part[kind].n_step));
    putchar('\n');
}

#define PHASE_VALUE(name)                                                                          \
    static int64_t name##_value(const shoal__bench_case *c, int32_t kind, int32_t rank)            \
    {                                                                                              \
        return c->rank[rank].part[kind].times.name##_us;                                           \
    }
SHOAL_PHASE_MAP(PHASE_VALUE)
#undef PHASE_VALUE

static int64_t wall_value(const shoal__bench_case *c, int32_t kind, int32_t rank)
{
    return c->rank[rank].part[kind].step_us + idle_us(c, kind, rank);
}

static void print_phases(const shoal__bench_case *c, int32_t kind, int32_t n_rank)
{
    const int32_t n_shown = n_rank < RANKS_SHOWN ? n_rank : RANKS_SHOWN;
    printf("%s, %lld steps, us per step\n  %-10s", part_names[kind],
           (long long)c->rank[0].part[kind].n_step, "");
    for (int32_t r = 0; r < n_shown; r++)
        printf("     rank %d", (int)r);
    putchar('\n');
#define PRINT_PHASE(name) print_line(#name, c, kind, n_shown, name##_value);
    SHOAL_PHASE_MAP(PRINT_PHASE)
#undef PRINT_PHASE
    print_line("idle", c, kind, n_shown, idle_us);
    print_line("together", c, kind, n_shown, wall_value);
    if (n_rank > 1)
        printf("  expert_imbalance %.3f\n", c->imbalance[kind]);
}

static void print_case(shoal__bench *b, shoal__bench_case *c, const shoal_session *s)
{
    const figures f = figures_of(b, c, s);
    const char *peak = multiplies_integers(s) ? "int8 dot" : "f32 fma";
    const int32_t last = b->n_repeat - 1;
    char t[3][SHOAL_BYTES_TEXT];
    printf("prompt_tokens %d, sequences %d, gen_tokens %d, %d runs: median (min .. max)\n",
           (int)c->n_prompt, (int)c->n_sequence, (int)b->n_gen, (int)b->n_repeat);
    char peaks[2][64] = {"", ""};
    if (has_peaks(s)) {
        snprintf(peaks[0], sizeof peaks[0], ", %.1f %% of the %s peak",
                 100 * f.prefill_peak_fraction, peak);
        snprintf(peaks[1], sizeof peaks[1], ", %.1f %% of the %s peak",
                 100 * f.decode_peak_fraction, peak);
    }
    printf("prefill_tok_per_s %.1f (%.1f .. %.1f)%s\n", f.prefill, c->prefill[0], c->prefill[last],
           peaks[0]);
    printf("decode_tok_per_s %.1f (%.1f .. %.1f), %.1f %% of the read bandwidth%s\n", f.decode,
           c->decode[0], c->decode[last], 100 * f.bandwidth_fraction, peaks[1]);
    printf("read_bandwidth_gb_per_s %.2f (%.2f .. %.2f)\n", f.bandwidth, c->read[0], c->read[last]);
    printf("a token of decode reads %s of weights and %s of cache, and sends %s\n",
           shoal_bytes_text(t[0], (uint64_t)f.weight_bytes),
           shoal_bytes_text(t[1], (uint64_t)f.cache_bytes),
           shoal_bytes_text(t[2], (uint64_t)f.sent_bytes));
    if (s->engine_config.drafts.kind != SHOAL_DRAFT_NONE)
        printf("accepted_fraction %.3f\ntokens_per_step %.3f\nhops_per_token %.2f\n",
               f.drafts.accepted_fraction, f.drafts.tokens_per_step, f.drafts.hops_per_token);
    for (int32_t kind = 0; kind < SHOAL__BENCH_N_PART; kind++)
        print_phases(c, kind, s->n_rank);
}

/* All cases at a glance. */
static void print_overview(const shoal__bench *b)
{
    printf("prompt_tokens  sequences  prefill_tok_per_s  decode_tok_per_s\n");
    for (int32_t i = 0; i < b->n_case; i++) {
        const shoal__bench_case *c = &b->cases[i];
        printf("%13d  %9d  %17.1f  %16.1f\n", (int)c->n_prompt, (int)c->n_sequence,
               median(c->prefill, b->n_repeat), median(c->decode, b->n_repeat));
    }
}

shoal_status shoal__bench_print(shoal__bench *b, const shoal_session *s,
                                const shoal_rank_report *report)
{
    if (s->options.json)
        return print_json(b, s, report);
    char text[SHOAL_BYTES_TEXT];
    printf("%d ranks, %d threads on rank 0 (%s, %s), kernels %s; %s are read by each rank\n",
           (int)s->n_rank, (int)report[0].n_thread, report[0].pinned ? "pinned" : "not pinned",
           shoal_devices_id(&s->devices, 0), report[0].kernels,
           shoal_bytes_text(text, read_bytes(b, s)));
    if (has_peaks(s))
        printf("int8_peak_gop_per_s %.1f\nf32_peak_gflop_per_s %.1f\npool_job_us %.2f\n",
               b->peaks.int8_gop_per_s, b->peaks.f32_gflop_per_s, b->peaks.pool_job_us);
    for (int32_t i = 0; i < b->n_case; i++) {
        putchar('\n');
        print_case(b, &b->cases[i], s);
    }
    if (b->n_case > 1) {
        putchar('\n');
        print_overview(b);
    }
    return shoal_flush_stdout(s->log);
}
