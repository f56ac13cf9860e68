/* Rows of wrong guesses leave nothing behind: their positions are overwritten, in the main cache
 * and in the MTP layer's, and what follows has the bits that it has without them. One rank, no
 * engine. */
#include "tests/support/check_main.h"
#include "tests/support/one_rank.h"

#include <stdlib.h>
#include <string.h>

enum { N_CONTEXT = 64, N_TEXT = 60, N_PROMPT = 9 };

typedef struct fixture {
    shoal_one_rank rank;
    int32_t text[N_TEXT];
} fixture;

static void open_fixture(fixture *f, shoal_kv_dtype kv_dtype)
{
    const shoal_one_rank_config config = {.model = "tests/golden/deepseek_v3-mtp",
                                          .kernels = "auto",
                                          .n_thread = 1,
                                          .n_mtp = 1,
                                          .kv_dtype = kv_dtype,
                                          .n_context = N_CONTEXT,
                                          .n_sequence = 2,
                                          .n_row_max = N_TEXT};
    shoal_one_rank_open(&f->rank, &config);
    for (int32_t i = 0; i < N_TEXT; i++)
        f->text[i] = (i * 53 + i * i * 7 + 11) % f->rank.spec.n_vocab;
}

/* Rows [position0, position0 + n) with these tokens: through the model, or with hidden given
 * [n, n_embd] through its MTP layer. logits [n, n_vocab], next_hidden [n, n_embd] out. */
static void forward(fixture *f, int32_t slot, const int32_t *token, int32_t position0, int32_t n,
                    const float *hidden, float *logits, float *next_hidden)
{
    int32_t row[N_TEXT];
    for (int32_t i = 0; i < N_TEXT; i++)
        row[i] = i;
    const bool is_source[1] = {true};
    const shoal_chunk chunk = {.slot = slot, .position0 = position0, .n_row = n};
    const shoal_forward_input in = {.token = token,
                                    .n_token = n,
                                    .chunk = &chunk,
                                    .n_chunk = 1,
                                    .is_source = is_source,
                                    .logit_row = row,
                                    .n_logit = n};
    shoal_forward_output out;
    const shoal_status status = hidden == NULL
                                    ? shoal_forward(&out, f->rank.model, &in)
                                    : shoal_forward_mtp(&out, f->rank.model, &in, hidden);
    ck_assert_int_eq(status, SHOAL_OK);
    memcpy(logits, out.logits, (size_t)n * (size_t)f->rank.spec.n_vocab * sizeof(float));
    memcpy(next_hidden, out.all_hidden, (size_t)n * (size_t)f->rank.spec.n_embd * sizeof(float));
}

/* logits [N_TEXT, n_vocab] and those of the MTP layer [N_TEXT - 1, n_vocab], a row at a time. */
static void run_plain(fixture *f, float *logits, float *mtp_logits)
{
    const size_t n_vocab = (size_t)f->rank.spec.n_vocab, n_embd = (size_t)f->rank.spec.n_embd;
    float *hidden = calloc(n_embd, sizeof(float)), *unused = calloc(n_embd, sizeof(float));
    for (int32_t i = 0; i < N_TEXT; i++) {
        forward(f, 0, f->text + i, i, 1, NULL, logits + (size_t)i * n_vocab, hidden);
        if (i + 1 < N_TEXT)
            forward(f, 0, f->text + i + 1, i, 1, hidden, mtp_logits + (size_t)i * n_vocab, unused);
    }
    free(hidden);
    free(unused);
}

/* The same text in steps of a token and three guesses, of which 0, 1, 2, 3, 0, .. are right; the
 * MTP layer takes the rows that hold and then guesses ahead three times, nonsense. */
static void run_guessing(fixture *f, float *logits, float *mtp_logits)
{
    const size_t n_vocab = (size_t)f->rank.spec.n_vocab, n_embd = (size_t)f->rank.spec.n_embd;
    float *row_logits = calloc(N_TEXT * n_vocab, sizeof(float));
    float *hidden = calloc(N_TEXT * n_embd, sizeof(float));
    float *ahead = calloc(N_TEXT * n_embd, sizeof(float));
    int32_t n_right = N_PROMPT - 1; /* the prompt is a step whose rows all hold */
    for (int32_t at = 0; at + 4 < N_TEXT; n_right = (n_right + 1) % 4) {
        const int32_t n_row = at == 0 ? N_PROMPT : 4, n_kept = n_right + 1;
        int32_t token[N_PROMPT];
        for (int32_t i = 0; i < n_row; i++)
            token[i] = (f->text[at + i] + (i > n_right ? 5 : 0)) % f->rank.spec.n_vocab;
        forward(f, 1, token, at, n_row, NULL, row_logits, hidden);
        memcpy(logits + (size_t)at * n_vocab, row_logits, (size_t)n_kept * n_vocab * sizeof(float));
        forward(f, 1, f->text + at + 1, at, n_kept, hidden, row_logits, ahead);
        memcpy(mtp_logits + (size_t)at * n_vocab, row_logits,
               (size_t)n_kept * n_vocab * sizeof(float));
        memcpy(hidden, ahead + (size_t)(n_kept - 1) * n_embd, n_embd * sizeof(float));
        at += n_kept;
        for (int32_t pass = 0; pass < 3 && at + pass < N_CONTEXT; pass++)
            forward(f, 1, f->text + (at * 3 + pass) % N_TEXT, at + pass, 1, hidden, row_logits,
                    hidden);
        if (n_right == N_PROMPT - 1)
            n_right = -1;
    }
    free(row_logits);
    free(hidden);
    free(ahead);
}

START_TEST(same_bits_after_wrong_guesses)
{
    fixture f;
    open_fixture(&f, _i == 0 ? SHOAL_KV_F32 : SHOAL_KV_BF16);
    const size_t n = (size_t)N_TEXT * (size_t)f.rank.spec.n_vocab;
    float *logits[2], *mtp_logits[2];
    for (int32_t i = 0; i < 2; i++) {
        logits[i] = calloc(n, sizeof(float));
        mtp_logits[i] = calloc(n, sizeof(float));
    }
    run_plain(&f, logits[0], mtp_logits[0]);
    run_guessing(&f, logits[1], mtp_logits[1]);
    const size_t n_bytes = (N_TEXT - 8) * (size_t)f.rank.spec.n_vocab * sizeof(float);
    ck_assert_msg(memcmp(logits[0], logits[1], n_bytes) == 0, "other logits");
    ck_assert_msg(memcmp(mtp_logits[0], mtp_logits[1], n_bytes) == 0, "other MTP logits");
    for (int32_t i = 0; i < 2; i++) {
        free(logits[i]);
        free(mtp_logits[i]);
    }
    shoal_one_rank_close(&f.rank);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *bits = tcase_create("bits");
    tcase_add_loop_test(bits, same_bits_after_wrong_guesses, 0, 2);
    suite_add_tcase(suite, bits);
}

SHOAL_TEST_MAIN("engine.rollback", add_tests)
