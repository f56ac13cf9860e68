/* Guesses in the scheduler's books: what a step asks for, what its results become, where a sequence
 * ends among them; and the messages that carry them. */
#include "runtime/engine/control.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { EOS = 0, N_CHUNK_MAX = 8, N_TOKEN_MAX = 256 };

static const int32_t n_slot[2] = {0, 4};
static const double weight[2] = {0, 1};

typedef struct world {
    shoal_log log;
    shoal_arena arena;
    shoal_spec spec;
    shoal_scheduler scheduler;
    shoal_control control, received;
    shoal_control_codec codec;
    uint8_t *bytes;
    shoal_limits limits;
} world;

static world w;

static void carve(const shoal_scheduler_config *config)
{
    shoal__scheduler_carve(&w.scheduler, &w.arena, config);
    shoal_control_carve(&w.control, &w.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    shoal_control_carve(&w.received, &w.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    shoal_control_codec_carve(&w.codec, &w.arena, N_CHUNK_MAX, N_TOKEN_MAX);
    w.bytes = SHOAL_TAKE(&w.arena, w.codec.message_bytes_max, uint8_t);
}

static void open_world(shoal_draft_kind kind, int32_t n_draft)
{
    memset(&w, 0, sizeof(w));
    shoal_log_init(&w.log, NULL, 0, "test");
    w.spec.n_eos = 1;
    w.spec.eos[0] = EOS;
    const shoal_scheduler_config config = {.n_rank = 2,
                                           .n_slot = n_slot,
                                           .weight = weight,
                                           .prefill_chunk = 4,
                                           .drafts = {.kind = kind, .n_token = n_draft},
                                           .spec = &w.spec};
    w.limits = (shoal_limits){.n_rank = 2,
                              .n_slot = n_slot,
                              .n_slot_total = 4,
                              .prefill_chunk = 4,
                              .mtp = kind == SHOAL_DRAFT_MTP,
                              .n_draft = n_draft,
                              .n_token_max = 4 + 4 * (1 + n_draft),
                              .n_logit_max = 4 * (1 + n_draft),
                              .n_context = 100,
                              .n_vocab = 1000};
    shoal_arena_measure(&w.arena, "test");
    carve(&config);
    ck_assert_int_eq(shoal_arena_open(&w.arena, &w.log), SHOAL_OK);
    carve(&config);
}

static void close_world(void)
{
    shoal__scheduler_fini(&w.scheduler);
    ck_assert(shoal_arena_check(&w.arena));
    shoal_arena_close(&w.arena);
}

static void submit(const int32_t *prompt, int32_t n_prompt, int32_t max_tokens)
{
    const shoal_sequence_request request = {
        .prompt = prompt, .n_prompt = n_prompt, .max_tokens = max_tokens};
    shoal_sequence *s;
    ck_assert_int_eq(shoal__sequence_open(&s, &request, 0, 0, &w.log), SHOAL_OK);
    shoal__scheduler_enqueue(&w.scheduler, s);
}

/* The next chunk, which went through the door and is as rank 1 accepts it. */
static const shoal_control_chunk *plan(uint32_t flags, int32_t position0, int32_t n_row)
{
    shoal__scheduler_plan(&w.scheduler, &w.control);
    ck_assert_int_eq(w.control.n_chunk, 1);
    const size_t n_bytes = shoal_control_pack(w.bytes, &w.codec, &w.control);
    ck_assert_int_eq(shoal_control_unpack(&w.received, &w.codec, w.bytes, n_bytes, &w.log),
                     SHOAL_OK);
    ck_assert_int_eq(shoal__control_check(&w.received, &w.limits, 1, &w.log), SHOAL_OK);
    const shoal_control_chunk *chunk = &w.received.chunk[0];
    ck_assert_int_eq(chunk->n_draft, w.control.chunk[0].n_draft);
    ck_assert_uint_eq(chunk->flags, flags);
    ck_assert_int_eq(chunk->position0, position0);
    ck_assert_int_eq(chunk->n_row, n_row);
    return chunk;
}

static void expect_tokens(const int32_t *token, int32_t n)
{
    ck_assert_int_eq(w.received.n_token, n);
    ck_assert_mem_eq(w.received.token, token, (size_t)n * sizeof(int32_t));
}

/* The step gave these; n_event tokens come out, and DONE if finish says how. */
static void complete(int32_t *token, int32_t *draft, int32_t n_event, shoal_finish finish)
{
    const shoal_chunk_result result = {.token = token, .draft = draft};
    shoal__scheduler_complete(&w.scheduler, &w.control, &result, 1);
    shoal_event event;
    for (int32_t i = 0; i < n_event; i++) {
        ck_assert(shoal__scheduler_poll(&w.scheduler, &event));
        ck_assert_int_eq(event.kind, SHOAL_EVENT_TOKEN);
        ck_assert_int_eq(event.token, token[i]);
    }
    if (finish != SHOAL_FINISH_NONE) {
        ck_assert(shoal__scheduler_poll(&w.scheduler, &event));
        ck_assert_int_eq(event.kind, SHOAL_EVENT_DONE);
        ck_assert_int_eq(event.finish, finish);
    }
    ck_assert(!shoal__scheduler_poll(&w.scheduler, &event));
}

#define TOKENS(...) ((int32_t[]){__VA_ARGS__})

static const uint32_t sample = SHOAL_CONTROL_SAMPLE, draft = SHOAL_CONTROL_DRAFT,
                      decode = SHOAL_CONTROL_SAMPLE | SHOAL_CONTROL_DECODE;

START_TEST(by_the_mtp_layer)
{
    open_world(SHOAL_DRAFT_MTP, 3);
    submit(TOKENS(1, 2, 3, 4, 5, 6), 6, 9);
    plan(draft, 0, 4); /* prompt rows, and the token after the last of them */
    expect_tokens(TOKENS(1, 2, 3, 4, 5), 5);
    ck_assert_int_eq(shoal__control_n_draft_pass(&w.received), 1);
    ck_assert_uint_eq(shoal__result_bytes(&w.limits, &w.received, 1), 0);
    complete(NULL, NULL, 0, SHOAL_FINISH_NONE);

    ck_assert_int_eq(plan(sample | draft, 4, 2)->n_draft, 3);
    expect_tokens(TOKENS(5, 6), 2);
    ck_assert_int_eq(shoal__control_n_draft_pass(&w.received), 3);
    ck_assert_uint_eq(shoal__result_bytes(&w.limits, &w.received, 1), 16 + 4 * 4);
    complete(TOKENS(10), TOKENS(11, 12, 13), 1, SHOAL_FINISH_NONE);

    plan(decode | draft, 6, 4); /* two of three right: positions 6 .. 8 hold */
    expect_tokens(TOKENS(10, 11, 12, 13), 4);
    ck_assert_uint_eq(shoal__result_bytes(&w.limits, &w.received, 1), 16 + 8 * 4 - 4 + 4);
    ck_assert_uint_le(shoal__result_bytes(&w.limits, &w.received, 1),
                      shoal__result_bytes_max(&w.limits, 1));
    complete(TOKENS(11, 12, 99, -1), TOKENS(21, 22, -1), 3, SHOAL_FINISH_NONE);

    ck_assert_int_eq(plan(decode | draft, 9, 3)->n_draft, 3); /* an owner may guess less */
    expect_tokens(TOKENS(99, 21, 22), 3);
    complete(TOKENS(31, -1, -1), TOKENS(41, 42, 43), 1, SHOAL_FINISH_NONE);

    /* four to go: three guesses and the token behind; then nothing more is asked for */
    ck_assert_int_eq(plan(decode | draft, 10, 4)->n_draft, 2);
    complete(TOKENS(41, 42, -1, -1), TOKENS(51, 52), 2, SHOAL_FINISH_NONE);
    ck_assert_int_eq(plan(decode, 12, 2)->n_draft, 0); /* two to go: one guess is of use */
    expect_tokens(TOKENS(42, 51), 2);
    complete(TOKENS(51, 61), NULL, 2, SHOAL_FINISH_LENGTH);

    const shoal_engine_counters *count = &w.scheduler.count;
    ck_assert_int_eq(count->n_decode_step, 4);
    ck_assert_int_eq(count->n_decode_token, 3 + 1 + 2 + 2);
    ck_assert_int_eq(count->n_draft_proposed, 3 + 2 + 3 + 1);
    ck_assert_int_eq(count->n_draft_accepted, 2 + 0 + 1 + 1);
    close_world();
}
END_TEST

/* Too few tokens for a guess to be of use: the MTP layer is left alone from the start. */
START_TEST(not_for_two_tokens)
{
    open_world(SHOAL_DRAFT_MTP, 2);
    submit(TOKENS(1, 2, 3, 4, 5), 5, 2);
    plan(0, 0, 4);
    complete(NULL, NULL, 0, SHOAL_FINISH_NONE);
    plan(sample, 4, 1);
    ck_assert_int_eq(shoal__control_n_draft_pass(&w.received), 0);
    complete(TOKENS(10), NULL, 1, SHOAL_FINISH_NONE);
    plan(decode, 5, 1);
    complete(TOKENS(11), NULL, 1, SHOAL_FINISH_LENGTH);
    close_world();
}
END_TEST

/* An end token ends the sequence where it stands, whatever was accepted behind it. */
START_TEST(end_token_among_the_kept)
{
    for (int32_t at = 0; at < 3; at++) {
        open_world(SHOAL_DRAFT_MTP, 3);
        submit(TOKENS(1, 2), 2, 50);
        plan(sample | draft, 0, 2);
        complete(TOKENS(10), TOKENS(11, 12, 13), 1, SHOAL_FINISH_NONE);
        plan(decode | draft, 2, 4);
        int32_t token[4] = {11, 12, 13, 14};
        token[at] = EOS;
        complete(token, TOKENS(21, 22, 23), at, SHOAL_FINISH_STOP);
        ck_assert_int_eq(w.scheduler.count.n_decode_token, at + 1);
        ck_assert_int_eq(w.scheduler.count.n_draft_accepted, at + 1);
        ck_assert_int_eq(w.scheduler.n_running, 0);
        close_world();
    }
}
END_TEST

START_TEST(from_the_text_itself)
{
    open_world(SHOAL_DRAFT_NGRAM, 4);
    submit(TOKENS(7, 8, 9, 1, 2, 7, 8), 7, 6);
    plan(0, 0, 4); /* owners need no token more: rank 0 guesses */
    complete(NULL, NULL, 0, SHOAL_FINISH_NONE);
    plan(sample, 4, 3);
    complete(TOKENS(9), NULL, 1, SHOAL_FINISH_NONE);
    plan(decode, 7, 5);
    expect_tokens(TOKENS(9, 1, 2, 7, 8), 5);
    complete(TOKENS(1, 5, -1, -1, -1), NULL, 2, SHOAL_FINISH_NONE);
    plan(decode, 9, 1); /* 5 never was */
    complete(TOKENS(7), NULL, 1, SHOAL_FINISH_NONE);
    plan(decode, 10, 2); /* two to go */
    expect_tokens(TOKENS(7, 8), 2);
    complete(TOKENS(8, 100), NULL, 2, SHOAL_FINISH_LENGTH);
    close_world();
}
END_TEST

static void expect_wrong(const char *text)
{
    ck_assert_int_eq(shoal__control_check(&w.control, &w.limits, 1, &w.log), SHOAL_FAILED);
    ck_assert_msg(strstr(w.log.error, text) != NULL, "%s: %s", text, w.log.error);
}

START_TEST(messages_that_cannot_be)
{
    open_world(SHOAL_DRAFT_MTP, 3);
    submit(TOKENS(1, 2), 2, 50);
    plan(sample | draft, 0, 2);
    complete(TOKENS(10), TOKENS(11, 12, 13), 1, SHOAL_FINISH_NONE);
    plan(decode | draft, 2, 4);
    shoal_control_chunk *chunk = &w.control.chunk[0];
    const shoal_control_chunk good = *chunk;
    chunk->n_draft = 4;
    expect_wrong("number of guesses");
    chunk->n_draft = 0;
    expect_wrong("number of guesses");
    chunk->n_draft = -1;
    expect_wrong("number of guesses");
    *chunk = good;
    chunk->n_row = 5;
    expect_wrong("more than one row and its guesses");
    *chunk = good;
    chunk->flags = draft | SHOAL_CONTROL_SCORES;
    expect_wrong("exclude each other");
    chunk->flags = draft;
    expect_wrong("number of guesses");
    *chunk = good;
    w.limits.mtp = false;
    expect_wrong("without the MTP layer");
    close_world();
}
END_TEST

START_TEST(results_that_cannot_be)
{
    static const struct {
        int32_t token[4], draft[3];
        bool right;
    } cases[] = {
        {{5, 6, 7, 8}, {1, 2, 3}, true},       {{5, -1, -1, -1}, {-1, -1, -1}, true},
        {{5, 6, -1, -1}, {1, -1, -1}, true},   {{-1, -1, -1, -1}, {1, 2, 3}, false},
        {{5, -1, 7, -1}, {1, 2, 3}, false},    {{5, 6, 7, 1000}, {1, 2, 3}, false},
        {{5, 6, -2, -1}, {1, 2, 3}, false},    {{5, 6, 7, 8}, {1, -1, 3}, false},
        {{5, 6, 7, 8}, {1000, -1, -1}, false},
    };
    open_world(SHOAL_DRAFT_MTP, 3);
    submit(TOKENS(1, 2), 2, 50);
    plan(sample | draft, 0, 2);
    complete(TOKENS(10), TOKENS(11, 12, 13), 1, SHOAL_FINISH_NONE);
    plan(decode | draft, 2, 4);
    _Alignas(64) unsigned char message[256];
    shoal_chunk_result place = {0};
    shoal__result_write_header(message, &w.received, 1);
    shoal__result_place(&place, message, &w.limits, &w.received, 1);
    ck_assert_ptr_eq(place.draft, place.token + 4);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(place.token, cases[i].token, sizeof(cases[i].token));
        memcpy(place.draft, cases[i].draft, sizeof(cases[i].draft));
        ck_assert_msg(shoal__result_check(message, &place, &w.limits, &w.received, 1, &w.log) ==
                          (cases[i].right ? SHOAL_OK : SHOAL_FAILED),
                      "case %zu", i);
    }
    close_world();
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, by_the_mtp_layer);
    SHOAL_TEST(suite, not_for_two_tokens);
    SHOAL_TEST(suite, end_token_among_the_kept);
    SHOAL_TEST(suite, from_the_text_itself);
    SHOAL_TEST(suite, messages_that_cannot_be);
    SHOAL_TEST(suite, results_that_cannot_be);
}

SHOAL_TEST_MAIN("engine.draft_plan", add_tests)
