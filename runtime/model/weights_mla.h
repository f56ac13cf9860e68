/* kv_b_proj for the absorbed form of MLA. As stored, [n_head * (nope_dim + v_dim), kv_lora_rank]:
 * per head the rows of W_UK, then of W_UV. Absorbed, per head:  q~ = W_UK^T q_nope  and  o = W_UV
 * o~ , so W_UK is kept transposed. Weights with scales become f32 here, since their blocks do not
 * survive the transposition; other types keep theirs, exactly. --weights does not change them: what
 * they compute goes into every score. Layering: inside model. */
#ifndef SHOAL_MODEL_WEIGHTS_MLA_H
#define SHOAL_MODEL_WEIGHTS_MLA_H

#include "runtime/model/weights.h"

/* Allocate k_up, v_up [n_head] and set their formats and shapes, no weights. stored: format of
 * kv_b_proj. */
shoal_status shoal__mla_heads_open(shoal_attention_weights *a, const shoal_attention_config *config,
                                   shoal_format stored, shoal_log *log);

/* Reading heads one at a time: as f32 they are 2 * 512 * 128 values with DeepSeek-V3. */
typedef struct shoal__mla_head {
    const shoal_attention_config *config;
    float *value; /* [nope_dim + v_dim, kv_lora_rank] of one head */
    void *line;   /* a band of rows */
} shoal__mla_head;

/* Errors: NO_MEMORY. */
shoal_status shoal__mla_head_open(shoal__mla_head *head, const shoal_attention_config *config,
                                  shoal_log *log);
void shoal__mla_head_close(shoal__mla_head *head);

/* Head number `index` of kv_b_proj NAME. Errors: those of shoal_load_rows_f32. */
shoal_status shoal__mla_head_read(shoal__mla_head *head, shoal_loader *loader, const char *name,
                                  int32_t index);

/* Into w, a k_up (which: 0) or a v_up (1) with its header and memory. */
void shoal__mla_head_pack(shoal_matrix *w, const shoal__mla_head *head, int32_t which);

#endif
