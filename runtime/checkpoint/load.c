#include "runtime/checkpoint/load.h"

#include "runtime/checkpoint/pack.h"
#include "runtime/checkpoint/safetensors.h"

#include <stdlib.h>

const char *shoal_weights_text(shoal_weights_choice weights)
{
    static const char *const text[] = {"native", "bf16", "q8", "q4"};
    return text[weights];
}

shoal_weight_ref shoal_weight_ref_of(const char *name)
{
    return (shoal_weight_ref){.name = name, .slice = -1, .row_step = 1};
}

shoal_weight_ref shoal_weight_ref_slice(const char *name, int32_t slice, int32_t n_slice)
{
    return (shoal_weight_ref){.name = name, .slice = slice, .n_slice = n_slice, .row_step = 1};
}

shoal_status shoal_loader_open(shoal_loader *loader, shoal_checkpoint *checkpoint, shoal_log *log)
{
    void *piece = malloc(SHOAL_LOAD_PIECE_BYTES);
    if (piece == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to load weights: wanted %u bytes",
                          SHOAL_LOAD_PIECE_BYTES);
    *loader = (shoal_loader){.checkpoint = checkpoint,
                             .log = log,
                             .piece = piece,
                             .piece_bytes = SHOAL_LOAD_PIECE_BYTES};
    return SHOAL_OK;
}

void shoal_loader_close(shoal_loader *loader)
{
    free(loader->piece);
    *loader = (shoal_loader){0};
}

uint64_t shoal_weight_ref_bytes(const shoal_checkpoint *checkpoint, shoal_weight_ref ref,
                                int32_t n_row)
{
    static const char *const suffix[] = {"", "_scale_inv", "_blocks", "_scales"};
    uint64_t n_slice = ref.slice >= 0 && ref.n_slice > 0 ? (uint64_t)ref.n_slice : 1;
    uint64_t n_stored = ref.n_stored_row > 0 ? (uint64_t)ref.n_stored_row : (uint64_t)n_row;
    uint64_t n_bytes = 0;
    char name[SHOAL_TENSOR_NAME_MAX_BYTES + 16];
    for (size_t i = 0; i < sizeof suffix / sizeof suffix[0]; i++) {
        snprintf(name, sizeof name, "%s%s", ref.name, suffix[i]);
        const shoal_tensor_info *t = shoal_checkpoint_find(checkpoint, name);
        if (t != NULL && n_stored > 0)
            n_bytes += t->n_bytes / n_slice / n_stored * (uint64_t)n_row +
                       t->n_bytes / n_slice % n_stored * (uint64_t)n_row / n_stored;
    }
    return n_bytes;
}

shoal_status shoal_load_check_matrix(shoal_format *format, const shoal_loader *loader,
                                     shoal_weight_ref ref, int32_t n_row, int32_t n_col)
{
    shoal__source source;
    SHOAL_TRY(shoal__source_find(&source, loader, ref, n_row, n_col));
    *format = source.format;
    return SHOAL_OK;
}

shoal_status shoal_load_check_vector(const shoal_loader *loader, shoal_weight_ref ref, int32_t n)
{
    shoal__source source;
    return shoal__source_find_vector(&source, loader, ref, n);
}

shoal_status shoal_load_matrix(shoal_matrix *w, shoal_loader *loader, shoal_weight_ref ref)
{
    return shoal_load_matrix_up(w, loader, ref, NULL);
}

shoal_status shoal_load_matrix_up(shoal_matrix *w, shoal_loader *loader, shoal_weight_ref ref,
                                  shoal_upload *upload)
{
    shoal__source source;
    SHOAL_TRY(shoal__source_find(&source, loader, ref, w->n_row, w->n_col));
    if (source.format != w->format)
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has dtype %s, wanted %s like the other weights of its "
                          "kind",
                          shoal_checkpoint_file_name(loader->checkpoint, source.tensor), ref.name,
                          source.tensor->dtype_text, shoal_format_text(w->format));
    if (w->n_row == 0 || w->n_col == 0)
        return SHOAL_OK;
    shoal__rows rows;
    SHOAL_TRY(shoal__rows_open(&rows, loader, &source, source.via_f32));
    shoal_status status = shoal__pack_rows(w, &rows, upload);
    shoal__rows_close(&rows);
    return status;
}

shoal_status shoal_load_rows_f32(float *dst, shoal_loader *loader, shoal_weight_ref ref,
                                 int32_t row0, int32_t n_row, int32_t n_col)
{
    shoal__source source;
    SHOAL_TRY(shoal__source_find(&source, loader, ref, SHOAL_ANY_ROWS, n_col));
    if (row0 < 0 || n_row < 0 || n_row > source.n_row - row0) {
        const shoal_tensor_info *t = source.tensor;
        char shape[256];
        return shoal_fail(loader->log, SHOAL_BAD_DATA,
                          "%s: tensor %s has shape %s, wanted rows %d to %lld",
                          shoal_checkpoint_file_name(loader->checkpoint, t), t->name,
                          shoal__shape_text(shape, sizeof shape, t->shape, t->n_dim), row0,
                          (long long)row0 + n_row);
    }
    if (n_row == 0 || n_col == 0)
        return SHOAL_OK;
    source.row0 += row0 * source.row_step;
    source.n_row = n_row;
    shoal__rows rows;
    SHOAL_TRY(shoal__rows_open(&rows, loader, &source, true));
    shoal_status status = shoal__rows_read_f32(dst, &rows, 0, n_row);
    shoal__rows_close(&rows);
    return status;
}

shoal_status shoal_load_vector(float *dst, shoal_loader *loader, shoal_weight_ref ref, int32_t n)
{
    shoal__source source;
    SHOAL_TRY(shoal__source_find_vector(&source, loader, ref, n));
    if (n == 0)
        return SHOAL_OK;
    shoal__rows rows;
    SHOAL_TRY(shoal__rows_open(&rows, loader, &source, true));
    shoal_status status = shoal__rows_read_f32(dst, &rows, 0, n);
    shoal__rows_close(&rows);
    return status;
}
