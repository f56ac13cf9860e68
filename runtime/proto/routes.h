/* A routing trace: which experts the router chose for every row of a run, as a file of protobuf
 * messages, each behind its length. Records are small and of bounded size, so neither writing nor
 * reading needs memory for more than one; a run that is cut off leaves a file that is good up to
 * its last whole record. Plain arrays here, protobuf-c behind the door.
 *
 *     write: open -> rows ... -> close          read: open -> next until more is false -> close
 *
 * Layering: proto knows base only. */
#ifndef SHOAL_PROTO_ROUTES_H
#define SHOAL_PROTO_ROUTES_H

#include "runtime/base/log.h"

#include <stddef.h>

#define SHOAL_ROUTES_VERSION     1
#define SHOAL_ROUTES_CHOICES_MAX 65536 /* n_layer * top_k, and choices of a record */
#define SHOAL_ROUTES_EXPERT_MAX  65536
#define SHOAL_ROUTES_MODEL_BYTES 64

/* What the trace is of. */
typedef struct shoal_routes_header {
    char model[SHOAL_ROUTES_MODEL_BYTES]; /* the family's name */
    uint64_t identity;                    /* of the checkpoint */
    int32_t n_layer;                      /* MoE layers, >= 1 */
    int32_t n_expert, top_k;              /* 1 <= top_k <= n_expert */
    int32_t n_group, top_group;           /* 1 <= top_group <= n_group, which divides n_expert */
    int32_t n_rank;                       /* of the run, >= 1 */
    int32_t *layer; /* [n_layer] the number of each among all layers, ascending; of a reader: its */
} shoal_routes_header;

/* The choices of consecutive positions of one sequence in one step. */
typedef struct shoal_routes_rows {
    int64_t step, sequence;
    int32_t owner; /* rank that held the sequence */
    int32_t position0, n_row;
    bool decode; /* the first row is a generated token, the others guesses; else rows of a prompt */
    bool last;   /* they end the prompt of a sequence that generates */
    const uint16_t *expert; /* [n_row, n_layer, top_k] in the order chosen */
} shoal_routes_rows;

typedef struct shoal_routes_writer {
    FILE *file; /* NULL: not open */
    const char *path;
    shoal_log *log;
    shoal_routes_header header;
    int32_t n_row_record; /* rows of a record at most */
    uint32_t *expert;     /* [n_row_record, n_layer, top_k] */
    uint8_t *packed;
    int64_t n_record, n_row;
    int64_t flushed_us;
} shoal_routes_writer;

/* Creates or empties the file and writes the header. path outlives the writer. Errors: IO,
 * NO_MEMORY. */
shoal_status shoal_routes_writer_open(shoal_routes_writer *writer, const char *path,
                                      const shoal_routes_header *header, shoal_log *log);
/* Append; long runs of rows become several records. What was written is with the system at most a
 * second later. Allocates nothing. Errors: IO (the file is closed then; later calls do nothing). */
shoal_status shoal_routes_write(shoal_routes_writer *writer, const shoal_routes_rows *rows);
/* With `ended` the mark that the run came to its end. Accepts zeroed and closed. Errors: IO. */
shoal_status shoal_routes_writer_close(shoal_routes_writer *writer, bool ended);

typedef struct shoal_routes_reader {
    FILE *file;
    const char *path;
    shoal_log *log;
    shoal_routes_header header;
    uint8_t *packed;
    uint16_t *expert;
    size_t expert_max; /* choices that expert has room for */
    int64_t n_record, n_row;
    bool ended; /* at the end: the mark was found; */
    bool torn;  /* or the last record is cut off */
} shoal_routes_reader;

/* Reads the header. path outlives the reader. Errors: NO_INPUT (not there), BAD_DATA (no routing
 * trace, or of another version), IO, NO_MEMORY. */
shoal_status shoal_routes_reader_open(shoal_routes_reader *reader, const char *path,
                                      shoal_log *log);
/* The next rows, valid until the next call; *more is false behind the last. What comes out is
 * consistent with the header: positions >= 0, owners in [0, n_rank), experts below n_expert and
 * different from each other within a row's layer. Errors: BAD_DATA, IO. */
shoal_status shoal_routes_next(shoal_routes_rows *rows, bool *more, shoal_routes_reader *reader);
void shoal_routes_reader_close(shoal_routes_reader *reader); /* accepts zeroed */

#endif
