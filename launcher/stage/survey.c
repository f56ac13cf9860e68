#include "launcher/report.h"
#include "launcher/stage/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

static int32_t n_mtp(const shoal__stage *s)
{
    return s->options->draft == SHOAL_DRAFT_CHOICE_MTP ? 1 : 0;
}

/* Rank 0: read the spec, and the placement as bytes. */
static shoal_status read_placement(uint8_t **bytes, size_t *n_bytes, shoal__stage *s)
{
    SHOAL_TRY(shoal_spec_open(&s->spec, s->source, s->log));
    if (n_mtp(s) > 0 && !shoal_model_has_mtp(&s->spec, s->source))
        return shoal_fail(s->log, SHOAL_BAD_DATA,
                          "%s: --draft mtp, but this checkpoint has no MTP layer",
                          s->options->model);
    const int32_t n_layer = s->spec.n_moe_layer + n_mtp(s);
    const char *file = s->options->placement;
    if (file != NULL && strcmp(file, "weighted") == 0)
        return shoal_fail(
            s->log, SHOAL_USAGE,
            "--placement weighted: what is measured may differ at the next start, "
            "which would then want other experts; write the shares that a run with it "
            "says into a file, and give that to both");
    shoal_placement placement;
    if (file == NULL || strcmp(file, "uniform") == 0)
        SHOAL_TRY(shoal_placement_open(&placement, n_layer, s->spec.router.n_expert,
                                       s->spec.router.n_group, s->n_rank, NULL, NULL, s->log));
    else
        SHOAL_TRY(shoal_placement_read_file(&placement, file, n_layer, s->spec.router.n_expert,
                                            s->spec.router.n_group, s->n_rank, s->log));
    const shoal_status status = shoal_placement_pack(bytes, n_bytes, &placement, s->log);
    shoal_placement_close(&placement);
    return status;
}

/* Rank 0's bytes to all. *bytes is malloc'ed on all ranks, also on failure. */
static shoal_status share_bytes(uint8_t **bytes, size_t n, shoal__stage *s)
{
    uint64_t n_bytes = n;
    SHOAL_TRY(shoal_comm_bcast(s->comm, &n_bytes, sizeof n_bytes, 0));
    shoal_status status = SHOAL_OK;
    if (s->rank != 0)
        *bytes = malloc((size_t)n_bytes + 1);
    if (*bytes == NULL)
        status = shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for the placement");
    SHOAL_TRY(shoal_comm_agree(s->comm, status, "placing the experts"));
    SHOAL_TRY(shoal_comm_bcast(s->comm, *bytes, (size_t)n_bytes, 0));
    return shoal_placement_unpack(&s->placement, *bytes, (size_t)n_bytes, s->log);
}

shoal_status shoal__stage_place(shoal__stage *s)
{
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    SHOAL__STAGE_STEP(s, "placing the experts",
                      s->rank == 0 ? read_placement(&bytes, &n_bytes, s) : SHOAL_OK);
    const shoal_status status = share_bytes(&bytes, n_bytes, s);
    free(bytes);
    SHOAL_TRY(status);
    for (int32_t r = 0; r < s->n_rank; r++)
        if (s->placement.sequence_weight[r] > 0)
            s->node[s->node_of_rank[r]].has_sequences = true;
    return SHOAL_OK;
}

bool shoal__stage_wants(const shoal__stage *s, int32_t node, int32_t unit)
{
    const shoal_unit_info *u = shoal_units_at(s->units, unit);
    if (u->expert == SHOAL_PACK_NO_EXPERT)
        return s->node[node].has_sequences;
    const int32_t rank = shoal_placement_owner(&s->placement, u->moe_layer, u->expert);
    return s->node_of_rank[rank] == node;
}

