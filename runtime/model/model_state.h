/* struct shoal_model: what the files of this folder share. */
#ifndef SHOAL_MODEL_MODEL_STATE_H
#define SHOAL_MODEL_MODEL_STATE_H

#include "runtime/kernels/device.h"
#include "runtime/model/model.h"
#include "runtime/model/step.h"
#include "runtime/model/weights.h"

/* A moment: the clock, and how long comm had waited by then; where a timeline is kept, also what it
 * had sent, and the span that begins there. */
typedef struct shoal_lap {
    int64_t now_us, wait_us;
    uint64_t sent_bytes;
    int64_t span;
} shoal_lap;

/* What a pass through some matrices costs: bytes at once, multiply-adds for each row. */
typedef struct shoal_weight_work {
    uint64_t n_bytes, n_mac;
} shoal_weight_work;

typedef struct shoal_slot_log { /* see shoal_model_log_slots */
    int32_t *n_slot;            /* [n_max] */
    int64_t n, n_max;
} shoal_slot_log;

#define SHOAL__PART_MAX 4 /* parts of a step that are in flight together */

struct shoal_model {
    const shoal_spec *spec;
    shoal_model_config config;
    shoal_checkpoint *checkpoint;
    shoal_log *log;
    shoal_comm *comm;
    int32_t rank;
    int32_t n_thread;                       /* of the rank's pool */
    bool measuring;                         /* measure.c: nothing will be loaded */
    const shoal_model_announced *announced; /* measure.c; NULL: the checkpoint has weights */
    shoal_compute compute;

    /* The three lifetimes; the device's are used where the rank has one. */
    shoal_arena model_arena, session_arena, step_arena;
    shoal_arena device_model_arena, device_session_arena, device_step_arena;
    shoal_allocator device_memory, pinned_memory; /* of the device's arenas; of session and step */
    char device_memory_name[40], pinned_memory_name[40];
    bool has_device; /* compute's, or one that is only measured for */
    shoal_weights weights;
    shoal_expert_format *expert_format; /* [n_moe_layer] */
    bool *is_target;      /* [n_moe_layer, n_rank] ranks that own experts of the layer */
    bool *may_source;     /* [n_rank] ranks that may hold tokens */
    int32_t *n_local_max; /* [n_rank] most experts of one layer */
    shoal_kv_cache cache;
    /* Of each part of a step; the first also of steps that are not cut. Those behind
     * shoal__part_max are not carved. */
    shoal_exchange exchange[SHOAL__PART_MAX];
    shoal_chunk *part_chunk; /* [n_token_max + SHOAL__PART_MAX] chunks of all parts */
    shoal_ffn ffn;
    shoal_step step; /* its rows are rows0 .. of the n_row_step that this rank has in the step */
    int32_t row0, n_row_step;

    shoal_status
        poll_status; /* what comm found between compute tiles; looked at after each layer */
    shoal_memory_table memory;
    shoal_phase_times times;
    shoal_lap lap;            /* when the phase now running began */
    shoal_timeline *timeline; /* or NULL: see shoal_model_trace */
    int32_t n_row_phase;      /* rows of the phase now running, for the timeline */
    shoal_work_counters work;
    shoal_weight_work *layer_work; /* [n_layer] without experts; zeros on an expert-only rank */
    shoal_weight_work head_work;
    int32_t *expert_slots; /* [n_local_max] scratch of shoal__count_experts */
    shoal_slot_log slot_log;
    shoal_weights_totals to_load, loaded;
    shoal_wire wire;
};

/* model_memory.c. Check all tensors, and run the carve functions on measuring arenas. spec, config,
 * rank, n_thread, compute and has_device are set. */
shoal_status shoal__model_measure(shoal_model *model);
/* Allocate what was measured, and carve. Errors: NO_MEMORY. Then, or after a failure: close. */
shoal_status shoal__memory_open(shoal_model *model);
void shoal__memory_close(shoal_model *model);
/* What the walk over the weights needs; loader: NULL to carve. */
shoal_weights_source shoal__weights_source(shoal_model *model, shoal_loader *loader);
/* model.c: shoal_weights_source.loaded. */
shoal_status shoal__tensor_loaded(void *model, const shoal_weights_totals *so_far);

/* Phases are laps of one clock: begin at the start of a pass, then after each piece of work its lap
 * adds what has passed to a phase of model->times, and what was waited to wait_us. With a timeline
 * each lap is a span, in which the waits lie. */
void shoal__lap_begin(shoal_model *model);
void shoal__lap(shoal_model *model, int64_t *phase_us);
/* The end of a pass: no phase runs. */
void shoal__lap_end(shoal_model *model);

/* For the timeline: the layer (-1: none) that the next laps belong to, and their rows. */
void shoal__lap_at(shoal_model *model, int32_t layer, int32_t n_row);
/* The part of a cut step that they belong to, counted from 1; 0: the whole step. */
void shoal__lap_part(shoal_model *model, int32_t part);

/* model->work: the tables behind it, once weights are carved; then what a pass goes through.
 * Experts: once per exchange, also where it has no slot here. */
