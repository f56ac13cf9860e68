#include "runtime/base/pool.h"
#include "tests/support/check_main.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_TILE_MAX = 5000 };

typedef struct job {
    int32_t n_thread;
    int32_t count[N_TILE_MAX]; /* plain: two workers on one tile would be a race that TSan sees */
    atomic_int n_bad;
    int64_t sum[64]; /* per worker */
    int32_t scale;
} job;

static void count_tile(void *arg, int32_t tile, int32_t worker)
{
    job *j = arg;
    if (worker < 0 || worker >= j->n_thread)
        atomic_fetch_add(&j->n_bad, 1);
    j->count[tile]++;
    j->sum[worker] += (int64_t)tile * j->scale;
}

/* Jobs of very different sizes one after another: late workers meet the next job. */
static void run_jobs(int32_t n_thread, int32_t n_round)
{
    static const int32_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, N_TILE_MAX, 1, 1, 33};
    shoal_pool *pool;
    ck_assert_int_eq(shoal_pool_open(&pool, n_thread, NULL), SHOAL_OK);
    ck_assert_int_eq(shoal_pool_n_thread(pool), n_thread);
    job *j = calloc(1, sizeof *j);
    j->n_thread = n_thread;
    for (int32_t round = 0; round < n_round; round++) {
        int32_t n_tile = sizes[round % (int32_t)(sizeof sizes / sizeof sizes[0])];
        memset(j->count, 0, sizeof j->count);
        memset(j->sum, 0, sizeof j->sum);
        j->scale = round + 1;
        shoal_pool_run(pool, count_tile, j, n_tile);
        int64_t sum = 0;
        for (int32_t worker = 0; worker < n_thread; worker++)
            sum += j->sum[worker];
        ck_assert_int_eq(sum, (int64_t)n_tile * (n_tile - 1) / 2 * (round + 1));
        int32_t n_wrong = 0; /* one assertion for all: Check's are slow */
        for (int32_t tile = 0; tile < N_TILE_MAX; tile++)
            n_wrong += j->count[tile] != (tile < n_tile);
        ck_assert_int_eq(n_wrong, 0);
    }
    ck_assert_int_eq(atomic_load(&j->n_bad), 0);
    free(j);
    shoal_pool_close(pool);
}

START_TEST(every_tile_once_1)
{
    run_jobs(1, 50);
}
END_TEST

START_TEST(every_tile_once_2)
{
    run_jobs(2, 400);
}
END_TEST

START_TEST(every_tile_once_16)
{
    run_jobs(16, 200);
}
END_TEST

typedef struct poll_count {
    pthread_t caller;
    int64_t n;
    int64_t n_elsewhere;
} poll_count;

static void count_poll(void *arg)
{
    poll_count *p = arg;
    p->n++; /* plain: polls from two threads would be a race */
    if (!pthread_equal(pthread_self(), p->caller))
        p->n_elsewhere++;
}

static void sleepy_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)arg;
    (void)tile;
    (void)worker;
    usleep(100);
}

START_TEST(the_caller_polls)
{
    for (int32_t n_thread = 1; n_thread <= 3; n_thread += 2) {
        shoal_pool *pool;
        ck_assert_int_eq(shoal_pool_open(&pool, n_thread, NULL), SHOAL_OK);
        poll_count p = {.caller = pthread_self()};
        shoal_pool_set_poll(pool, count_poll, &p);
        shoal_pool_run(pool, sleepy_tile, NULL, 30);
        ck_assert_int_gt(p.n, 0);
        if (n_thread == 1)
            ck_assert_int_ge(p.n, 29);
        ck_assert_int_eq(p.n_elsewhere, 0);
        int64_t n = p.n;
        shoal_pool_poll(pool); /* by whoever waits for something else */
        ck_assert_int_eq(p.n, n + 1);
        shoal_pool_set_poll(pool, NULL, NULL);
        n = p.n;
        shoal_pool_poll(pool);
        shoal_pool_run(pool, sleepy_tile, NULL, 3);
        ck_assert_int_eq(p.n, n);
        shoal_pool_close(pool);
    }
}
END_TEST

/* The caller takes one tile and then waits for the other worker's long one. */
static void uneven_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)tile;
    atomic_int *n_in = arg;
    atomic_fetch_add(n_in, 1);
    for (int i = 0; i < 5000 && atomic_load(n_in) < 2; i++)
        usleep(1000); /* until both workers have one */
    if (worker != 0)
        usleep(20000);
}

