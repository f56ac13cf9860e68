/* Rows of a forward pass with everything that was captured of them, and where two such differ
 * first: in which layer, in its attention, in its router or behind its experts. Layering: launcher.
 */
#ifndef SHOAL_LAUNCHER_CHECK_COMPARE_H
#define SHOAL_LAUNCHER_CHECK_COMPARE_H

#include "runtime/model/model.h"

/* What n_row rows left behind. One block of memory. */
typedef struct shoal_check_rows {
    int32_t n_row;
    float *attention_hidden; /* [n_layer, n_row, n_embd]; owned: the block begins here */
    float *layer_hidden;     /* [n_layer, n_row, n_embd] */
    float *logits;           /* [n_row, n_vocab] */
    float *weight;           /* [n_moe_layer, n_row, top_k] */
    int32_t *expert;         /* [n_moe_layer, n_row, top_k] */
} shoal_check_rows;

uint64_t shoal_check_rows_bytes(const shoal_spec *spec, int32_t n_row);
shoal_status shoal_check_rows_open(shoal_check_rows *rows, const shoal_spec *spec, int32_t n_row,
                                   shoal_log *log);
/* The same pointers for fewer rows in the same memory. */
shoal_check_rows shoal_check_rows_view(const shoal_check_rows *rows, const shoal_spec *spec,
                                       int32_t n_row);
void shoal_check_rows_close(shoal_check_rows *rows); /* accepts zeroed */

/* Copy row `from_row` to row `to_row`. */
void shoal_check_rows_copy(shoal_check_rows *to, int32_t to_row, const shoal_check_rows *from,
                           int32_t from_row, const shoal_spec *spec);

typedef enum shoal_check_stage {
    SHOAL_CHECK_ATTENTION, /* the residual stream behind attention */
    SHOAL_CHECK_ROUTER,    /* who was chosen, with what weight */
    SHOAL_CHECK_MLP,       /* the residual stream behind the layer */
    SHOAL_CHECK_LOGITS,    /* layer is then n_layer */
} shoal_check_stage;

/* The first difference: the lowest (step, layer, stage), and in it the first row found. */
typedef struct shoal_check_finding {
    bool differs;
    int64_t step;
    int32_t layer, moe_layer; /* moe_layer: -1 if the layer is dense */
    shoal_check_stage stage;
    int32_t rank, sequence, position, token; /* of the first row */
    int64_t n_row;                           /* rows that differ there */
    double difference;                       /* largest absolute one */
    /* Stage MLP of a MoE layer: experts that all rows chose that differ, and those that a row chose
     * that does not. */
    bool all_differing[SHOAL_MAX_EXPERT];
    bool any_equal[SHOAL_MAX_EXPERT];
} shoal_check_finding;

/* Where a row belongs. */
typedef struct shoal_check_place {
    int64_t step;
    int32_t rank, sequence, position, token;
} shoal_check_place;

/* Compare row `at` of `found` with row `wanted_at` of `wanted`; logits only if with_logits. Equal
 * means the same bytes; with tolerance > 0, no further apart than tolerance * the largest absolute
 * value of the row, and routing is not compared. */
typedef struct shoal_check_pair {
    const shoal_check_rows *found, *wanted;
    int32_t at, wanted_at;
    bool with_logits;
    double tolerance;
} shoal_check_pair;
void shoal_check_compare(shoal_check_finding *finding, const shoal_check_pair *pair,
                         const shoal_check_place *place, const shoal_spec *spec);

/* For all rows of a rank's step, once they are compared: if the finding is of this step, which
 * experts the rows chose that differ there, and those that do not. */
void shoal_check_collect(shoal_check_finding *finding, const shoal_check_pair *pair,
                         const shoal_check_place *place, const shoal_spec *spec);

/* Experts that alone can explain the finding, ascending, into expert [SHOAL_MAX_EXPERT]; returns
 * how many. Those that all differing rows chose, and no row that is equal, unless none is left. */
int32_t shoal_check_suspects(int32_t *expert, const shoal_check_finding *finding,
                             const shoal_spec *spec);

#endif
