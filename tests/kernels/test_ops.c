#include "runtime/kernels/ops.h"
#include "tests/kernels/variants.h"

static const int32_t n_thread[] = {1, 2, 3, 5};
enum { N_POOL = (int)(sizeof n_thread / sizeof n_thread[0]) };

typedef struct fixture {
    shoal_log log;
    shoal_compute compute[N_POOL];
    const shoal_kernels *kernels; /* the widest */
} fixture;

static void open_fixture(fixture *f)
{
    shoal_log_init(&f->log, NULL, 0, "test");
    ck_assert_int_eq(shoal_kernels_select(&f->kernels, "auto", &f->log), SHOAL_OK);
    for (int32_t i = 0; i < N_POOL; i++) {
        f->compute[i] = (shoal_compute){.kernels = f->kernels};
        ck_assert_int_eq(shoal_pool_open(&f->compute[i].pool, n_thread[i], &f->log), SHOAL_OK);
    }
}

static void close_fixture(fixture *f)
{
    for (int32_t i = 0; i < N_POOL; i++)
        shoal_pool_close(f->compute[i].pool);
}

/* Shapes that make one tile, many bands, and many token chunks. */
START_TEST(matmul_does_not_depend_on_threads)
{
    static const int32_t shape[][3] = {{1, 1, 1},       {50, 70, 3},     {1100, 1030, 1},
                                       {40, 2050, 300}, {300, 5000, 70}, {20, 30, 0}};
    fixture f;
    open_fixture(&f);
    for (size_t k = 0; k < sizeof shape / sizeof shape[0]; k++) {
        int32_t n_row = shape[k][0], n_col = shape[k][1], n_token = shape[k][2];
        source s = {k};
        shoal_matrix w = random_matrix(SHOAL_FORMAT_BF16, n_row, n_col, &s);
        float *x = floats((int64_t)n_token * n_col);
        float *y = floats((int64_t)n_token * n_row);
        float *want = floats((int64_t)n_token * n_row);
        fill(x, (int64_t)n_token * n_col, &s);
        f.kernels->matmul(want, n_row, &w, 0, shoal_matrix_n_band(&w), x, n_col, n_token);
        for (int32_t i = 0; i < N_POOL; i++) {
            memset(y, 0xff, (size_t)n_token * (size_t)n_row * sizeof(float));
            shoal_op_matmul(&f.compute[i], y, n_row, &w, x, n_col, n_token);
            ASSERT_SAME(f.kernels, y, want, (int64_t)n_token * n_row);
        }
        free(want);
        free(y);
        free(x);
        drop_matrix(&w);
    }
    close_fixture(&f);
}
END_TEST

/* As the experts of a layer: equal shapes, unequal and empty row counts, every format; biases on
 * some. */
START_TEST(many_products_in_one_job)
{
    enum { N_ITEM = 9, N_ROW = 70, N_COL = 288, MAX_TOKEN = 40 };
    static const int32_t n_token[N_ITEM] = {0, 1, 7, 0, 40, 2, 33, 1, 0};
    fixture f;
    open_fixture(&f);
    source s = {11};
    shoal_matrix w[N_ITEM];
    shoal_matmul_item item[N_ITEM];
    float bias[N_ROW];
    fill(bias, N_ROW, &s);
    float *x = floats(MAX_TOKEN * N_COL);
    float *y = floats(N_ITEM * MAX_TOKEN * N_ROW);
    float *want = floats(N_ITEM * MAX_TOKEN * N_ROW);
    fill(x, MAX_TOKEN * N_COL, &s);
    for (int32_t i = 0; i < N_ITEM; i++) {
        w[i] = random_matrix((shoal_format)(i % SHOAL_N_FORMAT), N_ROW, N_COL, &s);
        item[i] = (shoal_matmul_item){.y = y + i * MAX_TOKEN * N_ROW,
                                      .ld_y = N_ROW,
                                      .w = &w[i],
                                      .x = x,
                                      .ld_x = N_COL,
                                      .n_token = n_token[i],
                                      .bias = i % 3 == 0 ? NULL : bias};
        f.kernels->matmul(want + i * MAX_TOKEN * N_ROW, N_ROW, &w[i], 0, shoal_matrix_n_band(&w[i]),
                          x, N_COL, n_token[i]);
        for (int32_t t = 0; item[i].bias != NULL && t < n_token[i]; t++) {
            for (int32_t r = 0; r < N_ROW; r++)
                want[(i * MAX_TOKEN + t) * N_ROW + r] += bias[r];
        }
    }
    for (int32_t i = 0; i < N_POOL; i++) {
        memset(y, 0, N_ITEM * MAX_TOKEN * N_ROW * sizeof(float));
        shoal_op_matmul_many(&f.compute[i], item, N_ITEM);
        ASSERT_SAME(f.kernels, y, want, N_ITEM * MAX_TOKEN * N_ROW);
        shoal_op_matmul_many(&f.compute[i], item, 0);
    }
    for (int32_t i = 0; i < N_ITEM; i++)
        drop_matrix(&w[i]);
    free(want);
    free(y);
    free(x);
    close_fixture(&f);
}
END_TEST

