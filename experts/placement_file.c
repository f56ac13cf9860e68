/* A placement as people write it: `ranks: [{experts: 1.0, sequences: 0.0}, ...]`. */
#include "experts/placement_rules.h"
#include "runtime/base/yaml.h"

#include <errno.h>
#include <stdlib.h>

/* Numbers are read as text, because libcyaml takes "1.0x" and "1,5" for the number they begin
 * with. */
typedef struct file_rank {
    char *experts; /* NULL: left out */
    char *sequences;
} file_rank;

typedef struct file_placement {
    file_rank *ranks;
    unsigned ranks_count;
} file_placement;

static const cyaml_schema_field_t rank_fields[] = {
    CYAML_FIELD_STRING_PTR("experts", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, file_rank, experts,
                           0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("sequences", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, file_rank,
                           sequences, 0, CYAML_UNLIMITED),
    CYAML_FIELD_END};

static const cyaml_schema_value_t rank_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, file_rank, rank_fields)};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_SEQUENCE("ranks", CYAML_FLAG_POINTER, file_placement, ranks, &rank_schema, 0,
                         CYAML_UNLIMITED),
    CYAML_FIELD_END};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, file_placement, file_fields)};

static shoal_status read_weight(double *weight, const char *text, const char *path, int32_t rank,
                                const char *kind, shoal_log *log)
{
    *weight = 1.0;
    if (text == NULL)
        return SHOAL_OK;
    char *end;
    errno = 0;
    *weight = strtod(text, &end);
    if (end == text || *end != '\0' || errno == ERANGE)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: the %s weight of rank %d is \"%.40s\", wanted a number >= 0", path,
                          kind, (int)rank, text);
    return SHOAL_OK;
}

/* weight: [2, n_rank], experts then sequences. */
static shoal_status file_weights(double *weight, const file_placement *file, const char *path,
                                 int32_t n_rank, shoal_log *log)
{
    if (file->ranks_count != (unsigned)n_rank)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: `ranks` has %u entries, but the job has %d ranks: one entry for "
                          "each rank, in rank order, is wanted",
                          path, file->ranks_count, (int)n_rank);
    for (int32_t r = 0; r < n_rank; r++) {
        const file_rank *rank = &file->ranks[r];
        SHOAL_TRY(read_weight(&weight[r], rank->experts, path, r, "experts", log));
        SHOAL_TRY(read_weight(&weight[n_rank + r], rank->sequences, path, r, "sequences", log));
    }
    SHOAL_TRY(shoal__placement_check_weights(weight, n_rank, "experts", path, SHOAL_BAD_DATA, log));
    return shoal__placement_check_weights(weight + n_rank, n_rank, "sequences", path,
                                          SHOAL_BAD_DATA, log);
}

shoal_status shoal_placement_read_file(shoal_placement *placement, const char *path,
                                       int32_t n_layer, int32_t n_expert, int32_t n_group,
                                       int32_t n_rank, shoal_log *log)
{
    if (n_rank < 1 || n_rank > SHOAL_MAX_RANK)
        return shoal_fail(log, SHOAL_USAGE, "placement over %d ranks: wanted 1 to %d", (int)n_rank,
                          SHOAL_MAX_RANK);
    void *file;
    SHOAL_TRY(shoal_yaml_read_file(&file, path, &file_schema, log));
    double weight[2 * SHOAL_MAX_RANK];
    shoal_status status = file_weights(weight, file, path, n_rank, log);
    shoal_yaml_close(file, &file_schema);
    SHOAL_TRY(status);
    return shoal_placement_open(placement, n_layer, n_expert, n_group, n_rank, weight,
                                weight + n_rank, log);
}
