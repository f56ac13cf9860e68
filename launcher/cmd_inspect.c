/* shoal inspect: what a checkpoint is, from its headers; or, before anything is downloaded, from
 * its config.json alone. */
#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/report.h"
#include "launcher/weight_bytes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct description {
    const shoal_checkpoint *checkpoint;
    const shoal_spec *spec;
    shoal_parameter_count count;
    shoal_weight_bytes bytes;
    shoal_storage_config storage;
    bool expected;   /* bytes are what config.json announces: there are no weights */
    bool converted;  /* bytes are what --weights makes of them in memory */
    int32_t *n_rank; /* [n_count] rank counts that are asked for */
    int32_t n_count;
    shoal_json *ranks; /* [{ranks, bytes_per_rank, ...}], one for each */
} description;

/* As the model cards of the family count. */
static int64_t active_as_published(const description *d)
{
    return d->spec->family->publishes_active_with_embedding ? d->count.active_with_embedding
                                                            : d->count.active;
}

/* The type that most bytes of the files have. */
static shoal_dtype main_dtype(const shoal_checkpoint *checkpoint)
{
    uint64_t n_bytes[SHOAL_N_DTYPE] = {0};
    shoal_dtype most = SHOAL_DTYPE_F32;
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(checkpoint, i);
        n_bytes[t->dtype] += t->n_bytes;
        most = n_bytes[t->dtype] > n_bytes[most] ? t->dtype : most;
    }
    return most;
}

static const char *storage_text(const description *d)
{
    if (d->storage.storage != SHOAL_STORED_PLAIN)
        return d->storage.storage == SHOAL_STORED_FP8 ? "fp8" : "mxfp4";
    return shoal_dtype_text(d->expected ? d->storage.dtype : main_dtype(d->checkpoint));
}

/* Cached values of one token over all layers. */
static int64_t kv_values_per_token(const shoal_spec *spec)
{
    return (int64_t)spec->n_layer * shoal_spec_kv_width(spec);
}

static void set_text(shoal_json *object, const char *key, const char *text)
{
    shoal_json_set(object, key, shoal_json_new_string(text, strlen(text)));
}

static void set_int(shoal_json *object, const char *key, int64_t value)
{
    shoal_json_set(object, key, shoal_json_new_int(value));
}

static const char *attention_text(const shoal_spec *spec)
{
    return spec->attention.kind == SHOAL_ATTENTION_MLA ? "mla" : "gqa";
}