/* Integer products beside others, more items than one job takes, token counts as routing makes
 * them, some with more tokens than share a pass over the weights. Bands without an item's own tiles
 * and items of many tiles are both there. */
START_TEST(integer_products_do_not_depend_on_threads)
{
    enum { N_ITEM = 1100, N_ROW = 50, N_COL = 100, N_GROUP = 4, MAX_TOKEN = 300 };
    fixture f;
    open_fixture(&f);
    source s = {13};
    shoal_matrix w[SHOAL_N_FORMAT];
    for (int32_t k = 0; k < SHOAL_N_FORMAT; k++)
        w[k] = random_matrix((shoal_format)k, N_ROW, columns((shoal_format)k, N_COL), &s);
    float *x = floats(MAX_TOKEN * N_GROUP * 32);
    shoal_int8_group *groups = room(MAX_TOKEN * N_GROUP * sizeof *groups);
    fill(x, MAX_TOKEN * N_GROUP * 32, &s);
    shoal_matmul_item *item = room(N_ITEM * sizeof *item);
    int64_t n_y = 0;
    for (int32_t i = 0; i < N_ITEM; i++) {
        int32_t n_token = i % 97 == 5 ? MAX_TOKEN - i % 7 : (int32_t)(draw(&s) % 5);
        item[i] = (shoal_matmul_item){.ld_y = N_ROW,
                                      .w = &w[draw(&s) % SHOAL_N_FORMAT],
                                      .x = x,
                                      .ld_x = N_GROUP * 32,
                                      .n_token = n_token,
                                      .x_int8 = i % 4 == 0 ? NULL : groups,
                                      .ld_x_int8 = N_GROUP};
        n_y += n_token * N_ROW;
    }
    float *y = floats(n_y);
    float *want = floats(n_y);
    for (int32_t t = 0; t < MAX_TOKEN; t++)
        f.kernels->to_groups(groups + t * N_GROUP, x + t * N_GROUP * 32, N_COL);
    float *at = want;
    for (int32_t i = 0; i < N_ITEM; i++) {
        const shoal_matmul_item *p = &item[i];
        item[i].y = y + (at - want);
        if (p->x_int8 != NULL && shoal_format_is_quantised(p->w->format))
            f.kernels->matmul_int8(at, N_ROW, p->w, 0, 4, groups, N_GROUP, p->n_token);
        else
            f.kernels->matmul(at, N_ROW, p->w, 0, 4, x, N_GROUP * 32, p->n_token);
        at += p->n_token * N_ROW;
    }
    for (int32_t i = 0; i < N_POOL; i++) {
        memset(y, 0xff, (size_t)n_y * sizeof(float));
        shoal_op_matmul_many(&f.compute[i], item, N_ITEM);
        ASSERT_SAME(f.kernels, y, want, n_y);
    }
    free(want);
    free(y);
    free(item);
    free(groups);
    free(x);
    for (int32_t k = 0; k < SHOAL_N_FORMAT; k++)
        drop_matrix(&w[k]);
    close_fixture(&f);
}
END_TEST

