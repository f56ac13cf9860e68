/* shoal inspect: what a checkpoint is, from its headers. */
#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/report.h"
#include "launcher/weight_bytes.h"

#include <inttypes.h>
#include <string.h>

typedef struct description {
    const shoal_checkpoint *checkpoint;
    const shoal_spec *spec;
    shoal_parameter_count count;
    shoal_weight_bytes bytes;
} description;

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

static shoal_json *description_json(const description *d)
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
    set_int(o, "parameters_active", d->count.active);
    set_int(o, "parameters_per_expert", d->count.one_expert);
    set_int(o, "bytes_total", (int64_t)d->bytes.total);
    set_int(o, "bytes_per_expert", (int64_t)d->bytes.one_expert);
    shoal_json_set(o, "classes", classes_json(d));
    shoal_json *kv = shoal_json_new_object();
    set_int(kv, "f32", 4 * kv_values_per_token(spec));
    set_int(kv, "bf16", 2 * kv_values_per_token(spec));
    shoal_json_set(o, "kv_bytes_per_token", kv);
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
    printf("layers           %d, of them %d MoE, and %d for multi-token prediction (not used)\n",
           (int)spec->n_layer, (int)spec->n_moe_layer, (int)spec->n_mtp_layer);
    printf("width            %d, vocabulary %d, context up to %d\n", (int)spec->n_embd,
           (int)spec->n_vocab, (int)spec->n_context_max);
    printf("attention        %s, %d heads\n", attention_text(spec), (int)spec->attention.n_head);
    printf("experts          %d per layer in %d groups, %d per token; %s parameters, %s each\n",
           (int)spec->router.n_expert, (int)spec->router.n_group, (int)spec->router.top_k,
           count_text(a, d->count.one_expert), shoal_bytes_text(b, d->bytes.one_expert));
    printf("parameters       %s, of them %s active per token\n", count_text(a, d->count.total),
           count_text(b, d->count.active));
    printf("kv cache         %s per token in f32, %s in bf16\n",
           shoal_bytes_text(a, (uint64_t)kv_values_per_token(spec) * 4),
           shoal_bytes_text(b, (uint64_t)kv_values_per_token(spec) * 2));
    printf("weights          %s in %lld tensors\n", shoal_bytes_text(a, d->bytes.total),
           (long long)shoal_checkpoint_n_tensor(d->checkpoint));
#define PRINT_CLASS(name) print_class(#name, d->count.name, d->bytes.name);
    SHOAL_WEIGHT_CLASS_MAP(PRINT_CLASS)
#undef PRINT_CLASS
    if (d->bytes.other > 0)
        printf("  %-16s %35s\n", "not used", shoal_bytes_text(a, d->bytes.other));
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
        description d = {
            .checkpoint = checkpoint,
            .spec = &spec,
            .count = shoal_spec_count(&spec),
            .bytes = shoal_weight_bytes_of(checkpoint, &spec),
        };
        if (options->json) {
            status = shoal_print_json(description_json(&d), log);
        } else {
            print_description(&d);
            status = shoal_flush_stdout(log);
        }
    }
    shoal_spec_close(&spec);
    shoal_checkpoint_close(checkpoint);
    return status;
}
