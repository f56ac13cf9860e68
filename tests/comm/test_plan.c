/* The plan against what it promises, over random routes. */
#include "comm/plan.h"
#include "tests/support/check_main.h"

#include <string.h>

enum { N_EXPERT = 24, N_TOKEN_MAX = 20, N_EMBD = 8 };

static uint64_t state_ = 5;

static int32_t draw(int32_t n)
{
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return (int32_t)((state_ >> 33) % (uint64_t)n);
}

typedef struct fixture {
    shoal_log log;
    shoal_arena arena;
    shoal_exchange x;
    int32_t n_rank, top_k;
    int32_t owner[N_EXPERT], local[N_EXPERT], n_local[64];
    bool is_source[64], is_target[64];
} fixture;

/* Experts over the ranks at random; the last rank of several owns none. */
static void open_fixture(fixture *f, int32_t n_rank, int32_t rank, int32_t top_k,
                         shoal_combine_kind kind)
{
    *f = (fixture){.n_rank = n_rank, .top_k = top_k};
    shoal_log_init(&f->log, NULL, 0, "test");
    for (int32_t e = 0; e < N_EXPERT; e++) {
        f->owner[e] = n_rank > 1 ? draw(n_rank - 1) : 0;
        f->local[e] = f->n_local[f->owner[e]]++;
    }
    for (int32_t r = 0; r < n_rank; r++) {
        f->is_source[r] = true;
        f->is_target[r] = f->n_local[r] > 0;
    }
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "reference", &f->log), SHOAL_OK);
    shoal_exchange_config config = {.n_rank = n_rank,
                                    .rank = rank,
                                    .n_embd = N_EMBD,
                                    .top_k = top_k,
                                    .n_token_max = N_TOKEN_MAX,
                                    .n_local_max = f->n_local,
                                    .may_source = f->is_source,
                                    .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES,
                                    .wire = {SHOAL_WIRE_F32, SHOAL_WIRE_F32, kind}};
    shoal_arena_measure(&f->arena, "session");
    shoal_exchange_carve(&f->x, shoal_arenas_same(&f->arena), &config,
                         &(shoal_compute){.kernels = kernels});
    ck_assert_int_eq(shoal_arena_open(&f->arena, &f->log), SHOAL_OK);
    shoal_exchange_carve(&f->x, shoal_arenas_same(&f->arena), &config,
                         &(shoal_compute){.kernels = kernels});
}

static void close_fixture(fixture *f)
{
    ck_assert(shoal_arena_check(&f->arena));
    shoal_arena_close(&f->arena);
}

/* expert [n_token, top_k] distinct in a token; weight tells (t, j). */
static void draw_routes(int32_t *expert, float *weight, int32_t n_token, int32_t top_k)
{
    for (int32_t t = 0; t < n_token; t++) {
        for (int32_t j = 0; j < top_k; j++) {
            int32_t e;
            bool again;
            do {
                e = draw(N_EXPERT);
                again = false;
                for (int32_t i = 0; i < j; i++)
                    again = again || expert[t * top_k + i] == e;
            } while (again);
            expert[t * top_k + j] = e;
            weight[t * top_k + j] = (float)(t * 100 + j);
        }
    }
}