shoal_status shoal__work_open(shoal_model *model);
void shoal__count_layer(shoal_model *model, const shoal_forward_input *in, int32_t layer);
void shoal__count_experts(shoal_model *model, int32_t moe_layer, const int32_t *slot_expert,
                          int32_t n_slot);
void shoal__count_head(shoal_model *model, int32_t n_logit);

/* The blocks of the line; x and the other tensors are in model->step. Each adds to model->step.x.
 */
void shoal__attention(shoal_model *model, const shoal_forward_input *in, int32_t layer);
void shoal__dense_mlp(shoal_model *model, int32_t layer, int32_t n_token);
shoal_status shoal__moe(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                        int32_t moe_layer);

/* True if w takes its rows as integers. */
bool shoal__takes_int8(const shoal_model *model, const shoal_matrix *w);

/* Rows x [n_row, w->n_col] as w takes them: their integers, made in y [n_row, groups], if it does.
 */
shoal_rows shoal__rows_for(shoal_model *model, shoal_int8_group *y, const shoal_matrix *w,
                           const float *x, int32_t n_row);

/* y [n_row, w->n_row] = rows * w^T as an item of shoal_op_matmul_many. */
shoal_matmul_item shoal__product(float *y, const shoal_matrix *w, shoal_rows rows, int32_t n_row);

/* The three parts of shoal__moe, between which rows travel: normed rows are routed and sent; those
 * that have come pass the experts and go home; those that are home are added. x: the exchange of
 * these rows. */
shoal_status shoal__moe_send(shoal_model *model, shoal_exchange *x, const shoal_forward_input *in,
                             int32_t layer, int32_t moe_layer);
shoal_status shoal__moe_work(shoal_model *model, shoal_exchange *x, int64_t step, int32_t layer,
                             int32_t moe_layer);
shoal_status shoal__moe_collect(shoal_model *model, shoal_exchange *x,
                                const shoal_forward_input *in, int32_t layer);

/* Attention of a decoder layer, with what is asked to be kept; and the same for its end. */
shoal_status shoal__layer_begin(shoal_model *model, const shoal_forward_input *in, int32_t layer);
void shoal__layer_end(shoal_model *model, const shoal_forward_input *in, int32_t layer);

/* Where the first row that step shows is kept in a capture [layer, n_row_step]. */
size_t shoal__captured_row(const shoal_model *model, int32_t layer);

/* overlap.c: MoE layers with several parts of the rows under way. */
typedef struct shoal__part {
    shoal_forward_input in; /* its rows, counted from its first */
    shoal_exchange *x;
    int32_t row0;
    int32_t away_layer; /* whose results are still to be collected, -1: none */
} shoal__part;

typedef struct shoal__parts {
    shoal_model *model;
    shoal_step whole;
    int32_t n_part;
    shoal__part part[SHOAL__PART_MAX];
} shoal__parts;

/* Parts that a step of this session may be cut into, and the rows of a rank in one of them. */
int32_t shoal__part_max(const shoal_model *model);
int32_t shoal__part_rows_max(const shoal_model *model, int32_t part);
/* False if this step is not cut: a function of what all ranks know. */
bool shoal__parts_begin(shoal__parts *parts, shoal_model *model, const shoal_forward_input *in);
shoal_status shoal__parts_layer(shoal__parts *parts, int32_t layer, int32_t moe_layer);
/* All rows are home, and model->step shows all of them again. */
shoal_status shoal__parts_join(shoal__parts *parts);

/* out [n_token, n_embd] = down(silu(gate(h)) * up(h)) of this rank's own weights. */
void shoal__mlp(float *out, shoal_model *model, const shoal_mlp_weights *weights, shoal_rows h,
                int32_t n_token);

/* step.x += residual_multiplier * step.acc */
void shoal__add_residual(shoal_model *model, int32_t n_token);

/* The two kinds of attention: queries into q_absorbed or q, cache rows stored; then the core; then
 * back to acc. */
void shoal__attention_mla(shoal_model *model, const shoal_forward_input *in, int32_t layer);
void shoal__attention_gqa(shoal_model *model, const shoal_forward_input *in, int32_t layer);

/* step.h for the projections, with its integers if one of the matrices takes them. */
shoal_rows shoal__normed_rows(shoal_model *model, const shoal_matrix *const *w, int32_t n_matrix,
                              int32_t n_row);

/* Bodies that a device may record (ops.h, shoal_op_run), by layer. */
enum { SHOAL__RUN_ATTENTION, SHOAL__RUN_ROUTER, SHOAL__RUN_SHARED, SHOAL__RUN_DENSE };
shoal_op_run shoal__run_of(const shoal_model *model, int32_t what, int32_t layer, int32_t n_row);

/* cos and sin of the step's rows. */
shoal_rotation shoal__rotation(const shoal_model *model);

/* The core, for both kinds: attended [n_token, n_head, d_v] from queries [n_token, n_head, d_k]
 * over the cache. */
void shoal__attend(shoal_model *model, const shoal_forward_input *in, int32_t layer,
                   const float *query);

#endif
