/* The grouped expert MLP against a dense oracle in double precision, and against itself: a slot's
 * bits depend on nothing but its row and its expert. */
#include "experts/ffn.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum {
    N_LAYER = 2,
    N_EXPERT = 7,
    N_EMBD = 72,
    N_FF = 40,
    N_ROW = 12,
    N_SLOT = SHOAL_FFN_BATCH + 77, /* more than one batch */
};

static uint64_t state_ = 3;

static double uniform(void) /* [-1, 1) */
{
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state_ >> 11) / 4503599627370496.0 - 1;
}

static int32_t draw(int32_t n)
{
    return (int32_t)((uniform() + 1) / 2 * n);
}

typedef struct fixture {
    shoal_log log;
    shoal_placement placement;
    shoal_arena arena;
    shoal_shard shard;
    shoal_ffn ffn;
    shoal_compute compute;
    float row[N_ROW * N_EMBD];
    int32_t slot_row[N_SLOT], slot_expert[N_SLOT];
} fixture;

static void fill_matrix(shoal_matrix *w)
{
    static uint16_t bf16[N_EMBD * N_EMBD];
    static float f32[N_EMBD * N_EMBD];
    for (int32_t i = 0; i < w->n_row * w->n_col; i++) {
        f32[i] = (float)(uniform() * 0.3);
        bf16[i] = shoal_f32_to_bf16(f32[i]);
    }
    shoal_matrix_pack(w, 0, w->n_row, w->format == SHOAL_FORMAT_F32 ? (void *)f32 : (void *)bf16);
}

static void carve(fixture *f)
{
    const shoal_expert_format format[N_LAYER] = {
        {SHOAL_FORMAT_F32, SHOAL_FORMAT_F32, SHOAL_FORMAT_F32},
        {SHOAL_FORMAT_BF16, SHOAL_FORMAT_BF16, SHOAL_FORMAT_BF16}};
    shoal_shard_carve(&f->shard, &f->arena, &f->placement, 0, N_EMBD, N_FF, format);
    shoal_ffn_carve(&f->ffn, &f->arena, &f->shard, N_SLOT);
}

static void open_fixture(fixture *f, int32_t n_thread)
{
    state_ = 3;
    shoal_log_init(&f->log, NULL, 0, "test");
    ck_assert_int_eq(
        shoal_placement_open(&f->placement, N_LAYER, N_EXPERT, 1, 1, NULL, NULL, &f->log),
        SHOAL_OK);
    shoal_arena_measure(&f->arena, "test");
    carve(f);
    ck_assert_int_eq(shoal_arena_open(&f->arena, &f->log), SHOAL_OK);
    carve(f);
    ck_assert_int_eq(shoal_kernels_select(&f->compute.kernels, "auto", &f->log), SHOAL_OK);
    ck_assert_int_eq(shoal_pool_open(&f->compute.pool, n_thread, &f->log), SHOAL_OK);
    for (int32_t l = 0; l < N_LAYER; l++) {
        for (int32_t e = 0; e < N_EXPERT; e++) {
            fill_matrix(&f->shard.layer[l].expert[e].gate);
            fill_matrix(&f->shard.layer[l].expert[e].up);
            fill_matrix(&f->shard.layer[l].expert[e].down);
        }
    }
    for (int32_t i = 0; i < N_ROW * N_EMBD; i++)
        f->row[i] = (float)uniform();
    for (int32_t i = 0; i < N_SLOT; i++) {
        f->slot_row[i] = draw(N_ROW);
        f->slot_expert[i] = draw(N_EXPERT - 1); /* the last expert has no slot */
    }
}

static void close_fixture(fixture *f)
{
    ck_assert(shoal_arena_check(&f->arena));
    shoal_pool_close(f->compute.pool);
    shoal_arena_close(&f->arena);
    shoal_placement_close(&f->placement);
}

static void oracle(double *y, const shoal_expert *expert, const float *x)
{
    double hidden[N_FF];
    for (int32_t i = 0; i < N_FF; i++) {
        double gate = 0, up = 0;
        for (int32_t c = 0; c < N_EMBD; c++) {
            gate += (double)shoal_matrix_at(&expert->gate, i, c) * (double)x[c];
            up += (double)shoal_matrix_at(&expert->up, i, c) * (double)x[c];
        }
        hidden[i] = gate / (1 + exp(-gate)) * up;
    }
    for (int32_t r = 0; r < N_EMBD; r++) {
        y[r] = 0;
        for (int32_t i = 0; i < N_FF; i++)
            y[r] += (double)shoal_matrix_at(&expert->down, r, i) * hidden[i];
    }
}

