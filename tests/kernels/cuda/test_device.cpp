/* A CUDA device as a whole: its marks, its ring, its memory. What only the emulation can show, how
 * it is when a device fails, is in test_failures.cpp. */
#include "tests/kernels/cuda/both.h"

#include <cuda_runtime.h>

START_TEST(says_what_it_is)
{
    char why[256] = "";
    ck_assert_int_ge(shoal_cuda_backend.count(why, sizeof why), 1);
    ck_assert_str_eq(why, "");
    both b(1);
    const shoal_device_info *info = &b.device.device->info;
    ck_assert_str_eq(info->id, "cuda:0");
    ck_assert_uint_gt(strlen(info->name), 0);
    ck_assert_uint_gt(strlen(info->bus_id), 6);
    char bus_id[32];
    shoal_cuda_backend.bus_id(bus_id, 0);
    ck_assert_str_eq(bus_id, info->bus_id);
    shoal_cuda_backend.bus_id(bus_id, 1000);
    ck_assert_str_eq(bus_id, "");
    ck_assert_int_ge(info->version, 86);
    ck_assert_uint_gt(info->free_bytes, 0);
    ck_assert_uint_le(info->free_bytes, info->memory_bytes);
}
END_TEST

START_TEST(memory_is_zero)
{
    both b(2);
    const shoal_device_ops *ops = b.device.device->ops;
    for (int kind = 0; kind < 2; kind++) {
        float *at = static_cast<float *>(
            ops->take(b.device.device, (shoal_memory)kind, 1000 * sizeof(float)));
        ck_assert_uint_eq((uintptr_t)at % 256, 0);
        assert_same(b.back(at, 1000), std::vector<float>(1000));
        ops->give_back(b.device.device, (shoal_memory)kind, at);
    }
    void *none = ops->take(b.device.device, SHOAL_MEMORY_DEVICE, 0);
    ck_assert(none != nullptr);
    ops->give_back(b.device.device, SHOAL_MEMORY_DEVICE, none);
}
END_TEST

START_TEST(too_much_memory_is_none)
{
    both b(3);
    const shoal_device_ops *ops = b.device.device->ops;
    const size_t too_much = (size_t)b.device.device->info.memory_bytes + 1;
    ck_assert(ops->take(b.device.device, SHOAL_MEMORY_DEVICE, too_much) == nullptr);
    b.sync(); /* it has not failed */
    float *some = b.vram<float>(nullptr, 10);
    shoal_op_scale(&b.device, some, 2.0F, 10);
    b.sync();
}
END_TEST

static void count_call(void *arg)
{
    ++*static_cast<int *>(arg);
}

/* An upload is there when its mark is reached, and the hook is called while the host waits. */
START_TEST(marks)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        both b(seed);
        enum { N = 3 * SHOAL_N_MARK };
        int n_call = 0, n_reached = 0;
        float *y = b.vram(std::vector<float>(1, 1.0F)), *seen = b.pinned<float>(nullptr, N);
        shoal_pool_set_poll(b.pool, count_call, &n_call);
        for (int32_t i = 0; i < N; i++) {
            shoal_op_scale(&b.device, y, i % 2 == 0 ? 2.0F : 0.5F, 1);
            shoal_op_fetch(&b.device, &seen[i], y, sizeof *y);
            if (shoal_op_mark(&b.device, i)) {
                n_reached++;
                ck_assert(seen[i] == (i % 2 == 0 ? 2.0F : 1.0F));
            }
            if (i % 5 == 4) {
                ck_assert_int_eq(shoal_op_wait(&b.device, i - 2), SHOAL_OK);
                for (int32_t j = 0; j <= i - 2; j++)
                    ck_assert(seen[j] == (j % 2 == 0 ? 2.0F : 1.0F));
            }
        }
        ck_assert_int_lt(n_reached, N); /* nothing waits for all of it */
        b.sync();
        if (world_is_emulated()) /* what is enqueued waits there */
            ck_assert_int_gt(n_call, 0);
        ck_assert_int_eq(shoal_op_wait(&b.device, 7), SHOAL_OK);
    }
}
END_TEST

