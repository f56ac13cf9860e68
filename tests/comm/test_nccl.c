/* The NCCL transport over the stand-in, under mpirun: messages, exchanges, how it comes up. */
#include "tests/comm/message_cases.h"
#include "tests/comm/moe_world.h"
#include "tests/comm/nccl_world.h"
#include "tests/support/check_main.h"

enum { N_HOP = 12, N_MESSAGE = 8, BYTES_MAX = 20000 };

/* A number below n that all ranks know. */
static uint32_t draw(uint32_t n, uint32_t hop, int32_t from, int32_t to, uint32_t what)
{
    return moe_hash(hop * 64 + what, (uint32_t)from, (uint32_t)to) % n;
}

/* Bytes of the message of a hop from one rank to another; 0: there is none. */
static size_t bytes_of(uint32_t hop, int32_t from, int32_t to)
{
    static const size_t size[] = {0, 0, 1, 40, 41, 300, 9000, BYTES_MAX};
    return size[draw(8, hop, from, to, 0)];
}

static shoal_tag tag_of(uint32_t hop)
{
    static const shoal_tag tag[] = {SHOAL_TAG_DISPATCH, SHOAL_TAG_COMBINE, SHOAL_TAG_DISPATCH_MORE};
    return tag[draw(3, hop, 0, 0, 1)];
}

typedef struct hop_memory {
    shoal_request send[N_MESSAGE], recv[N_MESSAGE];
    unsigned char *out[N_MESSAGE], *in[N_MESSAGE];
} hop_memory;

static shoal_status begin_hop(hop_memory *h, shoal_comm *comm, uint32_t hop)
{
    int32_t me = shoal_comm_rank(comm), n = shoal_comm_n_rank(comm);
    shoal_tag tag = tag_of(hop);
    for (int32_t p = 0; p < n; p++) {
        size_t in = p == me ? 0 : bytes_of(hop, p, me), out = p == me ? 0 : bytes_of(hop, me, p);
        if (in > 0 && tag == SHOAL_TAG_DISPATCH)
            SHOAL_TRY(shoal_comm_recv_upto(comm, &h->recv[p], p, tag, h->in[p], BYTES_MAX));
        else if (in > 0)
            SHOAL_TRY(shoal_comm_recv(comm, &h->recv[p], p, tag, h->in[p], in));
        fill(h->out[p], out, me, (int32_t)hop);
        if (out > 0)
            SHOAL_TRY(shoal_comm_send(comm, &h->send[p], p, tag, h->out[p], out));
    }
    return shoal_comm_hop(comm, h->send, h->recv, n);
}

static shoal_status end_hop(hop_memory *h, shoal_comm *comm, uint32_t hop)
{
    int32_t me = shoal_comm_rank(comm), n = shoal_comm_n_rank(comm);
    SHOAL_TRY(shoal_comm_wait(comm, h->recv, n, "messages"));
    for (int32_t p = 0; p < n; p++) {
        size_t in = p == me ? 0 : bytes_of(hop, p, me);
        if (in > 0 && h->recv[p].n_bytes != in)
            return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED, "%zu bytes instead of %zu",
                              h->recv[p].n_bytes, in);
        SHOAL_TRY(check_filled(comm, h->in[p], in, p, (int32_t)hop));
    }
    return shoal_comm_wait(comm, h->send, n, "messages to be taken");
}

/* Hops of all kinds of messages between some ranks, three of them in flight. */
static shoal_status case_hops(shoal_comm *comm)
{
    enum { IN_FLIGHT = 3 };
    hop_memory h[IN_FLIGHT];
    for (int32_t k = 0; k < IN_FLIGHT; k++) {
        for (int32_t i = 0; i < N_MESSAGE; i++) {
            h[k].send[i] = h[k].recv[i] = SHOAL_REQUEST_NONE;
            h[k].out[i] = malloc(BYTES_MAX);
            h[k].in[i] = malloc(BYTES_MAX);
        }
    }
    shoal_status status = SHOAL_OK;
    for (uint32_t hop = 0; hop < N_HOP + IN_FLIGHT && status == SHOAL_OK; hop++) {
        if (hop >= IN_FLIGHT)
            status = end_hop(&h[hop % IN_FLIGHT], comm, hop - IN_FLIGHT);
        if (status == SHOAL_OK && hop < N_HOP)
            status = begin_hop(&h[hop % IN_FLIGHT], comm, hop);
    }
    for (int32_t k = 0; k < IN_FLIGHT; k++) {
        for (int32_t i = 0; i < N_MESSAGE; i++) {
            free(h[k].out[i]);
            free(h[k].in[i]);
        }
    }
    return status;
}

