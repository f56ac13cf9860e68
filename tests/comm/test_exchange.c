/* Dispatch and combine over virtual ranks: the same bits as a dense mixture of experts, for any
 * number of ranks and any placement, in as many bytes as the formula says. */
#include "tests/comm/moe_world.h"
#include "tests/comm/virtual.h"
#include "tests/support/check_main.h"

static moe_world even_world(int32_t n_rank)
{
    moe_world w = {.n_rank = n_rank,
                   .n_token = 40,
                   .top_k = 4,
                   .n_source = n_rank,
                   .n_expert_rank = n_rank,
                   .ranges = true,
                   .wire = {SHOAL_WIRE_F32, SHOAL_WIRE_F32, SHOAL_COMBINE_EXACT},
                   .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES,
                   .kernels = moe_kernels()};
    for (int32_t r = 0; r < n_rank; r++)
        w.source[r] = w.expert_rank[r] = r;
    return w;
}

/* Row `row` has the integers that token g has at its source. */
static void check_groups(const shoal_recv *recv, const moe_world *w, int32_t row, int32_t layer,
                         int32_t g)
{
    enum { N_GROUP = (MOE_EMBD - 1) / SHOAL_GROUP + 1 };
    float x[MOE_EMBD];
    unsigned char wire[4 * MOE_EMBD];
    shoal_int8_group want[N_GROUP];
    moe_token(x, layer, g);
    shoal_wire_encode(wire, SHOAL_WIRE_INT8, w->kernels, x, MOE_EMBD);
    shoal_wire_decode_groups(want, wire, MOE_EMBD);
    ck_assert_mem_eq(recv->row_int8 + row * N_GROUP, want, sizeof want);
}

/* What must have arrived: the tokens of each source, in order, that have an expert here. */
static void check_recv(const moe_rank *m, const moe_world *w, int32_t layer)
{
    const shoal_recv *recv = &m->x.recv;
    int32_t row = 0, slot = 0;
    for (int32_t s = 0; s < w->n_rank; s++) {
        ck_assert_int_eq(recv->row_offset[s], row);
        ck_assert_int_eq(recv->slot_offset[s], slot);
        for (int32_t g = 0; g < w->n_token; g++) {
            if (w->source[g % w->n_source] != s)
                continue;
            int32_t first = slot;
            for (int32_t j = 0; j < w->top_k; j++) {
                int32_t e = moe_route(w, layer, g, j);
                if (m->owner[e] != m->rank)
                    continue;
                ck_assert_int_eq(recv->slot_row[slot], row);
                ck_assert_int_eq(recv->slot_expert[slot], m->local[e]);
                ck_assert_float_eq(recv->slot_weight[slot], moe_weight(layer, g, j));
                slot++;
            }
            if (slot == first)
                continue;
            float x[MOE_EMBD];
            moe_token(x, layer, g);
            moe_round(x, w->wire.dispatch, w->kernels);
            float got[MOE_EMBD];
            moe_received(got, recv, row);
            ck_assert_mem_eq(got, x, sizeof x);
            if (w->wire.dispatch == SHOAL_WIRE_INT8)
                check_groups(recv, w, row, layer, g);
            ck_assert_int_eq(recv->row_slot[row], first);
            row++;
        }
    }
    ck_assert_int_eq(recv->n_row, row);
    ck_assert_int_eq(recv->n_slot, slot);
    ck_assert_int_eq(recv->row_offset[w->n_rank], row);
    ck_assert_int_eq(recv->slot_offset[w->n_rank], slot);
    ck_assert_int_eq(recv->row_slot[row], slot);
}

/* Rows and slots that go from rank s to rank d in this layer. */
static void count_pair(size_t *n_row, size_t *n_slot, const moe_world *w, int32_t layer, int32_t s,
                       int32_t d)
{
    *n_row = *n_slot = 0;
    for (int32_t g = 0; g < w->n_token; g++) {
        if (w->source[g % w->n_source] != s)
            continue;
        size_t n = 0;
        for (int32_t j = 0; j < w->top_k; j++)
            n += moe_owner(w, layer, moe_route(w, layer, g, j)) == d;
        *n_row += n > 0;
        *n_slot += n;
    }
}

