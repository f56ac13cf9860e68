/* A CUDA device that is not there, or fails: what is said, and that it is said once. The emulation
 * only. */
#include "runtime/kernels/cuda/device.cuh"
#include "tests/kernels/cuda/both.h"
#include "tests/support/cuda_emu/emu.h"

/* A log whose failures are kept. */
static shoal_log quiet()
{
    shoal_log log;
    shoal_log_init(&log, nullptr, 0, "test");
    return log;
}

static void assert_says(const shoal_log &log, const char *what)
{
    ck_assert_msg(strstr(log.error, what) != nullptr, "'%s' is not in '%s'", what, log.error);
}

static void assert_cannot_open(const emu_config &config, int32_t index, shoal_status status,
                               const char *says)
{
    emu_reset(config);
    shoal_log log = quiet();
    shoal_device_config wanted = {};
    shoal_device *device = nullptr;
    ck_assert_int_eq(shoal_cuda_backend.open(&device, index, &wanted, &log), status);
    ck_assert(device == nullptr);
    assert_says(log, says);
}

START_TEST(no_device)
{
    char why[256];
    emu_config config = emu_default_config();
    config.n_device = 0;
    emu_reset(config);
    ck_assert_int_eq(shoal_cuda_backend.count(why, sizeof why), 0);
    ck_assert(strstr(why, "nvidia-smi") != nullptr);
    assert_cannot_open(config, 0, SHOAL_UNAVAILABLE, "the NVIDIA driver finds no device");
    config = emu_default_config();
    config.driver_too_old = true;
    assert_cannot_open(config, 0, SHOAL_UNAVAILABLE,
                       "it is made for CUDA 11.4, this program wants one for CUDA 13.0 or newer");
    config = emu_default_config();
    config.no_driver = true;
    assert_cannot_open(config, 0, SHOAL_UNAVAILABLE, "there is no NVIDIA driver here");
    config = emu_default_config();
    config.n_device = 2;
    assert_cannot_open(config, 2, SHOAL_UNAVAILABLE,
                       "cuda:2 is not there: this host has 2, cuda:0 to cuda:1");
    assert_cannot_open(config, -1, SHOAL_UNAVAILABLE, "is not there");
    config.memory_bytes = 1000;
    assert_cannot_open(config, 1, SHOAL_NO_MEMORY, "cuda:1 cannot be opened");
}
END_TEST

/* Whatever call of CUDA the device is lost in while it is opened: that is said, and nothing is left
 * to be given back. */
START_TEST(lost_while_opening)
{
    int n_failed = 0;
    for (int after = 0; after < 200; after++) {
        emu_config config = emu_default_config();
        config.lost_after = after;
        emu_reset(config);
        shoal_log log = quiet();
        shoal_device_config wanted = {};
        shoal_device *device = nullptr;
        const shoal_status status = shoal_cuda_backend.open(&device, 0, &wanted, &log);
        if (status == SHOAL_OK) {
            shoal_device_close(device);
            break;
        }
        ck_assert_int_eq(status, SHOAL_UNAVAILABLE);
        assert_says(log, "cuda:0");
        n_failed++;
    }
    ck_assert_int_gt(n_failed, 5);
    ck_assert_int_lt(n_failed, 150);
    ck_assert_str_eq(emu_problems(), "");
}
END_TEST