static shoal_json *classes_json(const description *d)
{
    shoal_json *parameters = shoal_json_new_object();
    shoal_json *bytes = shoal_json_new_object();
#define SET_CLASS(name)                                                                            \
    set_int(parameters, #name, d->count.name);                                                     \
    set_int(bytes, #name, (int64_t)d->bytes.name);
    SHOAL_WEIGHT_CLASS_MAP(SET_CLASS)
#undef SET_CLASS
    set_int(bytes, "other", (int64_t)d->bytes.other);
    shoal_json *both = shoal_json_new_object();
    shoal_json_set(both, "parameters", parameters);
    shoal_json_set(both, "bytes", bytes);
    return both;
}

static shoal_json *description_json(description *d)
{
    const shoal_spec *spec = d->spec;
    char identity[17];
    snprintf(identity, sizeof identity, "%016" PRIx64, shoal_checkpoint_identity(d->checkpoint));
    shoal_json *o = shoal_json_new_object();
    set_text(o, "architecture", spec->family->model_type);
    set_text(o, "attention", attention_text(spec));
    set_int(o, "n_layer", spec->n_layer);
    set_int(o, "n_moe_layer", spec->n_moe_layer);
    set_int(o, "n_mtp_layer", spec->n_mtp_layer);
    set_int(o, "n_embd", spec->n_embd);
    set_int(o, "n_vocab", spec->n_vocab);
    set_int(o, "n_head", spec->attention.n_head);
    set_int(o, "n_context_max", spec->n_context_max);
    set_int(o, "n_expert", spec->router.n_expert);
    set_int(o, "top_k", spec->router.top_k);
    set_int(o, "n_group", spec->router.n_group);
    set_int(o, "parameters_total", d->count.total);
    set_int(o, "parameters_active", active_as_published(d));
    set_int(o, "parameters_active_with_embedding", d->count.active_with_embedding);
    set_int(o, "parameters_active_without_embedding", d->count.active);
    set_int(o, "parameters_mtp", d->count.mtp);
    set_int(o, "parameters_per_expert", d->count.one_expert);
    set_text(o, "storage", storage_text(d));
    set_text(o, "bytes_from", d->converted ? "memory" : d->expected ? "config" : "files");
    set_text(o, "weights", shoal_weights_text(d->storage.choice));
    set_int(o, "bytes_total", (int64_t)d->bytes.total);
    set_int(o, "bytes_per_expert", (int64_t)d->bytes.one_expert);
    shoal_json_set(o, "classes", classes_json(d));
    shoal_json *kv = shoal_json_new_object();
    set_int(kv, "f32", 4 * kv_values_per_token(spec));
    set_int(kv, "bf16", 2 * kv_values_per_token(spec));
    shoal_json_set(o, "kv_bytes_per_token", kv);
    shoal_json_set(o, "ranks", d->ranks);
    d->ranks = NULL;
    set_int(o, "n_tensor", shoal_checkpoint_n_tensor(d->checkpoint));
    set_text(o, "identity", identity);
    return o;
}

static const char *count_text(char text[SHOAL_BYTES_TEXT], int64_t n)
{
    if (n >= 1000000000)
        snprintf(text, SHOAL_BYTES_TEXT, "%.2f G", (double)n / 1e9);
    else if (n >= 1000000)
        snprintf(text, SHOAL_BYTES_TEXT, "%.2f M", (double)n / 1e6);
    else
        snprintf(text, SHOAL_BYTES_TEXT, "%lld", (long long)n);
    return text;
}

static void print_class(const char *name, int64_t n_parameter, uint64_t n_bytes)
{
    char parameters[SHOAL_BYTES_TEXT], bytes[SHOAL_BYTES_TEXT];
    printf("  %-16s %12s parameters %12s\n", name, count_text(parameters, n_parameter),
           shoal_bytes_text(bytes, n_bytes));
}

static void print_description(const description *d)
{
    const shoal_spec *spec = d->spec;
    char a[SHOAL_BYTES_TEXT], b[SHOAL_BYTES_TEXT];
    printf("%s: %s\n", shoal_checkpoint_path(d->checkpoint), spec->family->model_type);
    printf("layers           %d, of them %d MoE, and %d for multi-token prediction\n",
           (int)spec->n_layer, (int)spec->n_moe_layer, (int)spec->n_mtp_layer);
    printf("width            %d, vocabulary %d, context up to %d\n", (int)spec->n_embd,
           (int)spec->n_vocab, (int)spec->n_context_max);
    printf("attention        %s, %d heads\n", attention_text(spec), (int)spec->attention.n_head);
    printf("experts          %d per layer in %d groups, %d per token; %s parameters, %s each\n",
           (int)spec->router.n_expert, (int)spec->router.n_group, (int)spec->router.top_k,
           count_text(a, d->count.one_expert), shoal_bytes_text(b, d->bytes.one_expert));
    printf("parameters       %s, of them %s active per token\n", count_text(a, d->count.total),
           count_text(b, active_as_published(d)));
    if (d->count.active != d->count.active_with_embedding)
        printf("                 (as its publisher counts; active %s with the embedding, %s "
               "without)\n",
               count_text(a, d->count.active_with_embedding), count_text(b, d->count.active));
    if (spec->n_mtp_layer > 0)
        printf("                 and %s for multi-token prediction\n", count_text(a, d->count.mtp));
    printf("kv cache         %s per token in f32, %s in bf16\n",
           shoal_bytes_text(a, (uint64_t)kv_values_per_token(spec) * 4),
           shoal_bytes_text(b, (uint64_t)kv_values_per_token(spec) * 2));
    if (d->converted)
        printf("weights          %s in memory with --weights %s (stored as %s)\n",
               shoal_bytes_text(a, d->bytes.total), shoal_weights_text(d->storage.choice),
               storage_text(d));
    else if (d->expected)
        printf("weights          %s as config.json announces them (%s)\n",
               shoal_bytes_text(a, d->bytes.total), storage_text(d));
    else
        printf("weights          %s in %lld tensors (%s)\n", shoal_bytes_text(a, d->bytes.total),
               (long long)shoal_checkpoint_n_tensor(d->checkpoint), storage_text(d));
#define PRINT_CLASS(name) print_class(#name, d->count.name, d->bytes.name);
    SHOAL_WEIGHT_CLASS_MAP(PRINT_CLASS)
#undef PRINT_CLASS
    if (d->bytes.other > 0)
        printf("  %-16s %35s\n", spec->n_mtp_layer > 0 ? "mtp and other" : "other",
               shoal_bytes_text(a, d->bytes.other));
    printf("ranks            bytes of weights on the fullest and on the emptiest, and what the\n"
           "                 experts on the fullest take of it (equal ranks)\n");
    for (size_t i = 0; i < shoal_json_size(d->ranks); i++) {
        const shoal_json *one = shoal_json_at(d->ranks, i);
        char c[SHOAL_BYTES_TEXT];
        printf("  %-16lld %12s %12s %12s\n",
               (long long)shoal_json_int(shoal_json_get(one, "ranks"), 0),
               shoal_bytes_text(a, (uint64_t)shoal_json_int(shoal_json_get(one, "bytes_max"), 0)),
               shoal_bytes_text(b, (uint64_t)shoal_json_int(shoal_json_get(one, "bytes_min"), 0)),
               shoal_bytes_text(
                   c, (uint64_t)shoal_json_int(shoal_json_get(one, "expert_bytes_max"), 0)));
    }
}

/* The weights of each of n_rank equal ranks. */
static shoal_status ranks_json(shoal_json **entry, const description *d, int32_t n_rank,
                               shoal_log *log)
{
    const shoal_spec *spec = d->spec;
    shoal_placement placement;
    SHOAL_TRY(shoal_placement_open(&placement, spec->n_moe_layer, spec->router.n_expert,
                                   spec->router.n_group, n_rank, NULL, NULL, log));
    uint64_t *n_bytes = calloc((size_t)n_rank, sizeof *n_bytes);
    if (n_bytes == NULL) {
        shoal_placement_close(&placement);
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for %d ranks", (int)n_rank);
    }
    shoal_weight_bytes_of_ranks(n_bytes, &d->bytes, &placement);
    shoal_placement_close(&placement);
    uint64_t most = n_bytes[0], least = n_bytes[0];
    shoal_json *list = shoal_json_new_array();
    for (int32_t r = 0; r < n_rank; r++) {
        most = n_bytes[r] > most ? n_bytes[r] : most;
        least = n_bytes[r] < least ? n_bytes[r] : least;
        shoal_json_append(list, shoal_json_new_int((int64_t)n_bytes[r]));
    }
    free(n_bytes);
    uint64_t replicated = d->bytes.total - d->bytes.other - d->bytes.experts;
    *entry = shoal_json_new_object();
    set_int(*entry, "ranks", n_rank);
    set_int(*entry, "bytes_max", (int64_t)most);
    set_int(*entry, "bytes_min", (int64_t)least);
    set_int(*entry, "expert_bytes_max", (int64_t)(most - replicated));
    set_int(*entry, "replicated_bytes", (int64_t)replicated);
    shoal_json_set(*entry, "bytes_per_rank", list);
    return SHOAL_OK;
}

static shoal_status describe(description *d, const shoal_options *options, shoal_log *log)
{
    SHOAL_TRY(shoal_options_ranks(&d->n_rank, &d->n_count, options->ranks, log));
    d->count = shoal_spec_count(d->spec);
    d->storage = shoal_storage_of(shoal_checkpoint_config(d->checkpoint));
    d->storage.choice = (shoal_weights_choice)options->weights;
    d->expected = shoal_checkpoint_n_tensor(d->checkpoint) == 0;
    d->converted = d->storage.choice != SHOAL_WEIGHTS_NATIVE;
    d->bytes = d->expected || d->converted ? shoal_weight_bytes_expected(d->spec, &d->storage)
                                           : shoal_weight_bytes_of(d->checkpoint, d->spec);
    d->ranks = shoal_json_new_array();
    for (int32_t i = 0; i < d->n_count; i++) {
        shoal_json *entry;
        SHOAL_TRY(ranks_json(&entry, d, d->n_rank[i], log));
        shoal_json_append(d->ranks, entry);
    }
    if (options->json)
        return shoal_print_json(description_json(d), log);
    print_description(d);
    return shoal_flush_stdout(log);
}

shoal_status shoal_cmd_inspect(const shoal_options *options,
                               const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    (void)interrupted;
    if (shoal_bootstrap_environment_rank() > 0)
        return SHOAL_OK;
    shoal_checkpoint *checkpoint = NULL;
    shoal_spec spec = {0};
    SHOAL_TRY(shoal_checkpoint_open(&checkpoint, options->model, true, log));
    shoal_status status = shoal_spec_open(&spec, checkpoint, log);
    if (status == SHOAL_OK) {
        description d = {.checkpoint = checkpoint, .spec = &spec};
        status = describe(&d, options, log);
        shoal_json_close(d.ranks);
        free(d.n_rank);
    }
    shoal_spec_close(&spec);
    shoal_checkpoint_close(checkpoint);
    return status;
}
