#include "runtime/checkpoint/gguf_names.h"

#include "runtime/checkpoint/gguf_arch.h"
#include "runtime/checkpoint/safetensors.h"

#include <stdlib.h>
#include <string.h>

#define MAX_EXPERT 65536
#define MAX_BLOCK  65536

void shoal__gguf_architecture(char *text, size_t n_text, const shoal__gguf *metadata)
{
    size_t n = 0;
    const char *found = shoal__gguf_string(shoal__gguf_find(metadata, "general.architecture"), &n);
    if (found == NULL || !shoal__tensor_name_ok(found, n))
        n = 0;
    snprintf(text, n_text, "%.*s", (int)n, n > 0 ? found : "");
}

const shoal__gguf_value *shoal__gguf_arch_find(const shoal__gguf *metadata, const char *key)
{
    char arch[64];
    char full[192];
    shoal__gguf_architecture(arch, sizeof arch, metadata);
    snprintf(full, sizeof full, "%s.%s", arch, key);
    return shoal__gguf_find(metadata, full);
}

/* -- building the list -- */

typedef struct builder {
    shoal__gguf_names *names;
    const shoal_tensor_info *stored; /* [n_stored] */
    int64_t n_stored;
    const shoal__gguf *metadata;
    const shoal__arch_names *arch; /* NULL: an architecture without names */
    const char *path;
    shoal_log *log;
} builder;

static shoal_status no_memory(const builder *b)
{
    return shoal_fail(b->log, SHOAL_NO_MEMORY, "%s: no memory for the names of its tensors",
                      b->path);
}

static shoal_status add(builder *b, const shoal_tensor_info *t, const char *name)
{
    shoal__gguf_names *n = b->names;
    if (n->n_tensor == n->n_tensor_max) {
        int64_t n_max = n->n_tensor_max == 0 ? 1024 : 2 * n->n_tensor_max;
        shoal_tensor_info *grown = realloc(n->tensor, (size_t)n_max * sizeof *grown);
        if (grown == NULL)
            return no_memory(b);
        n->tensor = grown;
        n->n_tensor_max = n_max;
    }
    char *copy = strdup(name);
    if (copy == NULL)
        return no_memory(b);
    n->tensor[n->n_tensor] = *t;
    n->tensor[n->n_tensor++].name = copy;
    return SHOAL_OK;
}

static shoal_status add_view(builder *b, shoal_tensor_info *t, const shoal__view *view,
                             const char *name)
{
    shoal__gguf_names *n = b->names;
    if (n->n_view == n->n_view_max) {
        int64_t n_max = n->n_view_max == 0 ? 64 : 2 * n->n_view_max;
        shoal__view **grown = realloc(n->view, (size_t)n_max * sizeof *grown);
        if (grown == NULL)
            return no_memory(b);
        n->view = grown;
        n->n_view_max = n_max;
    }
    shoal__view *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return no_memory(b);
    *copy = *view;
    n->view[n->n_view++] = copy;
    t->view = copy;
    return add(b, t, name);
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const shoal_tensor_info *)a)->name, ((const shoal_tensor_info *)b)->name);
}

/* The tensor of the same block whose base name is another: "blk.N.OTHER.weight". */
static const shoal_tensor_info *find_stored(const builder *b, int32_t layer, const char *rest)
{
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    snprintf(name, sizeof name, "blk.%d.%s", layer, rest);
    shoal_tensor_info key = {.name = name};
    return bsearch(&key, b->stored, (size_t)b->n_stored, sizeof *b->stored, compare_name);
}

static shoal_status bad_shape(const builder *b, const shoal_tensor_info *t, const char *wanted)
{
    char shape[256];
    return shoal_fail(b->log, SHOAL_BAD_DATA, "%s: tensor %s has shape %s, wanted %s", b->path,
                      t->name, shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim), wanted);
}

/* -- the kinds of tensors -- */

