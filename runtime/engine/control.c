#include "runtime/engine/control.h"

#include "runtime/engine/sampler.h"

#include <string.h>

#define RESULT_MAGIC 0x52534853u /* "SHSR" */

typedef struct result_header {
    uint32_t magic;
    uint32_t n_chunk;
    int64_t step;
} result_header;

int32_t shoal__chunk_n_sample(const shoal_control_chunk *chunk)
{
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) == 0)
        return 0;
    return (chunk->flags & SHOAL_CONTROL_DECODE) != 0 ? chunk->n_row : 1;
}

bool shoal__chunk_in_draft_pass(const shoal_control_chunk *chunk, int32_t pass)
{
    return (chunk->flags & SHOAL_CONTROL_DRAFT) != 0 && (pass == 1 || pass <= chunk->n_draft);
}

int32_t shoal__control_n_draft_pass(const shoal_control *control)
{
    int32_t n_pass = 0;
    for (int32_t i = 0; i < control->n_chunk; i++)
        while (shoal__chunk_in_draft_pass(&control->chunk[i], n_pass + 1))
            n_pass++;
    return n_pass;
}

static int32_t n_chunk_logit(const shoal_control_chunk *chunk)
{
    if ((chunk->flags & (SHOAL_CONTROL_SCORES | SHOAL_CONTROL_ROWS)) != 0)
        return chunk->n_row;
    return shoal__chunk_n_sample(chunk);
}

static const char *check_draft(const shoal_control_chunk *chunk, const shoal_limits *limits)
{
    if ((chunk->flags & SHOAL_CONTROL_DRAFT) == 0)
        return NULL;
    if (!limits->mtp)
        return "guesses are wanted of an engine opened without the MTP layer";
    const bool sampled = (chunk->flags & SHOAL_CONTROL_SAMPLE) != 0;
    if (chunk->n_draft < (sampled ? 1 : 0) || chunk->n_draft > (sampled ? limits->n_draft : 0))
        return "the number of guesses that are wanted";
    return NULL;
}

/* Says what is wrong with a chunk, or NULL. */
static const char *check_chunk(const shoal_control_chunk *chunk, const shoal_limits *limits)
{
    if (chunk->owner < 0 || chunk->owner >= limits->n_rank)
        return "owner is no rank";
    if (chunk->slot < 0 || chunk->slot >= limits->n_slot[chunk->owner])
        return "its owner has no such cache slot";
    if (chunk->position0 < 0 || chunk->n_row < 1 ||
        (int64_t)chunk->position0 + chunk->n_row > limits->n_context)
        return "positions beyond the context";
    switch (chunk->flags & ~(uint32_t)SHOAL_CONTROL_DRAFT) {
    case 0:
    case SHOAL_CONTROL_SAMPLE:
        break;
    case SHOAL_CONTROL_SCORES:
    case SHOAL_CONTROL_ROWS:
        if ((chunk->flags & SHOAL_CONTROL_DRAFT) != 0)
            return "flags that exclude each other";
        if ((chunk->flags & SHOAL_CONTROL_ROWS) != 0 && !limits->want_rows)
            return "rows are wanted of an engine opened without want_rows";
        break;
    case SHOAL_CONTROL_SAMPLE | SHOAL_CONTROL_DECODE:
        if (chunk->n_row > 1 + limits->n_draft)
            return "more than one row and its guesses to decode";
        break;
    default:
        return "flags that exclude each other";
    }
    const shoal_sampling sampling = {
        .temperature = chunk->temperature, .top_k = chunk->top_k, .top_p = chunk->top_p};
    if (!shoal_sampling_valid(&sampling))
        return "sampling parameters";
    return check_draft(chunk, limits);
}

