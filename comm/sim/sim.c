#include "comm/sim/sim.h"

#include "comm/comm.h"
#include "comm/sim/sim_private.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Address space, not memory: pages are only taken when touched. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (8u << 20)
#else
#define STACK_BYTES (1u << 20)
#endif

typedef enum rank_state {
    RANK_RUNS,  /* has the turn */
    RANK_IDLE,  /* gets the turn at inbox.wake_ns */
    RANK_STOPS, /* gets the turn when all others have ended */
    RANK_ENDED,
} rank_state;

typedef struct sim sim;

typedef struct sim_rank {
    shoal_transport base;
    sim *sim;
    rank_state state;
    bool open;   /* false once it has closed its transport: what is sent to it vanishes */
    bool mute;   /* what it sends vanishes */
    bool struck; /* must unwind: nothing starts or completes any more */
    int64_t clock_ns;
    int64_t link_free_ns;
    shoal__sim_inbox inbox;
    shoal_status status;
    pthread_t thread;
    pthread_cond_t turn_came;
} sim_rank;

struct sim {
    shoal_sim_config config;
    shoal_sim_rank_fn *fn;
    void *arg;
    shoal_log *log;
    pthread_mutex_t mutex; /* guards turn and state; the rest belongs to who has the turn */
    int32_t turn;          /* -1: nobody's */
    bool stuck;            /* all wait forever: everyone unwinds */
    uint64_t n_sent;
    shoal_status failed; /* of handing messages over: no memory */
    shoal__sim_cards cards;
    sim_rank *rank; /* [n_rank] */
};

static bool wakes_before(const sim *s, int32_t a, int32_t b)
{
    const int64_t a_ns = s->rank[a].inbox.wake_ns, b_ns = s->rank[b].inbox.wake_ns;
    return a_ns < b_ns || (a_ns == b_ns && a < b);
}

/* Flights whose first byte is there before the next rank wakes go to its inbox, which may wake
 * another rank earlier. Returns who is next then. */
static int32_t deliver(sim *s, int32_t next)
{
    while (next >= 0) {
        int32_t to;
        const int64_t first_ns = shoal__sim_cards_next_ns(&s->cards);
        if (first_ns == SHOAL__SIM_NEVER || first_ns > s->rank[next].inbox.wake_ns)
            break;
        shoal__sim_message *message = shoal__sim_cards_take(&s->cards, &to);
        if (!s->rank[to].open) {
            free(message);
            continue;
        }
        const shoal_status status = shoal__sim_inbox_put(&s->rank[to].inbox, message);
        if (status != SHOAL_OK && s->failed == SHOAL_OK)
            s->failed = shoal_fail(s->log, status, "sim: no memory for a message to rank %d", to);
        if (s->rank[to].state == RANK_IDLE && wakes_before(s, to, next))
            next = to;
    }
    return next;
}

/* Called with the mutex held. The earliest of those that wait; then those that stand still. */
static void pass_turn(sim *s)
{
    int32_t next = -1;
    int32_t stopped = -1;
    for (int32_t r = 0; r < s->config.n_rank; r++) {
        const sim_rank *rank = &s->rank[r];
        if (rank->state == RANK_IDLE &&
            (next < 0 || rank->inbox.wake_ns < s->rank[next].inbox.wake_ns))
            next = r;
        if (rank->state == RANK_STOPS && stopped < 0)
            stopped = r;
    }
    next = deliver(s, next);
    if (next >= 0 && s->rank[next].inbox.wake_ns == SHOAL__SIM_NEVER)
        s->stuck = true;
    s->turn = next >= 0 ? next : stopped;
    if (s->turn >= 0)
        pthread_cond_signal(&s->rank[s->turn].turn_came);
}

/* Hand the turn on in `state`; returns when it has come back. */
static void give_turn(sim_rank *rank, rank_state state)
{
    sim *s = rank->sim;
    pthread_mutex_lock(&s->mutex);
    rank->state = state;
    pass_turn(s);
    while (s->turn != rank->base.rank)
        pthread_cond_wait(&rank->turn_came, &s->mutex);
    rank->state = RANK_RUNS;
    pthread_mutex_unlock(&s->mutex);
}

static sim_rank *of(shoal_transport *t)
{
    return (sim_rank *)t;
}

/* A copy of what `r` sends; NULL: no memory. */
static shoal__sim_message *copy_message(sim_rank *from, const shoal_request *r)
{
    sim *s = from->sim;
    shoal__sim_message *message = malloc(sizeof(*message) + r->n_bytes);
    if (!message) {
        shoal_fail(s->log, SHOAL_NO_MEMORY,
                   "sim: no memory for a message of %zu bytes from rank %d to rank %d", r->n_bytes,
                   from->base.rank, r->peer);
        return NULL;
    }
    *message = (shoal__sim_message){
        .order = s->n_sent++, .source = from->base.rank, .tag = r->tag, .n_bytes = r->n_bytes};
    if (r->n_bytes > 0)
        memcpy(message->data, r->data, r->n_bytes);
    return message;
}