static shoal_status open_cache(shoal_pack_cache **cache, const shoal__stage *s, bool verify)
{
    const shoal_checkpoint *c = s->source != NULL ? s->source : s->checkpoint;
    const char *weights = shoal_weights_text((shoal_weights_choice)s->options->weights);
    const shoal_pack_config config = {
        .dir = s->dir,
        .identity = shoal_pack_identity(c, weights),
        .weights = weights,
        .model = shoal_checkpoint_origin(c),
        .n_layer = s->spec.n_layer + n_mtp(s),
        .n_expert = s->spec.router.n_expert,
        .verify = verify,
        .speaks = true,
    };
    SHOAL_TRY(shoal_pack_cache_open(cache, &config, s->log));
    if (shoal_pack_cache_keeps(*cache))
        return SHOAL_OK;
    shoal_pack_cache_close(*cache);
    *cache = NULL;
    return shoal_fail(s->log, SHOAL_IO, "--to %s: nothing can be written there", s->dir);
}

/* What the missing units will take on disk, with the indices of the files that are not there. */
static uint64_t disk_bytes(const shoal__stage *s)
{
    uint64_t n_bytes = 0;
    int32_t layer = SHOAL_PACK_NO_LAYER - 1;
    bool experts = false;
    for (int32_t i = 0; i < s->n_unit; i++) {
        const shoal_unit_info *u = shoal_units_at(s->units, i);
        if (!s->missing[i])
            continue;
        n_bytes += shoal_pack_unit_bytes(u->n_bytes);
        const bool is_expert = u->expert != SHOAL_PACK_NO_EXPERT;
        if (u->layer == layer && is_expert == experts)
            continue;
        layer = u->layer;
        experts = is_expert;
        n_bytes += shoal_pack_file_bytes(is_expert ? s->spec.router.n_expert : 1, u->n_part);
    }
    return n_bytes;
}

static shoal_status check_room(const shoal__stage *s)
{
    struct statvfs disk;
    if (statvfs(s->dir, &disk) != 0)
        return shoal_fail(s->log, SHOAL_IO, "--to %s: how much room it has cannot be told: %s",
                          s->dir, strerror(errno));
    const uint64_t room = (uint64_t)disk.f_bavail * (uint64_t)disk.f_frsize;
    const uint64_t wanted = disk_bytes(s);
    if (wanted <= room)
        return SHOAL_OK;
    char has[SHOAL_BYTES_TEXT], needs[SHOAL_BYTES_TEXT];
    return shoal_fail(s->log, SHOAL_IO,
                      "--to %s: the disk has %s left, wanted %s for the %lld units of weights that "
                      "are not there yet; free some, or give another folder, fewer bits "
                      "(--weights) or this node a smaller share (--placement)",
                      s->dir, shoal_bytes_text(has, room), shoal_bytes_text(needs, wanted),
                      (long long)s->n_missing);
}

static shoal_status open_units(shoal__stage *s)
{
    if (s->source == NULL || s->rank != 0) /* rank 0 has read it with the placement */
        SHOAL_TRY(shoal_spec_open(&s->spec, s->source != NULL ? s->source : s->checkpoint, s->log));
    if (s->source != NULL) {
        shoal_topology_read(&s->topology, s->log);
        const int32_t n_thread = s->options->n_thread;
        SHOAL_TRY(shoal_pool_open(
            &s->pool, n_thread > 0 ? n_thread : shoal_topology_threads(&s->topology, 1), s->log));
        shoal_pool_set_poll(s->pool, shoal__stage_poll, s);
    }
    const shoal_units_config config = {
        .spec = &s->spec,
        .checkpoint = s->source != NULL ? s->source : s->checkpoint,
        .n_mtp = n_mtp(s),
        .weights = (shoal_weights_choice)s->options->weights,
        .pool = s->pool,
        .poll = shoal__stage_poll,
        .poll_arg = s,
    };
    SHOAL_TRY(shoal_units_open(&s->units, &config, s->log));
    s->n_unit = shoal_units_count(s->units);
    return s->poll_status;
}

