/* The memory of all ranks, said before anything is loaded; and whether the GPUs have room for it,
 * with what would fit if not. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_MEMORY_REPORT_H
#define SHOAL_LAUNCHER_MEMORY_REPORT_H

#include "launcher/session.h"

/* All that is allocated for a run on one rank: by the model, and by the engine above it. */
uint64_t shoal_memory_total(const shoal_memory_table *model, uint64_t engine_bytes);

/* Print the memory of all ranks to the log of rank 0. Collective; all return the same. Errors:
 * NO_MEMORY (a rank's GPU has not so much: said with the experts that it could hold, and how to
 * start), and what comm finds. */
shoal_status shoal_memory_report(const shoal_session *session);

/* Of a GPU that has not enough memory; all that the advice depends on. */
typedef struct shoal_memory_shortage {
    uint64_t free_bytes;   /* that may be filled */
    uint64_t device_bytes; /* wanted */
    uint64_t expert_bytes; /* of these */
    uint64_t kv_bytes;     /* of these */
    int64_t n_expert;      /* that the rank was to hold, over all layers */
    int32_t n_layer;       /* MoE layers */
    int32_t n_context, n_sequence;
    bool has_cpu_rank; /* some rank computes on its processor */
} shoal_memory_shortage;

/* What would fit, in a sentence or two that stand behind what is wrong. Pure. */
void shoal_memory_advice(char text[512], const shoal_memory_shortage *shortage);

/* Of a GPU's free memory what may be filled: a little is left to the driver and the display. */
uint64_t shoal_memory_room(uint64_t free_bytes);

#endif