shoal_status shoal__control_check(const shoal_control *control, const shoal_limits *limits,
                                  int32_t rank, shoal_log *log)
{
    int64_t n_row = 0, n_score = 0, n_logit = 0;
    const char *wrong = NULL;
    int32_t i = 0;
    for (; i < control->n_chunk && wrong == NULL; i++) {
        const shoal_control_chunk *chunk = &control->chunk[i];
        wrong = check_chunk(chunk, limits);
        if (wrong != NULL || chunk->owner != rank)
            continue;
        n_row += chunk->n_row;
        n_logit += n_chunk_logit(chunk);
        n_score +=
            (chunk->flags & (SHOAL_CONTROL_SCORES | SHOAL_CONTROL_ROWS)) != 0 ? chunk->n_row : 0;
        if (n_row > limits->n_token_max || n_logit > limits->n_logit_max ||
            n_score > limits->score_rows)
            wrong = "more rows than this rank has room for";
    }
    for (int32_t t = 0; t < control->n_token && wrong == NULL; t++)
        if (control->token[t] < 0 || control->token[t] >= limits->n_vocab)
            wrong = "a token id beyond the vocabulary";
    if (wrong == NULL)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_FAILED,
                      "control message of step %lld is wrong in chunk %d of %d: %s; all ranks must "
                      "run the same build with the same options",
                      (long long)control->step, i - 1, control->n_chunk, wrong);
}

static size_t pad8(size_t n_bytes)
{
    return (n_bytes + 7) / 8 * 8;
}

/* Bytes of one ROWS row. */
static size_t row_bytes(const shoal_limits *limits)
{
    const size_t n_choice = (size_t)limits->n_moe_layer * (size_t)limits->top_k;
    return ((size_t)limits->n_vocab + (size_t)limits->n_embd) * sizeof(float) +
           n_choice * (sizeof(int32_t) + sizeof(float));
}

/* What a chunk gives by its flags. */
static size_t wanted_bytes(const shoal_limits *limits, const shoal_control_chunk *chunk)
{
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) != 0)
        return pad8(((size_t)shoal__chunk_n_sample(chunk) + (size_t)chunk->n_draft) *
                    sizeof(int32_t));
    if ((chunk->flags & SHOAL_CONTROL_SCORES) != 0)
        return (size_t)chunk->n_row * sizeof(double);
    if ((chunk->flags & SHOAL_CONTROL_ROWS) != 0)
        return pad8((size_t)chunk->n_row * row_bytes(limits));
    return 0;
}

static size_t route_bytes(const shoal_limits *limits, size_t n_row)
{
    if (!limits->want_routes)
        return 0;
    return pad8(n_row * (size_t)limits->n_moe_layer * (size_t)limits->top_k * sizeof(uint16_t));
}

static size_t chunk_bytes(const shoal_limits *limits, const shoal_control_chunk *chunk)
{
    return wanted_bytes(limits, chunk) + route_bytes(limits, (size_t)chunk->n_row);
}

size_t shoal__result_bytes(const shoal_limits *limits, const shoal_control *control, int32_t rank)
{
    size_t n_bytes = 0;
    for (int32_t i = 0; i < control->n_chunk; i++)
        if (control->chunk[i].owner == rank)
            n_bytes += chunk_bytes(limits, &control->chunk[i]);
    return n_bytes == 0 ? 0 : sizeof(result_header) + n_bytes;
}

size_t shoal__result_bytes_max(const shoal_limits *limits, int32_t rank)
{
    const int32_t n_slot = limits->n_slot[rank];
    if (n_slot == 0)
        return 0;
    size_t per_row = limits->score_rows > 0 ? sizeof(double) : 0;
    if (limits->want_rows && row_bytes(limits) > per_row)
        per_row = row_bytes(limits);
    /* Per slot: tokens and guesses, or the padding of a chunk of rows. */
    const size_t n_sample = 1 + 2 * (size_t)limits->n_draft;
    /* Routes: of each chunk at most 7 bytes are padding. */
    const size_t n_route_bytes =
        limits->want_routes
            ? route_bytes(limits, (size_t)limits->n_token_max) + (size_t)n_slot * sizeof(uint64_t)
            : 0;
    return sizeof(result_header) + (size_t)n_slot * pad8(n_sample * sizeof(int32_t)) +
           (size_t)limits->score_rows * per_row + n_route_bytes;
}

