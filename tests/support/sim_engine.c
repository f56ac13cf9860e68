#include "tests/support/sim_engine.h"

#include "comm/sim/sim.h"

#include <stdlib.h>
#include <string.h>

/* What one virtual rank has open. */
typedef struct rank_world {
    shoal_log log;
    shoal_checkpoint *checkpoint;
    shoal_spec spec;
    shoal_placement placement;
    shoal_comm *comm;
    shoal_compute compute;
    shoal_model *model;
    shoal_engine *engine;
} rank_world;

typedef struct run_arg {
    const shoal_sim_engine_config *config;
    shoal_sim_engine_result *result;
    shoal_sim_engine_fn *fn;
    void *arg;
} run_arg;

static void repository_path(char path[1024], const char *name)
{
    const char *root = getenv("SHOAL_SOURCE_DIR");
    (void)snprintf(path, 1024, "%s/%s", root != NULL ? root : ".", name);
}

static shoal_status open_model(rank_world *w, const shoal_sim_engine_config *config,
                               const shoal_engine_config *engine_config)
{
    const shoal_model_config model_config = {
        .n_mtp = config->drafts.kind == SHOAL_DRAFT_MTP ? 1 : 0,
        .fast = config->fast,
        .combine = config->combine,
        .kv_dtype = config->fast ? SHOAL_KV_BF16 : SHOAL_KV_F32,
        .n_context = config->n_context,
        .n_sequence = shoal_engine_slots(engine_config, shoal_comm_rank(w->comm)),
        .n_token_max = shoal_engine_token_max(engine_config),
        .n_logit_max = shoal_engine_logit_max(engine_config),
        .overlap_rows = config->overlap_rows,
        .placement = &w->placement,
        .compute = w->compute,
        .comm = w->comm,
    };
    SHOAL_TRY(shoal_model_open(&w->model, &w->spec, w->checkpoint, &model_config, &w->log));
    return shoal_model_load(w->model);
}

static shoal_status open_world(rank_world *w, const shoal_sim_engine_config *config)
{
    char path[1024];
    repository_path(path, config->model);
    SHOAL_TRY(shoal_checkpoint_open(&w->checkpoint, path, true, &w->log));
    SHOAL_TRY(shoal_spec_open(&w->spec, w->checkpoint, &w->log));
    const int32_t n_moe_layer =
        w->spec.n_moe_layer + (config->drafts.kind == SHOAL_DRAFT_MTP ? 1 : 0);
    SHOAL_TRY(shoal_placement_open(&w->placement, n_moe_layer, w->spec.router.n_expert,
                                   w->spec.router.n_group, config->n_rank, config->expert_weight,
                                   config->sequence_weight, &w->log));
    SHOAL_TRY(shoal_kernels_select(&w->compute.kernels, config->kernels, &w->log));
    SHOAL_TRY(shoal_pool_open(&w->compute.pool, config->n_thread, &w->log));
    const shoal_engine_config engine_config = {
        .compute = w->compute,
        .n_context = config->n_context,
        .n_sequence = config->n_sequence,
        .prefill_chunk = config->prefill_chunk,
        .placement = &w->placement,
        .drafts = config->drafts,
        .want_scores = config->want_scores,
        .want_rows = config->want_rows,
        .want_routes = config->on_routes != NULL,
        .on_routes = config->on_routes,
        .routes_arg = config->routes_arg,
    };
    SHOAL_TRY(open_model(w, config, &engine_config));
    SHOAL_TRY(shoal_engine_open(&w->engine, w->model, w->comm, &engine_config, &w->log));
    if (config->timeline != NULL)
        shoal_engine_trace(w->engine, &config->timeline[shoal_comm_rank(w->comm)]);
    return SHOAL_OK;
}