/* The formula of plan.h, and the number of messages. */
static void expected_traffic(uint64_t *n_bytes, uint64_t *n_message, const moe_rank *m,
                             const moe_world *w, int32_t layer)
{
    size_t in = shoal_wire_row_bytes(w->wire.dispatch, MOE_EMBD);
    size_t out = shoal_wire_row_bytes(w->wire.combine, MOE_EMBD);
    bool reduced = w->wire.kind == SHOAL_COMBINE_REDUCED;
    *n_bytes = *n_message = 0;
    for (int32_t peer = 0; peer < w->n_rank; peer++) {
        size_t n_row, n_slot;
        if (peer == m->rank)
            continue;
        if (m->is_source[m->rank] && m->is_target[peer]) {
            count_pair(&n_row, &n_slot, w, layer, m->rank, peer);
            size_t whole = 32 + n_row * in + (2 * n_row + 3) / 4 * 4 + 8 * n_slot;
            *n_bytes += whole;
            *n_message += whole > w->slot_bytes ? 2 : 1;
        }
        if (m->is_target[m->rank] && m->is_source[peer]) {
            count_pair(&n_row, &n_slot, w, layer, peer, m->rank);
            *n_bytes += (reduced ? n_row : n_slot) * out;
            *n_message += n_row > 0;
        }
    }
}

static shoal_status exchange_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)transport;
    moe_world *w = run->arg;
    moe_rank *m = moe_rank_open(w, shoal_comm_rank(comm));
    shoal_status status = SHOAL_OK;
    for (int64_t step = 0; step < 2 && status == SHOAL_OK; step++) { /* the same memory again */
        for (int32_t l = 0; l < MOE_LAYER && status == SHOAL_OK; l++) {
            shoal_comm_counters before = *shoal_comm_count(comm);
            status = moe_layer(m, w, comm, step + (1ll << 32), l);
            if (status != SHOAL_OK)
                break;
            check_recv(m, w, l);
            uint64_t n_bytes, n_message;
            expected_traffic(&n_bytes, &n_message, m, w, l);
            const shoal_comm_counters *after = shoal_comm_count(comm);
            ck_assert_uint_eq(after->sent_bytes - before.sent_bytes, n_bytes);
            ck_assert_uint_eq(after->sent_messages - before.sent_messages, n_message);
            for (int32_t t = 0; t < m->n_token; t++)
                memcpy(w->result[l][m->token[t]], m->acc + t * MOE_EMBD,
                       sizeof w->result[l][m->token[t]]);
        }
    }
    if (status == SHOAL_OK)
        status = shoal_exchange_drain(&m->x, comm);
    moe_rank_close(m);
    return status;
}

/* Two layers at once, as two halves of a step are: each has its exchange. */
static shoal_status two_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)transport;
    moe_world *w = run->arg;
    moe_rank *m[2];
    uint64_t n_bytes = 0, n_message = 0;
    shoal_comm_counters before = *shoal_comm_count(comm);
    for (int32_t l = 0; l < 2; l++) {
        m[l] = moe_rank_open(w, shoal_comm_rank(comm));
        moe_prepare(m[l], w, l);
        SHOAL_TRY(shoal_dispatch_begin(&m[l]->x, comm, (shoal_rows){.f32 = m[l]->h}, 7, l));
    }
    for (int32_t l = 0; l < 2; l++) {
        SHOAL_TRY(shoal_dispatch_end(&m[l]->x, comm, 7, l));
        check_recv(m[l], w, l);
        moe_compute(m[l], l);
        SHOAL_TRY(shoal_combine_begin(&m[l]->x, comm, m[l]->done));
        uint64_t bytes, messages;
        expected_traffic(&bytes, &messages, m[l], w, l);
        n_bytes += bytes;
        n_message += messages;
    }
    for (int32_t l = 0; l < 2; l++) {
        SHOAL_TRY(shoal_combine_end(m[l]->acc, &m[l]->x, comm));
        SHOAL_TRY(shoal_exchange_drain(&m[l]->x, comm));
        for (int32_t t = 0; t < m[l]->n_token; t++)
            memcpy(w->result[l][m[l]->token[t]], m[l]->acc + t * MOE_EMBD,
                   sizeof w->result[l][m[l]->token[t]]);
        moe_rank_close(m[l]);
    }
    ck_assert_uint_eq(shoal_comm_count(comm)->sent_bytes - before.sent_bytes, n_bytes);
    ck_assert_uint_eq(shoal_comm_count(comm)->sent_messages - before.sent_messages, n_message);
    return SHOAL_OK;
}