/* [E, ...] becomes E tensors [...]. pattern: "model.layers.N." and the expert's, with one %d. */
static shoal_status add_experts(builder *b, const shoal_tensor_info *t, const char *prefix,
                                const char *pattern, const char *suffix)
{
    int64_t n_expert = t->shape[0];
    if (t->n_dim < 2 || n_expert < 1 || n_expert > MAX_EXPERT ||
        t->n_bytes % (uint64_t)n_expert != 0)
        return bad_shape(b, t, "[experts, rows, columns]");
    const char *number = strstr(pattern, "%d");
    for (int64_t e = 0; e < n_expert; e++) {
        shoal_tensor_info one = *t;
        one.n_dim--;
        memmove(one.shape, one.shape + 1, (size_t)one.n_dim * sizeof *one.shape);
        one.n_bytes = t->n_bytes / (uint64_t)n_expert;
        one.offset = t->offset + (uint64_t)e * one.n_bytes;
        char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
        snprintf(name, sizeof name, "%s%.*s%d%s%s", prefix, (int)(number - pattern), pattern,
                 (int)e, number + 2, suffix);
        SHOAL_TRY(add(b, &one, name));
    }
    return SHOAL_OK;
}

/* gate and up, [..., n, columns], become one [..., 2 * n, columns]; of biases the same without
 * columns. */
static shoal_status add_fused(builder *b, const shoal_tensor_info *gate,
                              const shoal_tensor_info *up, const char *name, bool bias)
{
    if (up == NULL)
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: has tensor %s, but not the one of the other half (ffn_up)", b->path,
                          gate->name);
    int32_t rows = gate->n_dim - (bias ? 1 : 2);
    if (rows < 0 || gate->shape[rows] > INT32_MAX / 2 || up->n_dim != gate->n_dim ||
        memcmp(up->shape, gate->shape, sizeof gate->shape) != 0)
        return bad_shape(b, gate, "the same as of its up tensor, with rows and columns");
    shoal_tensor_info fused = *gate;
    fused.shape[rows] *= 2;
    fused.n_bytes += up->n_bytes;
    return add_view(b, &fused, &(shoal__view){.kind = b->arch->fused, .part = {*gate, *up}}, name);
}

/* k_b and v_b become kv_b. */
static shoal_status add_kv_b(builder *b, const shoal_tensor_info *k, const shoal_tensor_info *v,
                             const char *name)
{
    bool ok = v != NULL && k->n_dim == 3 && v->n_dim == 3 && k->shape[0] == v->shape[0] &&
              k->shape[1] == v->shape[2] && k->shape[0] >= 1 && k->shape[0] <= 1 << 16 &&
              k->shape[2] <= 1 << 14 && v->shape[1] <= 1 << 14 && k->shape[1] <= 1 << 20;
    if (!ok)
        return bad_shape(b, k, "[heads, rank, nope] beside attn_v_b [heads, v, rank]");
    shoal_tensor_info kv = *k;
    kv.dtype = SHOAL_DTYPE_F32;
    kv.n_dim = 2;
    memset(kv.shape, 0, sizeof kv.shape);
    kv.shape[0] = k->shape[0] * (k->shape[2] + v->shape[1]);
    kv.shape[1] = k->shape[1];
    kv.n_bytes += v->n_bytes;
    shoal__view view = {.kind = SHOAL__VIEW_KV_B, .n_head = (int32_t)k->shape[0], .part = {*k, *v}};
    return add_view(b, &kv, &view, name);
}

static shoal_status add_paired(builder *b, const shoal_tensor_info *t, bool is_k, const char *name)
{
    int64_t n_head = 0;
    const shoal__gguf_value *value = shoal__gguf_arch_find(
        b->metadata, is_k ? "attention.head_count_kv" : "attention.head_count");
    if (is_k && value == NULL)
        value = shoal__gguf_arch_find(b->metadata, "attention.head_count");
    if (!shoal__gguf_int_at(&n_head, value, 0) || n_head < 1 || n_head > 1 << 16 ||
        t->shape[0] % (2 * n_head) != 0 || t->shape[0] > INT32_MAX)
        return bad_shape(b, t, "rows of whole pairs for attention.head_count(_kv) heads");
    shoal_tensor_info paired = *t;
    shoal__view view = {.kind = SHOAL__VIEW_PAIRED_ROWS, .n_head = (int32_t)n_head};
    return add_view(b, &paired, &view, name);
}

