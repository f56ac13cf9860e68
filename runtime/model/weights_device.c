#include "runtime/model/weights_device.h"

#include "runtime/model/weights_kept.h"

bool shoal__to_device(const shoal_walker *w)
{
    return w->source->on_device && !w->in_host;
}

static void poll_loader(void *arg)
{
    const shoal_loader *loader = arg;
    if (loader->progress != NULL)
        loader->progress(loader->progress_arg, 0);
}

shoal_status shoal__device_copy(shoal_walker *w, const shoal_matrix *m, const shoal_matrix *from)
{
    shoal_upload *upload = w->source->upload;
    shoal_loader *loader = w->source->loader;
    SHOAL_TRY(shoal_upload_copy(upload, m->data, from->data, shoal_pack_data_bytes(m), poll_loader,
                                loader));
    return shoal_upload_copy(upload, m->scale, from->scale, shoal_pack_scale_bytes(m), poll_loader,
                             loader);
}

shoal_status shoal__load_matrix(shoal_walker *w, shoal_matrix *m, shoal_weight_ref ref)
{
    shoal_loader *loader = w->source->loader;
    if (shoal__to_device(w) && !w->unit.is_packed)
        return shoal_load_matrix_up(m, loader, ref, w->source->upload);
    shoal_matrix to = *m;
    if (shoal__to_device(w))
        SHOAL_TRY(shoal__unit_hold(&to, w));
    SHOAL_TRY(shoal_load_matrix(&to, loader, ref));
    SHOAL_TRY(shoal__unit_add(w, &to, ref));
    return shoal__to_device(w) ? shoal__device_copy(w, m, &to) : SHOAL_OK;
}

shoal_status shoal__load_vector(shoal_walker *w, const shoal_matrix *m, shoal_weight_ref ref)
{
    shoal_matrix to;
    SHOAL_TRY(shoal__fill_begin(&to, w, m));
    SHOAL_TRY(shoal_load_vector(to.data, w->source->loader, ref, m->n_row));
    return shoal__fill_end(w, m, &to, ref);
}

shoal_status shoal__fill_begin(shoal_matrix *to, shoal_walker *w, const shoal_matrix *m)
{
    *to = *m;
    if (!shoal__to_device(w))
        return SHOAL_OK;
    if (w->unit.is_packed)
        return shoal__unit_hold(to, w);
    return shoal_upload_room(&to->data, w->source->upload, shoal_pack_data_bytes(m));
}

shoal_status shoal__fill_end(shoal_walker *w, const shoal_matrix *m, const shoal_matrix *from,
                             shoal_weight_ref ref)
{
    SHOAL_TRY(shoal__unit_add(w, from, ref));
    if (!shoal__to_device(w))
        return SHOAL_OK;
    if (w->unit.is_packed)
        return shoal__device_copy(w, m, from);
    shoal_upload_send(w->source->upload, m->data, from->data, shoal_pack_data_bytes(m));
    return SHOAL_OK;
}
