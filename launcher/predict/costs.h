/* What pieces of a step take on a rank, us. Layering: private to launcher/predict. */
#ifndef SHOAL_LAUNCHER_PREDICT_COSTS_H
#define SHOAL_LAUNCHER_PREDICT_COSTS_H

#include "launcher/predict/predict.h"

/* What is imagined away, to see what a step is bound by. */
typedef struct shoal__ideal {
    bool read, compute, latency, wire, pcie, balance;
} shoal__ideal;

typedef struct shoal__costs {
    const shoal_predict_run *run;
    const shoal_placement *placement;
    const shoal_model_measured *measured;
    shoal__ideal ideal;
    /* Of every source: a row at this position on average. */
    double position;
    int32_t n_work;             /* how much is drawn: products of tokens, ranks and layers */
    int32_t n_target, n_source; /* ranks that have experts, and that may have sequences */
    size_t dispatch_row_bytes, combine_row_bytes;
} shoal__costs;

/* Rates of a rank, where it is not known (0) what a like one is: reading its memory, and f32. */
double shoal__read_gb_per_s(const shoal_cluster_rank *rank, shoal_format format);
double shoal__compute_gop_per_s(const shoal_cluster_rank *rank, shoal_format format);
/* Copies of a message's bytes by the processors of sender and receiver: system calls of TCP, or the
 * memory that ranks of a host share. */
#define SHOAL__WIRE_BYTE_NS 0.25

/* position is the caller's to set. */
shoal__costs shoal__costs_of(const shoal_predict_run *run, const shoal_placement *placement,
                             const shoal_model_measured *measured);

/* n_row rows through matrices: the mean layer of `n_layer`. */
double shoal__pass_us(const shoal__costs *c, int32_t rank, const shoal_pass_work *work,
                      double n_row, int32_t n_layer);
/* Attention with norm, projections and residual, of one layer; n_chunk sequences that the rows are
 * of. */
double shoal__attention_us(const shoal__costs *c, int32_t rank, double n_row, double n_chunk);
/* Norm, router and packing of rows that go to n_away other ranks each on average. */
double shoal__route_us(const shoal__costs *c, int32_t rank, double n_row, double n_away);
/* Adding up the results of n_slot slots; n_home: results that come from other ranks, as rows of the
 * wire. */
double shoal__collect_us(const shoal__costs *c, int32_t rank, double n_row, double n_slot,
                         double n_home);
/* An expert with n_slot rows, without what is the same for all experts of a layer. */
double shoal__expert_us(const shoal__costs *c, int32_t rank, double n_slot);
/* What a rank's experts take besides, for n_row rows with n_slot slots and their results; n_in,
 * n_out: rows that come from other ranks and results that go there. */
double shoal__slots_us(const shoal__costs *c, int32_t rank, double n_row, double n_slot,
                       double n_in, double n_out);
/* Shared experts of an MoE layer; the MLP of a dense one. */
double shoal__shared_us(const shoal__costs *c, int32_t rank, double n_row);
double shoal__dense_us(const shoal__costs *c, int32_t rank, double n_row);
/* What stands before and behind the layers: logits and sampling of n_logit rows; on a GPU also the
 * embeddings' way there. */
double shoal__logits_us(const shoal__costs *c, int32_t rank, double n_row, double n_logit);
/* Rank 0 between two steps. */
double shoal__control_us(const shoal__costs *c, double n_sequence);

/* device_costs.c: parts of these on a rank that is a GPU. One format of a pass; what stands beside
 * the passes and the cache: values that are read and written, launches, waits, bytes over PCIe. */
double shoal__device_format_us(const shoal__costs *c, int32_t rank, shoal_format format,
                               double n_bytes, double n_mac, double n_row);
double shoal__device_attention_us(const shoal__costs *c, int32_t rank, double n_row);
double shoal__device_route_us(const shoal__costs *c, int32_t rank, double n_row, double n_away);
double shoal__device_slots_us(const shoal__costs *c, int32_t rank, double n_row, double n_slot,
                              double n_wire_bytes);
double shoal__device_collect_us(const shoal__costs *c, int32_t rank, double n_row, double n_home);
double shoal__device_mlp_us(const shoal__costs *c, int32_t rank, double n_row, int32_t n_ff);
double shoal__device_ends_us(const shoal__costs *c, int32_t rank, double n_row, double n_logit);

/* Bytes of a dispatch message and of what comes back (comm/plan.h). */
double shoal__dispatch_message_bytes(const shoal__costs *c, int32_t n_row, int32_t n_slot);
double shoal__combine_message_bytes(const shoal__costs *c, int32_t n_row, int32_t n_slot);

/* One step of all ranks in time, from the control message to the last result. */
typedef struct shoal__step {
    const int32_t *n_row;   /* [n_rank] */
    const int32_t *n_chunk; /* [n_rank] sequences of these rows */
    const int32_t *n_logit; /* [n_rank] */
    double n_sequence;
} shoal__step;

/* Fills everything of *out but gain and bound. Errors: NO_MEMORY. */
shoal_status shoal__lockstep(shoal_step_prediction *out, const shoal__costs *c,
                             const shoal__step *step, shoal_log *log);

#endif