/* Runs the world and compares every token with the dense answer, to the bit. */
static void check_layers(moe_world *w, virtual_body *body, int32_t n_layer)
{
    virtual_run run;
    memset(w->result, 0xff, sizeof w->result);
    virtual_begin(&run, w->n_rank, body);
    run.arg = w;
    virtual_go(&run);
    for (int32_t r = 0; r < w->n_rank; r++)
        ck_assert_msg(run.status[r] == SHOAL_OK, "rank %d: %s", (int)r, run.log[r]);
    virtual_end(&run);
    for (int32_t l = 0; l < n_layer; l++) {
        for (int32_t g = 0; g < w->n_token; g++) {
            float want[MOE_EMBD];
            moe_oracle(want, w, l, g);
            ck_assert_msg(memcmp(w->result[l][g], want, sizeof want) == 0,
                          "%d ranks, layer %d, token %d: %g, wanted %g", (int)w->n_rank, (int)l,
                          (int)g, (double)w->result[l][g][0], (double)want[0]);
        }
    }
}

static void check_world(moe_world *w)
{
    check_layers(w, exchange_body, MOE_LAYER);
}

static const shoal_wire wires[] = {{SHOAL_WIRE_F32, SHOAL_WIRE_F32, SHOAL_COMBINE_EXACT},
                                   {SHOAL_WIRE_BF16, SHOAL_WIRE_BF16, SHOAL_COMBINE_EXACT},
                                   {SHOAL_WIRE_INT8, SHOAL_WIRE_BF16, SHOAL_COMBINE_EXACT}};
static const int32_t rank_counts[] = {1, 2, 3, 5, 16};

START_TEST(test_exact_is_dense_to_the_bit)
{
    static moe_world w, one;
    for (size_t e = 0; e < 3; e++) {
        for (size_t r = 0; r < 5; r++) {
            for (int placement = 0; placement < 2; placement++) {
                w = even_world(rank_counts[r]);
                w.wire = wires[e];
                w.ranges = placement == 0;
                check_world(&w);
                if (r == 0 && placement == 0)
                    one = w;
                ck_assert_mem_eq(w.result, one.result, sizeof w.result);
            }
        }
    }
}
END_TEST

START_TEST(test_two_in_flight)
{
    static moe_world w;
    for (size_t e = 0; e < 3; e++) {
        w = even_world(3);
        w.wire = wires[e];
        check_layers(&w, two_body, 2);
        w.n_source = 1; /* with an overflow, which follows in a message of its own */
        w.slot_bytes = 236;
        check_layers(&w, two_body, 2);
    }
}
END_TEST

/* Both kinds, all encodings. */
static void check_all_wires(const moe_world *world)
{
    static moe_world w;
    for (size_t e = 0; e < 3; e++) {
        for (int reduced = 0; reduced < 2; reduced++) {
            w = *world;
            w.wire = wires[e];
            w.wire.kind = reduced ? SHOAL_COMBINE_REDUCED : SHOAL_COMBINE_EXACT;
            check_world(&w);
        }
    }
}

/* Rows are made and taken apart by threads. */
START_TEST(test_threads)
{
    static moe_world w;
    w = even_world(2);
    w.n_token = MOE_TOKEN;
    w.n_thread = 3;
    check_all_wires(&w);
}
END_TEST

START_TEST(test_reduced_is_close)
{
    static moe_world w, exact;
    for (size_t e = 0; e < 3; e++) {
        for (size_t r = 0; r < 5; r++) {
            exact = even_world(rank_counts[r]);
            exact.wire = wires[e];
            check_world(&exact);
            w = exact;
            w.wire.kind = SHOAL_COMBINE_REDUCED;
            check_world(&w); /* to the bit of its own definition */
            float tolerance = wires[e].combine == SHOAL_WIRE_F32 ? 1e-6f : 1.0f / 128;
            for (int32_t l = 0; l < MOE_LAYER; l++) {
                for (int32_t g = 0; g < w.n_token; g++) {
                    float scale = 1; /* of the largest value: terms may cancel */
                    for (int32_t c = 0; c < MOE_EMBD; c++)
                        scale = fmaxf(scale, fabsf(exact.result[l][g][c]));
                    for (int32_t c = 0; c < MOE_EMBD; c++)
                        ck_assert_float_eq_tol(w.result[l][g][c], exact.result[l][g][c],
                                               scale * tolerance * 4);
                }
            }
        }
    }
}
END_TEST

