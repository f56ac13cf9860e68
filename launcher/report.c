#include "launcher/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *shoal_bytes_text(char text[SHOAL_BYTES_TEXT], uint64_t n_bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    if (n_bytes < 1000) {
        snprintf(text, SHOAL_BYTES_TEXT, "%d B", (int)n_bytes);
        return text;
    }
    double value = (double)n_bytes / 1000;
    size_t unit = 0;
    while (value >= 999.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(text, SHOAL_BYTES_TEXT, "%.*f %s", value < 9.995 ? 2 : 1, value, units[unit]);
    return text;
}

static int64_t experts_owned(const shoal_session *s)
{
    int64_t n = 0;
    for (int32_t layer = 0; layer < s->placement.n_layer; layer++)
        n += shoal_placement_owned(&s->placement, layer, s->rank, NULL);
    return n;
}

void shoal_rank_report_fill(shoal_rank_report *mine, const shoal_session *s)
{
    const shoal_comm_counters *count = shoal_comm_count(s->comm);
    memset(mine, 0, sizeof *mine);
    snprintf(mine->kernels, sizeof mine->kernels, "%s", s->compute.kernels->name);
    mine->n_thread = shoal_pool_n_thread(s->compute.pool);
    mine->n_expert = experts_owned(s);
    mine->sent_bytes = count->sent_bytes;
    mine->received_bytes = count->received_bytes;
    mine->sent_messages = count->sent_messages;
    mine->received_messages = count->received_messages;
    mine->wait_us = count->wait_us;
    mine->weight_bytes_read = shoal_model_bytes_read(s->model);
    mine->expert_bytes_read = shoal_model_expert_bytes_read(s->model);
    mine->memory = *shoal_model_memory(s->model);
    mine->engine_bytes = s->engine_bytes;
    mine->count = *shoal_engine_count(s->engine);
    mine->pinned = s->cores.pinned;
}

/* What is allocated for a run on one rank: by the model, and by the engine above it. */
typedef struct memory_table {
    shoal_memory_table model;
    uint64_t engine_bytes;
} memory_table;

static uint64_t memory_total(const memory_table *m)
{
    return m->model.expert_bytes + m->model.attention_bytes + m->model.other_weight_bytes +
           m->model.kv_bytes + m->model.exchange_bytes + m->model.step_bytes + m->engine_bytes;
}

static void log_memory(const shoal_session *s, const memory_table *table, int32_t rank)
{
    const shoal_memory_table *m = &table->model;
    char t[8][SHOAL_BYTES_TEXT];
    char mapped[SHOAL_BYTES_TEXT], from[512] = "";
    if (m->mapped_bytes > 0)
        snprintf(from, sizeof from, "; mapped from %s, shared by the ranks of a host: %s",
                 s->options.cache, shoal_bytes_text(mapped, m->mapped_bytes));
    shoal_log_info(
        s->log,
        "memory of rank %d (%s): experts %s, attention %s, other weights %s, kv cache "
        "%s, exchange %s, step %s, engine %s; together %s%s",
        (int)rank, shoal_comm_host(s->comm, rank), shoal_bytes_text(t[0], m->expert_bytes),
        shoal_bytes_text(t[1], m->attention_bytes), shoal_bytes_text(t[2], m->other_weight_bytes),
        shoal_bytes_text(t[3], m->kv_bytes), shoal_bytes_text(t[4], m->exchange_bytes),
        shoal_bytes_text(t[5], m->step_bytes), shoal_bytes_text(t[6], table->engine_bytes),
        shoal_bytes_text(t[7], memory_total(table)), from);
}

/* What the numbers will be made with. */
static void log_choices(const shoal_session *s)
{
    const shoal_wire *wire = shoal_model_wire(s->model);
    shoal_log_info(
        s->log,
        "kernels %s with %d threads, math %s, weights %s, kv cache %s, rows travel as "
        "%s and return as %s (%s)",
        s->compute.kernels->name, (int)shoal_pool_n_thread(s->compute.pool),
        s->model_config.fast ? "fast" : "f32", shoal_weights_text(s->model_config.weights),
        s->model_config.kv_dtype == SHOAL_KV_F32 ? "f32" : "bf16", shoal_wire_text(wire->dispatch),
        shoal_wire_text(wire->combine), wire->kind == SHOAL_COMBINE_EXACT ? "exact" : "reduced");
}

