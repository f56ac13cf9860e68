#include "runtime/base/pool.h"

#include "runtime/base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* How an idle worker waits: it spins for SPINS pauses, yields until IDLE_US after its last tile,
 * then sleeps until the next job. Waking a sleeper takes 20 us and more; the gaps inside a step (a
 * message's round trip, sampling) are shorter than IDLE_US, so a step wakes nobody. A pool that
 * nobody uses costs nothing. */
enum { SPINS = 200, IDLE_US = 200 };

/* `n_left` is the whole protocol. A worker owns tile n_tile - n_left by taking n_left down by one,
 * and only then reads the job: the job cannot change while one of its tiles is not done. A worker
 * that is late finds n_left = 0, or takes a tile of the next job, which is as good. */
struct shoal_pool {
    int32_t n_thread;
    int32_t n_started; /* threads to join: n_thread - 1 once open */
    shoal_poll_fn *poll;
    void *poll_arg;
    pthread_t *thread;          /* [n_thread - 1] */
    struct pool_worker *worker; /* [n_thread - 1] */

    shoal_tile_fn *fn; /* the job; written by worker 0 while n_left = 0 and all tiles are done */
    void *arg;
    int32_t n_tile;

    _Alignas(64) atomic_int n_left; /* tiles nobody has taken yet */
    _Alignas(64) atomic_int n_done; /* tiles finished */
    _Alignas(64) atomic_int n_sleeper;
    atomic_bool quit;
    bool pinned;
    cpu_set_t before_pin;  /* affinity of the thread that pinned, which is worker 0 */
    pthread_mutex_t mutex; /* with `wake`: workers that sleep until n_left > 0 or quit */
    pthread_cond_t wake;
};

typedef struct pool_worker {
    shoal_pool *pool;
    int32_t index; /* 1 .. n_thread - 1 */
} pool_worker;

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* False if no tile was left. */
static bool take_tile(shoal_pool *pool, int32_t *n_left)
{
    int left = atomic_load_explicit(&pool->n_left, memory_order_relaxed);
    while (left > 0) {
        if (atomic_compare_exchange_weak_explicit(&pool->n_left, &left, left - 1,
                                                  memory_order_acquire, memory_order_relaxed)) {
            *n_left = left;
            return true;
        }
    }
    return false;
}

static bool run_tile(shoal_pool *pool, int32_t worker)
{
    int32_t n_left;
    if (!take_tile(pool, &n_left))
        return false;
    pool->fn(pool->arg, pool->n_tile - n_left, worker);
    atomic_fetch_add_explicit(&pool->n_done, 1, memory_order_release);
    return true;
}

static bool has_news(shoal_pool *pool)
{
    return atomic_load(&pool->n_left) > 0 || atomic_load(&pool->quit);
}

/* n_sleeper is raised before n_left is read, and shoal_pool_run sets n_left before it reads
 * n_sleeper, all sequentially consistent: one of the two sees the other. */
static void sleep_for_news(shoal_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->n_sleeper, 1);
    while (!has_news(pool))
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->n_sleeper, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_news(shoal_pool *pool)
{
    for (int i = 0; i < SPINS; i++) {
        if (has_news(pool))
            return;
        pause_cpu();
    }
    int64_t deadline_us = shoal_clock_us() + IDLE_US;
    while (!has_news(pool)) {
        if (shoal_clock_us() >= deadline_us) {
            sleep_for_news(pool);
            return;
        }
        sched_yield();
    }
}

static void *worker_main(void *arg)
{
    pool_worker *worker = arg;
    shoal_pool *pool = worker->pool;
    while (!atomic_load(&pool->quit)) {
        while (run_tile(pool, worker->index)) {
        }
        wait_for_news(pool);
    }
    return NULL;
}

/* Signals go to the main thread, which waits in the transport and acts on them. */
static shoal_status start_threads(shoal_pool *pool, shoal_log *log)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (int32_t i = 0; i < pool->n_thread - 1 && error == 0; i++) {
        pool->worker[i] = (pool_worker){pool, i + 1};
        error = pthread_create(&pool->thread[i], NULL, worker_main, &pool->worker[i]);
        if (error == 0)
            pool->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return shoal_fail(log, SHOAL_FAILED,
                          "thread pool: thread %d of %d could not start (error %d); use fewer "
                          "--threads",
                          (int)pool->n_started + 2, (int)pool->n_thread, error);
    return SHOAL_OK;
}

shoal_status shoal_pool_open(shoal_pool **pool, int32_t n_thread, shoal_log *log)
{
    if (n_thread < 1)
        return shoal_fail(log, SHOAL_FAILED, "thread pool: %d threads wanted, at least 1 needed",
                          (int)n_thread);
    size_t n_extra = (size_t)n_thread - 1;
    shoal_pool *p = aligned_alloc(_Alignof(shoal_pool), sizeof *p);
    pthread_t *thread = calloc(n_extra + 1, sizeof *thread);
    pool_worker *worker = calloc(n_extra + 1, sizeof *worker);
    if (p == NULL || thread == NULL || worker == NULL) {
        free(p);
        free(thread);
        free(worker);
        return shoal_fail(log, SHOAL_NO_MEMORY, "thread pool: no memory for %d threads",
                          (int)n_thread);
    }
    *p = (shoal_pool){.n_thread = n_thread, .thread = thread, .worker = worker};
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    shoal_status status = start_threads(p, log);
    if (status != SHOAL_OK) {
        shoal_pool_close(p);
        return status;
    }
    *pool = p;
    return SHOAL_OK;
}

void shoal_pool_close(shoal_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->quit, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int32_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->thread[i], NULL);
    if (pool->pinned)
        pthread_setaffinity_np(pthread_self(), sizeof pool->before_pin, &pool->before_pin);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->worker);
    free(pool->thread);
    free(pool);
}

