#include "tests/kernels/variants.h"

/* Lengths around the 16 lanes and the chunks of 64. */
static const int32_t length[] = {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 130, 576, 1003};
enum { N_LENGTH = (int)(sizeof length / sizeof length[0]), MAX_LENGTH = 1003 };

static float ulp(float x)
{
    return nextafterf(fabsf(x), INFINITY) - fabsf(x);
}

/* The table has no exp of its own, but attention shows its bits: a block whose maximum is 0 shrinks
 * an out of 1, under an old maximum of x, by exp(x - 0), and a value of 0 adds nothing. */
static float exp_through_attention(const shoal_kernels *k, float x)
{
    enum { D = 1 };
    float k_tile[SHOAL_ATTEND_BLOCK * D] = {0};
    float v_tile[SHOAL_ATTEND_BLOCK * D] = {0};
    shoal_attend_state state = {.max = x, .denom = 1};
    float out = 1, q = 0;
    const int32_t first = 0, last = 1;
    const shoal_attend_kv kv = {k_tile, v_tile, SHOAL_KV_F32, D, D, NULL};
    k->attend_block(&out, 1, &state, &q, 1, 1, &first, &last, 1.0f, &kv);
    return out;
}

START_TEST(exp_is_within_two_ulp)
{
    variants v = all_variants();
    source s = {3};
    for (int32_t i = 0; i < 60000; i++) {
        float x = -fabsf(draw_float(&s)) * (i % 3 == 0 ? 1.0f : i % 3 == 1 ? 20.0f : 104.0f);
        float got = exp_through_attention(v.kernels[v.n - 1], x);
        double want = exp((double)x);
        ck_assert_msg(fabs((double)got - want) <= 2 * (double)ulp((float)want),
                      "exp(%a) = %a, wanted %a", (double)x, (double)got, want);
    }
    for (int32_t i = 0; i < v.n; i++) {
        ck_assert(exp_through_attention(v.kernels[i], -INFINITY) == 0.0f);
        ck_assert(exp_through_attention(v.kernels[i], -104.5f) == 0.0f);
        ck_assert(exp_through_attention(v.kernels[i], -103.0f) == 0x1p-149f);
        ck_assert(exp_through_attention(v.kernels[i], -0.0f) == 1.0f);
    }
}
END_TEST

START_TEST(rms_norm_is_near_double)
{
    variants v = all_variants();
    source s = {4};
    float x[MAX_LENGTH], weight[MAX_LENGTH], y[MAX_LENGTH], want[MAX_LENGTH];
    for (int32_t j = 0; j < N_LENGTH; j++) {
        int32_t n = length[j];
        fill(x, n, &s);
        fill(weight, n, &s);
        double sum = 0;
        for (int32_t c = 0; c < n; c++)
            sum += (double)x[c] * (double)x[c];
        v.kernels[0]->rms_norm(want, x, weight, n, 1e-6f);
        for (int32_t c = 0; c < n; c++) {
            double exact = (double)weight[c] * (double)x[c] / sqrt(sum / n + 1e-6);
            ck_assert_double_le(fabs((double)want[c] - exact), 1e-6 * fabs(exact) + 1e-9);
        }
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->rms_norm(y, x, weight, n, 1e-6f);
            ASSERT_SAME(v.kernels[i], y, want, n);
            memcpy(y, x, sizeof y);
            v.kernels[i]->rms_norm(y, y, weight, n, 1e-6f);
            ASSERT_SAME(v.kernels[i], y, want, n);
        }
    }
}
END_TEST

