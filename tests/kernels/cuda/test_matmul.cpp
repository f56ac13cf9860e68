/* Matrix products on a device against the CPU's: every format and form, ragged shapes, many items
 * of several kinds in one call. */
#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/tolerance.h"

extern "C" {
#include "tests/kernels/cuda/cpu_side.h"
}

#include "runtime/kernels/cuda/kernels.cuh"
#include "tests/kernels/cuda/world.h"

namespace
{

struct product {
    shoal_matrix *w;
    float *want;
    shoal_cuda_item item;
    double tolerance;
};

product make_product(shoal_format format, int32_t n_row, int32_t n_col, int32_t n_token, bool int8)
{
    const uint64_t seed = (uint64_t)n_row * 1000 + (uint64_t)n_col * 10 + (uint64_t)n_token;
    product p = {};
    p.w = cpu_matrix(format, n_row, n_col, seed);
    n_col = p.w->n_col;
    const float *x = cpu_values((int64_t)n_token * n_col, seed + 1);
    const float *bias = n_token % 2 == 1 ? cpu_values(n_row, seed + 2) : nullptr;
    const shoal_int8_group *groups = int8 ? cpu_groups(x, n_token, n_col) : nullptr;
    p.want = cpu_product(p.w, x, groups, bias, n_token);
    const size_t n_group = (size_t)shoal_int8_groups(n_col);
    shoal_cuda_item *i = &p.item;
    i->format = format;
    i->n_row = n_row, i->n_col = n_col, i->n_token = n_token;
    i->w = to_device(static_cast<const unsigned char *>(p.w->data),
                     shoal_matrix_data_bytes(format, n_row, n_col));
    if (p.w->scale != nullptr)
        i->scale =
            to_device(p.w->scale, shoal_matrix_scale_bytes(format, n_row, n_col) / sizeof(float));
    if (int8)
        i->x_int8 = to_device(groups, (size_t)n_token * n_group), i->ld_x_int8 = (int64_t)n_group;
    else
        i->x = to_device(x, (size_t)n_token * (size_t)n_col), i->ld_x = n_col;
    if (bias != nullptr)
        i->bias = to_device(bias, (size_t)n_row);
    i->y = device_new<float>((size_t)n_token * (size_t)n_row), i->ld_y = n_row;
    const bool rounds =
        n_token > 8 && (format == SHOAL_FORMAT_BF16 || format == SHOAL_FORMAT_FP8_BLOCK);
    p.tolerance = int8     ? SHOAL_TOLERANCE_MATMUL_INT8
                  : rounds ? SHOAL_TOLERANCE_MATMUL_BF16
                           : SHOAL_TOLERANCE_MATMUL;
    return p;
}

shoal_cuda_items make_room(int32_t n)
{
    shoal_cuda_items room = {nullptr, device_new<shoal_cuda_item>((size_t)n), n};
    ck_assert_int_eq(cudaHostAlloc(&room.host, (size_t)n * sizeof *room.host, cudaHostAllocDefault),
                     cudaSuccess);
    return room;
}

void assert_products(const std::vector<product> &products)
{
    std::vector<shoal_cuda_item> items;
    for (const product &p : products)
        items.push_back(p.item);
    const shoal_cuda_items room = make_room((int32_t)items.size());
    cudaStream_t stream;
    ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ck_assert_int_eq(shoal_cuda_matmul_many(&room, items.data(), (int32_t)items.size(), stream),
                     cudaSuccess);
    ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
    for (const product &p : products) {
        const size_t n = (size_t)p.item.n_token * (size_t)p.item.n_row;
        const std::vector<float> got = from_device(p.item.y, n);
        const double distance = distance_of(got.data(), p.want, n);
        ck_assert_msg(
            distance <= p.tolerance,
            "%s %d x %d, %d tokens%s: %.3g of the largest value away, at most %.3g is fine",
            shoal_format_text(p.item.format), (int)p.item.n_row, (int)p.item.n_col,
            (int)p.item.n_token, p.item.x_int8 != nullptr ? " of integers" : "", distance,
            p.tolerance);
    }
    ck_assert_str_eq(world_problems(), "");
}

} // namespace

