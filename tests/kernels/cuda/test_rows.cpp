/* Norms, rotations, activations, wire encodings, combine and the router's choice on a device
 * against the CPU's. What is a formula of one number has the CPU's bits. */
#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/tolerance.h"

extern "C" {
#include "runtime/kernels/route.h"
#include "tests/kernels/cuda/cpu_side.h"
}

#include "runtime/kernels/cuda/kernels.cuh"
#include "tests/kernels/cuda/world.h"

static void assert_fine(cudaError_t error)
{
    ck_assert_int_eq(error, cudaSuccess);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaSuccess);
    ck_assert_str_eq(world_problems(), "");
}

static void assert_same(const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(memcmp(&got[i], &want[i], sizeof got[i]) == 0,
                      "value %zu is %.9g, the CPU's is %.9g", i, (double)got[i], (double)want[i]);
}

START_TEST(norms)
{
    world_reset(1);
    for (int32_t n_col : {7, 64, 300, 2048}) {
        const int32_t n_row = 5;
        const float *x = cpu_values((int64_t)n_row * n_col, 3), *weight = cpu_values(n_col, 4);
        std::vector<float> want((size_t)n_row * (size_t)n_col);
        for (int32_t r = 0; r < n_row; r++)
            cpu_kernels()->rms_norm(&want[(size_t)r * (size_t)n_col], x + (int64_t)r * n_col,
                                    weight, n_col, 1e-6F);
        const shoal_cuda_rows rows = {to_device(x, want.size()), n_col, n_row, n_col};
        assert_fine(
            shoal_cuda_rms_norm(rows, rows, to_device(weight, (size_t)n_col), 1e-6F, nullptr));
        const std::vector<float> got = from_device(rows.at, want.size());
        ck_assert(distance_of(got.data(), want.data(), got.size()) <= SHOAL_TOLERANCE_NORM);
    }
}
END_TEST

START_TEST(activations)
{
    world_reset(2);
    const int64_t n = 1000;
    float *gate = cpu_values(n, 5);
    const float *up = cpu_values(n, 6);
    for (int64_t i = 0; i < n; i++)
        gate[i] *= i % 3 == 0 ? 120.0F : 6.0F;
    std::vector<float> want((size_t)n);
    float *y = device_new<float>((size_t)n);
    cpu_kernels()->silu_mul(want.data(), gate, up, n);
    assert_fine(shoal_cuda_activate(y, to_device(gate, (size_t)n), to_device(up, (size_t)n), n,
                                    {0.0F, 0.0F}, nullptr));
    assert_same(from_device(y, (size_t)n).data(), want.data(), (size_t)n);
    cpu_kernels()->swiglu_clamped(want.data(), gate, up, n, 1.702F, 7.0F);
    assert_fine(shoal_cuda_activate(y, to_device(gate, (size_t)n), to_device(up, (size_t)n), n,
                                    {1.702F, 7.0F}, nullptr));
    assert_same(from_device(y, (size_t)n).data(), want.data(), (size_t)n);
    cpu_kernels()->axpy(want.data(), 0.3F, up, n);
    assert_fine(shoal_cuda_axpy(y, 0.3F, to_device(up, (size_t)n), n, nullptr));
    assert_same(from_device(y, (size_t)n).data(), want.data(), (size_t)n);
}
END_TEST

START_TEST(rotations)
{
    world_reset(3);
    const int32_t n_row = 3, n_head = 5, d = 24, first = 8, n_rot = 16;
    float *x = cpu_values(n_row * n_head * d, 7);
    const float *cos = cpu_values(n_row * n_rot / 2, 8), *sin = cpu_values(n_row * n_rot / 2, 9);
    for (bool interleaved : {false, true}) {
        shoal_cuda_rotation rope = {to_device(cos, n_row * n_rot / 2),
                                    to_device(sin, n_row * n_rot / 2),
                                    n_head,
                                    d,
                                    first,
                                    n_rot,
                                    interleaved};
        const shoal_cuda_rows rows = {to_device(x, n_row * n_head * d), n_head * d, n_row,
                                      n_head * d};
        assert_fine(shoal_cuda_rope(rows, &rope, nullptr));
        std::vector<float> want(x, x + n_row * n_head * d);
        for (int32_t i = 0; i < n_row * n_head; i++) {
            const int32_t at = i / n_head * n_rot / 2;
            (interleaved ? cpu_kernels()->rope_interleaved : cpu_kernels()->rope_half)(
                &want[(size_t)(i * d + first)], cos + at, sin + at, n_rot);
        }
        assert_same(from_device(rows.at, want.size()).data(), want.data(), want.size());
    }
}
END_TEST

