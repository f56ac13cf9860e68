/* Attention over the cache: bound by its bytes when sequences decode, by arithmetic in prompts. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "tests/bench/cuda/bench.h"

namespace
{

struct attention_case {
    const char *name;
    int32_t n_kv_head, n_query_head, d_k, d_v;
    bool latent;
    int32_t n_row, n_position;
    bool prompt; /* rows are the last of one sequence, else each is of its own */
};

shoal_kv_cache make_cache(bench_memory &m, const attention_case &c)
{
    const int32_t n_slot = c.prompt ? 1 : c.n_row;
    const shoal_kv_shape shape = {SHOAL_KV_BF16, 1,     n_slot, c.n_position,
                                  c.n_kv_head,   c.d_k, c.d_v,  c.latent};
    shoal_arena measured;
    shoal_kv_cache cache;
    shoal_arena_measure(&measured, "a cache");
    shoal_kv_cache_carve(&cache, &measured, &shape);
    const std::vector<uint16_t> one(256, 0x3c00); /* 0.0078125 */
    cache.data = m.repeated(one.data(), 512, (measured.used_bytes + 511) / 512);
    return cache;
}

void run(const bench &b, const attention_case &c)
{
    bench_memory m;
    const shoal_kv_cache cache = make_cache(m, c);
    shoal_place *place = m.pinned<shoal_place>((size_t)c.n_row);
    for (int32_t r = 0; r < c.n_row; r++)
        place[r] = {c.prompt ? 0 : r, c.n_position - 1 - (c.prompt ? c.n_row - 1 - r : 0)};
    const int64_t n_out = (int64_t)c.n_row * c.n_query_head * c.d_v;
    shoal_attend_room room = {};
    room.n_part = (size_t)(c.n_row * c.n_query_head * (c.d_v + 2)) *
                  ((size_t)c.n_position / SHOAL_ATTEND_SEGMENT + 1);
    room.part = m.device<float>(room.n_part);
    shoal_attend a = {};
    a.out = m.device<float>((size_t)n_out);
    a.query = m.values((int64_t)c.n_row * c.n_query_head * c.d_k);
    a.cache = &cache, a.place = place, a.n_token = c.n_row, a.n_head = c.n_query_head;
    a.scale = 0.1F;
    a.room = &room;
    const shoal_place *on_device = m.copy(place, (size_t)c.n_row);
    const double row_bytes = 2.0 * c.n_kv_head * (c.d_k + (c.latent ? 0 : c.d_v));
    const double n_position = c.prompt ? c.n_position - (c.n_row - 1) / 2.0 : c.n_position;
    bench_result r = {};
    r.us = bench_us(b, b.tiny ? 1 : 8,
                    [&](int) { return shoal_cuda_attend(&a, on_device, b.stream); });
    r.part = "attention", r.kernel = c.name, r.format = "bf16";
    r.shape = std::to_string(c.n_query_head) + " heads, " + std::to_string(c.n_position) +
              " positions" + (c.prompt ? " of one prompt" : "");
    r.n_token = c.n_row;
    r.n_bytes = row_bytes * c.n_position * (c.prompt ? 1 : c.n_row);
    r.n_op = 2.0 * c.n_row * n_position * c.n_query_head * (c.d_k + c.d_v);
    r.of = c.prompt ? "bf16" : "read";
    bench_print(b, r);
}

} // namespace

void bench_attention(bench &b)
{
    if (b.tiny) {
        run(b, {"gqa", 2, 4, 32, 32, false, 2, 90, false});
        run(b, {"gqa", 2, 4, 32, 32, false, 5, 90, true});
        run(b, {"mla", 1, 4, 48, 32, true, 2, 90, false});
        return;
    }
    for (const int32_t n_position : {512, 4096, 32768})
        for (const int32_t n_row : {1, 8})
            run(b, {"gqa", 4, 32, 128, 128, false, n_row, n_position, false}); /* Qwen3-30B */
    for (const int32_t n_position : {512, 4096})
        for (const int32_t n_row : {1, 8})
            run(b, {"mla", 1, 128, 576, 512, true, n_row, n_position, false}); /* DeepSeek-V3 */
    run(b, {"gqa", 4, 32, 128, 128, false, 256, 512, true});
    run(b, {"gqa", 4, 32, 128, 128, false, 256, 4096, true});
    run(b, {"mla", 1, 128, 576, 512, true, 64, 512, true});
}