static shoal_status run_rank(rank_world *w, const run_arg *run, int32_t rank,
                             shoal_transport *transport)
{
    const shoal_comm_config comm_config = {.deadline_s = run->config->deadline_s,
                                           .fault = run->config->fault};
    SHOAL_TRY(shoal_comm_open(&w->comm, transport, &comm_config, &w->log));
    SHOAL_TRY(shoal_comm_agree(w->comm, open_world(w, run->config), "opening"));
    if (rank != 0)
        return shoal_engine_serve(w->engine);
    SHOAL_TRY(run->fn(run->arg, w->engine, &w->spec));
    return shoal_engine_stop(w->engine);
}

static shoal_status rank_main(void *arg, int32_t rank, shoal_transport *transport)
{
    run_arg *run = arg;
    rank_world w = {0};
    shoal_log_init(&w.log, run->config->log, rank, "sim");
    const shoal_status status = run_rank(&w, run, rank, transport);
    if (w.engine != NULL)
        run->result->count[rank] = *shoal_engine_count(w.engine);
    /* The comm first: after a failure, messages may still be on their way into buffers. */
    shoal_comm_close(w.comm, status);
    shoal_engine_close(w.engine);
    shoal_model_close(w.model);
    shoal_pool_close(w.compute.pool);
    shoal_placement_close(&w.placement);
    shoal_spec_close(&w.spec);
    shoal_checkpoint_close(w.checkpoint);
    memcpy(run->result->error[rank], w.log.error, sizeof(w.log.error));
    return status;
}

shoal_status shoal_sim_engine_run(shoal_sim_engine_result *result,
                                  const shoal_sim_engine_config *config, shoal_sim_engine_fn *fn,
                                  void *arg)
{
    memset(result, 0, sizeof(*result));
    run_arg run = {.config = config, .result = result, .fn = fn, .arg = arg};
    shoal_log log;
    shoal_log_init(&log, config->log, -1, "sim");
    const shoal_sim_config sim = {.n_rank = config->n_rank, .latency_us = 50.0};
    return shoal_sim_run(&sim, rank_main, &run, result->status, &log);
}

void shoal_answer_close(shoal_answer *answer)
{
    free(answer->token);
    free(answer->nll);
    free(answer->logits);
    free(answer->hidden);
    free(answer->expert);
    free(answer->weight);
    *answer = (shoal_answer){0};
}

static shoal_answer *find_answer(const shoal_answer_all *all, int64_t sequence)
{
    for (int32_t i = 0; i < all->n; i++)
        if (all->answer[i].sequence == sequence)
            return &all->answer[i];
    return NULL;
}

static shoal_status open_answer(shoal_answer *a, const shoal_sequence_request *request,
                                const shoal_spec *spec)
{
    const size_t n_row = (size_t)request->n_prompt;
    a->n_vocab = spec->n_vocab;
    a->n_embd = spec->n_embd;
    a->n_choice = spec->n_moe_layer * spec->router.top_k;
    const size_t n_choice = n_row * (size_t)a->n_choice;
    a->token = calloc((size_t)request->max_tokens + 1, sizeof(int32_t));
    a->nll = calloc(n_row, sizeof(double));
    a->logits = calloc(n_row * (size_t)spec->n_vocab, sizeof(float));
    a->hidden = calloc(n_row * (size_t)spec->n_embd, sizeof(float));
    a->expert = calloc(n_choice, sizeof(int32_t));
    a->weight = calloc(n_choice, sizeof(float));
    if (a->token == NULL || a->nll == NULL || a->logits == NULL || a->hidden == NULL ||
        a->expert == NULL || a->weight == NULL)
        return SHOAL_NO_MEMORY;
    return SHOAL_OK;
}

