/* The command line as data: one table of options (options.c) serves parsing, ranges and --help, so
 * that they cannot disagree. A command is a bit; an option lists the commands that know it; an
 * option of another command is as unknown as any other. Texts in shoal_options are borrowed from
 * argv. Layering: launcher; every other folder is below it. */
#ifndef SHOAL_LAUNCHER_OPTIONS_H
#define SHOAL_LAUNCHER_OPTIONS_H

#include "comm/comm.h"
#include "launcher/answer.h"
#include "launcher/device_choice.h"
#include "runtime/engine/engine.h"
#include "runtime/kernels/device.h"

#include <stddef.h>
#include <stdint.h>

typedef enum shoal_command_bit {
    SHOAL_COMMAND_GENERATE = 1 << 0,
    SHOAL_COMMAND_BATCH = 1 << 1,
    SHOAL_COMMAND_LOGITS = 1 << 2,
    SHOAL_COMMAND_PERPLEXITY = 1 << 3,
    SHOAL_COMMAND_TOKENIZE = 1 << 4,
    SHOAL_COMMAND_INSPECT = 1 << 5,
    SHOAL_COMMAND_BENCH = 1 << 6,
    SHOAL_COMMAND_CHECK = 1 << 7,
    SHOAL_COMMAND_PROBE = 1 << 8,
    SHOAL_COMMAND_PLAN = 1 << 9,
    SHOAL_COMMAND_LAUNCH = 1 << 10,
    SHOAL_COMMAND_STAGE = 1 << 11,
    SHOAL_COMMAND_ROUTES = 1 << 12,
} shoal_command_bit;

#define SHOAL_COMMANDS_THAT_RUN                                                                    \
    (SHOAL_COMMAND_GENERATE | SHOAL_COMMAND_BATCH | SHOAL_COMMAND_LOGITS |                         \
     SHOAL_COMMAND_PERPLEXITY | SHOAL_COMMAND_BENCH | SHOAL_COMMAND_CHECK)
/* Those that are a job of ranks. */
#define SHOAL_COMMANDS_OF_RANKS                                                                    \
    (SHOAL_COMMANDS_THAT_RUN | SHOAL_COMMAND_PROBE | SHOAL_COMMAND_STAGE)

/* Values of the options with a choice, in the order of their texts in the table. */
typedef enum shoal_math { SHOAL_MATH_F32, SHOAL_MATH_FAST } shoal_math;
typedef enum shoal_kv_choice {
    SHOAL_KV_CHOICE_AUTO,
    SHOAL_KV_CHOICE_F32,
    SHOAL_KV_CHOICE_BF16
} shoal_kv_choice;
typedef enum shoal_overlap_choice { SHOAL_OVERLAP_AUTO, SHOAL_OVERLAP_OFF } shoal_overlap_choice;
typedef enum shoal_transport_choice {
    SHOAL_TRANSPORT_AUTO,
    SHOAL_TRANSPORT_SELF,
    SHOAL_TRANSPORT_MPI,
    SHOAL_TRANSPORT_NCCL
} shoal_transport_choice;

typedef enum shoal_draft_choice {
    SHOAL_DRAFT_CHOICE_NONE = -1,
    SHOAL_DRAFT_CHOICE_MTP,
    SHOAL_DRAFT_CHOICE_NGRAM
} shoal_draft_choice;

typedef enum shoal_stage_source {
    SHOAL_SOURCE_AUTO,
    SHOAL_SOURCE_SEND,
    SHOAL_SOURCE_SHARED
} shoal_stage_source;