START_TEST(the_caller_polls_while_it_waits)
{
    shoal_pool *pool;
    ck_assert_int_eq(shoal_pool_open(&pool, 2, NULL), SHOAL_OK);
    poll_count p = {.caller = pthread_self()};
    shoal_pool_set_poll(pool, count_poll, &p);
    atomic_int n_in = 0;
    shoal_pool_run(pool, uneven_tile, &n_in, 2);
    ck_assert_int_eq(atomic_load(&n_in), 2);
    ck_assert_int_gt(p.n, 10);
    shoal_pool_close(pool);
}
END_TEST

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

START_TEST(an_idle_pool_sleeps_and_wakes)
{
    shoal_pool *pool;
    ck_assert_int_eq(shoal_pool_open(&pool, 4, NULL), SHOAL_OK);
    job *j = calloc(1, sizeof *j);
    j->n_thread = 4;
    for (int i = 0; i < 5; i++) {
        shoal_pool_run(pool, count_tile, j, 100);
        usleep(20000); /* all asleep */
    }
    double before = cpu_seconds();
    usleep(300000);
    ck_assert_msg(cpu_seconds() - before < 0.05, "an idle pool used %.3f s of 0.3 s",
                  cpu_seconds() - before);
    shoal_pool_run(pool, count_tile, j, 100);
    ck_assert_int_eq(j->count[99], 6);
    free(j);
    shoal_pool_close(pool);
}
END_TEST

typedef struct seen_on {
    cpu_set_t set[2]; /* of each worker */
    atomic_int n_in;
} seen_on;

static void look_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)tile;
    seen_on *s = arg;
    pthread_getaffinity_np(pthread_self(), sizeof s->set[worker], &s->set[worker]);
    atomic_fetch_add(&s->n_in, 1);
    for (int i = 0; i < 5000 && atomic_load(&s->n_in) < 2; i++)
        usleep(1000); /* until both workers have one */
}

START_TEST(pinned_workers_stay_and_the_caller_is_given_back)
{
    cpu_set_t before, after;
    ck_assert_int_eq(pthread_getaffinity_np(pthread_self(), sizeof before, &before), 0);
    shoal_cpus place[2] = {{{0}}};
    for (int32_t cpu = 0, n = 0; cpu < SHOAL_CPU_MAX && n < 2; cpu++)
        if (CPU_ISSET((size_t)cpu, &before))
            shoal_cpus_add(&place[n++], cpu);
    if (place[1].bit[0] == 0)
        place[1] = place[0]; /* a machine of one */
    shoal_pool *pool;
    ck_assert_int_eq(shoal_pool_open(&pool, 2, NULL), SHOAL_OK);
    ck_assert(shoal_pool_pin(pool, place));
    seen_on s = {.n_in = 0};
    shoal_pool_run(pool, look_tile, &s, 2);
    for (int worker = 0; worker < 2; worker++)
        for (int32_t cpu = 0; cpu < SHOAL_CPU_MAX; cpu++)
            ck_assert_int_eq(CPU_ISSET((size_t)cpu, &s.set[worker]) != 0,
                             shoal_cpus_has(&place[worker], cpu));
    shoal_pool_close(pool);
    ck_assert_int_eq(pthread_getaffinity_np(pthread_self(), sizeof after, &after), 0);
    ck_assert(CPU_EQUAL(&before, &after));

    shoal_cpus nowhere[2] = {{{0}}};
    ck_assert_int_eq(shoal_pool_open(&pool, 2, NULL), SHOAL_OK);
    ck_assert(!shoal_pool_pin(pool, nowhere));
    ck_assert_int_eq(pthread_getaffinity_np(pthread_self(), sizeof after, &after), 0);
    ck_assert(CPU_EQUAL(&before, &after));
    shoal_pool_close(pool);
}
END_TEST

START_TEST(bad_counts_and_null)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "h");
    shoal_pool *pool = NULL;
    ck_assert_int_eq(shoal_pool_open(&pool, 0, &log), SHOAL_FAILED);
    ck_assert_ptr_null(pool);
    ck_assert_str_ne(log.error, "");
    shoal_pool_close(NULL);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, every_tile_once_1);
    SHOAL_TEST(suite, every_tile_once_2);
    SHOAL_TEST(suite, every_tile_once_16);
    SHOAL_TEST(suite, the_caller_polls);
    SHOAL_TEST(suite, the_caller_polls_while_it_waits);
    SHOAL_TEST(suite, an_idle_pool_sleeps_and_wakes);
    SHOAL_TEST(suite, pinned_workers_stay_and_the_caller_is_given_back);
    SHOAL_TEST(suite, bad_counts_and_null);
}

SHOAL_TEST_MAIN("base.pool", add_tests)
