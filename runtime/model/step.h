/* The wave of activations: the buffers of one step, carved once and rewritten each forward. Host
 * and device memory: kernels/device.h. Layering: inside model. */
#ifndef SHOAL_MODEL_STEP_H
#define SHOAL_MODEL_STEP_H

#include "experts/ffn.h"
#include "runtime/model/spec.h"

typedef struct shoal_step {
    shoal_place *place; /* [n_token_max] where each row stands; host */
    /* host, [n_token_max, n_embd] (MTP: [n_token_max, 2 * n_embd]): embeddings on their way to x
     * (mtp_pair), which on a CPU rank are made where they go */
    float *embedded;
    float *host_cos, *host_sin; /* host: the same of cos and sin */
    float *x;                   /* [n_token_max, n_embd] residual stream */
    float *h;                   /* [n_token_max, n_embd] normed */
    float *acc;                 /* [n_token_max, n_embd] what a block adds */
    shoal_int8_group *h_int8;   /* [n_token_max, groups of n_embd] h as integers; --math fast */
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
    shoal_attend_room attend;
    /* MLPs of this rank: dense layers and shared experts */
    float *gate;                   /* [n_token_max, max(n_ff_dense, n_ff_shared)] */
    float *up;                     /* the same */
    shoal_int8_group *hidden_int8; /* the activations as integers; --math fast */
    float *shared;                 /* [n_token_max, n_embd] */
    /* Router */
    float *router_logits; /* [n_token_max, n_expert] */
    int32_t *topk_expert; /* [n_token_max, top_k] host */
    float *topk_weight;   /* [n_token_max, top_k] host */
    /* Experts: results of all rows that came to this rank, [n_slot_max, n_embd] */
    float *done;
    float *mtp_pair;            /* [n_token_max, 2 * n_embd] MTP: embedding, hidden */
    shoal_int8_group *mtp_int8; /* the same as integers; --math fast */
    /* Head */
    float *logit_hidden;          /* [n_logit_max, n_embd] */
    shoal_int8_group *logit_int8; /* the same as integers; --math fast */
    float *logits;                /* [n_logit_max, n_vocab] */
    int32_t *logit_row;           /* [n_logit_max] host */
    shoal_logit *largest;         /* [n_logit_max, SHOAL_LARGEST_MAX] host */
    /* host: what the caller sees of x normed, logit_hidden and logits; the same as these on a CPU
     * rank */
    float *shown_hidden, *shown_logit_hidden, *shown_logits;
} shoal_step;

/* On a rank without sequences n_token_max and n_logit_max are 0. */
typedef struct shoal_step_limits {
    int32_t n_token_max, n_logit_max, n_slot_max, n_thread, n_context;
    bool mtp;
    bool fast; /* rows as integers, too */
} shoal_step_limits;

/* Measure or carve. What is not marked as host memory is the device's. */
void shoal_step_carve(shoal_step *step, shoal_arenas arenas, const shoal_spec *spec,
                      const shoal_step_limits *limits);

/* Widths of a head's query and value in the attention core. */
int32_t shoal_step_d_k(const shoal_spec *spec);
int32_t shoal_step_d_v(const shoal_spec *spec);

#endif
