#include "launcher/agreement.h"

#include "build_id.h"
#include "runtime/base/hash.h"
#include "runtime/kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

const char *shoal_build_text(void)
{
    return SHOAL_VERSION " (" SHOAL_BUILD_ID ")";
}

shoal_status shoal_agreement_fill(shoal_agreement *mine, const shoal_checkpoint *checkpoint,
                                  const shoal_spec *spec, const shoal_placement *placement,
                                  const shoal_options *options, shoal_log *log)
{
    uint8_t *packed = NULL;
    size_t n_packed = 0;
    if (placement->n_rank > 0)
        SHOAL_TRY(shoal_placement_pack(&packed, &n_packed, placement, log));
    memset(mine, 0, sizeof *mine);
    mine->magic = SHOAL_AGREEMENT_MAGIC;
    snprintf(mine->build, sizeof mine->build, "%s", shoal_build_text());
    mine->checkpoint = shoal_checkpoint_identity(checkpoint);
    mine->age = shoal_checkpoint_age(checkpoint);
    mine->is_staged = shoal_checkpoint_is_staged(checkpoint);
    mine->n_layer = spec->n_layer;
    mine->n_moe_layer = spec->n_moe_layer;
    mine->n_vocab = spec->n_vocab;
    mine->n_embd = spec->n_embd;
    mine->n_expert = spec->router.n_expert;
    mine->top_k = spec->router.top_k;
    mine->command = options->command;
    mine->math = options->math;
    mine->weights = options->weights;
    mine->kv = options->kv;
    mine->combine = options->combine;
    mine->overlap = options->overlap;
    mine->transport = options->transport;
    mine->kernels = shoal_kernels_bits(options->kernels);
    mine->draft = options->draft;
    mine->draft_tokens = shoal_options_drafts(options).n_token;
    mine->n_context = options->n_context;
    mine->n_sequence = options->n_sequence;
    mine->prefill_chunk = options->prefill_chunk;
    mine->trace = options->trace != NULL;
    mine->routes = options->routes != NULL;
    mine->placement = packed != NULL ? shoal_hash(SHOAL_HASH_INIT, packed, n_packed) : 0;
    mine->weighted = options->placement != NULL && strcmp(options->placement, "weighted") == 0;
    free(packed);
    return SHOAL_OK;
}

static shoal_status compare_build(const shoal_agreement *theirs, const shoal_agreement *ours,
                                  int32_t rank, const char *host, shoal_log *log)
{
    if (theirs->magic == ours->magic && strncmp(theirs->build, ours->build, 64) == 0)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_FAILED,
                      "rank %d (%s) is another build: %.63s, rank 0 is %.63s; install the same "
                      "shoal on all hosts",
                      (int)rank, host, theirs->magic == ours->magic ? theirs->build : "unknown",
                      ours->build);
}

static shoal_status compare_checkpoint(const shoal_agreement *theirs, const shoal_agreement *ours,
                                       int32_t rank, const char *host, shoal_log *log)
{
    if (theirs->checkpoint == ours->checkpoint) {
        /* Copies may differ in age, but what was staged is of one state of the original. */
        if (theirs->age == ours->age || (!theirs->is_staged && !ours->is_staged))
            return SHOAL_OK;
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "rank %d (%s) has the model as it was %s, rank 0 as it was at another "
                          "time: its files have other modification times; run shoal stage again",
                          (int)rank, host, theirs->is_staged ? "when it was staged" : "written");
    }
    return shoal_fail(log, SHOAL_BAD_DATA,
                      "rank %d (%s) has another checkpoint: identity %016llx (%d layers, %d "
                      "experts, width %d, vocabulary %d), rank 0 has %016llx (%d layers, %d "
                      "experts, width %d, vocabulary %d); give all ranks the same files",
                      (int)rank, host, (unsigned long long)theirs->checkpoint, theirs->n_layer,
                      theirs->n_expert, theirs->n_embd, theirs->n_vocab,
                      (unsigned long long)ours->checkpoint, ours->n_layer, ours->n_expert,
                      ours->n_embd, ours->n_vocab);
}

static shoal_status compare_options(const shoal_agreement *theirs, const shoal_agreement *ours,
                                    int32_t rank, const char *host, shoal_log *log)
{
    static const struct {
        const char *name;
        size_t offset;
    } fields[] = {
        {"the command", offsetof(shoal_agreement, command)},
        {"--math", offsetof(shoal_agreement, math)},
        {"--weights", offsetof(shoal_agreement, weights)},
        {"--kv", offsetof(shoal_agreement, kv)},
        {"--combine", offsetof(shoal_agreement, combine)},
        {"--overlap", offsetof(shoal_agreement, overlap)},
        {"--transport", offsetof(shoal_agreement, transport)},
        {"--draft", offsetof(shoal_agreement, draft)},
        {"--kernels", offsetof(shoal_agreement, kernels)},
        {"--trace", offsetof(shoal_agreement, trace)},
        {"--routes", offsetof(shoal_agreement, routes)},
        {"--context", offsetof(shoal_agreement, n_context)},
        {"--sequences", offsetof(shoal_agreement, n_sequence)},
        {"--prefill-chunk", offsetof(shoal_agreement, prefill_chunk)},
        {"--draft-tokens", offsetof(shoal_agreement, draft_tokens)},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        int32_t a, b;
        memcpy(&a, (const char *)theirs + fields[i].offset, sizeof a);
        memcpy(&b, (const char *)ours + fields[i].offset, sizeof b);
        if (a == b)
            continue;
        const char *name = fields[i].name;
        if (fields[i].offset >= offsetof(shoal_agreement, n_context) &&
            fields[i].offset < offsetof(shoal_agreement, placement))
            return shoal_fail(log, SHOAL_USAGE,
                              "rank %d (%s) has other options: %s %d, rank 0 has %d; give all "
                              "ranks the same options",
                              (int)rank, host, name, (int)a, (int)b);
        return shoal_fail(log, SHOAL_USAGE,
                          "rank %d (%s) has other options: %s differs from rank 0's; give all "
                          "ranks the same options",
                          (int)rank, host, name);
    }
    if (theirs->placement != ours->placement || theirs->weighted != ours->weighted)
        return shoal_fail(log, SHOAL_USAGE,
                          "rank %d (%s) has other options: its --placement puts experts elsewhere "
                          "than rank 0's; give all ranks the same",
                          (int)rank, host);
    return SHOAL_OK;
}

