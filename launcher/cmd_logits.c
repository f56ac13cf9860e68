/* shoal logits: everything the model says about given tokens, written as it comes. */
#include "launcher/command.h"
#include "launcher/report.h"
#include "launcher/safetensors_write.h"
#include "launcher/session.h"

#include <stdlib.h>

typedef struct logits_run {
    int32_t *ids; /* [n] */
    int32_t n;
    shoal_safetensors_file file;
} logits_run;

enum { LOGITS, FINAL_HIDDEN, TOPK_EXPERT, TOPK_WEIGHT, N_TENSOR };

static shoal_status prepare(shoal_session *s, void *arg)
{
    logits_run *run = arg;
    SHOAL_TRY(shoal_session_check_ids(s, run->ids, (size_t)run->n, 0, "--ids"));
    const shoal_spec *spec = &s->spec;
    int64_t k = spec->router.top_k;
    const shoal_safetensors_tensor tensor[N_TENSOR] = {
        [LOGITS] = {"logits", SHOAL_DTYPE_F32, 2, {run->n, spec->n_vocab}},
        [FINAL_HIDDEN] = {"final_hidden", SHOAL_DTYPE_F32, 2, {run->n, spec->n_embd}},
        [TOPK_EXPERT] = {"topk_expert", SHOAL_DTYPE_I32, 3, {spec->n_moe_layer, run->n, k}},
        [TOPK_WEIGHT] = {"topk_weight", SHOAL_DTYPE_F32, 3, {spec->n_moe_layer, run->n, k}},
    };
    return shoal_safetensors_create(&run->file, s->options.output, tensor, N_TENSOR, s->log);
}

/* Rows [row0, row0 + n_row) of every tensor. */
static shoal_status put_rows(logits_run *run, const shoal_spec *spec, const shoal_event *event)
{
    size_t n_row = (size_t)event->n_row;
    size_t row0 = (size_t)event->row0;
    size_t vocab_bytes = (size_t)spec->n_vocab * sizeof(float);
    size_t embd_bytes = (size_t)spec->n_embd * sizeof(float);
    SHOAL_TRY(shoal_safetensors_put(&run->file, LOGITS, row0 * vocab_bytes, event->logits,
                                    n_row * vocab_bytes));
    SHOAL_TRY(shoal_safetensors_put(&run->file, FINAL_HIDDEN, row0 * embd_bytes, event->hidden,
                                    n_row * embd_bytes));
    size_t k = (size_t)spec->router.top_k;
    size_t part_bytes = n_row * k * 4;
    for (size_t layer = 0; layer < (size_t)spec->n_moe_layer; layer++) {
        uint64_t first = (layer * (size_t)run->n + row0) * k * 4;
        size_t from = layer * n_row * k;
        SHOAL_TRY(shoal_safetensors_put(&run->file, TOPK_EXPERT, first, event->expert + from,
                                        part_bytes));
        SHOAL_TRY(shoal_safetensors_put(&run->file, TOPK_WEIGHT, first, event->weight + from,
                                        part_bytes));
    }
    return SHOAL_OK;
}

static shoal_status work(shoal_session *s, void *arg)
{
    logits_run *run = arg;
    shoal_sequence_request request = {
        .prompt = run->ids,
        .n_prompt = run->n,
        .want = SHOAL_WANT_ROWS,
        .sampling = {.top_p = 1},
    };
    int64_t sequence;
    SHOAL_TRY(shoal_engine_submit(s->engine, &sequence, &request));
    bool done = false;
    while (!done) {
        SHOAL_TRY(shoal_session_check(s));
        SHOAL_TRY(shoal_engine_step(s->engine));
        shoal_event event;
        while (shoal_engine_poll(s->engine, &event)) {
            if (event.kind == SHOAL_EVENT_ROWS)
                SHOAL_TRY(put_rows(run, &s->spec, &event));
            done = done || event.kind == SHOAL_EVENT_DONE;
        }
    }
    return shoal_safetensors_commit(&run->file);
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    const logits_run *run = arg;
    char sent[SHOAL_BYTES_TEXT];
    shoal_log_info(s->log, "logits of %d tokens in %s, %d rank%s, %s sent", (int)run->n,
                   s->options.output, (int)s->n_rank, s->n_rank == 1 ? "" : "s",
                   shoal_bytes_text(sent, shoal_report_sent_bytes(report, s->n_rank)));
    return SHOAL_OK;
}

static void release(void *arg)
{
    logits_run *run = arg;
    shoal_safetensors_close(&run->file);
    free(run->ids);
}

shoal_status shoal_cmd_logits(const shoal_options *options,
                              const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    logits_run run = {0};
    SHOAL_TRY(shoal_options_ids(&run.ids, &run.n, options->ids, "ids", log));
    shoal_session_plan plan = {
        .arg = &run,
        .n_context = run.n,
        .n_sequence = 1,
        .want_rows = true,
        .prepare = prepare,
        .work = work,
        .finish = finish,
        .release = release,
    };
    return shoal_session_run(options, &plan, interrupted, log);
}
