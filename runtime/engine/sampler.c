#include "runtime/engine/sampler.h"

#include <assert.h>
#include <math.h>

void shoal_sampler_carve(shoal_sampler *sampler, shoal_arena *arena, int32_t n_vocab)
{
    sampler->n_vocab = n_vocab;
    sampler->p = SHOAL_TAKE(arena, n_vocab, float);
    sampler->entry = SHOAL_TAKE(arena, n_vocab, shoal_sampler_entry);
}

bool shoal_sampling_valid(const shoal_sampling *sampling)
{
    return isfinite(sampling->temperature) && sampling->temperature >= 0.0f &&
           sampling->top_k >= 0 && sampling->top_p >= 0.0f && sampling->top_p <= 1.0f;
}

/* First of the largest; NaN never wins. */
static int32_t argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    while (best < n - 1 && isnan(x[best]))
        best++;
    for (int32_t i = best + 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* The one order of candidates: larger value first, ties by lower token. Total, so that every
 * selection and sort below has one result. */
static bool comes_before(shoal_sampler_entry a, shoal_sampler_entry b)
{
    return a.value > b.value || (a.value == b.value && a.token < b.token);
}

/* A binary heap whose root comes first (first = true) or last (first = false) in that order. */
static void sift_down(shoal_sampler_entry *heap, int32_t n, int32_t i, bool first)
{
    const shoal_sampler_entry moving = heap[i];
    for (int64_t child = 2 * (int64_t)i + 1; child < n; child = 2 * (int64_t)i + 1) {
        if (child + 1 < n && comes_before(heap[child + 1], heap[child]) == first)
            child++;
        if (comes_before(moving, heap[child]) == first)
            break;
        heap[i] = heap[child];
        i = (int32_t)child;
    }
    heap[i] = moving;
}

static void make_heap(shoal_sampler_entry *heap, int32_t n, bool first)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--)
        sift_down(heap, n, i, first);
}

/* Fill p with (logit - largest) / temperature: the same softmax, without overflow at tiny
 * temperatures. */
static void scale_logits(float *p, const float *logits, int32_t n, float largest, float temperature)
{
    for (int32_t i = 0; i < n; i++) {
        const float x = isnan(logits[i]) ? -INFINITY : logits[i];
        p[i] = (x - largest) / temperature;
    }
}

/* The k candidates that come first, in order, into entry. */
static void select_first(shoal_sampler_entry *entry, int32_t k, const float *value, int32_t n)
{
    for (int32_t i = 0; i < k; i++)
        entry[i] = (shoal_sampler_entry){.value = value[i], .token = i};
    make_heap(entry, k, false);
    for (int32_t i = k; i < n; i++) {
        const shoal_sampler_entry next = {.value = value[i], .token = i};
        if (comes_before(next, entry[0])) {
            entry[0] = next;
            sift_down(entry, k, 0, false);
        }
    }
    for (int32_t last = k - 1; last > 0; last--) { /* the root is the last of those left */
        const shoal_sampler_entry end = entry[0];
        entry[0] = entry[last];
        entry[last] = end;
        sift_down(entry, last, 0, false);
    }
}

/* Candidates in order, as far as needed: a heap of n entries whose root is taken to the back of the
 * array. The j-th taken lies at heap[n - 1 - j]. */
static shoal_sampler_entry take_first(shoal_sampler_entry *heap, int32_t n, int32_t n_taken)
{
    const int32_t n_left = n - n_taken;
    const shoal_sampler_entry root = heap[0];
    heap[0] = heap[n_left - 1];
    heap[n_left - 1] = root;
    sift_down(heap, n_left - 1, 0, true);
    return root;
}

/* No limit on the candidates: walk the tokens as they lie. */
static int32_t draw_of_all(const float *p, int32_t n, double u)
{
    double total = 0.0;
    for (int32_t i = 0; i < n; i++)
        total += p[i];
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) {
        sum += p[i];
        if (sum > u * total)
            return i;
    }
    return -1;
}

/* top_k: candidates sorted first, then softmax over them alone. */
static int32_t draw_of_first(shoal_sampler *s, const shoal_kernels *kernels, int32_t k, float top_p,
                             double u)
{
    select_first(s->entry, k, s->p, s->n_vocab);
    for (int32_t j = 0; j < k; j++)
        s->p[j] = s->entry[j].value;
    kernels->softmax(s->p, k);

    int32_t n_kept = 0;
    double total = 0.0;
    do
        total += s->p[n_kept++];
    while (n_kept < k && total < top_p);

    const int32_t j = draw_of_all(s->p, n_kept, u);
    return j < 0 ? -1 : s->entry[j].token;
}

/* top_p alone: softmax over all, candidates taken one by one until they reach top_p, so that the
 * usual few cost O(n_vocab) and no full sort. */
static int32_t draw_of_nucleus(shoal_sampler *s, const shoal_kernels *kernels, float top_p,
                               double u)
{
    const int32_t n = s->n_vocab;
    for (int32_t i = 0; i < n; i++)
        s->entry[i] = (shoal_sampler_entry){.value = s->p[i], .token = i};
    make_heap(s->entry, n, true);
    kernels->softmax(s->p, n);

    int32_t n_kept = 0;
    double total = 0.0;
    do
        total += s->p[take_first(s->entry, n, n_kept++).token];
    while (n_kept < n && total < top_p);

    double sum = 0.0;
    for (int32_t j = 0; j < n_kept; j++) {
        const int32_t token = s->entry[n - 1 - j].token;
        sum += s->p[token];
        if (sum > u * total)
            return token;
    }
    return -1;
}

int32_t shoal_sample(shoal_sampler *sampler, const shoal_kernels *kernels, const float *logits,
                     const shoal_sampling *sampling, uint64_t key, int32_t position)
{
    const int32_t n = sampler->n_vocab;
    assert(shoal_sampling_valid(sampling) && position >= 0);
    const int32_t greedy = argmax(logits, n);
    if (sampling->temperature <= 0.0f || sampling->top_k == 1 || !isfinite(logits[greedy]))
        return greedy;

    scale_logits(sampler->p, logits, n, logits[greedy], sampling->temperature);
    const double u = shoal_random_uniform(sampling->seed, key, (uint64_t)position, 0);
    int32_t token;
    if (sampling->top_k > 0 && sampling->top_k < n)
        token = draw_of_first(sampler, kernels, sampling->top_k, sampling->top_p, u);
    else if (sampling->top_p < 1.0f)
        token = draw_of_nucleus(sampler, kernels, sampling->top_p, u);
    else {
        kernels->softmax(sampler->p, n);
        token = draw_of_all(sampler->p, n, u);
    }
    return token < 0 ? greedy : token;
}
