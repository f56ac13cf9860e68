#include "runtime/engine/limits.h"

static double total_weight(const shoal_placement *placement)
{
    double total = 0.0;
    for (int32_t r = 0; r < placement->n_rank; r++)
        total += placement->sequence_weight[r];
    return total;
}

/* A rank's exact share of the sequences; the same double on every machine. */
static double quota(const shoal_engine_config *config, double total, int32_t rank)
{
    return config->n_sequence * (config->placement->sequence_weight[rank] / total);
}

int32_t shoal_engine_slots(const shoal_engine_config *config, int32_t rank)
{
    const shoal_placement *placement = config->placement;
    if (!(placement->sequence_weight[rank] > 0.0))
        return 0;
    const double total = total_weight(placement);
    const double mine = quota(config, total, rank);
    const double my_remainder = mine - (int32_t)mine;
    int64_t n_left = config->n_sequence; /* after all shares are rounded down */
    int64_t n_before = 0;                /* ranks whose remainder is served before this one's */
    for (int32_t r = 0; r < placement->n_rank; r++) {
        const double share = quota(config, total, r);
        const double remainder = share - (int32_t)share;
        n_left -= (int32_t)share;
        if (remainder > my_remainder || (remainder == my_remainder && r < rank))
            n_before++;
    }
    const int32_t n_slot = (int32_t)mine + (n_before < n_left ? 1 : 0);
    return n_slot > 1 ? n_slot : 1;
}

static int32_t most_slots(const shoal_engine_config *config)
{
    int32_t most = 0;
    for (int32_t r = 0; r < config->placement->n_rank; r++) {
        const int32_t n_slot = shoal_engine_slots(config, r);
        most = n_slot > most ? n_slot : most;
    }
    return most;
}

/* Rows of one slot past its prompt. */
static int32_t decode_rows(const shoal_engine_config *config)
{
    return 1 + config->drafts.n_token;
}

static int32_t score_rows(const shoal_engine_config *config)
{
    if (!config->want_rows && !config->want_scores)
        return 0;
    return config->prefill_chunk < SHOAL_ENGINE_SCORE_ROWS ? config->prefill_chunk
                                                           : SHOAL_ENGINE_SCORE_ROWS;
}

int32_t shoal_engine_token_max(const shoal_engine_config *config)
{
    return config->prefill_chunk + most_slots(config) * decode_rows(config);
}

int32_t shoal_engine_logit_max(const shoal_engine_config *config)
{
    return most_slots(config) * decode_rows(config) + score_rows(config);
}

shoal_status shoal__limits_check(const shoal_engine_config *config, int32_t n_rank, shoal_log *log)
{
    if (config->placement->n_rank != n_rank)
        return shoal_fail(log, SHOAL_USAGE, "placement is for %d ranks, this job has %d",
                          config->placement->n_rank, n_rank);
    const int64_t most = SHOAL_ENGINE_ROWS_MAX;
    if (config->n_context < 1 || config->n_sequence < 1 || config->n_sequence > most ||
        config->prefill_chunk < 1 || config->prefill_chunk > most)
        return shoal_fail(
            log, SHOAL_USAGE,
            "--context %d, --sequences %d, --prefill-chunk %d: each must be at least 1, "
            "the last two at most %lld",
            config->n_context, config->n_sequence, config->prefill_chunk, (long long)most);
    const shoal_drafts *drafts = &config->drafts;
    const bool drafting = drafts->kind != SHOAL_DRAFT_NONE;
    if (drafts->n_token < (drafting ? 1 : 0) ||
        drafts->n_token > (drafting ? SHOAL_DRAFT_TOKENS_MAX : 0))
        return shoal_fail(log, SHOAL_USAGE, "--draft-tokens %d: wanted 1 to %d with --draft",
                          drafts->n_token, SHOAL_DRAFT_TOKENS_MAX);
    /* One control message holds the tokens of all ranks; it is never split. */
    const int64_t n_decode = ((int64_t)n_rank + config->n_sequence) * decode_rows(config);
    if ((int64_t)n_rank * config->prefill_chunk + n_decode > 16 * most)
        return shoal_fail(log, SHOAL_USAGE,
                          "--prefill-chunk %d, --sequences %d on %d ranks, %d drafts each: more "
                          "than %lld rows in a step",
                          config->prefill_chunk, config->n_sequence, n_rank, drafts->n_token,
                          (long long)(16 * most));
    return SHOAL_OK;
}

void shoal__limits_init(shoal_limits *limits, int32_t *n_slot, const shoal_engine_config *config,
                        const shoal_spec *spec)
{
    *limits = (shoal_limits){
        .n_rank = config->placement->n_rank,
        .n_slot = n_slot,
        .prefill_chunk = config->prefill_chunk,
        .score_rows = score_rows(config),
        .want_rows = config->want_rows,
        .want_routes = config->want_routes && spec->n_moe_layer > 0,
        .mtp = config->drafts.kind == SHOAL_DRAFT_MTP,
        .n_draft = config->drafts.n_token,
        .n_token_max = shoal_engine_token_max(config),
        .n_logit_max = shoal_engine_logit_max(config),
        .n_context = config->n_context,
        .n_vocab = spec->n_vocab,
        .n_embd = spec->n_embd,
        .n_moe_layer = spec->n_moe_layer,
        .n_expert = spec->router.n_expert,
        .top_k = spec->router.top_k,
    };
    for (int32_t r = 0; r < limits->n_rank; r++) {
        n_slot[r] = shoal_engine_slots(config, r);
        limits->n_slot_total += n_slot[r];
    }
}

int32_t shoal__limits_n_control_token(const shoal_limits *limits)
{
    /* Every slot: its decode rows, or the one token more of a SCORES or DRAFT chunk. */
    int32_t n_token = limits->n_slot_total * (1 + limits->n_draft);
    for (int32_t r = 0; r < limits->n_rank; r++)
        if (limits->n_slot[r] > 0)
            n_token += limits->prefill_chunk;
    return n_token;
}