shoal_status shoal__stage_survey(shoal__stage *s)
{
    if (!s->leads)
        return SHOAL_OK;
    SHOAL_TRY(open_units(s));
    SHOAL_TRY(open_cache(&s->cache, s, false));
    shoal_pack_cache_set_poll(s->cache, shoal__stage_poll, s);
    s->missing = calloc((size_t)s->n_unit, sizeof *s->missing);
    if (s->missing == NULL)
        return shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory to list %d units", (int)s->n_unit);
    for (int32_t i = 0; i < s->n_unit; i++) {
        const shoal_unit_info *u = shoal_units_at(s->units, i);
        if (!shoal__stage_wants(s, s->mine, i) ||
            shoal_pack_cache_find(s->cache, u->layer, u->expert) != NULL)
            continue;
        s->missing[i] = 1;
        s->n_missing++;
        s->missing_bytes += u->n_bytes;
    }
    return check_room(s);
}

static void count_node(shoal__stage *s, int32_t n)
{
    shoal__stage_node *node = &s->node[n];
    for (int32_t i = 0; i < s->n_unit; i++) {
        const uint64_t n_bytes = shoal_units_at(s->units, i)->n_bytes;
        if (!shoal__stage_wants(s, n, i))
            continue;
        node->n_wanted++;
        node->wanted_bytes += n_bytes;
        node->n_missing += node->missing[i];
        node->missing_bytes += node->missing[i] ? n_bytes : 0;
    }
}

/* Leaders' lists to rank 0, one message each. */
static shoal_status gather(shoal__stage *s)
{
    const size_t n_bytes = (size_t)s->n_unit;
    if (s->rank != 0) {
        if (!s->leads)
            return SHOAL_OK;
        shoal_request request;
        SHOAL_TRY(shoal_comm_send(s->comm, &request, 0, SHOAL_TAG_STAGED, s->missing, n_bytes));
        return shoal_comm_wait(s->comm, &request, 1, "what a node lacks");
    }
    memcpy(s->node[0].missing, s->missing, n_bytes);
    for (int32_t n = 1; n < s->n_node; n++) {
        shoal_request request;
        SHOAL_TRY(shoal_comm_recv(s->comm, &request, s->node[n].leader, SHOAL_TAG_STAGED,
                                  s->node[n].missing, n_bytes));
        SHOAL_TRY(shoal_comm_wait(s->comm, &request, 1, "what a node lacks"));
    }
    return SHOAL_OK;
}

shoal_status shoal__stage_gather_missing(shoal__stage *s)
{
    shoal_status status = SHOAL_OK;
    for (int32_t n = 0; n < s->n_node && s->rank == 0 && status == SHOAL_OK; n++) {
        s->node[n].missing = calloc((size_t)s->n_unit, 1);
        if (s->node[n].missing == NULL)
            status =
                shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory to list %d units", (int)s->n_unit);
    }
    SHOAL_TRY(shoal_comm_agree(s->comm, status, "listing what is missing"));
    SHOAL_TRY(gather(s));
    for (int32_t n = 0; n < s->n_node && s->rank == 0; n++)
        count_node(s, n);
    return SHOAL_OK;
}

shoal_status shoal__stage_verify(const shoal__stage *s)
{
    if (!s->leads || !s->options->verify)
        return SHOAL_OK;
    shoal_pack_cache *cache;
    SHOAL_TRY(open_cache(&cache, s, true));
    shoal_pack_cache_set_poll(cache, shoal__stage_poll, (void *)(uintptr_t)s);
    shoal_status status = SHOAL_OK;
    for (int32_t i = 0; i < s->n_unit && status == SHOAL_OK; i++) {
        const shoal_unit_info *u = shoal_units_at(s->units, i);
        if (!shoal__stage_wants(s, s->mine, i))
            continue;
        const shoal_pack_unit *unit = shoal_pack_cache_find(cache, u->layer, u->expert);
        if (unit == NULL)
            status = shoal_fail(s->log, SHOAL_BAD_DATA,
                                "--verify: %s: layer %d, expert %d is not there any more; run "
                                "shoal stage again",
                                s->dir, (int)u->layer, (int)u->expert);
        else
            status = shoal_pack_cache_verify(cache, unit, u->layer, u->expert);
        if (status == SHOAL_OK)
            status = s->poll_status;
    }
    shoal_pack_cache_close(cache);
    return status;
}
