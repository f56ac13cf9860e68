#include "launcher/check_run.h"

#include "launcher/report.h"

#include <stdlib.h>
#include <string.h>

void shoal_check_close(shoal_check *check)
{
    for (int32_t p = 0; p < SHOAL_CHECK_N_PROMPT; p++) {
        free(check->prompt[p].token);
        shoal_check_rows_close(&check->prompt[p].reference);
    }
    *check = (shoal_check){0};
}

/* ---- the reference: the whole model on rank 0 ---- */

typedef struct reference {
    shoal_session *session;
    shoal_comm *comm; /* of one rank */
    shoal_placement placement;
    shoal_model *model;
    shoal_check_rows step; /* of one step */
    shoal_status polled;   /* what the session's comm found meanwhile */
} reference;

/* The other ranks wait: they must hear from this one. */
static void poll_session(void *arg)
{
    reference *r = arg;
    if (r->polled == SHOAL_OK)
        r->polled = shoal_comm_poll(r->session->comm);
}

static void progress(void *arg, int64_t n_tensor, int64_t n_tensor_total, uint64_t n_bytes,
                     uint64_t n_bytes_total)
{
    (void)n_tensor, (void)n_tensor_total, (void)n_bytes, (void)n_bytes_total;
    poll_session(arg);
}

static uint64_t model_bytes(const shoal_model *model)
{
    const shoal_memory_table *m = shoal_model_memory(model);
    return m->expert_bytes + m->attention_bytes + m->other_weight_bytes + m->kv_bytes +
           m->exchange_bytes + m->step_bytes;
}

static shoal_status open_reference(reference *r, const shoal_check *check)
{
    shoal_session *s = r->session;
    const shoal_spec *spec = &s->spec;
    shoal_transport *transport;
    SHOAL_TRY(shoal_transport_open_self(&transport));
    const shoal_comm_config alone = {.deadline_s = s->options.deadline_s};
    SHOAL_TRY(shoal_comm_open(&r->comm, transport, &alone, s->log));
    SHOAL_TRY(shoal_placement_open(&r->placement, spec->n_moe_layer, spec->router.n_expert,
                                   spec->router.n_group, 1, NULL, NULL, s->log));
    shoal_model_config config = s->model_config;
    config.packed = NULL; /* what is compared with depends on no file of former runs */
    config.n_sequence = 1;
    config.n_token_max = SHOAL_CHECK_CHUNK;
    config.n_logit_max = 1;
    config.placement = &r->placement;
    config.comm = r->comm;
    config.compute.device = NULL; /* the processor is the specification */
    config.progress = progress;
    config.progress_arg = r;
    SHOAL_TRY(shoal_model_open(&r->model, spec, s->checkpoint, &config, s->log));
    uint64_t kept = shoal_check_rows_bytes(spec, SHOAL_CHECK_CHUNK);
    for (int32_t p = 0; p < check->n_prompt; p++)
        kept += shoal_check_rows_bytes(spec, check->prompt[p].n_token);
    char a[SHOAL_BYTES_TEXT], b[SHOAL_BYTES_TEXT];
    shoal_log_info(s->log,
                   "check: rank 0 first runs the whole model alone, which takes %s, freed before "
                   "its share is loaded, and %s to keep what all layers made",
                   shoal_bytes_text(a, model_bytes(r->model)), shoal_bytes_text(b, kept));
    SHOAL_TRY(shoal_check_rows_open(&r->step, spec, SHOAL_CHECK_CHUNK, s->log));
    SHOAL_TRY(shoal_model_load(r->model));
    shoal_pool_set_poll(s->compute.pool, poll_session, r);
    return r->polled;
}

static void close_reference(reference *r)
{
    shoal_check_rows_close(&r->step);
    shoal_model_close(r->model);
    shoal_placement_close(&r->placement);
    (void)shoal_comm_close(r->comm, SHOAL_OK);
}

static int32_t argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* One step of rows [row0, row0 + n) of one sequence: what it makes goes to the prompt's rows. */
static shoal_status reference_step(reference *r, shoal_check_prompt *prompt, int32_t row0,
                                   int32_t n)
{
    const shoal_spec *spec = &r->session->spec;
    const bool source = true;
    const shoal_chunk chunk = {.position0 = row0, .n_row = n};
    const int32_t logit_row = n - 1;
    shoal_check_rows view = shoal_check_rows_view(&r->step, spec, n);
    const shoal_route_capture capture = {.expert = view.expert,
                                         .weight = view.weight,
                                         .attention_hidden = view.attention_hidden,
                                         .layer_hidden = view.layer_hidden};
    const shoal_forward_input in = {.token = prompt->token + row0,
                                    .n_token = n,
                                    .chunk = &chunk,
                                    .n_chunk = 1,
                                    .is_source = &source,
                                    .logit_row = &logit_row,
                                    .n_logit = 1,
                                    .capture = &capture};
    shoal_forward_output out;
    SHOAL_TRY(shoal_forward(&out, r->model, &in));
    memcpy(view.logits + (size_t)logit_row * (size_t)spec->n_vocab, out.logits,
           (size_t)spec->n_vocab * sizeof(float));
    for (int32_t i = 0; i < n; i++)
        shoal_check_rows_copy(&prompt->reference, row0 + i, &view, i, spec);
    if (row0 + n >= prompt->n_prompt && row0 + n < prompt->n_token)
        prompt->token[row0 + n] = argmax(out.logits, spec->n_vocab);
    return r->polled != SHOAL_OK ? r->polled : shoal_session_check(r->session);
}

