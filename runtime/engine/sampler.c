#include "runtime/engine/sampler.h"

#include <assert.h>
#include <math.h>

void shoal_sampler_carve(shoal_sampler *sampler, shoal_arena *arena, int32_t n_vocab)
{
    sampler->n_vocab = n_vocab;
    sampler->p = SHOAL_TAKE(arena, n_vocab, float);
    sampler->entry = SHOAL_TAKE(arena, n_vocab, shoal_logit);
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
static bool comes_before(shoal_logit a, shoal_logit b)
{
    return a.value > b.value || (a.value == b.value && a.token < b.token);
}

/* A binary heap whose root comes first (first = true) or last (first = false) in that order. */
static void sift_down(shoal_logit *heap, int32_t n, int32_t i, bool first)
{
    const shoal_logit moving = heap[i];
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

static void make_heap(shoal_logit *heap, int32_t n, bool first)
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
static void select_first(shoal_logit *entry, int32_t k, const float *value, int32_t n)
{
    for (int32_t i = 0; i < k; i++)
        entry[i] = (shoal_logit){.value = value[i], .token = i};
    make_heap(entry, k, false);
    for (int32_t i = k; i < n; i++) {
        const shoal_logit next = {.value = value[i], .token = i};
        if (comes_before(next, entry[0])) {
            entry[0] = next;
            sift_down(entry, k, 0, false);
        }
    }
    for (int32_t last = k - 1; last > 0; last--) { /* the root is the last of those left */
        const shoal_logit end = entry[0];
        entry[0] = entry[last];
        entry[last] = end;
        sift_down(entry, last, 0, false);
    }
}

/* Candidates in order, as far as needed: a heap of n entries whose root is taken to the back of the
 * array. The j-th taken lies at heap[n - 1 - j]. */
static shoal_logit take_first(shoal_logit *heap, int32_t n, int32_t n_taken)
{
    const int32_t n_left = n - n_taken;
    const shoal_logit root = heap[0];
    heap[0] = heap[n_left - 1];
    heap[n_left - 1] = root;
    sift_down(heap, n_left - 1, 0, true);
    return root;
}

/* The tokens that may be drawn, in a fixed order, and their probabilities up to a common factor. */
typedef struct candidates {
    const float *p;             /* of candidate j: p[j], or p[its token] */
    const shoal_logit *entry;   /* of candidate j: entry[j]; NULL: candidate j is token j */
    bool p_by_token, backwards; /* backwards: entry[-j] */
    int32_t n;
} candidates;

static int32_t candidate_token(const candidates *c, int32_t j)
{
    if (c->entry == NULL)
        return j;
    return c->entry[c->backwards ? -j : j].token;
}

static double candidate_p(const candidates *c, int32_t j)
{
    return c->p[c->p_by_token ? candidate_token(c, j) : j];
}

/* All tokens as they lie. */
static candidates keep_all(shoal_sampler *s, const shoal_kernels *kernels)
{
    kernels->softmax(s->p, s->n_vocab);
    return (candidates){.p = s->p, .n = s->n_vocab};
}

/* top_k: softmax over the k candidates in entry, which are sorted, alone. */
static candidates keep_first(shoal_sampler *s, const shoal_kernels *kernels, int32_t k, float top_p)
{
    for (int32_t j = 0; j < k; j++)
        s->p[j] = s->entry[j].value;
    kernels->softmax(s->p, k);

    int32_t n_kept = 0;
    double total = 0.0;
    do
        total += s->p[n_kept++];
    while (n_kept < k && total < top_p);
    return (candidates){.p = s->p, .entry = s->entry, .n = n_kept};
}

/* top_p alone: softmax over all, candidates taken one by one until they reach top_p, so that the
 * usual few cost O(n_vocab) and no full sort. */
static candidates keep_nucleus(shoal_sampler *s, const shoal_kernels *kernels, float top_p)
{
    const int32_t n = s->n_vocab;
    for (int32_t i = 0; i < n; i++)
        s->entry[i] = (shoal_logit){.value = s->p[i], .token = i};
    make_heap(s->entry, n, true);
    kernels->softmax(s->p, n);

    int32_t n_kept = 0;
    double total = 0.0;
    do
        total += s->p[take_first(s->entry, n, n_kept++).token];
    while (n_kept < n && total < top_p);
    return (candidates){
        .p = s->p, .entry = s->entry + n - 1, .p_by_token = true, .backwards = true, .n = n_kept};
}

static candidates keep(shoal_sampler *s, const shoal_kernels *kernels,
                       const shoal_sampling *sampling)
{
    if (sampling->top_k > 0 && sampling->top_k < s->n_vocab) {
        select_first(s->entry, sampling->top_k, s->p, s->n_vocab);
        return keep_first(s, kernels, sampling->top_k, sampling->top_p);
    }
    if (sampling->top_p < 1.0f)
        return keep_nucleus(s, kernels, sampling->top_p);
    return keep_all(s, kernels);
}

/* The same from the largest logits alone: of the first top_k. Scaling may make ties. */
static candidates keep_of_largest(shoal_sampler *s, const shoal_kernels *kernels,
                                  const shoal_logit *largest, const shoal_sampling *sampling)
{
    const int32_t k = sampling->top_k;
    for (int32_t j = 0; j < k; j++) {
        float scaled;
        scale_logits(&scaled, &largest[j].value, 1, largest[0].value, sampling->temperature);
        const shoal_logit next = {.value = scaled, .token = largest[j].token};
        int32_t at = j;
        for (; at > 0 && comes_before(next, s->entry[at - 1]); at--)
            s->entry[at] = s->entry[at - 1];
        s->entry[at] = next;
    }
    return keep_first(s, kernels, k, sampling->top_p);
}

int32_t shoal_sampling_n_largest(const shoal_sampling *sampling, int32_t n_vocab)
{
    if (sampling->temperature <= 0.0f || sampling->top_k == 1)
        return 1;
    const int32_t most = SHOAL_LARGEST_MAX < n_vocab - 1 ? SHOAL_LARGEST_MAX : n_vocab - 1;
    return sampling->top_k <= most ? sampling->top_k : 0;
}

/* One of the candidates but `without` (-1: of all), -1 if nothing is left. */
static int32_t draw(const candidates *c, int32_t without, double u)
{
    double total = 0.0;
    for (int32_t j = 0; j < c->n; j++)
        total += candidate_token(c, j) != without ? candidate_p(c, j) : 0.0;
    double sum = 0.0;
    for (int32_t j = 0; j < c->n; j++) {
        const int32_t token = candidate_token(c, j);
        sum += token != without ? candidate_p(c, j) : 0.0;
        if (sum > u * total)
            return token;
    }
    return -1;
}

/* Probability of a token among the candidates. */
static double probability(const candidates *c, int32_t token)
{
    double total = 0.0, p = 0.0;
    for (int32_t j = 0; j < c->n; j++) {
        total += candidate_p(c, j);
        if (candidate_token(c, j) == token)
            p = candidate_p(c, j);
    }
    return p / total;
}

/* What a draw is for; part of its number. */
enum { DRAW_TOKEN, DRAW_ACCEPT, DRAW_INSTEAD };

int32_t shoal_sample_guessed(shoal_sampler *sampler, const shoal_kernels *kernels,
                             shoal_logit_rows rows, const shoal_sampling *sampling,
                             const shoal_sample_place *place)
{
    const int32_t n = sampler->n_vocab;
    assert(shoal_sampling_valid(sampling) && place->position >= 0);
    const bool whole = rows.largest == NULL;
    const int32_t greedy = whole ? argmax(rows.logits, n) : rows.largest[0].token;
    const float top = whole ? rows.logits[greedy] : rows.largest[0].value;
    if (sampling->temperature <= 0.0f || sampling->top_k == 1 || !isfinite(top))
        return greedy;

    if (whole)
        scale_logits(sampler->p, rows.logits, n, top, sampling->temperature);
    const candidates kept = whole ? keep(sampler, kernels, sampling)
                                  : keep_of_largest(sampler, kernels, rows.largest, sampling);
    const uint64_t seed = sampling->seed, key = place->key, position = (uint64_t)place->position;
    if (place->guess < 0) {
        const double u = shoal_random_uniform(seed, key, position, DRAW_TOKEN);
        const int32_t token = draw(&kept, -1, u);
        return token < 0 ? greedy : token;
    }
    const double p = probability(&kept, place->guess);
    if (shoal_random_uniform(seed, key, position, DRAW_ACCEPT) < p)
        return place->guess;
    const double u = shoal_random_uniform(seed, key, position, DRAW_INSTEAD);
    const int32_t token = draw(&kept, place->guess, u);
    return token < 0 ? place->guess : token; /* nothing else to draw */
}

int32_t shoal_sample(shoal_sampler *sampler, const shoal_kernels *kernels, const float *logits,
                     const shoal_sampling *sampling, uint64_t key, int32_t position)
{
    const shoal_sample_place place = {.key = key, .position = position, .guess = -1};
    const shoal_logit_rows row = {.logits = logits};
    return shoal_sample_guessed(sampler, kernels, row, sampling, &place);
}

int32_t shoal_sample_verify(int32_t *token, shoal_sampler *sampler, const shoal_kernels *kernels,
                            shoal_logit_rows rows, const shoal_sampling *sampling,
                            const shoal_guesses *guesses)
{
    const int32_t n = guesses->n;
    int32_t n_token = 0;
    bool right = true;
    for (int32_t i = 0; i <= n && right; i++) {
        const shoal_sample_place place = {.key = guesses->key,
                                          .position = guesses->position + i,
                                          .guess = i < n ? guesses->token[i] : -1};
        const shoal_logit_rows row =
            rows.largest != NULL
                ? (shoal_logit_rows){.largest = rows.largest + (size_t)i * (size_t)rows.n_largest,
                                     .n_largest = rows.n_largest}
                : (shoal_logit_rows){.logits = rows.logits + (size_t)i * (size_t)sampler->n_vocab};
        token[i] = shoal_sample_guessed(sampler, kernels, row, sampling, &place);
        n_token++;
        right = i < n && token[i] == guesses->token[i];
    }
    for (int32_t i = n_token; i <= n; i++)
        token[i] = -1;
    return n_token;
}
