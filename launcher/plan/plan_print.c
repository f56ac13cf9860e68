/* The plan as people read it: a table over rank counts, then one count in detail, then sentences.
 */
#include "launcher/plan/plan.h"
#include "launcher/report.h"

#include <string.h>

static const char *speed_text(char text[16], double tok_per_s)
{
    snprintf(text, 16, tok_per_s < 100 ? "%.1f" : "%.0f", tok_per_s);
    return text;
}

static void print_head(const shoal__plan *plan)
{
    const shoal_predict_run *run = &plan->run;
    const shoal_model_measured *m = &plan->count[0].measured;
    const shoal_parameter_count count = shoal_spec_count(&plan->spec);
    int32_t n_gpu = 0;
    for (int32_t r = 0; r < plan->cluster.n_rank; r++)
        n_gpu += plan->cluster.rank[r].gpu >= 0;
    printf("model    %s: %s, %.1f G parameters, %.1f G active; %d MoE layers, %d of %d experts per "
           "token\n",
           plan->options->model, plan->spec.family->model_type, (double)count.total * 1e-9,
           (double)count.active * 1e-9, (int)plan->spec.n_moe_layer, (int)plan->spec.router.top_k,
           (int)plan->spec.router.n_expert);
    printf(
        "run      weights %s, math %s, cache %s; %d prompt and %d generated tokens, chunks of %d; "
        "rows travel as %s, results as %s\n",
        shoal_weights_text(run->weights), run->fast ? "fast" : "f32",
        run->kv_dtype == SHOAL_KV_F32 ? "f32" : "bf16", (int)run->n_prompt, (int)run->n_gen,
        (int)run->prefill_chunk, shoal_wire_text(m->wire.dispatch),
        shoal_wire_text(m->wire.combine));
    printf("cluster  %s: %d hosts, %d ranks", plan->cluster.name, (int)plan->cluster.n_host,
           (int)plan->cluster.n_rank);
    if (n_gpu > 0)
        printf(
            ", of them %d GPUs: planned hardware. Their figures\n"
            "         are published rates of the devices; no run on such a GPU has been compared",
            (int)n_gpu);
    printf("\nrouting  %s\n\n", plan->routing.name);
}

static void print_cases(const shoal__plan *plan, const shoal__plan_count *c, int32_t i)
{
    char text[4][16];
    const shoal__plan_case *exact = &c->cases[2 * i], *reduced = &c->cases[2 * i + 1];
    (void)plan;
    printf("  %8s %8s %9s %9s", speed_text(text[0], exact->speed.decode_tok_per_s),
           speed_text(text[1], reduced->speed.decode_tok_per_s),
           speed_text(text[2], exact->speed.prefill_tok_per_s),
           speed_text(text[3], reduced->speed.prefill_tok_per_s));
}

static void print_table(const shoal__plan *plan)
{
    printf("                               ");
    for (int32_t i = 0; i < plan->n_sequences; i++)
        printf("  %d sequence%s, tok/s%*s", (int)plan->sequences[i],
               plan->sequences[i] == 1 ? "" : "s",
               plan->sequences[i] == 1   ? 18
               : plan->sequences[i] < 10 ? 17
                                         : 16,
               "");
    printf("\nranks with    fullest rank,      ");
    for (int32_t i = 0; i < plan->n_sequences; i++)
        printf("  decode   decode   prefill   prefill ");
    printf("\n      seqs.   GB of its room     ");
    for (int32_t i = 0; i < plan->n_sequences; i++)
        printf("   exact  reduced     exact   reduced ");
    printf(" bound of\n");
    for (int32_t n = 0; n < plan->n_count; n++) {
        const shoal__plan_count *c = &plan->count[n];
        printf("%5d %5d %8.2f of %-7.2f%s", (int)c->n_rank, (int)c->n_source,
               (double)c->memory[c->fullest].total_bytes * 1e-9,
               shoal_predict_room(&c->cluster, c->memory, c->fullest) * 1e-9,
               n == plan->best ? "*" : " ");
        if (!c->fits) {
            printf("  does not fit\n");
            continue;
        }
        for (int32_t i = 0; i < plan->n_sequences; i++)
            print_cases(plan, c, i);
        const shoal__plan_case *first = shoal__plan_main_case(plan, c);
        printf("  %s, prefill %s\n", shoal_bound_text(first->speed.decode.bound),
               shoal_bound_text(first->speed.prefill.bound));
    }
    printf("(`bound of`: decode with %d sequence%s, %s; *: the best count for %d prompt and %d "
           "generated "
           "tokens of each)\n\n",
           (int)plan->sequences[0], plan->sequences[0] == 1 ? "" : "s",
           plan->run.combine == SHOAL_COMBINE_EXACT ? "exact" : "reduced", (int)plan->run.n_prompt,
           (int)plan->run.n_gen);
}

