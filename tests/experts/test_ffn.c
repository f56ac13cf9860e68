/* The grouped expert MLP against a dense oracle in double precision, and against itself: a slot's
 * bits depend on nothing but its row and its expert. */
#include "experts/ffn.h"
#include "tests/support/check_main.h"

#include <math.h>
#include <string.h>

enum {
    N_LAYER = 3,
    N_EXPERT = 7,
    N_EMBD = 96,
    N_FF = 64,
    N_ROW = 12,
    MXFP4_LAYER = 2,
    N_SLOT = SHOAL_FFN_BATCH + 77, /* more than one batch */
    N_THREE = 100,
};

#define ALPHA 1.702f
#define LIMIT 0.9f

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
    shoal_expert_shape shape;
    shoal_shard shard;
    shoal_ffn ffn;
    shoal_compute compute;
    bool fast;
    float row[N_ROW * N_EMBD];
    shoal_int8_group row_int8[N_ROW * (N_EMBD / SHOAL_GROUP + 1)];
    int32_t slot_row[N_SLOT], slot_expert[N_SLOT];
} fixture;

static void fill_mxfp4(shoal_matrix *w)
{
    static uint8_t blocks[N_EMBD * N_EMBD / 2], scales[N_EMBD * N_EMBD / 32];
    int32_t n = w->n_row * w->n_col;
    for (int32_t i = 0; i < n / 2; i++)
        blocks[i] = (uint8_t)draw(256);
    for (int32_t i = 0; i < n / 32; i++)
        scales[i] = (uint8_t)(122 + draw(3)); /* at most 6 / 8 */
    shoal_matrix_pack_mxfp4(w, 0, w->n_row, blocks, scales);
}

static void fill_bias(float *bias, int32_t n)
{
    for (int32_t i = 0; bias != NULL && i < n; i++)
        bias[i] = (float)uniform();
}

static void fill_matrix(shoal_matrix *w)
{
    static uint16_t bf16[N_EMBD * N_EMBD];
    static float f32[N_EMBD * N_EMBD];
    for (int32_t i = 0; i < w->n_row * w->n_col; i++) {
        f32[i] = (float)(uniform() * 0.3);
        bf16[i] = shoal_f32_to_bf16(f32[i]);
    }
    if (w->format == SHOAL_FORMAT_MXFP4) {
        fill_mxfp4(w);
        return;
    }
    shoal_matrix_pack(w, 0, w->n_row, w->format == SHOAL_FORMAT_F32 ? (void *)f32 : (void *)bf16);
}

static void carve(fixture *f)
{
    const shoal_expert_format format[N_LAYER] = {
        {SHOAL_FORMAT_F32, SHOAL_FORMAT_F32, SHOAL_FORMAT_F32},
        {SHOAL_FORMAT_BF16, SHOAL_FORMAT_BF16, SHOAL_FORMAT_BF16},
        {SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_MXFP4}};
    const shoal_shard_plan plan = {.placement = &f->placement, .shape = f->shape, .format = format};
    shoal_shard_carve(&f->shard, shoal_arenas_same(&f->arena), &plan);
    shoal_ffn_carve(&f->ffn, shoal_arenas_same(&f->arena), &f->shard, N_SLOT, f->fast);
}

/* As gpt-oss: biases, the clamped activation with a limit that is reached. */
static void open_fixture(fixture *f, int32_t n_thread, bool gpt_oss, bool fast)
{
    state_ = 3;
    f->fast = fast;
    f->shape = (shoal_expert_shape){.n_embd = N_EMBD, .n_ff = N_FF, .has_bias = gpt_oss};
    if (gpt_oss)
        f->shape.activation = (shoal_activation){SHOAL_ACTIVATION_SWIGLU_CLAMPED, ALPHA, LIMIT};
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
            fill_bias(f->shard.layer[l].expert[e].gate_bias, N_FF);
            fill_bias(f->shard.layer[l].expert[e].up_bias, N_FF);
            fill_bias(f->shard.layer[l].expert[e].down_bias, N_EMBD);
        }
    }
    for (int32_t i = 0; i < N_ROW * N_EMBD; i++)
        f->row[i] = (float)uniform();
    int32_t n_group = shoal_int8_groups(N_EMBD);
    for (int32_t i = 0; i < N_ROW; i++)
        f->compute.kernels->to_groups(f->row_int8 + i * n_group, f->row + i * N_EMBD, N_EMBD);
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

