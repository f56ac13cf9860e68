/* Attention on a device against the CPU's, from the projections to its result: heads placed in the
 * cache, then looked at. GQA and MLA, both types of cache, windows, sinks, several segments, rows
 * of several sequences, a room that holds few rows' parts. */
#include "tests/kernels/cuda/both.h"

namespace
{

struct shape {
    shoal_kv_dtype dtype;
    int32_t n_kv_head, n_head, d_k, d_v, n_rot, n_position;
    bool latent, interleaved;
    int32_t window;
    bool sink, norm;
};

enum { N_SLOT = 2, N_LAYER = 2, LAYER = 1, N_TOKEN_MAX = 64, N_THREAD = 1 };

/* A side's cache, room and step. */
struct side {
    shoal_arena arena;
    shoal_kv_cache cache;
    shoal_attend_room room;
};

shoal_kv_shape cache_shape(const shape &s)
{
    return {s.dtype, N_LAYER, N_SLOT, s.n_position, s.n_kv_head, s.d_k, s.d_v, s.latent};
}

void carve(side *on, const shape &s)
{
    const shoal_attend_limits limits = {N_TOKEN_MAX,  s.n_head, s.d_k,   s.d_v,
                                        s.n_position, N_THREAD, s.latent};
    const shoal_kv_shape kv = cache_shape(s);
    shoal_kv_cache_carve(&on->cache, &on->arena, &kv);
    shoal_attend_room_carve(&on->room, shoal_arenas_same(&on->arena), &limits);
}

side cpu_side(both &b, const shape &s)
{
    side on = {};
    shoal_arena_measure(&on.arena, "attention");
    carve(&on, s);
    ck_assert_int_eq(shoal_arena_open(&on.arena, &b.log), SHOAL_OK);
    carve(&on, s);
    return on;
}

/* n_part: rows whose parts there is room for. */
side device_side(both &b, const side &cpu, const shape &s, int32_t n_row)
{
    side on = {};
    on.cache = cpu.cache;
    const size_t n_block = N_LAYER * N_SLOT * (size_t)s.n_kv_head * cpu.cache.n_block;
    on.cache.data = b.vram(cpu.cache.data, n_block * cpu.cache.block_bytes);
    const size_t n_segment = (size_t)s.n_position / SHOAL_ATTEND_SEGMENT + 1;
    on.room.n_part = (size_t)(n_row * s.n_head) * n_segment * (size_t)(s.d_v + 2);
    on.room.part = b.vram<float>(nullptr, on.room.n_part);
    return on;
}

/* Rows of a step: the chunks of both slots. */
struct step {
    std::vector<shoal_chunk> chunk;
    std::vector<shoal_place> place;
    int32_t n_row;
};

step make_step(const std::vector<shoal_chunk> &chunk)
{
    step st = {chunk, {}, 0};
    for (shoal_chunk &c : st.chunk) {
        c.row0 = st.n_row;
        st.n_row += c.n_row;
        for (int32_t r = 0; r < c.n_row; r++)
            st.place.push_back({c.slot, c.position0 + r});
    }
    return st;
}

struct rotations {
    std::vector<float> cos, sin;
    shoal_rotation cpu, device;
};

rotations make_rotations(both &b, const shape &s, int32_t n_row)
{
    rotations r = {some_values((int64_t)n_row * s.n_rot / 2, 51),
                   some_values((int64_t)n_row * s.n_rot / 2, 52),
                   {},
                   {}};
    r.cpu = {r.cos.data(), r.sin.data(), s.n_rot, s.interleaved};
    r.device = {b.vram(r.cos), b.vram(r.sin), s.n_rot, s.interleaved};
    return r;
}

/* Place a step's rows on both sides. What comes out is what attention asks with: [n_row, n_head,
 * d_k]. */
void place_heads(both &b, side *cpu, side *device, const shape &s, const step &st,
                 std::vector<float> *query, float **query_device)
{
    const size_t n = (size_t)st.n_row, n_q = n * (size_t)(s.n_head * s.d_k),
                 n_kv = n * (size_t)(2 * s.n_kv_head * s.d_k);
    *query = some_values((int64_t)n_q, 53 + (uint64_t)st.n_row);
    std::vector<float> kv = some_values((int64_t)n_kv, 54 + (uint64_t)st.n_row);
    const std::vector<float> q_norm = some_values(s.d_k, 55), k_norm = some_values(s.d_k, 56);
    const rotations r = make_rotations(b, s, st.n_row);
    shoal_place_heads p = {&cpu->cache,
                           LAYER,
                           st.n_row,
                           s.n_head,
                           st.place.data(),
                           query->data(),
                           kv.data(),
                           s.norm ? q_norm.data() : nullptr,
                           s.norm ? k_norm.data() : nullptr,
                           1e-6F,
                           r.cpu};
    shoal_place_heads d = p;
    d.cache = &device->cache;
    d.place = b.pinned(st.place);
    d.q = b.vram(*query);
    d.kv = b.vram(kv);
    d.q_norm = s.norm ? b.vram(q_norm) : nullptr;
    d.k_norm = s.norm ? b.vram(k_norm) : nullptr;
    d.rotation = r.device;
    shoal_op_place_heads(&b.cpu, &p);
    shoal_op_place_heads(&b.device, &d);
    assert_near(b.back(d.q, n_q), *query, SHOAL_TOLERANCE_NORM);
    assert_near(b.back(d.kv, n_kv), kv, SHOAL_TOLERANCE_NORM);
    *query_device = d.q;
}

void place_latent(both &b, side *cpu, side *device, const shape &s, const step &st,
                  std::vector<float> *query, float **query_device)
{
    const int32_t nope_dim = 6, head_dim = nope_dim + s.n_rot;
    const size_t n = (size_t)st.n_row, n_q = n * (size_t)(s.n_head * s.d_k),
                 n_kv = n * (size_t)s.d_k;
    *query = some_values((int64_t)n_q, 57 + (uint64_t)st.n_row);
    std::vector<float> kv = some_values((int64_t)n_kv, 58 + (uint64_t)st.n_row);
    const std::vector<float> q = some_values((int64_t)n * s.n_head * head_dim, 59),
                             norm = some_values(s.d_v, 60);
    const rotations r = make_rotations(b, s, st.n_row);
    shoal_place_latent p = {&cpu->cache,     LAYER,       st.n_row, s.n_head,
                            st.place.data(), kv.data(),   q.data(), query->data(),
                            nope_dim,        norm.data(), 1e-6F,    r.cpu};
    shoal_place_latent d = p;
    d.cache = &device->cache;
    d.place = b.pinned(st.place);
    d.kv = b.vram(kv);
    d.q = b.vram(q);
    d.q_absorbed = b.vram(*query);
    d.latent_norm = b.vram(norm);
    d.rotation = r.device;
    shoal_op_place_latent(&b.cpu, &p);
    shoal_op_place_latent(&b.device, &d);
    assert_same(b.back(d.q_absorbed, n_q), *query);
    assert_near(b.back(d.kv, n_kv), kv, SHOAL_TOLERANCE_NORM);
    *query_device = d.q_absorbed;
}

/* Fill the cache up to where the step's chunks begin, place the chunks, attend. fit: rows whose
 * parts the room holds. */
void assert_attention(both &b, const shape &s, const std::vector<shoal_chunk> &chunk, int32_t fit)
{
    side cpu = cpu_side(b, s), device = device_side(b, cpu, s, fit);
    const auto place = s.latent ? place_latent : place_heads;
    std::vector<float> query;
    float *query_device = nullptr;
    for (const shoal_chunk &c : chunk)
        for (int32_t p = 0; p < c.position0; p += N_TOKEN_MAX)
            place(b, &cpu, &device, s,
                  make_step({{c.slot, p, 0,
                              c.position0 - p < N_TOKEN_MAX ? c.position0 - p : N_TOKEN_MAX}}),
                  &query, &query_device);
    const step st = make_step(chunk);
    place(b, &cpu, &device, s, st, &query, &query_device);
    /* Both are asked the same: norms differ in the last bits. */
    const size_t n_out = (size_t)(st.n_row * s.n_head * s.d_v);
    std::vector<float> out(n_out);
    const std::vector<float> sink = some_values(s.n_head, 61);
    const shoal_attend a = {out.data(),
                            query.data(),
                            &cpu.cache,
                            LAYER,
                            st.place.data(),
                            st.chunk.data(),
                            (int32_t)st.chunk.size(),
                            st.n_row,
                            s.n_head,
                            s.window,
                            0.125F,
                            s.sink ? sink.data() : nullptr,
                            &cpu.room};
    shoal_attend d = a;
    d.out = b.vram<float>(nullptr, n_out);
    d.query = b.vram(query);
    d.cache = &device.cache;
    d.place = b.pinned(st.place);
    d.sinks = s.sink ? b.vram(sink) : nullptr;
    d.room = &device.room;
    if (st.n_row > 0) /* the CPU's is only called where there are rows */
        shoal_op_attend(&b.cpu, &a);
    shoal_op_attend(&b.device, &d);
    assert_near(b.back(d.out, n_out), out,
                s.dtype == SHOAL_KV_BF16 ? SHOAL_TOLERANCE_ATTENTION_BF16
                                         : SHOAL_TOLERANCE_ATTENTION);
    shoal_arena_close(&cpu.arena);
}

/* Chunks {slot, position0, row0: set later, n_row} */
const std::vector<shoal_chunk> decoding = {{1, 69, 0, 1}, {0, 20, 0, 1}},
                               prompt = {{0, 30, 0, 7}, {1, 0, 0, 40}};

} // namespace