static void print_memory(const shoal__plan_count *c)
{
    char t[10][SHOAL_BYTES_TEXT];
    const shoal_rank_memory *m = &c->memory[c->fullest];
    const shoal_cluster_rank *rank = &c->cluster.rank[c->fullest];
    const uint64_t room = (uint64_t)shoal_predict_room(&c->cluster, c->memory, c->fullest);
    const bool gpu = rank->gpu >= 0;
    printf("memory of rank %d (%s%s%s), the fullest of %d: experts %s, attention %s, other weights "
           "%s, "
           "kv cache %s, exchange %s, step %s, engine %s; %s %s of %s%s%s\n",
           (int)c->fullest, c->cluster.host[rank->host].name, rank->device[0] != '\0' ? ", " : "",
           rank->device, (int)c->n_rank, shoal_bytes_text(t[0], m->model.expert_bytes),
           shoal_bytes_text(t[1], m->model.attention_bytes),
           shoal_bytes_text(t[2], m->model.other_weight_bytes),
           shoal_bytes_text(t[3], m->model.kv_bytes),
           shoal_bytes_text(t[4], m->model.exchange_bytes),
           shoal_bytes_text(t[5], m->model.step_bytes), shoal_bytes_text(t[6], m->engine_bytes),
           gpu ? "in the GPU" : "together", shoal_bytes_text(t[7], m->total_bytes),
           shoal_bytes_text(t[8], room), gpu ? ", in its host's memory " : "",
           gpu ? shoal_bytes_text(t[9], m->host_bytes) : "");
}

static void print_step(const char *name, const shoal_step_prediction *s, int32_t n_moe_layer)
{
    char t[2][SHOAL_BYTES_TEXT];
    const double per_token = s->exchange_bytes / s->tokens;
    printf("  %-8s %9.2f ms for %.0f tokens: attention %.0f %%, experts %.0f %%, waiting for the "
           "fullest rank %.0f %%, exchange %.0f %%, logits %.0f %%, control %.0f %%\n",
           name, s->step_us * 1e-3, s->tokens, 100 * s->attention_us / s->step_us,
           100 * s->experts_us / s->step_us, 100 * s->imbalance_us / s->step_us,
           100 * s->exchange_us / s->step_us, 100 * s->logits_us / s->step_us,
           100 * s->control_us / s->step_us);
    printf(
        "           a token sends %s (%s per layer); without what bounds it, %s, a step would be "
        "%.2f times as fast\n",
        shoal_bytes_text(t[0], (uint64_t)per_token),
        shoal_bytes_text(t[1], (uint64_t)(n_moe_layer > 0 ? per_token / n_moe_layer : 0)),
        shoal_bound_text(s->bound), s->gain[s->bound]);
}

static void print_detail(const shoal__plan *plan, const shoal__plan_count *c)
{
    print_memory(c);
    for (int32_t i = 0; i < plan->n_case && c->fits; i++) {
        const shoal__plan_case *one = &c->cases[i];
        if (one->combine != plan->run.combine)
            continue;
        printf("%d ranks, %d sequence%s, %s:\n", (int)c->n_rank, (int)one->n_sequence,
               one->n_sequence == 1 ? "" : "s",
               one->combine == SHOAL_COMBINE_EXACT ? "exact" : "reduced");
        print_step("decode", &one->speed.decode, plan->spec.n_moe_layer);
        print_step("prefill", &one->speed.prefill, plan->spec.n_moe_layer);
    }
}

/* How even the experts' work is. */
static void say_balance(const shoal__plan *plan, const shoal__plan_count *c)
{
    for (int32_t i = 0; i < plan->n_sequences && c->n_rank > 1; i++) {
        const shoal_routing_means *m = &c->routed[i];
        printf(
            "balance  at %d sequence%s the fullest of %d ranks reads %.2f experts of a layer where "
            "the mean is %.2f: %.1f times as many. A token goes to %.2f other ranks\n",
            (int)plan->sequences[i], plan->sequences[i] == 1 ? "" : "s", (int)c->n_rank,
            m->max_active, m->mean_active, m->max_active / m->mean_active, m->remote_rows);
    }
}

static void say_wire(const shoal__plan *plan, const shoal__plan_count *c)
{
    const shoal_speed *s = &shoal__plan_main_case(plan, c)->speed;
    if (s->prefill.bound == SHOAL_BOUND_WIRE)
        printf(
            "wire     prefill is bound by the wire: with links of no width limit it would be %.1f "
            "times as fast. %s\n",
            s->prefill.gain[SHOAL_BOUND_WIRE],
            plan->run.combine == SHOAL_COMBINE_EXACT
                ? "--combine reduced sends less, faster links help, more ranks hardly"
                : "Faster links help, more ranks hardly");
    if (s->decode.bound == SHOAL_BOUND_LATENCY)
        printf(
            "latency  decode waits for messages rather than for bytes: %.1f times as fast if they "
            "took no time. More sequences at once share the wait\n",
            s->decode.gain[SHOAL_BOUND_LATENCY]);
}