/* Every operation of the table once, on little. */
static shoal_status everything(shoal_compute *c, bool *no_memory)
{
    const shoal_device_ops *ops = c->device->ops;
    float *v = static_cast<float *>(ops->take(c->device, SHOAL_MEMORY_DEVICE, 1 << 16));
    float *h = static_cast<float *>(ops->take(c->device, SHOAL_MEMORY_HOST, 1 << 16));
    *no_memory = v == nullptr || h == nullptr;
    if (*no_memory)
        return shoal_op_sync(c);
    const int32_t zero = 0;
    shoal_int8_group *int8 = reinterpret_cast<shoal_int8_group *>(v + 512);
    const shoal_activation silu = {};
    const shoal_matrix w = {SHOAL_FORMAT_F32, 16, 4, v, nullptr};
    shoal_op_upload(c, v, 64, h, 64, 64, 1);
    shoal_op_matmul(c, v + 256, 16, &w, v, 4, 1);
    shoal_op_to_groups(c, int8, 1, v, 32, 1, 32);
    shoal_op_rms_norm(c, v, 32, v, 32, v, 1, 32, 1.0F);
    shoal_op_activate(c, &silu, v, v, v, 32);
    shoal_op_activate_groups(c, &silu, int8, 1, v, v, 32, 1, 32);
    shoal_op_scale(c, v, 1.0F, 8);
    shoal_op_add_residual(c, v, v + 64, nullptr, 1.0F, 8);
    shoal_op_gate_rows(c, v, v + 64, 1, 8);
    shoal_gather gather = {};
    gather.f32 = v + 128, gather.from.f32 = v, gather.row = &zero, gather.n_row = 1;
    gather.n_col = 8;
    shoal_op_gather(c, &gather);
    shoal_pack pack = {};
    int32_t *index = reinterpret_cast<int32_t *>(h + 1024);
    pack.out = reinterpret_cast<unsigned char *>(h), pack.x.f32 = v, pack.index = index;
    pack.n_row = 1, pack.n_col = 8;
    shoal_op_pack_rows(c, &pack);
    shoal_unpack unpack = {};
    unpack.f32 = v, unpack.from = pack.out, unpack.n_row = 1, unpack.n_col = 8;
    shoal_op_unpack_rows(c, &unpack);
    shoal_sum sum = {};
    sum.acc = v, sum.from = pack.out, sum.home = index, sum.k = 1, sum.n_row = 1, sum.n_col = 8;
    shoal_op_sum_rows(c, &sum);
    shoal_op_mark(c, 3);
    const shoal_status waited = shoal_op_wait(c, 3);
    shoal_op_fetch(c, h, v, 64);
    void *stream;
    bool reached = false;
    shoal_status side = ops->side_open(&stream, c->device);
    side = side == SHOAL_OK ? ops->side_mark(c->device, 0) : side;
    while (side == SHOAL_OK && !reached)
        side = ops->side_reached(&reached, c->device, 0);
    const shoal_status status = shoal_op_sync(c);
    ck_assert(waited == SHOAL_OK || waited == status);
    ck_assert(side == SHOAL_OK || side == status);
    ops->give_back(c->device, SHOAL_MEMORY_DEVICE, v);
    ops->give_back(c->device, SHOAL_MEMORY_HOST, h);
    return status;
}

struct world {
    shoal_log log;
    shoal_compute c;
    explicit world(const emu_config &config) : log(quiet()), c()
    {
        emu_reset(config);
        shoal_device_config wanted = {};
        c.kernels = cpu_kernels();
        ck_assert_int_eq(shoal_cuda_backend.open(&c.device, 0, &wanted, &log), SHOAL_OK);
    }
    ~world()
    {
        shoal_device_close(c.device);
    }
    world(const world &) = delete;
    world &operator=(const world &) = delete;
};

static int is_set(void *flag)
{
    return *static_cast<int *>(flag);
}

/* A device that never ends what it was given, and gives no error either. */
START_TEST(one_that_hangs)
{
    emu_reset(emu_default_config());
    shoal_log log = quiet();
    shoal_device_config wanted = {};
    wanted.patience_us = 30000;
    shoal_compute c = {cpu_kernels(), nullptr, nullptr};
    ck_assert_int_eq(shoal_cuda_backend.open(&c.device, 0, &wanted, &log), SHOAL_OK);
    void *memory = c.device->ops->take(c.device, SHOAL_MEMORY_DEVICE, 64);
    ck_assert_int_eq(shoal_op_sync(&c), SHOAL_OK);
    static int goes_on = 0;
    emu_stream_hold(shoal__cuda(c.device)->stream, is_set, &goes_on);
    shoal_op_scale(&c, static_cast<float *>(memory), 2.0F, 16);
    ck_assert(!shoal_op_mark(&c, 0));
    ck_assert_int_eq(shoal_op_wait(&c, 0), SHOAL_UNAVAILABLE);
    assert_says(log, "has not ended what it was given for 0.0 s: it hangs");
    ck_assert_int_eq(shoal_op_sync(&c), SHOAL_UNAVAILABLE);
    c.device->ops->give_back(c.device, SHOAL_MEMORY_DEVICE, memory);
    shoal_device_close(c.device); /* returns */
    goes_on = 1;
    emu_reset(emu_default_config());
}
END_TEST