/* Items of many calls, whose rooms are used again and again while nobody waits. */
START_TEST(the_ring_goes_round)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        both b(seed);
        enum { N_ITEM = 600, N_CALL = 30, N_ROW = 16, N_COL = 32 };
        const shoal_matrix *w = cpu_matrix(SHOAL_FORMAT_F32, N_ROW, N_COL, 1);
        shoal_matrix on_device = *w;
        on_device.data = b.vram(static_cast<const float *>(w->data), N_ROW * N_COL);
        const std::vector<float> x = some_values(N_COL * N_CALL, 2);
        const float *x_device = b.vram(x);
        float *y = b.vram<float>(nullptr, N_ROW * N_CALL);
        for (int32_t call = 0; call < N_CALL; call++) {
            std::vector<shoal_matmul_item> items(
                N_ITEM); /* all but some are empty, and take room */
            for (shoal_matmul_item &item : items)
                item.w = &on_device;
            for (size_t i = 0; i < N_ITEM; i += 50) {
                items[i].y = y + call * N_ROW, items[i].ld_y = N_ROW;
                items[i].x = x_device + call * N_COL, items[i].ld_x = N_COL;
                items[i].n_token = 1;
            }
            shoal_op_matmul_many(&b.device, items.data(), N_ITEM);
        }
        std::vector<float> want;
        for (int32_t call = 0; call < N_CALL; call++) {
            const float *product = cpu_product(w, &x[(size_t)call * N_COL], nullptr, nullptr, 1);
            want.insert(want.end(), product, product + N_ROW);
        }
        assert_near(b.back(y, want.size()), want, SHOAL_TOLERANCE_MATMUL);
    }
}
END_TEST

/* A second stream: what is enqueued there is reached without the first one's being waited for. */
START_TEST(the_stream_beside)
{
    both b(6);
    shoal_device *d = b.device.device;
    void *stream = nullptr, *again = nullptr;
    ck_assert_int_eq(d->ops->side_open(&stream, d), SHOAL_OK);
    ck_assert_int_eq(d->ops->side_open(&again, d), SHOAL_OK);
    ck_assert(stream != nullptr && stream == again);
    const std::vector<float> x = some_values(1000, 3);
    float *from = b.pinned(x), *at = b.vram<float>(nullptr, x.size());
    ck_assert_int_eq(cudaMemcpyAsync(at, from, x.size() * sizeof(float), cudaMemcpyHostToDevice,
                                     static_cast<cudaStream_t>(stream)),
                     cudaSuccess);
    const int32_t last = SHOAL_SIDE_MARKS - 1;
    ck_assert_int_eq(d->ops->side_mark(d, last), SHOAL_OK);
    bool reached = false;
    for (int i = 0; i < 1000000 && !reached; i++)
        ck_assert_int_eq(d->ops->side_reached(&reached, d, last), SHOAL_OK);
    ck_assert(reached);
    assert_same(b.back(at, x.size()), x);
}
END_TEST

START_TEST(memory_is_read)
{
    both b(4);
    const size_t n = 100000;
    const float *at = b.vram<float>(nullptr, n);
    ck_assert(b.device.device->ops->read_gb_per_s(b.device.device, at, n * sizeof *at) > 0);
    b.sync();
}
END_TEST

/* A run whose operands in host memory are others each time: its body is left out from the third
 * time on, what it does is not. */
START_TEST(runs_are_recorded)
{
    enum { N_ROW = 3, K = 2, N_COL = 40, N_FROM = 7 };
    both b(8);
    const std::vector<float> from = some_values(N_FROM * N_COL, 3);
    const unsigned char *host =
        b.pinned(reinterpret_cast<const unsigned char *>(from.data()), from.size() * sizeof(float));
    int32_t *home = b.pinned<int32_t>(nullptr, N_ROW * K);
    float *acc = b.vram<float>(nullptr, N_ROW * N_COL);
    int n_body = 0;
    for (int32_t turn = 0; turn < 6; turn++) {
        std::vector<float> want(N_ROW * N_COL);
        for (int32_t i = 0; i < N_ROW * K; i++)
            home[i] = (turn * 3 + i * 2) % N_FROM;
        shoal_sum sum = {};
        sum.from = host, sum.encoding = SHOAL_WIRE_F32, sum.home = home;
        sum.k = K, sum.n_row = N_ROW, sum.n_col = N_COL;
        sum.acc = want.data();
        shoal_op_sum_rows(&b.cpu, &sum);
        shoal_op_scale(&b.cpu, want.data(), 0.5F, (int64_t)want.size());
        sum.acc = acc;
        shoal_op_run run = {{1, 2, 0, N_ROW, 1}, 0};
        while (shoal_op_next(&b.device, &run)) {
            n_body++;
            shoal_op_sum_rows(&b.device, &sum);
            shoal_op_scale(&b.device, acc, 0.5F, N_ROW * N_COL);
        }
        assert_same(b.back(acc, want.size()), want);
    }
    ck_assert_int_eq(n_body, 2);
}
END_TEST

/* More products than a launch carries, so that a list travels beside it; and more runs than are
 * kept. */