/* Why the count behind the best is better or worse: what its steps have more and less of. */
static void say_next(const shoal__plan *plan)
{
    if (plan->best < 0 || plan->best + 1 >= plan->n_count)
        return;
    const shoal__plan_count *a = &plan->count[plan->best], *b = &plan->count[plan->best + 1];
    const shoal_step_prediction *x = &shoal__plan_main_case(plan, a)->speed.decode;
    const shoal_step_prediction *y = &shoal__plan_main_case(plan, b)->speed.decode;
    if (!b->fits)
        return;
    const struct {
        const char *name;
        double change_us;
    } part[] = {{"attention", y->attention_us - x->attention_us},
                {"experts", y->experts_us - x->experts_us},
                {"waiting for the fullest rank", y->imbalance_us - x->imbalance_us},
                {"exchange", y->exchange_us - x->exchange_us},
                {"logits", y->logits_us - x->logits_us},
                {"control", y->control_us - x->control_us}};
    size_t more = 0, less = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        more = part[i].change_us > part[more].change_us ? i : more;
        less = part[i].change_us < part[less].change_us ? i : less;
    }
    printf("next     %d ranks instead of %d: a decode step takes %.2f instead of %.2f ms",
           (int)b->n_rank, (int)a->n_rank, y->step_us * 1e-3, x->step_us * 1e-3);
    if (part[less].change_us < 0)
        printf("; it saves %.2f ms of %s", -part[less].change_us * 1e-3, part[less].name);
    if (part[more].change_us > 0)
        printf("; it costs %.2f ms of %s", part[more].change_us * 1e-3, part[more].name);
    printf(". So more ranks %s\n", y->step_us < x->step_us
                                       ? "help decode, but not enough (3 %) over prompt and answer"
                                       : "hurt here");
}

static void say_costs(const shoal__plan *plan, const shoal__plan_count *c)
{
    for (int32_t i = 0; i < plan->n_case; i++) {
        const shoal__plan_case *one = &c->cases[i];
        if (one->combine != plan->run.combine || (c->watts <= 0 && c->price_per_hour <= 0))
            continue;
        const double in = one->speed.prefill_tok_per_s, out = one->speed.decode_tok_per_s;
        printf("costs    a million tokens at %d sequence%s:", (int)one->n_sequence,
               one->n_sequence == 1 ? "" : "s");
        if (c->watts > 0)
            printf(" %.2f kWh of prompt, %.2f kWh generated (%.0f W)", c->watts / in / 3.6,
                   c->watts / out / 3.6, c->watts);
        if (c->price_per_hour > 0)
            printf("%s %.2f of prompt, %.2f generated (at %.2f an hour)", c->watts > 0 ? ";" : "",
                   c->price_per_hour / 3600 / in * 1e6, c->price_per_hour / 3600 / out * 1e6,
                   c->price_per_hour);
        printf("\n");
    }
}

static void say_sources(const shoal__plan_count *c)
{
    if (c->n_source == c->n_rank)
        return;
    printf("shares   %d of %d ranks hold sequences; the others hold experts only, which is faster "
           "here "
           "or all that fits\n",
           (int)c->n_source, (int)c->n_rank);
}

static void say_advice(const shoal__plan *plan)
{
    const shoal__plan_count *c = &plan->count[plan->n_count - 1];
    char text[2][SHOAL_BYTES_TEXT];
    uint64_t taken = 0, room = 0;
    for (int32_t r = 0; r < c->n_rank; r++) {
        taken += c->memory[r].total_bytes;
        room += c->cluster.rank[r].memory_bytes;
    }
    printf("It does not fit %d ranks: %s are needed with --weights %s, %s are there. What would "
           "fit:\n",
           (int)c->n_rank, shoal_bytes_text(text[0], taken), shoal_weights_text(plan->run.weights),
           shoal_bytes_text(text[1], room));
    for (int32_t w = 0; w < SHOAL__PLAN_WEIGHTS; w++) {
        const shoal__plan_advice *a = &plan->advice[w];
        const char *name = shoal_weights_text(a->weights);
        if (a->here)
            printf("  --weights %-7s these %d ranks\n", name, (int)a->n_rank);
        else if (a->n_rank > 0)
            printf("  --weights %-7s %d ranks, the further ones like the last here\n", name,
                   (int)a->n_rank);
        else
            printf("  --weights %-7s no number of such ranks up to %d: one that holds sequences "
                   "takes %s "
                   "besides experts\n",
                   name, SHOAL_MAX_RANK, shoal_bytes_text(text[0], (uint64_t)a->source_bytes));
    }
}

void shoal__plan_print(const shoal__plan *plan)
{
    print_head(plan);
    print_table(plan);
    const shoal__plan_count *shown = &plan->count[plan->best >= 0 ? plan->best : plan->n_count - 1];
    print_detail(plan, shown);
    printf("\n");
    if (plan->best >= 0)
        printf("best     %d rank%s on %d host%s\n", (int)shown->n_rank,
               shown->n_rank == 1 ? "" : "s", (int)shown->cluster.n_host,
               shown->cluster.n_host == 1 ? "" : "s");
    say_sources(shown);
    say_balance(plan, shown);
    if (shown->fits) {
        say_wire(plan, shown);
        say_next(plan);
        say_costs(plan, shown);
    }
    if (plan->has_advice)
        say_advice(plan);
}
