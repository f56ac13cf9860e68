#include "launcher/check_compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct layout {
    size_t hidden, logits, route; /* values per row of each array */
} layout;

static layout layout_of(const shoal_spec *spec)
{
    return (layout){(size_t)spec->n_layer * (size_t)spec->n_embd, (size_t)spec->n_vocab,
                    (size_t)spec->n_moe_layer * (size_t)spec->router.top_k};
}

uint64_t shoal_check_rows_bytes(const shoal_spec *spec, int32_t n_row)
{
    layout l = layout_of(spec);
    return (uint64_t)n_row * 4 * (2 * l.hidden + l.logits + 2 * l.route);
}

shoal_check_rows shoal_check_rows_view(const shoal_check_rows *rows, const shoal_spec *spec,
                                       int32_t n_row)
{
    layout l = layout_of(spec);
    size_t n = (size_t)n_row;
    shoal_check_rows view = {.n_row = n_row, .attention_hidden = rows->attention_hidden};
    view.layer_hidden = view.attention_hidden + n * l.hidden;
    view.logits = view.layer_hidden + n * l.hidden;
    view.weight = view.logits + n * l.logits;
    view.expert = (int32_t *)(void *)(view.weight + n * l.route);
    return view;
}

shoal_status shoal_check_rows_open(shoal_check_rows *rows, const shoal_spec *spec, int32_t n_row,
                                   shoal_log *log)
{
    uint64_t n_bytes = shoal_check_rows_bytes(spec, n_row);
    shoal_check_rows opened = {.n_row = n_row, .attention_hidden = calloc(1, n_bytes + 4)};
    if (opened.attention_hidden == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "no memory to keep %d rows of all layers",
                          (int)n_row);
    *rows = shoal_check_rows_view(&opened, spec, n_row);
    return SHOAL_OK;
}

void shoal_check_rows_close(shoal_check_rows *rows)
{
    free(rows->attention_hidden);
    *rows = (shoal_check_rows){0};
}

/* Row `row` of layer `layer` of an array [n_layer, n_row, width]. */
static size_t row_at(const shoal_check_rows *rows, int32_t layer, int32_t row, int32_t width)
{
    return ((size_t)layer * (size_t)rows->n_row + (size_t)row) * (size_t)width;
}

void shoal_check_rows_copy(shoal_check_rows *to, int32_t to_row, const shoal_check_rows *from,
                           int32_t from_row, const shoal_spec *spec)
{
    for (int32_t layer = 0; layer < spec->n_layer; layer++) {
        size_t a = row_at(to, layer, to_row, spec->n_embd);
        size_t b = row_at(from, layer, from_row, spec->n_embd);
        size_t n_bytes = (size_t)spec->n_embd * sizeof(float);
        memcpy(to->attention_hidden + a, from->attention_hidden + b, n_bytes);
        memcpy(to->layer_hidden + a, from->layer_hidden + b, n_bytes);
    }
    for (int32_t layer = 0; layer < spec->n_moe_layer; layer++) {
        size_t a = row_at(to, layer, to_row, spec->router.top_k);
        size_t b = row_at(from, layer, from_row, spec->router.top_k);
        size_t n_bytes = (size_t)spec->router.top_k * sizeof(float);
        memcpy(to->expert + a, from->expert + b, n_bytes);
        memcpy(to->weight + a, from->weight + b, n_bytes);
    }
    memcpy(to->logits + (size_t)to_row * (size_t)spec->n_vocab,
           from->logits + (size_t)from_row * (size_t)spec->n_vocab,
           (size_t)spec->n_vocab * sizeof(float));
}

/* Whether two rows of n values count as different; *difference is the largest absolute one, which
 * may be 0 where the bytes differ (-0, NaN). */
static bool values_differ(double *difference, const float *found, const float *wanted, int32_t n,
                          double tolerance)
{
    *difference = 0;
    if (memcmp(found, wanted, (size_t)n * sizeof(float)) == 0)
        return false;
    double largest = 0;
    bool odd = false;
    for (int32_t i = 0; i < n; i++) {
        double apart = fabs((double)found[i] - (double)wanted[i]);
        odd = odd || isnan(apart);
        *difference = apart > *difference ? apart : *difference;
        largest = fabs((double)wanted[i]) > largest ? fabs((double)wanted[i]) : largest;
    }
    return odd || tolerance == 0 || *difference > tolerance * largest;
}

static bool routing_differs(double *difference, const shoal_check_pair *pair, int32_t moe_layer,
                            int32_t top_k)
{
    size_t a = row_at(pair->found, moe_layer, pair->at, top_k);
    size_t b = row_at(pair->wanted, moe_layer, pair->wanted_at, top_k);
    bool weights =
        values_differ(difference, pair->found->weight + a, pair->wanted->weight + b, top_k, 0);
    return memcmp(pair->found->expert + a, pair->wanted->expert + b,
                  (size_t)top_k * sizeof(int32_t)) != 0 ||
           weights;
}

