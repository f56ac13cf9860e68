/* What lies between two ranks. In a slot each pair of the schedule has its hosts to itself; a is
 * the one that leads, b answers. */
#include "launcher/probe/measure.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BALL_BYTES = 64,
    N_WARM_UP = 4,
    N_TRIP = 200,     /* at most */
    TRIPS_US = 20000, /* at most, but for the trip that is under way */
    N_SMALL = 128,    /* messages of a stream */
    N_STREAM = 4,     /* the best counts */
    N_LARGE = 3,      /* messages; the best counts */
    N_BURST = 5,      /* messages, each after a pause; the middle one counts */
    BURST_BYTES = 16 << 10,
    PAUSE_US = 3000, /* fills a bucket of 32 kB at 100 Mbit/s */
    LARGE_LEAST = 256 << 10,
    LARGE_MOST = 16 << 20,
};

/* What goes back and forth: 64 bytes. */
typedef struct ball {
    int64_t more;      /* trips follow */
    int64_t n_bytes;   /* of the next large message */
    double latency_us; /* what the leader found */
    char pad[BALL_BYTES - 24];
} ball;

_Static_assert(sizeof(ball) == BALL_BYTES, "latency is that of 64 bytes");

/* A rank's side of a link. */
typedef struct side {
    shoal_comm *comm;
    int32_t peer;
    int64_t window_us;
    unsigned char *data; /* [LARGE_MOST] */
    ball small[N_SMALL];
    shoal_request request[N_SMALL];
} side;

static shoal_status send_ball(side *s, ball *b)
{
    SHOAL_TRY(shoal_comm_send(s->comm, &s->request[0], s->peer, SHOAL_TAG_PROBE, b, sizeof *b));
    return shoal_comm_wait(s->comm, s->request, 1, "a probe's message");
}

static shoal_status recv_ball(side *s, ball *b)
{
    SHOAL_TRY(shoal_comm_recv(s->comm, &s->request[0], s->peer, SHOAL_TAG_PROBE, b, sizeof *b));
    return shoal_comm_wait(s->comm, s->request, 1, "a probe's message");
}