static shoal_status send_through_cards(sim_rank *from, const shoal_request *r)
{
    sim *s = from->sim;
    shoal_status status;
    if (s->failed != SHOAL_OK)
        return s->failed;
    if (from->mute)
        return SHOAL_OK;
    shoal__sim_message *message = copy_message(from, r);
    if (!message)
        return SHOAL_NO_MEMORY;
    if (!shoal__sim_cards_send(&s->cards, message, r->peer, &from->clock_ns, &status)) {
        if (s->rank[r->peer].open)
            return shoal__sim_inbox_put(&s->rank[r->peer].inbox, message);
        free(message);
    }
    return status;
}

static shoal_status send_message(sim_rank *from, shoal_request *r)
{
    sim *s = from->sim;
    sim_rank *to = &s->rank[r->peer];
    r->done = true; /* the data is copied, so the buffer is free at once */
    if (s->config.network)
        return send_through_cards(from, r);
    /* Times are whole ns, so that a run does not depend on the order of additions. GB/s = B/ns. */
    double gb_per_s = s->config.bandwidth_gb_per_s;
    int64_t transfer_ns = gb_per_s > 0 ? (int64_t)llround((double)r->n_bytes / gb_per_s) : 0;
    if (from->link_free_ns < from->clock_ns)
        from->link_free_ns = from->clock_ns;
    from->link_free_ns += transfer_ns;
    if (from->mute || !to->open)
        return SHOAL_OK;
    shoal__sim_message *message = copy_message(from, r);
    if (!message)
        return SHOAL_NO_MEMORY;
    message->arrival_ns = from->link_free_ns + (int64_t)llround(s->config.latency_us * 1e3);
    return shoal__sim_inbox_put(&to->inbox, message);
}

static shoal_status sim_start(shoal_transport *t, shoal_request *r)
{
    sim_rank *rank = of(t);
    if (rank->struck || rank->sim->stuck)
        return SHOAL_FAILED;
    return r->is_recv ? shoal__sim_inbox_post(&rank->inbox, r) : send_message(rank, r);
}

static shoal_status sim_test(shoal_transport *t, shoal_request *r)
{
    sim_rank *rank = of(t);
    if (rank->struck || rank->sim->stuck)
        return SHOAL_FAILED;
    size_t wanted = r->n_bytes;
    shoal_status status = shoal__sim_inbox_test(&rank->inbox, r, &rank->clock_ns);
    if (status == SHOAL_OK)
        return SHOAL_OK;
    return shoal_fail(
        rank->sim->log, status,
        "sim: rank %d got a message of %zu bytes (tag %d) from rank %d, wanted %s%zu: "
        "the two disagree about what is exchanged",
        t->rank, r->n_bytes, r->tag, r->peer, r->exact ? "" : "at most ", wanted);
}

static void sim_cancel(shoal_transport *t, shoal_request *r)
{
    if (r->is_recv && !r->done)
        shoal__sim_inbox_cancel(&of(t)->inbox, r);
    r->done = true;
}

static void sim_idle(shoal_transport *t, int64_t until_us)
{
    sim_rank *rank = of(t);
    shoal__sim_inbox *inbox = &rank->inbox;
    int64_t until_ns = until_us < INT64_MAX / 1000 ? until_us * 1000 : SHOAL__SIM_NEVER;
    if (until_ns < inbox->wake_ns)
        inbox->wake_ns = until_ns;
    if (inbox->wake_ns < rank->clock_ns)
        inbox->wake_ns = rank->clock_ns;
    give_turn(rank, RANK_IDLE);
    if (inbox->wake_ns != SHOAL__SIM_NEVER && inbox->wake_ns > rank->clock_ns)
        rank->clock_ns = inbox->wake_ns;
    shoal__sim_inbox_rewatch(inbox);
}

void shoal_sim_compute(shoal_transport *transport, double us)
{
    sim_rank *rank = of(transport);
    if (us <= 0 || rank->struck || rank->sim->stuck)
        return;
    shoal__sim_inbox_rewatch(&rank->inbox); /* what arrives meanwhile interrupts nothing */
    rank->clock_ns += llround(us * 1e3);
    rank->inbox.wake_ns = rank->clock_ns;
    give_turn(rank, RANK_IDLE);
    shoal__sim_inbox_rewatch(&rank->inbox);
}

double shoal_sim_clock_us(const shoal_transport *transport)
{
    return (double)((const sim_rank *)transport)->clock_ns / 1e3;
}

static int64_t sim_now_us(shoal_transport *t)
{
    return of(t)->clock_ns / 1000;
}

static shoal_status sim_fault(shoal_transport *t, int32_t kind)
{
    sim_rank *rank = of(t);
    rank->mute = true;
    if (kind == SHOAL_FAULT_DROP)
        return SHOAL_OK;
    rank->struck = true;
    if (kind == SHOAL_FAULT_STOP)
        give_turn(rank, RANK_STOPS);
    return SHOAL_FAILED;
}