shoal_status shoal_report_memory(const shoal_session *s)
{
    enum { EACH_RANK_MAX = 16 }; /* beyond, only the fullest is named */
    memory_table mine = {*shoal_model_memory(s->model), s->engine_bytes};
    memory_table *all = NULL;
    if (s->rank == 0) {
        all = calloc((size_t)s->n_rank, sizeof *all);
        if (all == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for the table of %d ranks",
                              (int)s->n_rank);
    }
    shoal_status status = shoal_comm_gather(s->comm, all, &mine, sizeof mine, 0);
    if (status == SHOAL_OK && all != NULL) {
        log_choices(s);
        int32_t fullest = 0;
        uint64_t sum_bytes = 0;
        for (int32_t r = 0; r < s->n_rank; r++) {
            sum_bytes += memory_total(&all[r]);
            if (memory_total(&all[r]) > memory_total(&all[fullest]))
                fullest = r;
            if (s->n_rank <= EACH_RANK_MAX)
                log_memory(s, &all[r], r);
        }
        char text[SHOAL_BYTES_TEXT];
        if (s->n_rank > EACH_RANK_MAX) {
            shoal_log_info(s->log, "memory of %d ranks: %s; the fullest:", (int)s->n_rank,
                           shoal_bytes_text(text, sum_bytes));
            log_memory(s, &all[fullest], fullest);
        }
    }
    free(all);
    return status;
}

shoal_speeds shoal_speeds_of(const shoal_event *done)
{
    shoal_speeds v = {.n_prompt = done->n_prompt, .n_generated = done->n_generated};
    int64_t first_us = done->first_token_us > 0 ? done->first_token_us : done->done_us;
    v.prefill_us = first_us - done->submitted_us;
    v.decode_us = done->done_us - first_us;
    if (v.prefill_us > 0)
        v.prefill_tok_per_s = (double)v.n_prompt * 1e6 / (double)v.prefill_us;
    if (v.decode_us > 0 && v.n_generated > 1)
        v.decode_tok_per_s = (double)(v.n_generated - 1) * 1e6 / (double)v.decode_us;
    return v;
}

shoal_draft_report shoal_draft_report_of(const shoal_engine_counters *count, int64_t n_token,
                                         int32_t n_rank)
{
    shoal_draft_report v = {.n_accepted = count->n_draft_accepted,
                            .n_proposed = count->n_draft_proposed,
                            .tokens_per_step = 1};
    if (v.n_proposed > 0)
        v.accepted_fraction = (double)v.n_accepted / (double)v.n_proposed;
    if (count->n_decode_step > 0)
        v.tokens_per_step = (double)count->n_decode_token / (double)count->n_decode_step;
    if (n_rank > 1 && n_token > 0)
        v.hops_per_token = 2.0 * (double)count->n_exchange / (double)n_token;
    return v;
}

shoal_json *shoal_draft_report_json(const shoal_draft_report *report)
{
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "accepted", shoal_json_new_int(report->n_accepted));
    shoal_json_set(o, "proposed", shoal_json_new_int(report->n_proposed));
    shoal_json_set(o, "accepted_fraction", shoal_json_new_number(report->accepted_fraction));
    shoal_json_set(o, "tokens_per_step", shoal_json_new_number(report->tokens_per_step));
    shoal_json_set(o, "hops_per_token", shoal_json_new_number(report->hops_per_token));
    return o;
}

const char *shoal_draft_report_text(char text[SHOAL_DRAFT_TEXT], const shoal_draft_report *report,
                                    const shoal_session *session)
{
    text[0] = '\0';
    if (session->engine_config.drafts.kind == SHOAL_DRAFT_NONE)
        return text;
    int n = snprintf(text, SHOAL_DRAFT_TEXT,
                     ", %lld of %lld drafts accepted (%.1f %%), %.2f tokens per step",
                     (long long)report->n_accepted, (long long)report->n_proposed,
                     100 * report->accepted_fraction, report->tokens_per_step);
    if (session->n_rank > 1 && n > 0 && n < SHOAL_DRAFT_TEXT)
        snprintf(text + n, SHOAL_DRAFT_TEXT - (size_t)n, ", %.2f hops per token",
                 report->hops_per_token);
    return text;
}