START_TEST(grouped_queries)
{
    both b(1);
    assert_attention(b, {SHOAL_KV_F32, 2, 6, 64, 64, 64, 70, false, false, 0, false, true},
                     decoding, 1);
    assert_attention(b, {SHOAL_KV_BF16, 2, 4, 32, 32, 16, 70, false, true, 0, false, false}, prompt,
                     1);
    assert_attention(b, {SHOAL_KV_BF16, 1, 11, 32, 32, 32, 70, false, false, 0, false, true},
                     prompt, 1);
}
END_TEST

START_TEST(segments)
{
    both b(2);
    const shape s = {SHOAL_KV_F32, 2, 4, 16, 16, 16, 640, false, false, 0, false, false};
    for (int32_t fit : {1, 5})
        assert_attention(b, s, {{0, 255, 0, 4}, {1, 600, 0, 2}}, fit);
    assert_attention(b, s, {{1, 300, 0, 1}}, 1);
}
END_TEST

START_TEST(windows_and_sinks)
{
    both b(3);
    for (int32_t window : {1, 17, 100, 300}) {
        const shape s = {SHOAL_KV_F32,    2,   4, 16, 16, 8, 560, false, false, window,
                         window % 2 == 1, true};
        assert_attention(b, s, {{0, 500, 0, 30}, {1, 16, 0, 3}}, 2);
    }
    assert_attention(b, {SHOAL_KV_BF16, 1, 8, 32, 32, 32, 70, false, false, 0, true, false}, prompt,
                     1);
}
END_TEST