static void check_plan(const fixture *f, const int32_t *expert, const float *weight,
                       int32_t n_token)
{
    const shoal_plan *p = &f->x.plan;
    int32_t top_k = f->top_k;
    ck_assert_int_eq(p->n_token, n_token);
    ck_assert_int_eq(p->send_row_offset[0], 0);
    ck_assert_int_eq(p->send_slot_offset[0], 0);
    ck_assert_int_eq(p->send_slot_offset[f->n_rank], n_token * top_k);
    for (int32_t d = 0; d < f->n_rank; d++) {
        /* Rows of d: its tokens in order, once each; slots: row by row, top-k order. */
        int32_t row = p->send_row_offset[d], slot = p->send_slot_offset[d];
        for (int32_t t = 0; t < n_token; t++) {
            int32_t n = 0;
            for (int32_t j = 0; j < top_k; j++) {
                int32_t e = expert[t * top_k + j];
                if (f->owner[e] != d)
                    continue;
                ck_assert_int_eq(p->slot_of[t * top_k + j], slot);
                ck_assert_int_eq(p->send_slot_local[slot], f->local[e]);
                ck_assert_float_eq(p->send_slot_weight[slot], weight[t * top_k + j]);
                slot++;
                n++;
            }
            if (n == 0) {
                ck_assert_int_eq(p->row_of[t * f->n_rank + d], -1);
                continue;
            }
            ck_assert_int_eq(p->row_of[t * f->n_rank + d], row);
            ck_assert_int_eq(p->send_row_token[row], t);
            ck_assert_int_eq(p->send_row_n_slot[row], n);
            row++;
        }
        ck_assert_int_eq(p->send_row_offset[d + 1], row);
        ck_assert_int_eq(p->send_slot_offset[d + 1], slot);
    }
}

START_TEST(test_random_routes)
{
    static fixture f;
    int32_t expert[N_TOKEN_MAX * N_EXPERT];
    float weight[N_TOKEN_MAX * N_EXPERT];
    const int32_t ranks[] = {1, 2, 3, 5, 16, 40}, top_ks[] = {1, 2, 8, N_EXPERT};
    for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
        for (size_t k = 0; k < sizeof top_ks / sizeof top_ks[0]; k++) {
            open_fixture(&f, ranks[r], draw(ranks[r]), top_ks[k], SHOAL_COMBINE_EXACT);
            for (int32_t repeat = 0; repeat < 6; repeat++) { /* the same memory again */
                int32_t n_token = repeat == 0 ? N_TOKEN_MAX : draw(N_TOKEN_MAX + 1);
                draw_routes(expert, weight, n_token, top_ks[k]);
                shoal_plan_build(&f.x, expert, weight, n_token, f.owner, f.local, f.is_source,
                                 f.is_target);
                check_plan(&f, expert, weight, n_token);
            }
            close_fixture(&f);
        }
    }
}
END_TEST

START_TEST(test_no_tokens)
{
    static fixture f;
    open_fixture(&f, 3, 1, 4, SHOAL_COMBINE_REDUCED);
    shoal_plan_build(&f.x, NULL, NULL, 0, f.owner, f.local, f.is_source, f.is_target);
    for (int32_t d = 0; d <= 3; d++) {
        ck_assert_int_eq(f.x.plan.send_row_offset[d], 0);
        ck_assert_int_eq(f.x.plan.send_slot_offset[d], 0);
    }
    close_fixture(&f);
}
END_TEST

START_TEST(test_limits)
{
    static fixture f;
    shoal_log_init(&f.log, NULL, 0, "test");
    const shoal_kernels *kernels = NULL;
    ck_assert_int_eq(shoal_kernels_select(&kernels, "reference", &f.log), SHOAL_OK);
    const int32_t n_local[3] = {0, 3, 10};
    const bool may_source[3] = {true, true, false};
    const int32_t want_row[3] = {0, 40, 40}, want_slot[3] = {0, 40 * 3, 40 * 4};
    for (int32_t rank = 0; rank < 3; rank++) {
        shoal_exchange_config config = {.n_rank = 3,
                                        .rank = rank,
                                        .n_embd = N_EMBD,
                                        .top_k = 4,
                                        .n_token_max = 20,
                                        .n_local_max = n_local,
                                        .may_source = may_source,
                                        .slot_bytes = SHOAL_DISPATCH_SLOT_BYTES};
        shoal_arena_measure(&f.arena, "session");
        shoal_exchange_carve(&f.x, shoal_arenas_same(&f.arena), &config,
                             &(shoal_compute){.kernels = kernels});
        ck_assert_int_eq(f.x.n_row_max, want_row[rank]);
        ck_assert_int_eq(f.x.n_slot_max, want_slot[rank]);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_random_routes);
    SHOAL_TEST(suite, test_no_tokens);
    SHOAL_TEST(suite, test_limits);
}

SHOAL_TEST_MAIN("comm.plan", add_tests)
