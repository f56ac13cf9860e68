#include "runtime/model/weights_mla.h"

#include <stdlib.h>

shoal_status shoal__mla_heads_open(shoal_attention_weights *a, const shoal_attention_config *config,
                                   shoal_format stored, shoal_log *log)
{
    size_t n_head = (size_t)config->n_head;
    a->k_up = calloc(n_head, sizeof(shoal_matrix));
    a->v_up = calloc(n_head, sizeof(shoal_matrix));
    if (a->k_up == NULL || a->v_up == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the headers of %zu heads", n_head);
    bool plain = stored == SHOAL_FORMAT_BF16 || stored == SHOAL_FORMAT_F16;
    shoal_format format = plain ? stored : SHOAL_FORMAT_F32;
    for (size_t head = 0; head < n_head; head++) {
        a->k_up[head] = (shoal_matrix){
            .format = format, .n_row = config->kv_lora_rank, .n_col = config->nope_dim};
        a->v_up[head] =
            (shoal_matrix){.format = format, .n_row = config->v_dim, .n_col = config->kv_lora_rank};
    }
    return SHOAL_OK;
}

/* Pack all rows of w; row r, column c is src[r * row_stride + c * col_stride]. line: [16 * n_col]
 * f32-sized scratch. */
static void pack_strided(shoal_matrix *w, const float *src, size_t row_stride, size_t col_stride,
                         void *line)
{
    size_t n_col = (size_t)w->n_col;
    for (int32_t row0 = 0; row0 < w->n_row; row0 += SHOAL_BAND) {
        int32_t n_row = w->n_row - row0 < SHOAL_BAND ? w->n_row - row0 : SHOAL_BAND;
        for (int32_t r = 0; r < n_row; r++) {
            for (size_t c = 0; c < n_col; c++) {
                float value = src[(size_t)(row0 + r) * row_stride + c * col_stride];
                size_t at = (size_t)r * n_col + c;
                if (w->format == SHOAL_FORMAT_F32)
                    ((float *)line)[at] = value;
                else if (w->format == SHOAL_FORMAT_BF16)
                    ((uint16_t *)line)[at] = shoal_f32_to_bf16(value);
                else
                    ((uint16_t *)line)[at] = shoal_f32_to_f16(value);
            }
        }
        shoal_matrix_pack(w, row0, n_row, line);
    }
}

shoal_status shoal__mla_heads_load(shoal_attention_weights *a, const shoal_attention_config *config,
                                   shoal_loader *loader, const char *name)
{
    int32_t head_rows = config->nope_dim + config->v_dim;
    size_t rank = (size_t)config->kv_lora_rank;
    size_t longest = rank > (size_t)config->nope_dim ? rank : (size_t)config->nope_dim;
    float *head_f32 =
        malloc((size_t)head_rows * rank * sizeof(float)); /* [nope_dim + v_dim, kv_lora_rank] */
    void *line = malloc(SHOAL_BAND * longest * sizeof(float));
    shoal_status status = SHOAL_OK;
    if (head_f32 == NULL || line == NULL)
        status = shoal_fail(loader->log, SHOAL_NO_MEMORY, "no memory to rearrange %s", name);
    for (int32_t head = 0; head < config->n_head && status == SHOAL_OK; head++) {
        status = shoal_load_rows_f32(head_f32, loader, shoal_weight_ref_of(name), head * head_rows,
                                     head_rows, config->kv_lora_rank);
        if (status != SHOAL_OK)
            break;
        pack_strided(&a->k_up[head], head_f32, 1, rank, line); /* transposed */
        pack_strided(&a->v_up[head], head_f32 + (size_t)config->nope_dim * rank, rank, 1, line);
    }
    free(line);
    free(head_f32);
    return status;
}