/* "ffn_gate", "ffn_up", "ffn_down" followed by `tail`: 0, 1, 2; else -1. */
static int mlp_part(const char *base, const char *tail)
{
    static const char *const part[] = {"ffn_gate", "ffn_up", "ffn_down"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(part[i]);
        if (strncmp(base, part[i], n) == 0 && strcmp(base + n, tail) == 0)
            return i;
    }
    return -1;
}

/* ffn_{gate,up,down}_exps. */
static shoal_status add_expert_tensor(builder *b, const shoal_tensor_info *t, int part,
                                      int32_t layer, const char *prefix)
{
    const shoal__arch_names *a = b->arch;
    bool bias = strcmp(t->name + strlen(t->name) - 5, ".bias") == 0;
    const char *suffix = bias ? a->bias_suffix : a->weight_suffix;
    const char *pattern = part == 0 ? a->gate : part == 1 ? a->up : a->down;
    if (part == 1 && pattern == NULL)
        return SHOAL_OK; /* goes with its gate */
    if (strstr(pattern, "%d") != NULL)
        return add_experts(b, t, prefix, pattern, suffix);
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    snprintf(name, sizeof name, "%s%s%s", prefix, pattern, suffix);
    shoal_tensor_info down = *t;
    if (part == 2)
        return add_view(b, &down, &(shoal__view){.kind = SHOAL__VIEW_ROWS}, name);
    const char *up = bias ? "ffn_up_exps.bias" : "ffn_up_exps.weight";
    return add_fused(b, t, find_stored(b, layer, up), name, bias);
}

/* ffn_{gate,up,down}_shexp. */
static shoal_status add_shared(builder *b, const shoal_tensor_info *t, int part, int32_t layer,
                               const char *prefix)
{
    static const char *const linear[] = {"gate_proj", "up_proj", "down_proj"};
    static const char *const fused[] = {"input_linear", NULL, "output_linear"};
    const char *last = b->arch->up == NULL ? fused[part] : linear[part];
    if (last == NULL)
        return SHOAL_OK;
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    snprintf(name, sizeof name, "%s%s.%s.weight", prefix, b->arch->shared, last);
    if (b->arch->up == NULL && part == 0)
        return add_fused(b, t, find_stored(b, layer, "ffn_up_shexp.weight"), name, false);
    return add(b, t, name);
}

/* Experts of old files: "ffn_gate.3". The number, or -1. */
static int old_expert(char *base)
{
    char *dot = strrchr(base, '.');
    if (dot == NULL || strncmp(base, "ffn_", 4) != 0 || dot[1] < '0' || dot[1] > '9')
        return -1;
    char *end = NULL;
    long number = strtol(dot + 1, &end, 10);
    if (*end != '\0' || number < 0 || number >= MAX_EXPERT)
        return -1;
    *dot = '\0';
    return (int)number;
}

static shoal_status add_old_expert(builder *b, const shoal_tensor_info *t, int part, int expert,
                                   const char *prefix)
{
    const shoal__arch_names *a = b->arch;
    const char *pattern = part == 0 ? a->gate : part == 1 ? a->up : a->down;
    const char *number = pattern != NULL ? strstr(pattern, "%d") : NULL;
    if (number == NULL)
        return add(b, t, t->name);
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    snprintf(name, sizeof name, "%s%.*s%d%s.weight", prefix, (int)(number - pattern), pattern,
             expert, number + 2);
    return add(b, t, name);
}

static shoal_status add_named(builder *b, const shoal_tensor_info *t, const char *base,
                              const char *prefix, const char *suffix)
{
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    bool is_router = strcmp(base, "ffn_gate_inp") == 0;
    const char *hf = is_router ? b->arch->router : shoal__gguf_layer_name(base);
    if (hf == NULL)
        return add(b, t, t->name);
    snprintf(name, sizeof name, "%s%s%s", prefix, hf, suffix);
    bool is_q = strcmp(base, "attn_q") == 0, is_k = strcmp(base, "attn_k") == 0;
    if (b->arch->paired_rows && (is_q || is_k))
        return add_paired(b, t, is_k, name);
    shoal_tensor_info named = *t;
    if (strcmp(base, "ffn_gate_inp_shexp") == 0 && t->n_dim == 1) { /* in older files */
        named.n_dim = 2;
        named.shape[1] = t->shape[0];
        named.shape[0] = 1;
    }
    return add(b, &named, name);
}

