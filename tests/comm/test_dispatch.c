/* The dispatch message byte by byte: a hand-made one is understood, and every malformed one is
 * refused by name, without a crash. */
#include "comm/plan.h"
#include "tests/comm/virtual.h"
#include "tests/support/check_main.h"

#include <stdio.h>

enum { N_EMBD = 5, N_TOKEN_MAX = 4, TOP_K = 2, N_LOCAL = 3, MOST_BYTES = 4096 };

#define STEP  ((7ll << 32) + 41)
#define LAYER 3

typedef struct message {
    unsigned char bytes[MOST_BYTES];
    size_t n_bytes;    /* of the first message */
    size_t more_bytes; /* of the second, which follows in bytes; 0: none */
    size_t slot_bytes;
} message;

static size_t put(message *m, size_t at, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        m->bytes[at + i] = (unsigned char)(value >> 8 * i);
    return at + n;
}

static size_t put_float(message *m, size_t at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return put(m, at, bits, 4);
}

/* Three rows with 2, 1 and 2 slots: values 0.5, 1.5, ... */
static message good_message(void)
{
    message m = {.slot_bytes = SHOAL_DISPATCH_SLOT_BYTES};
    size_t at = put(&m, 0, 0x314c4853, 4); /* magic */
    at = put(&m, at, 3, 4);                /* rows */
    at = put(&m, at, 5, 4);                /* slots */
    at = put(&m, at, 41, 4);               /* step, low half */
    at = put(&m, at, LAYER, 4);
    at = put(&m, at, 0, 4);
    at = put(&m, at, 0, 8); /* more bytes */
    for (int32_t i = 0; i < 3 * N_EMBD; i++)
        at = put_float(&m, at, (float)i + 0.5f);
    at = put(&m, at, 2, 2);
    at = put(&m, at, 1, 2);
    at = put(&m, at, 2, 2);
    at = put(&m, at, 0, 2); /* padding */
    for (uint32_t i = 0; i < 5; i++) {
        at = put(&m, at, i % N_LOCAL, 4);
        at = put_float(&m, at, (float)i / 4);
    }
    m.n_bytes = at;
    return m;
}

enum { AT_ROWS = 32, AT_COUNTS = AT_ROWS + 3 * N_EMBD * 4, AT_SLOTS = AT_COUNTS + 8 };

static message in_two_parts(size_t slot_bytes)
{
    message m = good_message();
    m.slot_bytes = slot_bytes;
    m.more_bytes = m.n_bytes - slot_bytes;
    m.n_bytes = slot_bytes;
    put(&m, 24, m.more_bytes, 8);
    return m;
}

static void check_good(const shoal_recv *recv)
{
    const int32_t row_of_slot[] = {0, 0, 1, 2, 2}, row_slot[] = {0, 2, 3, 5};
    ck_assert_int_eq(recv->n_row, 3);
    ck_assert_int_eq(recv->n_slot, 5);
    ck_assert_mem_eq(recv->row_slot, row_slot, sizeof row_slot);
    ck_assert_mem_eq(recv->slot_row, row_of_slot, sizeof row_of_slot);
    for (int32_t i = 0; i < 3 * N_EMBD; i++)
        ck_assert_float_eq(recv->row[i], (float)i + 0.5f);
    for (int32_t i = 0; i < 5; i++) {
        ck_assert_int_eq(recv->slot_expert[i], i % N_LOCAL);
        ck_assert_float_eq(recv->slot_weight[i], (float)i / 4);
    }
}

static shoal_status receive(shoal_comm *comm, const message *m)
{
    shoal_arena arena;
    shoal_exchange x;
    const shoal_kernels *kernels = NULL;
    shoal_log *log = shoal_comm_log(comm);
    ck_assert_int_eq(shoal_kernels_select(&kernels, "reference", log), SHOAL_OK);
    shoal_exchange_config config = {.n_rank = 2,
                                    .rank = 0,
                                    .n_embd = N_EMBD,
                                    .top_k = TOP_K,
                                    .n_token_max = N_TOKEN_MAX,
                                    .n_local_max = (int32_t[]){N_LOCAL, 0},
                                    .may_source = (bool[]){false, true},
                                    .slot_bytes = m->slot_bytes};
    shoal_arena_measure(&arena, "session");
    shoal_exchange_carve(&x, shoal_arenas_same(&arena), &config,
                         &(shoal_compute){.kernels = kernels});
    ck_assert_int_eq(shoal_arena_open(&arena, log), SHOAL_OK);
    shoal_exchange_carve(&x, shoal_arenas_same(&arena), &config,
                         &(shoal_compute){.kernels = kernels});
    shoal_plan_build(&x, NULL, NULL, 0, NULL, NULL, (bool[]){false, true}, (bool[]){true, false});
    shoal_status status = shoal_dispatch_begin(&x, comm, (shoal_rows){0}, STEP, LAYER);
    if (status == SHOAL_OK)
        status = shoal_dispatch_end(&x, comm, STEP, LAYER);
    if (status == SHOAL_OK)
        check_good(&x.recv);
    ck_assert(shoal_arena_check(&arena));
    shoal_arena_close(&arena);
    return status;
}

