/* Monotonic time in microseconds.
 * Layering: base. */
#ifndef SHOAL_BASE_CLOCK_H
#define SHOAL_BASE_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC in us; the origin is arbitrary. */
int64_t shoal_clock_us(void);

#endif
