/* Matrix products on a device against the CPU's: every format and form, ragged shapes, many items
 * of several kinds in one call, with and without rounded activations. */
#include "tests/kernels/cuda/both.h"

namespace
{

struct product {
    shoal_matmul_item cpu, device;
    shoal_matrix w; /* as it is on the device */
    double tolerance;
};

struct shape {
    shoal_format format;
    int32_t n_row, n_col, n_token;
    bool int8;
};

/* With rows of y and x that are longer than they must be. */
product make_product(both &b, const shape &s, bool precise)
{
    enum { MORE = 3 };
    const uint64_t seed = (uint64_t)s.n_row * 1000 + (uint64_t)s.n_col * 10 + (uint64_t)s.n_token;
    const shoal_matrix *w = cpu_matrix(s.format, s.n_row, s.n_col, seed);
    const int64_t n_token = s.n_token, ld_x = w->n_col + MORE, ld_y = s.n_row + MORE,
                  n_group = shoal_int8_groups(w->n_col);
    product p = {};
    p.w = *w;
    p.w.data = b.vram(static_cast<const unsigned char *>(w->data),
                      shoal_matrix_data_bytes(s.format, s.n_row, w->n_col));
    if (w->scale != nullptr)
        p.w.scale = b.vram(w->scale, shoal_matrix_scale_bytes(s.format, s.n_row, w->n_col) / 4);
    const float *x = cpu_values(n_token * ld_x + 1, seed + 1);
    const float *bias = s.n_token % 2 == 1 ? cpu_values(s.n_row, seed + 2) : nullptr;
    p.cpu.y = cpu_values(n_token * ld_y + 1, seed + 3);
    p.cpu.ld_y = ld_y, p.cpu.w = w, p.cpu.x = x, p.cpu.ld_x = ld_x, p.cpu.n_token = s.n_token;
    p.cpu.bias = bias;
    p.device = p.cpu;
    p.device.y = b.vram(p.cpu.y, (size_t)(n_token * ld_y));
    p.device.x = b.vram(x, (size_t)(n_token * ld_x));
    p.device.bias = bias != nullptr ? b.vram(bias, (size_t)s.n_row) : nullptr;
    if (s.int8) { /* x is not read */
        const shoal_int8_group *groups =
            cpu_groups(cpu_values(n_token * w->n_col + 1, seed + 4), s.n_token, w->n_col);
        p.cpu.x_int8 = groups;
        p.device.x_int8 = b.vram(groups, (size_t)(n_token * n_group));
        p.cpu.ld_x_int8 = p.device.ld_x_int8 = n_group;
    }
    const bool tensor = s.format == SHOAL_FORMAT_BF16 || s.format == SHOAL_FORMAT_FP8_BLOCK;
    const bool int8 = s.int8 && shoal_format_is_quantised(s.format);
    p.tolerance = int8                                  ? SHOAL_TOLERANCE_MATMUL_INT8
                  : tensor && s.n_token > 8 && !precise ? SHOAL_TOLERANCE_MATMUL_BF16
                                                        : SHOAL_TOLERANCE_MATMUL;
    return p;
}

void assert_products(both &b, const std::vector<shape> &shapes, bool precise = false)
{
    std::vector<product> products;
    for (const shape &s : shapes)
        products.push_back(make_product(b, s, precise));
    std::vector<shoal_matmul_item> cpu, device;
    for (product &p : products) {
        p.device.w = &p.w;
        cpu.push_back(p.cpu);
        device.push_back(p.device);
    }
    shoal_op_matmul_many(&b.cpu, cpu.data(), (int32_t)cpu.size());
    shoal_op_matmul_many(&b.device, device.data(), (int32_t)device.size());
    for (const product &p : products) {
        const size_t n = (size_t)p.cpu.n_token * (size_t)p.cpu.ld_y;
        const std::vector<float> got = b.back(p.device.y, n);
        const double distance = distance_of(got.data(), p.cpu.y, n);
        ck_assert_msg(
            distance <= p.tolerance,
            "%s %d x %d, %d tokens%s: %.3g of the largest value away, at most %.3g is fine",
            shoal_format_text(p.w.format), (int)p.w.n_row, (int)p.w.n_col, (int)p.cpu.n_token,
            p.cpu.x_int8 != nullptr ? " of integers" : "", distance, p.tolerance);
    }
}

const shoal_format quantised[] = {SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_Q8, SHOAL_FORMAT_Q4};

} // namespace