START_TEST(few_tokens)
{
    world_reset(1);
    for (int format = 0; format < SHOAL_N_FORMAT; format++) {
        std::vector<product> products;
        for (int32_t n_token = 1; n_token <= 8; n_token++)
            products.push_back(make_product((shoal_format)format, 16 * n_token + n_token % 3,
                                            32 * n_token + 96, n_token, false));
        assert_products(products);
    }
}
END_TEST

START_TEST(few_tokens_of_integers)
{
    world_reset(2);
    for (shoal_format format : {SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_Q8, SHOAL_FORMAT_Q4}) {
        std::vector<product> products;
        for (int32_t n_token = 1; n_token <= 8; n_token++)
            products.push_back(
                make_product(format, 16 * n_token + n_token % 3, 32 * n_token + 96, n_token, true));
        assert_products(products);
    }
}
END_TEST

START_TEST(many_tokens)
{
    world_reset(3);
    for (int format = 0; format < SHOAL_N_FORMAT; format++) {
        std::vector<product> products;
        for (int32_t n_token : {9, 64, 67})
            products.push_back(make_product((shoal_format)format, 40 + n_token, 160 + n_token / 2,
                                            n_token, false));
        assert_products(products);
    }
}
END_TEST

START_TEST(many_tokens_of_integers)
{
    world_reset(4);
    for (shoal_format format : {SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_Q8, SHOAL_FORMAT_Q4}) {
        std::vector<product> products;
        for (int32_t n_token : {9, 64, 67})
            products.push_back(make_product(format, n_token + 3, 130 + n_token / 2, n_token, true));
        assert_products(products);
    }
}
END_TEST

START_TEST(ragged_columns)
{
    world_reset(5);
    std::vector<product> products;
    for (int format = 0; format < SHOAL_N_FORMAT; format++)
        for (int32_t n_col : {1, 7, 33, 127, 129, 257})
            for (int32_t n_token : {1, 11})
                products.push_back(make_product((shoal_format)format, 17, n_col, n_token, false));
    assert_products(products);
}
END_TEST

START_TEST(the_experts_of_a_layer)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        world_reset(seed);
        std::vector<product> products;
        for (int32_t expert = 0; expert < 12; expert++) {
            const int32_t n_token = expert % 5 == 4 ? 12 + expert : expert % 5;
            if (n_token > 0)
                products.push_back(make_product(SHOAL_FORMAT_Q4, 96, 128, n_token, true));
            if (n_token > 0)
                products.push_back(make_product(SHOAL_FORMAT_FP8_BLOCK, 144, 128, n_token, false));
        }
        assert_products(products);
        ck_assert(world_launches() <= 10); /* a launch a kind, not an item */
    }
}
END_TEST

START_TEST(nothing_to_do)
{
    world_reset(1);
    const shoal_cuda_items room = make_room(1);
    shoal_cuda_item item = {};
    ck_assert_int_eq(shoal_cuda_matmul_many(&room, &item, 1, nullptr), cudaSuccess);
    ck_assert_int_eq(shoal_cuda_matmul_many(&room, nullptr, 0, nullptr), cudaSuccess);
    ck_assert(world_launches() <= 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, few_tokens);
    SHOAL_TEST(suite, few_tokens_of_integers);
    SHOAL_TEST(suite, many_tokens);
    SHOAL_TEST(suite, many_tokens_of_integers);
    SHOAL_TEST(suite, ragged_columns);
    SHOAL_TEST(suite, the_experts_of_a_layer);
    SHOAL_TEST(suite, nothing_to_do);
}

SHOAL_TEST_MAIN("kernels.cuda.matmul", add_tests)