/* Negative: the place (step, layer, stage) is before the finding's. */
static int order(const shoal_check_finding *f, int64_t step, int32_t layer, shoal_check_stage stage)
{
    if (!f->differs)
        return -1;
    if (step != f->step)
        return step < f->step ? -1 : 1;
    if (layer != f->layer)
        return layer < f->layer ? -1 : 1;
    return (int)stage - (int)f->stage;
}

/* A place differs: a new first one, or one more row of it. */
static void note(shoal_check_finding *f, const shoal_check_place *place, int32_t layer,
                 int32_t moe_layer, shoal_check_stage stage, double difference)
{
    if (order(f, place->step, layer, stage) < 0) {
        *f = (shoal_check_finding){.differs = true,
                                   .step = place->step,
                                   .layer = layer,
                                   .moe_layer = moe_layer,
                                   .stage = stage,
                                   .rank = place->rank,
                                   .sequence = place->sequence,
                                   .position = place->position,
                                   .token = place->token};
        memset(f->all_differing, 1, sizeof f->all_differing);
    }
    f->n_row++;
    f->difference = difference > f->difference ? difference : f->difference;
}

void shoal_check_compare(shoal_check_finding *finding, const shoal_check_pair *pair,
                         const shoal_check_place *place, const shoal_spec *spec)
{
    int32_t moe_layer = 0, n_embd = spec->n_embd;
    double apart;
    for (int32_t layer = 0; layer < spec->n_layer; layer++) {
        size_t a = row_at(pair->found, layer, pair->at, n_embd);
        size_t b = row_at(pair->wanted, layer, pair->wanted_at, n_embd);
        bool moe = spec->is_moe[layer];
        shoal_check_stage stage;
        if (values_differ(&apart, pair->found->attention_hidden + a,
                          pair->wanted->attention_hidden + b, n_embd, pair->tolerance))
            stage = SHOAL_CHECK_ATTENTION;
        else if (moe && pair->tolerance == 0 &&
                 routing_differs(&apart, pair, moe_layer, spec->router.top_k))
            stage = SHOAL_CHECK_ROUTER;
        else if (values_differ(&apart, pair->found->layer_hidden + a,
                               pair->wanted->layer_hidden + b, n_embd, pair->tolerance))
            stage = SHOAL_CHECK_MLP;
        else {
            moe_layer += moe;
            continue;
        }
        if (order(finding, place->step, layer, stage) <= 0)
            note(finding, place, layer, moe ? moe_layer : -1, stage, apart);
        return;
    }
    size_t n_vocab = (size_t)spec->n_vocab;
    if (pair->with_logits &&
        values_differ(&apart, pair->found->logits + (size_t)pair->at * n_vocab,
                      pair->wanted->logits + (size_t)pair->wanted_at * n_vocab, spec->n_vocab,
                      pair->tolerance) &&
        order(finding, place->step, spec->n_layer, SHOAL_CHECK_LOGITS) <= 0)
        note(finding, place, spec->n_layer, -1, SHOAL_CHECK_LOGITS, apart);
}

void shoal_check_collect(shoal_check_finding *f, const shoal_check_pair *pair,
                         const shoal_check_place *place, const shoal_spec *spec)
{
    if (!f->differs || f->step != place->step || f->stage != SHOAL_CHECK_MLP || f->moe_layer < 0)
        return;
    bool chosen[SHOAL_MAX_EXPERT] = {false};
    const int32_t *expert =
        pair->found->expert + row_at(pair->found, f->moe_layer, pair->at, spec->router.top_k);
    for (int32_t j = 0; j < spec->router.top_k; j++)
        chosen[expert[j]] = true;
    size_t a = row_at(pair->found, f->layer, pair->at, spec->n_embd);
    size_t b = row_at(pair->wanted, f->layer, pair->wanted_at, spec->n_embd);
    double apart;
    bool differs = values_differ(&apart, pair->found->layer_hidden + a,
                                 pair->wanted->layer_hidden + b, spec->n_embd, pair->tolerance);
    for (int32_t e = 0; e < spec->router.n_expert; e++) {
        f->all_differing[e] = f->all_differing[e] && (chosen[e] || !differs);
        f->any_equal[e] = f->any_equal[e] || (chosen[e] && !differs);
    }
}

int32_t shoal_check_suspects(int32_t *expert, const shoal_check_finding *finding,
                             const shoal_spec *spec)
{
    int32_t n = 0;
    if (!finding->differs || finding->stage != SHOAL_CHECK_MLP || finding->moe_layer < 0)
        return 0;
    /* Where rows are rounded on the wire, a small difference can be lost in some of an expert's. */
    for (int32_t rounded = 0; rounded < 2 && n == 0; rounded++) {
        for (int32_t e = 0; e < spec->router.n_expert; e++) {
            if (finding->all_differing[e] && (rounded == 1 || !finding->any_equal[e]))
                expert[n++] = e;
        }
    }
    return n;
}
