/* A limit for calls of MPI that block and know no deadline: starting it, finalising it, aborting
 * the job. They hang when a rank, a host or a daemon of the launcher is gone. A thread that sleeps
 * ends the process when the time is up, or half a second after a signal has come; it calls nothing
 * of MPI. Everything else waits by shoal_comm, which can say who is lost. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_WATCHDOG_H
#define SHOAL_LAUNCHER_WATCHDOG_H

#include "runtime/base/log.h"

#include <pthread.h>
#include <signal.h>

typedef struct shoal_watchdog {
    double limit_s;
    const char *text; /* said when the time is up: what hangs, and what to do */
    const volatile sig_atomic_t *interrupted; /* NULL: signals change nothing */
    shoal_status status; /* when the time is up; its exit code is the process's */
    shoal_log *log;      /* NULL: nothing is said */
    bool on;
    bool called_off; /* under lock, as called is its condition */
    pthread_mutex_t lock;
    pthread_cond_t called;
    pthread_t thread;
} shoal_watchdog;

/* Begin to watch; limit_s, text, interrupted, status and log are set, the rest zero. The log must
 * not be used meanwhile by what is watched. Where no thread can be had nothing is watched. */
void shoal_watchdog_start(shoal_watchdog *dog);

/* What was watched has come back. Accepts one that was never started. */
void shoal_watchdog_stop(shoal_watchdog *dog);

#endif
