/* The wire format: a pure function of (--math, weights), the same on every rank and device, agreed
 * before load (rule 2). Rows are rounded to it once, at their source, also for local experts. The
 * encodings themselves are kernels/wire.h's. Layering: comm knows kernels and base. */
#ifndef SHOAL_COMM_WIRE_H
#define SHOAL_COMM_WIRE_H

#include "runtime/kernels/wire.h"

typedef enum shoal_combine_kind { SHOAL_COMBINE_EXACT, SHOAL_COMBINE_REDUCED } shoal_combine_kind;

typedef struct shoal_wire {
    shoal_wire_encoding dispatch;
    shoal_wire_encoding combine;
    shoal_combine_kind kind;
} shoal_wire;

/* The table of rule 2. fast: --math fast. quantised: expert weights are q4, q8 or MXFP4. */
shoal_wire shoal_wire_format(bool fast, bool quantised, shoal_combine_kind kind);

#endif