/* done in the order of the slots. int8: the rows come as integers. */
static void forward(float *done, fixture *f, int32_t layer, bool int8, const int32_t *slot_row,
                    const int32_t *slot_expert, int32_t n_slot)
{
    static float by_expert[N_SLOT * N_EMBD];
    int32_t slot_done[N_SLOT];
    const shoal_expert_slots slots = {
        .rows = {.f32 = int8 ? NULL : f->row, .int8 = int8 ? f->row_int8 : NULL},
        .slot_row = slot_row,
        .slot_expert = slot_expert,
        .slot_done = slot_done,
        .n_slot = n_slot};
    shoal_experts_forward(by_expert, &f->ffn, &f->shard, &f->compute, layer, &slots);
    for (int32_t i = 0; i < n_slot; i++)
        memcpy(done + i * N_EMBD, by_expert + slot_done[i] * N_EMBD, N_EMBD * sizeof *done);
}

static double activate(const shoal_activation *a, double gate, double up)
{
    if (a->kind == SHOAL_ACTIVATION_SILU)
        return gate / (1 + exp(-gate)) * up;
    gate = fmin(gate, (double)LIMIT);
    up = fmax(fmin(up, (double)LIMIT), (double)-LIMIT);
    return (up + 1) * gate / (1 + exp(-(double)ALPHA * gate));
}

static void oracle(double *y, const shoal_shard *shard, const shoal_expert *expert, const float *x)
{
    bool has_bias = shard->shape.has_bias;
    double hidden[N_FF];
    for (int32_t i = 0; i < N_FF; i++) {
        double gate = has_bias ? (double)expert->gate_bias[i] : 0;
        double up = has_bias ? (double)expert->up_bias[i] : 0;
        for (int32_t c = 0; c < N_EMBD; c++) {
            gate += (double)shoal_matrix_at(&expert->gate, i, c) * (double)x[c];
            up += (double)shoal_matrix_at(&expert->up, i, c) * (double)x[c];
        }
        hidden[i] = activate(&shard->shape.activation, gate, up);
    }
    for (int32_t r = 0; r < N_EMBD; r++) {
        y[r] = has_bias ? (double)expert->down_bias[r] : 0;
        for (int32_t i = 0; i < N_FF; i++)
            y[r] += (double)shoal_matrix_at(&expert->down, r, i) * hidden[i];
    }
}

/* Integers of 8 bits take part with errors of 1 / 254 of the largest of their group. */
static void check_against_oracle(bool gpt_oss, bool fast, bool int8)
{
    static fixture f;
    static float done[N_SLOT * N_EMBD];
    static double want_all[N_ROW][N_EXPERT][N_EMBD];
    open_fixture(&f, 1, gpt_oss, fast);
    for (int32_t l = int8 ? MXFP4_LAYER : 0; l < N_LAYER; l++) {
        forward(done, &f, l, int8, f.slot_row, f.slot_expert, N_SLOT);
        for (int32_t row = 0; row < N_ROW; row++) /* many slots are of one row and expert */
            for (int32_t e = 0; e < N_EXPERT; e++)
                oracle(want_all[row][e], &f.shard, &f.shard.layer[l].expert[e],
                       f.row + row * N_EMBD);
        for (int32_t i = 0; i < N_SLOT; i++) {
            const double *want = want_all[f.slot_row[i]][f.slot_expert[i]];
            double largest = 0;
            for (int32_t c = 0; c < N_EMBD; c++)
                largest = fmax(largest, fabs(want[c]));
            double tolerance = fast && l == MXFP4_LAYER ? 0.03 * largest : 1e-4;
            for (int32_t c = 0; c < N_EMBD; c++)
                ck_assert_double_eq_tol((double)done[i * N_EMBD + c], want[c], tolerance);
        }
    }
    close_fixture(&f);
}

