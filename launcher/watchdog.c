#include "launcher/watchdog.h"

#include "runtime/base/clock.h"

#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 50, SIGNAL_GRACE_US = 500000 };

static void end_by_signal(const shoal_watchdog *dog)
{
    (void)shoal_fail(dog->log, SHOAL_INTERRUPTED, "stopped by signal %d", (int)*dog->interrupted);
    _exit(shoal_status_exit_code(SHOAL_INTERRUPTED));
}

static void end_by_time(const shoal_watchdog *dog)
{
    (void)shoal_fail(dog->log, dog->status, "%s (waited %.1f s)", dog->text, dog->limit_s);
    _exit(shoal_status_exit_code(dog->status));
}

/* One look every 50 ms: a sleeping thread costs nothing, and a signal may reach any thread. */
static void *watch(void *arg)
{
    shoal_watchdog *dog = arg;
    int64_t end_us = shoal_clock_us() + (int64_t)(dog->limit_s * 1e6);
    int64_t signal_us = 0;
    pthread_mutex_lock(&dog->lock);
    while (!dog->called_off) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&dog->called, &dog->lock, &until);
        int64_t now_us = shoal_clock_us();
        if (dog->called_off)
            break;
        if (signal_us == 0 && dog->interrupted != NULL && *dog->interrupted != 0)
            signal_us = now_us;
        if (signal_us != 0 && now_us - signal_us > SIGNAL_GRACE_US)
            end_by_signal(dog);
        if (now_us > end_us)
            end_by_time(dog);
    }
    pthread_mutex_unlock(&dog->lock);
    return NULL;
}

void shoal_watchdog_start(shoal_watchdog *dog)
{
    pthread_mutex_init(&dog->lock, NULL);
    pthread_cond_init(&dog->called, NULL);
    dog->on = pthread_create(&dog->thread, NULL, watch, dog) == 0;
    if (dog->on)
        return;
    pthread_cond_destroy(&dog->called);
    pthread_mutex_destroy(&dog->lock);
}

void shoal_watchdog_stop(shoal_watchdog *dog)
{
    if (!dog->on)
        return;
    pthread_mutex_lock(&dog->lock);
    dog->called_off = true;
    pthread_cond_signal(&dog->called);
    pthread_mutex_unlock(&dog->lock);
    pthread_join(dog->thread, NULL);
    pthread_cond_destroy(&dog->called);
    pthread_mutex_destroy(&dog->lock);
    dog->on = false;
}
