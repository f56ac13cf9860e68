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
    shoal_cuda_rows x;
    float *y;
    shoal_int8_group *groups;
    unsigned char *host; /* rows as they travel, pinned */
    int32_t *index;      /* [n_row] 0, 1, ..., pinned */

    rows(int32_t n_row_, int32_t n_col_)
        : n_row(n_row_), n_col(n_col_), n_group(shoal_int8_groups(n_col_))
    {
        const int64_t n = (int64_t)n_row * n_col;
        x = {m.values(n), n_col, n_row, n_col};
        y = m.device<float>((size_t)n);
        groups = m.device<shoal_int8_group>((size_t)n_row * (size_t)n_group);
        host = m.pinned<unsigned char>((size_t)n * 4);
        index = m.pinned<int32_t>((size_t)n_row);
        for (int32_t i = 0; i < n_row; i++)
            index[i] = i;
        bench_must(shoal_cuda_to_groups(groups, n_group, x, nullptr, nullptr, nullptr),
                   "rows as integers");
        bench_must(pack(SHOAL_WIRE_BF16, nullptr), "rows as bf16");
        bench_must(cudaDeviceSynchronize(), "rows");
    }

    /* All rows to the host's memory, and back; as integers they are `groups`. */
    cudaError_t pack(shoal_wire_encoding encoding, cudaStream_t stream) const
    {
        shoal_pack p = {};
        p.out = host, p.encoding = encoding, p.x.f32 = x.at, p.x.int8 = groups, p.index = index;
        p.n_row = n_row, p.n_col = n_col;
        return shoal_cuda_pack_rows(&p, stream);
    }
    cudaError_t unpack(shoal_wire_encoding encoding, cudaStream_t stream) const
    {
        shoal_unpack u = {};
        u.f32 = y, u.int8 = encoding == SHOAL_WIRE_INT8 ? groups : nullptr;
        u.from = host, u.encoding = encoding, u.n_row = n_row, u.n_col = n_col;
        return shoal_cuda_unpack_rows(&u, stream);
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
    const shoal_activation silu = {};
    show(b, r, "rms_norm", "f32", 8 * n, "read",
         [&] { return shoal_cuda_rms_norm(r.y, n_col, r.x, weight, 1e-6F, b.stream); });
    show(b, r, "to_groups", "int8", 4 * n + 36 * (n / 32), "read", [&] {
        return shoal_cuda_to_groups(r.groups, r.n_group, r.x, nullptr, nullptr, b.stream);
    });
    show(b, r, "activate", "f32", 12 * n, "read",
         [&] { return shoal_cuda_activate(r.y, r.x.at, r.x.at, n_value, &silu, b.stream); });
    show(b, r, "rows to host", "bf16", 2 * n, "to_host",
         [&] { return r.pack(SHOAL_WIRE_BF16, b.stream); });
    show(b, r, "rows from host", "bf16", 2 * n, "to_device",
         [&] { return r.unpack(SHOAL_WIRE_BF16, b.stream); });
    show(b, r, "groups to host", "int8", int8_bytes, "to_host",
         [&] { return r.pack(SHOAL_WIRE_INT8, b.stream); });
    show(b, r, "groups from host", "int8", int8_bytes, "to_device",
         [&] { return r.unpack(SHOAL_WIRE_INT8, b.stream); });
}

/* Results of k experts a row, as they lie in pinned memory. */
void combine(const bench &b, int32_t n_row, int32_t n_col, int32_t k)
{
    rows r(n_row * k, n_col);
    float *weight = r.m.pinned<float>((size_t)(n_row * k));
    for (int32_t i = 0; i < n_row * k; i++)
        weight[i] = 0.125F;
    shoal_sum sum = {};
    sum.acc = r.y, sum.from = r.host, sum.encoding = SHOAL_WIRE_BF16, sum.home = r.index;
    sum.weight = weight, sum.k = k, sum.n_row = n_row, sum.n_col = n_col;
    show(b, r, "combine", "bf16", 2.0 * n_row * k * n_col, "to_device",
         [&] { return shoal_cuda_sum_rows(&sum, b.stream); });
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
