/* The two files of shoal batch, without a model. The input is read line by line and never waited
 * for longer than asked. The output is appended in whole lines, one write each, and synced in
 * groups of at most a second: a run that ends leaves nothing torn, and a machine that loses its
 * power at most the last second's lines and a torn end, which resuming cuts off. An id is answered
 * at most once, in this run and over all runs that resume it. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_BATCH_IO_H
#define SHOAL_LAUNCHER_BATCH_IO_H

#include "launcher/answer.h"
#include "runtime/base/json.h"
#include "runtime/base/pulse.h"
#include "runtime/text/chat.h"

/* A set of ids, each with what is known of it. Keys are JSON texts: "7" and 7 are two ids. */
typedef enum shoal_id_state {
    SHOAL_ID_ANSWERED = 1, /* stands in the output since an earlier run */
    SHOAL_ID_SEEN = 2,     /* came in the input of this run */
} shoal_id_state;

typedef struct shoal_id_set {
    struct shoal_id_entry *entry; /* [n_max], open addressing, n_max a power of 2 */
    size_t n, n_max;
} shoal_id_set;

/* State of `key`, 0 if it is not in the set. */
int32_t shoal_id_set_get(const shoal_id_set *set, const char *key);
/* Add bits to the state of `key`. Errors: NO_MEMORY. */
shoal_status shoal_id_set_add(shoal_id_set *set, const char *key, int32_t state, shoal_log *log);
void shoal_id_set_close(shoal_id_set *set);

/* What a line may leave open. */
typedef struct shoal_batch_defaults {
    int32_t max_tokens; /* 0: the engine's room decides */
    shoal_sampling sampling;
    bool ignore_eos;
    shoal_text_list stop;
} shoal_batch_defaults;

/* One line of the input. */
typedef struct shoal_batch_line {
    int64_t number;
    shoal_json *id; /* owned; string or integer; "line N" where the line has none */
    char *key;      /* owned; the id as JSON text */
    /* One of the three; the others are NULL. */
    char *prompt; /* owned */
    size_t n_prompt_bytes;
    int32_t *prompt_ids; /* owned */
    size_t n_prompt_ids;
    shoal_chat_message *messages; /* [n_message] owned; texts in doc; roles are not checked */
    size_t n_message;
    int32_t max_tokens;
    shoal_sampling sampling; /* seed: the line's own, else a hash of (default seed, id) */
    bool ignore_eos;
    shoal_text_list stop;    /* the line's own, in doc, else the default */
    const char *unknown_key; /* a key that is not known, into doc; NULL if there is none */
    shoal_json *doc;         /* owned */
} shoal_batch_line;

/* Parse one line. Also after a failure line->id and line->key are set (for the answer {id, error})
 * and log->error has the text. Errors: BAD_DATA; NO_MEMORY. shoal_batch_line_close either way. */
shoal_status shoal_batch_line_parse(shoal_batch_line *line, const char *text, size_t n_bytes,
                                    int64_t number, const shoal_batch_defaults *defaults,
                                    shoal_log *log);
void shoal_batch_line_close(shoal_batch_line *line);

/* Seed of a line without one: a hash of (seed, the id's text). */
uint64_t shoal_batch_seed(uint64_t seed, const shoal_json *id);

/* The input, an ordinary file or a pipe of any slowness. */
typedef struct shoal_batch_input {
    const char *path; /* borrowed */
    shoal_log *log;
    int fd;
    char *data; /* [n_max], owned; n_data are read, n_taken of them given out as lines */
    size_t n_data, n_taken, n_max;
    size_t n_searched; /* bytes behind n_taken that have no newline */
    bool at_end;
} shoal_batch_input;

typedef enum shoal_line_state {
    SHOAL_LINE_READY,
    SHOAL_LINE_NOT_YET, /* the writer of the pipe has not written it yet */
    SHOAL_LINE_END,
} shoal_line_state;

/* Does not wait for the writer of a pipe. Errors: NO_INPUT. */
shoal_status shoal_batch_input_open(shoal_batch_input *input, const char *path, shoal_log *log);
void shoal_batch_input_close(shoal_batch_input *input); /* accepts one that failed to open */

/* The next line, *line [*n_bytes] without its newline, valid until the next call; set only with
 * READY. Waits up to wait_ms for a pipe; a signal may end the wait earlier. Errors: IO, NO_MEMORY
 * (a line too long for it). */
shoal_status shoal_batch_input_next(shoal_batch_input *input, shoal_line_state *state,
                                    const char **line, size_t *n_bytes, int32_t wait_ms);

typedef struct shoal_batch_output {
    const char *path; /* borrowed */
    shoal_log *log;
    int fd;
    bool regular;        /* an ordinary file: can be locked, cut and synced */
    int64_t n_bytes;     /* of whole lines */
    int64_t n_skipped;   /* lines of earlier runs */
    int64_t n_error;     /* of them with an error */
    int64_t n_again;     /* of them with an id that came before */
    int64_t unsynced_us; /* when the oldest line that is not synced was written, 0: all are */
    shoal_pulse pulse;   /* beats while a pipe is full */
} shoal_batch_output;

/* Open for appending and lock; a new file's entry in its folder is synced. Without resume the file
 * must be new or empty. With resume a torn end is cut off (a last line without a newline; a line
 * that a power cut left full of zeros, and all behind it), and the ids of all others go into
 * `answered`. Errors: USAGE (not empty), UNAVAILABLE (another batch writes it), BAD_DATA (a line is
 * no answer), IO. */
shoal_status shoal_batch_output_open(shoal_batch_output *output, shoal_id_set *answered,
                                     const char *path, bool resume, shoal_log *log);

/* Append one document as a line with one write, and close it. A line that does not fit on the disk
 * is taken back whole. Errors: IO; what the pulse gives. */
shoal_status shoal_batch_output_put(shoal_batch_output *output, shoal_json *answer);

/* Sync if the oldest line that is not synced is a second old; for between two steps. Errors: IO. */
shoal_status shoal_batch_output_sync_due(shoal_batch_output *output);

/* Sync and close. Accepts one that failed to open. Errors: IO. */
shoal_status shoal_batch_output_close(shoal_batch_output *output);

#endif