/* Rank 0 receives what rank 1 sends. */
static shoal_status pair_body(virtual_run *run, shoal_comm *comm, shoal_transport *transport)
{
    (void)transport;
    message *m = run->arg;
    if (shoal_comm_rank(comm) == 0)
        return receive(comm, m);
    shoal_request request[2] = {SHOAL_REQUEST_NONE, SHOAL_REQUEST_NONE};
    SHOAL_TRY(shoal_comm_send(comm, &request[0], 0, SHOAL_TAG_DISPATCH, m->bytes, m->n_bytes));
    if (m->more_bytes > 0)
        SHOAL_TRY(shoal_comm_send(comm, &request[1], 0, SHOAL_TAG_DISPATCH_MORE,
                                  m->bytes + m->n_bytes, m->more_bytes));
    return shoal_comm_wait(comm, request, 2, "test message");
}

/* What rank 0 found; its log must say who sent it, unless the transport found it (says: NULL). */
static shoal_status outcome(message m, const char *says)
{
    virtual_run run;
    virtual_begin(&run, 2, pair_body);
    run.arg = &m;
    virtual_go(&run);
    shoal_status status = run.status[0];
    if (status != SHOAL_OK && says != NULL) {
        ck_assert_msg(strstr(run.log[0], "rank 1") != NULL, "names no rank: %s", run.log[0]);
        ck_assert_msg(strstr(run.log[0], says) != NULL, "wanted '%s': %s", says, run.log[0]);
    }
    virtual_end(&run);
    return status;
}

START_TEST(test_good_messages)
{
    ck_assert_int_eq(outcome(good_message(), ""), SHOAL_OK);
    for (size_t slot = 64; slot < AT_SLOTS + 40; slot += 12)
        ck_assert_int_eq(outcome(in_two_parts(slot), ""), SHOAL_OK);
}
END_TEST

/* One field of the good message overwritten. */
static message with(size_t at, uint64_t value, size_t n)
{
    message m = good_message();
    put(&m, at, value, n);
    return m;
}

START_TEST(test_malformed_fields)
{
    const struct {
        size_t at, n;
        uint64_t value;
        const char *says;
    } bad[] = {
        {0, 4, 0x314c4854, "magic"},
        {0, 4, 0, "magic"},
        {4, 4, N_TOKEN_MAX + 1, "rows"}, /* more than a source may have */
        {4, 4, 4, "bytes"},              /* more than it has */
        {4, 4, 2, "rows"},               /* too few for its slots */
        {4, 4, 0, "rows"},
        {4, 4, 0xffffffff, "rows"},
        {4, 4, 6, "rows"},
        {8, 4, 2, "slots"}, /* fewer than rows */
        {8, 4, 4, "bytes"},
        {8, 4, 6, "bytes"},
        {8, 4, 7, "slots"}, /* more than top-k for each row */
        {8, 4, 0xffffffff, "slots"},
        {12, 4, 40, "step 40"},
        {16, 4, LAYER + 1, "layer 4"},
        {16, 4, 0xffffffff, "layer -1"},
        {20, 4, 1, "malformed"},
        {24, 8, 8, "to follow"},
        {24, 8, UINT64_MAX, "to follow"},
        {AT_COUNTS, 2, 0, "add up"},
        {AT_COUNTS, 2, 1, "add up"},
        {AT_COUNTS, 2, 3, "add up"},
        {AT_COUNTS, 2, 0xffff, "add up"},
        {AT_COUNTS + 2, 2, 2, "add up"},
        {AT_SLOTS, 4, N_LOCAL, "expert"},
        {AT_SLOTS + 32, 4, 0xffffffff, "expert"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(outcome(with(bad[i].at, bad[i].value, bad[i].n), bad[i].says) == SHOAL_FAILED,
                      "case %zu was taken", i);
}
END_TEST

START_TEST(test_malformed_sizes)
{
    message m = good_message();
    const size_t whole = m.n_bytes;
    for (size_t n = 0; n < whole; n += 7) { /* cut short */
        m.n_bytes = n;
        ck_assert_int_eq(outcome(m, "malformed"), SHOAL_FAILED);
    }
    m.n_bytes = whole + 4;
    ck_assert_int_eq(outcome(m, NULL), SHOAL_FAILED);
    m.n_bytes = MOST_BYTES; /* more than there is room for */
    ck_assert_int_eq(outcome(m, NULL), SHOAL_FAILED);

    m = in_two_parts(100);
    put(&m, 24, m.more_bytes - 4, 8); /* states less than it sends */
    ck_assert_int_eq(outcome(m, "to follow"), SHOAL_FAILED);
    m = in_two_parts(100);
    m.more_bytes -= 4; /* sends less than it states */
    ck_assert_int_eq(outcome(m, NULL), SHOAL_FAILED);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_good_messages);
    SHOAL_TEST(suite, test_malformed_fields);
    SHOAL_TEST(suite, test_malformed_sizes);
}

SHOAL_TEST_MAIN("comm.dispatch", add_tests)