START_TEST(latents)
{
    both b(4);
    assert_attention(b, {SHOAL_KV_F32, 1, 5, 80, 64, 16, 100, true, false, 0, false, true},
                     decoding, 1);
    assert_attention(b, {SHOAL_KV_BF16, 1, 18, 72, 64, 8, 300, true, true, 0, false, true},
                     {{0, 250, 0, 12}, {1, 0, 0, 2}}, 3);
    assert_attention(b, {SHOAL_KV_BF16, 1, 3, 576, 512, 64, 40, true, true, 0, false, true},
                     {{0, 30, 0, 1}}, 1);
}
END_TEST

START_TEST(the_order_of_threads_does_not_matter)
{
    const shape gqa = {SHOAL_KV_F32, 1, 3, 16, 16, 16, 300, false, false, 0, true, true},
                mla = {SHOAL_KV_F32, 1, 3, 20, 16, 4, 300, true, false, 0, false, true};
    for (uint64_t seed = 10; seed < 14; seed++) {
        both b(seed);
        assert_attention(b, gqa, {{0, 290, 0, 1}}, 1);
        assert_attention(b, mla, {{0, 60, 0, 2}}, 1);
    }
}
END_TEST

START_TEST(no_rows)
{
    both b(5);
    assert_attention(b, {SHOAL_KV_F32, 2, 4, 16, 16, 16, 64, false, false, 0, false, true}, {}, 1);
    assert_attention(b, {SHOAL_KV_F32, 1, 4, 20, 16, 4, 64, true, false, 0, false, true}, {}, 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, grouped_queries);
    SHOAL_TEST(suite, segments);
    SHOAL_TEST(suite, windows_and_sinks);
    SHOAL_TEST(suite, latents);
    SHOAL_TEST(suite, the_order_of_threads_does_not_matter);
    SHOAL_TEST(suite, no_rows);
}

SHOAL_TEST_MAIN("kernels.cuda.attention", add_tests)
