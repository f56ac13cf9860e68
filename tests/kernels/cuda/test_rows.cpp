/* What is done to rows on a device, and the router's choice, against the CPU's. What is a formula
 * of one number has the CPU's bits. */
#include "tests/kernels/cuda/both.h"

START_TEST(norms)
{
    both b(1);
    for (int32_t n_col : {1, 7, 64, 300, 2048}) {
        for (int32_t n_row : {0, 1, 5}) {
            const int64_t ld = n_col + 2, n = n_row * ld;
            std::vector<float> x = some_values(n, 3), weight = some_values(n_col, 4);
            float *at = b.vram(x), *other = b.vram<float>(nullptr, (size_t)n);
            const float *scales = b.vram(weight);
            shoal_op_rms_norm(&b.device, other, ld, at, ld, scales, n_row, n_col, 1e-6F);
            shoal_op_rms_norm(&b.device, at, ld, at, ld, scales, n_row, n_col, 1e-6F);
            shoal_op_rms_norm(&b.cpu, x.data(), ld, x.data(), ld, weight.data(), n_row, n_col,
                              1e-6F);
            const std::vector<float> got = b.back(at, x.size()), apart = b.back(other, x.size());
            assert_near(got, x, SHOAL_TOLERANCE_NORM);
            for (int64_t i = 0; i < n; i++)
                ck_assert(i % ld >= n_col || got[(size_t)i] == apart[(size_t)i]);
        }
    }
}
END_TEST

static const shoal_activation both_kinds[] = {{SHOAL_ACTIVATION_SILU, 0.0F, 0.0F},
                                              {SHOAL_ACTIVATION_SWIGLU_CLAMPED, 1.702F, 7.0F}};

static std::vector<float> gates(int64_t n)
{
    std::vector<float> gate = some_values(n, 5);
    for (size_t i = 0; i < gate.size(); i++)
        gate[i] *= i % 3 == 0 ? 120.0F : 6.0F;
    return gate;
}

START_TEST(activations)
{
    both b(2);
    for (const shoal_activation &kind : both_kinds) {
        for (int64_t n : {0, 1, 1000}) {
            std::vector<float> gate = gates(n), up = some_values(n, 6);
            float *on_device = b.vram(gate);
            shoal_op_activate(&b.device, &kind, on_device, on_device, b.vram(up), n);
            shoal_op_activate(&b.cpu, &kind, gate.data(), gate.data(), up.data(), n);
            assert_same(b.back(on_device, gate.size()), gate);
        }
    }
}
END_TEST

/* Rows as integers, as they are or behind an activation. */
static void assert_groups(both &b, int32_t n_row, int32_t n_col, const shoal_activation *kind)
{
    const int64_t ld = n_col + 1, n = n_row * ld, ld_y = shoal_int8_groups(n_col) + 1;
    std::vector<float> x = gates(n), up = some_values(n, 8);
    for (int32_t i = 0; i < 32 && i < n_col && n_row > 0; i++)
        x[(size_t)i] = 0.0F; /* a group without a scale */
    if (n_row > 1 && kind == nullptr)
        x[(size_t)ld] = NAN, x[(size_t)ld + 2] = INFINITY;
    shoal_int8_group unset;
    memset(&unset, 0x11, sizeof unset);
    std::vector<shoal_int8_group> want((size_t)(n_row * ld_y), unset);
    shoal_int8_group *y = b.vram(want);
    const float *on_device = b.vram(x);
    if (kind == nullptr) {
        shoal_op_to_groups(&b.device, y, ld_y, on_device, ld, n_row, n_col);
        shoal_op_to_groups(&b.cpu, want.data(), ld_y, x.data(), ld, n_row, n_col);
    } else {
        shoal_op_activate_groups(&b.device, kind, y, ld_y, on_device, b.vram(up), ld, n_row, n_col);
        shoal_op_activate_groups(&b.cpu, kind, want.data(), ld_y, x.data(), up.data(), ld, n_row,
                                 n_col);
    }
    assert_same(b.back(y, want.size()), want);
}

START_TEST(integers)
{
    both b(3);
    for (int32_t n_col : {3, 32, 70, 129, 512, 1100}) {
        for (int32_t n_row : {0, 1, 4}) {
            assert_groups(b, n_row, n_col, nullptr);
            assert_groups(b, n_row, n_col, &both_kinds[0]);
            assert_groups(b, n_row, n_col, &both_kinds[1]);
        }
    }
}
END_TEST

