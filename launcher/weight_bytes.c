#include "launcher/weight_bytes.h"

#include <stdio.h>
#include <string.h>

static uint64_t bytes_named(const shoal_checkpoint *checkpoint, const char *name,
                            const char *suffix)
{
    char whole[SHOAL_TENSOR_NAME_MAX + 16];
    snprintf(whole, sizeof whole, "%s%s", name, suffix);
    const shoal_tensor_info *t = shoal_checkpoint_find(checkpoint, whole);
    return t != NULL ? t->n_bytes : 0;
}

/* A tensor with its scales, or the two tensors of MXFP4. */
static uint64_t tensor_bytes(const shoal_checkpoint *checkpoint, const char *name)
{
    return bytes_named(checkpoint, name, "") + bytes_named(checkpoint, name, "_scale_inv") +
           bytes_named(checkpoint, name, "_blocks") + bytes_named(checkpoint, name, "_scales");
}

static uint64_t role_bytes(const shoal_checkpoint *checkpoint, const shoal_spec *spec,
                           shoal_role role, int32_t layer, int32_t expert)
{
    if (spec->family->tensor[role] == NULL)
        return 0;
    char name[SHOAL_TENSOR_NAME_MAX];
    return tensor_bytes(checkpoint, shoal_spec_tensor_name(name, spec, role, layer, expert));
}

static uint64_t *class_of(shoal_weight_bytes *bytes, shoal_role role)
{
    switch (role) {
    case SHOAL_ROLE_EMBED:
        return &bytes->embed;
    case SHOAL_ROLE_LM_HEAD:
        return &bytes->lm_head;
    case SHOAL_ROLE_FINAL_NORM:
    case SHOAL_ROLE_ATTN_NORM:
    case SHOAL_ROLE_MLP_NORM:
    case SHOAL_ROLE_Q_NORM:
    case SHOAL_ROLE_K_NORM:
    case SHOAL_ROLE_Q_A_NORM:
    case SHOAL_ROLE_KV_A_NORM:
        return &bytes->norms;
    case SHOAL_ROLE_GATE:
    case SHOAL_ROLE_UP:
    case SHOAL_ROLE_DOWN:
        return &bytes->dense_mlp;
    case SHOAL_ROLE_ROUTER:
    case SHOAL_ROLE_ROUTER_BIAS:
    case SHOAL_ROLE_ROUTER_SELECT_BIAS:
        return &bytes->router;
    case SHOAL_ROLE_SHARED_GATE:
    case SHOAL_ROLE_SHARED_UP:
    case SHOAL_ROLE_SHARED_DOWN:
    case SHOAL_ROLE_SHARED_EXPERT_GATE:
        return &bytes->shared_experts;
    default:
        return &bytes->attention;
    }
}

/* Bytes of one expert; of all experts of the layer where they are fused. Gate and up may be one
 * tensor. */
static uint64_t expert_bytes(const shoal_checkpoint *checkpoint, const shoal_spec *spec,
                             int32_t layer, int32_t expert)
{
    const char *const *name = spec->family->tensor;
    uint64_t n_bytes = 0;
    for (shoal_role role = SHOAL_ROLE_EXPERT_GATE; role <= SHOAL_ROLE_EXPERT_DOWN_BIAS; role++) {
        bool counted = false;
        for (shoal_role r = SHOAL_ROLE_EXPERT_GATE; r < role && name[role] != NULL; r++)
            counted = counted || (name[r] != NULL && strcmp(name[r], name[role]) == 0);
        if (!counted)
            n_bytes += role_bytes(checkpoint, spec, role, layer, expert);
    }
    return n_bytes;
}

static void count_experts(shoal_weight_bytes *bytes, const shoal_checkpoint *checkpoint,
                          const shoal_spec *spec, int32_t layer)
{
    bool fused = spec->family->expert_layout != SHOAL_EXPERTS_SEPARATE;
    for (int32_t e = 0; e < (fused ? 1 : spec->router.n_expert); e++) {
        uint64_t n_bytes = expert_bytes(checkpoint, spec, layer, e);
        uint64_t one = fused ? n_bytes / (uint64_t)spec->router.n_expert : n_bytes;
        bytes->experts += n_bytes;
        if (one > bytes->one_expert)
            bytes->one_expert = one;
    }
}

shoal_weight_bytes shoal_weight_bytes_of(const shoal_checkpoint *checkpoint, const shoal_spec *spec)
{
    shoal_weight_bytes bytes = {0};
    for (shoal_role role = SHOAL_ROLE_EMBED; role <= SHOAL_ROLE_LM_HEAD; role++)
        *class_of(&bytes, role) += role_bytes(checkpoint, spec, role, 0, 0);
    for (int32_t layer = 0; layer < spec->n_layer; layer++) {
        for (shoal_role role = SHOAL_ROLE_ATTN_NORM; role < SHOAL_ROLE_EXPERT_GATE; role++)
            *class_of(&bytes, role) += role_bytes(checkpoint, spec, role, layer, 0);
        if (spec->is_moe[layer])
            count_experts(&bytes, checkpoint, spec, layer);
    }
    if (spec->tied_embeddings)
        bytes.lm_head = 0;
    uint64_t known = 0;
#define ADD_CLASS(name) known += bytes.name;
    SHOAL_WEIGHT_CLASS_MAP(ADD_CLASS)
#undef ADD_CLASS
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i++)
        bytes.total += shoal_checkpoint_tensor(checkpoint, i)->n_bytes;
    bytes.other = bytes.total > known ? bytes.total - known : 0;
    return bytes;
}
