/* The thread pool of one rank. The caller's thread is worker 0 and takes part; a job is a number of
 * tiles that workers take one by one. Between its tiles worker 0 calls the poll hook (the
 * transport's progress: Open MPI's TCP path moves nothing on its own). Pool threads never touch
 * comm. What a tile writes must not depend on which worker runs it, so results do not depend on the
 * thread count. Waiting spins briefly, then yields, so that oversubscribed ranks progress; a
 * worker that finds nothing to do for 200 us sleeps. Pool threads take no signals.
 * Layering: base. */
#ifndef SHOAL_BASE_POOL_H
#define SHOAL_BASE_POOL_H

#include "runtime/base/log.h"
#include "runtime/base/topology.h"

typedef struct shoal_pool shoal_pool;

/* worker is in [0, n_thread). Tiles should take at most about 200 us. */
typedef void shoal_tile_fn(void *arg, int32_t tile, int32_t worker);
typedef void shoal_poll_fn(void *arg);

/* n_thread >= 1 (1 starts no thread). Errors: NO_MEMORY, FAILED (thread could not start). */
shoal_status shoal_pool_open(shoal_pool **pool, int32_t n_thread, shoal_log *log);
void shoal_pool_close(shoal_pool *pool); /* accepts NULL */
int32_t shoal_pool_n_thread(const shoal_pool *pool);

/* Bind worker i to place[i], [n_thread]; worker 0 is the calling thread, whose affinity
 * shoal_pool_close restores. Returns false if the system forbids it: nothing is bound then. */
bool shoal_pool_pin(shoal_pool *pool, const shoal_cpus *place);

/* Hook called by worker 0 between tiles and while it waits for the others; NULL for none. */
void shoal_pool_set_poll(shoal_pool *pool, shoal_poll_fn *fn, void *arg);

/* Call the hook once, if there is one: for worker 0 where it waits for something else. */
void shoal_pool_poll(shoal_pool *pool);

/* Run fn(arg, tile, worker) for every tile in [0, n_tile); returns when all are done. Not
 * reentrant. */
void shoal_pool_run(shoal_pool *pool, shoal_tile_fn *fn, void *arg, int32_t n_tile);

#endif