START_TEST(recorded_lists_stay)
{
    enum { N_ITEM = 12, N_COL = 32, N_ROW = 16, N_RUN = 3500 };
    both b(9);
    const std::vector<float> x = some_values(N_ITEM * N_COL, 5);
    const float *on_device = b.vram(x);
    std::vector<float> weight = some_values(N_COL * N_ROW, 6), want(N_ITEM * N_ROW);
    shoal_matrix w = {SHOAL_FORMAT_F32, N_ROW, N_COL, weight.data(), nullptr};
    shoal_matrix there = w;
    there.data = b.vram(weight);
    float *y = b.vram<float>(nullptr, want.size());
    std::vector<shoal_matmul_item> items(N_ITEM), wanted(N_ITEM);
    for (int32_t i = 0; i < N_ITEM; i++) {
        wanted[(size_t)i] = {want.data() + i * N_ROW,
                             N_ROW,
                             &w,
                             x.data() + i * N_COL,
                             N_COL,
                             1,
                             nullptr,
                             nullptr,
                             0};
        items[(size_t)i] = wanted[(size_t)i];
        items[(size_t)i].y = y + i * N_ROW, items[(size_t)i].w = &there;
        items[(size_t)i].x = on_device + i * N_COL;
    }
    shoal_op_matmul_many(&b.cpu, wanted.data(), N_ITEM);
    int n_body = 0;
    for (int32_t turn = 0; turn < 4; turn++) {
        std::vector<shoal_matmul_item> list = items; /* gone after the call */
        shoal_op_run run = {{1, 0, 0, 1, 1}, 0};
        while (shoal_op_next(&b.device, &run)) {
            n_body++;
            shoal_op_matmul_many(&b.device, list.data(), N_ITEM);
        }
        memset(list.data(), 0x55, list.size() * sizeof list[0]);
        for (int32_t i = 0; i < 200; i++) /* the ring goes round meanwhile */
            shoal_op_matmul_many(&b.device, items.data(), N_ITEM);
        assert_near(b.back(y, want.size()), want, SHOAL_TOLERANCE_MATMUL);
    }
    ck_assert_int_eq(n_body, 2);
    for (int32_t key = 0; key < N_RUN; key++) {
        shoal_op_run run = {{2, key, 0, 1, 1}, 0};
        while (shoal_op_next(&b.device, &run))
            n_body++;
    }
    ck_assert_int_eq(n_body, 2 + N_RUN);
    b.sync();
}
END_TEST

/* Lists of recorded runs until there is no room for more: all is forgotten and begins anew. Most
 * products of a list have no tokens, so it is long and soon done. */
START_TEST(recorded_lists_fill_their_store)
{
    enum { N_ITEM = 1200, N_COL = 32, N_ROW = 16, N_RUN = 80 };
    both b(10, false, N_ITEM);
    const std::vector<float> x = some_values(N_COL, 5), weight = some_values(N_COL * N_ROW, 6);
    std::vector<float> there = weight, want(N_ROW);
    shoal_matrix w = {SHOAL_FORMAT_F32, N_ROW, N_COL, there.data(), nullptr};
    shoal_matmul_item one = {want.data(), N_ROW, &w, x.data(), N_COL, 1, nullptr, nullptr, 0};
    shoal_op_matmul_many(&b.cpu, &one, 1);
    float *y = b.vram<float>(nullptr, want.size());
    w.data = b.vram(weight);
    one.y = y, one.x = b.vram(x);
    std::vector<shoal_matmul_item> items(N_ITEM, one);
    for (int32_t i = 1; i < N_ITEM; i++)
        items[(size_t)i].n_token = 0;
    for (int32_t key = 0; key < N_RUN; key++) {
        for (int32_t turn = 0; turn < 3; turn++) {
            shoal_op_run run = {{3, key, 0, 1, 1}, 0};
            while (shoal_op_next(&b.device, &run))
                shoal_op_matmul_many(&b.device, items.data(), N_ITEM);
        }
        b.sync();
    }
    assert_near(b.back(y, want.size()), want, SHOAL_TOLERANCE_MATMUL);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, says_what_it_is);
    SHOAL_TEST(suite, memory_is_zero);
    SHOAL_TEST(suite, too_much_memory_is_none);
    SHOAL_TEST(suite, marks);
    SHOAL_TEST(suite, the_ring_goes_round);
    SHOAL_TEST(suite, the_stream_beside);
    SHOAL_TEST(suite, memory_is_read);
    SHOAL_TEST(suite, runs_are_recorded);
    SHOAL_TEST(suite, recorded_lists_stay);
    SHOAL_TEST(suite, recorded_lists_fill_their_store);
}

SHOAL_TEST_MAIN("kernels.cuda.device", add_tests)