START_TEST(rope_turns_pairs)
{
    variants v = all_variants();
    source s = {5};
    enum { MAX_ROT = 130 };
    for (int32_t n_rot = 2; n_rot <= MAX_ROT; n_rot += 4) {
        float x[MAX_ROT], cos_[MAX_ROT / 2], sin_[MAX_ROT / 2], half[MAX_ROT], pairs[MAX_ROT];
        fill(x, n_rot, &s);
        for (int32_t i = 0; i < n_rot / 2; i++) {
            double angle = 10 * (double)draw_float(&s);
            cos_[i] = (float)cos(angle);
            sin_[i] = (float)sin(angle);
        }
        for (int32_t i = 0; i < v.n; i++) {
            float y[MAX_ROT];
            memcpy(y, x, sizeof y);
            v.kernels[i]->rope_half(y, cos_, sin_, n_rot);
            if (i == 0)
                memcpy(half, y, sizeof y);
            ASSERT_SAME(v.kernels[i], y, half, n_rot);
            memcpy(y, x, sizeof y);
            v.kernels[i]->rope_interleaved(y, cos_, sin_, n_rot);
            if (i == 0)
                memcpy(pairs, y, sizeof y);
            ASSERT_SAME(v.kernels[i], y, pairs, n_rot);
        }
        for (int32_t i = 0; i < n_rot / 2; i++) {
            int32_t h = n_rot / 2;
            double c = (double)cos_[i], sn = (double)sin_[i];
            double a = (double)x[i], b = (double)x[i + h];
            ck_assert_double_eq_tol((double)half[i], a * c - b * sn, 1e-6);
            ck_assert_double_eq_tol((double)half[i + h], a * sn + b * c, 1e-6);
            a = (double)x[2 * i];
            b = (double)x[2 * i + 1];
            ck_assert_double_eq_tol((double)pairs[2 * i], a * c - b * sn, 1e-6);
            ck_assert_double_eq_tol((double)pairs[2 * i + 1], a * sn + b * c, 1e-6);
        }
    }
}
END_TEST

START_TEST(silu_and_sigmoid_are_near_double)
{
    variants v = all_variants();
    source s = {6};
    float gate[MAX_LENGTH], up[MAX_LENGTH], y[MAX_LENGTH], want[MAX_LENGTH];
    for (int32_t j = 0; j < N_LENGTH; j++) {
        int32_t n = length[j];
        fill(up, n, &s);
        for (int32_t i = 0; i < n; i++)
            gate[i] = draw_float(&s) * (i % 2 == 0 ? 3.0f : 120.0f);
        v.kernels[0]->silu_mul(want, gate, up, n);
        for (int32_t i = 0; i < n; i++) {
            double z = (double)gate[i];
            double exact = z / (1 + exp(-z)) * (double)up[i];
            ck_assert_double_le(fabs((double)want[i] - exact), 1e-6 * fabs(exact) + 1e-36);
        }
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->silu_mul(y, gate, up, n);
            ASSERT_SAME(v.kernels[i], y, want, n);
            memcpy(y, gate, sizeof y);
            v.kernels[i]->silu_mul(y, y, up, n);
            ASSERT_SAME(v.kernels[i], y, want, n);
        }
        memcpy(want, gate, sizeof want);
        v.kernels[0]->sigmoid(want, n);
        for (int32_t i = 0; i < n; i++) {
            double exact = 1 / (1 + exp(-(double)gate[i]));
            ck_assert_double_le(fabs((double)want[i] - exact), 1e-6 * exact + 1e-36);
        }
        for (int32_t i = 1; i < v.n; i++) {
            memcpy(y, gate, sizeof y);
            v.kernels[i]->sigmoid(y, n);
            ASSERT_SAME(v.kernels[i], y, want, n);
        }
    }
}
END_TEST

