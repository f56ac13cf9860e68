/* Attention over the cache on a device against the CPU's blocks: GQA and MLA, both types of cache,
 * windows, sinks, several segments, rows of several sequences. */
#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/tolerance.h"

extern "C" {
#include "tests/kernels/cuda/cpu_side.h"
}

#include "runtime/kernels/cuda/kernels.cuh"
#include "tests/kernels/cuda/world.h"

namespace
{

struct shape {
    shoal_kv_dtype dtype;
    int32_t n_kv_head, n_query_head, d_k, d_v, n_position;
    bool latent;
    int32_t window;
    bool sink;
};

enum { N_SLOT = 2 };

/* The plain sum, in double: out [n_query_head, d_v] of one row. */
void plain(float *out, const shape &s, const float *query, const float *key, const float *value,
           int32_t position, const float *sink)
{
    const int32_t per_head = s.n_query_head / s.n_kv_head;
    for (int32_t h = 0; h < s.n_query_head; h++) {
        const int32_t kv = h / per_head,
                      begin = s.window > 0 && position + 1 > s.window ? position + 1 - s.window : 0;
        std::vector<double> score;
        double most = sink != nullptr ? sink[h] : -INFINITY, denom = 0;
        for (int32_t p = begin; p <= position; p++) {
            double sum = 0;
            for (int32_t d = 0; d < s.d_k; d++)
                sum += (double)query[h * s.d_k + d] * key[(p * s.n_kv_head + kv) * s.d_k + d];
            score.push_back(0.125 * sum);
            most = fmax(most, score.back());
        }
        std::vector<double> acc((size_t)s.d_v);
        for (int32_t p = begin; p <= position; p++) {
            const double weight = exp(score[(size_t)(p - begin)] - most);
            denom += weight;
            for (int32_t d = 0; d < s.d_v; d++)
                acc[(size_t)d] += weight * (s.latent ? key[(p * s.n_kv_head + kv) * s.d_k + d]
                                                     : value[(p * s.n_kv_head + kv) * s.d_v + d]);
        }
        denom += sink != nullptr ? exp(sink[h] - most) : 0;
        for (int32_t d = 0; d < s.d_v; d++)
            out[h * s.d_v + d] = (float)(acc[(size_t)d] / denom);
    }
}

void round_to(shoal_kv_dtype dtype, float *x, int64_t n)
{
    std::vector<uint16_t> half((size_t)n);
    if (dtype != SHOAL_KV_BF16)
        return;
    cpu_kernels()->to_bf16(half.data(), x, n);
    cpu_kernels()->from_bf16(x, half.data(), n);
}

void assert_attention(const shape &s)
{
    /* Slot 1 holds n_position positions, slot 0 fewer; the rows are some of both. */
    const int64_t n_key = (int64_t)s.n_position * s.n_kv_head * s.d_k,
                  n_value = (int64_t)s.n_position * s.n_kv_head * s.d_v;
    float *key = cpu_values(n_key, 41), *value = cpu_values(n_value, 42);
    const size_t element = s.dtype == SHOAL_KV_F32 ? 4 : 2;
    shoal_cuda_cache cache = {
        nullptr, s.dtype, s.n_kv_head,
        s.d_k,   s.d_v,   (s.n_position + SHOAL_ATTEND_BLOCK - 1) / SHOAL_ATTEND_BLOCK,
        0,       0,       s.latent};
    cache.value_offset = (size_t)SHOAL_ATTEND_BLOCK * (size_t)s.d_k * element;
    cache.block_bytes =
        cache.value_offset + (s.latent ? 0 : (size_t)SHOAL_ATTEND_BLOCK * (size_t)s.d_v * element);
    cache.data = device_new<unsigned char>((size_t)N_SLOT * (size_t)s.n_kv_head *
                                           (size_t)cache.n_block * cache.block_bytes);
    std::vector<shoal_cuda_place> stored;
    for (int32_t slot = 0; slot < N_SLOT; slot++) {
        stored.clear();
        for (int32_t p = 0; p < s.n_position; p++)
            stored.push_back({slot, p});
        ck_assert_int_eq(shoal_cuda_store(&cache, to_device(key, (size_t)n_key),
                                          s.latent ? nullptr : to_device(value, (size_t)n_value),
                                          to_device(stored), s.n_position, nullptr),
                         cudaSuccess);
    }
    round_to(s.dtype, key, n_key);
    round_to(s.dtype, value, n_value);

    const std::vector<shoal_cuda_place> place = {
        {1, s.n_position - 1}, {0, 0}, {0, s.n_position / 2}, {1, s.n_position / 3}};
    const int32_t n_row = (int32_t)place.size();
    const size_t n_query = (size_t)(n_row * s.n_query_head * s.d_k),
                 n_out = (size_t)(n_row * s.n_query_head * s.d_v);
    const float *query = cpu_values((int64_t)n_query, 43),
                *sink = s.sink ? cpu_values(s.n_query_head, 44) : nullptr;
    shoal_cuda_attention a = {};
    a.query = to_device(query, n_query), a.place = to_device(place), a.n_row = n_row,
    a.n_query_head = s.n_query_head;
    a.n_position = s.n_position, a.window = s.window, a.scale = 0.125F;
    a.sink = s.sink ? to_device(sink, (size_t)s.n_query_head) : nullptr;
    a.part = device_new<float>(shoal_cuda_attend_part(n_row, s.n_query_head, s.n_position, s.d_v));
    float *out = device_new<float>(n_out);
    ck_assert_int_eq(shoal_cuda_attend(out, &cache, &a, nullptr), cudaSuccess);
    ck_assert_int_eq(cudaDeviceSynchronize(), cudaSuccess);
    ck_assert_str_eq(world_problems(), "");
    const std::vector<float> got = from_device(out, n_out);
    for (int32_t r = 0; r < n_row; r++) {
        const size_t n = (size_t)(s.n_query_head * s.d_v);
        std::vector<float> want(n);
        plain(want.data(), s, query + r * s.n_query_head * s.d_k, key, value,
              place[(size_t)r].position, sink);
        const double distance = distance_of(&got[(size_t)r * n], want.data(), n);
        ck_assert_msg(distance <= SHOAL_TOLERANCE_ATTENTION, "row %d: %.3g away", (int)r, distance);
    }
}

} // namespace

