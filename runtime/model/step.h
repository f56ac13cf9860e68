/* The wave of activations: the buffers of one step, carved once and rewritten each forward. n is
 * the rows of this step. Layering: inside model. */
#ifndef SHOAL_MODEL_STEP_H
#define SHOAL_MODEL_STEP_H

#include "experts/ffn.h"
#include "runtime/model/spec.h"

/* Where a row stands. */
typedef struct shoal_step_row {
    int32_t slot;
    int32_t position;
} shoal_step_row;

typedef struct shoal_step {
    shoal_step_row *row;      /* [n_token_max] */
    float *x;                 /* [n_token_max, n_embd] residual stream */
    float *h;                 /* [n_token_max, n_embd] normed */
    float *acc;               /* [n_token_max, n_embd] what a block adds */
    shoal_int8_group *h_int8; /* [n_token_max, groups of n_embd] h as integers; --math fast */
    /* Attention */
    float *cos;        /* [n_token_max, n_rot / 2] of each row's position */
    float *sin;        /* [n_token_max, n_rot / 2] */
    float *q_latent;   /* [n_token_max, q_lora_rank] MLA */
    float *q;          /* [n_token_max, n_head * head_dim] */
    float *kv;         /* [n_token_max, kv_width] as stored in the cache */
    float *q_absorbed; /* [n_token_max, n_head, kv_lora_rank + n_rot] MLA */
    float *attended;   /* [n_token_max, n_head, d_v] d_v: MLA kv_lora_rank, GQA head_dim */
    float *values;     /* [n_token_max, n_head * v_dim] MLA, after W_UV */
    shoal_matmul_item *head_item;     /* [n_head] MLA */
    shoal_int8_group *attention_int8; /* q_latent, then what o takes, as integers; --math fast */
    int32_t *chunk_unit0;             /* [n_token_max + 1] first unit of each chunk (attention.c) */
    shoal_attend_state *attend_state; /* [n_token_max, n_head] of the segments joined so far */
    /* Parts that wait to be joined, where segments run at the same time: [pair, segment] */
    float *partial;                    /* [n_partial, d_v] */
    shoal_attend_state *partial_state; /* [n_partial] */
    int32_t n_partial;
    /* Scratch of one attention task, per worker */
    float *query_tile; /* [n_thread, SHOAL_QUERY_TILE, d_k] */
    float *out_tile;   /* [n_thread, SHOAL_QUERY_TILE, d_v] */
    float *value_tile; /* [n_thread, SHOAL_ATTEND_BLOCK, d_v] MLA */
    /* MLPs of this rank: dense layers and shared experts */
    float *gate;                   /* [n_token_max, max(n_ff_dense, n_ff_shared)] */
    float *up;                     /* the same */
    shoal_int8_group *hidden_int8; /* the activations as integers; --math fast */
    float *shared;                 /* [n_token_max, n_embd] */
    /* Router */
    float *router_logits; /* [n_token_max, n_expert] */
    int32_t *topk_expert; /* [n_token_max, top_k] */
    float *topk_weight;   /* [n_token_max, top_k] */
    /* Experts: results of all rows that came to this rank, [n_slot_max, n_embd] */
    float *done;
    float *mtp_pair;            /* [n_token_max, 2 * n_embd] MTP: embedding, hidden */
    shoal_int8_group *mtp_int8; /* the same as integers; --math fast */
    /* Head */
    float *logit_hidden;          /* [n_logit_max, n_embd] */
    shoal_int8_group *logit_int8; /* the same as integers; --math fast */
    float *logits;                /* [n_logit_max, n_vocab] */
} shoal_step;

#define SHOAL_QUERY_TILE 64 /* (row, head) pairs of one attention task */

/* Positions that one attention task covers from a fresh state, a multiple of SHOAL_ATTEND_BLOCK.
 * Part of what the bits are (rule 1). */
#define SHOAL_ATTEND_SEGMENT 256
#define SHOAL_ATTEND_WAVE    16 /* segments of one row that may run at the same time */

/* On a rank without sequences n_token_max and n_logit_max are 0. */
typedef struct shoal_step_limits {
    int32_t n_token_max, n_logit_max, n_slot_max, n_thread;
    bool mtp;
    bool fast; /* rows as integers, too */
} shoal_step_limits;

/* Measure or carve. */
void shoal_step_carve(shoal_step *step, shoal_arena *arena, const shoal_spec *spec,
                      const shoal_step_limits *limits);

/* Widths of a head's query and value in the attention core. */
int32_t shoal_step_d_k(const shoal_spec *spec);
int32_t shoal_step_d_v(const shoal_spec *spec);

#endif