START_TEST(test_against_dense_oracle)
{
    for (int gpt_oss = 0; gpt_oss < 2; gpt_oss++) {
        check_against_oracle(gpt_oss != 0, false, false);
        check_against_oracle(gpt_oss != 0, true, false);
        check_against_oracle(gpt_oss != 0, true, true);
    }
}
END_TEST

/* Integer rows give the same bits whether they come as integers or are made of the same f32. */
static void check_company(bool gpt_oss, bool fast)
{
    static fixture f, g;
    static float all[N_SLOT * N_EMBD], other[N_SLOT * N_EMBD];
    int32_t layer = fast ? MXFP4_LAYER : 1;
    open_fixture(&f, 1, gpt_oss, fast);
    open_fixture(&g, 3, gpt_oss, fast);
    forward(all, &f, layer, fast, f.slot_row, f.slot_expert, N_SLOT);
    /* other threads */
    forward(other, &g, layer, false, g.slot_row, g.slot_expert, N_SLOT);
    ck_assert_mem_eq(other, all, sizeof all);
    /* other order */
    int32_t row[N_SLOT], expert[N_SLOT];
    for (int32_t i = 0; i < N_SLOT; i++) {
        row[i] = f.slot_row[N_SLOT - 1 - i];
        expert[i] = f.slot_expert[N_SLOT - 1 - i];
    }
    forward(other, &f, layer, fast, row, expert, N_SLOT);
    for (int32_t i = 0; i < N_SLOT; i++)
        ck_assert_mem_eq(other + (N_SLOT - 1 - i) * N_EMBD, all + i * N_EMBD, N_EMBD * sizeof *all);
    /* each row and expert alone, and threes of them */
    bool seen[N_ROW][N_EXPERT] = {{false}};
    for (int32_t i = 0; i < N_SLOT; i++) {
        bool *again = &seen[g.slot_row[i]][g.slot_expert[i]];
        if (!*again)
            forward(other, &g, layer, fast, g.slot_row + i, g.slot_expert + i, 1);
        ck_assert(*again || memcmp(other, all + i * N_EMBD, N_EMBD * sizeof *all) == 0);
        *again = true;
    }
    for (int32_t i = 0; i < 3 * N_THREE; i += 3) {
        forward(other, &g, layer, fast, g.slot_row + i, g.slot_expert + i, 3);
        ck_assert_mem_eq(other, all + i * N_EMBD, 3 * N_EMBD * sizeof *all);
    }
    close_fixture(&f);
    close_fixture(&g);
}

START_TEST(test_bits_do_not_depend_on_company)
{
    check_company(false, false);
    check_company(true, false);
    check_company(false, true);
    check_company(true, true);
}
END_TEST

/* Rows that lie one behind the other are not copied, others are: no difference. */
START_TEST(test_no_slot_and_one_busy_expert)
{
    static fixture f;
    static float done[N_SLOT * N_EMBD], alone[N_EMBD];
    for (int fast = 0; fast < 2; fast++) {
        int32_t layer = fast ? MXFP4_LAYER : 0, row[N_SLOT], expert[N_SLOT];
        open_fixture(&f, 2, false, fast != 0);
        done[0] = 17;
        forward(done, &f, layer, fast != 0, f.slot_row, f.slot_expert, 0);
        ck_assert_float_eq(done[0], 17);
        for (int neighbours = 0; neighbours < 2; neighbours++) {
            int32_t n = neighbours && N_ROW < N_SLOT ? N_ROW : N_SLOT;
            for (int32_t i = 0; i < n; i++) {
                expert[i] = N_EXPERT - 1;
                row[i] = neighbours ? i : f.slot_row[i];
            }
            forward(done, &f, layer, fast != 0, row, expert, n);
            for (int32_t r = 0; r < N_ROW; r++) {
                forward(alone, &f, layer, fast != 0, &r, expert, 1);
                for (int32_t i = 0; i < n; i++)
                    if (row[i] == r)
                        ck_assert_mem_eq(alone, done + i * N_EMBD, sizeof alone);
            }
        }
        close_fixture(&f);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, test_against_dense_oracle);
    SHOAL_TEST(suite, test_bits_do_not_depend_on_company);
    SHOAL_TEST(suite, test_no_slot_and_one_busy_expert);
}

SHOAL_TEST_MAIN("experts.ffn", add_tests)