START_TEST(few_tokens)
{
    both b(1);
    for (int format = 0; format < SHOAL_N_FORMAT; format++) {
        std::vector<shape> shapes;
        for (int32_t n = 0; n <= 8; n++)
            shapes.push_back({(shoal_format)format, 16 * n + 16 + n % 3, 32 * n + 96, n, false});
        assert_products(b, shapes);
    }
}
END_TEST

START_TEST(few_tokens_of_integers)
{
    both b(2);
    for (shoal_format format : quantised) {
        std::vector<shape> shapes;
        for (int32_t n = 1; n <= 8; n++)
            shapes.push_back({format, 16 * n + n % 3, 32 * n + 96, n, true});
        assert_products(b, shapes);
    }
}
END_TEST

START_TEST(many_tokens)
{
    both b(3);
    for (int format = 0; format < SHOAL_N_FORMAT; format++)
        assert_products(b, {{(shoal_format)format, 49, 164, 9, false},
                            {(shoal_format)format, 104, 192, 64, false},
                            {(shoal_format)format, 107, 193, 67, false}});
}
END_TEST

START_TEST(many_tokens_of_integers)
{
    both b(4);
    for (shoal_format format : quantised)
        assert_products(
            b,
            {{format, 12, 134, 9, true}, {format, 67, 162, 64, true}, {format, 70, 163, 67, true}});
}
END_TEST

/* Integers beside weights that are not quantised are not looked at. */
START_TEST(integers_for_others)
{
    both b(5);
    for (int32_t n_token : {1, 11})
        assert_products(b, {{SHOAL_FORMAT_BF16, 40, 96, n_token, true},
                            {SHOAL_FORMAT_FP8_BLOCK, 40, 96, n_token, true},
                            {SHOAL_FORMAT_F32, 40, 96, n_token, true}});
}
END_TEST

START_TEST(precise)
{
    both b(6, true);
    for (int format = 0; format < SHOAL_N_FORMAT; format++)
        assert_products(
            b,
            {{(shoal_format)format, 33, 160, 13, false}, {(shoal_format)format, 16, 96, 65, false}},
            true);
}
END_TEST

START_TEST(ragged_columns)
{
    both b(7);
    std::vector<shape> shapes;
    for (int format = 0; format < SHOAL_N_FORMAT; format++)
        for (int32_t n_col : {1, 7, 33, 127, 129, 257})
            for (int32_t n_token : {1, 11})
                shapes.push_back({(shoal_format)format, 17, n_col, n_token, false});
    assert_products(b, shapes);
}
END_TEST

START_TEST(the_experts_of_a_layer)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        both b(seed, false, 64);
        std::vector<shape> shapes;
        for (int32_t expert = 0; expert < 24; expert++) {
            const int32_t n_token = expert % 5 == 4 ? 12 + expert / 2 : expert % 4;
            shapes.push_back({SHOAL_FORMAT_Q4, 48, 64, n_token, true});
            shapes.push_back({SHOAL_FORMAT_FP8_BLOCK, 72, 64, n_token, false});
        }
        assert_products(b, shapes);
        if (world_is_emulated())
            ck_assert_int_le(world_launches(), 10); /* a launch a kind, not an item */
    }
}
END_TEST

START_TEST(nothing_to_do)
{
    both b(1);
    const shoal_matrix *w = cpu_matrix(SHOAL_FORMAT_Q4, 16, 32, 1);
    shoal_matmul_item item = {};
    item.w = w;
    shoal_op_matmul_many(&b.device, &item, 1);
    shoal_op_matmul_many(&b.device, nullptr, 0);
    b.sync();
    if (world_is_emulated())
        ck_assert_int_eq(world_launches(), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, few_tokens);
    SHOAL_TEST(suite, few_tokens_of_integers);
    SHOAL_TEST(suite, many_tokens);
    SHOAL_TEST(suite, many_tokens_of_integers);
    SHOAL_TEST(suite, integers_for_others);
    SHOAL_TEST(suite, precise);
    SHOAL_TEST(suite, ragged_columns);
    SHOAL_TEST(suite, the_experts_of_a_layer);
    SHOAL_TEST(suite, nothing_to_do);
}

SHOAL_TEST_MAIN("kernels.cuda.matmul", add_tests)