/* Lost in any call of CUDA: from then on the device's answer is the same, and nothing hangs. */
START_TEST(lost_at_any_time)
{
    int n_open = 0, n_failed = 0;
    for (;; n_open++) { /* calls until it is open */
        emu_config config = emu_default_config();
        config.lost_after = n_open;
        emu_reset(config);
        shoal_log log = quiet();
        shoal_device_config wanted = {};
        shoal_device *device = nullptr;
        const bool open = shoal_cuda_backend.open(&device, 0, &wanted, &log) == SHOAL_OK;
        shoal_device_close(device);
        if (open)
            break;
    }
    for (int after = n_open; after < n_open + 1000; after++) {
        emu_config config = emu_default_config();
        config.lost_after = after;
        world w(config);
        bool no_memory;
        const shoal_status status = everything(&w.c, &no_memory);
        if (status == SHOAL_OK) {
            ck_assert(!no_memory);
            break;
        }
        n_failed++;
        ck_assert_int_eq(status, SHOAL_UNAVAILABLE);
        assert_says(w.log, "device cuda:0 (CUDA emulated on the CPU, 0000:00:00.0) failed");
        assert_says(w.log, "dmesg");
        w.log.error[0] = '\0'; /* it is said once */
        const uint64_t n_launch = emu_count().n_launch;
        ck_assert_int_eq(everything(&w.c, &no_memory), SHOAL_UNAVAILABLE);
        ck_assert_int_eq(shoal_op_wait(&w.c, 3), SHOAL_UNAVAILABLE);
        ck_assert(!shoal_op_mark(&w.c, 3));
        ck_assert_str_eq(w.log.error, "");
        ck_assert_uint_eq(emu_count().n_launch, n_launch);
        ck_assert(w.c.device->ops->read_gb_per_s(w.c.device, nullptr, 0) == 0);
    }
    ck_assert_int_gt(n_failed, 20);
    ck_assert_int_lt(n_failed, 900);
}
END_TEST

/* A kernel that goes wrong while it runs is found by whoever waits. */
START_TEST(a_kernel_goes_wrong)
{
    for (int launch = 1; launch <= 12; launch++) {
        emu_config config = emu_default_config();
        config.failing_launch = launch;
        config.seed = (uint64_t)launch;
        world w(config);
        bool no_memory;
        ck_assert_int_eq(everything(&w.c, &no_memory), SHOAL_UNAVAILABLE);
        assert_says(w.log, "cudaErrorLaunchFailure");
        assert_says(w.log, "please report it");
    }
}
END_TEST

START_TEST(out_of_memory)
{
    emu_config config = emu_default_config();
    config.memory_bytes = 8 << 20;
    world w(config);
    const shoal_device_ops *ops = w.c.device->ops;
    const size_t half = w.c.device->info.free_bytes / 2 + 1;
    void *some = ops->take(w.c.device, SHOAL_MEMORY_DEVICE, half);
    ck_assert(some != nullptr);
    ck_assert(ops->take(w.c.device, SHOAL_MEMORY_DEVICE, half) == nullptr);
    ck_assert_str_eq(w.log.error, ""); /* the caller says what it was for */
    ck_assert_int_eq(shoal_op_sync(&w.c), SHOAL_OK);
    ops->give_back(w.c.device, SHOAL_MEMORY_DEVICE, some);
    some = ops->take(w.c.device, SHOAL_MEMORY_DEVICE, half);
    ck_assert(some != nullptr);
    ops->give_back(w.c.device, SHOAL_MEMORY_DEVICE, some);
}
END_TEST

START_TEST(attention_without_room)
{
    world w(emu_default_config());
    shoal_kv_cache cache = {};
    cache.shape = {SHOAL_KV_F32, 1, 1, 1024, 1, 8, 8, false};
    cache.n_block = 16;
    shoal_place *place = static_cast<shoal_place *>(
        w.c.device->ops->take(w.c.device, SHOAL_MEMORY_HOST, sizeof *place));
    place->position = 1000;
    shoal_attend_room room = {};
    room.n_part = 39; /* 4 segments of 8 + 2 are wanted */
    shoal_attend a = {};
    a.cache = &cache, a.place = place, a.n_token = 1, a.n_head = 1, a.room = &room;
    shoal_op_attend(&w.c, &a);
    ck_assert_int_eq(shoal_op_sync(&w.c), SHOAL_UNAVAILABLE);
    assert_says(w.log, "found at attention");
    w.c.device->ops->give_back(w.c.device, SHOAL_MEMORY_HOST, place);
}
END_TEST

/* What a program is told by its environment (e2e tests). */
START_TEST(the_environment)
{
    setenv("SHOAL_CUDA_EMU", "n_device=3,memory_bytes=5000,lost_after=7,seed=9", 1);
    const emu_config config = emu_environment_config();
    ck_assert_int_eq(config.n_device, 3);
    ck_assert_uint_eq(config.memory_bytes, 5000);
    ck_assert_int_eq(config.lost_after, 7);
    ck_assert_uint_eq(config.seed, 9);
    unsetenv("SHOAL_CUDA_EMU");
    ck_assert_int_eq(emu_environment_config().n_device, 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, no_device);
    SHOAL_TEST(suite, lost_while_opening);
    SHOAL_TEST(suite, one_that_hangs);
    SHOAL_TEST(suite, lost_at_any_time);
    SHOAL_TEST(suite, a_kernel_goes_wrong);
    SHOAL_TEST(suite, out_of_memory);
    SHOAL_TEST(suite, attention_without_room);
    SHOAL_TEST(suite, the_environment);
}

SHOAL_TEST_MAIN("kernels.cuda.failures", add_tests)
