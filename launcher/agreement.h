/* What all ranks must have in common before weights are loaded. Each rank fills one record of fixed
 * size; rank 0 compares all with its own, says which rank deviates in what, and all leave with the
 * same status. Thread counts and kernels that give the same bits need not agree.
 *
 * The record's size and the place of `magic` and `build` never change, so that different builds can
 * at least understand that they differ. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_AGREEMENT_H
#define SHOAL_LAUNCHER_AGREEMENT_H

#include "comm/comm.h"
#include "experts/placement.h"
#include "launcher/options.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/spec.h"

#define SHOAL_AGREEMENT_MAGIC 0x316c6f68u /* "hol1" */

typedef struct shoal_agreement {
    uint32_t magic;
    uint32_t pad;
    char build[64]; /* version and hash of the sources */
    /* Of the checkpoint. */
    uint64_t checkpoint; /* shoal_checkpoint_identity */
    int32_t n_layer, n_moe_layer, n_vocab, n_embd, n_expert, top_k;
    /* Of the options: all that change the exchange or the result. */
    int32_t command;
    int32_t math, weights, kv, combine, draft;
    int32_t kernels; /* shoal_kernels_bits */
    int32_t overlap;
    int32_t n_context, n_sequence, prefill_chunk, draft_tokens;
    uint64_t placement;    /* hash of the packed placement; 0: it is still to be chosen */
    uint64_t age;          /* shoal_checkpoint_age */
    int32_t is_staged;     /* shoal_checkpoint_is_staged */
    int32_t trace, routes; /* 1: wanted */
    int32_t weighted;      /* chosen from measurements */
    int32_t transport;     /* who starts NCCL */
    unsigned char reserved[316];
} shoal_agreement;

_Static_assert(sizeof(shoal_agreement) == 504, "the record's size is part of the format");

/* This rank's record. options with their defaults resolved; placement zeroed if it is still to be
 * chosen, which weighted then says. Errors: NO_MEMORY. */
shoal_status shoal_agreement_fill(shoal_agreement *mine, const shoal_checkpoint *checkpoint,
                                  const shoal_spec *spec, const shoal_placement *placement,
                                  const shoal_options *options, shoal_log *log);

/* Compare all[1 .. n_rank-1] with all[0]; host[r] names a rank's host. One line per deviating rank.
 * Returns the worst kind found: FAILED (build), BAD_DATA (checkpoint), USAGE (options), or OK. */
shoal_status shoal_agreement_compare(const shoal_agreement *all, int32_t n_rank,
                                     const char *const *host, shoal_log *log);

/* Gather, compare on rank 0, share the verdict. Collective; all ranks return the same. */
shoal_status shoal_agreement_check(shoal_comm *comm, const shoal_agreement *mine, shoal_log *log);

/* A stage of bring-up that every rank did by itself with the logger capturing: all learn the worst
 * status; rank 0 logs its own failure or, for every other rank, the text that it failed with (once,
 * where several failed alike). Ends the capturing. Collective; all return the same. */
shoal_status shoal_agreement_stage(shoal_comm *comm, shoal_status mine, const char *stage,
                                   shoal_log *log);

/* "0.1.0 (4f3a...)" */
const char *shoal_build_text(void);

#endif
