/* What one layer's exchange costs: plan + dispatch + combine of one token, top-8, four of the
 * experts on the other rank, hidden 2048, int8 out and bf16 home. Beside it, in the same run and in
 * turns, a bare MPI ping-pong of the same bytes: what is left is ours. Run it on two ranks:
 *
 *     mpirun -np 2 bench_exchange [rounds]
 *
 * Times are printed, never judged: a round is some tens of exchanges, and the best and the middle
 * round are told. The bytes on the wire must be those of the formula in docs/PERFORMANCE.md. */
#include "comm/mpi/mpi.h"
#include "comm/plan.h"
#include "runtime/base/clock.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { RAW_TAG = 100 };

enum { N_EMBD = 2048, TOP_K = 8, N_REMOTE = 4, N_EXPERT = 64, PER_ROUND = 40, WARM_UP = 5 };

typedef struct bench {
    int32_t rank;
    shoal_comm *comm;
    const shoal_kernels *kernels;
    shoal_log log;
    shoal_arena arena;
    shoal_exchange x;
    int64_t step;
    float *h, *done, *acc; /* [n_embd], [top_k, n_embd], [n_embd] */
    int32_t expert[TOP_K], owner[N_EXPERT], local[N_EXPERT];
    float weight[TOP_K];
    unsigned char *raw; /* of the ping-pong */
    size_t out_bytes, home_bytes;
} bench;

static void carve(bench *b, shoal_combine_kind kind)
{
    const int32_t n_local_max[2] = {N_EXPERT / 2, N_EXPERT / 2};
    const bool may_source[2] = {true, true};
    const shoal_exchange_config config = {.n_rank = 2,
                                          .rank = b->rank,
                                          .n_embd = N_EMBD,
                                          .top_k = TOP_K,
                                          .n_token_max = 1,
                                          .n_local_max = n_local_max,
                                          .may_source = may_source,
                                          .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES,
                                          .wire = shoal_wire_format(true, true, kind)};
    shoal_exchange_carve(&b->x, shoal_arenas_same(&b->arena), &config,
                         &(shoal_compute){.kernels = b->kernels});
    b->h = SHOAL_TAKE(&b->arena, N_EMBD, float);
    b->acc = SHOAL_TAKE(&b->arena, N_EMBD, float);
    b->done = SHOAL_TAKE(&b->arena, (size_t)b->x.n_slot_max * N_EMBD, float);
    b->raw = SHOAL_TAKE(&b->arena, (size_t)TOP_K * N_EMBD * sizeof(float), unsigned char);
}

static shoal_status open_kind(bench *b, shoal_combine_kind kind)
{
    shoal_arena_measure(&b->arena, "bench");
    carve(b, kind);
    SHOAL_TRY(shoal_arena_open(&b->arena, &b->log));
    carve(b, kind);
    for (int32_t c = 0; c < N_EMBD; c++)
        b->h[c] = (float)(c % 251) / 100 - 1;
    for (int64_t i = 0; i < (int64_t)b->x.n_slot_max * N_EMBD; i++)
        b->done[i] = (float)(i % 241) / 100 - 1;
    for (int32_t e = 0; e < N_EXPERT; e++) {
        b->owner[e] = e / (N_EXPERT / 2);
        b->local[e] = e % (N_EXPERT / 2);
    }
    for (int32_t j = 0; j < TOP_K; j++) {
        b->expert[j] = j % 2 == 0 ? 3 * j : N_EXPERT / 2 + 3 * j;
        b->weight[j] = 1.0F / TOP_K;
    }
    size_t row_bytes = shoal_wire_row_bytes(SHOAL_WIRE_INT8, N_EMBD);
    b->out_bytes = 32 + row_bytes + 4 + 8 * N_REMOTE;
    b->home_bytes = shoal_wire_row_bytes(SHOAL_WIRE_BF16, N_EMBD) *
                    (kind == SHOAL_COMBINE_EXACT ? N_REMOTE : 1);
    return SHOAL_OK;
}

static shoal_status exchange_once(bench *b)
{
    const bool is_source[2] = {true, false}, is_target[2] = {true, true};
    int32_t n_token = b->rank == 0;
    SHOAL_TRY(shoal_comm_at(b->comm, b->step, 0));
    shoal_plan_build(&b->x, b->expert, b->weight, n_token, b->owner, b->local, is_source,
                     is_target);
    SHOAL_TRY(shoal_dispatch_begin(&b->x, b->comm, (shoal_rows){.f32 = b->h}, b->step, 0));
    SHOAL_TRY(shoal_dispatch_end(&b->x, b->comm, b->step, 0));
    for (int32_t i = 0; i < b->x.recv.n_slot; i++)
        b->x.recv.slot_done[i] = i;
    b->step++;
    SHOAL_TRY(shoal_combine_begin(&b->x, b->comm, b->done));
    return shoal_combine_end(b->acc, &b->x, b->comm);
}