/* Rows longer than the piece that an activation is made in, with a short last group. */
START_TEST(groups_do_not_depend_on_threads)
{
    enum { N_ROW = 23, N_COL = 1100, LD = 1111, N_GROUP = 35, LD_Y = 36 };
    fixture f;
    open_fixture(&f);
    source s = {14};
    const shoal_activation kind[] = {{0}, {SHOAL_ACTIVATION_SWIGLU_CLAMPED, 1.5f, 0.25f}};
    float *gate = floats(N_ROW * LD);
    float *up = floats(N_ROW * LD);
    float *row = floats(N_COL);
    const size_t n_bytes = N_ROW * LD_Y * sizeof(shoal_int8_group);
    shoal_int8_group *y = room(n_bytes);
    shoal_int8_group *want = room(n_bytes);
    fill(gate, N_ROW * LD, &s);
    fill(up, N_ROW * LD, &s);
    for (int32_t i = 0; i < N_POOL; i++) {
        memset(y, 0x5a, n_bytes);
        memset(want, 0x5a, n_bytes);
        for (int32_t r = 0; r < N_ROW; r++)
            f.kernels->to_groups(want + r * LD_Y, gate + r * LD, N_COL);
        shoal_op_to_groups(&f.compute[i], y, LD_Y, gate, LD, N_ROW, N_COL);
        shoal_op_to_groups(&f.compute[i], y, LD_Y, gate, LD, 0, N_COL);
        ck_assert(memcmp(y, want, n_bytes) == 0);
        for (size_t k = 0; k < 2; k++) {
            for (int32_t r = 0; r < N_ROW; r++) {
                shoal_op_activate(&f.compute[0], &kind[k], row, gate + r * LD, up + r * LD, N_COL);
                f.kernels->to_groups(want + r * LD_Y, row, N_COL);
            }
            shoal_op_activate_groups(&f.compute[i], &kind[k], y, LD_Y, gate, up, LD, N_ROW, N_COL);
            ck_assert(memcmp(y, want, n_bytes) == 0);
        }
    }
    free(want);
    free(y);
    free(row);
    free(up);
    free(gate);
    close_fixture(&f);
}
END_TEST

START_TEST(norm_and_activation_do_not_depend_on_threads)
{
    enum { N_ROW = 37, N_COL = 1100, LD = 1111 };
    fixture f;
    open_fixture(&f);
    source s = {12};
    float *x = floats(N_ROW * LD);
    float *up = floats(N_ROW * LD);
    float *y = floats(N_ROW * LD);
    float *norm = floats(N_ROW * LD);
    float *silu = floats(N_ROW * LD);
    float *clamped = floats(N_ROW * LD);
    const shoal_activation none = {0};
    const shoal_activation clamp = {SHOAL_ACTIVATION_SWIGLU_CLAMPED, 1.5f, 0.25f};
    fill(x, N_ROW * LD, &s);
    fill(up, N_ROW * LD, &s);
    memcpy(norm, x, N_ROW * LD * sizeof(float));
    for (int32_t r = 0; r < N_ROW; r++)
        f.kernels->rms_norm(norm + r * LD, x + r * LD, up, N_COL, 1e-5f);
    f.kernels->silu_mul(silu, x, up, N_ROW * LD);
    f.kernels->swiglu_clamped(clamped, x, up, N_ROW * LD, 1.5f, 0.25f);
    for (int32_t i = 0; i < N_POOL; i++) {
        memcpy(y, x, N_ROW * LD * sizeof(float));
        shoal_op_rms_norm(&f.compute[i], y, LD, y, LD, up, N_ROW, N_COL, 1e-5f);
        ASSERT_SAME(f.kernels, y, norm, N_ROW * LD);
        shoal_op_activate(&f.compute[i], &clamp, y, x, up, N_ROW * LD);
        ASSERT_SAME(f.kernels, y, clamped, N_ROW * LD);
        shoal_op_activate(&f.compute[i], &none, y, x, up, N_ROW * LD);
        ASSERT_SAME(f.kernels, y, silu, N_ROW * LD);
        shoal_op_rms_norm(&f.compute[i], y, LD, y, LD, up, 0, N_COL, 1e-5f);
        shoal_op_activate(&f.compute[i], &none, y, x, up, 0);
        ASSERT_SAME(f.kernels, y, silu, N_ROW * LD);
    }
    free(clamped);
    free(silu);
    free(norm);
    free(y);
    free(up);
    free(x);
    close_fixture(&f);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, matmul_does_not_depend_on_threads);
    SHOAL_TEST(suite, many_products_in_one_job);
    SHOAL_TEST(suite, integer_products_do_not_depend_on_threads);
    SHOAL_TEST(suite, groups_do_not_depend_on_threads);
    SHOAL_TEST(suite, norm_and_activation_do_not_depend_on_threads);
}

SHOAL_TEST_MAIN("kernels.ops", add_tests)