START_TEST(swiglu_clamped_is_near_double)
{
    variants v = all_variants();
    source s = {16};
    const double alpha = 1.702, limit = 7;
    float gate[MAX_LENGTH], up[MAX_LENGTH], y[MAX_LENGTH], want[MAX_LENGTH];
    for (int32_t j = 0; j < N_LENGTH; j++) {
        int32_t n = length[j];
        for (int32_t i = 0; i < n; i++) {
            gate[i] = draw_float(&s) * (i % 2 == 0 ? 3.0f : 60.0f);
            up[i] = draw_float(&s) * (i % 3 == 0 ? 14.0f : 5.0f);
        }
        v.kernels[0]->swiglu_clamped(want, gate, up, n, (float)alpha, (float)limit);
        for (int32_t i = 0; i < n; i++) {
            double g = fmin((double)gate[i], limit);
            double u = fmax(fmin((double)up[i], limit), -limit);
            double exact = (u + 1) * (g / (1 + exp(-alpha * g)));
            double tolerance = 1e-6 * (1 + fabs(alpha * g)) * (fabs(exact) + fabs(g) * 1e-7);
            ck_assert_double_le(fabs((double)want[i] - exact), tolerance + 1e-36);
        }
        for (int32_t i = 0; i < v.n; i++) {
            v.kernels[i]->swiglu_clamped(y, gate, up, n, (float)alpha, (float)limit);
            ASSERT_SAME(v.kernels[i], y, want, n);
            memcpy(y, up, sizeof y);
            v.kernels[i]->swiglu_clamped(y, gate, y, n, (float)alpha, (float)limit);
            ASSERT_SAME(v.kernels[i], y, want, n);
        }
    }
    const float edge_gate[] = {7, 8, INFINITY, -INFINITY, 0, -0.0f, 1e30f, -1e30f};
    const float edge_up[] = {-7, -8, INFINITY, 3, -INFINITY, 2, 1e30f, -1e30f};
    for (int32_t i = 0; i < v.n; i++) {
        float seven, edge[8];
        v.kernels[i]->swiglu_clamped(edge, edge_gate, edge_up, 8, (float)alpha, (float)limit);
        v.kernels[i]->swiglu_clamped(&seven, &edge_gate[0], &edge_gate[0], 1, (float)alpha, 7);
        ck_assert(edge[0] == edge[1] && edge[2] == seven && edge[6] == seven);
        ck_assert(isnan(edge[3])); /* -infinity / infinity, as in the reference class */
        ck_assert(edge[4] == 0.0f && edge[5] == 0.0f && edge[7] == 0.0f);
    }
}
END_TEST

START_TEST(add_and_axpy)
{
    variants v = all_variants();
    source s = {7};
    float x[MAX_LENGTH], y0[MAX_LENGTH], y[MAX_LENGTH], want[MAX_LENGTH], rounded[MAX_LENGTH];
    uint16_t half[MAX_LENGTH];
    for (int32_t i = 0; i < MAX_LENGTH; i++) {
        x[i] = draw_any(&s);
        y0[i] = draw_any(&s);
    }
    for (int32_t j = 0; j < N_LENGTH; j++) {
        int32_t n = length[j];
        for (int32_t i = 0; i < v.n; i++) {
            memcpy(y, y0, sizeof y);
            v.kernels[i]->add(y, x, n);
            for (int32_t c = 0; c < MAX_LENGTH; c++)
                want[c] = c < n ? y0[c] + x[c] : y0[c];
            ASSERT_SAME(v.kernels[i], y, want, MAX_LENGTH);
            memcpy(y, y0, sizeof y);
            v.kernels[i]->axpy(y, 0.3f, x, n);
            for (int32_t c = 0; c < MAX_LENGTH; c++)
                want[c] = c < n ? fmaf(0.3f, x[c], y0[c]) : y0[c];
            ASSERT_SAME(v.kernels[i], y, want, MAX_LENGTH);
            memcpy(y, y0, sizeof y);
            v.kernels[i]->to_bf16(half, x, n);
            v.kernels[i]->from_bf16(rounded, half, n);
            v.kernels[i]->axpy_bf16(y, 0.3f, half, n);
            for (int32_t c = 0; c < MAX_LENGTH; c++)
                want[c] = c < n ? fmaf(0.3f, rounded[c], y0[c]) : y0[c];
            ASSERT_SAME(v.kernels[i], y, want, MAX_LENGTH);
        }
    }
}
END_TEST

