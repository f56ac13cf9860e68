/* The weights of one rank: what the line reads. One walk over all tensors (weights.c) serves three
 * passes: check every tensor's name, shape and dtype; carve the model arena; read this rank's
 * bytes. Layering: inside model. */
#ifndef SHOAL_MODEL_WEIGHTS_H
#define SHOAL_MODEL_WEIGHTS_H

#include "experts/shard.h"
#include "runtime/checkpoint/load.h"
#include "runtime/checkpoint/pack_cache.h"
#include "runtime/model/model.h"

typedef struct shoal_mlp_weights {
    shoal_matrix gate; /* [n_ff, n_embd] */
    shoal_matrix up;   /* [n_ff, n_embd] */
    shoal_matrix down; /* [n_embd, n_ff] */
} shoal_mlp_weights;

typedef struct shoal_attention_weights {
    /* GQA (q also MLA without q_lora) */
    shoal_matrix q; /* [n_head * head_dim, n_embd] */
    shoal_matrix k; /* [n_kv_head * head_dim, n_embd] */
    shoal_matrix v; /* [n_kv_head * head_dim, n_embd] */
    float *q_bias;  /* [n_head * head_dim] or NULL */
    float *k_bias;  /* [n_kv_head * head_dim] or NULL */
    float *v_bias;  /* [n_kv_head * head_dim] or NULL */
    float *o_bias;  /* [n_embd] or NULL */
    float *q_norm;  /* [head_dim], or of the whole vector; or NULL */
    float *k_norm;  /* likewise */
    float *sinks;   /* [n_head] or NULL */
    /* MLA */
    shoal_matrix q_a;   /* [q_lora_rank, n_embd] */
    float *q_a_norm;    /* [q_lora_rank] */
    shoal_matrix q_b;   /* [n_head * head_dim, q_lora_rank] */
    shoal_matrix kv_a;  /* [kv_lora_rank + n_rot, n_embd] */
    float *kv_a_norm;   /* [kv_lora_rank] */
    shoal_matrix *k_up; /* [n_head] each [kv_lora_rank, nope_dim]: W_UK transposed, takes q into the
                           latent space */
    shoal_matrix
        *v_up;      /* [n_head] each [v_dim, kv_lora_rank]: W_UV, takes the latent sum to values */
    shoal_matrix o; /* [n_embd, n_head * v_dim] */
} shoal_attention_weights;

typedef struct shoal_layer_weights {
    float *attn_norm; /* [n_embd] */
    float *mlp_norm;  /* [n_embd] */
    shoal_attention_weights attention;
    shoal_mlp_weights dense;   /* dense layers */
    shoal_matrix router;       /* [n_expert, n_embd], MoE layers */
    float *router_bias;        /* [n_expert] or NULL */
    float *router_select_bias; /* [n_expert] or NULL */
    shoal_mlp_weights shared;  /* MoE layers with shared experts */
    shoal_matrix shared_gate;  /* [1, n_embd], where the shared expert is gated */
} shoal_layer_weights;

/* What an MTP layer has beyond a decoder layer. */
typedef struct shoal_mtp_weights {
    float *embed_norm;    /* [n_embd] */
    float *hidden_norm;   /* [n_embd] */
    float *head_norm;     /* [n_embd] */
    shoal_matrix project; /* [n_embd, 2 * n_embd], embedding first */
} shoal_mtp_weights;

typedef struct shoal_weights {
    bool has_attention; /* false on an expert-only rank: everything but the shard is absent */
    shoal_matrix
        embed; /* [n_vocab, n_embd], packed like the head so that tied embeddings are one matrix */
    /* [n_vocab, n_embd]; shares embed's memory when tied, unless --weights makes it another
     * format or it lies in the memory of a device */
    shoal_matrix lm_head;
    bool own_head;              /* lm_head is made from a tensor of its own, or in its own format */
    float *final_norm;          /* [n_embd] */
    int32_t n_layer;            /* with the MTP layers that are used */
    shoal_layer_weights *layer; /* [n_layer] */
    shoal_mtp_weights mtp;
    shoal_shard shard;
    shoal_expert *kept_expert; /* [MoE layers, n_expert] headers of what check found in the cache,
                                  for the shard; NULL without one */
} shoal_weights;

/* What a pass over the tensors found and did. */
typedef struct shoal_weights_totals {
    int64_t n_tensor;    /* of this rank */
    uint64_t file_bytes; /* of this rank, as stored; of what the cache keeps, as packed */
    uint64_t expert_file_bytes;
    uint64_t mapped_bytes;                               /* check: what the cache keeps */
    uint64_t expert_bytes, attention_bytes, other_bytes; /* packed, carved */
    uint64_t device_expert_bytes; /* of expert_bytes, in the memory of the rank's device */
    int32_t layer; /* that the walk is in; of no meaning for what lies outside the layers */
} shoal_weights_totals;

/* Everything the walk needs; set up by model.c. */
typedef struct shoal_weights_source {
    const shoal_spec *spec;
    const shoal_placement *placement;
    int32_t rank;
    int32_t n_mtp;               /* MTP layers to use: 0 or 1 */
    shoal_weights_choice choice; /* what the matrices of attention, MLPs and head become */
    shoal_loader *loader;
    shoal_pack_cache *cache; /* --cache, or NULL */
    bool measuring; /* check: the first expert of a layer stands for all, nothing will be loaded */
    const shoal_model_announced *announced; /* check: instead of tensors; NULL: there are some */
    /* Weights but for the embedding table lie in the memory of a device (weights_device.h). */
    bool on_device;
    shoal_upload *upload;               /* load: the way there; NULL without a device */
    shoal_expert_format *expert_format; /* [n_moe_layer], filled by check */
    shoal_log *log;
    /* Called after each tensor of the load; a status other than OK ends the load. May be NULL. */
    shoal_status (*loaded)(void *arg, const shoal_weights_totals *so_far);
    void *loaded_arg;
} shoal_weights_source;

/* Check all tensors of the model, also those of other ranks. Fills formats, shapes and totals.
 * weights->layer and its k_up, v_up arrays and kept_expert are allocated here (malloc, freed by
 * shoal_weights_close): they hold headers, not weights. */
shoal_status shoal_weights_check(shoal_weights *weights, shoal_weights_totals *totals,
                                 const shoal_weights_source *source);

/* Measure or carve the memory of this rank's weights. totals gets the packed bytes. The embedding
 * table, indices and headers are the host's, all else the device's. */
void shoal_weights_carve(shoal_weights *weights, shoal_arenas arenas, shoal_weights_totals *totals,
                         const shoal_weights_source *source);

/* Read this rank's weights into the carved memory, or bring what the cache keeps of them into
 * memory; have the rest kept. In a device's memory all is there after shoal_upload_finish. */
shoal_status shoal_weights_load(shoal_weights *weights, shoal_weights_totals *done,
                                const shoal_weights_source *source);

void shoal_weights_close(shoal_weights *weights); /* accepts zeroed */

#endif