START_TEST(groups)
{
    world_reset(4);
    for (int32_t n_col : {32, 70, 129, 512}) {
        const int32_t n_row = 4, n_group = shoal_int8_groups(n_col);
        float *x = cpu_values((int64_t)n_row * n_col, 11);
        for (int32_t i = 0; i < 32 && i < n_col; i++)
            x[i] = 0.0F;
        const shoal_int8_group *want = cpu_groups(x, n_row, n_col);
        const size_t n = (size_t)(n_row * n_group);
        shoal_int8_group *y = device_new<shoal_int8_group>(n),
                         *back = device_new<shoal_int8_group>(n);
        assert_fine(shoal_cuda_to_groups(
            y, n_group, {to_device(x, (size_t)n_row * (size_t)n_col), n_col, n_row, n_col},
            nullptr));
        ck_assert(memcmp(from_device(y, n).data(), want, n * sizeof *want) == 0);
        /* onto the wire, in the host's memory, and back */
        const size_t row_bytes = (size_t)(n_col + 3) / 4 * 4 + (size_t)n_group * 4;
        unsigned char *wire;
        ck_assert_int_eq(cudaHostAlloc(&wire, (size_t)n_row * row_bytes, cudaHostAllocDefault),
                         cudaSuccess);
        assert_fine(shoal_cuda_pack_groups(wire, y, n_group, n_row, n_col, nullptr));
        std::vector<int8_t> q((size_t)n_col);
        std::vector<float> scale((size_t)n_group);
        for (int32_t r = 0; r < n_row; r++) {
            cpu_kernels()->to_int8(q.data(), scale.data(), x + (int64_t)r * n_col, n_col);
            const unsigned char *row = wire + (size_t)r * row_bytes;
            ck_assert(memcmp(row, q.data(), q.size()) == 0);
            ck_assert(memcmp(row + row_bytes - (size_t)n_group * 4, scale.data(),
                             (size_t)n_group * 4) == 0);
        }
        assert_fine(shoal_cuda_unpack_groups(back, n_group, wire, n_row, n_col, nullptr));
        ck_assert(memcmp(from_device(back, n).data(), want, n * sizeof *want) == 0);
    }
}
END_TEST

START_TEST(halves_and_combine)
{
    world_reset(5);
    const int32_t n_row = 6, n_col = 37, k = 3, n_result = 10;
    const float *result = cpu_values(n_result * n_col, 12), *weight = cpu_values(n_row * k, 13);
    std::vector<uint16_t> half((size_t)(n_result * n_col));
    cpu_kernels()->to_bf16(half.data(), result, n_result * n_col);
    uint16_t *sent = device_new<uint16_t>(half.size());
    assert_fine(shoal_cuda_rows_to_bf16(
        sent, {to_device(result, half.size()), n_col, n_result, n_col}, nullptr));
    ck_assert(from_device(sent, half.size()) == half);
    std::vector<int32_t> index;
    for (int32_t i = 0; i < n_row * k; i++)
        index.push_back(i % 7 == 3 ? -1 : i * 5 % n_result);
    for (bool bf16 : {false, true}) {
        std::vector<float> want((size_t)(n_row * n_col));
        for (int32_t i = 0; i < n_row * k; i++) {
            float *y = &want[(size_t)(i / k * n_col)];
            if (index[(size_t)i] < 0)
                continue;
            if (bf16)
                cpu_kernels()->axpy_bf16(y, weight[i], &half[(size_t)(index[(size_t)i] * n_col)],
                                         n_col);
            else
                cpu_kernels()->axpy(y, weight[i], result + index[(size_t)i] * n_col, n_col);
        }
        const void *from = bf16 ? static_cast<const void *>(sent) : to_device(result, half.size());
        const shoal_cuda_results r = {from, bf16, to_device(index),
                                      to_device(weight, (size_t)(n_row * k)), k};
        const shoal_cuda_rows y = {device_new<float>(want.size()), n_col, n_row, n_col};
        assert_fine(shoal_cuda_combine(y, &r, nullptr));
        assert_same(from_device(y.at, want.size()).data(), want.data(), want.size());
    }
    const shoal_cuda_rows back = {device_new<float>(half.size()), n_col, n_result, n_col};
    std::vector<float> want(half.size());
    cpu_kernels()->from_bf16(want.data(), half.data(), n_result * n_col);
    assert_fine(shoal_cuda_rows_from_bf16(back, sent, nullptr));
    assert_same(from_device(back.at, want.size()).data(), want.data(), want.size());
}
END_TEST