START_TEST(test_sources_without_experts_and_experts_without_sources)
{
    static moe_world w;
    w = even_world(5);
    w.n_source = 2; /* ranks 3 and 1 hold tokens, 0, 2, 4 are expert-only */
    w.source[0] = 3;
    w.source[1] = 1;
    check_all_wires(&w);
    w.n_expert_rank = 2; /* rank 1 has both; 2 and 4 neither */
    w.expert_rank[0] = 0;
    w.expert_rank[1] = 1;
    check_all_wires(&w);
    w.n_expert_rank = 1; /* nobody has both: only remote rows */
    check_all_wires(&w);
    w.n_source = 1; /* all on one rank, the others only look on */
    w.source[0] = 4;
    w.expert_rank[0] = 4;
    check_all_wires(&w);
}
END_TEST

START_TEST(test_more_ranks_than_experts)
{
    static moe_world w;
    w = even_world(20);
    w.n_expert_rank = MOE_EXPERT;
    check_all_wires(&w);
    w = even_world(31);
    w.n_token = 3; /* and than tokens */
    w.n_expert_rank = MOE_EXPERT;
    w.ranges = false;
    check_all_wires(&w);
}
END_TEST

START_TEST(test_no_tokens_anywhere)
{
    static moe_world w;
    w = even_world(3);
    w.n_token = 0;
    check_all_wires(&w);
}
END_TEST

START_TEST(test_all_tokens_to_one_place)
{
    static moe_world w;
    w = even_world(4);
    w.routes = MOE_ROUTES_SAME;
    w.top_k = 1;
    w.n_token = MOE_TOKEN;
    check_all_wires(&w); /* one expert */
    w.routes = MOE_ROUTES_ONE_RANK;
    w.top_k = 3;
    check_all_wires(&w); /* all experts of one rank */
    w.top_k = MOE_EXPERT;
    check_all_wires(&w); /* everyone to everyone */
}
END_TEST

/* The second message: some overflow, some do not; the smallest slot cuts the first row. */
START_TEST(test_slot_overflow)
{
    static moe_world w;
    const size_t slots[] = {64, 68, 236, 1000, 2000};
    for (size_t s = 0; s < sizeof slots / sizeof slots[0]; s++) {
        w = even_world(3);
        w.slot_bytes = slots[s];
        check_all_wires(&w);
    }
}
END_TEST

START_TEST(test_lost_rank_ends_the_exchange)
{
    static moe_world w;
    const shoal_fault_kind kinds[] = {SHOAL_FAULT_KILL, SHOAL_FAULT_STOP, SHOAL_FAULT_DROP};
    for (size_t k = 0; k < 3; k++) {
        w = even_world(4);
        virtual_run run;
        virtual_begin(&run, 4, exchange_body);
        run.arg = &w;
        run.comm.fault = (shoal_fault){kinds[k], 2, (1ll << 32) + 1, 1};
        virtual_go(&run);
        for (int32_t r = 0; r < 4; r++) {
            if (r == 2)
                continue;
            ck_assert_msg(run.status[r] == SHOAL_PEER_LOST, "rank %d: status %d: %s", (int)r,
                          (int)run.status[r], run.log[r]);
            ck_assert_msg(strstr(run.log[r], "host-2") != NULL, "rank %d: %s", (int)r, run.log[r]);
        }
        virtual_end(&run);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_exact_is_dense_to_the_bit);
    SHOAL_TEST(suite, test_threads);
    SHOAL_TEST(suite, test_two_in_flight);
    SHOAL_TEST(suite, test_reduced_is_close);
    SHOAL_TEST(suite, test_sources_without_experts_and_experts_without_sources);
    SHOAL_TEST(suite, test_more_ranks_than_experts);
    SHOAL_TEST(suite, test_no_tokens_anywhere);
    SHOAL_TEST(suite, test_all_tokens_to_one_place);
    SHOAL_TEST(suite, test_slot_overflow);
    SHOAL_TEST(suite, test_lost_rank_ends_the_exchange);
}

SHOAL_TEST_MAIN("comm.exchange", add_tests)
