/* A loaded model on one rank: its weights, its KV cache, and the buffers of one step. forward.c is
 * the line:
 *
 *     embed -> [ attention -> route -> plan -> dispatch -> experts -> combine ] x L -> norm ->
 * logits
 *
 * Three lifetimes, three arenas: model (weights), session (KV cache, exchange buffers), step
 * (activations). A rank with sequence weight 0 is expert-only: it loads no attention, embedding or
 * head, and takes part in the exchange only. Layering: model knows checkpoint, comm, experts,
 * kernels, base. Text and scheduling are above. */
#ifndef SHOAL_MODEL_MODEL_H
#define SHOAL_MODEL_MODEL_H

#include "comm/plan.h"
#include "experts/ffn.h"
#include "experts/placement.h"
#include "runtime/checkpoint/load.h"
#include "runtime/checkpoint/pack_cache.h"
#include "runtime/kernels/ops.h"
#include "runtime/model/spec.h"
#include "runtime/model/work.h"

typedef struct shoal_model shoal_model;

/* Limits and choices of a session, equal on all ranks where agreement needs it. */
typedef struct shoal_model_config {
    int32_t n_mtp; /* MTP layers to load for shoal_forward_mtp: 0, or 1 (then placement has one MoE
                      layer more) */
    /* --math fast: integer rows for quantised weights, and the wire format of rule 2 */
    bool fast;
    shoal_weights_choice weights; /* --weights */
    shoal_pack_cache *packed;     /* --cache, or NULL; outlives the model */
    shoal_combine_kind combine;
    shoal_kv_dtype kv_dtype;
    int32_t n_context;   /* positions per sequence */
    int32_t n_sequence;  /* cache slots on THIS rank; 0 on an expert-only rank */
    int32_t n_token_max; /* rows of one rank in one step */
    int32_t n_logit_max; /* rows with logits in one step */
    /* Steps are worked on in parts (four, else two), of which one travels while another computes,
     * if each part has this many rows per expert, on average over all ranks; 0: never. */
    int32_t overlap_rows;
    const shoal_placement *placement; /* outlives the model */
    shoal_compute compute;
    shoal_comm *comm;
    void (*progress)(void *arg, int64_t n_tensor, int64_t n_tensor_total, uint64_t n_bytes,
                     uint64_t n_bytes_total);
    void *progress_arg; /* may be NULL with progress NULL */
} shoal_model_config;

/* Bytes of memory by class, printed before anything is loaded. With a device the classes have what
 * lies in both memories. */
typedef struct shoal_memory_table {
    uint64_t expert_bytes, attention_bytes, other_weight_bytes; /* model arenas */
    uint64_t mapped_bytes; /* weights mapped from --cache instead, shared by the ranks of a host */
    uint64_t kv_bytes, exchange_bytes; /* session arenas */
    uint64_t step_bytes;               /* step arenas */
    /* Of these, on a rank with a device: in its memory, and in the host's that it reads and writes;
     * and what the experts take in its memory. 0 on a CPU rank. */
    uint64_t device_bytes, pinned_bytes, device_expert_bytes;
    uint64_t upload_bytes; /* pinned, too, while weights are loaded to a device */
} shoal_memory_table;

/* How config.json says that weights are stored, where there are none to look at. */
typedef struct shoal_model_announced {
    bool fp8, mxfp4;   /* quantised: all matrices of the layers; those of routed experts */
    shoal_dtype dtype; /* of the rest */
} shoal_model_announced;

/* Three steps, so that the launcher can agree between them:
 *   open    checks every tensor's name, shape and dtype (headers only) and measures memory
 *   load    allocates and reads this rank's weights, with progress and signs of life (not
 * collective: it polls comm) Errors: BAD_DATA, NO_INPUT, NO_MEMORY, and what shoal_comm_poll finds.
 * checkpoint and spec outlive the model. */
shoal_status shoal_model_open(shoal_model **model, const shoal_spec *spec,
                              shoal_checkpoint *checkpoint, const shoal_model_config *config,
                              shoal_log *log);
shoal_status shoal_model_load(shoal_model *model);
void shoal_model_close(shoal_model *model); /* accepts NULL */