shoal_status shoal_agreement_compare(const shoal_agreement *all, int32_t n_rank,
                                     const char *const *host, shoal_log *log)
{
    /* Of several kinds the first is the cause: another build explains other options. */
    bool build = false, checkpoint = false, options = false;
    for (int32_t r = 1; r < n_rank; r++) {
        if (compare_build(&all[r], &all[0], r, host[r], log) != SHOAL_OK)
            build = true;
        else if (compare_checkpoint(&all[r], &all[0], r, host[r], log) != SHOAL_OK)
            checkpoint = true;
        else if (compare_options(&all[r], &all[0], r, host[r], log) != SHOAL_OK)
            options = true;
    }
    return build ? SHOAL_FAILED : checkpoint ? SHOAL_BAD_DATA : options ? SHOAL_USAGE : SHOAL_OK;
}

/* shoal_comm_agree makes the verdict known to comm, so that all leave together; its own text for
 * the other ranks is not wanted, as rank 0 has spoken. A loss on the way still is. */
static shoal_status share(shoal_comm *comm, shoal_status mine, const char *stage, shoal_log *log)
{
    bool capture = log->capture;
    log->capture = true;
    shoal_status status = shoal_comm_agree(comm, mine, stage);
    log->capture = capture;
    if (status != mine && (status == SHOAL_PEER_LOST || status == SHOAL_INTERRUPTED))
        return shoal_fail(log, status, "%s", log->error);
    return status;
}

shoal_status shoal_agreement_check(shoal_comm *comm, const shoal_agreement *mine, shoal_log *log)
{
    int32_t n_rank = shoal_comm_n_rank(comm);
    bool speaks = shoal_comm_rank(comm) == 0;
    shoal_agreement *all = NULL;
    const char **host = NULL;
    shoal_status status = SHOAL_OK;
    if (speaks) {
        all = calloc((size_t)n_rank, sizeof *all);
        host = calloc((size_t)n_rank, sizeof *host);
        if (all == NULL || host == NULL)
            status = shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the agreement of %d ranks",
                                (int)n_rank);
    }
    if (status == SHOAL_OK)
        status = shoal_comm_gather(comm, all, mine, sizeof *mine, 0);
    if (status == SHOAL_OK && speaks) {
        for (int32_t r = 0; r < n_rank; r++)
            host[r] = shoal_comm_host(comm, r);
        status = shoal_agreement_compare(all, n_rank, host, log);
    }
    free(all);
    free(host);
    return share(comm, status, "the agreement of all ranks", log);
}

typedef struct stage_report {
    int32_t status;
    char text[sizeof(((shoal_log *)0)->error)];
} stage_report;

/* Rank 0 speaks for all: its own failure, and others' with their rank, equal ones once. */
static void log_stage(shoal_comm *comm, stage_report *all, shoal_log *log)
{
    for (int32_t r = 0; r < shoal_comm_n_rank(comm); r++) {
        if (all[r].status == SHOAL_OK)
            continue;
        all[r].text[sizeof all[r].text - 1] = '\0';
        bool said = false;
        for (int32_t before = 0; before < r && !said; before++)
            said = all[before].status != SHOAL_OK && strcmp(all[before].text, all[r].text) == 0;
        if (said)
            continue;
        if (r == 0)
            (void)shoal_fail(log, (shoal_status)all[r].status, "%s", all[r].text);
        else
            (void)shoal_fail(log, (shoal_status)all[r].status, "rank %d (%s): %s", (int)r,
                             shoal_comm_host(comm, r), all[r].text);
    }
}

shoal_status shoal_agreement_stage(shoal_comm *comm, shoal_status mine, const char *stage,
                                   shoal_log *log)
{
    stage_report report = {.status = (int32_t)mine};
    if (mine != SHOAL_OK)
        memcpy(report.text, log->error, sizeof report.text);
    log->capture = false;
    stage_report *all = NULL;
    if (shoal_comm_rank(comm) == 0) {
        all = calloc((size_t)shoal_comm_n_rank(comm), sizeof *all);
        if (all == NULL)
            return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for the agreement of %d ranks",
                              (int)shoal_comm_n_rank(comm));
    }
    shoal_status status = shoal_comm_gather(comm, all, &report, sizeof report, 0);
    if (status == SHOAL_OK && all != NULL)
        log_stage(comm, all, log);
    free(all);
    if (status == SHOAL_OK)
        return share(comm, mine, stage, log);
    if (mine != SHOAL_OK) /* comm had ended before: what this rank captured nobody else can say */
        return shoal_fail(log, mine, "%s", report.text);
    return status;
}