START_TEST(grouped_queries)
{
    world_reset(1);
    assert_attention({SHOAL_KV_F32, 2, 6, 64, 64, 70, false, 0, false});
    assert_attention({SHOAL_KV_BF16, 2, 6, 64, 64, 600, false, 0, false});
    assert_attention({SHOAL_KV_BF16, 1, 11, 32, 48, 130, false, 0, false});
}
END_TEST

START_TEST(windows_and_sinks)
{
    world_reset(2);
    assert_attention({SHOAL_KV_BF16, 2, 4, 64, 64, 600, false, 128, false});
    assert_attention({SHOAL_KV_F32, 2, 4, 64, 64, 90, false, 17, true});
    assert_attention({SHOAL_KV_BF16, 2, 4, 64, 64, 300, false, 0, true});
}
END_TEST

START_TEST(latent)
{
    world_reset(3);
    assert_attention({SHOAL_KV_F32, 1, 5, 80, 64, 100, true, 0, false});
    assert_attention({SHOAL_KV_BF16, 1, 18, 288, 256, 270, true, 0, false});
}
END_TEST

START_TEST(the_order_of_threads_does_not_matter)
{
    for (uint64_t seed = 10; seed < 14; seed++) {
        world_reset(seed);
        assert_attention({SHOAL_KV_F32, 1, 3, 16, 16, 80, false, 0, false});
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, grouped_queries);
    SHOAL_TEST(suite, windows_and_sinks);
    SHOAL_TEST(suite, latent);
    SHOAL_TEST(suite, the_order_of_threads_does_not_matter);
}

SHOAL_TEST_MAIN("kernels.cuda.attention", add_tests)
