/* Rows between a device and the host's memory against the CPU's: the same bits in every encoding.
 */
#include "tests/kernels/cuda/both.h"

#include <algorithm>

namespace
{

const shoal_wire_encoding encodings[] = {SHOAL_WIRE_F32, SHOAL_WIRE_BF16, SHOAL_WIRE_INT8};

struct shape {
    int32_t n_row, n_col;
};

std::vector<shape> shapes()
{
    std::vector<shape> all = {{0, 64}, {1, 1}, {1, 64}, {3, 1024}, {2, 1031}};
    numbers r = {77};
    for (int i = 0; i < 6; i++)
        all.push_back({r.between(1, 9), r.between(1, 300)});
    return all;
}

/* n bytes that mean nothing. */
std::vector<unsigned char> junk(size_t n)
{
    return std::vector<unsigned char>(n, 0xa5);
}

/* on_device: the rows stay there, as those that a rank keeps for itself do. */
void assert_pack(both &b, shoal_wire_encoding encoding, shape s, bool int8, bool on_device = false)
{
    enum { N_FROM = 5 };
    std::vector<float> x = some_values(N_FROM * s.n_col, 17);
    x[0] = INFINITY;
    const shoal_int8_group *groups = cpu_groups(x.data(), N_FROM, s.n_col);
    std::vector<int32_t> index;
    for (int32_t i = 0; i < s.n_row; i++)
        index.push_back((i * 3 + 1) % N_FROM);
    std::vector<unsigned char> want =
        junk((size_t)s.n_row * shoal_wire_row_bytes(encoding, s.n_col));
    shoal_pack cpu = {};
    cpu.out = want.data(), cpu.encoding = encoding, cpu.index = index.data();
    cpu.x.f32 = x.data(), cpu.x.int8 = int8 ? groups : nullptr;
    cpu.n_row = s.n_row, cpu.n_col = s.n_col;
    shoal_pack pack = cpu;
    pack.out = on_device ? b.vram(want) : b.pinned(want);
    pack.index = b.pinned(index);
    pack.x.f32 = b.vram(x);
    if (int8)
        pack.x.int8 = b.vram(groups, (size_t)(N_FROM * shoal_int8_groups(s.n_col)));
    shoal_op_pack_rows(&b.cpu, &cpu);
    shoal_op_pack_rows(&b.device, &pack);
    assert_same(b.back(pack.out, want.size()), want);
}

void assert_unpack(both &b, shoal_wire_encoding encoding, shape s, bool int8)
{
    const size_t row_bytes = shoal_wire_row_bytes(encoding, s.n_col), n = (size_t)s.n_row,
                 n_group = (size_t)shoal_int8_groups(s.n_col);
    const std::vector<float> x = some_values((int64_t)n * s.n_col, 18);
    std::vector<unsigned char> rows(n * row_bytes, 0);
    for (size_t r = 0; r < n; r++)
        shoal_wire_encode(&rows[r * row_bytes], encoding, cpu_kernels(), &x[r * (size_t)s.n_col],
                          s.n_col);
    std::vector<float> f32(n * (size_t)s.n_col);
    std::vector<shoal_int8_group> groups(n * n_group);
    shoal_unpack cpu = {f32.data(), int8 ? groups.data() : nullptr, rows.data(), encoding, s.n_row,
                        s.n_col};
    shoal_unpack unpack = cpu;
    unpack.f32 = int8 ? nullptr : b.vram<float>(nullptr, f32.size());
    unpack.int8 = int8 ? b.vram<shoal_int8_group>(nullptr, groups.size()) : nullptr;
    unpack.from = b.pinned(rows);
    shoal_op_unpack_rows(&b.cpu, &cpu);
    shoal_op_unpack_rows(&b.device, &unpack);
    if (int8)
        assert_same(b.back(unpack.int8, groups.size()), groups);
    else
        assert_same(b.back(unpack.f32, f32.size()), f32);
}

/* Sums of none, some and many rows. */
void assert_pack_sums(both &b, shoal_wire_encoding encoding, shape s)
{
    enum { N_DONE = 90 };
    const std::vector<float> done = some_values(N_DONE * s.n_col, 19);
    std::vector<int32_t> row_slot = {0}, slot_done;
    std::vector<float> room((size_t)s.n_col);
    for (int32_t i = 0; i < s.n_row; i++) {
        const int32_t n = i == 1 ? 85 : i % 4;
        for (int32_t j = 0; j < n; j++)
            slot_done.push_back((i * 7 + j * 3) % N_DONE);
        row_slot.push_back((int32_t)slot_done.size());
    }
    const std::vector<float> weight = some_values((int64_t)slot_done.size(), 20);
    std::vector<unsigned char> want =
        junk((size_t)s.n_row * shoal_wire_row_bytes(encoding, s.n_col));
    shoal_pack_sums cpu = {want.data(),   encoding, done.data(), row_slot.data(), slot_done.data(),
                           weight.data(), s.n_row,  s.n_col,     room.data()};
    shoal_pack_sums pack = cpu;
    pack.out = b.pinned(want);
    pack.done = b.vram(done);
    pack.row_slot = b.pinned(row_slot);
    pack.slot_done = b.pinned(slot_done);
    pack.slot_weight = b.pinned(weight);
    pack.room = nullptr;
    shoal_op_pack_sums(&b.cpu, &cpu);
    shoal_op_pack_sums(&b.device, &pack);
    b.sync();
    assert_same(std::vector<unsigned char>(pack.out, pack.out + want.size()), want);
}

void assert_sum(both &b, shoal_wire_encoding encoding, shape s, int32_t k, bool weighted)
{
    enum { N_FROM = 11 };
    const size_t row_bytes = shoal_wire_row_bytes(encoding, s.n_col), n = (size_t)(s.n_row * k);
    const std::vector<float> x = some_values(N_FROM * s.n_col, 22),
                             weight = some_values((int64_t)n, 23);
    std::vector<unsigned char> rows(N_FROM * row_bytes, 0);
    for (size_t r = 0; r < N_FROM; r++)
        shoal_wire_encode(&rows[r * row_bytes], encoding, cpu_kernels(), &x[r * (size_t)s.n_col],
                          s.n_col);
    std::vector<int32_t> home;
    for (size_t i = 0; i < n; i++)
        home.push_back(i % 7 == 3 ? -1 : (int32_t)(i * 5 % N_FROM));
    std::vector<float> acc((size_t)s.n_row * (size_t)s.n_col, 5.0F);
    const int32_t n_own = k % 3; /* those before the last row: of the rank's own */
    const ptrdiff_t own0 = (ptrdiff_t)((size_t)(N_FROM - 1 - n_own) * row_bytes),
                    own1 = (ptrdiff_t)((N_FROM - 1) * row_bytes);
    const std::vector<unsigned char> own(rows.begin() + own0, rows.begin() + own1);
    std::fill(rows.begin() + own0, rows.begin() + own1, (unsigned char)0xff);
    shoal_sum cpu = {};
    cpu.acc = acc.data(), cpu.from = rows.data(), cpu.own = n_own > 0 ? own.data() : nullptr;
    cpu.own_first = N_FROM - 1 - n_own, cpu.n_own = n_own, cpu.encoding = encoding;
    cpu.home = home.data(), cpu.weight = weighted ? weight.data() : nullptr;
    cpu.k = k, cpu.n_row = s.n_row, cpu.n_col = s.n_col;
    shoal_sum sum = cpu;
    sum.acc = b.vram(acc);
    sum.from = b.pinned(rows);
    sum.own = n_own > 0 ? b.vram(own) : nullptr;
    sum.home = b.pinned(home);
    sum.weight = weighted ? b.pinned(weight) : nullptr;
    shoal_op_sum_rows(&b.cpu, &cpu);
    shoal_op_sum_rows(&b.device, &sum);
    assert_same(b.back(sum.acc, acc.size()), acc);
}

} // namespace