typedef struct shoal_options {
    int32_t command; /* one shoal_command_bit */
    const char *command_name;
    const char *model;
    bool help, quiet, verbose, json, chat;

    const char *prompt, *prompt_file, *prompt_ids; /* NULL: not given */
    shoal_text_list stop;
    int32_t max_tokens; /* 0: not given */
    int32_t top_k;
    double temperature, top_p;
    uint64_t seed;
    bool ignore_eos;
    int32_t draft;        /* shoal_draft_choice */
    int32_t draft_tokens; /* 0: not given */

    const char *input, *output, *file, *ids;
    const char *ranks;                     /* inspect, plan: "1,2,4" or "1..8" */
    const char *prompt_tokens, *sequences; /* bench: lists of counts */
    bool resume, special, decode;
    bool verify;       /* with cache */
    bool print, slurm; /* launch */

    const char *cluster;  /* a file; NULL: not given */
    char *const *program; /* what is behind `--`, ends with NULL; NULL: not given */
    int32_t n_rank;       /* launch; 0: all that the cluster has */
    int32_t restarts;
    int32_t gen_tokens, repeat;

    int32_t math;      /* shoal_math */
    int32_t weights;   /* shoal_weights_choice */
    int32_t kv;        /* shoal_kv_choice */
    int32_t combine;   /* shoal_combine_kind */
    int32_t overlap;   /* shoal_overlap_choice */
    int32_t n_context; /* 0: not given */
    int32_t n_sequence;
    int32_t prefill_chunk;
    int32_t n_thread;
    int32_t source;                              /* shoal_stage_source */
    int32_t n_simulated;                         /* plan: MoE layers; 0: not asked */
    int32_t transport;                           /* shoal_transport_choice */
    const char *device;                          /* a valid text of device_choice.h */
    const shoal_device_backend *const *backends; /* of the build, ends with NULL; or NULL */
    int32_t shared_cores;                        /* plan; 0: not given */
    const char *nccl_library;                    /* a path; NULL: as the system finds it */
    const char *cache;                           /* NULL: none */
    const char *to;                              /* stage */
    const char *probe;                           /* of shoal probe; NULL: not given */
    const char *placement;                       /* NULL, "uniform", "weighted", or a file */
    const char *kernels;
    double deadline_s;
    const char *trace, *routes; /* files; NULL: none */
    shoal_fault fault;
} shoal_options;

typedef enum shoal_option_kind {
    SHOAL_OPTION_FLAG,   /* bool */
    SHOAL_OPTION_TEXT,   /* const char * */
    SHOAL_OPTION_INT,    /* int32_t in [min, max] */
    SHOAL_OPTION_UINT64, /* uint64_t */
    SHOAL_OPTION_NUMBER, /* double in [min, max] */
    SHOAL_OPTION_CHOICE, /* int32_t, index into `value` ("f32|fast") */
    SHOAL_OPTION_FAULT,  /* shoal_fault */
    SHOAL_OPTION_DEVICE, /* const char *, valid */
    SHOAL_OPTION_LIST,   /* shoal_text_list: may be given several times, never empty */
} shoal_option_kind;

typedef struct shoal_option {
    const char *name; /* without the dashes */
    const char *value;
    const char *help;
    size_t offset; /* in shoal_options */
    double min, max;
    int32_t commands; /* bits */
    shoal_option_kind kind;
    bool required;
} shoal_option;

/* The table; ends with a NULL name. */
const shoal_option *shoal_option_table(void);

/* The one argument of a command that is no option. */
typedef struct shoal_argument {
    int32_t commands;    /* bits */
    const char *name;    /* "MODEL"; NULL: the command takes none */
    const char *what;    /* "a checkpoint folder", for messages */
    size_t offset;       /* of its const char * in shoal_options */
    const char *program; /* "COMMAND MODEL ...": what is behind `--`; NULL: more arguments */
} shoal_argument;

const shoal_argument *shoal_option_argument(int32_t command);

/* Fill with the defaults that --help states. */
void shoal_options_init(shoal_options *options, int32_t command);

/* Parse the arguments behind the command's name (`--name value` or `--name=value`, `--` ends the
 * options, the one other argument is what shoal_option_argument says). With --help in it nothing
 * else is demanded. Errors: USAGE: unknown option (with the nearest one there is), missing,
 * malformed or out-of-range value, missing or superfluous argument, missing required option. */
shoal_status shoal_options_parse(shoal_options *options, const char *command_name, int argc,
                                 char *const *argv, shoal_log *log);

/* What --draft and --draft-tokens come to. */
shoal_drafts shoal_options_drafts(const shoal_options *options);

/* The lines of all options of a command. */
void shoal_options_print(FILE *out, int32_t command);

/* "1,2,3" to ids [*n], malloc'ed. `name` is the option's, for messages. Errors: USAGE (not a list
 * of numbers from 0 to 2^31-1). */
shoal_status shoal_options_ids(int32_t **ids, int32_t *n, const char *text, const char *name,
                               shoal_log *log);

/* The same for counts from 1 to max. */
shoal_status shoal_options_counts(int32_t **counts, int32_t *n, const char *text, const char *name,
                                  int32_t max, shoal_log *log);

/* "1,2,4" or "2..5" to rank counts [*n], malloc'ed. Errors: USAGE (anything else, or a count
 * outside 1 .. SHOAL_MAX_RANK), NO_MEMORY. */
shoal_status shoal_options_ranks(int32_t **ranks, int32_t *n, const char *text, shoal_log *log);

/* Edit distance of two short texts, for hints: "did you mean". */
int32_t shoal_text_distance(const char *a, const char *b);

/* Whole text as a number; false if it is anything else. */
bool shoal_parse_int64(int64_t *value, const char *text);
bool shoal_parse_uint64(uint64_t *value, const char *text);
bool shoal_parse_number(double *value, const char *text);

#endif
