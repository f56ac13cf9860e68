#include "launcher/device_choice.h"

#include <stdlib.h>
#include <string.h>

enum { INDEX_MAX = 1023 };

/* The value in front of the next comma, or the last; false if it is none. */
static bool read_wish(shoal_device_wish *wish, const char *text)
{
    static const char *const names[] = {"auto", "cpu", "cuda"};
    const size_t n = strcspn(text, ",");
    for (int32_t kind = 0; kind < 3; kind++) {
        if (strlen(names[kind]) != n || memcmp(text, names[kind], n) != 0)
            continue;
        *wish = (shoal_device_wish){.kind = kind, .index = -1};
        return true;
    }
    if (n < 6 || n > 9 || memcmp(text, "cuda:", 5) != 0)
        return false;
    int32_t index = 0;
    for (size_t i = 5; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        index = 10 * index + (text[i] - '0');
    }
    *wish = (shoal_device_wish){.kind = SHOAL_DEVICE_CUDA, .index = index};
    return index <= INDEX_MAX;
}

bool shoal_device_text_is_valid(const char *text)
{
    shoal_device_wish wish;
    for (;; text++) {
        if (!read_wish(&wish, text))
            return false;
        text += strcspn(text, ",");
        if (*text == '\0')
            return true;
    }
}

shoal_status shoal_device_wish_of(shoal_device_wish *wish, const char *text, int32_t rank,
                                  int32_t n_rank, shoal_log *log)
{
    int32_t n = 1;
    for (const char *c = text; *c != '\0'; c++)
        n += *c == ',';
    if (n > 1 && n != n_rank)
        return shoal_fail(log, SHOAL_USAGE,
                          "--device %s lists %d ranks, but this job has %d; give one for each, or "
                          "one for all",
                          text, (int)n, (int)n_rank);
    for (int32_t r = 0; n > 1 && r < rank; r++)
        text += strcspn(text, ",") + 1;
    (void)read_wish(wish, text);
    return SHOAL_OK;
}

/* What assign works on. */
typedef struct assignment {
    int32_t *index;
    const shoal_device_claim *claim;
    const char *const *host;
    int32_t n_rank;
    shoal_log *log;
} assignment;

/* Whether GPU i of rank r is GPU j of rank s. */
static bool is_same(const assignment *a, int32_t r, int32_t i, int32_t s, int32_t j)
{
    const char *x = a->claim[r].bus_id[i], *y = a->claim[s].bus_id[j];
    if (strcmp(a->host[r], a->host[s]) != 0)
        return false;
    return x[0] != '\0' && y[0] != '\0' ? strcmp(x, y) == 0 : i == j;
}

/* The rank that has GPU i of `rank`, -1: none. */
static int32_t taken_by(const assignment *a, int32_t rank, int32_t i)
{
    for (int32_t r = 0; r < a->n_rank; r++)
        if (a->index[r] >= 0 && is_same(a, rank, i, r, a->index[r]))
            return r;
    return -1;
}

/* The lowest GPU that no rank has; -1: none is left. */
static int32_t free_index(const assignment *a, int32_t rank)
{
    for (int32_t i = 0; i < a->claim[rank].n_device; i++)
        if (taken_by(a, rank, i) < 0)
            return i;
    return -1;
}

static shoal_status fail_none(const assignment *a, int32_t rank, const char *wanted)
{
    const shoal_device_claim *c = &a->claim[rank];
    if (c->has_backend == 0)
        return shoal_fail(
            a->log, SHOAL_UNAVAILABLE,
            "rank %d (%s): --device %s, but its build of shoal knows no GPUs: configure "
            "one with -DSHOAL_CUDA=ON (docs/GPU.md), or use --device cpu",
            (int)rank, a->host[rank], wanted);
    return shoal_fail(a->log, SHOAL_UNAVAILABLE,
                      "rank %d (%s): --device %s, but it sees no GPU%s%s", (int)rank, a->host[rank],
                      wanted, c->why[0] != '\0' ? ": " : "; use --device cpu there", c->why);
}

/* cuda:N: it has been asked for, so it may be shared. */
static shoal_status take_named(const assignment *a, int32_t rank)
{
    const shoal_device_claim *c = &a->claim[rank];
    char wanted[16];
    snprintf(wanted, sizeof wanted, "cuda:%d", (int)c->wish.index);
    if (c->n_device == 0)
        return fail_none(a, rank, wanted);
    if (c->wish.index >= c->n_device)
        return shoal_fail(a->log, SHOAL_UNAVAILABLE,
                          "rank %d (%s): --device %s, but it sees %d GPU%s: cuda:0%s%d", (int)rank,
                          a->host[rank], wanted, (int)c->n_device, c->n_device == 1 ? "" : "s",
                          c->n_device == 1 ? ", number " : " to cuda:", (int)c->n_device - 1);
    a->index[rank] = c->wish.index;
    return SHOAL_OK;
}

static shoal_status fail_taken(const assignment *a, int32_t rank)
{
    const int32_t n = a->claim[rank].n_device;
    return shoal_fail(a->log, SHOAL_UNAVAILABLE,
                      "rank %d (%s): --device cuda gives each rank a GPU of its own, but of the %d "
                      "that it sees the last is rank %d's; start fewer ranks there, give some "
                      "--device cpu, or let two share by naming it for both: --device cuda:%d",
                      (int)rank, a->host[rank], (int)n, (int)taken_by(a, rank, n - 1), (int)n - 1);
}

shoal_status shoal_device_assign(int32_t *index, const shoal_device_claim *claim,
                                 const char *const *host, int32_t n_rank, shoal_log *log)
{
    const assignment a = {
        .index = index, .claim = claim, .host = host, .n_rank = n_rank, .log = log};
    for (int32_t r = 0; r < n_rank; r++)
        index[r] = -1;
    for (int32_t r = 0; r < n_rank; r++)
        if (claim[r].wish.kind == SHOAL_DEVICE_CUDA && claim[r].wish.index >= 0)
            SHOAL_TRY(take_named(&a, r));
    for (int32_t r = 0; r < n_rank; r++) {
        if (claim[r].wish.kind != SHOAL_DEVICE_CUDA || claim[r].wish.index >= 0)
            continue;
        if (claim[r].n_device == 0)
            return fail_none(&a, r, "cuda");
        index[r] = free_index(&a, r);
        if (index[r] < 0)
            return fail_taken(&a, r);
    }
    for (int32_t r = 0; r < n_rank; r++)
        if (claim[r].wish.kind == SHOAL_DEVICE_AUTO)
            index[r] = free_index(&a, r);
    return SHOAL_OK;
}
