/* Products: the experts of a layer and single matrices, for few tokens, which are bound by reading
 * weights, and for many, which are bound by tensor cores. As a layer calls them: one
 * shoal_cuda_matmul_many, its list of items included. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "tests/bench/cuda/bench.h"

extern "C" {
#include "tests/kernels/cuda/cpu_side.h"
}

namespace
{

struct shape {
    int32_t n_item, n_row, n_col;
};

struct product_case {
    shoal_format format;
    shape s;
    int32_t n_token; /* of each item */
};

bool takes_int8(shoal_format format)
{
    return shoal_format_is_quantised(format);
}

/* What the items of all calls share, on the device. */
struct inputs {
    unsigned char *w; /* [n_call, n_item] matrices */
    size_t w_bytes;
    float *scale; /* of one matrix */
    float *x;
    shoal_int8_group *x_int8;
    float *y;
};

inputs make_inputs(bench_memory &m, const product_case &c, int n_call)
{
    const shape &s = c.s;
    inputs in = {};
    shoal_matrix *w = cpu_matrix(c.format, s.n_row, s.n_col, 3);
    in.w_bytes = shoal_matrix_data_bytes(c.format, s.n_row, s.n_col);
    in.w = m.repeated(w->data, in.w_bytes, (size_t)n_call * (size_t)s.n_item);
    const size_t scale_bytes = shoal_matrix_scale_bytes(c.format, s.n_row, s.n_col);
    if (scale_bytes > 0)
        in.scale = m.copy(w->scale, scale_bytes / sizeof(float));
    const int64_t n_x = (int64_t)s.n_item * c.n_token * s.n_col;
    in.x = m.values(n_x);
    if (takes_int8(c.format)) {
        const int32_t n_group = shoal_int8_groups(s.n_col), n_row = s.n_item * c.n_token;
        in.x_int8 = m.device<shoal_int8_group>((size_t)n_row * (size_t)n_group);
        bench_must(shoal_cuda_to_groups(in.x_int8, n_group, {in.x, s.n_col, n_row, s.n_col},
                                        nullptr, nullptr, nullptr),
                   "rows as integers");
        bench_must(cudaDeviceSynchronize(), "rows as integers");
    }
    in.y = m.device<float>((size_t)s.n_item * (size_t)c.n_token * (size_t)s.n_row);
    return in;
}

/* The items of a call. w: [n_item], what they point to. */
std::vector<shoal_matmul_item> items_of(std::vector<shoal_matrix> &w, const product_case &c,
                                        const inputs &in, int call)
{
    const shape &s = c.s;
    std::vector<shoal_matmul_item> items;
    for (int32_t i = 0; i < s.n_item; i++) {
        shoal_matmul_item item = {};
        const int64_t row0 = (int64_t)i * c.n_token;
        unsigned char *data = in.w + ((size_t)call * (size_t)s.n_item + (size_t)i) * in.w_bytes;
        w[(size_t)i] = {c.format, s.n_row, s.n_col, data, in.scale};
        item.w = &w[(size_t)i];
        item.n_token = c.n_token;
        item.y = in.y + row0 * s.n_row, item.ld_y = s.n_row;
        if (in.x_int8 != nullptr) {
            item.ld_x_int8 = shoal_int8_groups(s.n_col);
            item.x_int8 = in.x_int8 + row0 * item.ld_x_int8;
        } else {
            item.x = in.x + row0 * s.n_col, item.ld_x = s.n_col;
        }
        items.push_back(item);
    }
    return items;
}

/* Few rows: of the memory's bandwidth, 0.8 for experts of 1,024 rows and more, 0.6 for smaller
 * ones. Many: half of the tensor cores' bf16 peak. */
double target_of(const product_case &c, bool many)
{
    if (many)
        return c.s.n_item * c.n_token >= 512 ? 0.5 : 0;
    return c.s.n_row >= 1024 ? 0.8 : 0.6;
}

void run(const bench &b, const product_case &c)
{
    bench_memory m;
    const shape &s = c.s;
    const bool many = c.n_token > 8;
    const double w_bytes = (double)(shoal_matrix_data_bytes(c.format, s.n_row, s.n_col) +
                                    shoal_matrix_scale_bytes(c.format, s.n_row, s.n_col));
    const int n_call = bench_calls(b, w_bytes * s.n_item);
    const inputs in = make_inputs(m, c, n_call);
    std::vector<shoal_cuda_items> room; /* a call's list stays as it is until the last replay */
    for (int i = 0; i < n_call; i++)
        room.push_back({m.pinned<shoal_cuda_item>((size_t)s.n_item),
                        m.device<shoal_cuda_item>((size_t)s.n_item)});
    std::vector<shoal_matrix> w((size_t)s.n_item);
    const double us = bench_us(b, n_call, [&](int i) {
        const std::vector<shoal_matmul_item> items = items_of(w, c, in, i);
        return shoal_cuda_matmul_many(&room[(size_t)i], items.data(), s.n_item, false, b.stream);
    });
    const double n_row = (double)s.n_item * c.n_token;
    const double x_bytes = takes_int8(c.format) ? sizeof(shoal_int8_group) / 32.0 : 4.0;
    bench_result r = {};
    r.part = "matmul", r.kernel = many ? "tiles" : "few", r.format = shoal_format_text(c.format);
    r.shape = std::to_string(s.n_item) + " x " + std::to_string(s.n_row) + " x " +
              std::to_string(s.n_col);
    r.n_token = c.n_token, r.us = us;
    r.n_bytes = w_bytes * s.n_item + n_row * (s.n_col * x_bytes + s.n_row * 4.0);
    r.n_op = 2.0 * n_row * s.n_row * s.n_col;
    r.of = many ? "bf16" : "read";
    r.target = target_of(c, many);
    bench_print(b, r);
}

} // namespace

void bench_matmul(bench &b)
{
    static const shoal_format formats[] = {SHOAL_FORMAT_Q4, SHOAL_FORMAT_BF16,
                                           SHOAL_FORMAT_FP8_BLOCK, SHOAL_FORMAT_Q8,
                                           SHOAL_FORMAT_MXFP4};
    static const shape decode[] = {
        {8, 1024, 2048},                   /* the experts of a layer that one token chooses */
        {32, 1024, 2048},                  /* of some tokens */
        {8, 768, 2048},                    /* Qwen3-30B-A3B, gate or up */
        {32, 768, 2048},  {8, 1536, 4096}, /* Qwen3-235B-A22B */
        {8, 2048, 7168},                   /* DeepSeek-V3 */
        {8, 7168, 2048},                   /* its down */
        {4, 2880, 2880},                   /* gpt-oss */
        {1, 4096, 4096},                   /* a matrix of attention */
    };
    static const shape prefill[] = {{1, 4096, 4096}, {32, 1536, 4096}, {32, 768, 2048}};
    if (b.tiny) {
        for (const shoal_format format : formats) {
            run(b, {format, {3, 64, 128}, 1});
            run(b, {format, {2, 48, 128}, 12});
        }
        return;
    }
    for (const shape &s : decode)
        for (const shoal_format format : formats)
            for (const int32_t n_token : {1, 4})
                run(b, {format, s, n_token});
    for (const shape &s : prefill)
        for (const shoal_format format : formats)
            run(b, {format, s, s.n_item == 1 ? 512 : 64});
    for (const shoal_format format : {SHOAL_FORMAT_Q4, SHOAL_FORMAT_BF16})
        run(b, {format, {1, 4096, 4096}, 2048});
}
