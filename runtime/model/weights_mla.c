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

shoal_status shoal__mla_head_open(shoal__mla_head *head, const shoal_attention_config *config,
                                  shoal_log *log)
{
    size_t n_row = (size_t)config->nope_dim + (size_t)config->v_dim;
    size_t rank = (size_t)config->kv_lora_rank, nope = (size_t)config->nope_dim;
    *head = (shoal__mla_head){.config = config};
    head->value = malloc(n_row * rank * sizeof(float));
    head->line = malloc(SHOAL_BAND * (rank > nope ? rank : nope) * sizeof(float));
    if (head->value != NULL && head->line != NULL)
        return SHOAL_OK;
    shoal__mla_head_close(head);
    return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to rearrange kv_b_proj");
}

void shoal__mla_head_close(shoal__mla_head *head)
{
    free(head->value);
    free(head->line);
    *head = (shoal__mla_head){0};
}

shoal_status shoal__mla_head_read(shoal__mla_head *head, shoal_loader *loader, const char *name,
                                  int32_t index)
{
    const shoal_attention_config *c = head->config;
    const int32_t n_row = c->nope_dim + c->v_dim;
    return shoal_load_rows_f32(head->value, loader, shoal_weight_ref_of(name), index * n_row, n_row,
                               c->kv_lora_rank);
}

void shoal__mla_head_pack(shoal_matrix *w, const shoal__mla_head *head, int32_t which)
{
    const size_t rank = (size_t)head->config->kv_lora_rank;
    if (which == 0)
        pack_strided(w, head->value, 1, rank, head->line); /* transposed */
    else
        pack_strided(w, head->value + (size_t)head->config->nope_dim * rank, rank, 1, head->line);
}