static void go_case(shoal_status (*fn)(shoal_comm *comm), const char *steer, size_t over_bytes)
{
    nccl_world w;
    nccl_world_up(&w, steer, 20, no_fault, over_bytes);
    shoal_status status = fn(w.comm);
    if (status != SHOAL_OK)
        fprintf(stderr, "%s, over %zu: %s\n", steer, over_bytes, w.log.error);
    MPI_CHECK(status == SHOAL_OK);
    MPI_CHECK(nccl_world_close(&w, SHOAL_OK));
    MPI_CHECK(w.n_text == 0);
    free(w.text);
}

START_TEST(test_nccl_hops)
{
    go_case(case_hops, "seed=1", 0);
    go_case(case_hops, "seed=2,ring=1000", 0);
    go_case(case_hops, "seed=3", 300);
    go_case(case_hops, "seed=4", 9000);
    go_case(case_hops, "seed=5", SIZE_MAX);
}
END_TEST

/* What is not of the exchange goes by MPI as before. */
START_TEST(test_nccl_leaves_the_rest_to_mpi)
{
    go_case(case_upto, "", 0);
    go_case(case_any, "", 0);
    go_case(case_collectives, "", 0);
}
END_TEST

static moe_world even_world(int32_t n_rank)
{
    moe_world w = {.n_rank = n_rank,
                   .n_token = 37,
                   .top_k = 4,
                   .n_source = n_rank,
                   .n_expert_rank = n_rank,
                   .routes = MOE_ROUTES_MIXED,
                   .slot_bytes = SHOAL_MESSAGE_MAX_BYTES,
                   .wire = {SHOAL_WIRE_F32, SHOAL_WIRE_F32, SHOAL_COMBINE_EXACT},
                   .kernels = moe_kernels()};
    for (int32_t r = 0; r < n_rank; r++)
        w.source[r] = w.expert_rank[r] = r;
    return w;
}

static shoal_status check_layer(const moe_world *w, const moe_rank *m, shoal_comm *comm,
                                int32_t layer)
{
    float want[MOE_EMBD];
    for (int32_t t = 0; t < m->n_token; t++) {
        moe_oracle(want, w, layer, m->token[t]);
        if (memcmp(m->acc + t * MOE_EMBD, want, sizeof want) != 0)
            return shoal_fail(shoal_comm_log(comm), SHOAL_FAILED, "token %d of layer %d is wrong",
                              (int)m->token[t], (int)layer);
    }
    return SHOAL_OK;
}

/* All layers, one after the other, then two in flight, as two parts of a step are. */
static shoal_status run_world(const moe_world *w, shoal_comm *comm)
{
    moe_rank *m[2] = {moe_rank_open(w, shoal_comm_rank(comm)),
                      moe_rank_open(w, shoal_comm_rank(comm))};
    shoal_status status = SHOAL_OK;
    for (int32_t l = 0; l < MOE_LAYER && status == SHOAL_OK; l++) {
        status = moe_layer(m[0], w, comm, 1, l);
        if (status == SHOAL_OK)
            status = check_layer(w, m[0], comm, l);
    }
    for (int32_t l = 0; l < 2 && status == SHOAL_OK; l++) {
        moe_prepare(m[l], w, l);
        status = shoal_dispatch_begin(&m[l]->x, comm, (shoal_rows){.f32 = m[l]->h}, 2, l);
    }
    for (int32_t l = 0; l < 2 && status == SHOAL_OK; l++) {
        status = shoal_dispatch_end(&m[l]->x, comm, 2, l);
        if (status != SHOAL_OK)
            break;
        moe_compute(m[l], l);
        status = shoal_combine_begin(&m[l]->x, comm, m[l]->done);
    }
    for (int32_t l = 0; l < 2 && status == SHOAL_OK; l++) {
        status = shoal_combine_end(m[l]->acc, &m[l]->x, comm);
        if (status == SHOAL_OK)
            status = check_layer(w, m[l], comm, l);
    }
    for (int32_t l = 0; l < 2; l++) {
        if (status == SHOAL_OK)
            status = shoal_exchange_drain(&m[l]->x, comm);
        moe_rank_close(m[l]);
    }
    return status;
}