static shoal_status run_reference(reference *r, shoal_check *check)
{
    SHOAL_TRY(open_reference(r, check));
    for (int32_t p = 0; p < check->n_prompt; p++) {
        shoal_check_prompt *prompt = &check->prompt[p];
        SHOAL_TRY(shoal_check_rows_open(&prompt->reference, &r->session->spec, prompt->n_token,
                                        r->session->log));
        int32_t n = 0;
        for (int32_t row = 0; row < prompt->n_token; row += n) {
            int32_t left = prompt->n_prompt - row;
            n = left <= 0 ? 1 : left < SHOAL_CHECK_CHUNK ? left : SHOAL_CHECK_CHUNK;
            SHOAL_TRY(reference_step(r, prompt, row, n));
        }
    }
    return SHOAL_OK;
}

shoal_status shoal_check_reference(shoal_check *check, shoal_session *session)
{
    if (session->rank != 0)
        return SHOAL_OK;
    reference r = {.session = session};
    shoal_status status = run_reference(&r, check);
    close_reference(&r);
    return status;
}

/* ---- all ranks ---- */

/* A sequence of the run over all ranks: prompt `prompt`, cached on rank `rank` in slot `slot`. */
typedef struct sequence {
    int32_t prompt, rank, slot;
    int32_t position; /* rows done */
} sequence;

/* Rows [position0, + n) of a sequence in a step. */
typedef struct part {
    int32_t sequence;
    shoal_chunk chunk;
} part;

typedef struct all_ranks {
    shoal_check *check;
    shoal_session *session;
    sequence *sequence; /* [n_sequence] */
    int32_t n_sequence;
    part *part;             /* [n_sequence] of one rank and step */
    shoal_chunk *chunk;     /* [n_sequence] */
    int32_t *token, *logit; /* [n_row_max] */
    bool *is_source;        /* [n_rank] */
    int64_t n_row_all;      /* of all ranks in this step */
    int32_t n_row_max;
    shoal_check_rows rows; /* of a step: own, then on rank 0 of each rank */
    int64_t step;
} all_ranks;

