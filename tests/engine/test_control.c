/* The control message through its door (runtime/proto/control.c) and its check, and the results
 * that come back. */
#include "runtime/engine/control.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum { N_RANK = 3, N_CHUNK_MAX = 40, N_TOKEN_MAX = 600, N_VOCAB = 500, N_CONTEXT = 1000 };

static const int32_t n_slot[N_RANK] = {8, 0, 32};

static const shoal_limits limits = {.n_rank = N_RANK,
                                    .n_slot = n_slot,
                                    .n_slot_total = 40,
                                    .prefill_chunk = 280,
                                    .score_rows = 64,
                                    .want_rows = true,
                                    .n_token_max = 312,
                                    .n_logit_max = 96,
                                    .n_context = N_CONTEXT,
                                    .n_vocab = N_VOCAB,
                                    .n_embd = 12,
                                    .n_moe_layer = 3,
                                    .top_k = 5};

typedef struct fixture {
    shoal_log log;
    shoal_arena arena;
    shoal_control_codec codec;
    shoal_control out, in;
    uint8_t *bytes;
    size_t n_bytes;
} fixture;

static fixture f;

static void carve(void)
{
    shoal_control_codec_carve(&f.codec, &f.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    shoal_control_carve(&f.out, &f.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    shoal_control_carve(&f.in, &f.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    f.bytes = SHOAL_TAKE(&f.arena, f.codec.message_bytes_max, uint8_t);
}

static void open_fixture(void)
{
    shoal_log_init(&f.log, NULL, 0, "test");
    shoal_arena_measure(&f.arena, "test");
    carve();
    ck_assert_int_eq(shoal_arena_open(&f.arena, &f.log), SHOAL_OK);
    carve();
}

static void close_fixture(void)
{
    ck_assert(shoal_arena_check(&f.arena));
    shoal_arena_close(&f.arena);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void add_chunk(int32_t owner, int32_t slot, int32_t position0, int32_t n_row, uint32_t flags)
{
    shoal_control_chunk *chunk = &f.out.chunk[f.out.n_chunk++];
    *chunk = (shoal_control_chunk){.owner = owner,
                                   .slot = slot,
                                   .position0 = position0,
                                   .n_row = n_row,
                                   .flags = flags,
                                   .token0 = f.out.n_token,
                                   .n_token = shoal_control_chunk_n_token(n_row, flags)};
    for (int32_t i = 0; i < chunk->n_token; i++)
        f.out.token[f.out.n_token++] = (position0 % N_VOCAB + i * 7) % N_VOCAB;
    if ((flags & SHOAL_CONTROL_SAMPLE) != 0) {
        chunk->temperature = 0.5F;
        chunk->top_p = 0.9F;
        chunk->top_k = 40;
        chunk->seed = 0xfedcba9876543210u;
        chunk->key = UINT64_MAX;
    }
}

/* A step with every kind of chunk. */
static void make_step(void)
{
    f.out.step = INT64_C(1) << 40;
    f.out.stop = false;
    f.out.n_chunk = f.out.n_token = 0;
    add_chunk(0, 3, 0, 20, 0);
    add_chunk(2, 31, 17, 1, SHOAL_CONTROL_SAMPLE | SHOAL_CONTROL_DECODE);
    add_chunk(0, 7, 5, 9, SHOAL_CONTROL_SCORES);
    add_chunk(2, 0, 990, 10, SHOAL_CONTROL_SAMPLE);
    add_chunk(2, 1, 100, 3, SHOAL_CONTROL_ROWS);
    add_chunk(2, 2, 100, 1, SHOAL_CONTROL_ROWS);
}

static shoal_status through_the_door(void)
{
    f.n_bytes = shoal_control_pack(f.bytes, &f.codec, &f.out);
    ck_assert_uint_le(f.n_bytes, f.codec.message_bytes_max);
    return shoal_control_unpack(&f.in, &f.codec, f.bytes, f.n_bytes, &f.log);
}

static void check_equal(void)
{
    ck_assert_int_eq(f.in.step, f.out.step);
    ck_assert_int_eq(f.in.stop, f.out.stop);
    ck_assert_int_eq(f.in.n_chunk, f.out.n_chunk);
    ck_assert_int_eq(f.in.n_token, f.out.n_token);
    ck_assert_mem_eq(f.in.token, f.out.token, (size_t)f.out.n_token * sizeof(int32_t));
    for (int32_t i = 0; i < f.out.n_chunk; i++) {
        const shoal_control_chunk *a = &f.in.chunk[i], *b = &f.out.chunk[i];
        ck_assert(a->owner == b->owner && a->slot == b->slot && a->position0 == b->position0 &&
                  a->n_row == b->n_row && a->flags == b->flags && a->token0 == b->token0 &&
                  a->n_token == b->n_token && a->temperature == b->temperature &&
                  a->top_p == b->top_p && a->top_k == b->top_k && a->seed == b->seed &&
                  a->key == b->key);
    }
}

START_TEST(round_trip)
{
    open_fixture();
    make_step();
    ck_assert_int_eq(through_the_door(), SHOAL_OK);
    check_equal();
    ck_assert_int_eq(shoal__control_check(&f.in, &limits, 0, &f.log), SHOAL_OK);
    ck_assert_int_eq(shoal__control_check(&f.in, &limits, 2, &f.log), SHOAL_OK);

    f.out.n_chunk = f.out.n_token = 0;
    f.out.stop = true;
    ck_assert_int_eq(through_the_door(), SHOAL_OK);
    check_equal();
    ck_assert_uint_lt(f.n_bytes, 16);
    close_fixture();
}
END_TEST

/* The largest numbers fit message_bytes_max and the scratch. */
START_TEST(largest_message)
{
    open_fixture();
    f.out.step = INT64_MAX;
    f.out.stop = true;
    for (int32_t i = 0; i < N_CHUNK_MAX; i++) {
        add_chunk(INT32_MAX, INT32_MAX, INT32_MAX, N_TOKEN_MAX / N_CHUNK_MAX, SHOAL_CONTROL_SAMPLE);
        f.out.chunk[i].top_k = INT32_MAX;
    }
    for (int32_t t = 0; t < N_TOKEN_MAX; t++)
        f.out.token[t] = INT32_MIN;
    ck_assert_int_eq(f.out.n_token, N_TOKEN_MAX);
    ck_assert_int_eq(through_the_door(), SHOAL_OK);
    check_equal();
    close_fixture();
}
END_TEST

/* Random changes of a good message: refused, or still within all limits. */
START_TEST(malformed_bytes)
{
    open_fixture();
    make_step();
    ck_assert_int_eq(through_the_door(), SHOAL_OK);
    static uint8_t good[4096], bad[4096];
    const size_t n_good = f.n_bytes;
    memcpy(good, f.bytes, n_good);
    uint32_t state = 17;
    int32_t n_refused = 0;
    for (int32_t trial = 0; trial < 20000; trial++) {
        memcpy(bad, good, n_good);
        const int32_t n_change = 1 + (int32_t)(next_random(&state) % 4);
        for (int32_t i = 0; i < n_change; i++)
            bad[next_random(&state) % n_good] = (uint8_t)next_random(&state);
        const size_t n_bytes = trial % 3 == 0 ? next_random(&state) % (n_good + 1) : n_good;
        shoal_status status = shoal_control_unpack(&f.in, &f.codec, bad, n_bytes, &f.log);
        if (status == SHOAL_OK) {
            ck_assert(f.in.n_chunk >= 0 && f.in.n_chunk <= N_CHUNK_MAX);
            ck_assert(f.in.n_token >= 0 && f.in.n_token <= N_TOKEN_MAX);
            for (int32_t i = 0; i < f.in.n_chunk; i++) {
                const shoal_control_chunk *chunk = &f.in.chunk[i];
                ck_assert(chunk->n_row >= 1 && chunk->token0 >= 0 &&
                          chunk->token0 + chunk->n_token <= f.in.n_token);
            }
            status = shoal__control_check(&f.in, &limits, 2, &f.log);
        }
        ck_assert(status == SHOAL_OK || status == SHOAL_FAILED);
        n_refused += status != SHOAL_OK;
    }
    ck_assert_int_gt(n_refused, 10000);
    ck_assert(shoal_arena_check(&f.arena));
    close_fixture();
}
END_TEST

/* Unpacks f.bytes on a rank with less room. */
static shoal_status unpack_small(int32_t n_chunk_max, int32_t n_token_max)
{
    shoal_arena arena;
    shoal_control_codec small;
    shoal_control in;
    for (int32_t pass = 0; pass < 2; pass++) {
        if (pass == 0)
            shoal_arena_measure(&arena, "small");
        else
            ck_assert_int_eq(shoal_arena_open(&arena, &f.log), SHOAL_OK);
        shoal_control_codec_carve(&small, &arena, n_chunk_max, n_token_max);
        shoal_control_carve(&in, &arena, n_chunk_max, n_token_max);
    }
    const shoal_status status = shoal_control_unpack(&in, &small, f.bytes, f.n_bytes, &f.log);
    ck_assert(shoal_arena_check(&arena));
    shoal_arena_close(&arena);
    return status;
}

/* More chunks or tokens than a rank has room for: refused, nothing is written beyond. */
START_TEST(beyond_the_limits)
{
    open_fixture();
    f.out.n_chunk = f.out.n_token = 0;
    for (int32_t i = 0; i < N_CHUNK_MAX; i++)
        add_chunk(0, i, 0, 10, SHOAL_CONTROL_SAMPLE);
    f.n_bytes = shoal_control_pack(f.bytes, &f.codec, &f.out);
    ck_assert_int_eq(unpack_small(40, 400), SHOAL_OK);
    ck_assert_int_eq(unpack_small(39, 400), SHOAL_FAILED);
    ck_assert_int_eq(unpack_small(1, 400), SHOAL_FAILED);
    ck_assert_int_eq(unpack_small(40, 399), SHOAL_FAILED);
    ck_assert_int_eq(unpack_small(40, 10), SHOAL_FAILED);
    ck_assert_int_eq(unpack_small(0, 0), SHOAL_FAILED);
    close_fixture();
}
END_TEST

/* Counts that do not fit each other. */
START_TEST(counts_that_disagree)
{
    open_fixture();
    make_step();
    f.out.n_token++;
    ck_assert_int_eq(through_the_door(), SHOAL_FAILED);
    f.out.n_token -= 2;
    ck_assert_int_eq(through_the_door(), SHOAL_FAILED);
    f.out.n_token++;
    f.out.chunk[0].n_row = 0;
    ck_assert_int_eq(through_the_door(), SHOAL_FAILED);
    f.out.chunk[0].n_row = INT32_MAX;
    ck_assert_int_eq(through_the_door(), SHOAL_FAILED);
    f.out.chunk[0].n_row = 20;
    f.out.chunk[0].flags = 32;
    ck_assert_int_eq(through_the_door(), SHOAL_FAILED);
    close_fixture();
}
END_TEST

static void expect_wrong(int32_t chunk, int32_t rank, const char *text)
{
    ck_assert_msg(shoal__control_check(&f.out, &limits, rank, &f.log) == SHOAL_FAILED,
                  "chunk %d: not found wrong: %s", chunk, text);
    ck_assert_msg(strstr(f.log.error, text) != NULL, "%s: %s", text, f.log.error);
}

START_TEST(wrong_numbers)
{
    open_fixture();
    make_step();
    ck_assert_int_eq(shoal__control_check(&f.out, &limits, 1, &f.log), SHOAL_OK);
    shoal_control_chunk *chunk = f.out.chunk;
    const struct {
        int32_t *number;
        int32_t value;
        const char *text;
    } wrong[] = {
        {&chunk[0].owner, 3, "no rank"},
        {&chunk[0].owner, -1, "no rank"},
        {&chunk[0].owner, 1, "no such cache slot"},
        {&chunk[0].slot, 8, "no such cache slot"},
        {&chunk[1].slot, -1, "no such cache slot"},
        {&chunk[1].n_row, 2, "more than one row"},
        {&chunk[3].position0, 991, "beyond the context"},
        {&chunk[3].position0, -1, "beyond the context"},
        {&chunk[3].position0, INT32_MAX, "beyond the context"},
        {&chunk[3].top_k, -4, "sampling"},
        {&f.out.token[4], N_VOCAB, "beyond the vocabulary"},
        {&f.out.token[4], -1, "beyond the vocabulary"},
        {&chunk[4].n_row, 400, "more rows than this rank"},
        {&chunk[4].n_row, 65, "more rows than this rank"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const int32_t kept = *wrong[i].number;
        *wrong[i].number = wrong[i].value;
        expect_wrong((int32_t)i, 2, wrong[i].text);
        *wrong[i].number = kept;
    }
    chunk[2].flags = SHOAL_CONTROL_SCORES | SHOAL_CONTROL_ROWS;
    expect_wrong(2, 2, "exclude each other");
    chunk[2].flags = SHOAL_CONTROL_SCORES;
    chunk[1].temperature = NAN;
    expect_wrong(1, 2, "sampling");
    close_fixture();
}
END_TEST

START_TEST(results_lie_where_both_sides_look)
{
    open_fixture();
    make_step();
    _Alignas(64) static unsigned char message[65536];
    const size_t row = (500 + 12) * 4 + 3 * 5 * 8;
    ck_assert_uint_eq(shoal__result_bytes(&limits, &f.out, 0), 16 + 9 * 8);
    ck_assert_uint_eq(shoal__result_bytes(&limits, &f.out, 1), 0);
    ck_assert_uint_eq(shoal__result_bytes(&limits, &f.out, 2), 16 + 8 + 8 + 3 * row + row);
    ck_assert_uint_le(shoal__result_bytes(&limits, &f.out, 2), shoal__result_bytes_max(&limits, 2));

    shoal_chunk_result place[N_CHUNK_MAX] = {{0}};
    shoal__result_place(place, message, &limits, &f.out, 2);
    ck_assert_ptr_null(place[0].token);
    ck_assert_ptr_eq(place[1].token, message + 16);
    ck_assert_ptr_eq(place[3].token, message + 24);
    ck_assert_ptr_eq(place[4].logits, message + 32);
    ck_assert_ptr_eq(place[4].hidden, place[4].logits + 3 * 500);
    ck_assert_ptr_eq(place[4].expert, place[4].hidden + 3 * 12);
    ck_assert_ptr_eq(place[4].weight, place[4].expert + 3 * 3 * 5);
    ck_assert_ptr_eq(place[5].logits, message + 32 + 3 * row);

    *place[1].token = 5;
    *place[3].token = 499;
    shoal__result_write_header(message, &f.out, 2);
    ck_assert_int_eq(shoal__result_check(message, place, &limits, &f.out, 2, &f.log), SHOAL_OK);
    *place[3].token = 500;
    ck_assert_int_eq(shoal__result_check(message, place, &limits, &f.out, 2, &f.log), SHOAL_FAILED);
    *place[3].token = 0;
    f.out.step++;
    ck_assert_int_eq(shoal__result_check(message, place, &limits, &f.out, 2, &f.log), SHOAL_FAILED);
    close_fixture();
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, round_trip);
    SHOAL_TEST(suite, largest_message);
    SHOAL_TEST(suite, malformed_bytes);
    SHOAL_TEST(suite, beyond_the_limits);
    SHOAL_TEST(suite, counts_that_disagree);
    SHOAL_TEST(suite, wrong_numbers);
    SHOAL_TEST(suite, results_lie_where_both_sides_look);
}

SHOAL_TEST_MAIN("engine.control", add_tests)
