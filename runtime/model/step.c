#include "runtime/model/step.h"

int32_t shoal_step_d_k(const shoal_spec *spec)
{
    const shoal_attention_config *a = &spec->attention;
    return a->kind == SHOAL_ATTENTION_MLA ? a->kv_lora_rank + a->rope.n_rot : a->head_dim;
}

int32_t shoal_step_d_v(const shoal_spec *spec)
{
    const shoal_attention_config *a = &spec->attention;
    return a->kind == SHOAL_ATTENTION_MLA ? a->kv_lora_rank : a->head_dim;
}

static void carve_attention(shoal_step *step, shoal_arenas arenas, const shoal_spec *spec,
                            const shoal_step_limits *limits)
{
    const shoal_attention_config *a = &spec->attention;
    bool mla = a->kind == SHOAL_ATTENTION_MLA, apart = arenas.host != arenas.device;
    shoal_arena *arena = arenas.device;
    size_t n = (size_t)limits->n_token_max, n_angle = n * (size_t)a->rope.n_rot / 2;
    size_t d_k = (size_t)shoal_step_d_k(spec), d_v = (size_t)shoal_step_d_v(spec),
           n_head = (size_t)a->n_head;
    step->place = SHOAL_TAKE(arenas.host, n, shoal_place);
    step->cos = SHOAL_TAKE(arena, n_angle, float);
    step->sin = SHOAL_TAKE(arena, n_angle, float);
    step->host_cos = apart ? SHOAL_TAKE(arenas.host, n_angle, float) : step->cos;
    step->host_sin = apart ? SHOAL_TAKE(arenas.host, n_angle, float) : step->sin;
    step->q_latent = SHOAL_TAKE(arena, n * (size_t)a->q_lora_rank, float);
    step->q = SHOAL_TAKE(arena, n * n_head * (size_t)a->head_dim, float);
    step->kv = SHOAL_TAKE(arena, n * (size_t)shoal_spec_kv_width(spec), float);
    step->q_absorbed = SHOAL_TAKE(arena, mla ? n * n_head * d_k : 0, float);
    step->attended = SHOAL_TAKE(arena, n * n_head * d_v, float);
    step->values = SHOAL_TAKE(arena, mla ? n * n_head * (size_t)a->v_dim : 0, float);
    step->head_item = SHOAL_TAKE(arenas.host, mla ? n_head : 0, shoal_matmul_item);
    const shoal_attend_limits room = {.n_token_max = limits->n_token_max,
                                      .n_head = a->n_head,
                                      .d_k = (int32_t)d_k,
                                      .d_v = (int32_t)d_v,
                                      .n_context = limits->n_context,
                                      .n_thread = limits->n_thread,
                                      .latent = mla};
    shoal_attend_room_carve(&step->attend, arenas, &room);
}

/* Rows of n_col values as integers, where they are wanted. */
static shoal_int8_group *take_int8(shoal_arena *arena, bool fast, size_t n_row, size_t n_col)
{
    size_t n_group = (size_t)shoal_int8_groups((int32_t)n_col);
    return SHOAL_TAKE(arena, fast ? n_row * n_group : 0, shoal_int8_group);
}

void shoal_step_carve(shoal_step *step, shoal_arenas arenas, const shoal_spec *spec,
                      const shoal_step_limits *limits)
{
    shoal_arena *arena = arenas.device;
    bool apart = arenas.host != arenas.device;
    size_t n = (size_t)limits->n_token_max, n_embd = (size_t)spec->n_embd;
    size_t n_logit = (size_t)limits->n_logit_max;
    size_t n_ff =
        (size_t)(spec->n_ff_dense > spec->n_ff_shared ? spec->n_ff_dense : spec->n_ff_shared);
    step->x = SHOAL_TAKE(arena, n * n_embd, float);
    step->h = SHOAL_TAKE(arena, n * n_embd, float);
    step->acc = SHOAL_TAKE(arena, n * n_embd, float);
    step->h_int8 = take_int8(arena, limits->fast, n, n_embd);
    carve_attention(step, arenas, spec, limits);
    const shoal_attention_config *a = &spec->attention;
    bool mla = a->kind == SHOAL_ATTENTION_MLA;
    int32_t o_width = a->n_head * (mla ? a->v_dim : a->head_dim);
    step->attention_int8 = take_int8(arena, limits->fast, n,
                                     (size_t)(o_width > a->q_lora_rank ? o_width : a->q_lora_rank));
    step->gate = SHOAL_TAKE(arena, n * n_ff, float);
    step->up = SHOAL_TAKE(arena, n * n_ff, float);
    step->hidden_int8 = take_int8(arena, limits->fast, n, n_ff);
    step->shared = SHOAL_TAKE(arena, spec->n_ff_shared > 0 ? n * n_embd : 0, float);
    step->router_logits = SHOAL_TAKE(arena, n * (size_t)spec->router.n_expert, float);
    step->topk_expert = SHOAL_TAKE(arenas.host, n * (size_t)spec->router.top_k, int32_t);
    step->topk_weight = SHOAL_TAKE(arenas.host, n * (size_t)spec->router.top_k, float);
    step->done = SHOAL_TAKE(arena, (size_t)limits->n_slot_max * n_embd, float);
    step->mtp_pair = SHOAL_TAKE(arena, limits->mtp ? n * 2 * n_embd : 0, float);
    step->mtp_int8 = take_int8(arena, limits->mtp && limits->fast, n, 2 * n_embd);
    step->logit_hidden = SHOAL_TAKE(arena, n_logit * n_embd, float);
    step->logit_int8 = take_int8(arena, limits->fast, n_logit, n_embd);
    step->logits = SHOAL_TAKE(arena, n_logit * (size_t)spec->n_vocab, float);
    step->logit_row = SHOAL_TAKE(arenas.host, n_logit, int32_t);
    step->largest = SHOAL_TAKE(arenas.host, n_logit * SHOAL_LARGEST_MAX, shoal_logit);
    if (!apart) {
        step->embedded = step->x;
        step->shown_hidden = step->h;
        step->shown_logit_hidden = step->logit_hidden;
        step->shown_logits = step->logits;
        return;
    }
    step->embedded = SHOAL_TAKE(arenas.host, n * n_embd, float);
    step->shown_hidden = SHOAL_TAKE(arenas.host, n * n_embd, float);
    step->shown_logit_hidden = SHOAL_TAKE(arenas.host, n_logit * n_embd, float);
    step->shown_logits = SHOAL_TAKE(arenas.host, n_logit * (size_t)spec->n_vocab, float);
}
