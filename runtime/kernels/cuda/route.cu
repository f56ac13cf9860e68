/* The router's choice (route.h). A warp a row, 4 rows a block; lane l has experts l, l + 32, ... of
 * its row's scores in shared memory. The largest is found by comparing (score, index) pairs over
 * the lanes, so ties go to the lower index. Bound by launching it. */
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
__device__ void mask_groups(float *select, float *group, const shoal_router_config &r, int32_t lane)
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
        group[g] = ordered(r.group_score == SHOAL_GROUP_TOP2_SUM && n > 1 ? first + second : first);
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
__device__ void score_row(float *score, const shoal_router_config &r, int32_t lane)
{
    if (r.score == SHOAL_ROUTER_SIGMOID) {
        for (int32_t i = lane; i < r.n_expert; i += 32)
            score[i] = shoal_cuda_sigmoid(score[i]);
    } else if (r.score == SHOAL_ROUTER_SOFTMAX) {
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

/* What is done with the weights of the chosen, by one lane. */
__device__ void finish_weights(float *weight, const shoal_router_config &r)
{
    if (r.score == SHOAL_ROUTER_SOFTMAX_OF_TOPK) {
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

/* Floats of a row in shared memory: scores, what is chosen by, groups, and the chosen's weights. */
__host__ __device__ __forceinline__ size_t floats_of_row(const shoal_router_config &r)
{
    return 2 * (size_t)r.n_expert + (size_t)r.n_group + (size_t)r.top_k;
}

/* expert, weight: the host's memory, written once. */
__global__ void __launch_bounds__(32 * N_WARP) route(shoal_route_step s, shoal_router_config r)
{
    SHOAL_SHARED(bytes);
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + warp;
    if (row >= s.n_token)
        return;
    float *score = reinterpret_cast<float *>(bytes) + (size_t)warp * floats_of_row(r);
    float *select = score + r.n_expert, *group = select + r.n_expert, *weight = group + r.n_group;
    for (int32_t i = lane; i < r.n_expert; i += 32)
        score[i] = s.logits[row * r.n_expert + i];
    score_row(score, r, lane);
    for (int32_t i = lane; i < r.n_expert; i += 32)
        select[i] = ordered(s.select_bias != nullptr ? score[i] + s.select_bias[i] : score[i]);
    __syncwarp();
    if (r.n_group > 1)
        mask_groups(select, group, r, lane);
    for (int32_t j = 0; j < r.top_k; j++) {
        const best b = largest(select, r.n_expert, lane);
        if (lane == 0) {
            s.expert[row * r.top_k + j] = b.index;
            weight[j] = score[b.index];
            select[b.index] = NAN;
        }
        __syncwarp();
    }
    if (lane == 0)
        finish_weights(weight, r);
    __syncwarp();
    for (int32_t j = lane; j < r.top_k; j += 32)
        s.weight[row * r.top_k + j] = weight[j];
}

} // namespace

cudaError_t shoal_cuda_route(const shoal_route_step *step, cudaStream_t stream)
{
    if (step->n_token <= 0)
        return cudaSuccess;
    const size_t row_bytes = floats_of_row(*step->config) * sizeof(float);
    const size_t usual = (size_t)48 << 10; /* more has to be asked for */
    const unsigned n_warp = N_WARP * row_bytes <= usual ? N_WARP : 1;
    if (row_bytes > usual) {
        const cudaError_t error = cudaFuncSetAttribute(
            route, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)row_bytes);
        if (error != cudaSuccess)
            return error;
    }
    SHOAL_LAUNCH(route, dim3(((unsigned)step->n_token + n_warp - 1) / n_warp), dim3(32 * n_warp),
                 n_warp * row_bytes, stream, *step, *step->config);
    return cudaGetLastError();
}
