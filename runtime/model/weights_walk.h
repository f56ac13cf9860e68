/* One walk lists every tensor of the model once, with its role, shape and destination; the pass
 * says what happens there. The pieces of the walk: weights.c (model and layers),
 * weights_attention.c, weights_experts.c. Layering: inside model. */
#ifndef SHOAL_MODEL_WEIGHTS_WALK_H
#define SHOAL_MODEL_WEIGHTS_WALK_H

#include "runtime/model/weights.h"

typedef enum shoal_pass { SHOAL_PASS_CHECK, SHOAL_PASS_CARVE, SHOAL_PASS_LOAD } shoal_pass;

/* The unit of the cache that the current tensors belong to (weights_kept.h). */
typedef struct shoal_walker_unit {
    int32_t layer, expert;
    const shoal_pack_unit *kept; /* by a former start; NULL: it is not */
    bool is_packed;              /* in this start, to be kept */
    int32_t part0;               /* its first part */
    /* Units packed but not handed over yet, all of one file, and their parts in the same order. */
    shoal_pack_unit *packed; /* [n_packed_max] */
    shoal_pack_part *part;   /* [n_part_max] */
    int32_t n_packed, n_packed_max, n_part, n_part_max;
    uint64_t n_bytes;
    /* Memory of the parts until they are kept, where their own is a device's. */
    void **held; /* [n_held_max] malloc'ed, each too */
    int32_t n_held, n_held_max;
} shoal_walker_unit;

typedef struct shoal_walker {
    shoal_pass pass;
    const shoal_weights_source *source;
    const shoal_spec *spec;
    shoal_arenas arenas;
    shoal_weights_totals *totals;
    shoal_walker_unit unit;
    bool in_host; /* what is visited lies in the host's memory also on a rank with a device */
    /* units.h: carve takes memory from the image, and the unit's parts are listed there. */
    bool collects;
    unsigned char *image;   /* NULL while measuring */
    size_t image_bytes;     /* taken so far */
    shoal_role role;        /* of the matrix that is visited */
    uint64_t *memory_class; /* which of totals' packed byte counts the current tensors belong to */
} shoal_walker;

/* A matrix [n_row, n_col]. own: this rank keeps it (others' tensors are checked only; m may then be
 * NULL). Check sets m's header, carve its memory, load its contents. */
shoal_status shoal__visit_matrix(shoal_walker *w, shoal_matrix *m, bool own, shoal_weight_ref ref,
                                 int32_t n_row, int32_t n_col);
shoal_status shoal__visit_vector(shoal_walker *w, float **v, bool own, shoal_weight_ref ref,
                                 int32_t n);

/* The same for the whole tensor with a role. */
shoal_status shoal__visit_matrix_role(shoal_walker *w, shoal_matrix *m, bool own, shoal_role role,
                                      int32_t layer, int32_t n_row, int32_t n_col);
shoal_status shoal__visit_vector_role(shoal_walker *w, float **v, bool own, shoal_role role,
                                      int32_t layer, int32_t n);

/* Check: count a matrix of this rank, whose header is set, and point it to what is kept of it, if
 * it is used there. */
void shoal__walk_check(shoal_walker *w, shoal_matrix *m, shoal_weight_ref ref);

/* Check: the format that a matrix of w->role packs to, from its tensor or from what config.json
 * announces. */
shoal_status shoal__walk_format(shoal_format *format, const shoal_walker *w, shoal_weight_ref ref,
                                int32_t n_row, int32_t n_col);

/* For tensors that are not kept as stored. */
void shoal__walk_carve(shoal_walker *w, shoal_matrix *m);
/* Carve: memory that is 64-byte aligned; NULL while measuring. */
void *shoal__walk_take(shoal_walker *w, size_t n_bytes);
void shoal__walk_count(shoal_walker *w, shoal_weight_ref ref, int32_t n_row);
/* Counts, then reports progress; the status ends the load. */
shoal_status shoal__walk_loaded(shoal_walker *w, shoal_weight_ref ref, int32_t n_row);

shoal_status shoal__walk_attention(shoal_walker *w, shoal_attention_weights *a, bool own,
                                   int32_t layer);
/* Checks the experts of all ranks, reads this rank's; the shard carves its own memory
 * (experts/shard.c). A unit each. */
shoal_status shoal__walk_experts(shoal_walker *w, shoal_weights *weights, int32_t layer,
                                 int32_t moe_layer);

/* The units by themselves: what belongs to no layer, all of a layer but its experts, an expert
 * (own: x gets it; format: of its layer, set at expert 0). */
shoal_status shoal__walk_model(shoal_walker *w, shoal_weights *weights);
shoal_status shoal__walk_layer(shoal_walker *w, shoal_weights *weights, int32_t layer);
shoal_status shoal__walk_expert(shoal_walker *w, shoal_expert *x, shoal_expert_format *format,
                                bool own, int32_t layer, int32_t expert);

#endif
