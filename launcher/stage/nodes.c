#include "launcher/stage/stage.h"

#include "runtime/base/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What each rank says of itself. */
typedef struct place {
    uint64_t machine, device, inode; /* of DIR: equal where ranks share it */
    uint64_t identity, age;          /* of MODEL, if it sees it */
    int32_t sees;
    int32_t node; /* filled by rank 0 */
    int32_t shared;
    int32_t pad;
} place;

static shoal_status make_dir(shoal__stage *s)
{
    const char *to = s->options->to;
    struct stat entry;
    const bool made = mkdir(to, 0777) == 0;
    const int error = made ? 0 : errno;
    if (!made && (stat(to, &entry) != 0 || !S_ISDIR(entry.st_mode)))
        return shoal_fail(s->log,
                          error == ENOENT || error == ENOTDIR || error == EEXIST ? SHOAL_NO_INPUT
                                                                                 : SHOAL_IO,
                          "--to %s: is no folder and cannot be made: %s", to, strerror(error));
    if (access(to, W_OK | X_OK) != 0)
        return shoal_fail(s->log, SHOAL_IO, "--to %s: nothing can be written there: %s", to,
                          strerror(errno));
    s->dir = realpath(to, NULL);
    if (s->dir == NULL)
        return shoal_fail(s->log, SHOAL_IO, "--to %s: %s", to, strerror(errno));
    return SHOAL_OK;
}

shoal_status shoal__stage_open_places(shoal__stage *s)
{
    SHOAL_TRY(make_dir(s));
    if (s->rank == 0) {
        SHOAL_TRY(shoal_checkpoint_open(&s->source, s->options->model, true, s->log));
        if (shoal_checkpoint_is_staged(s->source))
            return shoal_fail(s->log, SHOAL_NO_INPUT,
                              "%s: is a staged model, whose weights are packed; give the original: "
                              "%s",
                              s->options->model, shoal_checkpoint_origin(s->source));
        if (shoal_checkpoint_n_tensor(s->source) == 0)
            return shoal_fail(s->log, SHOAL_NO_INPUT, "model %s: the folder has no weights",
                              s->options->model);
        return SHOAL_OK;
    }
    if (s->options->source == SHOAL_SOURCE_SEND)
        return SHOAL_OK;
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, s->rank, "");
    if (shoal_checkpoint_open(&s->source, s->options->model, true, &quiet) == SHOAL_OK) {
        shoal_checkpoint_close(s->source); /* it would go on talking to the quiet log */
        s->source = NULL;
        SHOAL_TRY(shoal_checkpoint_open(&s->source, s->options->model, true, s->log));
    }
    return SHOAL_OK;
}

/* Differs between machines that run now. */
static uint64_t machine_id(const shoal__stage *s)
{
    const char *host = shoal_comm_host(s->comm, s->rank);
    uint64_t hash = shoal_hash(SHOAL_HASH_INIT, host, strlen(host));
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    char text[64] = "";
    if (file != NULL) {
        if (fgets(text, sizeof text, file) == NULL)
            text[0] = '\0';
        fclose(file);
    }
    return shoal_hash(hash, text, strlen(text));
}

static place describe_place(const shoal__stage *s)
{
    place p = {.machine = machine_id(s)};
    struct stat entry;
    if (stat(s->dir, &entry) == 0) {
        p.device = (uint64_t)entry.st_dev;
        p.inode = (uint64_t)entry.st_ino;
    }
    if (s->source != NULL) {
        p.sees = 1;
        p.identity = shoal_checkpoint_identity(s->source);
        p.age = shoal_checkpoint_age(s->source);
    }
    return p;
}

static bool is_together(const place *a, const place *b)
{
    return a->machine == b->machine && a->device == b->device && a->inode == b->inode;
}

static bool sees_same(const place *a, const place *first)
{
    return a->sees == 1 && a->identity == first->identity && a->age == first->age;
}

/* Rank 0: number the nodes by their first ranks, and choose how MODEL is read. */
static shoal_status judge(place *all, const shoal__stage *s)
{
    int32_t n_node = 0, blind = -1;
    for (int32_t r = 0; r < s->n_rank; r++) {
        int32_t same = 0;
        while (same < r && !is_together(&all[same], &all[r]))
            same++;
        all[r].node = same < r ? all[same].node : n_node++;
        if (same == r && blind < 0 && !sees_same(&all[r], &all[0]))
            blind = r;
    }
    const bool shared = s->options->source != SHOAL_SOURCE_SEND && blind < 0;
    if (s->options->source == SHOAL_SOURCE_SHARED && !shared)
        return shoal_fail(s->log, SHOAL_NO_INPUT,
                          "--source shared: rank %d (%s) does not see %s as rank 0 does%s; "
                          "--source send needs it on rank 0 only",
                          (int)blind, shoal_comm_host(s->comm, blind), s->options->model,
                          all[blind].sees == 1 ? " (other headers, sizes or modification times)"
                                               : "");
    for (int32_t r = 0; r < s->n_rank; r++)
        all[r].shared = shared;
    return SHOAL_OK;
}

static shoal_status keep(shoal__stage *s, const place *all)
{
    s->node_of_rank = calloc((size_t)s->n_rank, sizeof *s->node_of_rank);
    s->node = calloc((size_t)s->n_rank, sizeof *s->node);
    s->word_request = calloc((size_t)s->n_rank, sizeof *s->word_request);
    s->word_in = calloc((size_t)s->n_rank, sizeof *s->word_in);
    if (s->node_of_rank == NULL || s->node == NULL || s->word_request == NULL || s->word_in == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d ranks", (int)s->n_rank);
    for (int32_t r = 0; r < s->n_rank; r++) {
        s->node_of_rank[r] = all[r].node;
        s->word_request[r] = SHOAL_REQUEST_NONE;
        if (all[r].node == s->n_node)
            s->node[s->n_node++].leader = r;
    }
    s->mine = all[s->rank].node;
    s->leads = s->node[s->mine].leader == s->rank;
    s->shared = all[0].shared == 1;
    if (s->rank != 0 && (!s->shared || !s->leads)) {
        shoal_checkpoint_close(s->source);
        s->source = NULL;
    }
    return SHOAL_OK;
}

static shoal_status exchange(place *all, shoal__stage *s)
{
    const place mine = describe_place(s);
    SHOAL_TRY(shoal_comm_gather(s->comm, all, &mine, sizeof mine, 0));
    SHOAL__STAGE_STEP(s, "finding the nodes", s->rank == 0 ? judge(all, s) : SHOAL_OK);
    SHOAL_TRY(shoal_comm_bcast(s->comm, all, (size_t)s->n_rank * sizeof *all, 0));
    SHOAL__STAGE_STEP(s, "finding the nodes", keep(s, all));
    return SHOAL_OK;
}

shoal_status shoal__stage_find_nodes(shoal__stage *s)
{
    place *all = calloc((size_t)s->n_rank, sizeof *all);
    shoal_status status = SHOAL_OK;
    if (all == NULL)
        status = shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for %d ranks", (int)s->n_rank);
    status = shoal_comm_agree(s->comm, status, "finding the nodes");
    if (status == SHOAL_OK)
        status = exchange(all, s);
    free(all);
    return status;
}