const shoal_spec *shoal_model_spec(const shoal_model *model);
const shoal_memory_table *shoal_model_memory(const shoal_model *model);
/* The weights of a loaded model in the memory of its device, [*n_bytes]; NULL without a device. */
const void *shoal_model_device_weights(const shoal_model *model, size_t *n_bytes);
uint64_t shoal_model_expert_bytes_read(
    const shoal_model *model); /* file bytes of experts read by this rank */
uint64_t shoal_model_bytes_read(const shoal_model *model); /* all weight bytes read by this rank */
const shoal_wire *shoal_model_wire(const shoal_model *model);

const shoal_phase_times *shoal_model_times(const shoal_model *model);
const shoal_work_counters *shoal_model_work(const shoal_model *model);

/* From now on record every phase of every pass in `timeline`, which outlives the model: kind
 * SHOAL_SPAN_PHASE + number in SHOAL_PHASE_MAP; n: rows of the phase, which are received rows for
 * dispatch, (row, expert) pairs for experts and what it sends home of them, else own rows. A
 * phase's time is its span without the waits in it. NULL: no more. */
void shoal_model_trace(shoal_model *model, shoal_timeline *timeline);

/* From now on note the slots that this rank computes in each exchange, in order, in n_slot [n_max]
 * of the caller; NULL, 0: no more. All ranks run the same exchanges, so entry i is the same one on
 * every rank. shoal_model_n_logged: exchanges since, of which the first n_max are noted. */
void shoal_model_log_slots(shoal_model *model, int32_t *n_slot, int64_t n_max);
int64_t shoal_model_n_logged(const shoal_model *model);

/* What passes in the step's rows, kept when asked for, in the caller's memory: routing
 * [n_moe_layer, n_token, top_k], and the residual stream behind each layer's attention and behind
 * the layer, [n_layer, n_token, n_embd] each, or NULL. */
typedef struct shoal_route_capture {
    int32_t *expert;
    float *weight;
    float *attention_hidden;
    float *layer_hidden;
} shoal_route_capture;

typedef struct shoal_forward_input {
    int64_t step;
    const int32_t *token;     /* [n_token] */
    int32_t n_token;          /* of this rank; 0 is fine */
    const shoal_chunk *chunk; /* [n_chunk], in row order, covering all rows */
    int32_t n_chunk;
    const bool *is_source;    /* [n_rank] ranks that hold tokens in this step */
    int64_t n_row_all;        /* rows of all ranks in this step; may be 0: not known */
    const int32_t *logit_row; /* [n_logit] rows whose logits are wanted */
    int32_t n_logit;
    int32_t n_largest; /* 0: all their logits are shown; else the so many largest of each row */
    const shoal_route_capture *capture; /* or NULL */
} shoal_forward_input;

#define SHOAL_OVERLAP_ROWS 16 /* shoal_model_config.overlap_rows, if nothing speaks against it */

/* Whether a step of n_row_all rows over all ranks is worked on in parts. */
bool shoal_model_cuts(const shoal_model *model, int64_t n_row_all);

/* Views into step memory (the host's), valid until the next forward. */
typedef struct shoal_forward_output {
    float *logits;           /* [n_logit, n_vocab], if n_largest is 0 */
    shoal_logit *largest;    /* [n_logit, n_largest], if not */
    const float *hidden;     /* [n_logit, n_embd] after the last norm */
    const float *all_hidden; /* [n_token, n_embd] after the last norm */
} shoal_forward_output;

/* One step of this rank; collective over all ranks of the model's comm. */
shoal_status shoal_forward(shoal_forward_output *out, shoal_model *model,
                           const shoal_forward_input *in);

/* One step of the MTP layer, as a guess at the token after next: row i has the token that follows
 * the row whose post-norm hidden state is hidden[i] (all_hidden of an earlier step, [n_token,
 * n_embd]; may be in step memory); its position is that row's. Logits guess the token after
 * in->token[i]; hidden and all_hidden are after the layer's own norm, for the next guess. Own cache
 * rows at the same positions. Collective like shoal_forward; in->capture is not used. Formula:
 * DeepSeek-V3 report section 2.2. */
shoal_status shoal_forward_mtp(shoal_forward_output *out, shoal_model *model,
                               const shoal_forward_input *in, const float *hidden);

/* True if the checkpoint has the MTP layer that its config announces. */
bool shoal_model_has_mtp(const shoal_spec *spec, const shoal_checkpoint *checkpoint);

#endif