uint64_t shoal_report_sent_bytes(const shoal_rank_report *report, int32_t n_rank)
{
    uint64_t n_bytes = 0;
    for (int32_t r = 0; r < n_rank; r++)
        n_bytes += report[r].sent_bytes;
    return n_bytes;
}

static void set_int(shoal_json *object, const char *key, uint64_t value)
{
    shoal_json_set(object, key, shoal_json_new_int((int64_t)value));
}

static void set_us(shoal_json *object, const char *key, int64_t value_us)
{
    shoal_json_set(object, key, shoal_json_new_int(value_us));
}

shoal_json *shoal_report_phases_json(const shoal_phase_times *times)
{
    shoal_json *o = shoal_json_new_object();
#define SET_PHASE(name) set_us(o, #name "_us", times->name##_us);
    SHOAL_PHASE_MAP(SET_PHASE)
#undef SET_PHASE
    return o;
}

static shoal_json *memory_json(const memory_table *table)
{
    const shoal_memory_table *m = &table->model;
    shoal_json *o = shoal_json_new_object();
    set_int(o, "expert_bytes", m->expert_bytes);
    set_int(o, "attention_bytes", m->attention_bytes);
    set_int(o, "other_weight_bytes", m->other_weight_bytes);
    set_int(o, "mapped_bytes", m->mapped_bytes);
    set_int(o, "kv_bytes", m->kv_bytes);
    set_int(o, "exchange_bytes", m->exchange_bytes);
    set_int(o, "step_bytes", m->step_bytes);
    set_int(o, "engine_bytes", table->engine_bytes);
    set_int(o, "total_bytes", memory_total(table));
    return o;
}

shoal_json *shoal_report_ranks_json(const shoal_session *s, const shoal_rank_report *report)
{
    shoal_json *ranks = shoal_json_new_array();
    for (int32_t r = 0; r < s->n_rank; r++) {
        const shoal_rank_report *from = &report[r];
        const char *host = shoal_comm_host(s->comm, r);
        shoal_json *o = shoal_json_new_object();
        shoal_json_set(o, "rank", shoal_json_new_int(r));
        shoal_json_set(o, "host", shoal_json_new_string(host, strlen(host)));
        set_int(o, "experts", (uint64_t)from->n_expert);
        set_int(o, "threads", (uint64_t)from->n_thread);
        shoal_json_set(o, "pinned", shoal_json_new_bool(from->pinned != 0));
        shoal_json_set(o, "kernels", shoal_json_new_string(from->kernels, strlen(from->kernels)));
        set_int(o, "sent_bytes", from->sent_bytes);
        set_int(o, "received_bytes", from->received_bytes);
        set_int(o, "sent_messages", from->sent_messages);
        set_int(o, "received_messages", from->received_messages);
        set_us(o, "wait_us", from->wait_us);
        set_int(o, "weight_bytes_read", from->weight_bytes_read);
        set_int(o, "expert_bytes_read", from->expert_bytes_read);
        set_int(o, "steps", (uint64_t)from->count.n_step);
        set_int(o, "prompt_rows", (uint64_t)from->count.n_prompt_row);
        set_int(o, "decode_rows", (uint64_t)from->count.n_decode_row);
        set_us(o, "step_us", from->count.step_us);
        memory_table memory = {from->memory, from->engine_bytes};
        shoal_json_set(o, "memory", memory_json(&memory));
        shoal_json_set(o, "phases", shoal_report_phases_json(&from->count.times));
        shoal_json_append(ranks, o);
    }
    return ranks;
}

shoal_status shoal_flush_stdout(shoal_log *log)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_IO, "standard output: %s", strerror(errno));
}

shoal_status shoal_print_json(shoal_json *doc, shoal_log *log)
{
    char *line = shoal_json_dump(doc);
    shoal_json_close(doc);
    fputs(line, stdout);
    fputc('\n', stdout);
    free(line);
    return shoal_flush_stdout(log);
}