/* Every slot of every rank runs a prompt; neighbours in the list lie on different ranks. */
static shoal_status open_sequences(all_ranks *a)
{
    shoal_session *s = a->session;
    int32_t n_slot_max = 0;
    for (int32_t r = 0; r < s->n_rank; r++) {
        int32_t n = shoal_engine_slots(&s->engine_config, r);
        a->n_sequence += n;
        n_slot_max = n > n_slot_max ? n : n_slot_max;
    }
    size_t n = a->n_sequence > 0 ? (size_t)a->n_sequence : 1;
    a->n_row_max = SHOAL_CHECK_CHUNK + n_slot_max;
    a->sequence = calloc(n, sizeof *a->sequence);
    a->part = calloc(n, sizeof *a->part);
    a->chunk = calloc(n, sizeof *a->chunk);
    a->token = calloc((size_t)a->n_row_max, sizeof *a->token);
    a->logit = calloc((size_t)a->n_row_max, sizeof *a->logit);
    a->is_source = calloc((size_t)s->n_rank, sizeof *a->is_source);
    if (a->sequence == NULL || a->part == NULL || a->chunk == NULL || a->token == NULL ||
        a->logit == NULL || a->is_source == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %zu sequences", n);
    int32_t i = 0;
    for (int32_t slot = 0; slot < n_slot_max; slot++) {
        for (int32_t r = 0; r < s->n_rank; r++) {
            if (slot < shoal_engine_slots(&s->engine_config, r)) {
                a->sequence[i] =
                    (sequence){.prompt = i % a->check->n_prompt, .rank = r, .slot = slot};
                i++;
            }
        }
    }
    return shoal_check_rows_open(&a->rows, &s->spec, a->n_row_max, s->log);
}

static void close_sequences(all_ranks *a)
{
    free(a->sequence);
    free(a->part);
    free(a->chunk);
    free(a->token);
    free(a->logit);
    free(a->is_source);
    shoal_check_rows_close(&a->rows);
}

/* What `rank` does in this step, from the same state on all ranks. Prompts go in pieces; a sequence
 * behind its prompt goes by one token. Returns parts; *n_row rows. */
static int32_t plan_step(all_ranks *a, int32_t rank, int32_t *n_row)
{
    int32_t n_part = 0, budget = SHOAL_CHECK_CHUNK;
    if (budget > a->session->options.prefill_chunk)
        budget = a->session->options.prefill_chunk;
    *n_row = 0;
    for (int32_t i = 0; i < a->n_sequence; i++) {
        const sequence *q = &a->sequence[i];
        const shoal_check_prompt *p = &a->check->prompt[q->prompt];
        if (q->rank != rank || q->position == p->n_token)
            continue;
        int32_t left = p->n_prompt - q->position;
        int32_t n = left <= 0 ? 1 : left < budget ? left : budget;
        if (n == 0)
            continue;
        budget -= left > 0 ? n : 0;
        a->part[n_part++] = (part){i, {q->slot, q->position, *n_row, n}};
        *n_row += n;
    }
    return n_part;
}

static shoal_status forward_own(all_ranks *a, int32_t n_part, int32_t n_row)
{
    shoal_session *s = a->session;
    for (int32_t i = 0; i < n_part; i++) {
        const part *p = &a->part[i];
        a->chunk[i] = p->chunk;
        a->logit[i] = p->chunk.row0 + p->chunk.n_row - 1;
        memcpy(a->token + p->chunk.row0,
               a->check->prompt[a->sequence[p->sequence].prompt].token + p->chunk.position0,
               (size_t)p->chunk.n_row * sizeof(int32_t));
    }
    shoal_check_rows view = shoal_check_rows_view(&a->rows, &s->spec, n_row);
    const shoal_route_capture capture = {.expert = view.expert,
                                         .weight = view.weight,
                                         .attention_hidden = view.attention_hidden,
                                         .layer_hidden = view.layer_hidden};
    const shoal_forward_input in = {.step = a->step,
                                    .token = a->token,
                                    .n_token = n_row,
                                    .chunk = a->chunk,
                                    .n_chunk = n_part,
                                    .is_source = a->is_source,
                                    .n_row_all = a->n_row_all,
                                    .logit_row = a->logit,
                                    .n_logit = n_part,
                                    .capture = &capture};
    shoal_forward_output out;
    SHOAL_TRY(shoal_forward(&out, s->model, &in));
    size_t n_vocab = (size_t)s->spec.n_vocab;
    for (int32_t i = 0; i < n_part; i++)
        memcpy(view.logits + (size_t)a->logit[i] * n_vocab, out.logits + (size_t)i * n_vocab,
               n_vocab * sizeof(float));
    return SHOAL_OK;
}

/* CPU ranks that combine exactly have the bits of one; GPUs add in another order, and with --math
 * fast round what they multiply (docs/GPU.md). */
static double tolerance_of(const shoal_session *s)
{
    const shoal_wire *wire = shoal_model_wire(s->model);
    const bool device = s->devices.n_device > 0;
    if (wire->kind == SHOAL_COMBINE_EXACT && !device)
        return 0;
    if (device && wire->combine == SHOAL_WIRE_F32)
        return 1e-3;
    return wire->combine == SHOAL_WIRE_F32 ? 1e-4 : 5e-2;
}

/* Rank 0: compare the rows of `rank`, which lie in a->rows. */
static void compare_rank(all_ranks *a, int32_t rank, int32_t n_part, int32_t n_row)
{
    const shoal_spec *spec = &a->session->spec;
    shoal_check_rows view = shoal_check_rows_view(&a->rows, spec, n_row);
    for (int32_t pass = 0; pass < 2; pass++) {
        for (int32_t row = 0, i = 0; row < n_row; row++) {
            while (row >= a->part[i].chunk.row0 + a->part[i].chunk.n_row)
                i++;
            const shoal_chunk *c = &a->part[i].chunk;
            const shoal_check_prompt *p =
                &a->check->prompt[a->sequence[a->part[i].sequence].prompt];
            int32_t position = c->position0 + row - c->row0;
            bool last = row == c->row0 + c->n_row - 1;
            const shoal_check_pair pair = {.found = &view,
                                           .wanted = &p->reference,
                                           .at = row,
                                           .wanted_at = position,
                                           .with_logits = last && position + 1 >= p->n_prompt,
                                           .tolerance = tolerance_of(a->session)};
            const shoal_check_place place = {.step = a->step,
                                             .rank = rank,
                                             .sequence = a->part[i].sequence,
                                             .position = position,
                                             .token = p->token[position]};
            if (pass == 0)
                shoal_check_compare(&a->check->finding, &pair, &place, spec);
            else
                shoal_check_collect(&a->check->finding, &pair, &place, spec);
        }
    }
    a->check->n_row += n_row;
    (void)n_part;
}

/* Rank 0: the choices of the rows of `rank`, which lie in a->rows, for --routes. */
static void record_routes(all_ranks *a, int32_t rank, int32_t n_part, int32_t n_row)
{
    shoal_session *s = a->session;
    if (s->options.routes == NULL)
        return;
    const shoal_check_rows view = shoal_check_rows_view(&a->rows, &s->spec, n_row);
    for (int32_t i = 0; i < n_part; i++) {
        const shoal_chunk *c = &a->part[i].chunk;
        const int32_t n_prompt = a->check->prompt[a->sequence[a->part[i].sequence].prompt].n_prompt;
        const shoal_engine_routes routes = {.step = a->step,
                                            .sequence = a->part[i].sequence,
                                            .owner = rank,
                                            .position0 = c->position0,
                                            .n_row = c->n_row,
                                            .decode = c->position0 >= n_prompt,
                                            .last = c->position0 + c->n_row == n_prompt};
        shoal_routes_record_put_layers(&s->routes, &routes, view.expert, c->row0, n_row);
    }
}

/* The rows of every rank, one rank after the other, to rank 0, which compares them. */
static shoal_status bring_home(all_ranks *a)
{
    shoal_session *s = a->session;
    for (int32_t r = 0; r < s->n_rank; r++) {
        int32_t n_row;
        int32_t n_part = plan_step(a, r, &n_row);
        if (n_row == 0 || (s->rank != 0 && s->rank != r))
            continue;
        size_t n_bytes = shoal_check_rows_bytes(&s->spec, n_row);
        shoal_request request;
        if (r != 0) {
            if (s->rank == 0)
                SHOAL_TRY(shoal_comm_recv(s->comm, &request, r, SHOAL_TAG_RESULT,
                                          a->rows.attention_hidden, n_bytes));
            else
                SHOAL_TRY(shoal_comm_send(s->comm, &request, 0, SHOAL_TAG_RESULT,
                                          a->rows.attention_hidden, n_bytes));
            SHOAL_TRY(shoal_comm_wait(s->comm, &request, 1, "rows to compare"));
        }
        if (s->rank == 0) {
            record_routes(a, r, n_part, n_row);
            compare_rank(a, r, n_part, n_row);
        }
        SHOAL_TRY(shoal_comm_poll(s->comm));
    }
    return SHOAL_OK;
}

static shoal_status run_steps(all_ranks *a)
{
    shoal_session *s = a->session;
    for (a->step = 0;; a->step++) {
        int32_t n_total = 0, n_row;
        for (int32_t r = 0; r < s->n_rank; r++) {
            (void)plan_step(a, r, &n_row);
            a->is_source[r] = n_row > 0;
            n_total += n_row;
        }
        if (n_total == 0)
            return SHOAL_OK;
        a->n_row_all = n_total;
        SHOAL_TRY(shoal_session_check(s));
        int32_t n_part = plan_step(a, s->rank, &n_row);
        SHOAL_TRY(forward_own(a, n_part, n_row));
        SHOAL_TRY(bring_home(a));
        for (int32_t r = 0; r < s->n_rank; r++) {
            n_part = plan_step(a, r, &n_row);
            for (int32_t i = 0; i < n_part; i++)
                a->sequence[a->part[i].sequence].position += a->part[i].chunk.n_row;
        }
    }
}

/* Tokens and lengths of the prompts, from rank 0 to all. */
static shoal_status share_prompts(shoal_check *check, shoal_session *s)
{
    SHOAL_TRY(shoal_comm_bcast(s->comm, &check->n_prompt, sizeof check->n_prompt, 0));
    for (int32_t p = 0; p < check->n_prompt; p++) {
        shoal_check_prompt *prompt = &check->prompt[p];
        SHOAL_TRY(shoal_comm_bcast(s->comm, &prompt->n_prompt, sizeof prompt->n_prompt, 0));
        prompt->n_token = prompt->n_prompt + SHOAL_CHECK_GENERATE;
        size_t n_bytes = (size_t)prompt->n_token * sizeof(int32_t);
        if (s->rank != 0)
            prompt->token = malloc(n_bytes);
        if (prompt->token == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d tokens",
                              (int)prompt->n_token);
        SHOAL_TRY(shoal_comm_bcast(s->comm, prompt->token, n_bytes, 0));
    }
    return SHOAL_OK;
}

shoal_status shoal_check_all_ranks(shoal_check *check, shoal_session *session)
{
    all_ranks a = {.check = check, .session = session};
    SHOAL_TRY(share_prompts(check, session));
    shoal_status status = open_sequences(&a);
    check->n_sequence = a.n_sequence;
    if (status == SHOAL_OK)
        status = run_steps(&a);
    close_sequences(&a);
    return status;
}
