/* How a rank waits in real time: it spins, then yields its core, then naps. Layering: comm. */
#ifndef SHOAL_COMM_IDLER_H
#define SHOAL_COMM_IDLER_H

#include <stdint.h>

typedef struct shoal_idler {
    int64_t yield_us; /* when to begin to yield; 0: something has completed since the last idle */
} shoal_idler;

/* Something has completed: what comes next is waited for anew. */
static inline void shoal_idler_reset(shoal_idler *idler)
{
    idler->yield_us = 0;
}

/* Leave the core to others for a moment, not beyond until_us. */
void shoal_idler_idle(shoal_idler *idler, int64_t until_us);

#endif