/* The rank's struct belongs to the run. */
static void sim_close(shoal_transport *t, bool failed)
{
    (void)failed;
    of(t)->open = false;
    shoal__sim_inbox_fini(&of(t)->inbox);
}

static const shoal_transport_ops sim_ops = {
    .name = "sim",
    .start = sim_start,
    .test = sim_test,
    .cancel = sim_cancel,
    .idle = sim_idle,
    .now_us = sim_now_us,
    .fault = sim_fault,
    .close = sim_close,
};

static void *run_rank(void *arg)
{
    sim_rank *rank = arg;
    sim *s = rank->sim;
    pthread_mutex_lock(&s->mutex);
    while (s->turn != rank->base.rank)
        pthread_cond_wait(&rank->turn_came, &s->mutex);
    rank->state = RANK_RUNS;
    pthread_mutex_unlock(&s->mutex);
    shoal__sim_inbox_rewatch(&rank->inbox);

    rank->status = rank->sim->fn ? s->fn(s->arg, rank->base.rank, &rank->base) : SHOAL_FAILED;

    rank->open = false;
    pthread_mutex_lock(&s->mutex);
    rank->state = RANK_ENDED;
    pass_turn(s);
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static shoal_status init_rank(sim *s, int32_t r)
{
    sim_rank *rank = &s->rank[r];
    /* Only idling moves the clock, so nothing is gained by testing twice. */
    rank->base =
        (shoal_transport){.ops = &sim_ops, .rank = r, .n_rank = s->config.n_rank, .n_test = 1};
    rank->sim = s;
    rank->state = RANK_IDLE;
    rank->open = true;
    pthread_cond_init(&rank->turn_came, NULL);
    SHOAL_TRY(shoal__sim_inbox_init(&rank->inbox, s->config.n_rank));
    rank->inbox.wake_ns = 0; /* all begin at time 0, rank 0 first */
    return SHOAL_OK;
}

/* Start all threads, give rank 0 the turn, wait for the end. If a thread cannot start, those that
 * have end at once. */
static shoal_status run_threads(sim *s)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int32_t n_started = 0;
    while (n_started < s->config.n_rank &&
           pthread_create(&s->rank[n_started].thread, &attr, run_rank, &s->rank[n_started]) == 0)
        n_started++;
    pthread_attr_destroy(&attr);
    bool all = n_started == s->config.n_rank;
    pthread_mutex_lock(&s->mutex);
    if (!all) {
        s->fn = NULL;
        for (int32_t r = n_started; r < s->config.n_rank; r++)
            s->rank[r].state = RANK_ENDED;
    }
    pass_turn(s);
    pthread_mutex_unlock(&s->mutex);
    for (int32_t r = 0; r < n_started; r++)
        pthread_join(s->rank[r].thread, NULL);
    if (!all)
        return shoal_fail(s->log, SHOAL_FAILED,
                          "sim: only %d of %d threads could be started; use fewer ranks or raise "
                          "the limit on processes (ulimit -u)",
                          n_started, s->config.n_rank);
    if (s->stuck)
        return shoal_fail(s->log, SHOAL_FAILED,
                          "sim: all ranks that are left wait, without a time limit, for messages "
                          "that nobody will send");
    return s->failed;
}

static shoal_status init_ranks(sim *s)
{
    s->rank = calloc((size_t)s->config.n_rank, sizeof(*s->rank));
    if (!s->rank)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "sim: no memory for %d ranks", s->config.n_rank);
    shoal_status status = shoal__sim_cards_init(&s->cards, s->config.network, s->config.n_rank);
    for (int32_t r = 0; r < s->config.n_rank; r++)
        if (init_rank(s, r) != SHOAL_OK)
            status = SHOAL_NO_MEMORY;
    if (status != SHOAL_OK)
        shoal_fail(s->log, status, "sim: no memory for the queues of %d ranks", s->config.n_rank);
    return status;
}

shoal_status shoal_sim_run(const shoal_sim_config *config, shoal_sim_rank_fn *fn, void *arg,
                           shoal_status *status, shoal_log *log)
{
    if (config->n_rank < 1 || config->n_rank > SHOAL_SIM_N_RANK_MAX)
        return shoal_fail(log, SHOAL_USAGE, "sim: %d ranks wanted, 1 to %d are possible",
                          config->n_rank, SHOAL_SIM_N_RANK_MAX);
    sim s = {.config = *config, .fn = fn, .arg = arg, .log = log, .turn = -1};
    pthread_mutex_init(&s.mutex, NULL);
    shoal_status made = init_ranks(&s);
    if (made == SHOAL_OK)
        made = run_threads(&s);
    for (int32_t r = 0; s.rank && r < config->n_rank; r++) {
        if (status)
            status[r] = s.rank[r].status;
        shoal__sim_inbox_fini(&s.rank[r].inbox);
        pthread_cond_destroy(&s.rank[r].turn_came);
    }
    free(s.rank);
    shoal__sim_cards_fini(&s.cards);
    pthread_mutex_destroy(&s.mutex);
    return made;
}