static int compare_numbers(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Half of the middle round trip. */
static shoal_status lead_trips(double *latency_us, side *s)
{
    double trip_us[N_TRIP];
    size_t n = 0;
    ball b = {.more = 1};
    const int64_t start_us = shoal_clock_us();
    int64_t passed_us = 0;
    while (b.more == 1) {
        /* Microseconds are coarse for shared memory: a trip there is a few balls. */
        enum { N_BALL = 4 };
        const int64_t before_us = shoal_clock_us();
        for (int32_t i = 0; i < N_BALL; i++) {
            SHOAL_TRY(send_ball(s, &b));
            SHOAL_TRY(recv_ball(s, &b));
        }
        passed_us = shoal_clock_us() - start_us;
        trip_us[n++] = (double)(start_us + passed_us - before_us) / N_BALL;
        b.more = n < N_TRIP && passed_us < TRIPS_US;
    }
    const size_t first = n > N_WARM_UP ? N_WARM_UP : 0;
    qsort(trip_us + first, n - first, sizeof *trip_us, compare_numbers);
    *latency_us = trip_us[first + (n - first) / 2] / 2;
    b.more = 0;
    b.latency_us = *latency_us;
    return send_ball(s, &b);
}

static shoal_status follow_trips(double *latency_us, side *s)
{
    ball b;
    for (;;) {
        SHOAL_TRY(recv_ball(s, &b));
        if (b.more == 0)
            break;
        SHOAL_TRY(send_ball(s, &b));
    }
    *latency_us = b.latency_us;
    return SHOAL_OK;
}

/* A stream of small messages, which the receiver awaits before the first leaves. */
static shoal_status send_stream(double *overhead_us, side *s, double latency_us)
{
    ball b;
    SHOAL_TRY(recv_ball(s, &b)); /* it is ready */
    const int64_t start_us = shoal_clock_us();
    for (int32_t i = 0; i < N_SMALL; i++)
        SHOAL_TRY(shoal_comm_send(s->comm, &s->request[i], s->peer, SHOAL_TAG_PROBE, &s->small[i],
                                  sizeof s->small[i]));
    SHOAL_TRY(shoal_comm_wait(s->comm, s->request, N_SMALL, "a probe's stream"));
    SHOAL_TRY(recv_ball(s, &b));
    const double us = (double)(shoal_clock_us() - start_us) - 2 * latency_us;
    const double each_us = us > 0 ? us / N_SMALL : 0;
    *overhead_us = each_us < *overhead_us ? each_us : *overhead_us;
    return SHOAL_OK;
}

static shoal_status send_streams(shoal_probe_link *link, side *s)
{
    double overhead_us = 1e9;
    for (int32_t i = 0; i < N_STREAM; i++)
        SHOAL_TRY(send_stream(&overhead_us, s, (double)link->latency_us));
    link->overhead_us = (float)overhead_us;
    return SHOAL_OK;
}

static shoal_status recv_stream(side *s)
{
    ball b = {0};
    for (int32_t i = 0; i < N_SMALL; i++)
        SHOAL_TRY(shoal_comm_recv(s->comm, &s->request[i], s->peer, SHOAL_TAG_PROBE, &s->small[i],
                                  sizeof s->small[i]));
    shoal_request ready;
    SHOAL_TRY(shoal_comm_send(s->comm, &ready, s->peer, SHOAL_TAG_PROBE, &b, sizeof b));
    SHOAL_TRY(shoal_comm_wait(s->comm, &ready, 1, "a probe's stream"));
    SHOAL_TRY(shoal_comm_wait(s->comm, s->request, N_SMALL, "a probe's stream"));
    return send_ball(s, &b);
}

static shoal_status recv_streams(side *s)
{
    for (int32_t i = 0; i < N_STREAM; i++)
        SHOAL_TRY(recv_stream(s));
    return SHOAL_OK;
}

/* One large message and its answer; *us: what it took alone. */
static shoal_status send_large(double *us, side *s, size_t n_bytes, double latency_us)
{
    ball b = {.n_bytes = (int64_t)n_bytes};
    SHOAL_TRY(send_ball(s, &b));
    SHOAL_TRY(recv_ball(s, &b)); /* it is awaited */
    const int64_t start_us = shoal_clock_us();
    SHOAL_TRY(
        shoal_comm_send(s->comm, &s->request[0], s->peer, SHOAL_TAG_PROBE_DATA, s->data, n_bytes));
    SHOAL_TRY(shoal_comm_wait(s->comm, s->request, 1, "a probe's large message"));
    SHOAL_TRY(recv_ball(s, &b));
    *us = (double)(shoal_clock_us() - start_us) - latency_us;
    *us = *us > 1 ? *us : 1;
    return SHOAL_OK;
}

/* As many bytes as take the window at the speed of the first message. */
static size_t large_bytes(double us, double window_us)
{
    const double n = LARGE_LEAST / us * window_us;
    if (n <= LARGE_LEAST)
        return LARGE_LEAST;
    return n < LARGE_MOST ? (size_t)n / 4096 * 4096 : LARGE_MOST;
}

/* Messages as a step of decoding sends them: what they are faster than the link's rate has passed
 * at once. Behind send_larges' measurement of gb_per_s. */
static shoal_status send_bursts(shoal_probe_link *link, side *s)
{
    double us[N_BURST];
    for (int32_t i = 0; i < N_BURST; i++) {
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_US * 1000L}, NULL);
        SHOAL_TRY(send_large(&us[i], s, BURST_BYTES, (double)link->latency_us));
    }
    qsort(us, N_BURST, sizeof *us, compare_numbers);
    const double rate = (double)link->gb_per_s * 1e3; /* bytes a us */
    const double burst = BURST_BYTES - (us[N_BURST / 2] - (double)link->latency_us) * rate;
    link->burst_bytes = burst > 0 ? (float)burst : 0;
    return SHOAL_OK;
}

static shoal_status send_larges(shoal_probe_link *link, side *s)
{
    shoal_probe_counters before, after;
    double us;
    size_t n_sum = LARGE_LEAST;
    shoal_probe_count(&before);
    SHOAL_TRY(send_large(&us, s, LARGE_LEAST, (double)link->latency_us));
    double best = 0; /* the first fits into the queues on the way */
    const size_t n_bytes = large_bytes(us, (double)s->window_us / N_LARGE);
    for (int32_t i = 0; i < N_LARGE; i++) {
        SHOAL_TRY(send_large(&us, s, n_bytes, (double)link->latency_us));
        n_sum += n_bytes;
        best = (double)n_bytes / us > best ? (double)n_bytes / us : best;
    }
    shoal_probe_count(&after);
    link->gb_per_s = (float)(best / 1e3);
    shoal_probe_path_text(link->interface, &before, &after, n_sum);
    link->path = link->interface[0] != '\0' ? SHOAL_PROBE_PATH_TCP : SHOAL_PROBE_PATH_MEMORY;
    SHOAL_TRY(send_bursts(link, s));
    ball b = {.n_bytes = 0};
    return send_ball(s, &b);
}