/* "blk.N.": N, and what follows; -1 if it is none. */
static int32_t block_of(const char *name, const char **rest)
{
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9')
        return -1;
    char *end = NULL;
    long layer = strtol(name + 4, &end, 10);
    if (*end != '.' || layer >= MAX_BLOCK || layer < 0)
        return -1;
    *rest = end + 1;
    return (int32_t)layer;
}

static shoal_status add_stored(builder *b, const shoal_tensor_info *t)
{
    const char *rest = NULL;
    int32_t layer = block_of(t->name, &rest);
    const char *hf = layer < 0 ? shoal__gguf_model_name(t->name) : NULL;
    if (hf != NULL)
        return add(b, t, hf);
    if (layer < 0 || b->arch == NULL)
        return add(b, t, t->name);

    char prefix[48];
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    snprintf(prefix, sizeof prefix, "model.layers.%d.", layer);
    hf = shoal__gguf_bare_name(rest);
    if (hf != NULL) {
        snprintf(name, sizeof name, "%s%s", prefix, hf);
        return add(b, t, name);
    }
    char base[SHOAL_TENSOR_NAME_MAX_BYTES + 1];
    snprintf(base, sizeof base, "%s", rest);
    char *dot = strrchr(base, '.');
    if (dot == NULL || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0))
        return add(b, t, t->name);
    const char *suffix = rest + (dot - base);
    *dot = '\0';

    int part = mlp_part(base, "_exps");
    if (part >= 0)
        return add_expert_tensor(b, t, part, layer, prefix);
    part = mlp_part(base, "_shexp");
    if (part >= 0 && b->arch->shared != NULL)
        return add_shared(b, t, part, layer, prefix);
    int expert = old_expert(base);
    part = mlp_part(base, "");
    if (expert >= 0 && part >= 0)
        return add_old_expert(b, t, part, expert, prefix);
    bool is_k = strcmp(base, "attn_k_b") == 0, is_v = strcmp(base, "attn_v_b") == 0;
    if ((is_k || is_v) && find_stored(b, layer, "attn_kv_b.weight") != NULL)
        return SHOAL_OK; /* some files have all three */
    if (is_v && find_stored(b, layer, "attn_k_b.weight") != NULL)
        return SHOAL_OK; /* goes with its k_b */
    if (is_k) {
        snprintf(name, sizeof name, "%sself_attn.kv_b_proj.weight", prefix);
        return add_kv_b(b, t, find_stored(b, layer, "attn_v_b.weight"), name);
    }
    return add_named(b, t, base, prefix, suffix);
}

shoal_status shoal__gguf_names_open(shoal__gguf_names *names, const shoal_tensor_info *stored,
                                    int64_t n_stored, const shoal__gguf *metadata, const char *path,
                                    shoal_log *log)
{
    shoal__gguf_names made = {0};
    builder b = {.names = &made,
                 .stored = stored,
                 .n_stored = n_stored,
                 .metadata = metadata,
                 .path = path,
                 .log = log};
    char arch[64];
    shoal__gguf_architecture(arch, sizeof arch, metadata);
    b.arch = shoal__gguf_find_arch(arch);
    shoal_status status = SHOAL_OK;
    for (int64_t i = 0; i < n_stored && status == SHOAL_OK; i++)
        status = add_stored(&b, &stored[i]);
    if (status != SHOAL_OK) {
        shoal__gguf_names_close(&made);
        return status;
    }
    *names = made;
    return SHOAL_OK;
}

void shoal__gguf_names_close(shoal__gguf_names *names)
{
    for (int64_t i = 0; i < names->n_tensor; i++)
        free((char *)names->tensor[i].name);
    for (int64_t i = 0; i < names->n_view; i++)
        free(names->view[i]);
    free(names->tensor);
    free(names->view);
    *names = (shoal__gguf_names){0};
}