/* Ranks that hold no tokens, no experts, messages in two parts, all to one rank, by both ways. */
static shoal_status case_exchanges(shoal_comm *comm)
{
    int32_t n = shoal_comm_n_rank(comm);
    moe_world w = even_world(n);
    SHOAL_TRY(run_world(&w, comm));
    w.wire = (shoal_wire){SHOAL_WIRE_INT8, SHOAL_WIRE_BF16, SHOAL_COMBINE_EXACT};
    SHOAL_TRY(run_world(&w, comm));
    w.wire.kind = SHOAL_COMBINE_REDUCED;
    w.wire.combine = SHOAL_WIRE_F32;
    SHOAL_TRY(run_world(&w, comm));
    w = even_world(n);
    w.slot_bytes = 236;
    SHOAL_TRY(run_world(&w, comm));
    w.n_source = 1;
    w.source[0] = n - 1;
    SHOAL_TRY(run_world(&w, comm));
    w.n_expert_rank = 1;
    SHOAL_TRY(run_world(&w, comm));
    w = even_world(n);
    w.routes = MOE_ROUTES_ONE_RANK;
    w.n_token = 3; /* some ranks have one token, some none go there */
    return run_world(&w, comm);
}

START_TEST(test_nccl_exchanges)
{
    go_case(case_exchanges, "seed=1", 0);
    go_case(case_exchanges, "seed=2,ring=200", 0);
    go_case(case_exchanges, "seed=3", 1000);
}
END_TEST

START_TEST(test_nccl_is_its_name)
{
    nccl_world w;
    nccl_world_up(&w, "version=22105", 20, no_fault, 0);
    MPI_CHECK(strcmp(shoal_comm_transport_name(w.comm), "nccl") == 0);
    MPI_CHECK(strcmp(shoal_nccl_version_text(w.nccl), "2.21.5") == 0);
    MPI_CHECK(shoal_comm_slot_bytes(w.comm) == SHOAL_MESSAGE_MAX_BYTES);
    MPI_CHECK(nccl_world_close(&w, SHOAL_OK));
    free(w.text);
}
END_TEST

/* Whatever comes out, all ranks have the same, and exchanges work. */
START_TEST(test_nccl_if_faster)
{
    nccl_world w;
    nccl_world_open(&w, "ring=1000000", 20, no_fault);
    MPI_CHECK(nccl_world_load(&w, NCCL_EMU_LIBRARY, 20) == SHOAL_OK);
    MPI_CHECK(shoal_nccl_join(w.nccl, w.comm) == SHOAL_OK);
    size_t over_bytes = 77;
    MPI_CHECK(shoal_nccl_use_if_faster(&over_bytes, w.nccl, w.comm) == SHOAL_OK);
    uint64_t of_0 = over_bytes;
    MPI_CHECK(shoal_comm_bcast(w.comm, &of_0, sizeof of_0, 0) == SHOAL_OK);
    MPI_CHECK(of_0 == over_bytes && of_0 != 77);
    MPI_CHECK((strcmp(shoal_comm_transport_name(w.comm), "mpi") == 0) == (over_bytes == SIZE_MAX));
    MPI_CHECK(case_hops(w.comm) == SHOAL_OK);
    MPI_CHECK(nccl_world_close(&w, SHOAL_OK));
    free(w.text);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_nccl_is_its_name);
    SHOAL_TEST(suite, test_nccl_hops);
    SHOAL_TEST(suite, test_nccl_leaves_the_rest_to_mpi);
    SHOAL_TEST(suite, test_nccl_exchanges);
    SHOAL_TEST(suite, test_nccl_if_faster);
}

SHOAL_MPI_TEST_MAIN("comm.nccl", add_tests)