START_TEST(rows_out)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        both b(seed);
        for (shape s : shapes()) {
            for (shoal_wire_encoding encoding : encodings)
                assert_pack(b, encoding, s, false);
            assert_pack(b, SHOAL_WIRE_INT8, s, true);
            assert_pack(b, SHOAL_WIRE_INT8, s, true, true);
            assert_pack(b, SHOAL_WIRE_BF16, s, true); /* integers serve only their own encoding */
        }
    }
}
END_TEST

START_TEST(rows_in)
{
    both b(3);
    for (shape s : shapes()) {
        for (shoal_wire_encoding encoding : encodings)
            assert_unpack(b, encoding, s, false);
        assert_unpack(b, SHOAL_WIRE_INT8, s, true);
    }
}
END_TEST

START_TEST(sums_out)
{
    for (uint64_t seed = 4; seed <= 5; seed++) {
        both b(seed);
        for (shape s : shapes())
            for (shoal_wire_encoding encoding : encodings)
                assert_pack_sums(b, encoding, s);
    }
}
END_TEST

START_TEST(sums_in)
{
    for (uint64_t seed = 6; seed <= 7; seed++) {
        both b(seed);
        for (shape s : shapes())
            for (shoal_wire_encoding encoding : {SHOAL_WIRE_F32, SHOAL_WIRE_BF16})
                for (int32_t k : {1, 3, 8, 70})
                    assert_sum(b, encoding, s, k, k != 3);
    }
}
END_TEST

START_TEST(copies)
{
    both b(8);
    const std::vector<float> x = some_values(7 * 10, 24);
    float *wide = b.vram<float>(nullptr, 7 * 13);
    const float *from = b.pinned(x);
    shoal_op_upload(&b.device, wide, 13 * 4, from, 10 * 4, 10 * 4, 7);
    shoal_op_upload(&b.device, wide, 13 * 4, from, 10 * 4, 0, 7);
    shoal_op_upload(&b.device, wide, 13 * 4, from, 10 * 4, 10 * 4, 0);
    shoal_op_fetch(&b.device, nullptr, wide, 0);
    const std::vector<float> got = b.back(wide, 7 * 13);
    for (size_t r = 0; r < 7; r++)
        ck_assert(memcmp(&got[r * 13], &x[r * 10], 40) == 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, rows_out);
    SHOAL_TEST(suite, rows_in);
    SHOAL_TEST(suite, sums_out);
    SHOAL_TEST(suite, sums_in);
    SHOAL_TEST(suite, copies);
}

SHOAL_TEST_MAIN("kernels.cuda.wire", add_tests)
