#include "runtime/model/weights_walk.h"

#include "runtime/model/weights_device.h"
#include "runtime/model/weights_kept.h"

void shoal__walk_count(shoal_walker *w, shoal_weight_ref ref, int32_t n_row)
{
    uint64_t n_bytes = shoal_weight_ref_bytes(w->source->loader->checkpoint, ref, n_row);
    w->totals->n_tensor++;
    w->totals->file_bytes += n_bytes;
    if (w->memory_class == &w->totals->expert_bytes)
        w->totals->expert_file_bytes += n_bytes;
}

shoal_status shoal__walk_loaded(shoal_walker *w, shoal_weight_ref ref, int32_t n_row)
{
    shoal__walk_count(w, ref, n_row);
    if (w->source->loaded == NULL)
        return SHOAL_OK;
    return w->source->loaded(w->source->loaded_arg, w->totals);
}

void *shoal__walk_take(shoal_walker *w, size_t n_bytes)
{
    if (!w->collects)
        return shoal_arena_take(shoal__to_device(w) ? w->arenas.device : w->arenas.host, n_bytes,
                                1);
    enum { ALIGN = 64 };
    unsigned char *at = w->image != NULL ? w->image + w->image_bytes : NULL;
    w->image_bytes += (n_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

void shoal__walk_carve(shoal_walker *w, shoal_matrix *m)
{
    size_t data_bytes = shoal_matrix_data_bytes(m->format, m->n_row, m->n_col);
    size_t scale_bytes = shoal_matrix_scale_bytes(m->format, m->n_row, m->n_col);
    m->data = shoal__walk_take(w, data_bytes);
    m->scale = scale_bytes > 0 ? shoal__walk_take(w, scale_bytes) : NULL;
    *w->memory_class += data_bytes + scale_bytes;
}

void shoal__walk_check(shoal_walker *w, shoal_matrix *m, shoal_weight_ref ref)
{
    shoal_matrix kept = *m;
    if (!shoal__unit_find(w, &kept, ref)) {
        shoal__walk_count(w, ref, m->n_row);
        return;
    }
    shoal__unit_count(w, &kept);
    if (!shoal__to_device(w))
        *m = kept;
}

/* What checkpoint/load.h makes of what is announced. FP8 and MXFP4 are of matrices that whole rows
 * are multiplied with, MXFP4 of experts only. */
static shoal_format announced_format(const shoal_model_announced *a, shoal_role role,
                                     shoal_weights_choice choice)
{
    static const shoal_format chosen[] = {[SHOAL_WEIGHTS_BF16] = SHOAL_FORMAT_BF16,
                                          [SHOAL_WEIGHTS_Q8] = SHOAL_FORMAT_Q8,
                                          [SHOAL_WEIGHTS_Q4] = SHOAL_FORMAT_Q4};
    const bool plain = role == SHOAL_ROLE_EMBED || role == SHOAL_ROLE_LM_HEAD ||
                       role == SHOAL_ROLE_ROUTER || role == SHOAL_ROLE_SHARED_EXPERT_GATE ||
                       role == SHOAL_ROLE_MTP_PROJECT;
    const bool of_expert = role >= SHOAL_ROLE_EXPERT_GATE && role <= SHOAL_ROLE_EXPERT_DOWN;
    if (a->mxfp4 && of_expert && choice != SHOAL_WEIGHTS_BF16)
        return SHOAL_FORMAT_MXFP4;
    if (choice != SHOAL_WEIGHTS_NATIVE)
        return chosen[choice];
    if (a->fp8 && !plain)
        return SHOAL_FORMAT_FP8_BLOCK;
    shoal_format format;
    return shoal_format_of_dtype(&format, a->dtype) ? format : SHOAL_FORMAT_BF16;
}

shoal_status shoal__walk_format(shoal_format *format, const shoal_walker *w, shoal_weight_ref ref,
                                int32_t n_row, int32_t n_col)
{
    if (w->source->announced == NULL)
        return shoal_load_check_matrix(format, w->source->loader, ref, n_row, n_col);
    *format = announced_format(w->source->announced, w->role, ref.weights);
    return SHOAL_OK;
}

shoal_status shoal__visit_matrix(shoal_walker *w, shoal_matrix *m, bool own, shoal_weight_ref ref,
                                 int32_t n_row, int32_t n_col)
{
    if (w->pass == SHOAL_PASS_CHECK) {
        shoal_format format;
        SHOAL_TRY(shoal__walk_format(&format, w, ref, n_row, n_col));
        if (own) {
            *m = (shoal_matrix){.format = format, .n_row = n_row, .n_col = n_col};
            shoal__walk_check(w, m, ref);
        }
        return SHOAL_OK;
    }
    if (!own)
        return SHOAL_OK;
    shoal_matrix kept = *m;
    const bool is_kept = shoal__unit_find(w, &kept, ref);
    const bool in_place = is_kept && !shoal__to_device(w);
    if (in_place)
        *m = kept;
    if (w->pass == SHOAL_PASS_LOAD && is_kept)
        return shoal__unit_fetch(w, m, &kept);
    if (w->pass == SHOAL_PASS_LOAD) {
        SHOAL_TRY(shoal__load_matrix(w, m, ref));
        return shoal__walk_loaded(w, ref, n_row);
    }
    if (!in_place)
        shoal__walk_carve(w, m);
    return shoal__unit_add(w, m, ref);
}

shoal_status shoal__visit_vector(shoal_walker *w, float **v, bool own, shoal_weight_ref ref,
                                 int32_t n)
{
    if (w->pass == SHOAL_PASS_CHECK && w->source->announced == NULL)
        SHOAL_TRY(shoal_load_check_vector(w->source->loader, ref, n));
    if (!own)
        return SHOAL_OK;
    shoal_matrix m = {.format = SHOAL_FORMAT_F32, .n_row = n, .data = *v};
    if (w->pass == SHOAL_PASS_CHECK) {
        shoal__walk_check(w, &m, ref);
        *v = m.data;
        return SHOAL_OK;
    }
    shoal_matrix kept = m;
    const bool is_kept = shoal__unit_find(w, &kept, ref);
    const bool in_place = is_kept && !shoal__to_device(w);
    if (w->pass == SHOAL_PASS_LOAD && is_kept)
        return shoal__unit_fetch(w, &m, &kept);
    if (w->pass == SHOAL_PASS_LOAD) {
        SHOAL_TRY(shoal__load_vector(w, &m, ref));
        return shoal__walk_loaded(w, ref, n);
    }
    if (!in_place) {
        m.data = *v = shoal__walk_take(w, (size_t)n * sizeof(float));
        *w->memory_class += (uint64_t)n * sizeof(float);
    }
    return shoal__unit_add(w, &m, ref);
}

/* --weights is for what is multiplied with whole rows. The router's choice and the embedding stay
 * exact. */
static shoal_weights_choice choice_for(const shoal_walker *w, shoal_role role)
{
    bool stays = role == SHOAL_ROLE_EMBED || role == SHOAL_ROLE_ROUTER ||
                 role == SHOAL_ROLE_SHARED_EXPERT_GATE;
    return stays ? SHOAL_WEIGHTS_NATIVE : w->source->choice;
}

shoal_status shoal__visit_matrix_role(shoal_walker *w, shoal_matrix *m, bool own, shoal_role role,
                                      int32_t layer, int32_t n_row, int32_t n_col)
{
    char name[SHOAL_TENSOR_NAME_MAX];
    shoal_weight_ref ref =
        shoal_weight_ref_of(shoal_spec_tensor_name(name, w->spec, role, layer, 0));
    ref.weights = choice_for(w, role);
    w->role = role;
    return shoal__visit_matrix(w, m, own, ref, n_row, n_col);
}

shoal_status shoal__visit_vector_role(shoal_walker *w, float **v, bool own, shoal_role role,
                                      int32_t layer, int32_t n)
{
    char name[SHOAL_TENSOR_NAME_MAX];
    shoal_weight_ref ref =
        shoal_weight_ref_of(shoal_spec_tensor_name(name, w->spec, role, layer, 0));
    return shoal__visit_vector(w, v, own, ref, n);
}
