/* How far the clocks of the ranks are apart, by messages: rank 0 asks, the other answers with its
 * clock, and of several rounds the shortest counts. If both ways take the same time the answer was
 * made in the middle; whatever they are, the error is at most half of the round. Layering:
 * launcher. */
#ifndef SHOAL_LAUNCHER_TRACE_CLOCK_H
#define SHOAL_LAUNCHER_TRACE_CLOCK_H

#include "comm/comm.h"

typedef struct shoal_clock_offset {
    int64_t offset_us; /* the rank's clock less rank 0's */
    int64_t error_us;  /* half of the shortest round, and 1 */
    int64_t at_us;     /* when, on the rank's clock */
} shoal_clock_offset;

/* offset: [n_rank] on rank 0 (its own entry is 0), NULL elsewhere. Collective; takes 16 rounds for
 * each rank, one rank after the other. Errors: as shoal_comm_wait. */
shoal_status shoal_clock_compare(shoal_clock_offset *offset, shoal_comm *comm);

/* t_us on a rank's clock, in ns on rank 0's. Between two comparisons a clock is taken to run evenly
 * if they differ by more than their errors; else the better one holds for all the time. */
int64_t shoal_clock_to_ns(const shoal_clock_offset *start, const shoal_clock_offset *end,
                          int64_t t_us);

#endif