START_TEST(test_against_dense_oracle)
{
    static fixture f;
    static float done[N_SLOT * N_EMBD];
    open_fixture(&f, 1);
    for (int32_t l = 0; l < N_LAYER; l++) {
        shoal_experts_forward(done, &f.ffn, &f.shard, &f.compute, l, f.row, f.slot_row,
                              f.slot_expert, N_SLOT);
        for (int32_t i = 0; i < N_SLOT; i++) {
            double want[N_EMBD];
            oracle(want, &f.shard.layer[l].expert[f.slot_expert[i]],
                   f.row + f.slot_row[i] * N_EMBD);
            for (int32_t c = 0; c < N_EMBD; c++)
                ck_assert_float_eq_tol(done[i * N_EMBD + c], (float)want[c], 2e-5f);
        }
    }
    close_fixture(&f);
}
END_TEST

START_TEST(test_bits_do_not_depend_on_company)
{
    static fixture f, g;
    static float all[N_SLOT * N_EMBD], other[N_SLOT * N_EMBD];
    open_fixture(&f, 1);
    open_fixture(&g, 3);
    shoal_experts_forward(all, &f.ffn, &f.shard, &f.compute, 1, f.row, f.slot_row, f.slot_expert,
                          N_SLOT);
    /* other threads */
    shoal_experts_forward(other, &g.ffn, &g.shard, &g.compute, 1, g.row, g.slot_row, g.slot_expert,
                          N_SLOT);
    ck_assert_mem_eq(other, all, sizeof all);
    /* other order */
    int32_t row[N_SLOT], expert[N_SLOT];
    for (int32_t i = 0; i < N_SLOT; i++) {
        row[i] = f.slot_row[N_SLOT - 1 - i];
        expert[i] = f.slot_expert[N_SLOT - 1 - i];
    }
    shoal_experts_forward(other, &f.ffn, &f.shard, &f.compute, 1, f.row, row, expert, N_SLOT);
    for (int32_t i = 0; i < N_SLOT; i++)
        ck_assert_mem_eq(other + (N_SLOT - 1 - i) * N_EMBD, all + i * N_EMBD, N_EMBD * sizeof *all);
    /* alone, and in threes */
    for (int32_t n = 1; n <= 3; n += 2) {
        for (int32_t i = 0; i + n <= N_SLOT; i += n) {
            shoal_experts_forward(other, &g.ffn, &g.shard, &g.compute, 1, g.row, g.slot_row + i,
                                  g.slot_expert + i, n);
            ck_assert_mem_eq(other, all + i * N_EMBD, (size_t)n * N_EMBD * sizeof *all);
        }
    }
    close_fixture(&f);
    close_fixture(&g);
}
END_TEST

START_TEST(test_no_slot_and_one_busy_expert)
{
    static fixture f;
    static float done[N_SLOT * N_EMBD], alone[N_EMBD];
    open_fixture(&f, 2);
    done[0] = 17;
    shoal_experts_forward(done, &f.ffn, &f.shard, &f.compute, 0, f.row, f.slot_row, f.slot_expert,
                          0);
    ck_assert_float_eq(done[0], 17);
    int32_t expert[N_SLOT];
    for (int32_t i = 0; i < N_SLOT; i++)
        expert[i] = N_EXPERT - 1;
    shoal_experts_forward(done, &f.ffn, &f.shard, &f.compute, 0, f.row, f.slot_row, expert, N_SLOT);
    for (int32_t i = 0; i < N_SLOT; i++) {
        shoal_experts_forward(alone, &f.ffn, &f.shard, &f.compute, 0, f.row, f.slot_row + i, expert,
                              1);
        ck_assert_mem_eq(alone, done + i * N_EMBD, sizeof alone);
    }
    close_fixture(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_against_dense_oracle);
    SHOAL_TEST(suite, test_bits_do_not_depend_on_company);
    SHOAL_TEST(suite, test_no_slot_and_one_busy_expert);
}

SHOAL_TEST_MAIN("experts.ffn", add_tests)