static void assert_route(const shoal_router_config *config, const float *bias, bool broken)
{
    const int32_t n_row = 9;
    const size_t n = (size_t)(n_row * config->top_k), n_logit = (size_t)(n_row * config->n_expert);
    float *logits = cpu_values((int64_t)n_logit, 21 + (uint64_t)config->n_expert);
    for (size_t i = 0; i < n_logit; i++)
        logits[i] *= 3.0F;
    for (int32_t e = 0; broken && e < config->n_expert; e++)
        logits[e] = NAN, logits[config->n_expert + e] = 0.5F; /* a row of nothing, a row of ties */
    const shoal_cuda_router router = {
        config->n_expert,   config->top_k,          config->n_group,
        config->topk_group, (int32_t)config->score, config->group_score == SHOAL_GROUP_TOP2_SUM,
        config->normalize,  config->masked_score,   config->scale};
    int32_t *expert = device_new<int32_t>(n);
    float *weight = device_new<float>(n);
    assert_fine(shoal_cuda_route(
        expert, weight, &router, to_device(logits, n_logit),
        bias != nullptr ? to_device(bias, (size_t)config->n_expert) : nullptr, n_row, nullptr));
    std::vector<int32_t> want_expert(n);
    std::vector<float> want_weight(n);
    shoal_route(want_expert.data(), want_weight.data(), config, cpu_kernels(), logits, bias, n_row);
    ck_assert(from_device(expert, n) == want_expert);
    const std::vector<float> got = from_device(weight, n);
    const size_t skip =
        broken ? (size_t)config->top_k : 0; /* weights of a broken row are anything */
    ck_assert(distance_of(got.data() + skip, want_weight.data() + skip, n - skip) <=
              SHOAL_TOLERANCE_ROUTE);
}

START_TEST(routes)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        world_reset(seed);
        const float *bias = cpu_values(256, 31);
        const shoal_router_config v3 = {
            256, 8, SHOAL_ROUTER_SIGMOID, 8, 4, SHOAL_GROUP_TOP2_SUM, -INFINITY, true, 2.5F};
        const shoal_router_config v2 = {
            160, 6, SHOAL_ROUTER_SOFTMAX, 8, 3, SHOAL_GROUP_MAX, 0.0F, false, 16.0F};
        const shoal_router_config qwen = {
            128, 8, SHOAL_ROUTER_SOFTMAX, 1, 1, SHOAL_GROUP_MAX, 0.0F, true, 1.0F};
        const shoal_router_config gpt = {
            32, 4, SHOAL_ROUTER_SOFTMAX_OF_TOPK, 1, 1, SHOAL_GROUP_MAX, 0.0F, false, 1.0F};
        assert_route(&v3, bias, false);
        assert_route(&v2, nullptr, false);
        assert_route(&qwen, nullptr, false);
        assert_route(&gpt, nullptr, false);
        assert_route(&gpt, nullptr, true);
        assert_route(&qwen, nullptr, true);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, norms);
    SHOAL_TEST(suite, activations);
    SHOAL_TEST(suite, rotations);
    SHOAL_TEST(suite, groups);
    SHOAL_TEST(suite, halves_and_combine);
    SHOAL_TEST(suite, routes);
}

SHOAL_TEST_MAIN("kernels.cuda.rows", add_tests)