static void keep_rows(shoal_answer *a, const shoal_event *event, const shoal_spec *spec)
{
    const size_t n_vocab = (size_t)spec->n_vocab, n_embd = (size_t)spec->n_embd;
    const size_t n_layer = (size_t)spec->n_moe_layer, top_k = (size_t)spec->router.top_k;
    const size_t row0 = (size_t)event->row0, n_row = (size_t)event->n_row;
    memcpy(a->logits + row0 * n_vocab, event->logits, n_row * n_vocab * sizeof(float));
    memcpy(a->hidden + row0 * n_embd, event->hidden, n_row * n_embd * sizeof(float));
    for (size_t layer = 0; layer < n_layer; layer++) {
        for (size_t i = 0; i < n_row; i++) {
            const size_t from = (layer * n_row + i) * top_k;
            const size_t to = ((row0 + i) * n_layer + layer) * top_k;
            memcpy(a->expert + to, event->expert + from, top_k * sizeof(int32_t));
            memcpy(a->weight + to, event->weight + from, top_k * sizeof(float));
        }
    }
    a->n_row += event->n_row;
}

static bool keep_event(shoal_answer *a, const shoal_sequence_request *request,
                       const shoal_event *event, const shoal_spec *spec)
{
    if (a->done.kind == SHOAL_EVENT_DONE)
        return false;
    switch (event->kind) {
    case SHOAL_EVENT_TOKEN:
        if (a->n_token >= request->max_tokens)
            return false;
        a->token[a->n_token++] = event->token;
        return true;
    case SHOAL_EVENT_SCORES:
        if (event->row0 != a->n_nll || event->row0 + event->n_row > request->n_prompt - 1)
            return false;
        memcpy(a->nll + event->row0, event->nll, (size_t)event->n_row * sizeof(double));
        a->n_nll += event->n_row;
        return true;
    case SHOAL_EVENT_ROWS:
        if (event->row0 != a->n_row || event->row0 + event->n_row > request->n_prompt)
            return false;
        keep_rows(a, event, spec);
        return true;
    case SHOAL_EVENT_DONE:
        a->done = *event;
        return true;
    }
    return false;
}

shoal_status shoal_answer_all_run(void *arg, shoal_engine *engine, const shoal_spec *spec)
{
    shoal_answer_all *all = arg;
    for (int32_t i = 0; i < all->n; i++) {
        SHOAL_TRY(open_answer(&all->answer[i], &all->request[i], spec));
        SHOAL_TRY(shoal_engine_submit(engine, &all->answer[i].sequence, &all->request[i]));
    }
    while (shoal_engine_n_pending(engine) > 0) {
        SHOAL_TRY(shoal_engine_step(engine));
        shoal_event event;
        while (shoal_engine_poll(engine, &event)) {
            shoal_answer *a = find_answer(all, event.sequence);
            if (a == NULL || !keep_event(a, &all->request[a - all->answer], &event, spec))
                return SHOAL_FAILED;
            if (all->n_cancel_after > 0 && a->n_token == all->n_cancel_after)
                shoal_engine_cancel(engine, event.sequence);
        }
    }
    return SHOAL_OK;
}

static int32_t read_ids(int32_t *ids, int32_t n_max, const shoal_json *array)
{
    const int32_t n = (int32_t)shoal_json_size(array);
    for (int32_t i = 0; i < n && i < n_max; i++)
        ids[i] = (int32_t)shoal_json_int(shoal_json_at(array, (size_t)i), -1);
    return n < n_max ? n : n_max;
}

shoal_status shoal_golden_read(shoal_golden *golden, const char *model)
{
    char path[1024], file[1100];
    repository_path(path, model);
    (void)snprintf(file, sizeof(file), "%s/expected.json", path);
    shoal_log log;
    shoal_log_init(&log, stderr, 0, "test");
    shoal_json *json;
    SHOAL_TRY(shoal_json_read_file(&json, file, &log));
    golden->n_prompt = read_ids(golden->prompt, 128, shoal_json_get(json, "prompt_ids"));
    golden->n_greedy = read_ids(golden->greedy, 64, shoal_json_get(json, "greedy_ids"));
    shoal_json_close(json);
    return SHOAL_OK;
}