static shoal_status recv_larges(side *s)
{
    ball b;
    for (;;) {
        SHOAL_TRY(recv_ball(s, &b));
        const size_t n_bytes = (size_t)b.n_bytes;
        if (b.n_bytes <= 0 || n_bytes > LARGE_MOST)
            return SHOAL_OK;
        shoal_request large, ready;
        SHOAL_TRY(
            shoal_comm_recv(s->comm, &large, s->peer, SHOAL_TAG_PROBE_DATA, s->data, n_bytes));
        SHOAL_TRY(shoal_comm_send(s->comm, &ready, s->peer, SHOAL_TAG_PROBE, &b, sizeof b));
        SHOAL_TRY(shoal_comm_wait(s->comm, &ready, 1, "a probe's message"));
        SHOAL_TRY(shoal_comm_wait(s->comm, &large, 1, "a probe's large message"));
        SHOAL_TRY(send_ball(s, &b));
    }
}

static shoal_status lead(shoal_probe_link *link, side *s)
{
    double latency_us;
    SHOAL_TRY(lead_trips(&latency_us, s));
    link->latency_us = (float)latency_us;
    SHOAL_TRY(send_streams(link, s));
    SHOAL_TRY(send_larges(link, s));
    SHOAL_TRY(recv_streams(s));
    return recv_larges(s);
}

static shoal_status follow(shoal_probe_link *link, side *s)
{
    double latency_us;
    SHOAL_TRY(follow_trips(&latency_us, s));
    link->latency_us = (float)latency_us;
    SHOAL_TRY(recv_streams(s));
    SHOAL_TRY(recv_larges(s));
    SHOAL_TRY(send_streams(link, s));
    return send_larges(link, s);
}

static shoal_status run_slots(shoal_probe_link *link, side *s, const shoal_probe_schedule *schedule,
                              const shoal_probe_job *job)
{
    const int32_t rank = shoal_comm_rank(job->comm);
    for (int32_t slot = 0; slot < schedule->n_slot; slot++) {
        SHOAL_TRY(shoal_comm_agree(job->comm, SHOAL_OK, "measuring links"));
        const shoal_probe_match *match = shoal_probe_schedule_find(schedule, slot, rank);
        if (job->progress != NULL)
            shoal_progress_set(job->progress, "links: round %d of %d", (int)slot + 1,
                               (int)schedule->n_slot);
        if (match == NULL)
            continue;
        s->peer = match->a == rank ? match->b : match->a;
        SHOAL_TRY(match->a == rank ? lead(&link[s->peer], s) : follow(&link[s->peer], s));
    }
    return shoal_comm_agree(job->comm, SHOAL_OK, "measuring links");
}

static shoal_status open_side(side **side_of, const shoal_probe_job *job)
{
    side *s = calloc(1, sizeof *s);
    unsigned char *data = calloc(1, LARGE_MOST);
    shoal_status status = SHOAL_OK;
    if (s == NULL || data == NULL)
        status = shoal_fail(job->log, SHOAL_NO_MEMORY, "no memory to measure links with");
    status = shoal_comm_agree(job->comm, status, "preparing to measure links");
    if (status != SHOAL_OK) {
        free(data);
        free(s);
        return status;
    }
    memset(data, 1, LARGE_MOST); /* pages of its own */
    s->comm = job->comm;
    s->window_us = job->effort->link_us;
    s->data = data;
    *side_of = s;
    return SHOAL_OK;
}

shoal_status shoal_probe_links(shoal_probe_link *link, const shoal_probe_schedule *schedule,
                               const shoal_probe_job *job)
{
    if (shoal_comm_n_rank(job->comm) == 1)
        return SHOAL_OK;
    side *s;
    SHOAL_TRY(open_side(&s, job));
    const shoal_status status = run_slots(link, s, schedule, job);
    free(s->data);
    free(s);
    return status;
}
