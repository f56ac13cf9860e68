#include "comm/idler.h"

#include "runtime/base/clock.h"

#include <sched.h>
#include <time.h>

/* How long a wait spins before it yields the core. Round trips on one machine take 5 to 70 us, and
 * a core once yielded may come back a time slice later; ranks that share a core must not spin for
 * much longer than that. */
#define SPIN_US 50

/* A wait that long is none of a token's: it sleeps, for 1/32 of its time so far, so that what comes
 * is late by 3 % at most and a rank with nothing to do leaves its core to others, or cold. What
 * lies in the buffers of the sockets must last for a sleep. */
#define SLEEP_AFTER_US 2000
#define SLEEP_PART     32
#define SLEEP_MAX_US   1000

void shoal_idler_idle(shoal_idler *idler, int64_t until_us)
{
    int64_t now_us = shoal_clock_us();
    if (idler->yield_us == 0)
        idler->yield_us = now_us + SPIN_US;
    int64_t waited_us = now_us - idler->yield_us;
    if (waited_us < 0)
        return;
    int64_t part_us = waited_us / SLEEP_PART;
    int64_t nap_us = part_us < SLEEP_MAX_US ? part_us : SLEEP_MAX_US;
    if (waited_us < SLEEP_AFTER_US || now_us + nap_us > until_us)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = nap_us * 1000}, NULL);
}
