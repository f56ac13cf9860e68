#include "launcher/report.h"

#include "launcher/memory_report.h"

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

static shoal_json *memory_json(const shoal_rank_report *from)
{
    const shoal_memory_table *m = &from->memory;
    shoal_json *o = shoal_json_new_object();
    set_int(o, "expert_bytes", m->expert_bytes);
    set_int(o, "attention_bytes", m->attention_bytes);
    set_int(o, "other_weight_bytes", m->other_weight_bytes);
    set_int(o, "mapped_bytes", m->mapped_bytes);
    set_int(o, "kv_bytes", m->kv_bytes);
    set_int(o, "exchange_bytes", m->exchange_bytes);
    set_int(o, "step_bytes", m->step_bytes);
    set_int(o, "engine_bytes", from->engine_bytes);
    set_int(o, "total_bytes", shoal_memory_total(m, from->engine_bytes));
    set_int(o, "device_bytes", m->device_bytes);
    set_int(o, "pinned_bytes", m->pinned_bytes);
    return o;
}

/* The processor has no name here: what it computes with says it. */
static void set_device(shoal_json *o, const shoal_session *s, int32_t rank)
{
    const shoal_device_info *info = &s->devices.rank[rank].info;
    const char *id = shoal_devices_id(&s->devices, rank);
    shoal_json_set(o, "device", shoal_json_new_string(id, strlen(id)));
    if (info->id[0] == '\0')
        return;
    shoal_json_set(o, "device_name", shoal_json_new_string(info->name, strlen(info->name)));
    set_int(o, "device_version", (uint64_t)info->version);
    set_int(o, "device_memory_bytes", info->memory_bytes);
    set_int(o, "device_free_bytes", info->free_bytes);
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
        set_device(o, s, r);
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
        shoal_json_set(o, "memory", memory_json(from));
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