START_TEST(sums)
{
    both b(4);
    for (int64_t n : {0, 1, 777}) {
        for (float multiplier : {1.0F, 0.22F}) {
            for (bool shared : {false, true}) {
                std::vector<float> x = some_values(n, 9), acc = some_values(n, 10),
                                   more = some_values(n, 11);
                float *on_device = b.vram(x), *acc_device = b.vram(acc);
                const float *more_device = shared ? b.vram(more) : nullptr;
                shoal_op_add_residual(&b.device, on_device, acc_device, more_device, multiplier, n);
                shoal_op_add_residual(&b.cpu, x.data(), acc.data(), shared ? more.data() : nullptr,
                                      multiplier, n);
                assert_same(b.back(on_device, x.size()), x);
            }
        }
        std::vector<float> y = some_values(n, 12);
        float *on_device = b.vram(y);
        shoal_op_scale(&b.device, on_device, 0.3F, n);
        shoal_op_scale(&b.cpu, y.data(), 0.3F, n);
        assert_same(b.back(on_device, y.size()), y);
    }
}
END_TEST

START_TEST(gated_rows)
{
    both b(5);
    for (int32_t n_row : {0, 1, 7}) {
        const int32_t n_col = 93;
        std::vector<float> y = some_values(n_row * n_col, 13), gate = some_values(n_row, 14);
        float *on_device = b.vram(y);
        shoal_op_gate_rows(&b.device, on_device, b.vram(gate), n_row, n_col);
        shoal_op_gate_rows(&b.cpu, y.data(), gate.data(), n_row, n_col);
        assert_same(b.back(on_device, y.size()), y);
    }
}
END_TEST

/* What is gathered, of rows in which form. */
struct gather_case {
    bool f32, int8, from_int8, to;
};

static void assert_gather(both &b, const gather_case &c, int32_t n_row, int32_t n_col)
{
    enum { N_FROM = 9 };
    const int64_t n_group = shoal_int8_groups(n_col);
    const size_t n = (size_t)n_row * (size_t)n_col, n_int8 = (size_t)(n_row * n_group);
    const std::vector<float> from = some_values(N_FROM * n_col, 15);
    const shoal_int8_group *groups = cpu_groups(from.data(), N_FROM, n_col);
    std::vector<float> f32(n, -1.0F);
    std::vector<shoal_int8_group> int8(n_int8);
    std::vector<int32_t> row, to;
    for (int32_t i = 0; i < n_row; i++) {
        row.push_back((i * 5 + 2) % N_FROM);
        to.push_back(n_row - 1 - i);
    }
    shoal_gather g = {};
    g.f32 = c.f32 ? f32.data() : nullptr, g.int8 = c.int8 ? int8.data() : nullptr;
    g.from.f32 = from.data(), g.from.int8 = c.from_int8 ? groups : nullptr;
    g.to = c.to ? to.data() : nullptr, g.row = row.data();
    g.n_row = n_row, g.n_col = n_col;
    shoal_gather d = g;
    d.f32 = c.f32 ? b.vram<float>(nullptr, n) : nullptr;
    d.int8 = c.int8 ? b.vram<shoal_int8_group>(nullptr, n_int8) : nullptr;
    d.from.f32 = c.from_int8 && !c.f32 ? nullptr : b.vram(from);
    d.from.int8 = c.from_int8 ? b.vram(groups, (size_t)(N_FROM * n_group)) : nullptr;
    shoal_op_gather(&b.cpu, &g);
    shoal_op_gather(&b.device, &d);
    for (int32_t i = 0; i < n_row; i++) /* the lists are the caller's again at once */
        row[(size_t)i] = to[(size_t)i] = 1 << 30;
    if (c.f32)
        assert_same(b.back(d.f32, n), f32);
    if (c.int8)
        assert_same(b.back(d.int8, n_int8), int8);
}

/* The same tokens in the same order: ties, NaN and -infinity among them. */
START_TEST(largest_logits)
{
    both b(9);
    for (int32_t n_vocab : {1, 5, 300, 3000}) {
        for (int32_t n_row : {0, 1, 3}) {
            std::vector<float> logits = some_values((int64_t)n_row * n_vocab, 21);
            for (size_t i = 0; i < logits.size(); i++) {
                logits[i] = i % 7 == 0 ? (i % 2 == 0 ? NAN : -INFINITY) : roundf(logits[i] * 8.0F);
            }
            for (int32_t k : {1, 4, SHOAL_LARGEST_MAX}) {
                if (k > n_vocab)
                    continue;
                std::vector<shoal_logit> want((size_t)(n_row * k));
                shoal_largest l = {want.data(), logits.data(), n_row, n_vocab, k};
                shoal_op_largest(&b.cpu, &l);
                l.out = b.pinned<shoal_logit>(nullptr, want.size());
                l.logits = b.vram(logits);
                shoal_op_largest(&b.device, &l);
                b.sync();
                for (size_t i = 0; i < want.size(); i++)
                    ck_assert_int_eq(l.out[i].token, want[i].token);
            }
        }
    }
}
END_TEST

