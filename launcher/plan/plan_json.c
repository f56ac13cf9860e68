/* The list of `plan --json`. Units are in the names. */
#include "launcher/plan/plan.h"

#include <math.h>
#include <string.h>

static void set_number(shoal_json *o, const char *key, double value)
{
    shoal_json_set(o, key, shoal_json_new_number(value));
}

static void set_int(shoal_json *o, const char *key, int64_t value)
{
    shoal_json_set(o, key, shoal_json_new_int(value));
}

static void set_text(shoal_json *o, const char *key, const char *text)
{
    shoal_json_set(o, key, shoal_json_new_string(text, strlen(text)));
}

static shoal_json *numbers(const double *value, int32_t n)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < n; i++)
        shoal_json_append(list, shoal_json_new_number(value[i]));
    return list;
}

static shoal_json *memory_json(const shoal_rank_memory *m)
{
    shoal_json *o = shoal_json_new_object();
    set_int(o, "experts", (int64_t)m->model.expert_bytes);
    set_int(o, "attention", (int64_t)m->model.attention_bytes);
    set_int(o, "other_weights", (int64_t)m->model.other_weight_bytes);
    set_int(o, "kv_cache", (int64_t)m->model.kv_bytes);
    set_int(o, "exchange", (int64_t)m->model.exchange_bytes);
    set_int(o, "step", (int64_t)m->model.step_bytes);
    set_int(o, "engine", (int64_t)m->engine_bytes);
    return o;
}

static shoal_json *step_json(const shoal_step_prediction *s)
{
    shoal_json *o = shoal_json_new_object(), *gain = shoal_json_new_object();
    set_number(o, "step_us", s->step_us);
    set_number(o, "attention_us", s->attention_us);
    set_number(o, "experts_us", s->experts_us);
    set_number(o, "imbalance_us", s->imbalance_us);
    set_number(o, "exchange_us", s->exchange_us);
    set_number(o, "logits_us", s->logits_us);
    set_number(o, "control_us", s->control_us);
    set_number(o, "tokens", s->tokens);
    set_number(o, "exchange_bytes_per_token", s->exchange_bytes / s->tokens);
    set_number(o, "exchange_messages", s->exchange_messages);
    set_text(o, "bound", shoal_bound_text(s->bound));
    for (shoal_bound b = SHOAL_BOUND_READ; b < SHOAL_N_BOUND; b++)
        set_number(gain, shoal_bound_text(b), s->gain[b]);
    shoal_json_set(o, "gain_without", gain);
    return o;
}

static void set_costs(shoal_json *o, const shoal__plan_count *c, double tok_per_s,
                      const char *energy, const char *price)
{
    if (c->watts > 0)
        set_number(o, energy, c->watts / tok_per_s / 3.6);
    if (c->price_per_hour > 0)
        set_number(o, price, c->price_per_hour / 3600 / tok_per_s * 1e6);
}

static shoal_json *case_json(const shoal__plan_count *c, const shoal__plan_case *one)
{
    shoal_json *o = shoal_json_new_object();
    set_int(o, "sequences", one->n_sequence);
    set_text(o, "combine", one->combine == SHOAL_COMBINE_EXACT ? "exact" : "reduced");
    set_number(o, "prefill_tok_per_s", one->speed.prefill_tok_per_s);
    set_number(o, "decode_tok_per_s", one->speed.decode_tok_per_s);
    shoal_json_set(o, "prefill", step_json(&one->speed.prefill));
    shoal_json_set(o, "decode", step_json(&one->speed.decode));
    set_costs(o, c, one->speed.decode_tok_per_s, "decode_kwh_per_million_tokens",
              "decode_price_per_million_tokens");
    set_costs(o, c, one->speed.prefill_tok_per_s, "prefill_kwh_per_million_tokens",
              "prefill_price_per_million_tokens");
    return o;
}

static shoal_json *routing_json(const shoal__plan *plan, const shoal__plan_count *c)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < plan->n_sequences; i++) {
        const shoal_routing_means *m = &c->routed[i];
        shoal_json *o = shoal_json_new_object();
        set_int(o, "sequences", plan->sequences[i]);
        set_number(o, "active_experts_fullest", m->max_active);
        set_number(o, "active_experts_mean", m->mean_active);
        set_number(o, "slots_fullest", m->max_slots);
        set_number(o, "slots_mean", m->mean_slots);
        set_number(o, "remote_ranks_per_token", m->remote_rows);
        shoal_json_append(list, o);
    }
    return list;
}