/* Results of a chunk that begin at `at`. */
static shoal_chunk_result place_chunk(unsigned char *at, const shoal_limits *limits,
                                      const shoal_control_chunk *chunk)
{
    shoal_chunk_result place = {0};
    const size_t n_row = (size_t)chunk->n_row;
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) != 0) {
        place.token = (int32_t *)at;
        if (chunk->n_draft > 0)
            place.draft = place.token + shoal__chunk_n_sample(chunk);
    } else if ((chunk->flags & SHOAL_CONTROL_SCORES) != 0)
        place.nll = (double *)at;
    else if ((chunk->flags & SHOAL_CONTROL_ROWS) != 0) {
        const size_t n_choice = (size_t)limits->n_moe_layer * n_row * (size_t)limits->top_k;
        place.logits = (float *)at;
        place.hidden = place.logits + n_row * (size_t)limits->n_vocab;
        place.expert = (int32_t *)(place.hidden + n_row * (size_t)limits->n_embd);
        place.weight = (float *)(place.expert + n_choice);
    }
    if (limits->want_routes)
        place.route = (uint16_t *)(at + wanted_bytes(limits, chunk));
    return place;
}

void shoal__result_place(shoal_chunk_result *place, unsigned char *message,
                         const shoal_limits *limits, const shoal_control *control, int32_t rank)
{
    size_t at = sizeof(result_header);
    for (int32_t i = 0; i < control->n_chunk; i++) {
        const shoal_control_chunk *chunk = &control->chunk[i];
        if (chunk->owner != rank)
            continue;
        place[i] = place_chunk(message + at, limits, chunk);
        at += chunk_bytes(limits, chunk);
    }
}

static result_header make_header(const shoal_control *control, int32_t rank)
{
    result_header header = {.magic = RESULT_MAGIC, .step = control->step};
    for (int32_t i = 0; i < control->n_chunk; i++)
        header.n_chunk += control->chunk[i].owner == rank ? 1 : 0;
    return header;
}

void shoal__result_write_header(unsigned char *message, const shoal_control *control, int32_t rank)
{
    const result_header header = make_header(control, rank);
    memcpy(message, &header, sizeof header);
}

/* Tokens as long as there are any, then -1; at least n_least. */
static bool tokens_valid(const int32_t *token, int32_t n, int32_t n_least, int32_t n_vocab)
{
    int32_t n_token = 0;
    while (n_token < n && token[n_token] >= 0 && token[n_token] < n_vocab)
        n_token++;
    for (int32_t i = n_token; i < n; i++)
        if (token[i] != -1)
            return false;
    return n_token >= n_least;
}

static bool routes_valid(const uint16_t *route, int32_t n_row, const shoal_limits *limits)
{
    const size_t n = (size_t)n_row * (size_t)limits->n_moe_layer * (size_t)limits->top_k;
    for (size_t i = 0; i < n; i++)
        if (route[i] >= limits->n_expert)
            return false;
    return true;
}

static bool result_valid(const shoal_chunk_result *place, const shoal_control_chunk *chunk,
                         const shoal_limits *limits)
{
    const int32_t n_vocab = limits->n_vocab;
    return (place->token == NULL ||
            tokens_valid(place->token, shoal__chunk_n_sample(chunk), 1, n_vocab)) &&
           (place->draft == NULL || tokens_valid(place->draft, chunk->n_draft, 0, n_vocab)) &&
           (place->route == NULL || routes_valid(place->route, chunk->n_row, limits));
}

shoal_status shoal__result_check(const unsigned char *message, const shoal_chunk_result *place,
                                 const shoal_limits *limits, const shoal_control *control,
                                 int32_t rank, shoal_log *log)
{
    const result_header wanted = make_header(control, rank);
    result_header found;
    memcpy(&found, message, sizeof found);
    bool right =
        found.magic == wanted.magic && found.n_chunk == wanted.n_chunk && found.step == wanted.step;
    for (int32_t i = 0; i < control->n_chunk && right; i++)
        if (control->chunk[i].owner == rank)
            right = result_valid(&place[i], &control->chunk[i], limits);
    if (right)
        return SHOAL_OK;
    return shoal_fail(
        log, SHOAL_FAILED,
        "results of rank %d in step %lld are malformed (header of step %lld, %u "
        "chunks, wanted %u; or a token or an expert that there is not); all ranks must run the "
        "same build with the same options",
        rank, (long long)control->step, (long long)found.step, found.n_chunk, wanted.n_chunk);
}