static void ping_pong_once(const bench *b)
{
    int out = (int)b->out_bytes, home = (int)b->home_bytes;
    if (b->rank == 0) {
        MPI_Send(b->raw, out, MPI_BYTE, 1, RAW_TAG, MPI_COMM_WORLD);
        MPI_Recv(b->raw, home, MPI_BYTE, 1, RAW_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(b->raw, out, MPI_BYTE, 0, RAW_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(b->raw, home, MPI_BYTE, 0, RAW_TAG, MPI_COMM_WORLD);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* us of one exchange and of one ping-pong in each round. */
static shoal_status time_rounds(bench *b, int32_t n_round, double *exchange_us, double *raw_us)
{
    for (int32_t round = -WARM_UP; round < n_round; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        int64_t begin = shoal_clock_us();
        for (int i = 0; i < PER_ROUND; i++)
            ping_pong_once(b);
        int64_t middle = shoal_clock_us();
        for (int i = 0; i < PER_ROUND; i++)
            SHOAL_TRY(exchange_once(b));
        int64_t end = shoal_clock_us();
        if (round < 0)
            continue;
        raw_us[round] = (double)(middle - begin) / PER_ROUND;
        exchange_us[round] = (double)(end - middle) / PER_ROUND;
    }
    qsort(exchange_us, (size_t)n_round, sizeof *exchange_us, by_value);
    qsort(raw_us, (size_t)n_round, sizeof *raw_us, by_value);
    return SHOAL_OK;
}

/* Bytes that this rank sends in one exchange must be those of the formula. */
static shoal_status check_bytes(bench *b)
{
    uint64_t before = shoal_comm_count(b->comm)->sent_bytes;
    SHOAL_TRY(exchange_once(b));
    uint64_t sent = shoal_comm_count(b->comm)->sent_bytes - before;
    size_t wanted = b->rank == 0 ? b->out_bytes : b->home_bytes;
    if (sent != wanted)
        return shoal_fail(&b->log, SHOAL_FAILED, "rank %d sent %llu bytes, the formula says %zu",
                          b->rank, (unsigned long long)sent, wanted);
    return SHOAL_OK;
}

static shoal_status run_kind(bench *b, shoal_combine_kind kind, int32_t n_round)
{
    SHOAL_TRY(open_kind(b, kind));
    double *us = calloc(2 * (size_t)n_round, sizeof *us);
    shoal_status status = us != NULL ? check_bytes(b) : SHOAL_NO_MEMORY;
    if (status == SHOAL_OK)
        status = time_rounds(b, n_round, us, us + n_round);
    if (status == SHOAL_OK && b->rank == 0) {
        double best = us[0], raw = us[n_round], middle = us[n_round / 2];
        double raw_middle = us[n_round + n_round / 2];
        printf("%-8s %5zu bytes out, %5zu home: exchange best %6.2f us, middle %6.2f us; "
               "ping-pong best %6.2f us, middle %6.2f us; over it best %6.2f us, middle %6.2f us\n",
               kind == SHOAL_COMBINE_EXACT ? "exact" : "reduced", b->out_bytes, b->home_bytes, best,
               middle, raw, raw_middle, best - raw, middle - raw_middle);
    }
    free(us);
    shoal_arena_close(&b->arena);
    return status;
}

static shoal_status run(bench *b, int32_t n_round)
{
    shoal_transport *transport = NULL;
    const shoal_comm_config config = {.deadline_s = 30};
    SHOAL_TRY(shoal_kernels_select(&b->kernels, "auto", &b->log));
    SHOAL_TRY(shoal_transport_open_mpi(&transport, &b->log));
    SHOAL_TRY(shoal_comm_open(&b->comm, transport, &config, &b->log));
    shoal_status status = run_kind(b, SHOAL_COMBINE_REDUCED, n_round);
    if (status == SHOAL_OK)
        status = run_kind(b, SHOAL_COMBINE_EXACT, n_round);
    shoal_comm_close(b->comm, status);
    return status;
}

int main(int argc, char **argv)
{
    int provided = MPI_THREAD_SINGLE, rank = 0, n_rank = 0;
    for (const shoal_mpi_setting *s = shoal_mpi_settings; s->name != NULL; s++)
        setenv(s->name, s->value, 0);
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return EXIT_FAILURE;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n_rank);
    bench b = {.rank = rank};
    shoal_log_init(&b.log, stderr, rank, "bench");
    int n_round = argc > 1 ? atoi(argv[1]) : 100;
    shoal_status status = SHOAL_USAGE;
    if (n_rank == 2 && n_round > 0)
        status = run(&b, n_round);
    else if (rank == 0)
        fprintf(stderr, "bench_exchange runs on two ranks: mpirun -np 2 bench_exchange [rounds]\n");
    if (status != SHOAL_OK)
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    MPI_Finalize();
    return EXIT_SUCCESS;
}
