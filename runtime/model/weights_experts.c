/* The experts of one layer: a tensor for each, or all in one. */
#include "runtime/model/weights_kept.h"

typedef struct expert_part {
    shoal_role role, bias_role;
    shoal_matrix *m;
    float **bias;
    int32_t n_row, n_col;
    int32_t half; /* of a fused gate_up: 0 gate, 1 up; -1: a tensor of its own */
} expert_part;

/* Where the matrix of a part, or with bias its bias, lies for one expert. name: scratch that the
 * result refers to. */
static shoal_weight_ref part_ref(char name[SHOAL_TENSOR_NAME_MAX], const shoal_walker *w,
                                 const expert_part *part, int32_t layer, int32_t expert, bool bias)
{
    const shoal_spec *spec = w->spec;
    shoal_expert_layout layout = spec->family->expert_layout;
    shoal_role role = bias ? part->bias_role : part->role;
    shoal_weight_ref ref =
        shoal_weight_ref_of(shoal_spec_tensor_name(name, spec, role, layer, expert));
    if (layout != SHOAL_EXPERTS_SEPARATE)
        ref = shoal_weight_ref_slice(name, expert, spec->router.n_expert);
    ref.weights = w->source->choice;
    if (layout == SHOAL_EXPERTS_SEPARATE)
        return ref;
    if (part->half >= 0) {
        bool interleaved = layout == SHOAL_EXPERTS_FUSED_INTERLEAVED;
        ref.n_stored_row = 2 * part->n_row;
        ref.row0 = interleaved ? part->half : part->half * part->n_row;
        ref.row_step = interleaved ? 2 : 1;
    }
    ref.transposed = !bias && layout == SHOAL_EXPERTS_FUSED_INTERLEAVED;
    return ref;
}

/* All experts of a layer have one format, so that shards are plain arrays. */
static shoal_status note_format(shoal_format *format, shoal_format found, int32_t expert,
                                const char *name, shoal_log *log)
{
    if (expert == 0)
        *format = found;
    if (found != *format)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "tensor %s: packs to %s, but expert 0 of its layer to %s; the experts of "
                          "a layer must have one format",
                          name, shoal_format_text(found), shoal_format_text(*format));
    return SHOAL_OK;
}

static shoal_status visit_part(shoal_walker *w, const expert_part *part, shoal_format *format,
                               bool own, int32_t layer, int32_t expert)
{
    const shoal_spec *s = w->spec;
    char name[SHOAL_TENSOR_NAME_MAX];
    shoal_weight_ref ref = part_ref(name, w, part, layer, expert, false);
    if (w->pass == SHOAL_PASS_CHECK) {
        shoal_format found;
        w->role = part->role;
        SHOAL_TRY(shoal__walk_format(&found, w, ref, part->n_row, part->n_col));
        SHOAL_TRY(note_format(format, found, expert, name, w->source->log));
        if (own) {
            *part->m = (shoal_matrix){.format = found, .n_row = part->n_row, .n_col = part->n_col};
            shoal__walk_check(w, part->m, ref);
        }
    } else {
        SHOAL_TRY(shoal__visit_matrix(w, part->m, own, ref, part->n_row, part->n_col));
    }
    if (!s->expert_bias)
        return SHOAL_OK;
    return shoal__visit_vector(w, part->bias, own, part_ref(name, w, part, layer, expert, true),
                               part->n_row);
}

shoal_status shoal__walk_expert(shoal_walker *w, shoal_expert *x, shoal_expert_format *format,
                                bool own, int32_t layer, int32_t expert)
{
    const shoal_spec *s = w->spec;
    const bool fused = s->family->expert_layout != SHOAL_EXPERTS_SEPARATE;
    const int32_t n_ff = s->n_ff_expert, n_embd = s->n_embd;
    const expert_part gate = {
        .role = SHOAL_ROLE_EXPERT_GATE,
        .bias_role = SHOAL_ROLE_EXPERT_GATE_BIAS,
        .m = &x->gate,
        .bias = &x->gate_bias,
        .n_row = n_ff,
        .n_col = n_embd,
        .half = fused ? 0 : -1,
    };
    const expert_part up = {
        .role = SHOAL_ROLE_EXPERT_UP,
        .bias_role = SHOAL_ROLE_EXPERT_UP_BIAS,
        .m = &x->up,
        .bias = &x->up_bias,
        .n_row = n_ff,
        .n_col = n_embd,
        .half = fused ? 1 : -1,
    };
    const expert_part down = {
        .role = SHOAL_ROLE_EXPERT_DOWN,
        .bias_role = SHOAL_ROLE_EXPERT_DOWN_BIAS,
        .m = &x->down,
        .bias = &x->down_bias,
        .n_row = n_embd,
        .n_col = n_ff,
        .half = -1,
    };
    w->memory_class = &w->totals->expert_bytes;
    SHOAL_TRY(shoal__unit_begin(w, layer, expert, own));
    SHOAL_TRY(visit_part(w, &gate, &format->gate, own, layer, expert));
    SHOAL_TRY(visit_part(w, &up, &format->up, own, layer, expert));
    SHOAL_TRY(visit_part(w, &down, &format->down, own, layer, expert));
    return shoal__unit_end(w);
}

shoal_status shoal__walk_experts(shoal_walker *w, shoal_weights *weights, int32_t layer,
                                 int32_t moe_layer)
{
    const int32_t n_expert = w->source->measuring ? 1 : w->spec->router.n_expert;
    shoal_expert none;
    shoal_expert *kept = weights->kept_expert;
    int32_t n_local = 0;
    for (int32_t e = 0; e < n_expert; e++) {
        bool own = shoal_placement_owner(w->source->placement, moe_layer, e) == w->source->rank;
        bool load = w->pass == SHOAL_PASS_LOAD;
        if (load && !own)
            continue;
        shoal_expert *x = &none;
        if (load)
            x = &weights->shard.layer[moe_layer].expert[n_local++];
        else if (own && kept != NULL)
            x = &kept[(size_t)moe_layer * (size_t)n_expert + (size_t)e];
        none = (shoal_expert){0};
        SHOAL_TRY(shoal__walk_expert(w, x, &w->source->expert_format[moe_layer], own, layer, e));
    }
    shoal__units_keep(w);
    return SHOAL_OK;
}