/* Ranks and their memory. */
static void set_ranks(shoal_json *o, const shoal__plan_count *c)
{
    shoal_json *bytes = shoal_json_new_array(), *there = shoal_json_new_array();
    shoal_json *host = shoal_json_new_array();
    shoal_json *memory = shoal_json_new_array(), *device = shoal_json_new_array();
    for (int32_t r = 0; r < c->n_rank; r++) {
        const shoal_cluster_rank *rank = &c->cluster.rank[r];
        shoal_json_append(bytes, shoal_json_new_int((int64_t)c->memory[r].total_bytes));
        const double room = shoal_predict_room(&c->cluster, c->memory, r);
        shoal_json_append(host, shoal_json_new_int((int64_t)c->memory[r].host_bytes));
        shoal_json_append(there, shoal_json_new_int((int64_t)room));
        shoal_json_append(memory, memory_json(&c->memory[r]));
        shoal_json_append(
            device, shoal_json_new_string(rank->gpu >= 0 ? "cuda" : "cpu", rank->gpu >= 0 ? 4 : 3));
    }
    shoal_json_set(o, "bytes_per_rank", bytes);
    shoal_json_set(o, "room_bytes_per_rank", there);
    shoal_json_set(o, "host_bytes_per_rank", host);
    shoal_json_set(o, "memory_bytes_by_class", memory);
    shoal_json_set(o, "device", device);
    shoal_json_set(o, "expert_weight", numbers(c->expert_weight, c->n_rank));
    shoal_json_set(o, "sequence_weight", numbers(c->sequence_weight, c->n_rank));
}

static shoal_json *advice_json(const shoal__plan *plan)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t w = 0; w < SHOAL__PLAN_WEIGHTS && plan->has_advice; w++) {
        const shoal__plan_advice *a = &plan->advice[w];
        shoal_json *o = shoal_json_new_object();
        set_text(o, "weights", shoal_weights_text(a->weights));
        shoal_json_set(o, "fits_here", shoal_json_new_bool(a->here));
        set_number(o, "source_bytes", a->source_bytes);
        if (a->n_rank > 0)
            set_int(o, "ranks_needed", a->n_rank);
        shoal_json_append(list, o);
    }
    return list;
}

static shoal_json *count_json(const shoal__plan *plan, int32_t index)
{
    const shoal__plan_count *c = &plan->count[index];
    const shoal__plan_case *first = shoal__plan_main_case(plan, c);
    const double nothing = NAN; /* null */
    shoal_json *o = shoal_json_new_object(), *cases = shoal_json_new_array();
    set_int(o, "ranks", c->n_rank);
    set_int(o, "hosts", c->cluster.n_host);
    shoal_json_set(o, "fits", shoal_json_new_bool(c->fits));
    set_ranks(o, c);
    set_number(o, "decode_tok_per_s", c->fits ? first->speed.decode_tok_per_s : nothing);
    set_number(o, "prefill_tok_per_s", c->fits ? first->speed.prefill_tok_per_s : nothing);
    set_text(o, "bound",
             shoal_bound_text(c->fits ? first->speed.decode.bound : SHOAL_BOUND_MEMORY));
    set_text(o, "prefill_bound",
             shoal_bound_text(c->fits ? first->speed.prefill.bound : SHOAL_BOUND_MEMORY));
    shoal_json_set(o, "best", shoal_json_new_bool(index == plan->best));
    shoal_json_set(o, "planned_hardware", shoal_json_new_bool(plan->has_gpu));
    set_text(o, "routing", plan->routing.name);
    shoal_json_set(o, "routed", routing_json(plan, c));
    for (int32_t i = 0; i < plan->n_case && c->fits; i++)
        shoal_json_append(cases, case_json(c, &c->cases[i]));
    shoal_json_set(o, "cases", cases);
    if (c->watts > 0)
        set_number(o, "watts", c->watts);
    if (c->price_per_hour > 0)
        set_number(o, "price_per_hour", c->price_per_hour);
    if (!c->fits && index == plan->n_count - 1)
        shoal_json_set(o, "would_fit", advice_json(plan));
    return o;
}

shoal_json *shoal__plan_json(const shoal__plan *plan)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < plan->n_count; i++)
        shoal_json_append(list, count_json(plan, i));
    return list;
}