/* Rows of moderate, wide and equal values, with some -infinity among them. */
static void make_row(float *x, int32_t n, int32_t kind, source *s)
{
    for (int32_t i = 0; i < n; i++) {
        x[i] = kind == 0 ? draw_float(s) * 5 : kind == 1 ? draw_float(s) * 300 : -7.5f;
        if (i > 0 && draw(s) % 13 == 0)
            x[i] = -INFINITY;
    }
}

START_TEST(softmax_and_log_sum_exp_are_near_double)
{
    variants v = all_variants();
    source s = {8};
    float x[MAX_LENGTH], y[MAX_LENGTH], want[MAX_LENGTH];
    for (int32_t j = 0; j < N_LENGTH * 3; j++) {
        int32_t n = length[j / 3];
        make_row(x, n, j % 3, &s);
        double max = -INFINITY, sum = 0;
        for (int32_t i = 0; i < n; i++)
            max = max < (double)x[i] ? (double)x[i] : max;
        for (int32_t i = 0; i < n; i++)
            sum += exp((double)x[i] - max);
        memcpy(want, x, sizeof want);
        v.kernels[0]->softmax(want, n);
        for (int32_t i = 0; i < n; i++) {
            double exact = exp((double)x[i] - max) / sum;
            ck_assert_double_le(fabs((double)want[i] - exact), 1e-6 * exact + 1e-44);
        }
        double lse = v.kernels[0]->log_sum_exp(x, n);
        ck_assert_double_eq_tol(lse, max + log(sum), 1e-6);
        for (int32_t i = 1; i < v.n; i++) {
            memcpy(y, x, sizeof y);
            v.kernels[i]->softmax(y, n);
            ASSERT_SAME(v.kernels[i], y, want, n);
            double other = v.kernels[i]->log_sum_exp(x, n);
            ck_assert(other == lse);
        }
    }
}
END_TEST

START_TEST(extreme_rows_have_the_same_bits)
{
    variants v = all_variants();
    source s = {9};
    float x[MAX_LENGTH], up[MAX_LENGTH], y[6][MAX_LENGTH], want[6][MAX_LENGTH];
    for (int32_t round = 0; round < 50; round++) {
        for (int32_t i = 0; i < MAX_LENGTH; i++) {
            x[i] = draw_any(&s);
            up[i] = draw_any(&s);
        }
        for (int32_t i = 0; i < v.n; i++) {
            float(*row)[MAX_LENGTH] = i == 0 ? want : y;
            for (int32_t j = 0; j < 6; j++)
                memcpy(row[j], x, sizeof x);
            v.kernels[i]->rms_norm(row[0], row[0], up, MAX_LENGTH, 0x1p-100f);
            v.kernels[i]->softmax(row[1], MAX_LENGTH);
            v.kernels[i]->sigmoid(row[2], MAX_LENGTH);
            v.kernels[i]->silu_mul(row[3], row[3], up, MAX_LENGTH);
            v.kernels[i]->rope_half(row[4], up, x, 1002);
            v.kernels[i]->swiglu_clamped(row[5], up, row[5], MAX_LENGTH, 1.702f, 7);
            for (int32_t j = 0; j < 6; j++)
                ASSERT_SAME(v.kernels[i], row[j], want[j], MAX_LENGTH);
        }
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, exp_is_within_two_ulp);
    SHOAL_TEST(suite, rms_norm_is_near_double);
    SHOAL_TEST(suite, rope_turns_pairs);
    SHOAL_TEST(suite, silu_and_sigmoid_are_near_double);
    SHOAL_TEST(suite, swiglu_clamped_is_near_double);
    SHOAL_TEST(suite, add_and_axpy);
    SHOAL_TEST(suite, softmax_and_log_sum_exp_are_near_double);
    SHOAL_TEST(suite, extreme_rows_have_the_same_bits);
}

SHOAL_TEST_MAIN("kernels.rows", add_tests)
