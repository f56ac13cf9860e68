/* The router's choice (runtime/kernels/route.h). A warp a row, 4 rows a block; lane l has experts
 * l, l + 32,
 * ... in registers' place in shared memory. The largest is found by comparing (score, index) pairs
 * over the lanes, so ties go to the lower index. Bound by launching it. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum { N_WARP = 4 };

struct best {
    float score;
    int32_t index; /* INT32_MAX: none */
};

__device__ __forceinline__ bool better(best a, best b)
{
    return a.score > b.score || (a.score == b.score && a.index < b.index);
}

/* A NaN counts as -infinity: a broken row must still give distinct experts. */
__device__ __forceinline__ float ordered(float score)
{
    return score == score ? score : -INFINITY;
}

/* The largest of score [n] that is not taken; a taken score is a NaN, and no other is. */
__device__ __forceinline__ best largest(const float *score, int32_t n, int32_t lane)
{
    best mine = {-INFINITY, INT32_MAX};
    for (int32_t i = lane; i < n; i += 32) {
        const best other = {score[i], i};
        if (other.score == other.score && (mine.index == INT32_MAX || better(other, mine)))
            mine = other;
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
        const best other = {__shfl_xor_sync(0xffffffffU, mine.score, apart),
                            __shfl_xor_sync(0xffffffffU, mine.index, apart)};
        if (other.index != INT32_MAX && (mine.index == INT32_MAX || better(other, mine)))
            mine = other;
    }
    return mine;
}

/* Overwrite the scores of all groups but the best topk_group. group: [n_group] room. */
__device__ void mask_groups(float *select, float *group, const shoal_cuda_router &r, int32_t lane)
{
    const int32_t n = r.n_expert / r.n_group;
    for (int32_t g = lane; g < r.n_group; g += 32) {
        float first = -INFINITY, second = -INFINITY;
        for (int32_t i = 0; i < n; i++) {
            const float s = select[g * n + i];
            if (s > first) {
                second = first;
                first = s;
            } else if (s > second) {
                second = s;
            }
        }
        group[g] = ordered(r.group_top2 && n > 1 ? first + second : first);
    }
    __syncwarp();
    for (int32_t j = 0; j < r.topk_group; j++) {
        const best b = largest(group, r.n_group, lane);
        if (lane == 0)
            group[b.index] = NAN; /* kept */
        __syncwarp();
    }
    for (int32_t i = lane; i < r.n_expert; i += 32)
        if (group[i / n] == group[i / n])
            select[i] = r.masked_score;
    __syncwarp();
}

/* score [n_expert] of the logits, in place. */
__device__ void score_row(float *score, const shoal_cuda_router &r, int32_t lane)
{
    if (r.score == 0) {
        for (int32_t i = lane; i < r.n_expert; i += 32)
            score[i] = shoal_cuda_sigmoid(score[i]);
    } else if (r.score == 1) {
        float max = -INFINITY, sum = 0.0F;
        for (int32_t i = lane; i < r.n_expert; i += 32)
            max = max < score[i] ? score[i] : max;
        max = shoal_cuda_warp_max(max);
        for (int32_t i = lane; i < r.n_expert; i += 32) {
            score[i] = shoal_cuda_exp(score[i] - max);
            sum += score[i];
        }
        sum = shoal_cuda_warp_sum(sum);
        for (int32_t i = lane; i < r.n_expert; i += 32)
            score[i] = score[i] / sum;
    }
    __syncwarp();
}

/* What is done with the weights of the chosen; every lane does it, lane 0 keeps it. */
__device__ void finish_weights(float *weight, const shoal_cuda_router &r, int32_t lane)
{
    if (lane != 0)
        return;
    if (r.score == 2) {
        float max = -INFINITY, sum = 0.0F;
        for (int32_t j = 0; j < r.top_k; j++)
            max = max < weight[j] ? weight[j] : max;
        for (int32_t j = 0; j < r.top_k; j++) {
            weight[j] = shoal_cuda_exp(weight[j] - max);
            sum += weight[j];
        }
        for (int32_t j = 0; j < r.top_k; j++)
            weight[j] = weight[j] / sum;
    }
    if (r.normalize) {
        float sum = 0.0F;
        for (int32_t j = 0; j < r.top_k; j++)
            sum += weight[j];
        sum += 1e-20F;
        for (int32_t j = 0; j < r.top_k; j++)
            weight[j] /= sum;
    }
    for (int32_t j = 0; j < r.top_k; j++)
        weight[j] *= r.scale;
}

__global__ void __launch_bounds__(32 * N_WARP)
    route(int32_t *expert, float *weight, shoal_cuda_router r, const float *logits,
          const float *select_bias, int32_t n_row)
{
    SHOAL_SHARED(bytes);
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    const int64_t row = (int64_t)blockIdx.x * N_WARP + warp;
    if (row >= n_row)
        return;
    float *score = reinterpret_cast<float *>(bytes) + (int64_t)warp * (2 * r.n_expert + r.n_group);
    float *select = score + r.n_expert, *group = select + r.n_expert;
    for (int32_t i = lane; i < r.n_expert; i += 32)
        score[i] = logits[row * r.n_expert + i];
    score_row(score, r, lane);
    for (int32_t i = lane; i < r.n_expert; i += 32)
        select[i] = ordered(select_bias != nullptr ? score[i] + select_bias[i] : score[i]);
    __syncwarp();
    if (r.n_group > 1)
        mask_groups(select, group, r, lane);
    for (int32_t j = 0; j < r.top_k; j++) {
        const best b = largest(select, r.n_expert, lane);
        if (lane == 0) {
            expert[row * r.top_k + j] = b.index;
            weight[row * r.top_k + j] = score[b.index];
            select[b.index] = NAN;
        }
        __syncwarp();
    }
    finish_weights(weight + row * r.top_k, r, lane);
}

} // namespace

cudaError_t shoal_cuda_route(int32_t *expert, float *weight, const shoal_cuda_router *router,
                             const float *logits, const float *select_bias, int32_t n_row,
                             cudaStream_t stream)
{
    if (n_row == 0)
        return cudaSuccess;
    const size_t shared =
        (size_t)N_WARP * (2 * (size_t)router->n_expert + (size_t)router->n_group) * sizeof(float);
    SHOAL_LAUNCH(route, dim3((unsigned)((n_row + N_WARP - 1) / N_WARP)), dim3(32 * N_WARP), shared,
                 stream, expert, weight, *router, logits, select_bias, n_row);
    return cudaGetLastError();
}
