/* What is done to rows: bound by memory, or by PCIe where they go to or come from the host. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "tests/bench/cuda/bench.h"

extern "C" {
#include "tests/kernels/cuda/cpu_side.h"
}

namespace
{

struct rows {
    bench_memory m;
    int32_t n_row, n_col, n_group;
    shoal_cuda_rows x, y;
    shoal_int8_group *groups;
    unsigned char *host; /* rows as they travel, pinned */

    rows(int32_t n_row_, int32_t n_col_)
        : n_row(n_row_), n_col(n_col_), n_group(shoal_int8_groups(n_col_))
    {
        const int64_t n = (int64_t)n_row * n_col;
        x = {m.values(n), n_col, n_row, n_col};
        y = {m.device<float>((size_t)n), n_col, n_row, n_col};
        groups = m.device<shoal_int8_group>((size_t)n_row * (size_t)n_group);
        host = m.pinned<unsigned char>((size_t)n * 4);
        bench_must(shoal_cuda_to_groups(groups, n_group, x, nullptr), "rows as integers");
        bench_must(shoal_cuda_rows_to_bf16(reinterpret_cast<uint16_t *>(host), x, nullptr),
                   "rows as bf16");
        bench_must(cudaDeviceSynchronize(), "rows");
    }
};

void show(const bench &b, const rows &r, const char *kernel, const char *format, double n_bytes,
          const char *of, const std::function<cudaError_t()> &enqueue)
{
    bench_result found = {};
    found.us = bench_us(b, b.tiny ? 1 : 20, [&](int) { return enqueue(); });
    found.part = "rows", found.kernel = kernel, found.format = format;
    found.shape = "width " + std::to_string(r.n_col);
    found.n_token = r.n_row, found.n_bytes = n_bytes, found.of = of;
    bench_print(b, found);
}

void run(const bench &b, int32_t n_row, int32_t n_col)
{
    rows r(n_row, n_col);
    const double n = (double)n_row * n_col;
    const double int8_bytes = (double)n_row * ((n_col + 3) / 4 * 4 + 4.0 * r.n_group);
    const float *weight = r.m.values(n_col);
    const int64_t n_value = (int64_t)n_row * n_col;
    uint16_t *half = reinterpret_cast<uint16_t *>(r.host);
    show(b, r, "rms_norm", "f32", 8 * n, "read",
         [&] { return shoal_cuda_rms_norm(r.y, r.x, weight, 1e-6F, b.stream); });
    show(b, r, "to_groups", "int8", 4 * n + 36 * (n / 32), "read",
         [&] { return shoal_cuda_to_groups(r.groups, r.n_group, r.x, b.stream); });
    show(b, r, "activate", "f32", 12 * n, "read", [&] {
        return shoal_cuda_activate(r.y.at, r.x.at, r.x.at, n_value, {0.0F, 0.0F}, b.stream);
    });
    show(b, r, "rows to host", "bf16", 2 * n, "to_host",
         [&] { return shoal_cuda_rows_to_bf16(half, r.x, b.stream); });
    show(b, r, "rows from host", "bf16", 2 * n, "to_device",
         [&] { return shoal_cuda_rows_from_bf16(r.y, half, b.stream); });
    show(b, r, "groups to host", "int8", int8_bytes, "to_host", [&] {
        return shoal_cuda_pack_groups(r.host, r.groups, r.n_group, n_row, n_col, b.stream);
    });
    show(b, r, "groups from host", "int8", int8_bytes, "to_device", [&] {
        return shoal_cuda_unpack_groups(r.groups, r.n_group, r.host, n_row, n_col, b.stream);
    });
}

/* Results of k experts a row, as they lie in pinned memory. */
void combine(const bench &b, int32_t n_row, int32_t n_col, int32_t k)
{
    rows r(n_row * k, n_col);
    std::vector<int32_t> index;
    for (int32_t i = 0; i < n_row * k; i++)
        index.push_back(i);
    bench_must(shoal_cuda_rows_to_bf16(reinterpret_cast<uint16_t *>(r.host), r.x, nullptr),
               "results");
    bench_must(cudaDeviceSynchronize(), "results");
    const shoal_cuda_results results = {r.host, true, r.m.copy(index.data(), index.size()),
                                        r.m.values(n_row * k), k};
    shoal_cuda_rows y = r.y;
    y.n_row = n_row;
    show(b, r, "combine", "bf16", 2.0 * n_row * k * n_col, "to_device",
         [&] { return shoal_cuda_combine(y, &results, b.stream); });
}

} // namespace

void bench_rows(bench &b)
{
    if (b.tiny) {
        run(b, 3, 70);
        combine(b, 2, 64, 3);
        return;
    }
    for (const int32_t n_row : {1, 8, 256}) {
        run(b, n_row, 4096);
        combine(b, n_row, 4096, 8);
    }
}
