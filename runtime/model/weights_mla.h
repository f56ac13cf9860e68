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

/* Read kv_b_proj NAME head by head into the carved k_up and v_up. */
shoal_status shoal__mla_heads_load(shoal_attention_weights *a, const shoal_attention_config *config,
                                   shoal_loader *loader, const char *name);

#endif
