/* shoal check: N ranks make what one makes, or where they first do not. */
#include "launcher/check_run.h"
#include "launcher/command.h"
#include "launcher/report.h"

#include <stdlib.h>
#include <string.h>

static const char *const texts[SHOAL_CHECK_N_PROMPT] = {
    "The quick brown fox jumps over the lazy dog, and then it",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55,",
    "In the beginning was the word, and the word was",
    "Z\xc3\xbcrich, \xe6\x9d\xb1\xe4\xba\xac, M\xc3\xbcnchen and S\xc3\xa3o Paulo are",
    "Q: What is the capital of France?\nA:",
};

static shoal_status take_text(shoal_check_prompt *prompt, shoal_session *s, const char *text)
{
    size_t n;
    SHOAL_TRY(shoal_tokenizer_encode_prompt(s->tokenizer, &prompt->token, &n, text, strlen(text),
                                            s->log));
    prompt->n_prompt = n < SHOAL_CHECK_PROMPT_MAX ? (int32_t)n : SHOAL_CHECK_PROMPT_MAX;
    return SHOAL_OK;
}

/* Without a tokenizer: ids that only depend on the vocabulary. */
static shoal_status take_numbers(shoal_check_prompt *prompt, const shoal_session *s, int32_t index)
{
    prompt->n_prompt = 24 + 4 * index;
    prompt->token = malloc((size_t)prompt->n_prompt * sizeof(int32_t));
    if (prompt->token == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for a prompt");
    uint32_t state = 0x9e3779b9u * (uint32_t)(index + 1);
    for (int32_t i = 0; i < prompt->n_prompt; i++) {
        state = state * 1664525u + 1013904223u;
        prompt->token[i] = (int32_t)((state >> 8) % (uint32_t)s->spec.n_vocab);
    }
    return SHOAL_OK;
}

static shoal_status prepare(shoal_session *s, void *arg)
{
    shoal_check *check = arg;
    const char *ids = s->options.prompt_ids;
    check->n_prompt = ids != NULL ? 1 : SHOAL_CHECK_N_PROMPT;
    for (int32_t p = 0; p < check->n_prompt; p++) {
        shoal_check_prompt *prompt = &check->prompt[p];
        if (ids != NULL)
            SHOAL_TRY(
                shoal_options_ids(&prompt->token, &prompt->n_prompt, ids, "prompt-ids", s->log));
        else if (s->tokenizer != NULL)
            SHOAL_TRY(take_text(prompt, s, texts[p]));
        else
            SHOAL_TRY(take_numbers(prompt, s, p));
        int32_t room = s->options.n_context - SHOAL_CHECK_GENERATE;
        if (ids == NULL && prompt->n_prompt > room && room > 0)
            prompt->n_prompt = room;
        SHOAL_TRY(shoal_session_check_ids(s, prompt->token, (size_t)prompt->n_prompt,
                                          SHOAL_CHECK_GENERATE,
                                          ids != NULL ? "--prompt-ids" : "a prompt"));
        prompt->n_token = prompt->n_prompt + SHOAL_CHECK_GENERATE;
        int32_t *token = realloc(prompt->token, (size_t)prompt->n_token * sizeof *token);
        if (token == NULL)
            return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for a prompt");
        memset(token + prompt->n_prompt, 0, SHOAL_CHECK_GENERATE * sizeof *token);
        prompt->token = token;
    }
    return SHOAL_OK;
}

static shoal_status before_load(shoal_session *s, void *arg)
{
    return shoal_check_reference(arg, s);
}

static shoal_status together(shoal_session *s, void *arg)
{
    return shoal_check_all_ranks(arg, s);
}

/* "expert 5 of rank 1 (host)", or what else it may be. */
static void suspects_text(char *text, size_t n_text, const shoal_session *s,
                          const shoal_check_finding *f)
{
    int32_t expert[SHOAL_MAX_EXPERT];
    int32_t n = shoal_check_suspects(expert, f, &s->spec);
    text[0] = '\0';
    if (f->stage == SHOAL_CHECK_MLP && f->moe_layer >= 0 && n == 0)
        snprintf(text, n_text,
                 "; no single expert explains it: several, shared experts, or the "
                 "exchange");
    for (int32_t i = 0; i < n; i++) {
        size_t at = strlen(text);
        int32_t rank = shoal_placement_owner(&s->placement, f->moe_layer, expert[i]);
        if (i == 8) {
            snprintf(text + at, n_text - at, " and %d more", (int)(n - i));
            return;
        }
        snprintf(text + at, n_text - at, "%s expert %d of rank %d (%s)", i == 0 ? ";" : " or",
                 (int)expert[i], (int)rank, shoal_comm_host(s->comm, rank));
    }
}

static const char *stage_text(const shoal_check_finding *f)
{
    switch (f->stage) {
    case SHOAL_CHECK_ATTENTION:
        return "attention";
    case SHOAL_CHECK_ROUTER:
        return "router";
    case SHOAL_CHECK_MLP:
        return f->moe_layer >= 0 ? "experts" : "dense mlp";
    case SHOAL_CHECK_LOGITS:
        break;
    }
    return "logits";
}

static void set_int(shoal_json *object, const char *key, int64_t value)
{
    shoal_json_set(object, key, shoal_json_new_int(value));
}

static shoal_json *finding_json(const shoal_session *s, const shoal_check_finding *f)
{
    int32_t expert[SHOAL_MAX_EXPERT];
    int32_t n = shoal_check_suspects(expert, f, &s->spec);
    shoal_json *o = shoal_json_new_object();
    shoal_json *suspects = shoal_json_new_array();
    for (int32_t i = 0; i < n; i++)
        shoal_json_append(suspects, shoal_json_new_int(expert[i]));
    set_int(o, "step", f->step);
    set_int(o, "layer", f->layer);
    shoal_json_set(o, "stage", shoal_json_new_string(stage_text(f), strlen(stage_text(f))));
    set_int(o, "rank", f->rank);
    set_int(o, "sequence", f->sequence);
    set_int(o, "position", f->position);
    set_int(o, "token", f->token);
    set_int(o, "rows", f->n_row);
    shoal_json_set(o, "max_difference", shoal_json_new_number(f->difference));
    shoal_json_set(o, "experts", suspects);
    return o;
}

static shoal_status print_result(const shoal_session *s, const shoal_check *check)
{
    const shoal_check_finding *f = &check->finding;
    char suspects[512];
    suspects_text(suspects, sizeof suspects, s, f);
    if (s->options.json) {
        shoal_json *o = shoal_json_new_object();
        shoal_json_set(o, "equal", shoal_json_new_bool(!f->differs));
        set_int(o, "ranks", s->n_rank);
        set_int(o, "sequences", check->n_sequence);
        set_int(o, "rows", check->n_row);
        set_int(o, "layers", s->spec.n_layer);
        if (f->differs)
            shoal_json_set(o, "first", finding_json(s, f));
        return shoal_print_json(o, s->log);
    }
    if (!f->differs)
        printf("equal: %d rank%s and one, %s, %lld rows of %d sequences in %d layers\n",
               (int)s->n_rank, s->n_rank == 1 ? "" : "s",
               s->devices.n_device > 0                     ? "within the tolerance of GPUs"
               : s->options.combine == SHOAL_COMBINE_EXACT ? "to the bit"
                                                           : "within the tolerance of reduced",
               (long long)check->n_row, (int)check->n_sequence, (int)s->spec.n_layer);
    else
        printf("differs: first in layer %d (%s), sequence %d, position %d (token %d) of rank %d; "
               "%lld rows there, by at most %.3g%s\n",
               (int)f->layer, stage_text(f), (int)f->sequence, (int)f->position, (int)f->token,
               (int)f->rank, (long long)f->n_row, f->difference, suspects);
    return shoal_flush_stdout(s->log);
}

static shoal_status finish(shoal_session *s, void *arg, const shoal_rank_report *report)
{
    const shoal_check *check = arg;
    (void)report;
    SHOAL_TRY(print_result(s, check));
    if (!check->finding.differs)
        return SHOAL_OK;
    return shoal_fail(s->log, SHOAL_FAILED,
                      "%d ranks differ from one in layer %d; do all hosts have the same files?",
                      (int)s->n_rank, (int)check->finding.layer);
}

static void release(void *arg)
{
    shoal_check_close(arg);
}

shoal_status shoal_cmd_check(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                             shoal_log *log)
{
    shoal_check *check = calloc(1, sizeof *check);
    if (check == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to check");
    shoal_session_plan plan = {
        .arg = check,
        .n_context = 128,
        .cap_context = true,
        .n_sequence = SHOAL_CHECK_N_PROMPT,
        .prepare = prepare,
        .before_load = before_load,
        .together = together,
        .finish = finish,
        .release = release,
    };
    shoal_status status = shoal_session_run(options, &plan, interrupted, log);
    free(check);
    return status;
}