START_TEST(gathered_rows)
{
    static const gather_case cases[] = {{true, false, false, false}, {true, false, true, true},
                                        {false, true, true, false},  {false, true, true, true},
                                        {false, true, false, true},  {true, true, true, true},
                                        {true, true, false, false}};
    both b(6);
    for (const gather_case &c : cases)
        for (int32_t n_row : {0, 1, 13})
            for (int32_t n_col : {6, 70, 1056})
                assert_gather(b, c, n_row, n_col);
}
END_TEST

/* Lists that are longer than a room of the ring. */
START_TEST(long_lists)
{
    both b(7);
    assert_gather(b, {true, false, false, false}, 16400, 1);
    assert_gather(b, {true, true, false, true}, 8200, 3);
}
END_TEST

static void assert_route(both &b, const shoal_router_config *config, const float *bias, bool broken,
                         int32_t n_row)
{
    const size_t n = (size_t)(n_row * config->top_k), n_logit = (size_t)(n_row * config->n_expert);
    std::vector<float> logits = some_values((int64_t)n_logit, 21 + (uint64_t)config->n_expert),
                       weight(n);
    std::vector<int32_t> expert(n);
    for (float &x : logits)
        x *= 3.0F;
    for (int32_t e = 0; broken && e < config->n_expert; e++) { /* a row of nothing, one of ties */
        logits[(size_t)e] = NAN;
        logits[(size_t)(config->n_expert + e)] = 0.5F;
    }
    shoal_route_step cpu = {expert.data(), weight.data(), config, logits.data(), bias, n_row};
    shoal_route_step step = cpu;
    step.expert = b.pinned<int32_t>(nullptr, n);
    step.weight = b.pinned<float>(nullptr, n);
    step.logits = b.vram(logits);
    step.select_bias = bias != nullptr ? b.vram(bias, (size_t)config->n_expert) : nullptr;
    shoal_op_route(&b.cpu, &cpu);
    shoal_op_route(&b.device, &step);
    b.sync();
    assert_same(std::vector<int32_t>(step.expert, step.expert + n), expert);
    const size_t skip = broken ? (size_t)config->top_k : 0; /* weights of a broken row: anything */
    assert_near(std::vector<float>(step.weight + skip, step.weight + n),
                std::vector<float>(weight.begin() + (ptrdiff_t)skip, weight.end()),
                SHOAL_TOLERANCE_ROUTE);
}

START_TEST(routes)
{
    static const shoal_router_config v3 = {
        256, 8, SHOAL_ROUTER_SIGMOID, 8, 4, SHOAL_GROUP_TOP2_SUM, -INFINITY, true, 2.5F};
    static const shoal_router_config v2 = {
        160, 6, SHOAL_ROUTER_SOFTMAX, 8, 3, SHOAL_GROUP_MAX, 0.0F, false, 16.0F};
    static const shoal_router_config qwen = {
        128, 8, SHOAL_ROUTER_SOFTMAX, 1, 1, SHOAL_GROUP_MAX, 0.0F, true, 1.0F};
    static const shoal_router_config gpt = {
        32, 4, SHOAL_ROUTER_SOFTMAX_OF_TOPK, 1, 1, SHOAL_GROUP_MAX, 0.0F, false, 1.0F};
    static const shoal_router_config one = {
        1, 1, SHOAL_ROUTER_SIGMOID, 1, 1, SHOAL_GROUP_MAX, 0.0F, true, 1.0F};
    static const shoal_router_config most = {SHOAL_MAX_EXPERT,
                                             SHOAL_MAX_TOP_K,
                                             SHOAL_ROUTER_SOFTMAX,
                                             1,
                                             1,
                                             SHOAL_GROUP_MAX,
                                             0.0F,
                                             true,
                                             1.0F};
    const float *bias = cpu_values(256, 31);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        both b(seed);
        for (int32_t n_row : {0, 1, 9}) {
            assert_route(b, &v3, bias, false, n_row);
            assert_route(b, &v2, nullptr, false, n_row);
            assert_route(b, &qwen, nullptr, false, n_row);
            assert_route(b, &gpt, nullptr, false, n_row);
            assert_route(b, &one, nullptr, false, n_row);
        }
        assert_route(b, &gpt, nullptr, true, 9);
        assert_route(b, &qwen, nullptr, true, 9);
        assert_route(b, &most, nullptr, false, 2);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, norms);
    SHOAL_TEST(suite, activations);
    SHOAL_TEST(suite, integers);
    SHOAL_TEST(suite, sums);
    SHOAL_TEST(suite, gated_rows);
    SHOAL_TEST(suite, largest_logits);
    SHOAL_TEST(suite, gathered_rows);
    SHOAL_TEST(suite, long_lists);
    SHOAL_TEST(suite, routes);
}

SHOAL_TEST_MAIN("kernels.cuda.rows", add_tests)