static bool bind_thread(pthread_t thread, const shoal_cpus *place)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (size_t cpu = 0; cpu < SHOAL_CPU_MAX && cpu < CPU_SETSIZE; cpu++)
        if (shoal_cpus_has(place, (int32_t)cpu))
            CPU_SET(cpu, &set);
    return pthread_setaffinity_np(thread, sizeof set, &set) == 0;
}

bool shoal_pool_pin(shoal_pool *pool, const shoal_cpus *place)
{
    cpu_set_t before;
    if (pthread_getaffinity_np(pthread_self(), sizeof before, &before) != 0)
        return false;
    bool bound = bind_thread(pthread_self(), &place[0]);
    for (int32_t i = 0; i < pool->n_thread - 1; i++)
        bound = bound && bind_thread(pool->thread[i], &place[i + 1]);
    if (bound) {
        if (!pool->pinned)
            pool->before_pin = before;
        pool->pinned = true;
        return true;
    }
    pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    for (int32_t i = 0; i < pool->n_thread - 1; i++)
        pthread_setaffinity_np(pool->thread[i], sizeof before, &before);
    return false;
}

int32_t shoal_pool_n_thread(const shoal_pool *pool)
{
    return pool->n_thread;
}

void shoal_pool_set_poll(shoal_pool *pool, shoal_poll_fn *fn, void *arg)
{
    pool->poll = fn;
    pool->poll_arg = arg;
}

void shoal_pool_poll(shoal_pool *pool)
{
    if (pool->poll != NULL)
        pool->poll(pool->poll_arg);
}

static void wake_sleepers(shoal_pool *pool, int32_t n_useful)
{
    int n_sleeper = atomic_load(&pool->n_sleeper);
    if (n_sleeper == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    if (n_useful >= n_sleeper)
        pthread_cond_broadcast(&pool->wake);
    else
        for (int32_t i = 0; i < n_useful; i++)
            pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_tiles(shoal_pool *pool)
{
    for (int spin = 0; atomic_load_explicit(&pool->n_done, memory_order_acquire) < pool->n_tile;
         spin++) {
        shoal_pool_poll(pool);
        if (spin < SPINS)
            pause_cpu();
        else
            sched_yield();
    }
}

void shoal_pool_run(shoal_pool *pool, shoal_tile_fn *fn, void *arg, int32_t n_tile)
{
    if (n_tile <= 0)
        return;
    if (n_tile == 1 || pool->n_thread == 1) {
        for (int32_t tile = 0; tile < n_tile; tile++) {
            fn(arg, tile, 0);
            shoal_pool_poll(pool);
        }
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->n_tile = n_tile;
    atomic_store_explicit(&pool->n_done, 0, memory_order_relaxed);
    atomic_store(&pool->n_left, n_tile);
    wake_sleepers(pool, n_tile - 1);
    while (run_tile(pool, 0))
        shoal_pool_poll(pool);
    wait_for_tiles(pool);
}
