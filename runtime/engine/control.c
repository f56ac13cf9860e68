#include "runtime/engine/control.h"

#include "runtime/engine/sampler.h"

#include <string.h>

#define RESULT_MAGIC 0x52534853u /* "SHSR" */

typedef struct result_header {
    uint32_t magic;
    uint32_t n_chunk;
    int64_t step;
} result_header;

static int32_t n_chunk_logit(const shoal_control_chunk *chunk)
{
    if ((chunk->flags & (SHOAL_CONTROL_SCORES | SHOAL_CONTROL_ROWS)) != 0)
        return chunk->n_row;
    return (chunk->flags & SHOAL_CONTROL_SAMPLE) != 0 ? 1 : 0;
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
    switch (chunk->flags) {
    case 0:
    case SHOAL_CONTROL_SAMPLE:
    case SHOAL_CONTROL_SCORES:
        break;
    case SHOAL_CONTROL_ROWS:
        if (!limits->want_rows)
            return "rows are wanted of an engine opened without want_rows";
        break;
    case SHOAL_CONTROL_SAMPLE | SHOAL_CONTROL_DECODE:
        if (chunk->n_row != 1)
            return "more than one row to decode";
        break;
    default:
        return "flags that exclude each other";
    }
    const shoal_sampling sampling = {
        .temperature = chunk->temperature, .top_k = chunk->top_k, .top_p = chunk->top_p};
    if (!shoal_sampling_valid(&sampling))
        return "sampling parameters";
    return NULL;
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

static size_t chunk_bytes(const shoal_limits *limits, const shoal_control_chunk *chunk)
{
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) != 0)
        return pad8(sizeof(int32_t));
    if ((chunk->flags & SHOAL_CONTROL_SCORES) != 0)
        return (size_t)chunk->n_row * sizeof(double);
    if ((chunk->flags & SHOAL_CONTROL_ROWS) != 0)
        return pad8((size_t)chunk->n_row * row_bytes(limits));
    return 0;
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
    /* Per slot: a token, or the padding of a chunk of rows. */
    return sizeof(result_header) + (size_t)n_slot * 8 + (size_t)limits->score_rows * per_row;
}

/* Results of a chunk that begin at `at`. */
static shoal_chunk_result place_chunk(unsigned char *at, const shoal_limits *limits,
                                      const shoal_control_chunk *chunk)
{
    shoal_chunk_result place = {0};
    const size_t n_row = (size_t)chunk->n_row;
    if ((chunk->flags & SHOAL_CONTROL_SAMPLE) != 0)
        place.token = (int32_t *)at;
    else if ((chunk->flags & SHOAL_CONTROL_SCORES) != 0)
        place.nll = (double *)at;
    else if ((chunk->flags & SHOAL_CONTROL_ROWS) != 0) {
        const size_t n_choice = (size_t)limits->n_moe_layer * n_row * (size_t)limits->top_k;
        place.logits = (float *)at;
        place.hidden = place.logits + n_row * (size_t)limits->n_vocab;
        place.expert = (int32_t *)(place.hidden + n_row * (size_t)limits->n_embd);
        place.weight = (float *)(place.expert + n_choice);
    }
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
        if (control->chunk[i].owner == rank && place[i].token != NULL)
            right = *place[i].token >= 0 && *place[i].token < limits->n_vocab;
    if (right)
        return SHOAL_OK;
    return shoal_fail(
        log, SHOAL_FAILED,
        "results of rank %d in step %lld are malformed (header of step %lld, %u "
        "chunks, wanted %u; or a token beyond the vocabulary); all ranks must run the "
        "same build with the same options",
        rank, (long long)control->step, (long long)found.step, found.n_chunk, wanted.n_chunk);
}
