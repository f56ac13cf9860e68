/* What a model's steps did on this rank and where their time went, summed since it was opened.
 * Formulas: docs/PERFORMANCE.md. Layering: model. */
#ifndef SHOAL_MODEL_WORK_H
#define SHOAL_MODEL_WORK_H

#include "runtime/base/status.h"

#include <stddef.h>
#include <stdint.h>

/* X(name): the phases of a step in the order of the line. What a phase waits for messages is not
 * its own, but `wait`. `sample` is the engine's: 0 in a model's times. */
#define SHOAL_PHASE_MAP(X)                                                                         \
    X(attention)                                                                                   \
    X(router)                                                                                      \
    X(dispatch)                                                                                    \
    X(experts)                                                                                     \
    X(combine)                                                                                     \
    X(shared)                                                                                      \
    X(dense)                                                                                       \
    X(logits)                                                                                      \
    X(sample)                                                                                      \
    X(other)                                                                                       \
    X(wait)

/* The number of a phase in the order of the map. */
#define SHOAL_PHASE_NUMBER(name) (offsetof(shoal_phase_times, name##_us) / sizeof(int64_t))

/* They add up to the forward passes (in an engine's counters: to its steps). */
typedef struct shoal_phase_times {
#define SHOAL_PHASE_FIELD(name) int64_t name##_us;
    SHOAL_PHASE_MAP(SHOAL_PHASE_FIELD)
#undef SHOAL_PHASE_FIELD
} shoal_phase_times;

/* sum += sign * times, phase by phase. */
void shoal_phase_times_add(shoal_phase_times *sum, const shoal_phase_times *times, int64_t sign);
int64_t shoal_phase_times_total(const shoal_phase_times *times);

typedef struct shoal_work_counters {
    /* Packed weights that passes read: every matrix of a layer that rows go through, once a pass;
     * of the experts those that were chosen. Norms and biases are left out. */
    uint64_t weight_bytes;
    uint64_t cache_bytes; /* rows of the KV cache that attention reads, once a chunk and layer */
    uint64_t n_mac;       /* multiply-adds with these weights; attention over the cache left out */
    uint64_t n_slot;      /* (row, expert) pairs computed here */
} shoal_work_counters;

#endif
